package schedules

import (
	"errors"
	"strings"
	"time"
)

// Recurrence is how often a schedule runs.
type Recurrence string

// The recurrences.
const (
	Hourly  Recurrence = "Hourly" // of UTC: civil hours are not all as long
	Daily   Recurrence = "Daily"
	Weekly  Recurrence = "Weekly"
	Monthly Recurrence = "Monthly"
)

// Rule says when a schedule runs, in the time that a place shows on its clocks. A run is named after what it
// is the run of, which is a civil day (or an hour of UTC), never after an instant: whatever clocks do on that
// day, there is one run of it.
//
//   - A time that the clocks skip is the first instant after the skip.
//   - A time that they show twice is the first of the two.
//   - A day that a place skipped altogether has no run; a month that has no such day has its last one.
//   - A run of a day is never due before that day begins in UTC: reports count UTC days, and what it covers ends
//     there. East of Greenwich an early hour is therefore put off until then.
type Rule struct {
	Every    Recurrence
	Weekday  time.Weekday // of Weekly
	MonthDay int          // of Monthly: 1 to 31, where 31 is always the last day
	Hour     int          // 0 to 23
	Minute   int          // 0 to 59
	Zone     *time.Location
}

// Run is one run of a rule.
type Run struct {
	Name string    // 2025-03-10, or 2025-03-10T05Z: unique among the runs of a rule
	Due  time.Time // the instant, UTC
	Day  time.Time // the civil day, or hour, as if it were of UTC
}

// daysLooked is how far a search for the next or last run goes: a month that has skipped days, and some more.
const daysLooked = 70

// Last is the run that was due last, at or before now; false if there is none in sight.
func (r Rule) Last(now time.Time) (Run, bool) {
	if r.Every == Hourly {
		run := r.hour(now.UTC().Truncate(time.Hour))
		if run.Due.After(now) {
			run = r.hour(run.Day.Add(-time.Hour))
		}
		return run, true
	}
	// A place's day can begin before UTC's or end after it, and clocks can skip a day.
	day := dayOf(now.In(r.Zone)).AddDate(0, 0, 1)
	for range daysLooked {
		if run, ok := r.on(day); ok && !run.Due.After(now) {
			return run, true
		}
		day = day.AddDate(0, 0, -1)
	}
	return Run{}, false
}

// Next is the run that is due next, after now; false if there is none in sight.
func (r Rule) Next(now time.Time) (Run, bool) {
	if r.Every == Hourly {
		run := r.hour(now.UTC().Truncate(time.Hour))
		if !run.Due.After(now) {
			run = r.hour(run.Day.Add(time.Hour))
		}
		return run, true
	}
	day := dayOf(now.In(r.Zone)).AddDate(0, 0, -1)
	for range daysLooked {
		if run, ok := r.on(day); ok && run.Due.After(now) {
			return run, true
		}
		day = day.AddDate(0, 0, 1)
	}
	return Run{}, false
}

// dayOf is the civil day of a time in its own zone, as if it were of UTC.
func dayOf(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

func (r Rule) hour(hour time.Time) Run {
	return Run{Name: hour.Format("2006-01-02T15Z"), Due: hour.Add(time.Duration(r.Minute) * time.Minute), Day: hour}
}

// on is the run of a civil day; false if the day has none.
func (r Rule) on(day time.Time) (Run, bool) {
	switch r.Every {
	case Weekly:
		if day.Weekday() != r.Weekday {
			return Run{}, false
		}
	case Monthly:
		last := time.Date(day.Year(), day.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
		if day.Day() != min(r.MonthDay, last) {
			return Run{}, false
		}
	}
	due, ok := instant(day, r.Hour, r.Minute, r.Zone)
	if due.Before(day) {
		due = day
	}
	return Run{Name: day.Format(time.DateOnly), Due: due, Day: day}, ok
}

// instant is the first at which the clocks of a zone show that time of a civil day, or, where they skip it, the
// first after the skip; false where they skip the rest of the day.
func instant(day time.Time, hour, minute int, zone *time.Location) (time.Time, bool) {
	wall := time.Date(day.Year(), day.Month(), day.Day(), hour, minute, 0, 0, time.UTC)
	// Between two changes of its clocks a zone has one offset: such stretches are tried from early to late.
	for at := wall.Add(-offsetMost); at.Before(wall.Add(offsetMost)); {
		local := at.In(zone)
		_, offset := local.Zone()
		from, until := local.ZoneBounds()
		due := wall.Add(-time.Duration(offset) * time.Second)
		if !from.IsZero() && due.Before(from) {
			due = from // the clocks were put forward past that time, or the stretch before has had it
		}
		if until.IsZero() || due.Before(until) {
			return due.UTC(), dayOf(due.In(zone)).Equal(day)
		}
		at = until
	}
	return time.Time{}, false
}

// offsetMost is more than any place's clocks differ from UTC, or are put forward by.
const offsetMost = 27 * time.Hour

// ParseWeekday reads Monday, Tuesday, ….
func ParseWeekday(name string) (time.Weekday, error) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.EqualFold(day.String(), name) {
			return day, nil
		}
	}
	return 0, errors.New("want Monday, Tuesday, Wednesday, Thursday, Friday, Saturday or Sunday")
}
