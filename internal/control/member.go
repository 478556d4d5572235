package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// Beat tells the others that this member lives. Call it every third of TTL.
func (l *Leases) Beat(ctx context.Context) error {
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	kv, err := l.bucket(ctx)
	if err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	_, err = kv.Put(ctx, l.memberName(), l.value())
	l.conn.Wrote(err)
	if err != nil {
		return fmt.Errorf("beat: %w: %w", ErrUnavailable, err)
	}
	return nil
}

// Leave tells the others that this member is going.
func (l *Leases) Leave(ctx context.Context) error {
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	kv, err := l.bucket(ctx)
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if err := kv.Delete(ctx, l.memberName()); err != nil {
		return fmt.Errorf("leave: %w: %w", ErrUnavailable, err)
	}
	return nil
}

// Members lists who lives, this member included, sorted.
func (l *Leases) Members() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	members := []string{l.holder}
	for key, have := range l.seen {
		if strings.HasPrefix(key, l.area+memberKey) && have.Holder != l.holder && l.now().Sub(have.since) < l.ttl {
			members = append(members, have.Holder)
		}
	}
	slices.Sort(members)
	return members
}

// Share is which of n partitions belong to me when members share them fairly: every partition belongs to
// exactly one member, and no member has two more than another. Nil if me is not among them.
func Share(members []string, n int, me string) []int {
	members = slices.Compact(slices.Sorted(slices.Values(members)))
	at := slices.Index(members, me)
	if at < 0 {
		return nil
	}
	var mine []int
	for p := at; p < n; p += len(members) {
		mine = append(mine, p)
	}
	return mine
}

// memberName is the key of this member: names may hold what keys may not.
func (l *Leases) memberName() string {
	sum := sha256.Sum256([]byte(l.holder))
	return l.area + memberKey + hex.EncodeToString(sum[:16])
}

// leaseFollower feeds Leases.seen.
type leaseFollower struct{ *Leases }

func (f *leaseFollower) source() (string, string) { return bucketStream, bucketPrefix + ">" }

func (f *leaseFollower) ensure(ctx context.Context, conn *eventlog.Conn) error {
	f.mu.Lock()
	f.kv = nil // somebody removed the bucket
	f.mu.Unlock()
	_, err := makeBucket(ctx, conn)
	return err
}

// begin keeps what was seen, but makes no claim older than half a TTL: while NATS was away nobody could
// renew, and who holds a partition should get to before it is taken from it.
func (f *leaseFollower) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	least := f.now().Add(-f.ttl / 2)
	for key, have := range f.seen {
		if have.since.Before(least) {
			have.since = least
			f.seen[key] = have
		}
	}
}

func (f *leaseFollower) apply(subject string, revision uint64, operation string, data []byte) {
	key := strings.TrimPrefix(subject, bucketPrefix)
	f.mu.Lock()
	if operation != "" { // deleted
		delete(f.seen, key)
	} else {
		f.note(key, revision, data)
	}
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *leaseFollower) synced() {}

func (f *leaseFollower) lost() {}
