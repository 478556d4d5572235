package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/usage"
)

var (
	// errOverloaded: too much waits for the log already. Nothing of the request was stored.
	errOverloaded = errors.New("too many events wait for the log")
	// errUnconfirmed: the log did not confirm in time. The events may be stored or not; sending the
	// same ids again is safe.
	errUnconfirmed = errors.New("the log did not confirm in time")
	// errUnstorable: the encoder refused what the parser accepted. A defect of ours.
	errUnstorable = errors.New("the log cannot hold the event")
)

const (
	// chunkRoom keeps the sum of eventlog.SizeBound clear of the chunk's own header.
	chunkRoom = eventlog.ChunkBytesMax - 128
	// eventCost is what an event waiting in memory takes beside its strings: the structs of
	// usage.Event and usage.Metered, rounded up.
	eventCost = 1 << 10
)

// appender is the log as the committer needs it; tests put faults in between.
type appender interface {
	Append(ctx context.Context, tenant string, id uuid.UUID, chunk []byte) (eventlog.Receipt, error)
}

// committer packs the events of many requests into chunks and confirms each request when all its
// chunks are in the log.
//
// A chunk holds events of one tenant and one kind of key (backfill or not). The first request of an
// idle lane is published at once; what arrives while a chunk is in flight is packed together and goes
// when the chunk is full or the one in flight returns. So a lone client waits for one fsync and a
// thousand clients share one.
type committer struct {
	log      appender
	logger   *zap.Logger
	metrics  *telemetry.Ingest
	now      func() time.Time
	linger   time.Duration
	inFlight int // chunks in flight per lane

	mu      sync.Mutex
	lanes   map[laneKey]*lane // bounded by the number of tenants that have a key
	batches sync.Pool
	running sync.WaitGroup
}

func newCommitter(log appender, cfg CommitConfig, metrics *telemetry.Ingest, now func() time.Time, logger *zap.Logger) *committer {
	return &committer{
		log: log, logger: logger, metrics: metrics, now: now, linger: cfg.Linger, inFlight: cfg.InFlight,
		lanes: map[laneKey]*lane{},
	}
}

type laneKey struct {
	tenant   string
	backfill bool
	replay   eventlog.Position // of the dead letter that is sent again; zero for everything else
}

// lane is the queue of one tenant.
type lane struct {
	key laneKey

	mu        sync.Mutex
	open      *batch   // takes more events; nil when there are none
	full      []*batch // wait for a free slot
	inFlight  int
	lingering bool
}

// batch is a chunk being filled or in flight, and who waits for it.
type batch struct {
	chunk    eventlog.Chunk
	bound    int // sum of SizeBound
	deadline time.Time
	parts    []part
	encoded  []byte
}

type part struct {
	ticket *ticket
	memory *account
	events int
	cost   int64
}

// ticket is one request's claim: done closes when every chunk with events of it has its answer.
type ticket struct {
	mu      sync.Mutex
	pending int
	err     error
	done    chan struct{}
}

func (t *ticket) settle(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	if t.pending--; t.pending == 0 {
		close(t.done)
	}
}

// submit queues events and returns at once; memory is charged until their chunks are done. ctx only carries values: its end cancels nothing, because
// the chunk also holds events of others. After deadline nobody waits for the events any more.
func (c *committer) submit(ctx context.Context, key laneKey, memory *account, events []usage.Event, deadline time.Time) (*ticket, error) {
	cost := int64(0)
	for i := range events {
		cost += int64(eventlog.SizeBound(&events[i])) + eventCost
	}
	if !memory.take(cost) {
		return nil, errOverloaded
	}
	l := c.lane(key)
	t := &ticket{done: make(chan struct{})}
	t.pending = 1 // submit's own, so that no chunk settles the ticket before the last is filled
	l.mu.Lock()
	for i := range events {
		c.add(l, t, memory, &events[i], deadline)
	}
	starts := c.take(l, false)
	linger := c.linger > 0 && len(starts) == 0 && l.open != nil && l.inFlight == 0 && !l.lingering
	l.lingering = l.lingering || linger
	l.mu.Unlock()

	ctx = context.WithoutCancel(ctx)
	if linger {
		c.running.Add(1)
		time.AfterFunc(c.linger, func() { defer c.running.Done(); c.lingered(ctx, l) })
	}
	c.start(ctx, l, starts)
	t.settle(nil)
	return t, nil
}

func (c *committer) lane(key laneKey) *lane {
	if key.replay != (eventlog.Position{}) {
		return &lane{key: key} // a chunk of its own names one position; nobody joins it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lanes[key]
	if l == nil {
		l = &lane{key: key}
		c.lanes[key] = l
	}
	return l
}

// add puts one event into the lane's open chunk, and opens the next one when it does not fit.
func (c *committer) add(l *lane, t *ticket, memory *account, e *usage.Event, deadline time.Time) {
	size := eventlog.SizeBound(e)
	if b := l.open; b != nil && (len(b.chunk.Events) >= eventlog.ChunkEventsMax || b.bound+size > chunkRoom) {
		l.full = append(l.full, b)
		l.open = nil
	}
	if l.open == nil {
		b, _ := c.batches.Get().(*batch)
		if b == nil {
			b = &batch{}
		}
		b.chunk.Backfill, b.chunk.ReplayOf = l.key.backfill, nil
		if l.key.replay != (eventlog.Position{}) {
			b.chunk.ReplayOf = &l.key.replay
		}
		l.open = b
	}
	b := l.open
	b.chunk.Events = append(b.chunk.Events, *e)
	b.bound += size
	if deadline.After(b.deadline) {
		b.deadline = deadline
	}
	if n := len(b.parts); n == 0 || b.parts[n-1].ticket != t {
		t.mu.Lock()
		t.pending++
		t.mu.Unlock()
		b.parts = append(b.parts, part{ticket: t, memory: memory})
	}
	p := &b.parts[len(b.parts)-1]
	p.events++
	p.cost += int64(size) + eventCost
}

// take chooses what is published now: full chunks while there are slots, and the open one when nothing
// is in flight or the one in flight just returned. The caller holds l.mu.
func (c *committer) take(l *lane, returned bool) []*batch {
	var starts []*batch
	for len(l.full) > 0 && l.inFlight < c.inFlight {
		starts = append(starts, l.full[0])
		l.full = slices.Delete(l.full, 0, 1)
		l.inFlight++
	}
	if l.open == nil || l.inFlight >= c.inFlight || len(l.full) > 0 {
		return starts
	}
	whole := len(l.open.chunk.Events) >= eventlog.ChunkEventsMax
	if whole || returned && len(starts) == 0 || l.inFlight == 0 && c.linger == 0 {
		starts = append(starts, l.open)
		l.open = nil
		l.inFlight++
	}
	return starts
}

func (c *committer) lingered(ctx context.Context, l *lane) {
	l.mu.Lock()
	l.lingering = false
	starts := c.take(l, true)
	l.mu.Unlock()
	c.start(ctx, l, starts)
}

func (c *committer) start(ctx context.Context, l *lane, starts []*batch) {
	for _, b := range starts {
		c.running.Add(1)
		go func() {
			defer c.running.Done()
			c.run(ctx, l, b)
		}()
	}
}

// run publishes b and whatever its return sets free.
func (c *committer) run(ctx context.Context, l *lane, b *batch) {
	for b != nil {
		err := c.publish(ctx, l.key, b)
		for _, p := range b.parts {
			p.memory.give(p.cost)
			p.ticket.settle(err)
		}
		c.release(b)
		l.mu.Lock()
		l.inFlight--
		next := c.take(l, true)
		l.mu.Unlock()
		b = nil
		if len(next) > 0 {
			b = next[0]
			c.start(ctx, l, next[1:])
		}
	}
}

func (c *committer) release(b *batch) {
	clear(b.chunk.Events) // pins no request's strings
	clear(b.parts)
	b.chunk.Events, b.parts, b.bound, b.deadline = b.chunk.Events[:0], b.parts[:0], 0, time.Time{}
	c.batches.Put(b)
}

// publish encodes b once and appends it under one id. The log tries again with the same bytes and id
// until the deadline of the last request that waits for it.
func (c *committer) publish(ctx context.Context, key laneKey, b *batch) error {
	if err := c.encode(b); err != nil || len(b.chunk.Events) == 0 {
		return err
	}
	faultpoint.Hit("ingest/chunk-filled")
	ctx, cancel := context.WithDeadline(ctx, b.deadline)
	defer cancel()
	began := time.Now()
	if _, err := c.log.Append(ctx, key.tenant, uuid.New(), b.encoded); err != nil {
		c.logger.Warn("chunk not confirmed; its requests are answered 503", zap.Error(err), zap.Int("events", len(b.chunk.Events)))
		return fmt.Errorf("%d events: %w", len(b.chunk.Events), err)
	}
	faultpoint.Hit("ingest/acked")
	c.metrics.Ack.Observe(time.Since(began).Seconds())
	c.metrics.Chunks.Inc()
	c.metrics.ChunkEvents.Add(float64(len(b.chunk.Events)))
	return nil
}

// encode fills b.encoded. An event the encoder refuses fails the request it came from and no other.
func (c *committer) encode(b *batch) error {
	b.chunk.AcceptedAt = usage.AtTime(c.now())
	for len(b.chunk.Events) > 0 {
		var err error
		b.encoded, err = eventlog.EncodeChunk(b.encoded[:0], &b.chunk)
		if err == nil {
			return nil
		}
		c.logger.Error("the chunk encoder refused events that were validated", zap.Error(err))
		var fault *eventlog.ChunkError
		if !errors.As(err, &fault) || fault.Event < 0 {
			return fmt.Errorf("%w: %w", errUnstorable, err)
		}
		b.drop(fault.Event, fmt.Errorf("%w: %w", errUnstorable, err))
	}
	return nil
}

// drop fails the request that event i came from and takes its events out of the chunk. The part stays,
// empty, so that its share of memory is given back with the others'.
func (b *batch) drop(i int, err error) {
	from := 0
	for p := range b.parts {
		n := b.parts[p].events
		if i >= from+n {
			from += n
			continue
		}
		b.chunk.Events = slices.Delete(b.chunk.Events, from, from+n)
		b.parts[p].events = 0
		t := b.parts[p].ticket
		t.mu.Lock()
		if t.err == nil {
			t.err = err
		}
		t.mu.Unlock()
		return
	}
}

// wait returns when every publish has come to an end; nothing may be submitted any more.
func (c *committer) wait() { c.running.Wait() }
