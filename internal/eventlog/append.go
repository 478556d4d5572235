package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/countinghouse/countinghouse/internal/telemetry"
)

// Receipt says where the log holds the bytes. Whether they are on disk by then is the server's setting
// (Durability).
type Receipt struct {
	Partition int
	Seq       uint64
	Duplicate bool // the log had these bytes under this id already
}

const (
	// attemptMax is how long one publish waits for its PubAck before the same bytes are sent again: an
	// answer lost with a connection costs this much, not the whole time-out. The first one is short, so that
	// a full disk, which the server keeps quiet about, is answered within a second.
	attemptFirst = 700 * time.Millisecond
	attemptMax   = 2 * time.Second
	// attemptMoved is attemptMax after a move, until a write is acknowledged: the server we have come to takes no write
	// before an election has ended, and the attempt that is under way then is lost.
	attemptMoved = 700 * time.Millisecond
	retryWait    = 50 * time.Millisecond
)

// gate bounds what waits for acknowledgement.
type gate struct {
	messages, bytes *semaphore.Weighted
	bytesMax        int64
	running         sync.WaitGroup
}

func newGate(messages int, bytes int64) *gate {
	return &gate{messages: semaphore.NewWeighted(int64(messages)), bytes: semaphore.NewWeighted(bytes), bytesMax: bytes}
}

func (g *gate) enter(ctx context.Context, size int64) error {
	if err := g.messages.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("%w: too many appends in flight: %w", ErrUnavailable, err)
	}
	if err := g.bytes.Acquire(ctx, min(size, g.bytesMax)); err != nil {
		g.messages.Release(1)
		return fmt.Errorf("%w: too many bytes in flight: %w", ErrUnavailable, err)
	}
	return nil
}

func (g *gate) leave(size int64) {
	g.bytes.Release(min(size, g.bytesMax))
	g.messages.Release(1)
}

// Append puts a chunk into the log and waits for the receipt, at most PublishTimeout. It sends the same
// bytes under the same id again as long as that can help. After ErrUnavailable they may be in the log or
// not; append them again under the same id. The chunk is not kept.
func (l *Log) Append(ctx context.Context, tenant string, id uuid.UUID, chunk []byte) (Receipt, error) {
	return l.AppendMessage(ctx, tenant, KindChunk, telemetry.Carry(ctx, nil), id, chunk)
}

// AppendMessage is Append for any kind of message, with headers of its own.
func (l *Log) AppendMessage(ctx context.Context, tenant, kind string, header map[string][]string, id uuid.UUID, data []byte) (Receipt, error) {
	if !ValidTenant(tenant) || kind == "" || strings.ContainsAny(kind, ".*> \t\r\n") {
		return Receipt{}, fmt.Errorf("append: tenant %q, kind %q do not make a subject", tenant, kind)
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.PublishTimeout)
	defer cancel()
	if err := l.gate.enter(ctx, int64(len(data))); err != nil {
		return Receipt{}, fmt.Errorf("append: %w", err)
	}
	defer l.gate.leave(int64(len(data)))
	return l.publish(ctx, tenant, kind, header, id, data)
}

// AppendAsync is Append for callers that go on working: it waits only for room among the appends in
// flight, then calls done exactly once, from another goroutine. If it answers an error, done is never
// called. The chunk must not change before done.
func (l *Log) AppendAsync(ctx context.Context, tenant string, id uuid.UUID, chunk []byte, done func(Receipt, error)) error {
	if !ValidTenant(tenant) {
		return fmt.Errorf("append: %q is no tenant name", tenant)
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.PublishTimeout)
	if err := l.gate.enter(ctx, int64(len(chunk))); err != nil {
		cancel()
		return fmt.Errorf("append: %w", err)
	}
	l.gate.running.Add(1)
	go func() {
		defer l.gate.running.Done()
		defer cancel()
		receipt, err := l.publish(ctx, tenant, KindChunk, nil, id, chunk)
		l.gate.leave(int64(len(chunk)))
		done(receipt, err)
	}()
	return nil
}

func (l *Log) publish(ctx context.Context, tenant, kind string, header map[string][]string, id uuid.UUID, data []byte) (Receipt, error) {
	msg := &nats.Msg{Subject: "usage.in." + tenant + "." + kind, Header: nats.Header{}, Data: data}
	for k, v := range header {
		msg.Header[k] = v
	}
	msg.Header[jetstream.MsgIDHeader] = []string{id.String()}
	if l.isFull() {
		return Receipt{}, fmt.Errorf("append: %w: the disk was full a moment ago", ErrFull)
	}
	begun := time.Now()
	for wait := attemptFirst; ; wait = l.conn.mover.attempt() {
		attempt, cancel := context.WithTimeout(ctx, wait)
		// No retry inside: it would not look at our context.
		ack, err := l.conn.js.PublishMsg(attempt, msg, jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil {
			l.conn.Wrote(nil)
			var r Receipt
			if r, err = l.receipt(ctx, msg, ack, begun); err == nil {
				return r, nil
			} // a duplicate that could not be read in time to be compared is one at the next attempt, too
		} else {
			err = l.noPubAck(ctx, err)
		}
		if !errors.Is(err, ErrUnavailable) {
			return Receipt{}, fmt.Errorf("append: %w", err)
		}
		timer := time.NewTimer(retryWait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return Receipt{}, fmt.Errorf("append: %w", err)
		case <-timer.C:
		}
	}
}

// noPubAck is what an attempt without one says of the log.
func (l *Log) noPubAck(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		if fault := l.WriteFault(context.WithoutCancel(ctx)); errors.Is(fault, ErrFull) {
			l.fullAt.Store(time.Now().UnixNano())
			return fault
		}
	}
	l.conn.Wrote(err)
	return l.conn.publishError(err)
}

// receipt trusts a fresh PubAck. A duplicate one says only that the id is known, so the stored bytes are
// read and compared: an id sent twice with different bytes must not confirm the second.
func (l *Log) receipt(ctx context.Context, msg *nats.Msg, ack *jetstream.PubAck, begun time.Time) (Receipt, error) {
	p, ok := partitionOf(ack.Stream)
	if !ok || p >= l.cfg.Partitions {
		return Receipt{}, fmt.Errorf("%w: %s was stored in stream %s", ErrSettings, msg.Subject, ack.Stream)
	}
	r := Receipt{Partition: p, Seq: ack.Sequence, Duplicate: ack.Duplicate}
	if !ack.Duplicate {
		l.confirm(r, begun, msg.Header.Get(jetstream.MsgIDHeader))
		return r, nil
	}
	stored, err := l.Get(ctx, p, ack.Sequence)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Receipt{}, fmt.Errorf("verify duplicate: %w", err)
	}
	if err != nil || !bytes.Equal(stored.Data, msg.Data) || "usage.in."+stored.Tenant+"."+stored.Kind != msg.Subject {
		return Receipt{}, fmt.Errorf("%w: sequence %d of partition %d", ErrIDReused, ack.Sequence, p)
	}
	return r, nil
}

// Error codes of the server, from its errors.json.
const (
	errAccountLimit    = 10002
	errNoResources     = 10023
	errMemoryExceeded  = 10028
	errStorageExceeded = 10047
	errMessageTooLarge = 10054
	errStoreFailed     = 10077
	errInProcess       = 10158 // R3: the same id is being stored, by an attempt that was given up too early
)

func (c *Conn) publishError(err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return c.unavailable(err)
	}
	switch api.ErrorCode {
	case errAccountLimit, errNoResources, errMemoryExceeded, errStorageExceeded:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errStoreFailed:
		if strings.Contains(api.Description, "maximum") || strings.Contains(api.Description, "no space") {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	case errInProcess:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errMessageTooLarge:
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if api.Code >= 500 {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("the log refused: %w", err)
}

const tenantMax = 63

// ValidTenant reports whether s is a tenant name: [a-z0-9][a-z0-9_-]{0,62}. Such a name is safe as a token
// of a subject and as a key of a bucket.
func ValidTenant(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (i == 0 || c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= tenantMax
}
