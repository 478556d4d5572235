package warehouse

import (
	"context"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// StatusRow is a row of `shard_status`: what the aggregator last saw of a shard.
type StatusRow struct {
	Shard           uint16
	At              usage.Instant
	LogSeq          uint64
	WarehouseSeq    uint64
	LagEvents       uint64
	OldestPendingAt usage.Instant // absent when nothing is pending
	WatermarkAt     usage.Instant // logged_at of WarehouseSeq
}

// SetStatus replaces a shard's status: for freshness_v1 and people, for nothing that counts.
func (w *Warehouse) SetStatus(ctx context.Context, s StatusRow) error {
	const sql = `
INSERT INTO {{db}}.shard_status (shard, at, log_seq, warehouse_seq, lag_events, oldest_pending_at, watermark_at)
SELECT toUInt16(@shard), fromUnixTimestamp64Milli(toInt64(@at), 'UTC'), toUInt64(@log), toUInt64(@warehouse), toUInt64(@lag),
    fromUnixTimestamp64Milli(toInt64(@pending), 'UTC'), fromUnixTimestamp64Milli(toInt64(@watermark), 'UTC')`
	err := w.exec(ctx, sql, named("shard", s.Shard), named("at", s.At.Millis()), named("log", s.LogSeq),
		named("warehouse", s.WarehouseSeq), named("lag", s.LagEvents), named("pending", s.OldestPendingAt.Millis()),
		named("watermark", s.WatermarkAt.Millis()))
	if err != nil {
		return fmt.Errorf("set the status of shard %d: %w", s.Shard, err)
	}
	return nil
}
