package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// kept is the last message of every subject below a prefix of CONTROL, held in memory and kept up to date.
type kept[T any] struct {
	log    *zap.Logger
	prefix string
	decode func(revision uint64, data []byte) (T, error)
	name   func(T) (subject string, revision uint64)

	mu       sync.Mutex
	items    map[string]T // by subject
	fresh    map[string]T // of these, what this process wrote since it follows no more: what is loaded may be from before; nil: it follows
	ready    chan struct{}
	watchers map[int]chan struct{}
	next     int

	cancel  context.CancelFunc
	running sync.WaitGroup
}

func keep[T any](ctx context.Context, s *Store, prefix string, decode func(uint64, []byte) (T, error), name func(T) (string, uint64)) *kept[T] {
	k := &kept[T]{
		log: s.log, prefix: prefix, decode: decode, name: name, items: map[string]T{}, fresh: map[string]T{}, ready: make(chan struct{}),
		watchers: map[int]chan struct{}{},
	}
	ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // Close calls it
	k.running.Go(func() { follow(ctx, s.conn, s.log, &keptFollower[T]{kept: k}) })
	return k
}

// Close stops following.
func (k *kept[T]) Close() {
	k.cancel()
	k.running.Wait()
}

// Watch signals on the channel that something changed since its last signal was taken, until stop is called.
func (k *kept[T]) Watch() (changed <-chan struct{}, stop func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, c := k.next, make(chan struct{}, 1)
	k.next++
	k.watchers[n] = c
	return c, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.watchers, n)
	}
}

// Ready reports whether everything was loaded once.
func (k *kept[T]) Ready() bool {
	select {
	case <-k.ready:
		return true
	default:
		return false
	}
}

func (k *kept[T]) all(ctx context.Context, want func(T) bool) ([]T, error) {
	timer := time.NewTimer(firstLoad)
	defer timer.Stop()
	select {
	case <-k.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case <-timer.C:
		return nil, fmt.Errorf("%w: not loaded yet", ErrUnavailable)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	all := []T{}
	for _, one := range k.items {
		if want(one) {
			all = append(all, one)
		}
	}
	return all, nil
}

// put keeps a newer state of an item. What a process wrote itself it knows at once.
func (k *kept[T]) put(one T) {
	subject, revision := k.name(one)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fresh != nil && k.older(k.fresh, subject, revision) {
		k.fresh[subject] = one
	}
	if k.older(k.items, subject, revision) {
		k.items[subject] = one
		k.signal()
	}
}

// older reports whether what is in a map is from before a revision.
func (k *kept[T]) older(in map[string]T, subject string, revision uint64) bool {
	have, known := in[subject]
	if !known {
		return true
	}
	_, at := k.name(have)
	return at < revision
}

// signal never waits: a signal that was not taken yet says the same. The caller holds k.mu.
func (k *kept[T]) signal() {
	for _, c := range k.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// keptFollower feeds a kept.
type keptFollower[T any] struct {
	*kept[T]
	loading map[string]T // from begin to synced
}

func (f *keptFollower[T]) source() (string, string) { return stream, f.prefix + ">" }

func (f *keptFollower[T]) ensure(ctx context.Context, conn *eventlog.Conn) error {
	return ensure(ctx, conn)
}

func (f *keptFollower[T]) begin() { f.loading = map[string]T{} }

func (f *keptFollower[T]) apply(subject string, revision uint64, _ string, data []byte) {
	one, err := f.decode(revision, data)
	if name, _ := f.name(one); err != nil || name != subject {
		f.log.Error("control state holds a message that belongs elsewhere", zap.String("subject", subject), zap.Uint64("seq", revision), zap.Error(err))
		return
	}
	if f.loading != nil {
		f.loading[subject] = one
		return
	}
	f.put(one)
}

func (f *keptFollower[T]) synced() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for subject, one := range f.fresh {
		if _, revision := f.name(one); f.older(f.loading, subject, revision) {
			f.loading[subject] = one
		}
	}
	f.items, f.loading, f.fresh = f.loading, nil, nil
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
	f.signal()
}

func (f *keptFollower[T]) lost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fresh == nil {
		f.fresh = map[string]T{}
	}
}
