// Package jobs makes reports in the background: it keeps what is to be made, makes it, keeps the files, and
// sends them by mail.
//
// A job is control state (internal/control): each change of it is one event with who and when, written with
// compare-and-set. A reporter that works on a job has claimed it in this way, and everything it does to it
// from then on is a change of the state it claimed. So it does not matter how many reporters there are, or
// which of them were thought dead and were not:
//
//   - A job is made once. A reporter that dies is noticed when it no longer beats; another one claims its
//     jobs. What the first one writes after that is refused, and its file is nobody's.
//   - A file is seen when the job says that it is there, which is after all of it was stored, with its SHA-256.
//     A part of one is never seen under its name, nor sent.
//   - The state of the log that a job is about is settled before its first row and kept with it. Its file may
//     be removed, and made again to the same bytes; if they are not the same, the job says so.
//   - A job is made, and sent, with the rights that its owner has at that moment. What they may not have any more is
//     refused, with the reason: no file, no mail.
//   - A mail is noted before and after it is sent. One that was perhaps sent is sent again under the same
//     Message-ID, and marked as repeated.
//
// How long something takes is judged by each reporter's own running clock; no two clocks are compared.
package jobs

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/reporter/guard"
	"github.com/countinghouse/countinghouse/internal/reporter/mail"
)

// Config bounds jobs.
type Config struct {
	Running       int           `koanf:"running" help:"most jobs that this reporter works on at a time"`
	TenantRunning int           `koanf:"tenant_running" help:"most jobs of one tenant that are worked on at a time, by all reporters"`
	TenantWaiting int           `koanf:"tenant_waiting" help:"most jobs of one tenant that wait; more are answered 429"`
	Tries         int           `koanf:"tries" help:"how often a job is tried while a server is away or full, before it failed"`
	RetryFirst    time.Duration `koanf:"retry_first" help:"wait before the second try; doubled with each"`
	RetryMost     time.Duration `koanf:"retry_most" help:"longest wait before another try"`
	Time          time.Duration `koanf:"time" help:"longest time that one try of a job may take"`
	KeepDays      int           `koanf:"keep_days" help:"days that a file is kept, if the job does not say: 1 to 1826"`
	FilesBytes    int64         `koanf:"files_bytes" unit:"bytes" help:"most bytes of all files together, settled when the store is made; 0 is no limit of ours"`
	SweepEvery    time.Duration `koanf:"sweep_every" help:"how often files that were kept long enough are removed"`
	TakeOver      time.Duration `koanf:"take_over" help:"after how long without a sign of life the jobs of a reporter are taken over"`
}

// Limits that no configuration changes.
const (
	KeepDaysMax   = 1826
	RecipientsMax = 20
	nameMax       = 200  // bytes
	textMax       = 2000 // bytes of a description or a parameter
	postingMost   = 4    // jobs whose mails are sent at a time: each holds its file, as it is and as it is sent
)

// DefaultConfig suits a machine of two cores.
func DefaultConfig() Config {
	return Config{
		Running: 2, TenantRunning: 1, TenantWaiting: 100, Tries: 6, RetryFirst: 2 * time.Second, RetryMost: 5 * time.Minute, Time: time.Hour,
		KeepDays: 365, FilesBytes: 20 << 30, SweepEvery: time.Hour, TakeOver: 10 * time.Second,
	}
}

// Validate names everything that cannot work.
func (c *Config) Validate() []error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	want(c.Running > 0, "running: must be positive")
	want(c.TenantRunning > 0, "tenant_running: must be positive")
	want(c.TenantWaiting > 0, "tenant_waiting: must be positive")
	want(c.Tries > 0, "tries: must be positive")
	want(c.RetryFirst > 0 && c.RetryMost >= c.RetryFirst, "retry_first, retry_most: must be positive, the first not longer than the longest")
	want(c.Time > 0, "time: must be positive")
	want(c.KeepDays >= 1 && c.KeepDays <= KeepDaysMax, "keep_days: must be 1 to %d", KeepDaysMax)
	want(c.FilesBytes >= 0, "files_bytes: must not be negative")
	want(c.SweepEvery > 0, "sweep_every: must be positive")
	want(c.TakeOver >= time.Second, "take_over: must be at least 1s")
	return errs
}

// Parts are what jobs are made with.
type Parts struct {
	Reports *report.Reports
	Control *control.Store
	Mail    *mail.Sender
	Now     func() time.Time
	Runs    *prometheus.CounterVec // by result
	Holder  string                 // names this reporter among the living
	// Judge says whether the owner of a job may have it made now; *guard.Refused: not. It is asked when a run of a schedule
	// is due, when a job is begun, before its file is named, and before mails are sent.
	Judge func(context.Context, guard.Made) error
}

// Desk is where jobs are asked for and looked at, and the reporter's share in making them. Its methods may be
// used concurrently. Errors that the asker can do something about are *report.Error.
type Desk struct {
	cfg    Config
	parts  Parts
	log    *zap.Logger
	jobs   *control.Jobs
	files  *control.Files
	alive  *control.Leases
	freed  chan struct{} // a job was let go of
	posts  chan struct{} // one for each job whose mails are being sent
	cancel context.CancelFunc

	running  sync.WaitGroup
	stopping atomic.Bool
	mark     mark // of the loop that looks for work

	mu      sync.Mutex
	active  map[string]*work     // by tenant and id
	sighted map[string]sighting  // of jobs whose turn comes later
	heard   map[string]time.Time // when this reporter first heard of another
}

// Start begins to work on jobs. It outlives ctx until Stop.
func Start(ctx context.Context, cfg Config, parts Parts, log *zap.Logger) (*Desk, error) {
	d := &Desk{
		cfg: cfg, parts: parts, log: log, freed: make(chan struct{}, 1), posts: make(chan struct{}, postingMost),
		active: map[string]*work{}, sighted: map[string]sighting{}, heard: map[string]time.Time{},
	}
	var err error
	if d.alive, err = parts.Control.JobLeases(ctx, parts.Holder, cfg.TakeOver); err != nil {
		return nil, fmt.Errorf("report jobs: %w", err)
	}
	d.jobs = parts.Control.Jobs(ctx)
	d.files = parts.Control.Files(cfg.FilesBytes)
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	d.running.Go(func() { d.beat(ctx) })
	d.running.Go(func() { d.run(ctx) })
	d.running.Go(func() { d.sweep(ctx) })
	return d, nil
}

// Stop gives the jobs it works on back and ends.
func (d *Desk) Stop() {
	d.stopping.Store(true)
	d.cancel()
	d.running.Wait()
	d.jobs.Close()
	d.alive.Close()
}

// beat tells the other reporters that this one lives.
func (d *Desk) beat(ctx context.Context) {
	tick := time.NewTicker(d.cfg.TakeOver / 4)
	defer tick.Stop()
	for {
		if err := d.alive.Beat(ctx); err != nil && ctx.Err() == nil {
			d.log.Debug("no sign of life given", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			if err := d.alive.Leave(context.WithoutCancel(ctx)); err != nil {
				d.log.Debug("not taken off the list of the living; nobody waits for it", zap.Error(err))
			}
			return
		case <-tick.C:
		}
	}
}

func (d *Desk) now() time.Time { return d.parts.Now().UTC().Truncate(time.Millisecond) }
