package aggregator

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// credit bounds the bytes between the log and the warehouse.
type credit struct {
	limit int64
	free  *semaphore.Weighted
	used  atomic.Int64
}

func newCredit(limit int64) *credit {
	return &credit{limit: limit, free: semaphore.NewWeighted(limit)}
}

// chunkOverhead is charged beside a message's own bytes, so that empty messages are bounded too.
const chunkOverhead = 512

// take waits until ch fits; full is called if it has to wait. A chunk larger than the whole limit takes
// all of it.
func (c *credit) take(ctx context.Context, ch *chunk, full func()) error {
	ch.weight = min(ch.weight, c.limit)
	if !c.free.TryAcquire(ch.weight) {
		full()
		if err := c.free.Acquire(ctx, ch.weight); err != nil {
			return err
		}
	}
	c.used.Add(ch.weight)
	return nil
}

func (c *credit) give(weight int64) {
	c.used.Add(-weight)
	c.free.Release(weight)
}
