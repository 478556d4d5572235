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

// Clean removes folds that nobody reads any more. It may run anywhere, at any time, more than once.
func Clean(ctx context.Context, db *warehouse.Warehouse, now time.Time) error {
	before := uint64(now.Add(-abandoned).UnixMilli()) << chanceBits
	for _, t := range tables() {
		stale := ` WHERE data < {before:UInt64} AND (tenant, data) NOT IN (SELECT tenant, data FROM {{db}}.directory_newest)`
		if err := remove(ctx, db, t.name, stale, before); err != nil {
			return err
		}
	}
	stale := ` WHERE at < fromUnixTimestamp64Milli(toInt64(bitShiftRight({before:UInt64}, 21)), 'UTC')
		AND (tenant, shard, seq, at, data) NOT IN (SELECT tenant, shard, seq, at, data FROM {{db}}.directory_newest)`
	return remove(ctx, db, "directory_generations", stale, before)
}

// remove deletes rows, if there are any: a DELETE rewrites something of every part.
func remove(ctx context.Context, db *warehouse.Warehouse, table, where string, before uint64) error {
	rows := uint64(0)
	params := map[string]any{"before": before}
	err := query(ctx, db, "look for old rows of "+table, "SELECT count() FROM {{db}}."+table+where, params, func(row warehouse.Rows) error { return row.Scan(&rows) })
	if err != nil || rows == 0 {
		return err
	}
	if err := db.Remove(ctx, "DELETE FROM {{db}}."+table+where, warehouse.Named("before", before)); err != nil {
		return fmt.Errorf("remove old rows of %s: %w", table, err)
	}
	return nil
}
