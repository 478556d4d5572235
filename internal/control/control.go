// Package control is the state that runs the house rather than being counted by it: API keys, tenants,
// closed months, and which aggregator owns which partition.
//
// Keys are events. Every change is one message of the stream CONTROL (subject control.key.<id>) that
// holds the whole new state, who made it and when, written with compare-and-set on the subject's last
// sequence. The last message of a subject is the state; all of them are the audit trail. So a change and
// its trail are one atomic write, and nothing has to be kept in step with a second copy. CONTROL refuses
// deletion and has no limits. Closed months are kept in the same way (subject control.month.<tenant>.<month>),
// so are operators, custom roles, report jobs and schedules. What is changed is told in the tenant's audit log
// (subject control.audit.<tenant>), a chain of hashes.
//
// Leases and members live in the JetStream KV bucket LEASES: they are worth nothing a minute later.
//
// Guarantees:
//
//   - A secret is shown once and stored as its SHA-256 only.
//   - A revoked key is refused everywhere that NATS reaches as soon as the change is delivered, and at the
//     latest one lost connection (4 s) later. While NATS is away, keys that were known stay valid, keys
//     that were not are ErrUnavailable, never "unknown".
//   - Of two writers with the same expectation one loses (ErrConflict, ErrHeld, ErrLost). No decision
//     depends on the wall clocks of two machines agreeing, except a key's date of expiry.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// Failures that callers act on.
var (
	// ErrUnavailable: NATS did not answer, or not yet. A write may have happened; repeating it is safe.
	ErrUnavailable = errors.New("control state unavailable")
	// ErrConflict: somebody else changed the same thing at the same time, again and again.
	ErrConflict = errors.New("changed by somebody else meanwhile")
	// ErrInvalid: the request can never be fulfilled as it is.
	ErrInvalid = errors.New("invalid")
)

const (
	stream       = "CONTROL"
	keySubject   = "control.key."
	controlSubs  = "control.>"
	writeTimeout = 5 * time.Second
	// callTimeout bounds one question to NATS: an answer that was lost with a connection never comes, and
	// the client would wait for it until the caller's own deadline.
	callTimeout   = 2 * time.Second
	firstLoad     = 2 * time.Second // how long a question waits for the first load of the keys
	conflictsMax  = 10
	retryConflict = 20 * time.Millisecond
	lookupsSecond = 20 // questions about unknown keys passed on to NATS: guessing must not load it
)

// Store is the control state. Its methods may be used concurrently.
type Store struct {
	conn    *eventlog.Conn
	log     *zap.Logger
	now     func() time.Time
	lookups *rate.Limiter
	asking  singleflight.Group // lookups under way, by key id

	chaining sync.Mutex // held by who writes to an audit log

	mu     sync.RWMutex
	keys   map[string]record // by id
	ready  chan struct{}     // closed once the keys were loaded
	synced bool              // following right now

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Open starts following the control state and returns at once, NATS up or down. It outlives ctx; the
// caller ends it with Close and keeps the connection.
func Open(ctx context.Context, conn *eventlog.Conn, log *zap.Logger) (*Store, error) {
	s := &Store{
		conn: conn, log: log, now: time.Now, lookups: rate.NewLimiter(lookupsSecond, lookupsSecond),
		keys: map[string]record{}, ready: make(chan struct{}),
	}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		follow(ctx, conn, log, &keyFollower{Store: s})
	}()
	return s, nil
}

// Close stops following.
func (s *Store) Close() {
	s.cancel()
	s.running.Wait()
}

// Ready reports whether the keys are loaded; until then Verify answers ErrUnavailable.
func (s *Store) Ready() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// loaded waits a little for the first load, so that a program just started does not refuse its first
// request.
func (s *Store) loaded(ctx context.Context, wait time.Duration) error {
	if s.Ready() {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case <-timer.C:
		return fmt.Errorf("%w: keys not loaded yet", ErrUnavailable)
	}
}

// ensure makes the stream CONTROL.
func ensure(ctx context.Context, conn *eventlog.Conn) error {
	_, err := conn.JetStream().CreateStream(ctx, jetstream.StreamConfig{
		Name: stream, Description: "API keys and closed months: every change, for ever (internal/control)", Subjects: []string{controlSubs},
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, Replicas: conn.Replicas(),
		DenyDelete: true, DenyPurge: true, AllowDirect: true, Duplicates: 2 * time.Minute,
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("create stream %s: %w", stream, err)
	}
	return nil
}

// last reads the newest message of a subject; sequence 0 when there is none.
func (s *Store) last(ctx context.Context, subject string) (uint64, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	handle, err := s.conn.JetStream().Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = ensure(ctx, s.conn); err == nil {
			return 0, nil, nil
		}
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	msg, err := handle.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return msg.Sequence, msg.Data, nil
}

// write appends doc to subject if expected is still its last sequence, and answers the new one. A lost
// answer is asked for again under the same message id, so it is written once.
func (s *Store) write(ctx context.Context, subject string, expected uint64, doc any) (uint64, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return 0, fmt.Errorf("encode: %w", err)
	}
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{
		jetstream.MsgIDHeader: {uuid.NewString()}, "Content-Type": {"application/json"},
	}}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for {
		attempt, cancel := context.WithTimeout(ctx, callTimeout)
		ack, err := s.conn.JetStream().PublishMsg(attempt, msg, jetstream.WithExpectLastSequencePerSubject(expected), jetstream.WithRetryAttempts(0))
		cancel()
		s.conn.Wrote(err)
		if err == nil {
			s.tell(ctx, subject, data, doc)
			return ack.Sequence, nil
		}
		if conflict(err) {
			return 0, ErrConflict
		}
		var api *jetstream.APIError
		if errors.As(err, &api) && api.Code < 500 {
			return 0, fmt.Errorf("write %s: %w", subject, err)
		}
		if pause(ctx, retryFirst) != nil {
			return 0, fmt.Errorf("%w: write %s: %w", ErrUnavailable, subject, err)
		}
	}
}

// conflict reports whether the server refused because the expected sequence is no longer the last.
func conflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
