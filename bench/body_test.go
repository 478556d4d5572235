package main

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Every request parses, its ids are new but for the duplicates it says it has, and those are equal.
func TestBodyRenew(t *testing.T) {
	b := newBody(rand.New(rand.NewPCG(1, 2)), "localhost", "key", 1, 50)
	parser := usage.NewParser(usage.DefaultLimits())
	rnd := chacha()
	seen := map[usage.Identity]uint64{}
	for round := range 50 {
		want, repeated, n := b.renew(rnd, time.Now()), int64(0), 0
		err := parser.Batch(b.request[b.from:], func(_ int, _ []byte, e usage.Event, faults []usage.Fault) error {
			n++
			for i := range faults {
				t.Errorf("round %d: %v", round, &faults[i])
			}
			id, hash := usage.Identity{Source: e.Source, ID: e.ID}, usage.ContentHash(&e)
			if first, ok := seen[id]; ok {
				repeated++
				if first != hash {
					t.Errorf("round %d: %s comes again with other content", round, e.ID)
				}
			}
			seen[id] = hash
			return nil
		})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if n != batchEvents || repeated != want || want != min(int64(round), 1) {
			t.Errorf("round %d: %d events, %d repeated, said %d", round, n, repeated, want)
		}
	}
	if i := bytes.Index(b.request, []byte("\r\n\r\n")); i+4 != b.from {
		t.Errorf("body starts at %d, said %d", i+4, b.from)
	}
}

func TestQuantile(t *testing.T) {
	list := make([]time.Duration, 100)
	for i := range list {
		list[i] = time.Duration(i+1) * time.Millisecond
	}
	if got := spread(list); got.P50 != 51 || got.P99 != 100 {
		t.Errorf("spread = %+v, want 51 and 100", got)
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("quantile of nothing = %v", got)
	}
}
