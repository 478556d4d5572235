package signin

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
)

const (
	brakeFirst   = time.Second // the wait after the first failure too many; each further one doubles it
	brakeMost    = 5 * time.Minute
	brakeForgets = time.Hour // since the last failure
	brakeBusy    = time.Second
	brakeEntries = 20_000 // in memory, some 3 MB; those of the last half hour go last
	addressTimes = 4      // many operators may come from one address
)

// brake slows guessing down. Every try counts as a failure until it succeeded, so tries at the same time are counted
// as well. They are counted by all reporters together, in the control state; each remembers what it saw there, so that
// somebody who has to wait costs no question. While the control state cannot be asked, or has no room, a reporter counts
// by itself.
type brake struct {
	free   int
	now    func() time.Time
	shared *control.Guesses
	log    *zap.Logger
	mu     sync.Mutex
	known  map[string]control.Guess
}

func newBrake(free int, now func() time.Time, shared *control.Guesses, log *zap.Logger) *brake {
	return &brake{free: free, now: now, shared: shared, log: log, known: map[string]control.Guess{}}
}

// braked is a name under which tries are counted.
type braked struct {
	name string
	free int
}

func (b *brake) names(login, address string) []braked {
	return []braked{{loginName(login), b.free}, {addressName(address), addressTimes * b.free}}
}

func loginName(login string) string     { return "login " + login }
func addressName(address string) string { return "address " + address }

// try counts a try of a login from an address. wait is how long they have to wait before it is looked at; 0: now.
func (b *brake) try(ctx context.Context, login, address string) (wait time.Duration) {
	now := b.now()
	both := b.names(login, address)
	for _, one := range both {
		wait = max(wait, b.remembered(one.name).Until.Sub(now))
	}
	for _, one := range both {
		if wait > 0 {
			return wait // what one login has to wait for is not counted against its address
		}
		wait = b.count(ctx, one, now)
	}
	return wait
}

// count counts a try under one name, unless it has to wait.
func (b *brake) count(ctx context.Context, one braked, now time.Time) (wait time.Duration) {
	edit := func(g *control.Guess) bool {
		if wait = max(0, g.Until.Sub(now)); wait > 0 {
			return false
		}
		failed(g, one.free, now)
		return true
	}
	have, err := b.shared.Change(ctx, one.name, edit)
	switch {
	case errors.Is(err, control.ErrConflict): // many reporters are asked about it at this very moment
		return brakeBusy
	case err != nil:
		b.log.Warn("failed sign-ins are counted by this reporter alone", zap.Error(err))
		have = b.remembered(one.name)
		edit(&have)
	}
	b.remember(one.name, have)
	return wait
}

// failed counts a failure.
func failed(g *control.Guess, free int, now time.Time) {
	if now.Sub(g.Last) >= brakeForgets {
		*g = control.Guess{}
	}
	g.Failures++
	g.Last = now.UTC()
	if over := g.Failures - free; over >= 0 {
		g.Until = now.Add(min(brakeMost, brakeFirst<<min(over, 20))).UTC()
	}
}

// succeeded takes a try back, and all of the login before it.
func (b *brake) succeeded(ctx context.Context, login, address string) {
	b.mu.Lock()
	delete(b.known, loginName(login))
	b.mu.Unlock()
	err := b.shared.Forget(ctx, loginName(login))
	back := func(g *control.Guess) bool {
		if g.Failures == 0 {
			return false
		}
		g.Failures--
		g.Until = time.Time{}
		return true
	}
	have, failed := b.shared.Change(ctx, addressName(address), back)
	if failed != nil {
		have = b.remembered(addressName(address))
		back(&have)
	}
	b.remember(addressName(address), have)
	if err = errors.Join(err, failed); err != nil {
		b.log.Warn("a sign-in that succeeded still counts as one that failed", zap.Error(err))
	}
}

// locked reports whether the next try of the login has to wait.
func (b *brake) locked(login string) bool {
	return b.now().Before(b.remembered(loginName(login)).Until)
}

func (b *brake) remembered(name string) control.Guess {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known[name]
}

func (b *brake) remember(name string, g control.Guess) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.known[name]; !known {
		b.makeRoom()
	}
	b.known[name] = g
}

// makeRoom drops what was not tried for half of brakeForgets, and then some of the others; the caller holds b.mu.
func (b *brake) makeRoom() {
	if len(b.known) < brakeEntries {
		return
	}
	middle := b.now().Add(-brakeForgets / 2)
	for name, g := range b.known {
		if g.Last.Before(middle) {
			delete(b.known, name)
		}
	}
	for name := range b.known {
		if len(b.known) < brakeEntries {
			break
		}
		delete(b.known, name)
	}
}
