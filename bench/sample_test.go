package main

import (
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

func testSample(repeats int) *sample {
	from := time.Date(2026, 3, 1, 0, 0, 1, 0, time.UTC)
	return &sample{tenants: 4, accounts: 5, seed: 7, repeats: repeats, at: dayShape(from, from.AddDate(0, 0, 20), 40)}
}

// decoded is what a packer's chunk holds when it is read back.
func decoded(t *testing.T, p *packer, i int64) []usage.Event {
	t.Helper()
	data, err := p.encode(nil, i, usage.At(1e18))
	if err != nil {
		t.Fatal(err)
	}
	var c eventlog.Chunk
	if err := eventlog.DecodeChunk(data, &c); err != nil {
		t.Fatal(err)
	}
	return c.Events
}

// The duplicates of a sample are as many as it says, each equal to an event of the same tenant before it.
func TestSampleRepeats(t *testing.T) {
	for _, repeats := range []int{0, 5} {
		s := testSample(repeats)
		seen := map[string]map[usage.Identity]uint64{}
		found := int64(0)
		for i := range int64(40) {
			tenant := tenantName(s.tenantOf(i))
			if seen[tenant] == nil {
				seen[tenant] = map[usage.Identity]uint64{}
			}
			for _, e := range decoded(t, newPacker(s), i) {
				id, hash := usage.Identity{Source: e.Source, ID: e.ID}, usage.ContentHash(&e)
				if first, ok := seen[tenant][id]; ok {
					found++
					if first != hash {
						t.Errorf("chunk %d: %s comes again with other content", i, e.ID)
					}
				}
				seen[tenant][id] = hash
			}
			if got := s.repeated(i + 1); got != found {
				t.Fatalf("%d repeats, %d chunks: %d duplicates, said %d", repeats, i+1, found, got)
			}
		}
	}
}

// A flood is one event per tenant, for ever.
func TestSampleFlood(t *testing.T) {
	s := testSample(0)
	s.flood = true
	seen := map[string]bool{}
	for i := range int64(20) {
		for _, e := range decoded(t, newPacker(s), i) {
			seen[tenantName(s.tenantOf(i))+e.Source+e.ID] = true
		}
	}
	if want := 20*chunkEvents - s.repeated(20); int64(len(seen)) != want {
		t.Errorf("%d identities, want %d", len(seen), want)
	}
}

// Chunks and JSON hold the same events: identities, and content by its hash.
func TestSampleForms(t *testing.T) {
	p := newPacker(testSample(5))
	parser := usage.NewParser(usage.DefaultLimits())
	for i := range int64(12) {
		want := decoded(t, p, i)
		n := 0
		err := parser.Batch(p.json(nil, i, 0, chunkEvents), func(j int, _ []byte, e usage.Event, faults []usage.Fault) error {
			n++
			if len(faults) > 0 {
				t.Errorf("chunk %d, event %d: %v", i, j, faults)
			}
			if e.ID != want[j].ID || e.Source != want[j].Source || usage.ContentHash(&e) != usage.ContentHash(&want[j]) {
				t.Errorf("chunk %d, event %d: %+v, want %+v", i, j, e, want[j])
			}
			return nil
		})
		if err != nil || n != chunkEvents {
			t.Fatalf("chunk %d: %d events: %v", i, n, err)
		}
	}
}

// Times ascend from the first instant to the last, three times as many by day as by night.
func TestDayShape(t *testing.T) {
	from := time.Date(2026, 3, 1, 0, 0, 1, 0, time.UTC)
	to := from.AddDate(0, 0, 20).Add(90 * time.Minute)
	const n = 100_000
	at := dayShape(from, to, n)
	day, last := 0, from.UnixMilli()-1
	for i := range int64(n) {
		ms := at(i)
		if ms < last || ms >= to.UnixMilli() {
			t.Fatalf("chunk %d is at %d, after %d, before %d", i, ms, last, to.UnixMilli())
		}
		last = ms
		if h := time.UnixMilli(ms).UTC().Hour(); h >= 7 && h < 19 {
			day++
		}
	}
	if got := float64(day) / n; got < 0.74 || got > 0.76 { //arch:float a share
		t.Errorf("%.3f of the events are by day, want 0.75", got)
	}
	if to.UnixMilli()-last > time.Minute.Milliseconds() {
		t.Errorf("the last chunk is at %d, want just before %d", last, to.UnixMilli())
	}
}
