package warehouse

import (
	"context"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Void is a stored event.voided that arrived before its target. Its row stays `waiting` for ever;
// whether the target has come since, its negation says.
type Void struct {
	Position
	Tenant, Source, ID string
	Account            string
	At, RecordedAt     usage.Instant
	CorrelationID      string
	CausationID        string
	Data               string // canonical JSON with target and reason
}

// WaitingVoids lists the voids of a partition that were stored as waiting, up to a mark, in log order.
func (w *Warehouse) WaitingVoids(ctx context.Context, partition uint16, upTo Mark) ([]Void, error) {
	const sql = `
SELECT shard, seq, idx, tenant, source, id, account, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at),
    correlation_id, causation_id, data
FROM {{db}}.events
WHERE meter = '' AND type = 'event.voided' AND void_effect = 'waiting' AND sign = 1
    AND bitAnd(shard, 1023) = @partition AND (shard < @shard OR shard = @shard AND seq <= @seq)
ORDER BY shard, seq, idx`
	args := []any{named("partition", partition), named("shard", upTo.Shard), named("seq", upTo.Seq)}
	voids, err := Collect(ctx, w, sql, args, func(r Rows, v *Void) error {
		var at, recorded int64
		if err := r.Scan(&v.Shard, &v.Seq, &v.Idx, &v.Tenant, &v.Source, &v.ID, &v.Account, &at, &recorded,
			&v.CorrelationID, &v.CausationID, &v.Data); err != nil {
			return err
		}
		v.At, v.RecordedAt = millis(at), millis(recorded)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the waiting voids of partition %d: %w", partition, err)
	}
	return voids, nil
}
