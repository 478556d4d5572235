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

// Progress of a shard is max(seq) of its ledger and nothing else (I9).
const ledgerProgress = `
SELECT shard, max(seq), toUnixTimestamp64Milli(max(logged_at)), toUInt64(1 + ifNull((SELECT count() FROM {{db}}.rebuilds), 0))
FROM {{db}}.ledger
GROUP BY shard`

// A shard whose log holds nothing beyond the warehouse is settled up to the log's clock, not only up to
// its last message.
const idleShards = `
SELECT shard, toUnixTimestamp64Milli(max(at)), argMax(log_seq, at), argMax(warehouse_seq, at)
FROM {{db}}.shard_status
GROUP BY shard`

func (r *Reports) watermark(ctx context.Context) (Watermark, error) {
	type progress struct {
		seq     uint64
		settled int64
	}
	w := Watermark{Positions: map[string]uint64{}}
	shards := map[uint16]*progress{}
	err := r.query(ctx, "read the watermark", ledgerProgress, nil, func(row warehouse.Rows) error {
		var shard uint16
		p := &progress{}
		if err := row.Scan(&shard, &p.seq, &p.settled, &w.tables); err != nil {
			return err
		}
		p.settled-- // the next message may carry the same millisecond
		shards[shard] = p
		return nil
	})
	if err != nil {
		return Watermark{}, err
	}
	err = r.query(ctx, "read the watermark", idleShards, nil, func(row warehouse.Rows) error {
		var shard uint16
		var at int64
		var logged, stored uint64
		if err := row.Scan(&shard, &at, &logged, &stored); err != nil {
			return err
		}
		if p := shards[shard]; p != nil && stored >= logged && p.seq >= logged {
			p.settled = max(p.settled, at-1)
		}
		return nil
	})
	if err != nil {
		return Watermark{}, err
	}
	newest := map[uint16]uint16{} // partition → the shard of its newest incarnation; older ones are complete
	for shard, p := range shards {
		w.Positions[strconv.Itoa(int(shard))] = p.seq
		if known, ok := newest[shard&partitionMask]; !ok || shard > known {
			newest[shard&partitionMask] = shard
		}
	}
	for _, shard := range newest {
		if at := Instant(shards[shard].settled); w.At == 0 || at < w.At {
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
