package limits_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	clockStep = 2 * time.Hour
	// past and future are how far from its own clock ingest takes an event; slack is what sending takes, on a machine
	// that is stopped for a while.
	past, future = 35 * 24 * time.Hour, 5 * time.Minute
	slack        = 4 * time.Minute

	// patientLease outlives the seconds in which a loaded machine lets nobody run, and is nothing beside clockStep.
	patientLease = 30 * time.Second
)

// TestF17ClockSteps: the wall clock of each part jumps two hours ahead, then two hours back, and home again,
// under load, with two aggregators. Nothing that is counted depends on it, and no lease does: nobody takes a
// partition over because of a clock. Times of the log never go back.
func TestF17ClockSteps(t *testing.T) {
	t.Parallel()
	// Events of three hours ago: ingest must take them whatever its clock says, two hours less included.
	f := fight.Begin(t, "F17", rig.Options{Aggregators: []string{"one", "two"}, LeaseTTL: patientLease, Ago: clockStep + time.Hour})
	for _, a := range f.Rig.Aggregators { // both have said that they live: who owns what is settled
		f.Rig.Until(a.Name+" answers", rig.SettleWait, func(ctx context.Context) bool {
			_, err := a.Metric(ctx, "go_goroutines")
			return err == nil
		})
	}
	f.Counting(logged(f))
	steps, before := 0, handovers(f)
	for range fight.Rounds(1, 10) {
		parts := f.Parts()
		f.Rnd.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		for _, part := range parts {
			for _, step := range []time.Duration{clockStep, -clockStep, 0} {
				if err := part.StepClock(step); err != nil {
					t.Fatal(err)
				}
				steps++
				f.Counting(logged(f))
			}
		}
	}
	if now := handovers(f); now != before {
		t.Errorf("the partition went from one aggregator to the other %d times while nothing but clocks changed", now-before)
	}
	back, err := f.Rig.Warehouse().Numbers(t.Context(), `SELECT countIf(logged_at < before) FROM (SELECT logged_at,
		any(logged_at) OVER (ORDER BY seq ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING) AS before FROM `+rig.Database+`.ledger)`)
	if err != nil || back[0] != 0 {
		t.Errorf("the time of the log goes back at %v sequences, %v", back, err)
	}
	f.Note = fmt.Sprintf(" steps=%d handovers=0", steps)
	f.End()
}

// handovers is how often the partition was taken over by another aggregator than the one before. One that takes
// over from itself has met an error, which is no matter of leases.
func handovers(f *fight.Fight) int64 {
	f.T.Helper()
	n, err := f.Rig.Warehouse().Numbers(f.T.Context(), `SELECT countIf(before != '' AND holder != before) FROM (SELECT holder,
		any(holder) OVER (ORDER BY epoch, nonce ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING) AS before FROM `+rig.Database+`.owner)`)
	if err != nil {
		f.T.Fatal(err)
	}
	return n[0]
}

// TestF17Times: the same instants in every form, and instants outside the window: what is taken is stored in its
// UTC hour and month, everything else is refused by its code.
func TestF17Times(t *testing.T) {
	t.Parallel()
	f := fight.Fight{T: t, Name: "F17t", Seed: fight.Seed()}
	r := rig.Start(t, rig.Options{Program: fight.Program()})
	now := time.Now().UTC().Truncate(time.Second)
	// The beginning of a month, half an hour after which is over: in the first hour of a month, of the one before.
	ago := now.Add(-time.Hour)
	month := time.Date(ago.Year(), ago.Month(), 1, 0, 0, 0, 0, time.UTC)
	zone := func(at time.Time, hours int, form string) string {
		return at.In(time.FixedZone("", hours*3600)).Format(form)
	}
	const nanos = "2006-01-02T15:04:05.000000000Z07:00"
	taken := map[string]time.Time{
		zone(month.Add(30*time.Minute), 14, time.RFC3339):           month.Add(30 * time.Minute),
		zone(month.Add(-30*time.Minute), -12, time.RFC3339):         month.Add(-30 * time.Minute),
		zone(month.Add(-time.Nanosecond), 0, nanos):                 month.Add(-time.Nanosecond),
		zone(month, 5, nanos):                                       month,
		strings.ToLower(zone(now.Add(-time.Hour), 0, time.RFC3339)): now.Add(-time.Hour),
		zone(now, -23, time.RFC3339):                                now,
		zone(now.Add(-past+slack), 0, time.RFC3339):                 now.Add(-past + slack),
		zone(now.Add(future-slack), 13, time.RFC3339):               now.Add(future - slack),
	}
	refused := map[string]string{
		zone(now.Add(-36*24*time.Hour), 0, time.RFC3339):       "time-window",
		zone(now.Add(-past-slack), 14, time.RFC3339):           "time-window",
		zone(now.Add(future+2*slack), 0, time.RFC3339):         "time-window",
		zone(now.Add(future+slack), -11, time.RFC3339):         "time-window",
		"0001-01-01T00:00:00Z":                                 "time-window",
		"9999-12-31T23:59:59.999999999Z":                       "time-window",
		"1969-12-31T23:59:59Z":                                 "time-window",
		"1970-01-01T00:30:00+01:00":                            "time-window",
		"2200-01-01T00:00:00Z":                                 "time-window",
		month.Add(-time.Second).Format("2006-01-02T15:04:60Z"): "bad-time", // a leap second
		now.Format("2006-01-02T15:04:05"):                      "naive-time",
		now.Format("2006-01-02 15:04:05Z"):                     "bad-time",
		now.Format("2006-01-02T15:04Z"):                        "bad-time",
		// Not by a layout: 24, 13 and 30 are in it, too, and on some days make a time that is good.
		now.Format("2006-01-02T15:04:05") + "+24:00": "bad-time",
		now.Format("2006") + "-13-02T15:04:05Z":      "bad-time",
		now.Format("2006") + "-02-30T15:04:05Z":      "bad-time",
	}
	event := func(at string) []byte {
		return fmt.Appendf(nil, `[{"specversion":"1.0","type":"usage.metered","source":"/f17","id":%q,"subject":"a","time":%q,"data":{"meter":"tokens","quantity":"1"}}]`, at, at)
	}
	for at := range taken {
		if status, p := judged(t, r, event(at)); status != http.StatusAccepted {
			t.Errorf("%s: %d %v, want 202", at, status, p.codes())
		}
	}
	for at, code := range refused {
		if status, p := judged(t, r, event(at)); status != http.StatusUnprocessableEntity || !slices.Contains(p.codes(), code) {
			t.Errorf("%s: %d %v, want 422 %s", at, status, p.codes(), code)
		}
	}
	r.Settle()
	rows, err := r.Warehouse().Rows(t.Context(), `SELECT id, toString(toUnixTimestamp64Milli(at)), _partition_id FROM `+rig.Database+`.events`)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		at := taken[row[0]]
		if row[1] != fmt.Sprint(at.UnixMilli()) || row[2] != at.UTC().Format("200601") {
			t.Errorf("%s is stored at %s in month %s, want %d in %s", row[0], row[1], row[2], at.UnixMilli(), at.UTC().Format("200601"))
		}
	}
	hours, err := r.Warehouse().Rows(t.Context(), `SELECT toString(toUnixTimestamp64Milli(hour)), toString(sum(quantity)) FROM usage_api.usage_hourly_v1 GROUP BY hour`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for _, at := range taken {
		want[fmt.Sprint(at.Truncate(time.Hour).UnixMilli())]++
	}
	for _, h := range hours {
		if fmt.Sprint(want[h[0]]) != h[1] {
			t.Errorf("hour %s has %s events, want %d", h[0], h[1], want[h[0]])
		}
		delete(want, h[0])
	}
	if len(want) != 0 || len(rows) != len(taken) {
		t.Errorf("%d events are stored of %d; hours missing: %v", len(rows), len(taken), want)
	}
	if !t.Failed() {
		fmt.Printf("%s PASS seed=%d acked=%d stored=%d refused=%d lost=0 doubled=0\n", f.Name, f.Seed, len(taken), len(rows), len(refused))
	}
}
