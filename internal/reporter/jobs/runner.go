package jobs

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/reporter/guard"
)

// lookEvery is how long a turn that comes by the clock, such as another try, may be overlooked.
const lookEvery = time.Second

// work is a job that this reporter has claimed.
type work struct {
	claims  int // tells it from what others did to the job
	rows    atomic.Int64
	posting atomic.Bool // the file is there
	cancel  context.CancelCauseFunc
}

// sighting is since when this reporter knows that a job waits for its next try.
type sighting struct {
	stage int
	since time.Time
}

// errTaken is why work on a job ends early, if not because the reporter stops.
var errTaken = errors.New("the job was cancelled, or taken over by another reporter")

func key(j *control.Job) string { return j.Tenant + "/" + j.ID }

// run looks for work whenever something changed.
func (d *Desk) run(ctx context.Context) {
	changed, stop := d.jobs.Watch()
	defer stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		d.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-d.freed:
		case <-tick.C:
		}
	}
}

// look lets go of jobs that are no longer this reporter's, and begins those whose turn it is.
func (d *Desk) look(ctx context.Context) {
	open, err := d.jobs.Open(ctx, "")
	if err != nil {
		return // not known yet; work that was begun goes on, and is refused if it may not
	}
	d.release(open)
	tenants := d.busy(open)
	for i := range open {
		j := &open[i]
		if !j.Unsent() && d.full() {
			continue
		}
		if !d.due(ctx, j, tenants[j.Tenant]) {
			continue
		}
		if j.State != control.JobDone {
			tenants[j.Tenant]++
		}
		d.begin(ctx, *j)
	}
}

// full reports whether this reporter makes as many files as it may. Mails wait for servers: they do not count.
func (d *Desk) full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	making := 0
	for _, w := range d.active {
		if !w.posting.Load() {
			making++
		}
	}
	return making >= d.cfg.Running
}

// release cancels work on jobs that somebody cancelled or took.
func (d *Desk) release(open []control.Job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	mine := map[string]bool{}
	waiting := map[string]bool{}
	for i := range open {
		j := &open[i]
		waiting[key(j)] = true
		if w := d.active[key(j)]; w != nil && j.Runner == d.parts.Holder && j.Claims == w.claims || w != nil && j.Claims < w.claims {
			mine[key(j)] = true // or what is known is older than the claim
		}
	}
	for name, w := range d.active {
		if !mine[name] {
			w.cancel(errTaken)
		}
	}
	for name := range d.sighted {
		if !waiting[name] {
			delete(d.sighted, name)
		}
	}
}

// busy counts the jobs of each tenant that are being made, here or elsewhere.
func (d *Desk) busy(open []control.Job) map[string]int {
	tenants := map[string]int{}
	for i := range open {
		if open[i].State == control.JobRunning && d.lives(open[i].Runner) {
			tenants[open[i].Tenant]++
		}
	}
	return tenants
}

// lives reports whether a reporter gave a sign of life lately, by this one's clock. One that this reporter
// hears of for the first time gets as long as everyone: its last sign may not have been read yet.
func (d *Desk) lives(holder string) bool {
	if holder == d.parts.Holder {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	first, known := d.heard[holder]
	if !known {
		first = time.Now()
		d.heard[holder] = first
	}
	return time.Since(first) < d.cfg.TakeOver || slices.Contains(d.alive.Members(), holder)
}

// due reports whether a job may be begun by this reporter now.
func (d *Desk) due(ctx context.Context, j *control.Job, busy int) bool {
	d.mu.Lock()
	mine := d.active[key(j)] != nil
	d.mu.Unlock()
	switch {
	case mine:
		return false
	case j.State == control.JobRunning:
		return !d.lives(j.Runner) || j.Runner == d.parts.Holder // the latter: a claim whose answer was lost
	case j.State == control.JobDone: // mails
		if j.Runner != "" && j.Runner != d.parts.Holder && d.lives(j.Runner) {
			return false
		}
		cfg := d.parts.Mail.Config()
		return d.waited(j, mailTries(j), cfg.RetryFirst, cfg.RetryMost)
	case busy >= d.cfg.TenantRunning:
		return false
	case !d.waited(j, j.Tries, d.cfg.RetryFirst, d.cfg.RetryMost):
		return false
	}
	return d.counted(ctx, j.After)
}

// waited reports whether a job has waited long enough since its last try failed.
func (d *Desk) waited(j *control.Job, tries int, first, most time.Duration) bool {
	if tries == 0 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	have, known := d.sighted[key(j)]
	if !known || have.stage != tries {
		have = sighting{tries, time.Now()}
		d.sighted[key(j)] = have
	}
	wait := most
	if tries < 32 {
		wait = min(first<<(tries-1), most)
	}
	return time.Since(have.since) >= wait
}

// counted reports whether everything that was recorded until then is counted.
func (d *Desk) counted(ctx context.Context, after time.Time) bool {
	if after.IsZero() {
		return true
	}
	if d.mark.asked.IsZero() || time.Since(d.mark.asked) >= lookEvery/2 {
		w, err := d.parts.Reports.Watermark(ctx)
		if err != nil {
			return false
		}
		d.mark = mark{time.Now(), int64(w.At)}
	}
	return d.mark.at >= after.UnixMilli()
}

// mark is up to when everything is counted, as it was a moment ago: many jobs may wait for it.
type mark struct {
	asked time.Time
	at    int64 // Unix ms
}

// begin claims a job and works on it in the background.
func (d *Desk) begin(ctx context.Context, j control.Job) {
	now := d.now()
	j.Runner, j.Claims = d.parts.Holder, j.Claims+1
	change := "mailing"
	if j.State != control.JobDone {
		if j.Tries >= d.cfg.Tries { // the reporters that tried it died over it
			j.State, j.Error, j.EndedAt, j.Runner = control.JobFailed, "the reporter ended while it worked on the job, again and again", now, ""
			d.runs("failed")
			d.settle(ctx, j, "failed")
			return
		}
		change, j.State, j.StartedAt, j.Tries = "begun", control.JobRunning, now, j.Tries+1
	}
	// A reporter that stops hears what became of its claim: one that it does not know of it cannot give back.
	claiming, heard := outliving(ctx, stopWait)
	claimed, err := d.parts.Control.ChangeJob(claiming, j, change, d.parts.Holder, now)
	heard()
	if err != nil {
		if !errors.Is(err, control.ErrConflict) {
			d.log.Debug("job not claimed", zap.String("job", j.ID), zap.Error(err))
		}
		return
	}
	w := &work{claims: claimed.Claims}
	ctx, w.cancel = context.WithCancelCause(ctx)
	d.mu.Lock()
	d.active[key(&j)] = w
	d.mu.Unlock()
	d.jobs.Put(claimed)
	d.running.Go(func() {
		defer func() {
			w.cancel(nil)
			d.mu.Lock()
			delete(d.active, key(&j))
			d.mu.Unlock()
			select {
			case d.freed <- struct{}{}:
			default:
			}
		}()
		d.work(ctx, claimed, w)
	})
}

// work makes the file of a job, if it has none, and sends its mails.
func (d *Desk) work(ctx context.Context, j control.Job, w *work) {
	if j.State == control.JobRunning {
		making, cancel := context.WithTimeout(ctx, d.cfg.Time)
		file, cut, err := d.make(making, &j, w)
		cancel()
		if !d.ended(ctx, &j, file, cut, err) {
			return
		}
	}
	if j.Unsent() {
		w.posting.Store(true)
		select {
		case d.posts <- struct{}{}:
			d.post(ctx, j)
			<-d.posts
		case <-ctx.Done(): // who has the job next sends them
		}
	}
}

// ended writes how a try ended; false where nothing is left to do.
func (d *Desk) ended(ctx context.Context, j *control.Job, file *control.JobFile, cut *control.JobCut, err error) bool {
	last := context.WithoutCancel(ctx)
	now := d.now()
	if cut != nil {
		j.Cut = cut
	}
	change, result := "done", "ok"
	var bad *report.Error
	var refused *guard.Refused
	switch {
	case errors.Is(context.Cause(ctx), errTaken):
		return false
	case errors.As(err, &refused):
		change, result = "refused", "refused"
		j.State, j.EndedAt, j.Runner, j.Error = control.JobRefused, now, "", refused.Reason
	case err == nil:
		j.State, j.File, j.EndedAt, j.Error, j.Parameter = control.JobDone, file, now, "", ""
		if !j.Unsent() {
			j.Runner = ""
		}
	case ctx.Err() != nil: // the reporter stops: it was no try
		change, result = "given back", ""
		j.State, j.Tries, j.Runner = control.JobQueued, j.Tries-1, ""
	case final(err, &bad), j.Tries >= d.cfg.Tries:
		change, result = "failed", "failed"
		j.State, j.EndedAt, j.Runner, j.Error = control.JobFailed, now, "", reason(err)
		if bad != nil {
			result, j.Parameter, j.Error = "refused", bad.Parameter, bad.Detail
		}
	default:
		change, result = "put off", "retried"
		j.State, j.Runner, j.Error = control.JobQueued, "", reason(err)
	}
	if err != nil && change != "given back" {
		d.log.Warn("report job not made", zap.String("job", j.ID), zap.String("state", string(j.State)), zap.Int("tries", j.Tries), zap.Error(err))
	}
	written := d.settle(last, *j, change)
	if written == nil {
		if file != nil {
			d.dropUnnamed(last, j, file)
		}
		return false
	}
	if result != "" {
		d.runs(result)
	}
	*j = *written
	return err == nil
}

func (d *Desk) runs(result string) { d.parts.Runs.WithLabelValues(result).Inc() }

// settleTries bounds how often the end of a try is written again while NATS is away: its file is there, and
// whoever takes the job over makes the same one.
const settleTries = 3

// stopWait bounds one last write of a reporter that stops.
const stopWait = 2 * time.Second

// outliving is a context that ends a while after the other one does.
func outliving(ctx context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(while)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
}

// settle writes a state of a job that this reporter has claimed; nil where it is no longer its own.
func (d *Desk) settle(ctx context.Context, j control.Job, change string) *control.Job {
	if d.stopping.Load() { // the process has seconds; whoever takes over does it again
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, stopWait)
		defer cancel()
	}
	for try := range settleTries {
		if try > 0 && d.stopping.Load() {
			return nil
		}
		written, err := d.parts.Control.ChangeJob(ctx, j, change, d.parts.Holder, d.now())
		if err == nil {
			d.jobs.Put(written)
			return &written
		}
		if errors.Is(err, control.ErrConflict) {
			// Perhaps by this reporter itself, whose answer was lost.
			if have, err := d.parts.Control.Job(ctx, j.Tenant, j.ID); try > 0 && err == nil && have.Claims == j.Claims && have.State == j.State {
				d.jobs.Put(have)
				return &have
			}
			return nil
		}
		d.log.Warn("state of a job not written", zap.String("job", j.ID), zap.String("change", change), zap.Error(err))
	}
	return nil
}
