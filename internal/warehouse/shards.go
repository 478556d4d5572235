package warehouse

import (
	"context"
	"fmt"
)

// Shards lists the shards of a partition that ever had an owner, oldest incarnation first.
func (w *Warehouse) Shards(ctx context.Context, partition uint16) ([]uint16, error) {
	const sql = `SELECT DISTINCT shard FROM {{db}}.owner WHERE bitAnd(shard, 1023) = @partition ORDER BY shard`
	shards, err := Collect(ctx, w, sql, []any{named("partition", partition)}, func(r Rows, s *uint16) error { return r.Scan(s) })
	if err != nil {
		return nil, fmt.Errorf("list the shards of partition %d: %w", partition, err)
	}
	return shards, nil
}

// LedgerHash is the hash of the message that the ledger has at seq.
func (w *Warehouse) LedgerHash(ctx context.Context, shard uint16, seq uint64) (hash [16]byte, found bool, err error) {
	const sql = `SELECT hex(hash) FROM {{db}}.ledger WHERE shard = @shard AND seq = @seq LIMIT 1`
	err = w.Query(ctx, sql, []any{named("shard", shard), named("seq", seq)}, func(r Rows) error {
		var text string
		if err := r.Scan(&text); err != nil {
			return err
		}
		found = true
		return parseHash(text, &hash)
	})
	if err != nil {
		return hash, false, fmt.Errorf("read the ledger of shard %d at %d: %w", shard, seq, err)
	}
	return hash, found, nil
}
