// Package months closes months, and states them anew when something became known later (ADR
// 0013).
//
// Guarantees:
//
//   - A version of a month is visible whole or not at all. Its rows are stored first, under an id that
//     nobody knows; then one compare-and-set in CONTROL decides that they count; then the decision is made
//     known to the warehouse, where every reader begins. A crash between two of these steps leaves rows that
//     nobody reads, or a version that the next reporter makes known.
//   - A version never changes, and is never computed again to be read. It can be made again from the log, which
//     is done only where the warehouse lost it, and then its hash must be the one that was decided on.
//   - Of any number of reporters that close the same month at the same time, one makes version 1.
//   - A version follows another if and only if the canonical rows differ; the sum of all adjustments is the
//     difference between the newest version and the first, figure by figure.
//   - A close that somebody asks for has every event in it that was acknowledged before, or is refused.
//   - Nothing closes while something is known to be wrong: see Check.
//
// The package decides when and whether a month closes. What a month says is computed by package report.
package months

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const (
	// closeWait bounds a close: 100 million events take under a minute.
	closeWait = 30 * time.Minute
	// loserAge is how long rows lie that no version names; longer than any close may take.
	loserAge   = time.Hour
	settlePoll = 100 * time.Millisecond
	// closeTries bounds how often a close starts over because another one came first.
	closeTries = 5
	// closesMax is how many closes are computed at a time: each holds a month's rows in memory, 0.5 kB a row.
	closesMax = 2
	// Automatic is who closed, where nobody asked.
	Automatic = "automatic"
)

// Config says when months close by themselves. Zero values of waits are the defaults.
type Config struct {
	CloseDay     int           `koanf:"close_day" help:"day of the next month on which a month closes by itself, at 00:00 UTC; 0: never"`
	RestateDelay time.Duration `koanf:"restate_delay" help:"how long to wait after a late event, for more of them, before a new version of its month is made"`
	QuietDelay   time.Duration `koanf:"quiet_delay" help:"how long a month must be unchanged before it closes by itself"`
	RetryDelay   time.Duration `koanf:"retry_delay" help:"how long to wait before a close that was refused is tried by itself again"`
	SettleWait   time.Duration `koanf:"settle_wait" help:"how long a close waits for everything to be counted that was in the log when it was asked for, and for the log's clock to pass the end of its month, or its as_of, before it is refused"`
}

// DefaultConfig closes on the fourth.
func DefaultConfig() Config {
	return Config{CloseDay: 4, RestateDelay: 15 * time.Minute, QuietDelay: 15 * time.Minute, RetryDelay: 5 * time.Minute, SettleWait: 30 * time.Second}
}

// Validate lists what cannot work.
func (c Config) Validate() []error {
	var faults []error
	if c.CloseDay < 0 || c.CloseDay > 28 {
		faults = append(faults, errors.New("close_day: want a day from 1 to 28, or 0 for never"))
	}
	if c.RestateDelay <= 0 || c.QuietDelay <= 0 || c.RetryDelay <= 0 || c.SettleWait <= 0 {
		faults = append(faults, errors.New("restate_delay, quiet_delay, retry_delay, settle_wait: must be positive"))
	}
	return faults
}

// Auditor compares what the tables say about a month, and knows how far the log goes.
type Auditor interface {
	Month(ctx context.Context, tenant string, m usage.Month) ([]audit.MonthDifference, error)
	// Heads is the last sequence of every partition of the log: everything that was acknowledged before it was asked for is
	// at or below it.
	Heads(ctx context.Context) (map[uint16]uint64, error)
}

// Parts are what a Keeper works with; the caller keeps them.
type Parts struct {
	Reports *report.Reports
	Servers *warehouse.Servers
	Control *control.Store
	Audit   Auditor
	Now     func() time.Time // decides which months have ended
	State   *prometheus.GaugeVec
	Holder  string // names this process among all that close months
}

// Keeper closes months. Its methods may be used concurrently.
type Keeper struct {
	Parts
	cfg    Config
	log    *zap.Logger
	months *control.Months
	leases *control.Leases
	duty   atomic.Bool // this process is the one that closes by itself

	slots chan struct{}
	watch watch
	audits

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Start follows the closed months and begins to close by itself. NATS and ClickHouse may be down. It outlives
// ctx until Stop.
func Start(ctx context.Context, cfg Config, parts Parts, log *zap.Logger) (*Keeper, error) {
	usual := DefaultConfig()
	cfg.RestateDelay, cfg.QuietDelay = cmp.Or(cfg.RestateDelay, usual.RestateDelay), cmp.Or(cfg.QuietDelay, usual.QuietDelay)
	cfg.RetryDelay, cfg.SettleWait = cmp.Or(cfg.RetryDelay, usual.RetryDelay), cmp.Or(cfg.SettleWait, usual.SettleWait)
	k := &Keeper{Parts: parts, cfg: cfg, log: log, slots: make(chan struct{}, closesMax), watch: newWatch(), audits: newAudits()}
	var err error
	if k.leases, err = parts.Control.MonthLeases(ctx, parts.Holder, 0); err != nil {
		return nil, fmt.Errorf("months: %w", err)
	}
	k.months = parts.Control.Months(ctx)
	ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	k.running.Go(func() { k.hold(ctx) })
	k.running.Go(func() { k.run(ctx) })
	return k, nil
}

// Stop ends what Start began.
func (k *Keeper) Stop() {
	k.cancel()
	k.running.Wait()
	k.months.Close()
	k.leases.Close()
}

// hold tries to be the one on duty, all the time. Losing the lease stops nothing that has begun: the
// compare-and-set decides, not the lease.
func (k *Keeper) hold(ctx context.Context) {
	tick := time.NewTicker(k.leases.TTL() / 4)
	defer tick.Stop()
	var lease control.Lease
	for {
		var err error
		if k.duty.Load() {
			lease, err = k.leases.Renew(ctx, lease)
			if errors.Is(err, control.ErrLost) || err != nil && !k.leases.Valid(lease) {
				k.duty.Store(false)
			}
		} else if lease, err = k.leases.Acquire(ctx, 0); err == nil {
			k.duty.Store(true)
		}
		select {
		case <-ctx.Done():
			if k.duty.Load() {
				_ = k.leases.Release(context.WithoutCancel(ctx), lease) // it ends by itself in seconds
			}
			return
		case <-tick.C:
		}
	}
}

// Request asks for a close.
type Request struct {
	Tenant     string
	Month      usage.Month
	AsOf       int64 // Unix ms: only what was recorded at or before; 0: the watermark
	AcceptGaps bool
	Reason     string // of AcceptGaps
	By         string
}

// Refused is a close that may not be, with every check that was made.
type Refused struct {
	Month  string
	Checks []Check
}

func (r *Refused) Error() string {
	text := "month " + r.Month + " may not be closed"
	for _, c := range r.Checks {
		if c.Status == Block {
			text += "; " + c.Check + ": " + c.Detail
		}
	}
	return text
}

// acquire waits for a slot.
func (k *Keeper) acquire(ctx context.Context) (release func(), err error) {
	select {
	case k.slots <- struct{}{}:
		return func() { <-k.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
