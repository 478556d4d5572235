package usage

import (
	"errors"
	"time"
)

// Month is a UTC calendar month, written YYYY-MM. The zero value is January 1970.
type Month struct{ n int32 } // months since January 1970

// ErrMonth marks text that is no month between 1970-01 and 2199-12.
var ErrMonth = errors.New("month must be YYYY-MM between 1970-01 and 2199-12")

// ParseMonth reads YYYY-MM.
func ParseMonth(s string) (Month, error) {
	if len(s) != 7 || s[4] != '-' {
		return Month{}, ErrMonth
	}
	century, ok1 := twoDigits(s[0], s[1], 21)
	years, ok2 := twoDigits(s[2], s[3], 99)
	month, ok3 := twoDigits(s[5], s[6], 12)
	year := century*100 + years
	if !ok1 || !ok2 || !ok3 || month == 0 || year < 1970 {
		return Month{}, ErrMonth
	}
	return Month{int32((year-1970)*12 + month - 1)}, nil
}

// MonthOf is the month an instant lies in.
func MonthOf(i Instant) Month {
	year, month, _ := i.Time().Date()
	return Month{int32((year-1970)*12 + int(month) - 1)}
}

// String is YYYY-MM.
func (m Month) String() string { return m.Start().Time().Format("2006-01") }

// Start is the month's first instant; an event exactly then belongs to this month.
func (m Month) Start() Instant {
	return AtTime(time.Date(1970, time.January+time.Month(m.n), 1, 0, 0, 0, 0, time.UTC))
}

// End is the first instant of the next month.
func (m Month) End() Instant { return m.Next().Start() }

// Next is the month after m.
func (m Month) Next() Month { return Month{m.n + 1} }

// Prev is the month before m.
func (m Month) Prev() Month { return Month{m.n - 1} }

// Compare is -1, 0 or 1 in calendar order.
func (m Month) Compare(o Month) int {
	switch {
	case m.n < o.n:
		return -1
	case m.n > o.n:
		return 1
	}
	return 0
}

// MarshalText is String, so that a Month reads as YYYY-MM in JSON and configuration.
func (m Month) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText is ParseMonth.
func (m *Month) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMonth(string(b))
	return err
}
