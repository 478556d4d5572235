package aggregator

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestRollupSumsAreExact: a hundred thousand of the largest quantities there can be, in one cell, and as
// many cells as a batch can have, sum to what big.Int says (row 30 of docs/explanation/what-we-survived.md).
func TestRollupSumsAreExact(t *testing.T) {
	t.Parallel()
	largest, err := usage.ParseQuantity([]byte("99999999999999999999.999999999"))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(3, 3))
	h := newRollup(warehouse.Hourly, newWords())
	months := newRollup(warehouse.Monthly, h.words)
	for _, meters := range []int{1, 70_000} { // the second time in memory of the first
		h.reset()
		months.reset()
		want := map[string]*big.Int{}
		for i := range 100_000 {
			q, sign := largest, int8(1)
			if meters > 1 {
				q = usage.Quantity{Hi: rnd.Int64N(1 << 32), Lo: rnd.Uint64()}
			}
			if rnd.IntN(4) == 0 {
				q = q.Neg()
			}
			if meters > 1 && rnd.IntN(4) == 0 {
				sign = -1
			}
			meter := string(rune('a' + rnd.IntN(meters)))
			r := &eventRow{tenant: "acme", meter: meter, quantity: q, sign: sign, at: 1_762_000_000_000, event: &usage.Event{Subject: "a"}}
			r.pos.Seq = uint64(i)
			h.add(r, keeper{past: true})
			if want[meter] == nil {
				want[meter] = new(big.Int)
			}
			want[meter].Add(want[meter], new(big.Int).Mul(q.Big(), big.NewInt(int64(sign))))
		}
		block := warehouse.NewHourlyBlock()
		rows := uint64(0)
		for i := range h.cells {
			meter := h.words.texts[h.cells[i].meter]
			if got := h.cells[i].quantity.Big(); got.Cmp(want[meter]) != 0 {
				t.Fatalf("meter %q sums to %s, want %s", meter, got, want[meter])
			}
			rows += h.cells[i].rows
			row := h.cells[i].row(h.words, 0)
			block.Append(&row)
		}
		for i := range h.cells {
			months.merge(&h.cells[i])
		}
		for i := range months.cells {
			c := &months.cells[i]
			if meter := h.words.texts[c.meter]; c.quantity.Big().Cmp(want[meter]) != 0 || c.at != 1_761_955_200 {
				t.Fatalf("meter %q sums to %s in the month of %d, want %s", meter, c.quantity, c.at, want[meter])
			}
		}
		if len(months.cells) != len(want) || len(h.cells) != len(want) || rows != 100_000 || block.Rows() != len(want) {
			t.Errorf("%d cells of %d rows, want %d of 100000", len(h.cells), rows, len(want))
		}
	}
}
