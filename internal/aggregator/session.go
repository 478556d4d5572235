package aggregator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/register"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// session is one ownership of a shard, from taking over to the first error of any kind. There is no
// other way to recover from anything: whatever goes wrong, the session ends, the next one takes over,
// reads how far the warehouse got, and goes on from the log. Nothing in memory outlives it but the
// filter, which is a cache.
type session struct {
	*partition
	shard   uint16
	sink    *sink
	decider *decider
	decoder *decoder
	after   beginning // where to read on

	chunks  chan *chunk   // decoded, in order
	batches chan *batch   // decided, to be stored
	stored  chan *batch   // committed, to be retired
	blocks  *blocks       // of the batch that is filled, and then sent
	credit  *credit       // bytes between the log and the warehouse
	starved chan struct{} // nothing more can come before what is here is stored
	lag     lag

	register *register.Register // the directory, folded, as tables
}

// run moves events until ctx ends or anything fails.
func (s *session) run(ctx context.Context) error {
	s.chunks = make(chan *chunk, 1024)
	s.batches = make(chan *batch)
	s.stored = make(chan *batch, 1)
	s.blocks = newBlocks()
	s.credit = newCredit(s.cfg.InFlightBytes)
	s.starved = make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.read(ctx) })
	g.Go(func() error { return s.decide(ctx) })
	g.Go(func() error { return s.store(ctx) })
	g.Go(func() error { return s.report(ctx) })
	g.Go(func() error { s.register.Run(ctx); return nil })
	if s.id == 0 { // one aggregator compares the tables of all
		g.Go(func() error { s.reconcile(ctx); return nil })
	}
	return g.Wait()
}

// read takes messages from the log in sequence, decodes them, and stops when too many bytes are on
// their way.
func (s *session) read(ctx context.Context) error {
	reader, err := s.log.Read(int(s.id), s.after.start+1, eventlog.ReadOptions{Created: s.after.created, Hash: s.after.hash})
	if err != nil {
		return fmt.Errorf("read partition %d after seq %d: %w", s.id, s.after.start, err)
	}
	defer reader.Close()
	for {
		m, gap, err := reader.Next(ctx)
		if err != nil {
			return fmt.Errorf("read partition %d: %w", s.id, err)
		}
		if gap == nil {
			faultpoint.Hit("aggregator/fetched")
			c := s.decoder.decode(m)
			c.origin = s.tracer.ReadOrigin(ctx, m.Header)
			err = s.pass(ctx, c)
		} else {
			err = s.missing(ctx, gap)
		}
		if err != nil {
			return err
		}
	}
}

// missing books sequences the log does not have: a ledger row each, an alarm, and reading goes on.
func (s *session) missing(ctx context.Context, gap *eventlog.Gap) error {
	s.zap.Error("sequences are missing from the log; see the runbook: log-gap",
		zap.Uint64("from", gap.From), zap.Uint64("to", gap.To))
	s.lose(*gap)
	for seq := gap.From; seq <= gap.To; seq++ {
		if err := s.pass(ctx, s.decoder.gap(seq)); err != nil {
			return err
		}
	}
	return nil
}

// starve tells decide that no chunk can come before some have left.
func (s *session) starve() {
	select {
	case s.starved <- struct{}{}:
	default: // told already
	}
}

func (s *session) pass(ctx context.Context, c *chunk) error {
	if err := s.credit.take(ctx, c, s.starve); err != nil {
		return err
	}
	s.lag.read(c)
	select {
	case s.chunks <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Every insert has a fixed price: files made and synced in four tables. A small batch pays it at once,
// to be fresh; one that is filling fast waits flushPatience times as long, and pays it less often.
const (
	flushPatience = 2
	fillsFast     = 2000 // events within FlushWait
)

// decide gathers chunks into batches: until there are BatchRows events, or FlushWait has passed since
// the first (twice that under load), or nothing more can come. While a batch is sent the next one gathers,
// packed; it is decided when the one before is stored. So the slower the warehouse, the larger the batches, and the
// cheaper an event. Filling one while another is sent would need the columns twice, and with as much memory
// in all two batches of half the size: that costs more than it saves. decide alone touches the decider.
func (s *session) decide(ctx context.Context) error {
	var (
		pending []*chunk
		rows    int
		flying  bool // a batch was handed to store and is not retired yet
		due     bool
		patient bool // the batch has been given more time
		starved bool // no more can come before some have left
	)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		full := rows >= s.cfg.BatchRows
		if len(pending) > 0 && !flying && (full || due || starved && len(s.chunks) == 0) {
			b, err := s.decideTraced(ctx, pending)
			if err != nil {
				return err
			}
			faultpoint.Hit("aggregator/batch-decided")
			select {
			case s.batches <- b:
				flying = true
			case <-ctx.Done():
				return ctx.Err()
			}
			clear(pending)
			pending, rows, due, patient, starved, full = pending[:0], 0, false, false, false, false
		}
		chunks := s.chunks
		if full {
			chunks = nil // the others wait where they are
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b := <-s.stored:
			s.retire(b)
			flying, starved = false, false
		case <-s.starved:
			starved = true
		case <-timer.C:
			if due = patient || rows < fillsFast; !due {
				patient = true
				timer.Reset((flushPatience - 1) * s.cfg.FlushWait)
			}
		case c := <-chunks:
			if len(pending) == 0 {
				timer.Reset(s.cfg.FlushWait)
			}
			pending = append(pending, c)
			rows += c.accepted() + 1
		}
	}
}

func (s *session) retire(b *batch) {
	s.filterAt = covered{Shard: b.shard, Seq: b.last, Hash: b.hash, Table: s.filterAt.Table}
	s.credit.give(b.weight)
	s.decider.retire(b)
	s.saveWhenGrown()
}

// store commits batches one after the other.
func (s *session) store(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b := <-s.batches:
			err := commit(b.span.In(ctx), s.sink, b)
			b.span.End(err)
			if err != nil {
				return err
			}
			faultpoint.Hit("aggregator/committed")
			s.advance(b)
			s.register.Touch(b.touched)
			s.lag.committed(b)
			select {
			case s.stored <- b:
			case <-ctx.Done(): // who takes them may have ended first
				return ctx.Err()
			}
		}
	}
}

// Lookup and Negatable are the decider's view of the warehouse.
func (s *session) Lookup(ctx context.Context, keys []Key) ([]Evidence, error) {
	var out []Evidence
	for part := range slices.Chunk(keys, warehouse.LookupMax) {
		ask := make([]warehouse.Key, len(part))
		for i, k := range part {
			ask[i] = warehouse.Key{Tenant: k.Tenant, Source: k.ID.Source, ID: k.ID.ID, Hash: k.Hash}
		}
		rows, err := s.warehouse.Lookup(ctx, s.id, ask)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			r := &rows[i]
			if !s.ended.holds(r.Position) {
				continue
			}
			out = append(out, Evidence{
				Tenant: r.Tenant, ID: identity(r.Source, r.ID), Sign: r.Sign, ContentHash: r.ContentHash, Type: r.Type,
				Position: Position{Shard: r.Shard, Seq: r.Seq, Idx: r.Idx},
			})
		}
	}
	return out, nil
}

// Negatable fetches stored originals with their pieces.
func (s *session) Negatable(ctx context.Context, originals []Evidence) ([]eventRow, error) {
	var out []eventRow
	for part := range slices.Chunk(originals, warehouse.FetchMax) {
		ask := make([]warehouse.Stored, len(part))
		for i, o := range part {
			ask[i] = warehouse.Stored{
				Key:      warehouse.Key{Tenant: o.Tenant, Source: o.ID.Source, ID: o.ID.ID, Hash: usage.IdentityHash(o.Tenant, o.ID)},
				Position: place(o.Position), Sign: o.Sign, ContentHash: o.ContentHash, Type: o.Type,
			}
		}
		rows, err := s.warehouse.FetchEvents(ctx, ask)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			out = append(out, restore(&rows[i].EventRow, rows[i].Cut))
		}
	}
	return out, nil
}
