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

// LedgerMark is what the ledger says of one sequence.
type LedgerMark struct {
	Seq     uint64
	Hash    [16]byte // of the message
	Missing bool     // the log had no such sequence when it was counted
}

// LedgerAt is what the ledger says of seq.
func (w *Warehouse) LedgerAt(ctx context.Context, shard uint16, seq uint64) (mark LedgerMark, found bool, err error) {
	const sql = `SELECT seq, hex(hash), missing FROM {{db}}.ledger WHERE shard = @shard AND seq = @seq LIMIT 1`
	marks, err := Collect(ctx, w, sql, []any{named("shard", shard), named("seq", seq)}, scanMark)
	if err != nil {
		return mark, false, fmt.Errorf("read the ledger of shard %d at %d: %w", shard, seq, err)
	}
	if len(marks) == 0 {
		return mark, false, nil
	}
	return marks[0], true, nil
}

// LedgerTail is the last sequence counted of a shard and, below it, up to n that were in the log, newest
// first.
func (w *Warehouse) LedgerTail(ctx context.Context, shard uint16, n int) ([]LedgerMark, error) {
	const sql = `
SELECT seq, hex(hash), missing FROM {{db}}.ledger
WHERE shard = @shard AND (missing = 0 OR seq = (SELECT max(seq) FROM {{db}}.ledger WHERE shard = @shard))
ORDER BY seq DESC LIMIT @n`
	marks, err := Collect(ctx, w, sql, []any{named("shard", shard), named("n", n+1)}, scanMark)
	if err != nil {
		return nil, fmt.Errorf("read the tail of the ledger of shard %d: %w", shard, err)
	}
	return marks, nil
}

func scanMark(r Rows, m *LedgerMark) error {
	var hash string
	var missing uint8
	if err := r.Scan(&m.Seq, &hash, &missing); err != nil {
		return err
	}
	m.Missing = missing != 0
	return parseHash(hash, &m.Hash)
}
