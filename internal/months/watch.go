package months

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

const (
	// passMin and passMax bound how often is looked for late events: four times in the shorter of the delays.
	passMin = 200 * time.Millisecond
	passMax = 15 * time.Second
	// passShare keeps looking to a small share of a processor, however large the tables are.
	passShare  = 20
	sweepEvery = 10 * time.Minute
	mendEvery  = time.Minute
	mendAgain  = 5 * time.Second // after an error
)

// place names a month of a tenant.
type place struct {
	tenant string
	month  usage.Month
}

// reached is a position per shard.
type reached map[uint16]uint64

// beyond reports whether a position lies beyond what was reached.
func (r reached) beyond(shard uint16, seq uint64) bool { return seq > r[shard] }

// late is a closed month with something that its newest version does not have.
type late struct {
	since time.Time // when it was first seen, by the clock of this machine
	upTo  reached   // how far had been counted then
}

// quiet is a month that is to close by itself: how far its rows went, and since when they go no further.
type quiet struct {
	upTo  reached
	since time.Time
}

// watch is what the process on duty remembers between two passes. It is worth nothing after a restart but
// time: every month is then looked at again.
type watch struct {
	clean    map[place]reached // up to where no row changes the newest version
	late     map[place]late
	quiet    map[place]quiet
	refused  map[place]string // why, as logged last
	retry    map[place]time.Time
	activity map[string][]report.Activity // by tenant
	counted  reached                      // positions of the watermark when activity was read
	resolved map[place]reached            // how far the charges go of credits that were returned in a month
	charged  reached                      // up to where they were looked at
	swept    time.Time
	mended   time.Time
	versions int  // how many there were then
	begun    bool // clean was filled
}

func newWatch() watch {
	return watch{
		clean: map[place]reached{}, late: map[place]late{}, quiet: map[place]quiet{}, refused: map[place]string{}, retry: map[place]time.Time{},
		resolved: map[place]reached{},
	}
}

// run makes passes until ctx ends.
func (k *Keeper) run(ctx context.Context) {
	every := min(max(min(k.cfg.RestateDelay, k.cfg.QuietDelay)/4, passMin), passMax)
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		began := time.Now()
		if err := k.pass(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("months not looked at; trying again", zap.Error(err))
		}
		timer.Reset(max(every, passShare*min(time.Since(began), passMax)))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k.months.Changed():
		}
	}
}

// pass makes known what was decided on, shows the months' states, and on duty looks after late events,
// closes that are due and what closes left behind.
func (k *Keeper) pass(ctx context.Context) error {
	all, ready := k.months.All()
	if !ready {
		return nil // NATS has not answered yet
	}
	k.mendAll(ctx, all)
	cut, err := k.look(ctx)
	if err != nil {
		return err
	}
	closed := map[place]control.MonthVersion{}
	for _, m := range all {
		month, err := usage.ParseMonth(m.Month)
		if v, ok := m.Newest(); ok && err == nil {
			closed[place{m.Tenant, month}] = v
		}
	}
	k.show(closed)
	if !k.duty.Load() {
		return nil
	}
	if err := k.begin(ctx, closed); err != nil {
		return err
	}
	if err := k.resolve(ctx, closed, cut); err != nil {
		return err
	}
	for p, v := range closed {
		if err := k.restate(ctx, p, v, cut); err != nil {
			return err
		}
	}
	if err := k.closeDue(ctx, closed); err != nil {
		return err
	}
	if time.Since(k.watch.swept) < sweepEvery {
		return nil
	}
	if err := k.sweep(ctx); err != nil {
		return err // once more with the next pass
	}
	k.watch.swept = time.Now()
	return nil
}

// begin notes, when the duty begins, up to where the months that were closed before are known to be clean: their newest
// versions have everything up to there. Without it every closed month would be asked for late events.
func (k *Keeper) begin(ctx context.Context, closed map[place]control.MonthVersion) error {
	if k.watch.begun {
		return nil
	}
	clock, err := k.Reports.Clock(ctx)
	if err != nil {
		return err
	}
	for p, v := range closed {
		if _, known := k.watch.clean[p]; !known {
			k.watch.clean[p] = clock.Whole(cutOf(v))
		}
	}
	k.watch.begun = true
	return nil
}

// mendAll makes every version known that is not: after each change, and every minute for what was lost.
func (k *Keeper) mendAll(ctx context.Context, all []control.Month) {
	versions := 0
	for _, m := range all {
		versions += len(m.Versions)
	}
	if versions == k.watch.versions && time.Since(k.watch.mended) < mendEvery {
		return
	}
	if err := k.mend(ctx, all); err != nil {
		k.log.Error("a closed month is not known to the warehouse", zap.Error(err))
		k.watch.versions, k.watch.mended = versions, time.Now().Add(mendAgain-mendEvery)
		return
	}
	k.watch.versions, k.watch.mended = versions, time.Now()
}

// look reads how far each month goes, if anything was counted since the last time.
func (k *Keeper) look(ctx context.Context) (report.Cut, error) {
	cut, err := k.Reports.CutNow(ctx)
	if err != nil {
		return cut, err
	}
	if maps.Equal(k.watch.counted, cut.Shards) {
		return cut, nil
	}
	all, err := k.Reports.Activity(ctx)
	if err != nil {
		return cut, err
	}
	k.watch.counted, k.watch.activity = cut.Shards, map[string][]report.Activity{}
	for _, a := range all {
		k.watch.activity[a.Tenant] = append(k.watch.activity[a.Tenant], a)
	}
	return cut, nil
}

// show sets the metric.
func (k *Keeper) show(closed map[place]control.MonthVersion) {
	const open, provisional, done = 0, 1, 2
	now := usage.AtTime(k.Now())
	for _, a := range k.active() {
		p := place{a.Tenant, a.Month}
		if _, ok := closed[p]; ok || !a.Metered || !a.Live {
			continue
		}
		state := float64(provisional) //arch:float a metric
		if now.Before(a.Month.End()) {
			state = open
		}
		k.State.WithLabelValues(a.Tenant, a.Month.String()).Set(state)
	}
	for p := range closed {
		k.State.WithLabelValues(p.tenant, p.month.String()).Set(done)
	}
}

// active is the activity of all tenants.
func (k *Keeper) active() []report.Activity {
	return slices.Concat(slices.Collect(maps.Values(k.watch.activity))...)
}

// resolve looks for charges that say under which meter the credits count that were returned in a month. A charge may
// have happened long after, or before: a month's activity does not tell it. The first time all are looked at.
func (k *Keeper) resolve(ctx context.Context, closed map[place]control.MonthVersion, cut report.Cut) error {
	if len(closed) == 0 || maps.Equal(k.watch.charged, cut.Shards) {
		return nil
	}
	found, err := k.Reports.Resolutions(ctx, k.watch.charged)
	if err != nil {
		return err
	}
	for _, a := range found {
		p := place{a.Tenant, a.Month}
		if k.watch.resolved[p] == nil {
			k.watch.resolved[p] = reached{}
		}
		k.watch.resolved[p][a.Shard] = max(k.watch.resolved[p][a.Shard], a.Seq)
	}
	k.watch.charged = cut.Shards
	return nil
}

// moved reports whether rows that may change a closed month lie beyond what was reached.
func (k *Keeper) moved(p place, r reached) bool {
	for _, a := range k.watch.activity[p.tenant] {
		if (a.Month == p.month || a.Carried && a.Month.Compare(p.month) < 0) && r.beyond(a.Shard, a.Seq) {
			return true
		}
	}
	return moved(r, k.watch.resolved[p])
}

// restate makes a new version of a closed month once late events have waited long enough. Whether there are
// any is asked of the rows only where the months' activity has moved.
func (k *Keeper) restate(ctx context.Context, p place, v control.MonthVersion, cut report.Cut) error {
	clean, looked := k.watch.clean[p]
	if looked && !k.moved(p, clean) {
		return nil
	}
	waiting, isLate := k.watch.late[p]
	if !isLate {
		beyond := cut
		beyond.AsOf = report.Forever // rows above the watermark's instant will be below it soon
		months, err := k.Reports.LateMonths(ctx, p.tenant, p.month, cutOf(v), beyond)
		if err != nil {
			return err
		}
		if len(months) == 0 {
			k.watch.clean[p] = cut.Shards
			return nil
		}
		waiting = late{time.Now(), cut.Shards}
		k.watch.late[p] = waiting
	}
	if time.Since(waiting.since) < k.cfg.RestateDelay || time.Now().Before(k.watch.retry[p]) {
		return nil
	}
	// The log's clock must have passed what was seen, or the new version would leave some of it out.
	seen := report.Cut{AsOf: cut.AsOf, Shards: waiting.upTo}
	all := report.Cut{AsOf: report.Forever, Shards: waiting.upTo}
	if above, err := k.Reports.LateMonths(ctx, p.tenant, p.month, seen, all); err != nil || len(above) > 0 {
		return err
	}
	newest, err := k.Close(ctx, Request{Tenant: p.tenant, Month: p.month, By: Automatic})
	if err != nil {
		return k.later(p, err, "a closed month has late events and cannot be stated anew")
	}
	delete(k.watch.late, p)
	delete(k.watch.refused, p)
	if newest.Version > v.Version {
		delete(k.watch.clean, p) // what came after it is looked for once
	} else {
		k.watch.clean[p] = waiting.upTo
	}
	return nil
}

// later notes a close that has to be tried again, and says why, once for each reason.
func (k *Keeper) later(p place, err error, what string) error {
	var refused *Refused
	var question *report.Error
	if !errors.As(err, &refused) && !errors.As(err, &question) && !errors.Is(err, ErrAudit) {
		return err
	}
	k.watch.retry[p] = time.Now().Add(k.cfg.RetryDelay)
	if why := err.Error(); k.watch.refused[p] != why {
		k.watch.refused[p] = why
		k.log.Warn(what, zap.String("tenant", p.tenant), zap.String("month", p.month.String()), zap.String("why", why))
	}
	return nil
}

// due is the month that ended last, and the instant at which it closes by itself.
func (k *Keeper) due() (usage.Month, time.Time) {
	now := k.Now().UTC()
	first := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	return usage.MonthOf(usage.AtTime(first)).Prev(), first.AddDate(0, 0, k.cfg.CloseDay-1)
}

// closeDue closes the month that ended last, for every tenant that has usage in it. Older months are closed
// by request.
func (k *Keeper) closeDue(ctx context.Context, closed map[place]control.MonthVersion) error {
	month, at := k.due()
	if k.cfg.CloseDay == 0 || k.Now().Before(at) {
		return nil
	}
	reachedBy := map[string]reached{}
	for _, a := range k.active() {
		if _, done := closed[place{a.Tenant, month}]; done || a.Month != month || !a.Metered || !a.Live {
			continue
		}
		if reachedBy[a.Tenant] == nil {
			reachedBy[a.Tenant] = reached{}
		}
		reachedBy[a.Tenant][a.Shard] = max(reachedBy[a.Tenant][a.Shard], a.Seq)
	}
	for tenant, upTo := range reachedBy {
		p := place{tenant, month}
		q, ok := k.watch.quiet[p]
		if !ok || moved(q.upTo, upTo) {
			q = quiet{upTo, time.Now()}
			k.watch.quiet[p] = q
		}
		if time.Since(q.since) < k.cfg.QuietDelay || time.Now().Before(k.watch.retry[p]) {
			continue
		}
		_, err := k.Close(ctx, Request{Tenant: tenant, Month: month, By: Automatic})
		if err != nil {
			if err := k.later(p, err, "a month is due and cannot be closed"); err != nil {
				return err
			}
			continue
		}
		delete(k.watch.refused, p)
		delete(k.watch.quiet, p)
	}
	return nil
}

func moved(before, now reached) bool {
	for shard, seq := range now {
		if before.beyond(shard, seq) {
			return true
		}
	}
	return false
}
