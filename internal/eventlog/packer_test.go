package eventlog_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// A Packer writes what EncodeChunk writes of the same events, whatever was added and taken out again in
// between, and whatever it held before.
func TestPackerIsEncodeChunk(t *testing.T) {
	var p eventlog.Packer
	rapid.Check(t, func(t *rapid.T) {
		events := append(sample(rapid.IntRange(0, 120).Draw(t, "n"), rapid.Uint64().Draw(t, "seed")).Events, full().Events...)
		p.Open(usage.At(accepted), true, eventlog.Position{Shard: 1, Seq: 2, Idx: 3})
		var kept []usage.Event
		for len(events) > 0 {
			n := rapid.IntRange(1, len(events)).Draw(t, "part")
			mark := p.Mark()
			for i := range events[:n] {
				if err := p.Add(&events[i]); err != nil {
					t.Fatal(err)
				}
			}
			p.Release()
			if rapid.Bool().Draw(t, "taken out") {
				p.Rollback(mark)
			} else {
				kept = append(kept, events[:n]...)
			}
			events = events[n:]
		}
		if p.Len() != len(kept) {
			t.Fatalf("%d events, want %d", p.Len(), len(kept))
		}
		if len(kept) == 0 {
			return
		}
		want, err := eventlog.EncodeChunk(nil, &eventlog.Chunk{
			AcceptedAt: usage.At(accepted), Backfill: true, ReplayOf: &eventlog.Position{Shard: 1, Seq: 2, Idx: 3}, Events: kept,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.AppendTo(nil); !bytes.Equal(got, want) {
			t.Fatalf("%d events\npacked  %x\nencoded %x", len(kept), got, want)
		}
	})
}

// What a Packer refuses leaves no trace, not even in what later events refer to.
func TestPackerRefusals(t *testing.T) {
	t.Parallel()
	good := sample(2, 1).Events
	bad := good[1]
	bad.Subject, bad.CorrelationID = "new", "not UTF-8 \xff"
	var p eventlog.Packer
	p.Open(usage.At(accepted), false, eventlog.Position{})
	var fault *eventlog.ChunkError
	for _, e := range []*usage.Event{&good[0], &bad, {}, &good[1]} {
		err := p.Add(e)
		if sound := e == &good[0] || e == &good[1]; sound != (err == nil) || !sound && !errors.As(err, &fault) {
			t.Fatalf("Add = %v", err)
		}
	}
	want := encode(t, &eventlog.Chunk{AcceptedAt: usage.At(accepted), Events: good})
	if got := p.AppendTo(nil); !bytes.Equal(got, want) {
		t.Errorf("packed %x, want %x", got, want)
	}
}

// A full chunk says so and stays what it was; by number, and by bytes.
func TestPackerFills(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{"events": "", "bytes": `{"pad":"` + strings.Repeat("x", 3000) + `"}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := usage.Event{Source: "/s", ID: "1", Type: usage.TypeActivity, Data: data}
			var p eventlog.Packer
			p.Open(usage.At(accepted), false, eventlog.Position{})
			var err error
			for err == nil {
				err = p.Add(&e)
			}
			got := p.AppendTo(nil)
			if !errors.Is(err, eventlog.ErrChunkFull) || len(got) > eventlog.ChunkBytesMax ||
				p.Len() < eventlog.ChunkEventsMax && len(got) < eventlog.ChunkBytesMax-4000 {
				t.Fatalf("%v after %d events, %d bytes", err, p.Len(), len(got))
			}
			var c eventlog.Chunk
			if err := eventlog.DecodeChunk(got, &c); err != nil || len(c.Events) != p.Len() {
				t.Errorf("%v, %d events, packed %d", err, len(c.Events), p.Len())
			}
			p.Open(usage.At(accepted), false, eventlog.Position{})
			if err := p.Add(&e); err != nil || p.Len() != 1 {
				t.Errorf("in the next chunk: %v, %d events", err, p.Len())
			}
		})
	}
}
