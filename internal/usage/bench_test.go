package usage_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// typical is what a producer with an official SDK sends: 306 bytes.
func typical(i int) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"0197a1f2-6c1e-7b8a-9d3e-%012d","source":"/gateway/eu-west-1/07","type":"usage.metered",`+
		`"subject":"A-%04d","time":"2026-03-14T15:09:26.535897Z","data":{"meter":"tokens","quantity":"%d.25","unit":"token","region":"EU",`+
		`"consumer":{"type":"user","id":"u-%d"},"dimensions":{"model":"large","tier":"gold"}}}`, i, i%1000, i%5000, i%300)
}

func batch(n int) []byte {
	all := make([]string, n)
	for i := range all {
		all[i] = typical(i)
	}
	return []byte("[" + strings.Join(all, ",") + "]")
}

func benchBatch(b *testing.B, doc []byte, n int) {
	p := usage.NewParser(usage.Limits{})
	count := 0
	each := func(_ int, _ []byte, e usage.Event, faults []usage.Fault) error {
		if len(faults) > 0 {
			return &faults[0]
		}
		count++
		return nil
	}
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Batch(doc, each); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "events/s")
	_ = n
}

func BenchmarkBatch500(b *testing.B) { benchBatch(b, batch(500), 500) }

// An actor sends every event down the strict path.
func BenchmarkBatch500Strict(b *testing.B) {
	doc := strings.ReplaceAll(string(batch(500)), `"data":{`, `"data":{"actor":{"id":"a"},`)
	benchBatch(b, []byte(doc), 500)
}

func BenchmarkEvent(b *testing.B) {
	p := usage.NewParser(usage.Limits{})
	doc := []byte(typical(1))
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, faults := p.Event(doc); len(faults) > 0 {
			b.Fatal(faults)
		}
	}
}

func BenchmarkContentHash(b *testing.B) {
	e, _ := usage.NewParser(usage.Limits{}).Event([]byte(typical(1)))
	b.ReportAllocs()
	for b.Loop() {
		usage.ContentHash(&e)
	}
}

func BenchmarkIdentityHash(b *testing.B) {
	id := usage.Identity{Source: "/gateway/eu-west-1/07", ID: "0197a1f2-6c1e-7b8a-9d3e-000000000001"}
	b.ReportAllocs()
	for b.Loop() {
		usage.IdentityHash("default", id)
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	e, _ := usage.NewParser(usage.Limits{}).Event([]byte(typical(1)))
	var dst []byte
	for b.Loop() {
		dst = usage.AppendJSON(dst[:0], &e)
	}
	b.SetBytes(int64(len(dst)))
}

func BenchmarkCutOverMidnight(b *testing.B) {
	m := usage.Metered{Quantity: usage.Int(7), Start: instant(b, "2025-03-31T23:30:00Z"), End: instant(b, "2025-04-01T00:30:00Z")}
	b.ReportAllocs()
	for b.Loop() {
		m.Cut()
	}
}
