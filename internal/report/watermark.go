package report

import (
	"context"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// partitionMask cuts the incarnation off a shard number: partition | incarnation << 10.
const partitionMask = 1<<10 - 1

// Watermark says how much of the log an answer covers: every event at or below Positions, and every
// event recorded at or before At.
type Watermark struct {
	At        Instant           `json:"at" doc:"Everything recorded at or before this instant is in the answer"`
	Positions map[string]uint64 `json:"positions" doc:"Per shard of the log the sequence up to which everything is in the answer"`
	// tables counts the steps in which tables have changed places; 0: nobody asked. It was read with the positions.
	tables uint64
}

// Progress of a shard is max(seq) of its ledger and nothing else (I9). A shard whose log holds nothing beyond the
// warehouse is settled up to the log's clock, not only up to its last message: status says so, and it does not matter
// which of the two was read first. One statement, because every answer asks it.
const positions = `
SELECT shard, false AS status, max(seq) AS stored, max(seq) AS logged, toUnixTimestamp64Milli(max(logged_at)) AS at,
    toUInt64(1 + ifNull((SELECT count() FROM {{db}}.rebuilds), 0)) AS tables
FROM {{db}}.ledger
GROUP BY shard
UNION ALL
SELECT shard, true, argMax(warehouse_seq, at), argMax(log_seq, at), toUnixTimestamp64Milli(max(at)), 0
FROM {{db}}.shard_status
GROUP BY shard`

// shardPosition is a row of positions.
type shardPosition struct {
	stored, logged uint64
	at             int64 // Unix ms
}

func (r *Reports) watermark(ctx context.Context) (Watermark, error) {
	w := Watermark{Positions: map[string]uint64{}}
	ledger, status := map[uint16]shardPosition{}, map[uint16]shardPosition{}
	err := r.query(ctx, "read the watermark", positions, nil, func(row warehouse.Rows) error {
		var shard uint16
		var isStatus bool
		var p shardPosition
		var tables uint64
		if err := row.Scan(&shard, &isStatus, &p.stored, &p.logged, &p.at, &tables); err != nil {
			return err
		}
		if isStatus {
			status[shard] = p
			return nil
		}
		ledger[shard], w.tables = p, tables
		return nil
	})
	if err != nil {
		return Watermark{}, err
	}
	settled := func(shard uint16) int64 {
		p, s := ledger[shard], status[shard]
		if s.stored >= s.logged && p.stored >= s.logged {
			return max(p.at, s.at) - 1
		}
		return p.at - 1 // the next message may carry the same millisecond
	}
	for shard, p := range ledger {
		w.Positions[strconv.Itoa(int(shard))] = p.stored
	}
	for _, shard := range newestShards(ledger) {
		if at := Instant(settled(shard)); w.At == 0 || at < w.At {
			w.At = at
		}
	}
	return w, nil
}

// settle checks an as_of against the watermark; Latest stands for none.
func (w Watermark) settle(asOf int64) error {
	if asOf == directory.Latest || asOf <= int64(w.At) {
		return nil
	}
	detail := "nothing has been counted yet"
	if w.At != 0 {
		detail = "counted so far: everything recorded at or before " + w.At.String() + "; ask again later or with an earlier as_of"
	}
	return &Error{Code: CodeNotSettled, Parameter: "as_of", Detail: detail}
}
