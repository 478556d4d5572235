package aggregator

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// TestMemoryIsBounded: what is kept of committed batches is bounded in number and in bytes of the messages
// that its strings are slices of, also when batches hold one identity each, or none.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		identities int
		weight     int64
	}{
		"a trickle":             {identities: 1, weight: 600},
		"nothing but repeats":   {identities: 0, weight: 600},
		"large events":          {identities: 4, weight: 256 << 10},
		"one enormous message":  {identities: 1, weight: 32 << 20},
		"batches of usual size": {identities: 20_000, weight: 1 << 20},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory()
			for i := range 200 {
				m.begin(&batch{weight: tt.weight})
				for n := range tt.identities {
					k := identityKey{tenant: "acme", source: "/s", id: fmt.Sprint(i, " ", n)}
					m.put(k, m.hash(k), original{})
				}
				m.retire()
				if m.kept > m.keep || m.pinned > recentBytes || len(m.live) > recentBatches {
					t.Fatalf("after %d batches %d identities in %d generations of %d bytes are kept", i+1, m.kept, len(m.live), m.pinned)
				}
			}
		})
	}
}

// TestWaitingVoidPinsNoMessage: a void may wait for ever, and must not keep its whole message with it.
func TestWaitingVoidPinsNoMessage(t *testing.T) {
	t.Parallel()
	doc := `{"specversion":"1.0","id":"v","source":"/s","type":"event.voided","causationid":"because","time":"2025-11-20T11:00:00Z","data":{"target":{"source":"/other","id":"never"},"reason":"r"}}`
	e, faults := usage.NewParser(usage.DefaultLimits()).Event([]byte(doc))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	packed, err := eventlog.EncodeChunk(nil, &eventlog.Chunk{AcceptedAt: usage.At(1_763_637_000_000_000_000), Events: []usage.Event{e}})
	if err != nil {
		t.Fatal(err)
	}
	c := newDecoder(0, 0).decode(&eventlog.Message{Seq: 1, Tenant: "acme", Kind: eventlog.KindChunk, Data: packed})
	d := &decider{filter: newFilter(64), memory: newMemory(), waiting: map[identityKey]Waiting{}, history: &world{}}
	if _, err := d.decide(t.Context(), []*chunk{c}); err != nil {
		t.Fatal(err)
	}
	if len(d.waiting) != 1 {
		t.Fatalf("%d voids wait: %+v", len(d.waiting), c)
	}
	from := uintptr(unsafe.Pointer(&packed[0]))
	for k, w := range d.waiting {
		for _, s := range []string{k.source, k.id, w.Target.Source, w.Target.ID, w.Causation} {
			if p := uintptr(unsafe.Pointer(unsafe.StringData(s))); p >= from && p < from+uintptr(len(packed)) {
				t.Errorf("%q is a slice of the message", s)
			}
		}
	}
}
