package demo

import "time"

// Close is a month that the group closes.
type Close struct {
	Month string // YYYY-MM
	AsOf  string // RFC 3339: the day after which it was closed
	Gaps  string // why it is closed although data is missing; "": none is
}

// Closes are the months that were closed before the demo's present: all but the last. What is recorded of them
// later makes a second version and an adjustment.
func Closes(began time.Time) []Close {
	s := stage{began: began.UTC().Truncate(24 * time.Hour)}
	var all []Close
	for n := range lateMonth + 1 {
		c := Close{Month: s.month(n).Format("2006-01"), AsOf: instant(s.month(n+1).AddDate(0, 0, 3))}
		if n == gapMonth {
			c.Gaps = "two days of one customer are lost for good; agreed with the customer"
		}
		all = append(all, c)
	}
	return all
}
