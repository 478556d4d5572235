// Package rebuild makes every projection of the log anew beside the ones in use, proves that they say the same,
// and lets the new ones take the others' places, while events go on being counted (ADR 0014).
//
// Guarantees:
//
//   - The old tables answer until the new ones do, and nothing of the old ones is dropped before the new ones have
//     been compared with the log (an audit) and with the old ones (rows, and every report of every tenant).
//   - What is killed at any instruction, this program, an aggregator or ClickHouse, loses nothing and counts
//     nothing twice. Running it again finishes what it had begun, or undoes it.
//   - While the tables are being exchanged nobody writes: the owners of all shards are made to step down, and
//     nobody can take a shard over. Events wait in the log meanwhile; ingest notices nothing.
//   - Only one that still owns every shard exchanges tables, under a name of the new database that nobody else
//     knows: a process that was frozen and comes back does no harm.
//
// What is not in the log stays as it is: closed versions of months, keys, owners. Rows of a stream that is gone
// (an earlier incarnation, ADR 0007) are copied, because nothing can replay them.
package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/aggregator"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Config is where everything is.
type Config struct {
	Log        *eventlog.Log
	Control    *control.Store
	ClickHouse warehouse.Config
	Holder     string        // who rebuilds, for people and for the lease
	Dir        string        // for filters, which are not kept; default a folder of its own among temporary files
	LeaseTTL   time.Duration // default that of aggregators
}

// Options of a run.
type Options struct {
	Keep              bool                // leave the old tables in a database of their own
	AcceptDifferences bool                // exchange although reports differ, because the audit says that the new tables are right
	Fresh             bool                // drop what an interrupted run has filled, and begin again
	Only              []warehouse.Section // with any: these alone are made again, all others are taken as they are
	Finish            bool                // finish or undo what an interrupted run has begun to exchange, and no more
	Questions         int                 // about each report, of all tenants together; default QuestionsUsual
	Progress          func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	Phase       string // one of the phases below
	Done, Total uint64 // messages, questions or tables; Total 0: not known
	Note        string // what stands in the way, if anything does
}

// Phases of a run, in order.
const (
	PhaseReplay   = "replay"
	PhaseAudit    = "audit"
	PhaseReports  = "reports"
	PhaseExchange = "exchange"
	PhaseAgain    = "reports of the new tables"
	PhaseMonths   = "closed months"
	PhaseDrop     = "drop"
)

var (
	// ErrBusy says that somebody else is rebuilding.
	ErrBusy = errors.New("another rebuild is at work")
	// ErrDiffer says that the new tables do not say what the old ones do: nothing was exchanged.
	ErrDiffer = errors.New("the new tables differ from the old ones; nothing was exchanged")
	// ErrNoRoom says that the disk would not hold both.
	ErrNoRoom = errors.New("not enough free disk")
	// ErrRecreated says that the log is not the one that the replay began to read.
	ErrRecreated = errors.New("the stream of a partition was recreated meanwhile: run again with --fresh")
	errGone      = errors.New("the new tables have gone")
)

// run is the state of a run.
type run struct {
	Config
	Options
	zap        *zap.Logger
	old, twins *warehouse.Servers         // by the same index
	leases     *control.Leases            // of aggregators: where partitions are placed
	steps      []warehouse.Exchange       // by server: the exchange that was begun
	linked     map[warehouse.Section]bool // partitions that were taken as they are, in this round
	clock      func() time.Time           // stands still: what reports say of a day or a month that is over must not change on the way
	lent       map[string]uint64          // rows of the tables of closed months, by server and table, when they were lent last
	result     *Result
}

// Result is what a run did.
type Result struct {
	Resumed    bool                  `json:"resumed"` // it finished the exchange of an interrupted run, which had proved it
	Carried    []Carried             `json:"carried"`
	Messages   uint64                `json:"messages"`
	AuditOK    bool                  `json:"audit_ok"`
	AuditSHA   string                `json:"audit_sha256"`
	Tables     []TableProof          `json:"tables"`
	Reports    []Proof               `json:"reports"`
	Linked     int                   `json:"linked"` // partitions that were taken as they are
	Exchanged  bool                  `json:"exchanged"`
	Months     []months.VersionProof `json:"months"` // closed versions, hashed again behind the exchange
	MonthsOK   bool                  `json:"months_ok"`
	PausedFor  string                `json:"paused_for"` // how long nobody counted
	KeptIn     []string              `json:"kept_in"`
	Difference int                   `json:"differences"`
}

// Carried is an earlier incarnation whose rows were copied.
type Carried struct {
	Shard uint16 `json:"shard"`
	Seq   uint64 `json:"seq"`
}

// Run rebuilds. The Result says how far it got, with an error too.
func Run(ctx context.Context, cfg Config, o Options, log *zap.Logger) (*Result, error) {
	r := &run{Config: cfg, Options: o, zap: log, result: &Result{Carried: []Carried{}, Tables: []TableProof{}, Reports: []Proof{}, KeptIn: []string{}, Months: []months.VersionProof{}}}
	if r.Progress == nil {
		r.Progress = func(Progress) {}
	}
	begun := time.Now()
	r.clock, r.lent = func() time.Time { return begun }, map[string]uint64{}
	r.Holder += "-" + uuid.NewString()[:8] // of this run and no other
	if r.LeaseTTL == 0 {
		r.LeaseTTL = control.LeaseTTL
	}
	if r.Dir == "" {
		dir, err := os.MkdirTemp("", "countinghouse-rebuild-*")
		if err != nil {
			return r.result, fmt.Errorf("rebuild: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }() // caches
		r.Dir = dir
	}
	if err := r.open(ctx); err != nil {
		return r.result, fmt.Errorf("rebuild: %w", err)
	}
	defer r.close()
	ctx, release, err := r.lock(ctx)
	if err != nil {
		return r.result, fmt.Errorf("rebuild: %w", err)
	}
	defer release()
	if err := r.all(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = errors.Join(cause, err)
		}
		return r.result, fmt.Errorf("rebuild: %w", err)
	}
	return r.result, nil
}

func (r *run) open(ctx context.Context) (err error) {
	if r.old, err = warehouse.OpenServers(ctx, r.ClickHouse, r.zap); err != nil {
		return err
	}
	beside, err := r.ClickHouse.Beside()
	if err == nil {
		r.twins, err = warehouse.OpenServers(ctx, beside, r.zap)
	}
	if err == nil {
		r.leases, err = r.Control.Leases(ctx, r.Holder, r.LeaseTTL)
	}
	if err != nil {
		r.close()
	}
	return err
}

func (r *run) close() {
	if r.leases != nil {
		r.leases.Close()
	}
	if r.twins != nil {
		_ = r.twins.Close() // nothing is pending
	}
	_ = r.old.Close() // nothing is pending
}

// lock takes the lease of rebuilds and keeps it. The context it answers ends when the lease is lost.
func (r *run) lock(ctx context.Context) (context.Context, func(), error) {
	leases, err := r.Control.RebuildLeases(ctx, r.Holder, r.LeaseTTL)
	if err != nil {
		return ctx, nil, err
	}
	lease, err := r.acquire(ctx, leases)
	if err != nil {
		leases.Close()
		return ctx, nil, err
	}
	held, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(r.LeaseTTL / 5)
		defer tick.Stop()
		for {
			select {
			case <-held.Done():
				return
			case <-tick.C:
			}
			next, err := leases.Renew(held, lease)
			if err == nil {
				lease = next
			}
			// A lease that could not be renewed for a while is no harm while nobody else has it: what keeps two
			// apart is not the lease.
			if errors.Is(err, control.ErrLost) {
				cancel(fmt.Errorf("%w: %w", ErrBusy, err))
				return
			}
		}
	}()
	return held, func() {
		cancel(nil)
		<-ended
		_ = leases.Release(context.WithoutCancel(ctx), lease) // it ends by itself
		leases.Close()
	}, nil
}

// acquire waits for a lease that somebody left behind who was killed; one that is renewed is somebody at work, which is
// what it says even if the last of its questions was not answered. It gives up by tries as well as by time: a machine
// that stood still let the time pass without one.
func (r *run) acquire(ctx context.Context, leases *control.Leases) (control.Lease, error) {
	const everyTTL = 5 // tries
	begun, busy := time.Now(), error(nil)
	for tries := 1; ; tries++ {
		lease, err := leases.Acquire(ctx, 0)
		if err == nil {
			return lease, nil
		}
		if errors.Is(err, control.ErrHeld) {
			busy = fmt.Errorf("%w: %w", ErrBusy, err)
		}
		if tries >= 2*everyTTL && time.Since(begun) > 2*r.LeaseTTL+connectWait {
			return lease, cmp.Or(busy, err)
		}
		select {
		case <-ctx.Done():
			return lease, cmp.Or(busy, err)
		case <-time.After(r.LeaseTTL / everyTTL):
		}
	}
}

// all is the run under its lease.
func (r *run) all(ctx context.Context) error {
	if err := r.migrated(ctx); err != nil {
		return err
	}
	finished, err := r.resume(ctx)
	if err != nil {
		return err
	}
	if finished {
		return r.verifyMonths(ctx)
	}
	if r.Finish {
		return nil
	}
	for {
		more, err := r.fill(ctx)
		if err != nil {
			return err
		}
		if len(more) == 0 {
			break
		}
		r.Only = append(r.Only, more...)
	}
	if err := r.clean(ctx); err != nil {
		return err
	}
	return r.verifyMonths(ctx)
}

// fill makes the new tables and lets them take the old ones' places. more are partitions that have to be made again
// too, in which case nothing was exchanged.
func (r *run) fill(ctx context.Context) (more []warehouse.Section, err error) {
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	faultpoint.Hit("rebuild/prepared")
	replay := aggregator.StartReplay(ctx, r.replayConfig(), r.Log, r.twins, r.place, r.zap)
	more, err = r.throughReplay(ctx, replay)
	if closed := replay.Close(); err == nil {
		err = closed
	}
	return more, err
}

// throughReplay is what is done while the log is being counted a second time.
func (r *run) throughReplay(ctx context.Context, replay *aggregator.Replay) (more []warehouse.Section, err error) {
	if err := r.catchUp(ctx, replay); err != nil {
		return nil, err
	}
	faultpoint.Hit("rebuild/caught-up")
	before, after := report.New(r.old.Reader(), r.clock), report.New(r.twins.Reader(), r.clock)
	cut, err := r.settle(ctx, replay, before)
	if err != nil {
		return nil, err
	}
	if more, err = r.tainted(ctx, cut); err != nil || len(more) > 0 {
		return more, err
	}
	if err := r.prove(ctx, before, after, cut); err != nil {
		return nil, err
	}
	faultpoint.Hit("rebuild/proved")
	if err := r.exchange(ctx, replay); err != nil {
		return nil, err
	}
	faultpoint.Hit("rebuild/exchanged-all")
	return nil, r.proveAgain(ctx, cut)
}

// migrated refuses tables of another program: the new ones would be of another shape.
func (r *run) migrated(ctx context.Context) error {
	return r.patiently(ctx, "read the migrations", func(ctx context.Context) error {
		all, err := r.old.MigrationStatus(ctx)
		if err != nil {
			return err
		}
		for _, m := range all {
			if !m.Applied() {
				return fmt.Errorf("migration %s is not applied: run countinghouse migrate first", m.Name)
			}
		}
		return nil
	})
}

const (
	connectWait = 5 * time.Second
	// patience is how long a server may be away before a run gives up; what is on disk stays for the next one.
	patience = 2 * time.Minute
	retry    = 200 * time.Millisecond
)

// patiently repeats what can be repeated while a server is away.
func (r *run) patiently(ctx context.Context, what string, do func(context.Context) error) error {
	deadline := time.Now().Add(patience)
	for {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !passing(err) || time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", what, err)
		}
		r.zap.Debug("not done yet", zap.String("what", what), zap.Error(err))
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(retry):
		}
	}
}

func passing(err error) bool {
	return warehouse.Unavailable(err) || errors.Is(err, eventlog.ErrUnavailable) || errors.Is(err, control.ErrUnavailable)
}
