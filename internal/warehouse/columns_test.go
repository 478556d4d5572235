package warehouse

import (
	"bytes"
	"slices"
	"testing"

	"github.com/ClickHouse/ch-go/proto"
	"pgregory.net/rapid"
)

// TestWordsAreReadBack holds a column of words, used again and again, against what ch-go reads from its bytes.
func TestWordsAreReadBack(t *testing.T) {
	many := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "", "a", "b", "of some length"}), 0, 40)
	same := rapid.Map(rapid.IntRange(0, 40), func(n int) []string { return slices.Repeat([]string{"x"}, n) })
	wide := rapid.Map(rapid.IntRange(250, 260), func(n int) []string { // keys of one byte and of two
		rows := make([]string, n)
		for i := range rows {
			rows[i] = string(rune('А' + i))
		}
		return rows
	})
	rapid.Check(t, func(t *rapid.T) {
		var c words
		for range rapid.IntRange(1, 4).Draw(t, "blocks") {
			c.Reset()
			rows := rapid.OneOf(many, same, wide).Draw(t, "rows")
			for _, s := range rows {
				c.add(s)
			}
			if c.Rows() != len(rows) {
				t.Fatalf("%d rows, want %d", c.Rows(), len(rows))
			}
			var b proto.Buffer
			c.EncodeState(&b)
			c.EncodeColumn(&b)
			read := new(proto.ColStr).LowCardinality()
			r := proto.NewReader(bytes.NewReader(b.Buf))
			if err := read.DecodeState(r); err != nil {
				t.Fatal(err)
			}
			if err := read.DecodeColumn(r, len(rows)); err != nil {
				t.Fatal(err)
			}
			for i, want := range rows {
				if got := read.Row(i); got != want {
					t.Fatalf("row %d is %q, want %q", i, got, want)
				}
			}
		}
	})
}
