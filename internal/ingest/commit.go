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
	// chunkRoom keeps eventlog.SizeBound of one event clear of the chunk's own header.
	chunkRoom = eventlog.ChunkBytesMax - 128
	// requestCost is what a request that waits for the log takes beside its events.
	requestCost = 4 << 10
	// encodedKeep: a chunk's buffer larger than this is given to the garbage collector.
	encodedKeep = 64 << 10
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
// thousand clients share one. The log writes the chunks of a partition one after the other, an fsync
// each, so more than a few on their way would only wait there; a chunk that waits here still grows. Events are encoded as they are submitted: what waits is bytes of the log,
// a fifth of the JSON and a twentieth of the parsed events.
type committer struct {
	log      appender
	logger   *zap.Logger
	metrics  *telemetry.Ingest
	tracer   *telemetry.Tracer // nil: off
	now      func() time.Time
	linger   time.Duration
	inFlight int // chunks in flight per lane
	abreast  int // and per partition

	mu      sync.Mutex
	lanes   map[laneKey]*lane // bounded by the number of tenants that have a key
	queues  map[int]*queue    // by partition
	batches sync.Pool
	packers sync.Pool
	running sync.WaitGroup
}

func newCommitter(log appender, cfg CommitConfig, metrics *telemetry.Ingest, now func() time.Time, logger *zap.Logger) *committer {
	return &committer{
		log: log, logger: logger, metrics: metrics, now: now, linger: cfg.Linger, inFlight: cfg.InFlight, abreast: cfg.abreast(1),
		lanes: map[laneKey]*lane{}, queues: map[int]*queue{},
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
	full      []*batch // take no more
	inFlight  int
	partition int  // where its last chunk went; unknown before the first
	queued    bool // waits for its partition
	lingering bool
}

// unknown is the partition of a tenant that has not sent yet: only the log's server knows it.
const unknown = -1

// queue is what one partition has on its way, and the lanes that wait for it.
type queue struct {
	inFlight int
	waiting  []*lane
}

// batch is a chunk being filled, or sealed and on its way, and who waits for it.
type batch struct {
	packer   *eventlog.Packer // nil once it is sealed
	encoded  []byte           // the chunk, once it is sealed
	events   int
	deadline time.Time
	tickets  []*ticket
	origins  []telemetry.Origin // requests that are traced
	queue    *queue             // that it is in flight of
}

// ticket is one request's claim: done closes when every chunk with events of it has its answer.
type ticket struct {
	memory *account
	cost   int64 // charged to memory until then
	done   chan struct{}

	mu      sync.Mutex
	pending int
	err     error
}

func (t *ticket) settle(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	if t.pending--; t.pending == 0 {
		t.memory.give(t.cost)
		close(t.done)
	}
}

// submit packs events and returns at once; nothing keeps them, or what they point to. Memory is charged until
// their chunks are done. ctx only carries values: its end cancels nothing, because the chunk also holds
// events of others. After deadline nobody waits for the events any more.
func (c *committer) submit(ctx context.Context, key laneKey, memory *account, events []usage.Event, deadline time.Time) (*ticket, error) {
	cost := int64(requestCost)
	for i := range events {
		cost += int64(eventlog.SizeBound(&events[i]))
	}
	if !memory.take(cost) {
		return nil, errOverloaded
	}
	l := c.lane(key)
	// pending is submit's own 1, so that no chunk settles the ticket before the last is filled.
	t := &ticket{memory: memory, cost: cost, done: make(chan struct{}), pending: 1}
	starts, linger, err := c.pack(l, t, events, deadline, telemetry.OriginOf(ctx))
	if err != nil {
		c.logger.Error("the chunk encoder refused events that were validated", zap.Error(err))
	}
	ctx = context.WithoutCancel(ctx)
	if linger {
		c.running.Add(1)
		time.AfterFunc(c.linger, func() { defer c.running.Done(); c.lingered(ctx, l) })
	}
	c.start(ctx, l, starts)
	t.settle(err)
	return t, nil
}

// pack puts events into the lane's chunks and chooses what is published now.
func (c *committer) pack(l *lane, t *ticket, events []usage.Event, deadline time.Time, origin telemetry.Origin) (starts []*batch, linger bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(events) > 0 && err == nil {
		var n int
		b := c.opened(l)
		if n, err = b.add(events); n > 0 {
			t.mu.Lock()
			t.pending++
			t.mu.Unlock()
			b.tickets = append(b.tickets, t)
			if origin.Recorded() {
				b.origins = append(b.origins, origin)
			}
			if deadline.After(b.deadline) {
				b.deadline = deadline
			}
		}
		if events = events[n:]; len(events) > 0 && err == nil { // the chunk is full
			c.seal(b)
			l.full = append(l.full, b)
			l.open = nil
		}
	}
	starts = c.take(l, false)
	linger = c.linger > 0 && len(starts) == 0 && l.open != nil && l.inFlight == 0 && !l.lingering
	l.lingering = l.lingering || linger
	return starts, linger, err
}

// add packs as many of the events as fit. An event the encoder refuses takes the request's others in
// this chunk with it, and nobody else's.
func (b *batch) add(events []usage.Event) (n int, err error) {
	before, sound := b.packer.Mark(), false
	defer func() {
		if b.packer.Release(); !sound { // refused, or a panic that the front door survives
			b.packer.Rollback(before)
		}
	}()
	for i := range events {
		if err := b.packer.Add(&events[i]); errors.Is(err, eventlog.ErrChunkFull) {
			sound = true
			return i, nil
		} else if err != nil {
			return 0, fmt.Errorf("%w: %w", errUnstorable, err)
		}
	}
	sound = true
	return len(events), nil
}

// opened is the lane's open chunk.
func (c *committer) opened(l *lane) *batch {
	b := l.open
	if b == nil {
		if b, _ = c.batches.Get().(*batch); b == nil {
			b = &batch{}
		}
		if b.packer, _ = c.packers.Get().(*eventlog.Packer); b.packer == nil {
			b.packer = &eventlog.Packer{}
		}
		l.open = b
		b.packer.Open(usage.AtTime(c.now()), l.key.backfill, l.key.replay)
	}
	return b
}

// seal turns a chunk into the bytes that are published.
func (c *committer) seal(b *batch) {
	if b.packer == nil {
		return
	}
	b.events, b.encoded = b.packer.Len(), b.packer.AppendTo(b.encoded[:0])
	c.packers.Put(b.packer)
	b.packer = nil
}

func (c *committer) lane(key laneKey) *lane {
	if key.replay != (eventlog.Position{}) {
		return &lane{key: key, partition: unknown} // a chunk of its own names one position; nobody joins it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lanes[key]
	if l == nil {
		l = &lane{key: key, partition: unknown}
		c.lanes[key] = l
	}
	return l
}

// take chooses what is published now, and queues the lane if there is more than its partition takes.
// returned: a chunk of the lane just came back. The caller holds l.mu.
func (c *committer) take(l *lane, returned bool) []*batch {
	var starts []*batch
	for !l.queued && c.ready(l, returned) {
		q := c.claim(l)
		if l.queued = q == nil; !l.queued {
			starts = append(starts, l.next(q))
			returned = false
		}
	}
	return starts
}

// ready says whether the lane has a chunk to publish: a full one, or the open one when nothing is in
// flight or the one in flight just returned.
func (c *committer) ready(l *lane, returned bool) bool {
	if l.inFlight >= c.inFlight || len(l.full) > 0 {
		return l.inFlight < c.inFlight
	}
	if l.open == nil || l.open.packer.Len() == 0 {
		return false
	}
	return l.open.packer.Len() >= eventlog.ChunkEventsMax || returned || l.inFlight == 0 && c.linger == 0
}

// next is the lane's oldest chunk, put in flight.
func (l *lane) next(q *queue) *batch {
	b := l.open
	if len(l.full) > 0 {
		b = l.full[0]
		l.full = slices.Delete(l.full, 0, 1)
	} else {
		l.open = nil
	}
	l.inFlight++
	b.queue = q
	return b
}

// claim is a place among the chunks in flight of the lane's partition, or nil: then the lane waits for one.
func (c *committer) claim(l *lane) *queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[l.partition]
	if q == nil {
		q = &queue{}
		c.queues[l.partition] = q
	}
	if q.inFlight >= c.abreast {
		q.waiting = append(q.waiting, l)
		return nil
	}
	q.inFlight++
	return q
}

// leave gives a place to the lane that waits longest, if there is one, and answers its chunk.
func (c *committer) leave(q *queue) (*lane, *batch) {
	c.mu.Lock()
	if len(q.waiting) == 0 {
		q.inFlight--
		c.mu.Unlock()
		return nil, nil
	}
	l := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	c.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queued = false
	return l, l.next(q) // a lane that waits has one: nobody else takes it
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

// run publishes b, and then what its return sets free.
func (c *committer) run(ctx context.Context, l *lane, b *batch) {
	for b != nil {
		partition, err := c.publish(ctx, l.key, b)
		for _, t := range b.tickets {
			t.settle(err)
		}
		next, batch := c.leave(b.queue)
		c.release(b)
		l.mu.Lock()
		l.inFlight--
		if err == nil {
			l.partition = partition
		}
		starts := c.take(l, true)
		l.mu.Unlock()
		c.start(ctx, l, starts)
		l, b = next, batch
	}
}

func (c *committer) release(b *batch) {
	clear(b.tickets)
	b.tickets, b.origins, b.deadline, b.queue = b.tickets[:0], b.origins[:0], time.Time{}, nil
	if cap(b.encoded) > encodedKeep {
		b.encoded = nil
	}
	c.batches.Put(b)
}

// publish appends b under one id. The log tries again with the same bytes and id until the deadline of
// the last request that waits for it.
func (c *committer) publish(ctx context.Context, key laneKey, b *batch) (partition int, err error) {
	c.seal(b)
	faultpoint.Hit("ingest/chunk-filled")
	ctx, cancel := context.WithDeadline(ctx, b.deadline)
	defer cancel()
	ctx, span := c.tracer.Join(ctx, "chunk", b.origins)
	span.Int("countinghouse.events", b.events)
	began := time.Now()
	receipt, err := c.log.Append(ctx, key.tenant, uuid.New(), b.encoded)
	span.End(err)
	if err != nil {
		c.logger.Warn("chunk not confirmed; its requests are answered 503", zap.Error(err), zap.Int("events", b.events))
		return 0, fmt.Errorf("%d events: %w", b.events, err)
	}
	faultpoint.Hit("ingest/acked")
	c.metrics.Ack.Observe(time.Since(began).Seconds())
	c.metrics.Chunks.Inc()
	c.metrics.ChunkEvents.Add(float64(b.events))
	return receipt.Partition, nil
}

// wait returns when every publish has come to an end; nothing may be submitted any more.
func (c *committer) wait() { c.running.Wait() }
