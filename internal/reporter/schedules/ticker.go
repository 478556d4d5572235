package schedules

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
)

// tickEvery bounds how late a run is noticed, whatever a wall clock does.
const tickEvery = time.Second

// shelf is where schedules are; a test has one of its own.
type shelf interface {
	all(ctx context.Context) ([]control.Schedule, error)
	current(ctx context.Context, tenant, id string) (control.Schedule, error) // from the server
}

// maker makes runs; one that is there already is control.ErrConflict.
type maker interface {
	submit(ctx context.Context, one *control.Schedule, rule Rule, run Run) error
}

// ticker finds runs that are due. It may be one of several that look at the same schedules.
type ticker struct {
	shelf shelf
	maker maker
	now   func() time.Time
	log   *zap.Logger
	every time.Duration
	last  time.Time
	seen  map[string]seen // by tenant and id
}

// seen is what a ticker knows of a schedule, so that it need not be worked out every second.
type seen struct {
	changed time.Time
	made    string    // the run that is there already
	next    time.Time // nothing is due before
}

func newTicker(s shelf, m maker, now func() time.Time, log *zap.Logger) *ticker {
	return &ticker{shelf: s, maker: m, now: now, log: log, every: tickEvery, seen: map[string]seen{}}
}

// run looks whenever a schedule changed, and every second.
func (t *ticker) run(ctx context.Context, changed <-chan struct{}) {
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	for {
		t.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// look makes the runs that are due.
func (t *ticker) look(ctx context.Context) {
	all, err := t.shelf.all(ctx)
	if err != nil {
		return // not known yet; what is due then is due later
	}
	now := t.now()
	if now.Before(t.last) {
		t.seen = map[string]seen{} // the clock was put back: what was worked out is worth nothing
	}
	t.last = now
	known := map[string]seen{}
	for i := range all {
		one := &all[i]
		name := one.Tenant + "/" + one.ID
		have := t.seen[name]
		if !have.changed.Equal(one.ChangedAt) {
			have = seen{changed: one.ChangedAt}
		}
		if one.Enabled && !now.Before(have.next) {
			have = t.visit(ctx, one, have, now)
		}
		known[name] = have
	}
	t.seen = known
}

// visit makes the run of a schedule that was due last, if it is not there.
func (t *ticker) visit(ctx context.Context, one *control.Schedule, have seen, now time.Time) seen {
	rule, err := RuleOf(one)
	if err != nil {
		t.log.Error("schedule cannot be read", zap.String("schedule", one.ID), zap.Error(err))
		return have
	}
	if run, ok := rule.Last(now); ok && run.Due.After(one.Since) && run.Name != have.made {
		current, err := t.shelf.current(ctx, one.Tenant, one.ID)
		if err != nil || !current.Enabled || !current.ChangedAt.Equal(one.ChangedAt) {
			return have // it has just been changed: what is known of it will be in a moment
		}
		err = t.maker.submit(ctx, one, rule, run)
		var bad *report.Error
		switch {
		case err == nil:
			t.log.Info("scheduled report asked for", zap.String("schedule", one.ID), zap.String("run", run.Name))
		case errors.Is(err, control.ErrConflict): // another reporter did, or this one before it was started again
		case errors.As(err, &bad):
			t.log.Error("schedule cannot be run", zap.String("schedule", one.ID), zap.Error(err))
		default:
			return have // once more in a second
		}
		have.made = run.Name
	}
	if next, ok := rule.Next(now); ok {
		have.next = next.Due
	}
	return have
}

func (b *Book) all(ctx context.Context) ([]control.Schedule, error) { return b.schedules.All(ctx, "") }

func (b *Book) current(ctx context.Context, tenant, id string) (control.Schedule, error) {
	return b.control.Schedule(ctx, tenant, id)
}

func (b *Book) submit(ctx context.Context, one *control.Schedule, rule Rule, run Run) error {
	request, err := requestOf(one, rule.Every, run)
	if err != nil {
		return err
	}
	_, err = b.desk.SubmitRun(ctx, one, run.Name, periodOf(rule.Every, run).to, request)
	return err
}
