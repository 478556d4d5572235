package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/control"
)

const shortTTL = 400 * time.Millisecond

func leases(t *testing.T, url, holder string, ttl time.Duration) *control.Leases {
	t.Helper()
	l, err := open(t, url).Leases(t.Context(), holder, ttl)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func acquire(t *testing.T, l *control.Leases, partition int) control.Lease {
	t.Helper()
	var lease control.Lease
	waitFor(t, "the lease is acquired", func() (ok bool) {
		var err error
		lease, err = l.Acquire(within(t), partition)
		return err == nil
	})
	return lease
}

// refuses is the error with which somebody is refused the lease of a partition.
func refuses(t *testing.T, l *control.Leases, partition int) error {
	t.Helper()
	return answered(t, func(ctx context.Context) error { _, err := l.Acquire(ctx, partition); return err })
}

// renew renews a lease, again where no answer came in time.
func renew(t *testing.T, l *control.Leases, lease control.Lease) (control.Lease, error) {
	t.Helper()
	err := answered(t, func(ctx context.Context) (err error) { lease, err = l.Renew(ctx, lease); return err })
	return lease, err
}

func release(t *testing.T, l *control.Leases, lease control.Lease) error {
	t.Helper()
	return answered(t, func(ctx context.Context) error { return l.Release(ctx, lease) })
}

func TestLease(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	a, b := leases(t, n.URL(), "a", time.Hour), leases(t, n.URL(), "b", time.Hour)
	mine := acquire(t, a, 3)
	var held *control.HeldError
	if err := refuses(t, b, 3); !errors.As(err, &held) || !errors.Is(err, control.ErrHeld) || held.Holder != "a" {
		t.Fatalf("Acquire of a held lease = %v, want HeldError", err)
	}
	acquire(t, b, 4)
	renewed, err := renew(t, a, mine)
	if err != nil || renewed.Revision <= mine.Revision || !a.Valid(renewed) {
		t.Fatalf("Renew = %+v, %v", renewed, err)
	}
	waitFor(t, "b hears who holds what", func() bool { return b.Holders()[3] == "a" && b.Holders()[4] == "b" })
	if err := release(t, a, renewed); err != nil && !errors.Is(err, control.ErrLost) { // whose answer did not come is given back already
		t.Fatal(err)
	}
	taken := acquire(t, b, 3)
	if taken.Revision <= renewed.Revision {
		t.Errorf("revision went from %d to %d", renewed.Revision, taken.Revision)
	}
	if _, err := renew(t, a, renewed); !errors.Is(err, control.ErrLost) {
		t.Errorf("Renew of a lease of others = %v, want ErrLost", err)
	}
	if err := release(t, a, renewed); !errors.Is(err, control.ErrLost) {
		t.Errorf("Release of a lease of others = %v, want ErrLost", err)
	}
}

func TestLeaseOfTheDead(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	a, b := leases(t, n.URL(), "a", shortTTL), leases(t, n.URL(), "b", shortTTL)
	first := acquire(t, a, 0)
	taken := acquire(t, b, 0) // a renews no more
	if a.Valid(first) {
		t.Error("a still believes in a lease that b has")
	}
	if _, err := renew(t, a, first); !errors.Is(err, control.ErrLost) {
		t.Errorf("a frozen holder's Renew = %v, want ErrLost", err)
	}
	if taken.Revision <= first.Revision {
		t.Errorf("revision went from %d to %d", first.Revision, taken.Revision)
	}
}

// A lease that is renewed is never taken, however long another waits for it.
func TestLeaseOfTheLiving(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	const ttl = 2 * time.Second
	a, b := leases(t, n.URL(), "a", ttl), leases(t, n.URL(), "b", ttl)
	lease := acquire(t, a, 0)
	tick := time.NewTicker(ttl / 100)
	defer tick.Stop()
	for held, renewed := time.Now(), time.Now(); renewed.Sub(held) < 2*ttl; {
		<-tick.C
		asked := time.Now()
		next, err := a.Renew(within(t), lease)
		if err == nil {
			lease, renewed = next, asked
			var taken control.Lease
			if taken, err = b.Acquire(within(t), 0); errors.Is(err, control.ErrHeld) {
				continue
			} else if err == nil {
				err = b.Release(within(t), taken)
			}
		}
		if errors.Is(err, control.ErrUnavailable) { // no answer in time: it is asked again
			continue
		}
		if time.Since(renewed) < ttl {
			t.Fatalf("a living lease was lost: %v", err)
		}
		lease = acquire(t, a, 0) // this process stood still for as long as a lease lives: once more
		held, renewed = time.Now(), time.Now()
	}
}

func TestLeaseOfAPredecessor(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	old := leases(t, n.URL(), "a", time.Hour)
	before := acquire(t, old, 0)
	var now control.Lease
	successor := leases(t, n.URL(), "a", time.Hour)
	err := answered(t, func(ctx context.Context) (err error) { now, err = successor.Acquire(ctx, 0); return err })
	if err != nil || now.Revision <= before.Revision {
		t.Fatalf("Acquire after a restart = %+v, %v: must be at once", now, err)
	}
	if _, err := renew(t, old, before); !errors.Is(err, control.ErrLost) {
		t.Errorf("the predecessor's Renew = %v, want ErrLost", err)
	}
}

// Many want one lease at once: one gets it.
func TestLeaseRace(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		l := leases(t, n.URL(), fmt.Sprint("m", i), time.Hour)
		wg.Add(1)
		go func() {
			defer wg.Done()
			err := refuses(t, l, 0)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, control.ErrHeld) {
				t.Errorf("Acquire = %v", err)
			}
		}()
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d members got the lease", won)
	}
}

func TestLeaseOverRestart(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	a, b := leases(t, n.URL(), "a", time.Hour), leases(t, n.URL(), "b", time.Hour)
	lease := acquire(t, a, 0)
	n.Stop()
	if _, err := a.Renew(within(t), lease); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("Renew while NATS is down = %v, want ErrUnavailable", err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a renews again", func() (ok bool) {
		renewed, err := a.Renew(within(t), lease)
		if errors.Is(err, control.ErrLost) {
			t.Fatalf("Renew after the restart: %v", err)
		}
		lease = renewed
		return err == nil
	})
	waitFor(t, "b is connected", func() bool {
		_, err := b.Acquire(within(t), 0)
		if err == nil {
			t.Fatal("b took a living lease")
		}
		return errors.Is(err, control.ErrHeld)
	})
}

func TestMembers(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	a, b := leases(t, n.URL(), "host/a.1", shortTTL), leases(t, n.URL(), "host b", time.Hour)
	for _, l := range []*control.Leases{a, b} {
		if err := answered(t, l.Beat); err != nil {
			t.Fatal(err)
		}
	}
	both := []string{"host b", "host/a.1"}
	waitFor(t, "b sees a", func() bool { return slices.Equal(b.Members(), both) })
	waitFor(t, "a sees that b died", func() bool { return slices.Equal(a.Members(), both[1:]) })
	if err := answered(t, a.Leave); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "b sees a leave", func() bool { return slices.Equal(b.Members(), both[:1]) })
	select {
	case <-b.Changed():
	case <-within(t).Done():
		t.Error("no change was signalled")
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	for members := 1; members <= 5; members++ {
		var names []string
		for i := range members {
			names = append(names, fmt.Sprint("m", members-i)) // any order
		}
		for partitions := range 12 {
			seen := map[int]int{}
			least, most := partitions, 0
			for _, me := range names {
				mine := control.Share(names, partitions, me)
				least, most = min(least, len(mine)), max(most, len(mine))
				for _, p := range mine {
					seen[p]++
				}
			}
			if len(seen) != partitions || most-least > 1 {
				t.Errorf("%d members, %d partitions: %d shared, %d to %d each", members, partitions, len(seen), least, most)
			}
		}
	}
	if got := control.Share([]string{"a"}, 3, "b"); got != nil {
		t.Errorf("a stranger's share = %v", got)
	}
}
