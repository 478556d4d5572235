package aggregator

import (
	"math/rand/v2"
	"testing"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// TestLossesAreCountedOnce: the reader and the server's own count name the same hole, in other pieces.
func TestLossesAreCountedOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var l loss
		lost := map[uint64]bool{}
		for range 60 {
			gap := eventlog.Gap{From: 1 + rnd.Uint64N(100)}
			gap.To = gap.From + rnd.Uint64N(8)
			news := false
			for seq := gap.From; seq <= gap.To; seq++ {
				news = news || !lost[seq]
				lost[seq] = true
			}
			if got := l.add(gap); got != news {
				t.Fatalf("seed %d: %v was news: %v, want %v; %v", seed, gap, got, news, l.gaps)
			}
		}
		if l.messages() != uint64(len(lost)) {
			t.Fatalf("seed %d: %d lost, want %d: %v", seed, l.messages(), len(lost), l.gaps)
		}
		for i := 1; i < len(l.gaps); i++ {
			if l.gaps[i].From <= l.gaps[i-1].To+1 {
				t.Fatalf("seed %d: %v and %v are one", seed, l.gaps[i-1], l.gaps[i])
			}
		}
	}
}
