package aggregator

import (
	"testing"
	"unsafe"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// TestMemoryIsBounded: what is kept of committed batches is bounded in number, also when batches hold one
// identity each, or none; the youngest are kept, and few tables are to be searched.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ batches, identities int }{
		"a trickle":             {batches: 20_000, identities: 1},
		"nothing but repeats":   {batches: 20_000, identities: 0},
		"batches of usual size": {batches: 60, identities: 90_000},
		"small batches":         {batches: 4_000, identities: 1_000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory()
			for i := range tt.batches {
				m.begin(&batch{})
				for n := range tt.identities {
					m.put(entry{ident: ident{a: uint64(i*tt.identities+n) * 0x9e3779b97f4a7c15, b: uint64(n)}})
				}
				m.retire()
			}
			total := tt.batches * tt.identities
			if m.kept > m.keep || total <= m.keep && m.kept != total || m.kept+mergedIdentities < min(total, m.keep) || len(m.live) > 0 {
				t.Errorf("%d identities kept of %d", m.kept, total)
			}
			if len(m.retired) > 2*m.keep/mergedIdentities+1 {
				t.Errorf("%d tables to search", len(m.retired))
			}
			bytes := 0
			for _, g := range m.retired {
				bytes += cap(g.entries)*int(unsafe.Sizeof(entry{})) + 4*cap(g.index)
			}
			if most := 64*m.kept + 4096*len(m.retired); bytes > most {
				t.Errorf("%d bytes for %d identities, want at most %d", bytes, m.kept, most)
			}
			last := tt.batches*tt.identities - 1
			if last >= 0 && !m.recall(ident{a: uint64(last) * 0x9e3779b97f4a7c15, b: uint64(tt.identities - 1)}) {
				t.Error("the youngest is forgotten")
			}
		})
	}
}

// TestFloodReadsDiskOnce: of one batch, an id that is repeated is looked for on disk once, whether it is there or not.
func TestFloodReadsDiskOnce(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.spill = &spill{dir: t.TempDir(), keep: 1 << 20, forgot: func(err error) { t.Errorf("read again: %v", err) }}
	t.Cleanup(m.close)
	stored, fresh := ident{a: 1, b: 1}, ident{a: 1, b: 2}
	m.spill.add([]entry{{ident: stored, at: 7}})
	m.begin(&batch{})
	if !m.recall(stored) || m.recall(fresh) {
		t.Fatal("what is on disk is not what was put there")
	}
	if err := m.spill.runs[0].file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if e := m.recent(stored); !m.recall(stored) || m.recall(fresh) || e == nil || e.at != 7 || m.recent(fresh) != nil {
		t.Errorf("asked again: %+v", e)
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
	d := &decider{filter: newFilter(64), memory: newMemory(), router: newRouter(nil), waiting: map[identityKey]Waiting{}, history: &world{}}
	c := newDecoder(0, 0, d.memory.hash.again()).decode(&eventlog.Message{Seq: 1, Tenant: "acme", Kind: eventlog.KindChunk, Data: packed})
	if _, err := d.decide(t.Context(), []*chunk{c}, newBlocks()); err != nil {
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
