package warehouse_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestPartitionOf: our partition is ClickHouse's: toYYYYMM for the first and last millisecond of every
// month that can be stored, and _partition_id is its text. If it were not, the watermark filter would
// keep rows it must drop.
func TestPartitionOf(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	var instants []int64
	for m := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC); m.Year() < 2200; m = m.AddDate(0, 1, 0) {
		instants = append(instants, m.UnixMilli(), m.AddDate(0, 1, 0).UnixMilli()-1)
	}
	err := b.w.Query(b.ctx, "SELECT toInt64(arrayJoin(@instants)) AS ms, toString(toYYYYMM(fromUnixTimestamp64Milli(ms, 'UTC')))",
		[]any{warehouse.Named("instants", instants)}, func(r warehouse.Rows) error {
			var ms int64
			var want string
			if err := r.Scan(&ms, &want); err != nil {
				return err
			}
			if got := warehouse.PartitionOf(warehouse.Events, usage.At(ms*1e6)).String(); got != want {
				t.Errorf("partition of %d is %s, want %s", ms, got, want)
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}

	block := warehouse.NewDeadLetterBlock() // the fewest columns: a part of each month is some fsyncs
	for i := 0; i < len(instants); i += 240 {
		block.Append(&warehouse.DeadLetterRow{Position: warehouse.Position{Seq: uint64(i + 1)}, RecordedAt: usage.At(instants[i] * 1e6)})
	}
	wr := b.takeOver(0)
	b.insert(wr, block)
	read, kept := b.takeOver(0).Watermarks()[warehouse.DeadLetters], wr.Watermarks()[warehouse.DeadLetters]
	if len(read) != block.Rows() || fmt.Sprint(read) != fmt.Sprint(kept) {
		t.Errorf("watermarks read %v, kept %v", read, kept)
	}
}

// TestDictionaries: low-cardinality columns keep every value at each width of their keys, block after block.
func TestDictionaries(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	wr := b.takeOver(0)
	block := warehouse.NewEventBlock()
	seq := uint64(0)
	for _, words := range []int{1, 256, 257, 65_536, 65_537, 3} {
		block.Reset()
		for i := range words + 10 {
			seq++
			r := event(i, day("2026-01-01"))
			r.Seq, r.Idx = seq, uint32(words)
			r.Account = fmt.Sprintf("account-%d", i%words)
			r.ID = r.Account
			r.Dimensions = []usage.Dimension{{Key: r.Account, Value: r.Account}}
			block.Append(r)
		}
		b.insert(wr, block)
		b.want(fmt.Sprintf("%d\t%d\t%[1]d\t%[1]d", words+10, words),
			"SELECT count(), uniqExact(account), countIf(account = id), countIf(dimensions[account] = id) FROM {{db}}.events WHERE idx = %d", words)
	}
}
