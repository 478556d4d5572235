package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/report"
)

// whole prints a whole number.
func whole[T int | int64 | uint64 | int32 | uint32 | uint16](n T) string { return fmt.Sprint(n) }

// tile is a figure that stands out, with how it compares.
type tile struct {
	label, value, unit string
	delta              string // "+12.5 %", "" where there is nothing to compare with
	tone               string // of delta: good, bad or ""
	note               string // what it is compared with
	href               string
	from               string // where the label leads: to what the figure is one of
}

// fact is a line of a list of facts.
type fact struct {
	name, value string
	href        string
	code        bool
}

// tab is one of several views of the same thing.
type tab struct {
	title, href string
	current     bool
}

// crumb is a step of the way to a page.
type crumb struct{ title, href string }

// moment is an instant for people, to the minute, UTC; "" for none.
func moment(i report.Instant) string {
	if i == 0 {
		return ""
	}
	return minute(time.UnixMilli(int64(i)))
}

// exactly is an instant to the millisecond.
func exactly(i report.Instant) string { return i.String() }

// monthTitle is "March 2026" for "2026-03"; what is no month stays as it is.
func monthTitle(month string) string {
	at, err := time.Parse("2006-01", month)
	if err != nil {
		return month
	}
	return at.Format("January 2006")
}

// monthState is a month's state for people: "closed v2".
func monthState(state string, version int) string {
	if version > 0 {
		return state + " v" + strconv.Itoa(version)
	}
	return state
}

func monthTone(state string) string {
	switch state {
	case report.StateClosed:
		return "good"
	case report.StateProvisional:
		return "warn"
	}
	return "accent"
}

// ago is how long something was ago, roughly, for people.
func ago(d time.Duration) string {
	switch {
	case d < 2*time.Second:
		return "just now"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s ago"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min ago"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h ago"
	}
	return strconv.Itoa(int(d.Hours())/24) + " days ago"
}

// bytesText is a size for people.
func bytesText(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i, rest := 0, uint64(0)
	for n >= 1024 && i < len(units)-1 {
		n, rest, i = n/1024, n%1024*10/1024, i+1
	}
	if i == 0 {
		return whole(n) + " B"
	}
	return whole(n) + "." + whole(rest) + " " + units[i]
}

// plural is "1 event", "2 events".
func plural[T int | int64 | uint64](n T, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return grouped(whole(n)) + " " + thing + "s"
}

// sentence makes a text of an error that people can read: a capital first, a stop at the end.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	text = titled(text)
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

func noticeRole(tone string) string {
	if tone == "bad" || tone == "warn" {
		return "alert"
	}
	return "status"
}
