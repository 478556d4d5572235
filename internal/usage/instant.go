package usage

import (
	"errors"
	"time"
)

// Instant is a point in time as sent: nanoseconds since the Unix epoch, UTC. The zero value means
// absent, which is why presence is kept beside the number: 1970-01-01T00:00:00Z is a legal time.
type Instant struct {
	ns    int64
	known bool
}

// The storable range: what ClickHouse's DateTime64 and an int64 of
// nanoseconds both hold with room to spare.
var (
	minInstant = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	maxInstant = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
)

// At is the instant ns nanoseconds after the Unix epoch.
func At(ns int64) Instant { return Instant{ns: ns, known: true} }

// AtTime converts a time.Time; it must lie within the storable range.
func AtTime(t time.Time) Instant { return At(t.UnixNano()) }

// Known reports whether the instant is present.
func (i Instant) Known() bool { return i.known }

// Nanos is nanoseconds since the Unix epoch; 0 when absent.
func (i Instant) Nanos() int64 { return i.ns }

// Millis is milliseconds since the Unix epoch, finer digits cut.
func (i Instant) Millis() int64 {
	if i.ns < 0 {
		return (i.ns - 999_999) / 1_000_000
	}
	return i.ns / 1_000_000
}

// Time is the instant as a time.Time in UTC.
func (i Instant) Time() time.Time { return time.Unix(0, i.ns).UTC() }

// Storable reports whether the instant lies in [1970, 2200).
func (i Instant) Storable() bool { return i.ns >= minInstant && i.ns < maxInstant }

// Before reports whether i is earlier than o.
func (i Instant) Before(o Instant) bool { return i.ns < o.ns }

// Errors of ParseInstant. The sender must mend the time.
var (
	ErrTime      = errors.New("time must be RFC 3339 with seconds and an offset, at most 9 fractional digits, second below 60")
	ErrNaiveTime = errors.New("time has no offset; append Z or +hh:mm")
	ErrTimeRange = errors.New("time must lie between the years 1970 and 2199")
)

// ParseInstant reads an RFC 3339 time with an offset. Times without one are refused, never guessed; so
// are second 60 and digits finer than a nanosecond, which could only be rounded.
func ParseInstant(s string) (Instant, error) {
	if len(s) < 19 || s[4] != '-' || s[7] != '-' || s[10]|0x20 != 't' || s[13] != ':' || s[16] != ':' {
		return Instant{}, ErrTime
	}
	century, ok1 := twoDigits(s[0], s[1], 99)
	years, ok2 := twoDigits(s[2], s[3], 99)
	month, ok3 := twoDigits(s[5], s[6], 12)
	day, ok4 := twoDigits(s[8], s[9], 31)
	hour, ok5 := twoDigits(s[11], s[12], 23)
	minute, ok6 := twoDigits(s[14], s[15], 59)
	second, ok7 := twoDigits(s[17], s[18], 59)
	year := century*100 + years
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6 && ok7) || month == 0 || day == 0 || day > daysIn(year, month) {
		return Instant{}, ErrTime
	}
	nanos, rest, err := parseFraction(s[19:])
	if err != nil {
		return Instant{}, err
	}
	offset, err := parseOffset(rest)
	if err != nil {
		return Instant{}, err
	}
	sec := daysFromCivil(year, month, day)*86_400 + int64(hour*3600+minute*60+second) - int64(offset)
	if sec < minInstant/1e9 || sec >= maxInstant/1e9 {
		return Instant{}, ErrTimeRange
	}
	return At(sec*1e9 + nanos), nil
}

func parseFraction(s string) (nanos int64, rest string, err error) {
	if s == "" || s[0] != '.' {
		return 0, s, nil
	}
	i, scale := 1, int64(100_000_000)
	for ; i < len(s) && s[i]-'0' <= 9; i++ {
		if scale == 0 && s[i] != '0' {
			return 0, "", ErrTime
		}
		nanos += int64(s[i]-'0') * scale
		scale /= 10
	}
	if i == 1 {
		return 0, "", ErrTime
	}
	return nanos, s[i:], nil
}

// parseOffset returns seconds east of UTC.
func parseOffset(s string) (int, error) {
	switch {
	case s == "Z" || s == "z":
		return 0, nil
	case s == "":
		return 0, ErrNaiveTime
	case len(s) != 6 || s[0] != '+' && s[0] != '-' || s[3] != ':':
		return 0, ErrTime
	}
	hour, ok1 := twoDigits(s[1], s[2], 23)
	minute, ok2 := twoDigits(s[4], s[5], 59)
	if !ok1 || !ok2 {
		return 0, ErrTime
	}
	if s[0] == '-' {
		return -(hour*3600 + minute*60), nil
	}
	return hour*3600 + minute*60, nil
}

func twoDigits(a, b byte, limit int) (int, bool) {
	n := int(a-'0')*10 + int(b-'0')
	return n, a-'0' <= 9 && b-'0' <= 9 && n <= limit
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysFromCivil is the number of days since 1970-01-01 in the proleptic Gregorian calendar
// (Howard Hinnant's algorithm; years begin in March so that the leap day comes last).
func daysFromCivil(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400
	if year < 0 {
		era = -1
	}
	yearOfEra := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	dayOfEra := yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear
	return int64(era)*146_097 + int64(dayOfEra) - 719_468
}

// String is the instant as RFC 3339 in UTC with as many fractional digits as it has, "" when absent.
func (i Instant) String() string {
	if !i.known {
		return ""
	}
	return string(i.Append(nil))
}

// Append appends String to dst.
func (i Instant) Append(dst []byte) []byte {
	if !i.known {
		return dst
	}
	return i.Time().AppendFormat(dst, time.RFC3339Nano)
}
