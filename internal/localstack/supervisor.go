package localstack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// A part that was killed from outside is back well within a second, however often that
	// happens. One that keeps ending by itself is started ever more slowly.
	restartPause    = 50 * time.Millisecond
	restartPauseMax = 5 * time.Second
	steadyAfter     = 5 * time.Second // having lived this long, a part counts as healthy again

	stopMin = 500 * time.Millisecond // grace for the last parts when the first took it all
)

// Supervisor keeps parts running: a part that ends without having been told to is started
// again with the same arguments.
type Supervisor struct {
	log      *zap.Logger
	onChange func(pids map[string]int)

	telling sync.Mutex // orders the calls of onChange

	mu       sync.Mutex
	parts    []*supervised // in the order they were started
	stopping bool
	cancel   []context.CancelFunc
	keepers  sync.WaitGroup
}

type supervised struct {
	part Part
	proc *Process
}

// NewSupervisor returns a supervisor of nothing. onChange, if not nil, is told the process ids
// of all parts whenever one of them changed; calls never overlap.
func NewSupervisor(log *zap.Logger, onChange func(pids map[string]int)) *Supervisor {
	return &Supervisor{log: log, onChange: onChange}
}

// Start starts a part, waits until it is ready, and keeps it running from then on. ctx bounds
// the start only. Parts are stopped in the reverse of the order they were started in.
func (s *Supervisor) Start(ctx context.Context, part Part) error {
	entry := &supervised{part: part}
	if err := s.spawn(entry, true); err != nil {
		return err
	}
	proc := s.process(entry)
	if err := proc.AwaitReady(ctx); err != nil {
		s.forget(entry)
		proc.Kill()
		return err
	}
	s.log.Info("part started", zap.String("part", part.Name), zap.Int("pid", proc.PID()))
	keepCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.mu.Lock()
	if s.stopping { // Stop has the process already and waits for no keeper
		s.mu.Unlock()
		cancel()
		return errStopping
	}
	s.cancel = append(s.cancel, cancel)
	s.keepers.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.keepers.Done()
		s.keep(keepCtx, entry)
	}()
	s.tell()
	return nil
}

// errStopping is returned by spawn when no part may be started any more.
var errStopping = errors.New("supervisor is stopping")

// spawn starts the process of entry, unless Stop was called: it then misses none.
func (s *Supervisor) spawn(entry *supervised, first bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return errStopping
	}
	proc, err := spawn(entry.part)
	if err != nil {
		return err
	}
	entry.proc = proc
	if first {
		s.parts = append(s.parts, entry)
	}
	return nil
}

func (s *Supervisor) forget(entry *supervised) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = slices.DeleteFunc(s.parts, func(e *supervised) bool { return e == entry })
}

func (s *Supervisor) process(entry *supervised) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return entry.proc
}

// keep starts a part again whenever it ends, until ctx does.
func (s *Supervisor) keep(ctx context.Context, entry *supervised) {
	failures := 0 // ends in a row that were the part's own doing
	for {
		proc, since := s.process(entry), time.Now()
		select {
		case <-proc.Done():
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return
		}
		if proc.Killed() || time.Since(since) > steadyAfter {
			failures = 0
		} else {
			failures++
		}
		s.log.Warn("part ended; starting it again", zap.String("part", entry.part.Name),
			zap.Int("pid", proc.PID()), zap.Duration("lived", time.Since(since)), zap.Error(proc.Err()))
		s.restart(ctx, entry, failures)
	}
}

// restart tries until the part is ready or ctx ends.
func (s *Supervisor) restart(ctx context.Context, entry *supervised, failures int) {
	for ; ; failures++ {
		pause := time.NewTimer(min(restartPause<<min(failures, 10), restartPauseMax))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		err := s.spawn(entry, false)
		if errors.Is(err, errStopping) {
			return
		}
		if err == nil {
			s.tell()
			proc := s.process(entry)
			if err = proc.AwaitReady(ctx); err == nil {
				s.log.Info("part is back", zap.String("part", entry.part.Name), zap.Int("pid", proc.PID()))
				return
			}
			if ctx.Err() != nil {
				return // Stop ends the process
			}
			killed := proc.Killed()
			proc.Kill()
			if killed {
				failures = -1 // killed while it was starting: not its doing
			}
		}
		s.log.Error("part not started; trying again", zap.String("part", entry.part.Name), zap.Error(err))
	}
}

// PIDs are the process ids of all parts by name.
func (s *Supervisor) PIDs() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	pids := make(map[string]int, len(s.parts))
	for _, e := range s.parts {
		pids[e.part.Name] = e.proc.PID()
	}
	return pids
}

func (s *Supervisor) tell() {
	s.telling.Lock()
	defer s.telling.Unlock()
	if s.onChange != nil {
		s.onChange(s.PIDs())
	}
}

// Stop ends all parts, the last started first, and returns when they are gone, at the latest
// after about `within`. The error names the parts that had to be killed.
func (s *Supervisor) Stop(within time.Duration) error {
	deadline := time.Now().Add(within)
	s.mu.Lock()
	s.stopping = true
	parts := slices.Clone(s.parts)
	for _, cancel := range s.cancel {
		cancel()
	}
	s.mu.Unlock()
	s.keepers.Wait()
	var errs []error
	for i, e := range slices.Backward(parts) {
		// Each may take what is left but a little for every part still to come.
		grace := max(stopMin, time.Until(deadline)-time.Duration(i)*stopMin)
		if err := s.process(e).Stop(grace); err != nil {
			errs = append(errs, err)
		}
		s.log.Info("part stopped", zap.String("part", e.part.Name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop parts: %w", err)
	}
	return nil
}
