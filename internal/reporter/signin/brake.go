package signin

import (
	"sync"
	"time"
)

const (
	brakeFirst   = time.Second // the wait after the first failure too many; each further one doubles it
	brakeMost    = 5 * time.Minute
	brakeForgets = time.Hour // since the last failure
	brakeEntries = 20_000    // in memory, some 3 MB; those of the last half hour go last
	addressTimes = 4         // many operators may come from one address
)

// brake slows guessing down. Every try counts as a failure until it succeeded, so tries at the same time are counted
// as well. It is this reporter's own: behind one address with n reporters a guesser has n times as many.
type brake struct {
	free  int
	now   func() time.Time
	mu    sync.Mutex
	known map[string]*tries
}

type tries struct {
	failures int
	last     time.Time
	until    time.Time
}

func newBrake(free int, now func() time.Time) *brake {
	return &brake{free: free, now: now, known: map[string]*tries{}}
}

// try counts a try of a login from an address. wait is how long they have to wait before it is looked at; 0: now.
func (b *brake) try(login, address string) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	both := []struct {
		key  string
		free int
	}{{"login " + login, b.free}, {"address " + address, addressTimes * b.free}}
	for _, one := range both {
		if t := b.known[one.key]; t != nil && now.Before(t.until) {
			wait = max(wait, t.until.Sub(now))
		}
	}
	if wait > 0 {
		return wait
	}
	for _, one := range both {
		t := b.known[one.key]
		if t == nil || now.Sub(t.last) >= brakeForgets {
			t = &tries{}
			b.makeRoom()
			b.known[one.key] = t
		}
		t.failures++
		t.last = now
		if over := t.failures - one.free; over >= 0 {
			t.until = now.Add(min(brakeMost, brakeFirst<<min(over, 20)))
		}
	}
	return 0
}

// succeeded takes a try back, and all of the login before it.
func (b *brake) succeeded(login, address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.known, "login "+login)
	if t := b.known["address "+address]; t != nil {
		t.failures--
		t.until = time.Time{}
	}
}

// locked reports whether the next try of the login has to wait.
func (b *brake) locked(login string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.known["login "+login]
	return t != nil && b.now().Before(t.until)
}

// makeRoom drops what was not tried for half of brakeForgets, and then some of the others; the caller holds b.mu.
func (b *brake) makeRoom() {
	if len(b.known) < brakeEntries {
		return
	}
	middle := b.now().Add(-brakeForgets / 2)
	for key, t := range b.known {
		if t.last.Before(middle) {
			delete(b.known, key)
		}
	}
	for key := range b.known {
		if len(b.known) < brakeEntries {
			break
		}
		delete(b.known, key)
	}
}
