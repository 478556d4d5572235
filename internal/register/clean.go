package register

import (
	"context"
	"fmt"
	"time"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// abandoned is the age from which rows that no tenant's newest generation names are removed: queries that began
// before the newest was there have ended by then, and so has whoever was writing (projectWait).
const abandoned = 15 * time.Minute

// ours are the tenants of a partition of the log: the others have a Register of their own, and a DELETE for each of
// many partitions would write every table again as often.
const ours = ` AND tenant IN (SELECT tenant FROM {{db}}.directory_events WHERE bitAnd(shard, 1023) = {partition:UInt16})`

// Clean removes folds of a partition's tenants that nobody reads any more. It may run anywhere, at any time, more than
// once.
func Clean(ctx context.Context, db *warehouse.Warehouse, partition uint16, now time.Time) error {
	before := uint64(now.Add(-abandoned).UnixMilli()) << chanceBits
	for _, t := range tables() {
		stale := ` WHERE data < {before:UInt64} AND (tenant, data) NOT IN (SELECT tenant, data FROM {{db}}.directory_newest)`
		if err := remove(ctx, db, t.name, stale+ours, before, partition); err != nil {
			return err
		}
	}
	stale := ` WHERE at < fromUnixTimestamp64Milli(toInt64(bitShiftRight({before:UInt64}, 21)), 'UTC')
		AND (tenant, shard, seq, at, data) NOT IN (SELECT tenant, shard, seq, at, data FROM {{db}}.directory_newest)`
	return remove(ctx, db, "directory_generations", stale+ours, before, partition)
}

// remove deletes rows, if there are any: a DELETE rewrites something of every part.
func remove(ctx context.Context, db *warehouse.Warehouse, table, where string, before uint64, partition uint16) error {
	rows := uint64(0)
	params := map[string]any{"before": before, "partition": partition}
	err := query(ctx, db, "look for old rows of "+table, "SELECT count() FROM {{db}}."+table+where, params, func(row warehouse.Rows) error { return row.Scan(&rows) })
	if err != nil || rows == 0 {
		return err
	}
	if err := db.Remove(ctx, "DELETE FROM {{db}}."+table+where, warehouse.Named("before", before), warehouse.Named("partition", partition)); err != nil {
		return fmt.Errorf("remove old rows of %s: %w", table, err)
	}
	return nil
}
