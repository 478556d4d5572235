package aggregator

import (
	"context"
	"fmt"
	"maps"

	"golang.org/x/sync/errgroup"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// watermarks is W of architecture 3: for each target and partition the highest sequence stored, as read
// at takeover. Within a session a batch only ever moves past it.
type watermarks map[warehouse.Target]map[warehouse.Partition]uint64

// keeper says whether a partition of one target still lacks a row of the given sequence.
type keeper struct {
	marks map[warehouse.Partition]uint64
	past  bool // the whole batch is above every mark: the usual case, decided once
}

func (w watermarks) keeper(t warehouse.Target, first uint64) keeper {
	k := keeper{marks: w[t], past: true}
	for m := range maps.Values(k.marks) {
		if first <= m {
			k.past = false
		}
	}
	return k
}

// keep says so of a row of t at a time in Unix milliseconds.
func (k keeper) keep(t warehouse.Target, ms int64, seq uint64) bool {
	return k.past || seq > k.marks[partitionOf(t, ms)]
}

// inserter is one owner's fenced session on the warehouse: Insert stores the rows of b that belong to t
// and pass keep, as one native block; an error leaves the outcome unknown and ends the session.
type inserter interface {
	Insert(ctx context.Context, t warehouse.Target, b *batch, keep keeper) error
}

// commit stores a batch: every target but the ledger, at once; then the ledger, which alone is progress.
// An error means some of it may be stored: the caller takes over again and reads the watermarks before it
// sends anything.
func commit(ctx context.Context, to inserter, w watermarks, b *batch) error {
	return commitWith(ctx, to, w, b, func(ctx context.Context, inserts []func(context.Context) error) error {
		g, ctx := errgroup.WithContext(ctx)
		for _, insert := range inserts {
			g.Go(func() error { return insert(ctx) })
		}
		return g.Wait()
	})
}

// commitWith is commit with the inserts of one batch run by run; the simulation runs them in any order.
func commitWith(ctx context.Context, to inserter, w watermarks, b *batch, run func(context.Context, []func(context.Context) error) error) error {
	var inserts []func(context.Context) error
	for t := range warehouse.Ledger {
		inserts = append(inserts, func(ctx context.Context) error { return to.Insert(ctx, t, b, w.keeper(t, b.first)) })
	}
	if err := run(ctx, inserts); err != nil {
		return fmt.Errorf("insert seq %d to %d: %w", b.first, b.last, err)
	}
	faultpoint.Hit("aggregator/before-ledger")
	if err := to.Insert(ctx, warehouse.Ledger, b, w.keeper(warehouse.Ledger, b.first)); err != nil {
		return fmt.Errorf("insert ledger of seq %d to %d: %w", b.first, b.last, err)
	}
	return nil
}

// eachEvent calls f with the rows of table events that keep lets through.
func (b *batch) eachEvent(k keeper, f func(*eventRow)) {
	for i := range b.events {
		r := &b.events[i]
		if k.keep(warehouse.Events, r.at, r.pos.Seq) {
			f(r)
		}
	}
}

// eachPiece calls f with the pieces of events that were cut in two or more.
func (b *batch) eachPiece(k keeper, f func(r *eventRow, n int, p *usage.Piece)) {
	for i := range b.events {
		r := &b.events[i]
		if len(r.pieces) < 2 {
			continue
		}
		for n := range r.pieces {
			p := &r.pieces[n]
			if k.keep(warehouse.Pieces, p.Start.Millis(), r.pos.Seq) {
				f(r, n, p)
			}
		}
	}
}

// eachHourly fills h with the partials of the rows that keep lets through.
func (b *batch) eachHourly(k keeper, h *hourly) {
	h.reset()
	for i := range b.events {
		h.add(&b.events[i], k)
	}
}

// eachDirectory calls f with the rows that the directory folds.
func (b *batch) eachDirectory(k keeper, f func(*eventRow)) {
	for i := range b.events {
		r := &b.events[i]
		if usage.Directory(r.event.Type) && k.keep(warehouse.Directory, r.at, r.pos.Seq) {
			f(r)
		}
	}
}

func (b *batch) eachDead(k keeper, f func(*deadRow)) {
	for i := range b.dead {
		if r := &b.dead[i]; k.keep(warehouse.DeadLetters, r.recordedAt, r.pos.Seq) {
			f(r)
		}
	}
}

func (b *batch) eachDuplicate(k keeper, f func(*duplicateRow)) {
	for i := range b.duplicates {
		if r := &b.duplicates[i]; k.keep(warehouse.Duplicates, r.recordedAt, r.pos.Seq) {
			f(r)
		}
	}
}

func (b *batch) eachLedger(k keeper, f func(*ledgerRow)) {
	for i := range b.ledger {
		if r := &b.ledger[i]; k.keep(warehouse.Ledger, r.loggedAt, r.seq) {
			f(r)
		}
	}
}

func partitionOf(t warehouse.Target, ms int64) warehouse.Partition {
	return warehouse.PartitionOf(t, usage.At(ms*1e6))
}
