package importer

import (
	"fmt"
	"strings"
	"time"
)

const combinedLayout = "02/Jan/2006:15:04:05 -0700"

func layoutHasZone(layout string) bool {
	switch layout {
	case "rfc3339", "combined", "unix", "unix_ms", "unix_us", "unix_ns":
		return true
	}
	for _, z := range []string{"Z07", "-07", "MST"} {
		if strings.Contains(layout, z) {
			return true
		}
	}
	return false
}

// instant reads the time of a record. Digits beyond nanoseconds are cut, never rounded.
func (m *Mapping) instant(text string) (time.Time, error) {
	switch m.Time.Layout {
	case "rfc3339":
		return parseTime(time.RFC3339, text)
	case "combined":
		return parseTime(combinedLayout, text)
	case "unix":
		return unixTime(text, 0)
	case "unix_ms":
		return unixTime(text, 3)
	case "unix_us":
		return unixTime(text, 6)
	case "unix_ns":
		return unixTime(text, 9)
	}
	if m.zone == nil {
		return parseTime(m.Time.Layout, text)
	}
	civil, err := parseTime(m.Time.Layout, text)
	if err != nil {
		return civil, err
	}
	return m.civil(civil)
}

func parseTime(layout, text string) (time.Time, error) {
	t, err := time.Parse(layout, text)
	if err != nil {
		return t, fmt.Errorf("%q does not fit layout %q", text, layout)
	}
	return t.UTC(), nil
}

// civil is the instant whose local time in the mapping's zone reads as want does in UTC. A civil time may
// not exist, or exist twice, where clocks change; time.ParseInLocation would pick silently. The offsets
// a day before and after are the only ones it can have: clocks change at most once in between.
func (m *Mapping) civil(want time.Time) (time.Time, error) {
	const civilLayout = "2006-01-02T15:04:05.999999999"
	near := time.Date(want.Year(), want.Month(), want.Day(), want.Hour(), want.Minute(), want.Second(), want.Nanosecond(), m.zone)
	var found []time.Time
	for _, probe := range []time.Time{near.Add(-24 * time.Hour), near.Add(24 * time.Hour)} {
		_, offset := probe.Zone()
		c := want.Add(-time.Duration(offset) * time.Second)
		if c.In(m.zone).Format(civilLayout) == want.Format(civilLayout) && (len(found) == 0 || !found[0].Equal(c)) {
			found = append(found, c)
		}
	}
	switch {
	case len(found) == 1:
		return found[0].UTC(), nil
	case len(found) == 0:
		return want, fmt.Errorf("%s does not exist in %s: a clock change skips it", want.Format(civilLayout), m.Time.Zone)
	case m.Time.Ambiguous == "":
		return want, fmt.Errorf("%s happens twice in %s: set time.ambiguous to earlier or later", want.Format(civilLayout), m.Time.Zone)
	}
	early, late := found[0], found[1]
	if late.Before(early) {
		early, late = late, early
	}
	if m.Time.Ambiguous == "later" {
		return late.UTC(), nil
	}
	return early.UTC(), nil
}

// unixTime reads a decimal count of seconds × 10^-digits since 1970 without a float.
func unixTime(text string, digits int) (time.Time, error) {
	whole, frac, _ := strings.Cut(text, ".")
	bad := fmt.Errorf("%q is not a Unix time", text)
	if whole == "" || len(whole) > 19 {
		return time.Time{}, bad
	}
	var ns string
	if cut := len(whole) - digits; cut > 0 {
		ns = whole[cut:] + frac
		whole = whole[:cut]
	} else {
		ns = strings.Repeat("0", -cut) + whole + frac
		whole = "0"
	}
	ns = (ns + "000000000")[:9]
	var sec, nano int64
	for _, c := range []byte(whole) {
		if c < '0' || c > '9' {
			return time.Time{}, bad
		}
		sec = sec*10 + int64(c-'0')
		if sec > 1<<40 {
			return time.Time{}, bad
		}
	}
	for _, c := range []byte(ns) {
		if c < '0' || c > '9' {
			return time.Time{}, bad
		}
		nano = nano*10 + int64(c-'0')
	}
	return time.Unix(sec, nano).UTC(), nil
}
