package eventlog_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

type scanned struct{ id, target usage.Identity }

// scan is what a Scanner sees, copied.
func scan(s *eventlog.Scanner, b []byte) (out []scanned, err error) {
	own := func(i usage.Identity) usage.Identity {
		return usage.Identity{Source: strings.Clone(i.Source), ID: strings.Clone(i.ID)}
	}
	err = s.Scan(b, func(id, target usage.Identity) { out = append(out, scanned{own(id), own(target)}) })
	return out, err
}

// agree fails unless the scan of b names the same identities as its decoding.
func agree(t *testing.T, s *eventlog.Scanner, b []byte) (events int) {
	t.Helper()
	var c eventlog.Chunk
	bad, err := refused(eventlog.DecodeChunk(b, &c))
	ids, scanErr := scan(s, b)
	if err != nil {
		if scanErr != nil && scanErr.Error() != err.Error() {
			t.Fatalf("scan says %v, decoding %v", scanErr, err)
		}
		return 0
	}
	if scanErr != nil || len(ids) != len(c.Events) {
		t.Fatalf("scan sees %d events (%v), decoding %d", len(ids), scanErr, len(c.Events))
	}
	for i := range c.Events {
		e := &c.Events[i]
		if bad[i] {
			continue
		}
		events++
		want := scanned{id: usage.Identity{Source: e.Source, ID: e.ID}}
		if e.Type == usage.TypeVoided {
			want.target = e.Target
		}
		if ids[i] != want {
			t.Fatalf("event %d: scan sees %v, decoding %v", i, ids[i], want)
		}
	}
	return events
}

// refused are the events of a chunk that decoding left out; the error is about the whole of it.
func refused(err error) (map[int]bool, error) {
	var partial *eventlog.PartialError
	if !errors.As(err, &partial) {
		return nil, err
	}
	bad := map[int]bool{}
	for _, f := range partial.Faults {
		bad[f.Event] = true
	}
	return bad, nil
}

// TestScanAgrees: what is looked up before a decision is what the decision is about, also in chunks that
// are damaged; an identity that the scan missed would be counted twice.
func TestScanAgrees(t *testing.T) {
	t.Parallel()
	var s eventlog.Scanner
	rnd := rand.New(rand.NewPCG(5, 5))
	for _, c := range []*eventlog.Chunk{full(), sample(40, 2)} {
		c.Events[1].Source = randomUUID(rnd) // a source that the dictionary keeps as 16 bytes
		c.Events = append(c.Events, usage.Event{
			Source: c.Events[1].Source, ID: "void", Type: usage.TypeVoided, Data: `{"reason":"wrong"}`,
			Target: usage.Identity{Source: randomUUID(rnd), ID: randomUUID(rnd)},
		})
		whole, err := eventlog.EncodeChunk(nil, c)
		if err != nil {
			t.Fatal(err)
		}
		if n := agree(t, &s, whole); n != len(c.Events) {
			t.Fatalf("%d events compared, want %d", n, len(c.Events))
		}
		compared := 0
		for range 20_000 {
			b := append([]byte(nil), whole...)
			for range 1 + rnd.IntN(3) {
				b[rnd.IntN(len(b))] = byte(rnd.Uint32())
			}
			compared += agree(t, &s, b)
		}
		if compared == 0 {
			t.Error("no damaged chunk had a sound event")
		}
	}
}

func BenchmarkScan(b *testing.B) {
	var s eventlog.Scanner
	packed, err := eventlog.EncodeChunk(nil, sample(250, 1))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Scan(packed, func(_, _ usage.Identity) {}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/250, "ns/event")
}
