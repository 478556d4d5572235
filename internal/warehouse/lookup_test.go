package warehouse_test

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func keyOf(r *warehouse.EventRow) warehouse.Key {
	return warehouse.Key{Tenant: r.Tenant, Source: r.Source, ID: r.ID, Hash: r.IDHash}
}

// TestLookup: every stored identity is found with its position, no other is, a negation is a second
// row, and half a hash in common is not an identity.
func TestLookup(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	const n = 20_000
	block := warehouse.NewEventBlock()
	var keys []warehouse.Key
	want := map[warehouse.Stored]bool{}
	for i := range n {
		r := event(i, usage.AtTime(time.Date(2026, time.Month(1+i%4), 1+i%28, i%24, 0, 0, 0, time.UTC)))
		r.Idx = 0 // the engine keeps columns of defaults in another form: they must read the same
		block.Append(r)
		if i%3 == 0 {
			keys = append(keys, keyOf(r))
			want[warehouse.Stored{Key: keyOf(r), Position: r.Position, Sign: 1, ContentHash: r.ContentHash, Type: r.Type}] = true
		}
		if i == 300 {
			r.Sign, r.Seq = -1, 99
			block.Append(r)
			want[warehouse.Stored{Key: keyOf(r), Position: r.Position, Sign: -1, ContentHash: r.ContentHash, Type: r.Type}] = true
		}
	}
	b.insert(b.takeOver(0), block)
	b.query("OPTIMIZE TABLE {{db}}.events FINAL")
	stranger := keys[5]
	stranger.ID = "another"
	keys = append(keys, stranger, keys[7], warehouse.Key{Tenant: "t", Source: "s", ID: "i", Hash: 1})

	got, err := b.w.Lookup(b.ctx, 0, keys)
	if err != nil {
		t.Fatalf("Lookup: %v", err)
	}
	for _, s := range got {
		if !want[s] {
			t.Fatalf("Lookup found %+v, which is not there or was found before", s)
		}
		delete(want, s)
	}
	if len(want) > 0 {
		t.Errorf("Lookup missed %d rows", len(want))
	}
	if got, err := b.w.Lookup(b.ctx, 1, keys); err != nil || len(got) != 0 {
		t.Errorf("Lookup in another partition = %d rows, %v; want none", len(got), err)
	}
	plan := b.query("EXPLAIN indexes = 1, projections = 1 SELECT id FROM {{db}}.events WHERE id_key IN (1, %d) AND bitAnd(shard, 1023) = 0 SETTINGS min_table_rows_to_use_projection_index = 0", keys[0].Hash>>32)
	if !strings.Contains(plan, "by_identity") {
		t.Errorf("a lookup does not use the projection:\n%s", plan)
	}
}

// TestFetchEvents: what is stored can be read back and written again without a difference.
func TestFetchEvents(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	wr := b.takeOver(0)
	plain := event(1, usage.At(1_767_225_600_123_000_000))
	full := event(2, day("2026-01-05"))
	full.CausationID, full.ReportedAt, full.AcceptedAt = "cause", day("2026-01-08"), day("2026-01-07")
	full.RecordedAt, full.EndAt, full.Pieces = day("2026-01-09"), day("2026-01-07"), 2
	full.AssetID, full.AssetName, full.AssetType, full.TrialExpiry, full.Trial = "a", "b", "c", day("2026-02-01"), true
	full.ConsumerType, full.ConsumerID, full.Item, full.ItemVersion, full.Plan = "user", "u", "x", "2", "gold"
	full.Extensions, full.VoidEffect = `{"a":"b"}`, "waiting"
	full.Quantity, _ = usage.ParseQuantity([]byte("-99999999999999999999.123456789"))
	pieces := warehouse.NewPieceBlock()
	var cut []warehouse.PieceRow
	for i := range 2 {
		p := warehouse.PieceRow{Position: full.Position, Piece: uint16(i), Sign: 1, Tenant: full.Tenant, Source: full.Source, ID: full.ID, Account: full.Account,
			At: day(fmt.Sprintf("2026-01-%02d", 5+i)), EndAt: day(fmt.Sprintf("2026-01-%02d", 6+i)), RecordedAt: full.RecordedAt, Meter: full.Meter,
			Quantity: usage.Int(int64(i)), AssetID: "a", AssetName: "b", AssetType: "c", TrialExpiry: full.TrialExpiry, Trial: true, Region: "eu", Platform: "aws",
			ConsumerType: "user", ConsumerID: "u", Item: "x", Plan: "gold", Dimensions: full.Dimensions}
		cut = append(cut, p)
		pieces.Append(&p)
	}
	events := warehouse.NewEventBlock()
	events.Append(plain)
	events.Append(full)
	b.insert(wr, events)
	b.insert(wr, pieces)

	ask := []warehouse.Stored{{Key: keyOf(full), Position: full.Position, Sign: 1}, {Key: keyOf(plain), Position: plain.Position, Sign: 1}}
	got, err := b.w.FetchEvents(b.ctx, ask)
	if err != nil {
		t.Fatalf("FetchEvents: %v", err)
	}
	want := []warehouse.Fetched{{EventRow: *full, Cut: cut}, {EventRow: *plain}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("FetchEvents\n got %+v\nwant %+v", got, want)
	}
	ask[0].Sign = -1
	if _, err := b.w.FetchEvents(b.ctx, ask); err == nil {
		t.Error("FetchEvents of a row that is not there succeeded")
	}
}

// TestIdentityHashes: the engine's hash of an identity is ours, and marks cut exactly.
func TestIdentityHashes(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	const incarnation = 1 << 10
	all := map[warehouse.Mark][]uint64{}
	for _, shard := range []uint16{3, 3 | incarnation, 4} {
		block := warehouse.NewEventBlock()
		for i := range 5_000 {
			r := event(i+int(shard)*10_000, day("2026-01-01"))
			r.Shard, r.Seq = shard, uint64(1+i/500)
			if i%5 == 0 { // XXH3 has a way of its own for each class of lengths
				r.ID = strings.Repeat("é", i%600) + fmt.Sprint(i)
				r.IDHash = usage.IdentityHash(r.Tenant, usage.Identity{Source: r.Source, ID: r.ID})
			}
			block.Append(r)
			m := warehouse.Mark{Shard: shard, Seq: r.Seq}
			all[m] = append(all[m], r.IDHash)
		}
		b.insert(b.takeOver(shard), block)
	}
	tests := map[string]struct{ after, upTo warehouse.Mark }{
		"one incarnation":    {warehouse.Mark{Shard: 3, Seq: 2}, warehouse.Mark{Shard: 3, Seq: 4}},
		"two incarnations":   {warehouse.Mark{Shard: 3, Seq: 9}, warehouse.Mark{Shard: 3 | incarnation, Seq: 1}},
		"from the start":     {warehouse.Mark{}, warehouse.Mark{Shard: 3 | incarnation, Seq: 100}},
		"nothing in between": {warehouse.Mark{Shard: 3, Seq: 4}, warehouse.Mark{Shard: 3, Seq: 4}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got, want []uint64
			err := b.w.IdentityHashes(b.ctx, 3, tt.after, tt.upTo, func(h []uint64) error {
				got = append(got, h...)
				return nil
			})
			if err != nil {
				t.Fatalf("IdentityHashes: %v", err)
			}
			less := func(a, b warehouse.Mark) bool {
				return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Seq, b.Seq)) < 0
			}
			for m, hashes := range all {
				if m.Shard%incarnation == 3 && less(tt.after, m) && !less(tt.upTo, m) {
					want = append(want, hashes...)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("IdentityHashes(%v, %v]: %d hashes, want %d", tt.after, tt.upTo, len(got), len(want))
			}
		})
	}
}

// TestWaitingVoids: only stored voids that wait, up to the mark.
func TestWaitingVoids(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	block := warehouse.NewEventBlock()
	for i, effect := range []string{"waiting", "acted", "already_voided", "waiting", "waiting"} {
		r := event(i, day("2026-01-01"))
		r.Seq, r.Type, r.Meter, r.VoidEffect, r.Data = uint64(i+1), usage.TypeVoided, "", effect, `{"reason":"r"}`
		block.Append(r)
	}
	b.insert(b.takeOver(0), block)
	got, err := b.w.WaitingVoids(b.ctx, 0, warehouse.Mark{Shard: 0, Seq: 4})
	if err != nil {
		t.Fatalf("WaitingVoids: %v", err)
	}
	if len(got) != 2 || got[0].Seq != 1 || got[1].Seq != 4 || got[1].Data != `{"reason":"r"}` || got[1].RecordedAt != day("2026-01-01") {
		t.Errorf("WaitingVoids = %+v", got)
	}
}
