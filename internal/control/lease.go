package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

const (
	bucket       = "LEASES"
	bucketStream = "KV_" + bucket
	bucketPrefix = "$KV." + bucket + "."
	partitionKey = "partition."
	memberKey    = "member."
	// LeaseTTL is how long a lease lives that is not renewed. Renew every third of it.
	LeaseTTL = 5 * time.Second
)

var (
	// ErrHeld: somebody else holds the lease; see HeldError.
	ErrHeld = errors.New("lease held by another")
	// ErrLost: the lease was taken over. Its holder must stop at once.
	ErrLost = errors.New("lease lost to another")
)

// HeldError says who holds a lease, and how long it lives at least if it is not renewed.
type HeldError struct {
	Partition int
	Holder    string
	Left      time.Duration
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("lease of partition %d is held by %s for %s more at least", e.Partition, e.Holder, e.Left.Round(time.Millisecond))
}

// Is makes errors.Is(err, ErrHeld) true.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// Lease is the right to be the one who moves a partition. It is for liveness; safety is the fence in the
// warehouse (I11).
type Lease struct {
	Partition int
	Revision  uint64 // grows with every lease ever given: the floor of the owner's epoch
	renewed   time.Time
}

// Leases gives, renews and watches the leases of one member. Its methods may be used concurrently, but one
// lease is renewed by one goroutine.
//
// A lease is dead when its revision did not change for TTL by the observer's own clock, counted from when
// the observer first saw that revision: no two clocks are ever compared. The holder counts from before it
// sent its last renewal, so its own view ends first.
type Leases struct {
	conn   *eventlog.Conn
	log    *zap.Logger
	area   string // before the names of its leases: "" for those of aggregators
	holder string
	nonce  string // of this process: tells a member from its own predecessor
	ttl    time.Duration
	now    func() time.Time

	mu      sync.Mutex
	seen    map[string]sighting // by key
	kv      jetstream.KeyValue  // nil until the bucket was found
	changed chan struct{}

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// claim is the value of a lease or member key.
type claim struct {
	Holder string `json:"holder"` // "" for a lease that was given back
	Nonce  string `json:"nonce"`
}

// sighting is what an observer knows of a key.
type sighting struct {
	claim
	revision uint64
	since    time.Time // when this revision was first seen here
}

// Leases starts watching. holder names this member and is unique among the living: one that starts under
// the name of another takes its leases at once. ttl 0 is LeaseTTL. It outlives ctx until Close.
func (s *Store) Leases(ctx context.Context, holder string, ttl time.Duration) (*Leases, error) {
	return s.leases(ctx, "", holder, ttl)
}

// RebuildLeases are like Leases, and have nothing to do with them: who may rebuild the warehouse, which is one
// lease, of partition 0.
func (s *Store) RebuildLeases(ctx context.Context, holder string, ttl time.Duration) (*Leases, error) {
	return s.leases(ctx, "rebuild.", holder, ttl)
}

// MonthLeases are the same for who closes months by itself: one lease, of partition 0.
func (s *Store) MonthLeases(ctx context.Context, holder string, ttl time.Duration) (*Leases, error) {
	return s.leases(ctx, "months.", holder, ttl)
}

func (s *Store) leases(ctx context.Context, area, holder string, ttl time.Duration) (*Leases, error) {
	if holder == "" {
		return nil, fmt.Errorf("%w: a member needs a name", ErrInvalid)
	}
	if ttl == 0 {
		ttl = LeaseTTL
	}
	nonce := make([]byte, 8)
	_, _ = rand.Read(nonce) // never fails (Go 1.24)
	l := &Leases{
		conn: s.conn, log: s.log, area: area, holder: holder, nonce: hex.EncodeToString(nonce), ttl: ttl, now: s.now,
		seen: map[string]sighting{}, changed: make(chan struct{}, 1),
	}
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.running.Add(1)
	go func() {
		defer l.running.Done()
		follow(ctx, l.conn, l.log, &leaseFollower{Leases: l})
	}()
	return l, nil
}

// Close stops watching. It gives nothing back: Release and Leave do.
func (l *Leases) Close() {
	l.cancel()
	l.running.Wait()
}

// TTL is how long a lease lives.
func (l *Leases) TTL() time.Duration { return l.ttl }

// Changed signals that some lease or member changed since the last signal was taken.
func (l *Leases) Changed() <-chan struct{} { return l.changed }

// Valid reports whether this process may still believe in the lease: it was renewed less than TTL ago.
func (l *Leases) Valid(lease Lease) bool { return l.now().Sub(lease.renewed) < l.ttl }

// Acquire takes the lease of a partition if it is free, given back, dead, or was this member's before a
// restart. A *HeldError (ErrHeld) says who has it; ErrUnavailable that nobody knows.
func (l *Leases) Acquire(ctx context.Context, partition int) (Lease, error) {
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	key := l.area + partitionKey + strconv.Itoa(partition)
	kv, err := l.bucket(ctx)
	if err != nil {
		return Lease{}, fmt.Errorf("acquire lease: %w", err)
	}
	have, err := l.look(ctx, kv, key)
	if err != nil {
		return Lease{}, fmt.Errorf("acquire lease: %w", err)
	}
	began := l.now()
	if age := began.Sub(have.since); have.Holder != "" && have.Holder != l.holder && age < l.ttl {
		return Lease{}, &HeldError{Partition: partition, Holder: have.Holder, Left: l.ttl - age}
	}
	revision, err := l.claim(ctx, kv, key, have.revision)
	if conflict(err) {
		if have, err = l.look(ctx, kv, key); err != nil {
			return Lease{}, fmt.Errorf("acquire lease: %w", err)
		}
		return Lease{}, &HeldError{Partition: partition, Holder: have.Holder, Left: l.ttl}
	}
	if err != nil {
		return Lease{}, fmt.Errorf("acquire lease: %w: %w", ErrUnavailable, err)
	}
	if have.Holder != "" && have.Nonce != l.nonce {
		l.log.Info("lease taken over", zap.Int("partition", partition), zap.String("from", have.Holder), zap.Uint64("revision", revision))
	}
	return Lease{Partition: partition, Revision: revision, renewed: began}, nil
}

// Renew extends the lease by TTL from now. ErrLost means stop at once; after ErrUnavailable the lease may
// or may not have been extended: try again while Valid, stop when it is not.
func (l *Leases) Renew(ctx context.Context, lease Lease) (Lease, error) {
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	key := l.area + partitionKey + strconv.Itoa(lease.Partition)
	kv, err := l.bucket(ctx)
	if err != nil {
		return lease, fmt.Errorf("renew lease: %w", err)
	}
	began := l.now()
	revision, err := l.claim(ctx, kv, key, lease.Revision)
	if conflict(err) {
		// A renewal whose answer was lost looks like a takeover, but the claim is our own.
		var have sighting
		if have, err = l.look(ctx, kv, key); err != nil {
			return lease, fmt.Errorf("renew lease: %w", err)
		}
		if have.revision <= lease.Revision { // of a replica that does not know the newer one yet: ask again
			return lease, fmt.Errorf("renew lease of partition %d: %w: an outdated answer", lease.Partition, ErrUnavailable)
		}
		if have.Holder != l.holder || have.Nonce != l.nonce {
			return lease, fmt.Errorf("renew lease of partition %d: %w: held by %s", lease.Partition, ErrLost, have.Holder)
		}
		revision, err = l.claim(ctx, kv, key, have.revision)
	}
	if conflict(err) {
		return lease, fmt.Errorf("renew lease of partition %d: %w", lease.Partition, ErrLost)
	}
	if err != nil {
		return lease, fmt.Errorf("renew lease: %w: %w", ErrUnavailable, err)
	}
	return Lease{Partition: lease.Partition, Revision: revision, renewed: began}, nil
}

// Release gives the lease back, so that the next one need not wait for TTL.
func (l *Leases) Release(ctx context.Context, lease Lease) error {
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	kv, err := l.bucket(ctx)
	if err != nil {
		return fmt.Errorf("release lease: %w", err)
	}
	_, err = kv.Update(ctx, l.area+partitionKey+strconv.Itoa(lease.Partition), []byte(`{"holder":"","nonce":""}`), lease.Revision)
	l.conn.Wrote(err)
	if conflict(err) {
		return fmt.Errorf("release lease of partition %d: %w", lease.Partition, ErrLost)
	}
	if err != nil {
		return fmt.Errorf("release lease: %w: %w", ErrUnavailable, err)
	}
	return nil
}

// bounded leaves room for another try within TTL when an answer is lost.
func (l *Leases) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, min(l.ttl/3, callTimeout))
}

// Holders says who holds each partition that is held, as far as this member has heard.
func (l *Leases) Holders() map[int]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	holders := map[int]string{}
	for key, have := range l.seen {
		if digits, ok := strings.CutPrefix(key, l.area+partitionKey); ok && have.Holder != "" && l.now().Sub(have.since) < l.ttl {
			if p, err := strconv.Atoi(digits); err == nil {
				holders[p] = have.Holder
			}
		}
	}
	return holders
}

func (l *Leases) value() []byte {
	b, _ := json.Marshal(claim{Holder: l.holder, Nonce: l.nonce}) // two strings: cannot fail
	return b
}

// claim writes this member's name where revision is the newest; 0 means nothing is there.
func (l *Leases) claim(ctx context.Context, kv jetstream.KeyValue, key string, revision uint64) (got uint64, err error) {
	if revision == 0 {
		got, err = kv.Create(ctx, key, l.value())
	} else {
		got, err = kv.Update(ctx, key, l.value(), revision)
	}
	l.conn.Wrote(err)
	return got, err
}

// look reads a key from the server; its age counts from the first sighting of its revision.
func (l *Leases) look(ctx context.Context, kv jetstream.KeyValue, key string) (sighting, error) {
	entry, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return sighting{}, nil
	}
	if err != nil {
		return sighting{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.note(key, entry.Revision(), entry.Value()), nil
}

// note remembers a sighting. The caller holds l.mu.
func (l *Leases) note(key string, revision uint64, value []byte) sighting {
	have, known := l.seen[key]
	if known && have.revision == revision {
		return have
	}
	have = sighting{revision: revision, since: l.now()}
	if err := json.Unmarshal(value, &have.claim); err != nil {
		l.log.Error("lease bucket holds a value that is no claim", zap.String("key", key), zap.Error(err))
	}
	l.seen[key] = have
	return have
}

func (l *Leases) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	l.mu.Lock()
	kv := l.kv
	l.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	kv, err := l.conn.JetStream().KeyValue(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = makeBucket(ctx, l.conn)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l.mu.Lock()
	l.kv = kv
	l.mu.Unlock()
	return kv, nil
}

func makeBucket(ctx context.Context, conn *eventlog.Conn) (jetstream.KeyValue, error) {
	kv, err := conn.JetStream().CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: bucket, Description: "who owns which partition (internal/control)",
		History: 1, Storage: jetstream.FileStorage, Replicas: conn.Replicas(),
	})
	if errors.Is(err, jetstream.ErrBucketExists) {
		kv, err = conn.JetStream().KeyValue(ctx, bucket)
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", bucket, err)
	}
	return kv, nil
}
