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

// watermarks are, for each target and partition the highest sequence stored, as read
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

// inserter is one owner's fenced session on the warehouse: Insert stores the rows of b that belong to t, as
// one native block; an error leaves the outcome unknown and ends the session.
type inserter interface {
	Insert(ctx context.Context, t warehouse.Target, b *batch) error
}

// commit stores a batch: every target but the ledger, at once; then the ledger, which alone is progress.
// An error means some of it may be stored: the caller takes over again and reads the watermarks before it
// sends anything.
func commit(ctx context.Context, to inserter, b *batch) error {
	return commitWith(ctx, to, b, func(ctx context.Context, inserts []func(context.Context) error) error {
		g, ctx := errgroup.WithContext(ctx)
		for _, insert := range inserts {
			g.Go(func() error { return insert(ctx) })
		}
		return g.Wait()
	})
}

// commitWith is commit with the inserts of one batch run by run; the simulation runs them in any order.
func commitWith(ctx context.Context, to inserter, b *batch, run func(context.Context, []func(context.Context) error) error) error {
	var inserts []func(context.Context) error
	for t := range warehouse.Ledger {
		inserts = append(inserts, func(ctx context.Context) error { return to.Insert(ctx, t, b) })
	}
	if err := run(ctx, inserts); err != nil {
		return fmt.Errorf("insert seq %d to %d: %w", b.first, b.last, err)
	}
	faultpoint.Hit("aggregator/before-ledger")
	if err := to.Insert(ctx, warehouse.Ledger, b); err != nil {
		return fmt.Errorf("insert ledger of seq %d to %d: %w", b.first, b.last, err)
	}
	return nil
}

func partitionOf(t warehouse.Target, ms int64) warehouse.Partition {
	return warehouse.PartitionOf(t, usage.At(ms*1e6))
}
