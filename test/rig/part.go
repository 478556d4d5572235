package rig

import (
	"bytes"
	"context"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// Part is a process that is started again whenever it ends.
type Part struct {
	Name  string
	log   string
	admin string // address of its metrics; a program of ours has one
	start func(context.Context) (*localstack.Process, error)

	mu       sync.Mutex
	proc     *localstack.Process
	armed    []string // environment, or options of strace, of the next life
	doomed   bool     // the present life was armed
	dooms    int      // lives that were armed and have ended
	before   int      // dooms, when the last armed life began
	kills    int      // by Kill, and by a crash point or a tracer that was armed
	crashes  int      // by itself
	expected bool     // the next end is somebody's doing
	between  func()   // called once, before the next life
	stopping bool
	back     chan struct{} // closed and replaced at each start
	ended    chan struct{} // the keeper has gone
}

// keep restarts a process for as long as the test runs.
func (r *Rig) keep(name, log string, proc *localstack.Process, start func(context.Context) (*localstack.Process, error)) *Part {
	p := &Part{Name: name, log: log, start: start, proc: proc, back: make(chan struct{}), ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(r.ctx)
	r.t.Cleanup(func() { p.stop(cancel) })
	go p.keep(ctx, r)
	return p
}

func (p *Part) keep(ctx context.Context, r *Rig) {
	defer close(p.ended)
	for {
		<-p.process().Done()
		p.mu.Lock()
		if p.stopping {
			p.mu.Unlock()
			return
		}
		p.doom()
		if p.expected {
			p.kills++
		} else {
			p.crashes++
			r.t.Logf("%s ended by itself: %v; its log ends\n%s", p.Name, p.proc.Err(), tail(p.log))
		}
		p.expected = false
		between := p.between
		p.between = nil
		p.mu.Unlock()
		if between != nil && !finishes(ctx, between) {
			return
		}
		for !p.again(ctx, r) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond): // as a process manager does
			}
		}
	}
}

// finishes does what comes between two lives; false if the test ends before it: who failed releases nobody.
func finishes(ctx context.Context, between func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		between()
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// slowStart is worth a line in a test's log.
const slowStart = time.Second

// again starts the process; a start that is itself killed counts as a try.
func (p *Part) again(ctx context.Context, r *Rig) bool {
	begun := time.Now()
	proc, err := p.start(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if took := time.Since(begun); took > slowStart {
		r.t.Logf("%s took %s to start: %v", p.Name, took, err)
	}
	if err != nil {
		p.doom()
		if p.expected {
			p.kills++
			p.expected = false
		}
		return false
	}
	if p.stopping { // stop has seen the life before this one only
		proc.Kill()
	}
	p.proc = proc
	close(p.back)
	p.back = make(chan struct{})
	return true
}

func (p *Part) process() *localstack.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proc
}

// Alive reports whether the process runs.
func (p *Part) Alive() bool {
	select {
	case <-p.process().Done():
		return false
	default:
		return true
	}
}

// Kill is kill -9. A part that is dead at the moment is not killed twice.
func (p *Part) Kill() {
	proc := p.process()
	select {
	case <-proc.Done():
		return
	default:
	}
	p.expect()
	proc.Kill()
}

// Interrupt is kill -9, and something is done before the next life: files are damaged, time passes. It
// returns at once; Back tells when the next life has begun.
func (p *Part) Interrupt(between func()) {
	p.mu.Lock()
	p.between = between
	p.mu.Unlock()
	p.Kill()
}

// Halt is Interrupt with an orderly end; an error: it did not end within grace, and was killed.
func (p *Part) Halt(grace time.Duration, between func()) error {
	p.mu.Lock()
	p.between = between
	p.mu.Unlock()
	p.expect()
	return p.process().Stop(grace)
}

// expect notes that the next end is somebody's doing.
func (p *Part) expect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = true
}

// Arm prepares the death of the next life, and of that one only: environment for a program with crash
// points, options of strace for the engine. Kill begins that life.
func (p *Part) Arm(with ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = with
}

// Doom ends the present life and has the next one armed, or the one after it if that is about to begin. It returns when
// the armed life begins, with Dooms as it was then.
func (p *Part) Doom(with ...string) (dooms int) {
	p.Arm(with...)
	for {
		if dooms, begun := p.begun(); begun {
			return dooms
		}
		back := p.Back()
		p.Kill() // a life that is about to begin is not yet there to be killed
		select {
		case <-back:
		case <-p.ended:
			return p.Dooms()
		case <-time.After(doomPause):
		}
	}
}

const doomPause = 20 * time.Millisecond

// begun reports whether a life has taken the arms that were laid out, and Dooms as it was then.
func (p *Part) begun() (dooms int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.before, p.armed == nil
}

// takeArms is what the life that begins now is to die of.
func (p *Part) takeArms() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	armed := p.armed
	p.armed = nil
	if armed != nil {
		p.expected, p.doomed, p.before = true, true, p.dooms
	}
	return armed
}

// doom notes the end of a life; the caller holds the lock.
func (p *Part) doom() {
	if p.doomed {
		p.doomed = false
		p.dooms++
	}
}

// Dooms is how many lives that were armed have ended.
func (p *Part) Dooms() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dooms
}

// Back is closed when the next life has begun.
func (p *Part) Back() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.back
}

// Freeze is SIGSTOP, Thaw SIGCONT; neither is an error for a process that has just died.
func (p *Part) Freeze() { _ = p.process().Signal(syscall.SIGSTOP) }

// Thaw is SIGCONT.
func (p *Part) Thaw() { _ = p.process().Signal(syscall.SIGCONT) }

// Kills is how often the part was killed, Crashes how often it ended by itself.
func (p *Part) Kills() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kills
}

// Crashes is how often the part ended by itself.
func (p *Part) Crashes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.crashes
}

func (p *Part) stop(cancel context.CancelFunc) {
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	cancel()
	_ = p.process().Stop(localstack.StopGrace) // killed after its grace is as good: the test has ended
	<-p.ended
}

// tail is the end of a log file, for an error.
func tail(path string) string {
	const most = 6000 // bytes: a stack of the engine
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const chatter = "Healthcheck failed" // of every attempt, while a server starts
	text = slices.Concat(slices.DeleteFunc(slices.Collect(bytes.Lines(text)), func(line []byte) bool { return bytes.Contains(line, []byte(chatter)) })...)
	return string(text[max(0, len(text)-most):])
}
