package eventlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Gap is a run of sequences that the log does not have (any more). It was confirmed by a second read.
type Gap struct{ From, To uint64 }

// BehindError: the last sequence of the log is below what was read from it before. After a power cut of
// a server with lazy sync that is what lost data looks like; it can also be a leader that is still
// catching up, so wait a little before believing it (I14).
type BehindError struct {
	Partition int
	Next      uint64 // the sequence that would have been read next
	Last      uint64 // the last the log has
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("partition %d of the log went back: it ends at %d, %d was read already", e.Partition, e.Last, e.Next-1)
}

// RecreatedError: the stream is another one than before. Its sequences mean something else.
type RecreatedError struct {
	Partition int
	Was, Is   time.Time // creation times
	Last      uint64
}

func (e *RecreatedError) Error() string {
	return fmt.Sprintf("partition %d of the log was made anew: created %s, was %s", e.Partition, e.Is.Format(time.RFC3339Nano), e.Was.Format(time.RFC3339Nano))
}

// ChangedError: the log holds another message at a sequence that was read before. It lost its end, and
// grew again with something else (a power cut of a server with lazy sync, a restored backup).
type ChangedError struct {
	Partition int
	Seq       uint64
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("partition %d of the log was changed: %d is not the message that was read", e.Partition, e.Seq)
}

// ReadOptions bound and check a reader.
type ReadOptions struct {
	// BytesMax is how many bytes may be fetched ahead of the caller. 8 MiB keeps a reader busy at 100 k
	// chunks a second over loopback. Bytes, not messages: 10,000 chunks of 30 KB would overrun the server's
	// send buffer and fall to a crawl.
	BytesMax int
	// Created is the creation time the stream must have; zero takes the first one seen.
	Created time.Time
	// Hash is that of the message before the first one to read; zero is not checked.
	Hash [16]byte
}

const (
	readBytes = 8 << 20
	// idleCheck is how often a reader that gets nothing asks whether the log went back or was replaced.
	idleCheck = 5 * time.Second
	// A consumer that nobody asks is forgotten by the server; the reader makes another.
	consumerIdle  = 30 * time.Second
	pullExpiry    = 10 * time.Second
	pullHeartbeat = time.Second // two missing heartbeats: the consumer is gone
	reopenFirst   = 50 * time.Millisecond
	reopenMost    = time.Second
)

// Reader reads one partition in order. It is for one goroutine; Close may be called from any.
//
// It survives restarts of NATS, lost connections and lost messages: it holds no state but the next
// sequence, and makes a new consumer from there whenever anything looks odd.
type Reader struct {
	log       *Log
	partition int
	next      uint64
	last      [16]byte // hash of the message at next-1; zero: not known, or the log has none there
	opts      ReadOptions
	remove    func()

	consumerSeq uint64   // of the last delivery; the consumer counts its deliveries without holes
	pending     *Message // behind a gap that was answered first
	delivered   bool     // since the consumer was made
	pause       time.Duration
	heard       time.Time // of the log: a message, or what it said of itself

	mu     sync.Mutex
	iter   jetstream.MessagesContext
	closed bool
}

// Read starts reading partition at sequence from (1 is the first). It does not wait for NATS.
func (l *Log) Read(partition int, from uint64, opts ReadOptions) (*Reader, error) {
	if err := l.valid(partition); err != nil {
		return nil, err
	}
	if from == 0 {
		return nil, fmt.Errorf("read partition %d: sequences start at 1", partition)
	}
	set(&opts.BytesMax, readBytes)
	r := &Reader{log: l, partition: partition, next: from, last: opts.Hash, opts: opts}
	r.remove = l.conn.OnConnect(r.stop) // the server forgot the consumer, or may have
	return r, nil
}

// Close ends the reader; a Next that waits answers ErrClosed.
func (r *Reader) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.remove()
	r.stop()
}

// Position is the sequence Next will answer next.
func (r *Reader) Position() uint64 { return r.next }

// Created is the creation time of the stream being read; zero before the first contact.
func (r *Reader) Created() time.Time { return r.opts.Created }

// Next answers the next message, or the gap in its place: exactly one of the three results is set. It
// waits for as long as ctx allows, through any outage. The error is ctx's own, ErrClosed, a *BehindError,
// a *ChangedError or a *RecreatedError; after each but ErrClosed Next may be called again and looks anew.
func (r *Reader) Next(ctx context.Context) (*Message, *Gap, error) {
	for {
		if m := r.pending; m != nil {
			r.pending = nil
			r.next, r.last = m.Seq+1, m.Hash
			return m, nil, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		iter, err := r.iterator(ctx)
		if err != nil {
			if fatal(err) {
				return nil, nil, err
			}
			if err := r.wait(ctx, "log not readable; retrying", err); err != nil {
				return nil, nil, err
			}
			continue
		}
		msg, err := r.fetch(ctx, iter)
		if err != nil {
			return nil, nil, err
		}
		if msg == nil {
			continue
		}
		m, gap, err := r.take(ctx, msg)
		if m != nil || gap != nil || err != nil {
			return m, gap, err
		}
	}
}

func fatal(err error) bool {
	var behind *BehindError
	var changed *ChangedError
	var recreated *RecreatedError
	return errors.Is(err, ErrClosed) || errors.As(err, &behind) || errors.As(err, &changed) || errors.As(err, &recreated)
}

// fetch waits for a delivery. No message and no error means: look anew.
func (r *Reader) fetch(ctx context.Context, iter jetstream.MessagesContext) (jetstream.Msg, error) {
	// Counted over calls: a caller that waits a second at a time must not keep the check from happening.
	idle, cancel := context.WithDeadline(ctx, r.heard.Add(idleCheck))
	msg, err := iter.Next(jetstream.NextContext(idle))
	quiet := idle.Err() != nil
	cancel()
	switch {
	case err == nil:
		return msg, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case quiet:
		r.heard = time.Now()
		asking, cancel := context.WithTimeout(ctx, callTimeout)
		_, err := r.check(asking)
		cancel()
		if fatal(err) {
			r.stop()
			return nil, err
		}
		return nil, nil
	}
	r.stop()
	if errors.Is(err, jetstream.ErrMsgIteratorClosed) && r.delivered {
		return nil, nil // stopped by a reconnect
	}
	return nil, r.wait(ctx, "reading was interrupted; going on where it was", err)
}

// take turns a delivery into a message or a gap, or into nothing when it does not fit what came before.
func (r *Reader) take(ctx context.Context, msg jetstream.Msg) (*Message, *Gap, error) {
	meta, err := msg.Metadata()
	if err != nil || meta.Sequence.Consumer != r.consumerSeq+1 || meta.Sequence.Stream < r.next {
		r.stop() // lost on the way, not in the log
		return nil, nil, nil
	}
	r.consumerSeq++
	r.delivered, r.pause, r.heard = true, 0, time.Now()
	m := newMessage(r.partition, meta.Sequence.Stream, meta.Timestamp, msg.Subject(), msg.Headers(), msg.Data())
	if m.Seq == r.next {
		r.next, r.last = m.Seq+1, m.Hash
		return &m, nil, nil
	}
	first, err := r.log.get(ctx, r.partition, getRequest{Seq: r.next, Next: ">"})
	if err != nil || first.Seq != m.Seq {
		r.stop()
		return nil, nil, r.wait(ctx, "a gap in the log was not confirmed; reading again", err)
	}
	gap := &Gap{From: r.next, To: m.Seq - 1}
	r.log.log.Error("the log has a gap", zap.Int("partition", r.partition), zap.Uint64("from", gap.From), zap.Uint64("to", gap.To))
	r.next, r.last, r.pending = m.Seq, [16]byte{}, &m
	return nil, gap, nil
}

// iterator is the running one, or a new one from r.next.
func (r *Reader) iterator(ctx context.Context) (jetstream.MessagesContext, error) {
	r.mu.Lock()
	iter, closed := r.iter, r.closed
	r.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if iter != nil {
		return iter, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream, err := r.check(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.checkLast(ctx); err != nil {
		return nil, err
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.next,
		AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerIdle,
	})
	if err != nil {
		return nil, r.log.conn.apiError(err)
	}
	iter, err = consumer.Messages(jetstream.PullMaxBytes(r.bytesMax()), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return nil, r.log.conn.unavailable(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		iter.Stop()
		return nil, ErrClosed
	}
	r.iter, r.consumerSeq, r.delivered, r.heard = iter, 0, false, time.Now()
	return iter, nil
}

// bytesMax has room for the largest message the server takes: a pull that has not is refused for ever.
func (r *Reader) bytesMax() int {
	return max(r.opts.BytesMax, 2*int(r.log.conn.nc.MaxPayload()))
}

// check asks the leader whether the stream is still the one that was read, and as long.
func (r *Reader) check(ctx context.Context) (jetstream.Stream, error) {
	stream, err := r.log.conn.js.Stream(ctx, streamName(r.partition))
	if err != nil {
		return nil, r.log.conn.apiError(err)
	}
	info := infoOf(stream.CachedInfo())
	if r.opts.Created.IsZero() {
		r.opts.Created = info.Created
	}
	if !info.Created.Equal(r.opts.Created) {
		return nil, &RecreatedError{Partition: r.partition, Was: r.opts.Created, Is: info.Created, Last: info.Last}
	}
	if info.Last+1 < r.next {
		return nil, &BehindError{Partition: r.partition, Next: r.next, Last: info.Last}
	}
	return stream, nil
}

// checkLast compares the last message read with what the log has there now: a log that lost its end and
// has grown past it again looks sound otherwise, and what stands in between would be skipped.
func (r *Reader) checkLast(ctx context.Context) error {
	if r.last == [16]byte{} {
		return nil
	}
	m, err := r.log.get(ctx, r.partition, getRequest{Seq: r.next - 1})
	switch {
	case errors.Is(err, ErrNotFound): // damaged since; what follows can still be read
		return nil
	case err != nil:
		return err
	case m.Hash != r.last:
		return &ChangedError{Partition: r.partition, Seq: m.Seq}
	}
	return nil
}

// stop drops the iterator; the next call of Next makes another.
func (r *Reader) stop() {
	r.mu.Lock()
	iter := r.iter
	r.iter = nil
	r.mu.Unlock()
	if iter != nil {
		iter.Stop()
	}
}

// wait pauses before the next try, longer each time until something is delivered.
func (r *Reader) wait(ctx context.Context, message string, cause error) error {
	r.pause = min(max(2*r.pause, reopenFirst), reopenMost)
	r.log.log.Debug(message, zap.Int("partition", r.partition), zap.Uint64("next", r.next), zap.Duration("pause", r.pause), zap.Error(cause))
	timer := time.NewTimer(r.pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
