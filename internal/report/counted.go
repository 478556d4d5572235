package report

import (
	"context"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Newest is the shard of each partition that is counted into, and up to where: the newest incarnation of its stream.
func (c Cut) Newest() (shards map[uint16]uint16, seqs map[uint16]uint64) {
	shards, seqs = newestShards(c.Shards), map[uint16]uint64{}
	for p, shard := range shards {
		seqs[p] = c.Shards[shard]
	}
	return shards, seqs
}

// newestShards is the shard of each partition's newest incarnation; older ones are complete.
func newestShards[V any](shards map[uint16]V) map[uint16]uint16 {
	newest := map[uint16]uint16{}
	for shard := range shards {
		p := shard & partitionMask
		newest[p] = max(newest[p], shard) // 0 is the oldest of partition 0
	}
	return newest
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
