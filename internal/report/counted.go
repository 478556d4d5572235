package report

import (
	"context"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Newest is the shard of each partition that is counted into, and up to where: the newest incarnation of its stream.
func (c Cut) Newest() (shards map[uint16]uint16, seqs map[uint16]uint64) {
	shards, seqs = map[uint16]uint16{}, map[uint16]uint64{}
	for shard, seq := range c.Shards {
		p := shard & partitionMask
		if known, ok := shards[p]; !ok || shard > known {
			shards[p], seqs[p] = shard, seq
		}
	}
	return shards, seqs
}

const loggedAt = `
SELECT toUnixTimestamp64Milli(max(logged_at))
FROM {{db}}.ledger
WHERE (shard, seq) IN
(
    SELECT place.1, place.2 FROM (SELECT arrayJoin(arrayZip({shards:Array(UInt16)}, {seqs:Array(UInt64)})) AS place)
)`

// LoggedAt is the log's clock at positions, given by shard, that are counted: nothing at or below them was recorded later. 0
// where there is none.
func (r *Reports) LoggedAt(ctx context.Context, positions map[uint16]uint64) (at int64, err error) {
	shards, seqs := warehouse.Positions(positions)
	err = r.query(ctx, "read the log's clock at a position", loggedAt, map[string]any{"shards": shards, "seqs": seqs}, func(row warehouse.Rows) error {
		return row.Scan(&at)
	})
	return at, err
}
