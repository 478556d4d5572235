package warehouse_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestOneBlockOnePart: a native block becomes exactly one part in each partition it touches, however
// many rows or partitions it has. The watermark protocol stands on this.
func TestOneBlockOnePart(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.query("SYSTEM STOP MERGES {{db}}.events")
	var months []usage.Instant
	for i := range 150 {
		months = append(months, usage.AtTime(time.Date(1990, time.Month(1+i), 3, 4, 5, 6, 0, time.UTC)))
	}
	tests := []struct {
		rows, partitions int
	}{{200_000, 3}, {3_000, 150}, {1_200_000, 1}}
	for i, tt := range tests {
		shard := uint16(i)
		block := warehouse.NewEventBlock()
		r := event(i, day("2026-01-01"))
		r.Shard = shard
		for i := range tt.rows {
			r.At, r.Seq = months[i%tt.partitions], uint64(1+i)
			block.Append(r)
		}
		b.insert(b.takeOver(shard), block)
		b.want(fmt.Sprintf("%d\t%d\t%[1]d", tt.partitions, tt.rows),
			"SELECT uniqExact(_part), count(), uniqExact(_partition_id) FROM {{db}}.events WHERE shard = %d", shard)
	}
}

// TestFence: once a newer owner row exists, the earlier owner's inserts store nothing and say so.
func TestFence(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	first := b.takeOver(0)
	block := warehouse.NewEventBlock()
	block.Append(event(1, day("2026-01-01")))
	b.insert(first, block)

	second := b.takeOver(0)
	if second.Epoch() <= first.Epoch() {
		t.Errorf("epoch of the second owner is %d, of the first %d", second.Epoch(), first.Epoch())
	}
	block.Reset()
	block.Append(event(2, day("2026-01-01")))
	if err := first.Insert(b.ctx, block); !errors.Is(err, warehouse.ErrFenced) {
		t.Errorf("Insert by the first owner = %v, want ErrFenced", err)
	}
	if err := first.Insert(b.ctx, block); !errors.Is(err, warehouse.ErrFenced) {
		t.Errorf("Insert by the first owner again = %v, want ErrFenced", err)
	}
	b.want("1", "SELECT count() FROM {{db}}.events")
	b.insert(second, block)
	b.want("2", "SELECT count() FROM {{db}}.events")
}

// TestWatermarks: TakeOver reads what the tables themselves say, per target and partition, and the
// Writer's own account of its inserts agrees with it.
func TestWatermarks(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	wr := b.takeOver(7)
	insertOneOfEach(b, wr)
	want := wr.Watermarks()
	got := b.takeOver(7).Watermarks()
	for target := range warehouse.Targets {
		if len(got[target]) == 0 || !maps.Equal(got[target], want[target]) {
			t.Errorf("watermarks of %s: read %v, kept %v", target, got[target], want[target])
		}
	}
	p := b.takeOver(7).Progress()
	if !p.Found || p.Seq != 12 || p.LoggedAt != day("2026-03-01") || p.Hash != [16]byte{0, 2, 3, 15: 4} {
		t.Errorf("Progress = %+v", p)
	}
	if p := b.takeOver(8).Progress(); p.Found {
		t.Errorf("Progress of a shard without rows = %+v", p)
	}
}

// insertOneOfEach puts two rows into every target, in two months where the target has partitions.
func insertOneOfEach(b *bench, wr *warehouse.Writer) {
	b.Helper()
	events, pieces := warehouse.NewEventBlock(), warehouse.NewPieceBlock()
	hourly, monthly := warehouse.NewHourlyBlock(), warehouse.NewMonthlyBlock()
	directory, dead := warehouse.NewDirectoryBlock(), warehouse.NewDeadLetterBlock()
	duplicates, ledger := warehouse.NewDuplicateBlock(), warehouse.NewLedgerBlock()
	elastic := warehouse.NewElasticBlock()
	for i, month := range []string{"2026-02-01", "2026-03-01"} {
		pos, at := warehouse.Position{Shard: wr.Shard(), Seq: uint64(11 + i), Idx: 3}, day(month)
		e := event(i, at)
		e.Position = pos
		events.Append(e)
		pieces.Append(&warehouse.PieceRow{Position: pos, Piece: 1, Sign: 1, Tenant: "t", Source: "s", ID: "i", At: at, EndAt: at, RecordedAt: at,
			Quantity: usage.Int(-1), Dimensions: []usage.Dimension{{Key: "k", Value: "v"}}})
		cell := warehouse.RollupRow{Shard: pos.Shard, Hi: pos.Seq, Tenant: "t", Meter: "m", At: at, Quantity: usage.Int(-5),
			Events: 1, Rows: 1, Low: usage.Int(-5), High: usage.Int(-5), FirstAt: at, LastAt: at}
		hourly.Append(&cell)
		monthly.Append(&cell)
		directory.Append(&warehouse.DirectoryRow{Position: pos, Sign: 1, Tenant: "t", Source: "s", ID: "i", Type: "account.created", Account: "a", At: at, RecordedAt: at, Data: "{}"})
		dead.Append(&warehouse.DeadLetterRow{Position: pos, Tenant: "t", Reason: "poison", Raw: []byte("\x00\xff"), RecordedAt: at, Original: pos, OriginalHash: 1})
		duplicates.Append(&warehouse.DuplicateRow{Position: pos, N: 2, Tenant: "t", Source: "s", ID: "i", IDHash: 5, RecordedAt: at, Original: pos})
		elastic.Append(&warehouse.ElasticRow{Position: pos, Line: 1, Sign: 1, Tenant: "t", Source: "s", ID: "i", At: at, RecordedAt: at,
			Operation: usage.ElasticOperation{InstanceID: "i"}, ElasticLine: usage.ElasticLine{LineNo: 2, Item: "x", MeterQuantity: usage.Int(-2)}})
		ledger.Append(&warehouse.LedgerRow{Shard: pos.Shard, Seq: pos.Seq, Tenant: "t", LoggedAt: at, Hash: [16]byte{0, 2, 3, 15: 4}, Accepted: 6, Stored: 3, Duplicate: 2, Quarantined: 1})
	}
	for _, block := range []warehouse.Block{events, pieces, hourly, monthly, directory, dead, duplicates, elastic, ledger} {
		b.insert(wr, block)
	}
}
