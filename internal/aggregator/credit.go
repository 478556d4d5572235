package aggregator

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// credit bounds the bytes between the log and the warehouse.
type credit struct {
	limit int64
	free  *semaphore.Weighted
}

func newCredit(limit int64) *credit {
	return &credit{limit: limit, free: semaphore.NewWeighted(limit)}
}

// chunkOverhead is charged beside a message's own bytes, so that empty messages are bounded too.
const chunkOverhead = 512

// take waits until c fits. A chunk larger than the whole limit takes all of it.
func (c *credit) take(ctx context.Context, ch *chunk) error {
	ch.weight = min(ch.weight, c.limit)
	return c.free.Acquire(ctx, ch.weight)
}

func (c *credit) give(weight int64) { c.free.Release(weight) }
