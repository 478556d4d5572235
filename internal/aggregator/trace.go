package aggregator

import (
	"context"

	"github.com/countinghouse/countinghouse/internal/telemetry"
)

// decideTraced is the decision of a batch within its span, which names the chunks whose requests are traced and
// ends when the batch is stored.
func (s *session) decideTraced(ctx context.Context, pending []*chunk) (*batch, error) {
	var origins []telemetry.Origin
	for _, c := range pending {
		if c.origin.Recorded() {
			origins = append(origins, c.origin)
		}
	}
	ctx, span := s.tracer.Join(ctx, "batch", origins)
	b, err := s.decider.decide(ctx, pending, s.blocks)
	if err != nil {
		span.End(err)
		return nil, err
	}
	b.span = span
	span.Int("countinghouse.shard", int(b.shard))
	span.Int("countinghouse.chunks", len(pending))
	span.Int("countinghouse.events", b.accepted)
	return b, nil
}
