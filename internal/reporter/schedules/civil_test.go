package schedules_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/reporter/schedules"
)

// zones have most kinds of clock change there are: at midnight, by half an hour, by a whole day, twice a year in
// the wrong months, once and never again.
var zones = []string{ //nolint:gochecknoglobals // a table of constants
	"UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo", "Asia/Tehran", "Africa/Casablanca",
	"Asia/Kathmandu", "Pacific/Chatham", "America/Havana", "Asia/Gaza",
}

func zone(t interface{ Fatal(...any) }, name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// walk is the slow reference: it looks at the clocks of a zone every half hour, from before a day to after it, and
// takes the first of that day that shows the time or a later one. All times asked for are at half hours.
func walk(day time.Time, hour, minute int, z *time.Location) (time.Time, bool) {
	want := hour*60 + minute
	for at := day.Add(-15*time.Hour + offQuarter(day, z)); at.Before(day.Add(40 * time.Hour)); at = at.Add(30 * time.Minute) {
		local := at.In(z)
		y, m, d := local.Date()
		if y == day.Year() && m == day.Month() && d == day.Day() && local.Hour()*60+local.Minute() >= want {
			if at.Before(day) {
				return day, true // not before the day begins in UTC
			}
			return at, true
		}
	}
	return time.Time{}, false
}

// offQuarter is where the half hours of a zone's clocks are: some zones are a quarter off.
func offQuarter(day time.Time, z *time.Location) time.Duration {
	_, offset := day.In(z).Zone()
	return (30*time.Minute - time.Duration(offset)*time.Second%(30*time.Minute)) % (30 * time.Minute)
}

// has reports whether a day has a run, said anew.
func has(r schedules.Rule, day time.Time) bool {
	switch r.Every {
	case schedules.Weekly:
		return day.Weekday() == r.Weekday
	case schedules.Monthly:
		if day.Day() == r.MonthDay {
			return true
		}
		tomorrow := day.AddDate(0, 0, 1)
		return tomorrow.Month() != day.Month() && r.MonthDay > day.Day()
	}
	return true
}

// reference are all runs of days in [from, to), by walking through them.
func reference(r schedules.Rule, from, to time.Time) []string {
	var runs []string
	for day := from; day.Before(to); day = day.AddDate(0, 0, 1) {
		if r.Every == schedules.Hourly {
			for hour := range 24 {
				at := day.Add(time.Duration(hour) * time.Hour)
				runs = append(runs, fmt.Sprintf("%sT%02dZ %s", day.Format("2006-01-02"), hour, at.Add(time.Duration(r.Minute)*time.Minute).Format(time.RFC3339)))
			}
			continue
		}
		if !has(r, day) {
			continue
		}
		if due, ok := walk(day, r.Hour, r.Minute, r.Zone); ok {
			runs = append(runs, day.Format("2006-01-02")+" "+due.Format(time.RFC3339))
		}
	}
	return runs
}

// TestRunsOfThreeYears compares every run of three years, forwards and backwards, with the reference.
func TestRunsOfThreeYears(t *testing.T) {
	runs := 0
	for i, name := range zones {
		z := zone(t, name)
		from := time.Date([]int{2010, 2024}[i%2], 1, 1, 0, 0, 0, 0, time.UTC) // Apia skipped 2011-12-30
		to := from.AddDate(3, 0, 0)
		for n, r := range []schedules.Rule{
			{Every: schedules.Hourly, Minute: 30}, {Every: schedules.Daily, Hour: 2, Minute: 30}, {Every: schedules.Daily}, {Every: schedules.Daily, Hour: 23, Minute: 30},
			{Every: schedules.Weekly, Weekday: time.Sunday, Hour: 1, Minute: 30}, {Every: schedules.Monthly, MonthDay: 1, Hour: 1}, {Every: schedules.Monthly, MonthDay: 31, Hour: 0, Minute: 30},
		} {
			if n != 1 && n != []int{0, 2, 3, 4, 5, 6}[i%6] {
				continue // each rule in some zones, and the one that clock changes hurt most in all
			}
			r.Zone = z
			want := reference(r, from, to)
			var got []string
			for run, ok := r.Next(from.Add(-36 * time.Hour)); ok && run.Day.Before(to); run, ok = r.Next(run.Due) {
				if !run.Day.Before(from) {
					got = append(got, run.Name+" "+run.Due.Format(time.RFC3339))
				}
			}
			compare(t, name, r, got, want)
			var back []string
			for run, ok := r.Last(to.Add(72 * time.Hour)); ok && !run.Day.Before(from); run, ok = r.Last(run.Due.Add(-time.Nanosecond)) {
				if run.Day.Before(to) {
					back = append([]string{run.Name + " " + run.Due.Format(time.RFC3339)}, back...)
				}
				if len(back) > len(want)+10 {
					break
				}
			}
			compare(t, name+" backwards", r, back, want)
			runs += len(want)
		}
	}
	t.Logf("%d runs", runs)
}

func compare(t *testing.T, what string, r schedules.Rule, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%s %+v: run %d: %v, want %v", what, r, i, got[min(i, len(got)):min(i+3, len(got))], want[min(i, len(want)):min(i+3, len(want))])
		}
	}
}

// TestClockChanges are the cases in which others' schedulers miss runs or double them.
func TestClockChanges(t *testing.T) {
	daily := func(hour, minute int) schedules.Rule {
		return schedules.Rule{Every: schedules.Daily, Hour: hour, Minute: minute}
	}
	tests := map[string]struct {
		zone string
		rule schedules.Rule
		day  string
		due  string // "": no run that day
	}{
		"New York skips 02:30":         {"America/New_York", daily(2, 30), "2025-03-09", "2025-03-09T07:00:00Z"},
		"New York shows 01:30 twice":   {"America/New_York", daily(1, 30), "2025-11-02", "2025-11-02T05:30:00Z"},
		"New York, the day after":      {"America/New_York", daily(1, 30), "2025-11-03", "2025-11-03T06:30:00Z"},
		"Berlin skips 02:30":           {"Europe/Berlin", daily(2, 30), "2025-03-30", "2025-03-30T01:00:00Z"},
		"Berlin shows 02:30 twice":     {"Europe/Berlin", daily(2, 30), "2025-10-26", "2025-10-26T00:30:00Z"},
		"Havana skips midnight":        {"America/Havana", daily(0, 0), "2025-03-09", "2025-03-09T05:00:00Z"},
		"Sao Paulo skips midnight":     {"America/Sao_Paulo", daily(0, 0), "2018-11-04", "2018-11-04T03:00:00Z"},
		"Lord Howe moves by half":      {"Australia/Lord_Howe", daily(13, 15), "2025-10-05", "2025-10-05T02:15:00Z"},
		"Apia skips a day":             {"Pacific/Apia", daily(1, 0), "2011-12-30", ""},
		"Apia, the day before":         {"Pacific/Apia", daily(1, 0), "2011-12-29", "2011-12-29T11:00:00Z"},
		"Tokyo waits for UTC's day":    {"Asia/Tokyo", daily(1, 0), "2025-06-10", "2025-06-10T00:00:00Z"},
		"Tokyo in the afternoon":       {"Asia/Tokyo", daily(15, 0), "2025-06-10", "2025-06-10T06:00:00Z"},
		"Kiritimati, furthest ahead":   {"Pacific/Kiritimati", daily(15, 0), "2025-06-10", "2025-06-10T01:00:00Z"},
		"the default, 01:00 UTC":       {"UTC", daily(1, 0), "2025-03-10", "2025-03-10T01:00:00Z"},
		"last day of February":         {"UTC", schedules.Rule{Every: schedules.Monthly, MonthDay: 31, Hour: 1}, "2024-02-29", "2024-02-29T01:00:00Z"},
		"the 30th in February":         {"UTC", schedules.Rule{Every: schedules.Monthly, MonthDay: 30, Hour: 1}, "2025-02-28", "2025-02-28T01:00:00Z"},
		"a leap year's 28th is no end": {"UTC", schedules.Rule{Every: schedules.Monthly, MonthDay: 30, Hour: 1}, "2024-02-28", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.rule.Zone = zone(t, tt.zone)
			day, err := time.Parse(time.DateOnly, tt.day)
			if err != nil {
				t.Fatal(err)
			}
			due := ""
			for run, ok := tt.rule.Next(day.AddDate(0, 0, -3)); ok && !run.Day.After(day); run, ok = tt.rule.Next(run.Due) {
				if run.Name == tt.day {
					due += run.Due.Format(time.RFC3339)
				}
			}
			if due != tt.due {
				t.Errorf("due %q, want %q", due, tt.due)
			}
		})
	}
}

// TestNextAndLastAgree: from any instant, the last run and the next one are neighbours.
func TestNextAndLastAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRule(t)
		now := time.Unix(rapid.Int64Range(1_262_304_000, 1_893_456_000).Draw(t, "now"), 0).UTC()
		last, ok := r.Last(now)
		next, also := r.Next(now)
		if !ok || !also {
			t.Fatalf("no run in sight of %s: %v %v", now, ok, also)
		}
		if last.Due.After(now) || !next.Due.After(now) {
			t.Fatalf("at %s: last %s, next %s", now, last.Due, next.Due)
		}
		if again, _ := r.Next(last.Due); again != next {
			t.Fatalf("the run after %v is %v, not %v", last, again, next)
		}
		if again, _ := r.Last(next.Due); again != next {
			t.Fatalf("the run at %v is %v", next, again)
		}
	})
}

func drawRule(t *rapid.T) schedules.Rule {
	return schedules.Rule{
		Every:    rapid.SampledFrom([]schedules.Recurrence{schedules.Hourly, schedules.Daily, schedules.Weekly, schedules.Monthly}).Draw(t, "every"),
		Weekday:  time.Weekday(rapid.IntRange(0, 6).Draw(t, "weekday")),
		MonthDay: rapid.IntRange(1, 31).Draw(t, "day"), Hour: rapid.IntRange(0, 23).Draw(t, "hour"), Minute: rapid.IntRange(0, 59).Draw(t, "minute"),
		Zone: zone(t, rapid.SampledFrom(zones).Draw(t, "zone")),
	}
}
