package schedules

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
)

// world is where schedules and their runs are, for reporters that come and go. Its calls can fail with and without
// their effect.
type world struct {
	mu        sync.Mutex
	rng       *rand.Rand
	schedules map[string]control.Schedule
	looks     []time.Time
	made      map[string]map[string]time.Time // by schedule and run: when
	order     map[string][]string
}

func (w *world) all(context.Context) ([]control.Schedule, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks = append(w.looks, time.Now())
	return slices.Collect(maps.Values(w.schedules)), nil
}

func (w *world) current(_ context.Context, _, id string) (control.Schedule, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.schedules[id], nil
}

func (w *world) submit(_ context.Context, one *control.Schedule, _ Rule, run Run) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	fault := w.rng.IntN(20)
	if fault == 0 {
		return errors.New("not reached")
	}
	if _, there := w.made[one.ID][run.Name]; there {
		return control.ErrConflict
	}
	if w.made[one.ID] == nil {
		w.made[one.ID] = map[string]time.Time{}
	}
	w.made[one.ID][run.Name] = time.Now()
	w.order[one.ID] = append(w.order[one.ID], run.Name)
	if fault == 1 {
		return errors.New("the answer was lost")
	}
	return nil
}

// toggle is a change of a schedule that the oracle knows of.
type toggle struct {
	at      time.Time
	enabled bool
}

// TestF18Schedules lets two reporters, which are started and stopped at random, run schedules of twelve zones for
// three years, with schedules disabled and enabled meanwhile, and compares what was made with an oracle that knows
// only when somebody looked, and when what was enabled.
func TestF18Schedules(t *testing.T) {
	const seed = 18
	synctest.Test(t, func(t *testing.T) {
		runs, missed := simulate(t, seed, 3*366*24*time.Hour)
		fmt.Printf("F18 PASS seed=%d zones=12 years=3 schedules=49 runs=%d passed_over=%d doubled=0\n", seed, runs, missed)
	})
}

// TestF18ManySeeds is the same for a month, many times.
func TestF18ManySeeds(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, 100+seed, 40*24*time.Hour) })
		})
	}
}

func simulate(t *testing.T, seed uint64, length time.Duration) (runs, missed int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 2)), schedules: map[string]control.Schedule{}, made: map[string]map[string]time.Time{}, order: map[string][]string{},
	}
	begin := time.Now()
	toggles := map[string][]toggle{}
	for _, zone := range []string{
		"UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo", "Asia/Tehran", "Africa/Casablanca",
		"Asia/Kathmandu", "Pacific/Chatham", "America/Havana", "Asia/Gaza",
	} {
		for _, every := range []Recurrence{Hourly, Daily, Weekly, Monthly, "last day"} {
			one := control.Schedule{
				Tenant: "t", ID: zone + " " + string(every), Recurrence: string(every), At: fmt.Sprintf("%02d:%02d", rng.IntN(24), rng.IntN(60)), Zone: zone,
				Weekday: time.Weekday(rng.IntN(7)).String(), MonthDay: 1 + rng.IntN(28), Enabled: true, Since: begin, ChangedAt: begin,
			}
			if every == Hourly && zone != "UTC" {
				continue // hours are of UTC
			}
			if every == "last day" {
				one.Recurrence, one.MonthDay = string(Monthly), 31
			}
			w.schedules[one.ID] = one
			toggles[one.ID] = []toggle{{begin, true}}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var reporters sync.WaitGroup
	for range 2 {
		seed := rng.Uint64()
		reporters.Go(func() { comeAndGo(ctx, w, rand.New(rand.NewPCG(seed, 3))) })
	}
	for time.Since(begin) < length {
		pass(ctx, time.Duration(rng.Int64N(int64(48*time.Hour))))
		w.change(rng, toggles)
	}
	cancel()
	reporters.Wait()
	return w.check(t, begin, toggles)
}

// pass lets time go by.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// comeAndGo is a reporter that is up for some days, and down for some.
func comeAndGo(ctx context.Context, w *world, rng *rand.Rand) {
	for ctx.Err() == nil {
		life, die := context.WithTimeout(ctx, time.Duration(rng.Int64N(int64(20*24*time.Hour))))
		ticker := newTicker(w, w, time.Now, zap.NewNop())
		ticker.every = time.Duration(5+rng.IntN(25)) * time.Minute
		ticker.run(life, nil)
		die()
		pass(ctx, time.Duration(rng.Int64N(int64(5*24*time.Hour))))
	}
}

// change disables or enables some schedule.
func (w *world) change(rng *rand.Rand, toggles map[string][]toggle) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := slices.Sorted(maps.Keys(w.schedules))
	one := w.schedules[ids[rng.IntN(len(ids))]]
	now := time.Now()
	one.Enabled, one.ChangedAt = !one.Enabled, now
	if one.Enabled {
		one.Since = now
	}
	w.schedules[one.ID] = one
	toggles[one.ID] = append(toggles[one.ID], toggle{now, one.Enabled})
}

// enabled reports whether a schedule was enabled from a to b, both included, without a break.
func enabled(toggles []toggle, a, b time.Time) bool {
	state := false
	for _, c := range toggles {
		if !c.at.Before(a) { // at or after the run became due
			if c.at.After(b) {
				break
			}
			return false
		}
		state = c.enabled
	}
	return state
}

// check: a run is made exactly if somebody looked after it was due, and before the next one was, while the schedule
// was enabled all that time. A look whose call failed does not count, so a run that is due long enough is made.
func (w *world) check(t *testing.T, begin time.Time, toggles map[string][]toggle) (runs, missed int) {
	slices.SortFunc(w.looks, time.Time.Compare)
	for id, one := range w.schedules {
		rule, err := RuleOf(&one)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSorted(w.order[id]) {
			t.Errorf("%s: runs out of order: %v", id, w.order[id])
		}
		left := maps.Clone(w.made[id])
		for run, ok := rule.Next(begin); ok && run.Due.Before(time.Now()); {
			next, _ := rule.Next(run.Due)
			at, made := left[run.Name]
			delete(left, run.Name)
			runs++
			if made && (at.Before(run.Due) || !at.Before(next.Due) || !enabled(toggles[id], run.Due, at)) {
				t.Errorf("%s: run %s, due %s, was made at %s", id, run.Name, run.Due, at)
			}
			if !made {
				missed++
				w.excuse(t, id, run, next, toggles[id])
			}
			run = next
		}
		if len(left) > 0 {
			t.Errorf("%s: runs that nobody asked for: %v", id, left)
		}
	}
	return runs - missed, missed
}

// excuse finds out why a run was not made: nobody looked in time, but for a few whose calls failed.
func (w *world) excuse(t *testing.T, id string, run, next Run, toggles []toggle) {
	const unlucky = 6 // looks in a row, of which one in twenty fails
	from, _ := slices.BinarySearchFunc(w.looks, run.Due, time.Time.Compare)
	to, _ := slices.BinarySearchFunc(w.looks, next.Due, time.Time.Compare)
	looks := 0
	for _, at := range w.looks[from:to] {
		if enabled(toggles, run.Due, at) {
			looks++
		}
	}
	if looks >= unlucky {
		t.Errorf("%s: run %s, due %s, was not made, though %d times somebody looked", id, run.Name, run.Due, looks)
	}
}
