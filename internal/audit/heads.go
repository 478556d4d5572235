package audit

import (
	"context"
	"fmt"
)

// Heads is the last sequence of every partition of the log: everything that was acknowledged before it was asked for is at
// or below it.
func (a *Auditor) Heads(ctx context.Context) (map[uint16]uint64, error) {
	heads := map[uint16]uint64{}
	for p := range a.log.Partitions() {
		last, err := a.log.Head(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("how far the log goes: %w", err)
		}
		heads[uint16(p)] = last
	}
	return heads, nil
}
