package aggregator

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// ident is an identity with its tenant, as 128 bits of hashes that are seeded anew in each process: a
// producer cannot choose ids that meet, and chance does not (ADR 0009). It never leaves the process.
type ident struct{ a, b uint64 }

// hasher makes idents. It is not safe for concurrent use; copies of it agree.
type hasher struct {
	a, b maphash.Seed
	buf  []byte
}

func newHasher() hasher { return hasher{a: maphash.MakeSeed(), b: maphash.MakeSeed()} }

// again is another hasher that agrees with h.
func (h *hasher) again() hasher { return hasher{a: h.a, b: h.b} }

func (h *hasher) of(tenant string, id usage.Identity) ident {
	b := binary.AppendUvarint(h.buf[:0], uint64(len(tenant)))
	b = append(b, tenant...)
	b = binary.AppendUvarint(b, uint64(len(id.Source)))
	b = append(b, id.Source...)
	b = append(b, id.ID...)
	h.buf = b
	return ident{maphash.Bytes(h.a, b), maphash.Bytes(h.b, b)}
}

// entry is what is known of an identity's first occurrence.
type entry struct {
	ident
	contentHash uint64
	at          uint64 // packed: where it stands and what became of it
}

// Of entry.at: sequence, index, incarnation, and two bits. The incarnation is an earlier one than the
// session's where a void is of an event that was counted before; the partition is the session's.
const (
	entryVoid   = 1 << 0 // its type is event.voided
	entryVoided = 1 << 1 // a negation of it was decided

	incarnationAt   = 2
	incarnationBits = 16 - incarnationShift
	idxAt           = incarnationAt + incarnationBits
	idxBits         = 12
	seqAt           = idxAt + idxBits
)

// A message has fewer events than there is room for, and no stream will ever have 2^44 messages.
var _ [1<<idxBits - eventlog.DirectEventsMax]struct{}

func newEntry(k ident, contentHash uint64, p Position, isVoid, voided bool) entry {
	at := p.Seq<<seqAt | uint64(p.Idx)<<idxAt | uint64(Incarnation(p.Shard))<<incarnationAt
	if isVoid {
		at |= entryVoid
	}
	if voided {
		at |= entryVoided
	}
	return entry{ident: k, contentHash: contentHash, at: at}
}

func (e *entry) isVoid() bool { return e.at&entryVoid != 0 }
func (e *entry) voided() bool { return e.at&entryVoided != 0 }
func (e *entry) seq() uint64  { return e.at >> seqAt }
func (e *entry) idx() uint32  { return uint32(e.at>>idxAt) & (1<<idxBits - 1) }

// pos is where the first occurrence stands, in the given partition of the log.
func (e *entry) pos(partition uint16) Position {
	incarnation := uint16(e.at>>incarnationAt) & (1<<incarnationBits - 1)
	return Position{Shard: Shard(partition, incarnation), Seq: e.seq(), Idx: e.idx()}
}

// memory is every identity decided since progress, kept until the covering ledger row is committed
// (I8), and the youngest of those committed: a retry comes soon, and is then known without
// asking the warehouse. It holds no strings, so nothing of a message outlives its batch. What is in flight
// is one generation per batch; of what is committed the oldest is forgotten first, so what is known of an
// identity is never older than what was forgotten. What there is no room for goes to disk, where it is still
// this session's memory and no other's (spill.go).
type memory struct {
	hash     hasher
	live     []*generation    // in flight, oldest first; the last one belongs to the batch being decided
	retired  []*generation    // committed, oldest first
	kept     int              // identities in those
	keep     int              // of them, at most
	spare    []*generation    // recycled
	spill    *spill           // older ones; nil: they are forgotten
	recalled map[ident]*entry // read from there for this batch; nil: it is not there
}

// recentIdentities are 40 to 60 bytes each, and with what is in flight two seconds of retries at 200,000 events
// a second.
const recentIdentities = 1 << 18

// mergedIdentities is the size up to which small batches share a generation: few are to be searched.
const mergedIdentities = 1 << 17

// generation is a hash table of entries.
type generation struct {
	index   []uint32 // open addressing, a power of two: high bits of a hash | 1 + index into entries; 0 is free
	entries []entry
	batch   *batch // that decided them; nil once it is retired
}

// Of an index word, so many bits say which entry.
const (
	entryBits = 21
	entryMask = 1<<entryBits - 1
)

func newMemory() *memory {
	return &memory{hash: newHasher(), keep: recentIdentities, recalled: map[ident]*entry{}}
}

// close forgets what is on disk.
func (m *memory) close() {
	if m.spill != nil {
		m.spill.close()
	}
}

func newGeneration() *generation { return &generation{index: make([]uint32, 1024)} }

// begin opens the generation of the next batch.
func (m *memory) begin(b *batch) {
	g := (*generation)(nil)
	if n := len(m.spare); n > 0 {
		g, m.spare = m.spare[n-1], m.spare[:n-1]
	} else {
		g = newGeneration()
	}
	g.batch = b
	m.live = append(m.live, g)
	clear(m.recalled)
}

// retire notes that the oldest batch in flight is committed: its identities are in the warehouse and in
// the filter now.
func (m *memory) retire() {
	g := m.live[0]
	m.live = append(m.live[:0], m.live[1:]...)
	g.batch = nil
	m.kept += len(g.entries)
	if n := len(m.retired); n > 0 && len(m.retired[n-1].entries)+len(g.entries) <= mergedIdentities {
		m.kept -= len(m.retired[n-1].entries) + len(g.entries)
		m.retired[n-1].merge(g)
		m.kept += len(m.retired[n-1].entries)
		m.recycle(g)
	} else {
		m.retired = append(m.retired, g)
	}
	for m.kept > m.keep {
		oldest := m.retired[0]
		m.retired = append(m.retired[:0], m.retired[1:]...)
		m.kept -= len(oldest.entries)
		if m.spill != nil {
			m.spill.add(oldest.entries)
		}
		m.recycle(oldest)
	}
}

// spareGenerations is how many emptied tables are kept for the batches to come: each batch takes one, and frees
// one.
const spareGenerations = 1

func (m *memory) recycle(g *generation) {
	if len(m.spare) == spareGenerations {
		return
	}
	clear(g.index)
	g.entries = g.entries[:0]
	m.spare = append(m.spare, g)
}

// inFlight returns what is known of k from batches that are not retired, and the batch that decided it.
func (m *memory) inFlight(k ident) (*entry, *batch) {
	for i := len(m.live) - 1; i >= 0; i-- { // newest first: it knows of voids the older do not
		if e := m.live[i].find(k); e != nil {
			return e, m.live[i].batch
		}
	}
	return nil, nil
}

// recent returns what is known of k from batches that are retired, as far as it is in memory or was recalled.
// They are in the filter: who asks it first asks here hardly ever.
func (m *memory) recent(k ident) *entry {
	for i := len(m.retired) - 1; i >= 0; i-- {
		if e := m.retired[i].find(k); e != nil {
			return e
		}
	}
	return m.recalled[k]
}

// recall reports whether k is known. What is known from disk only is then known until the next batch begins, and what
// is not there is not looked for again until then: a flood of one id reads once.
func (m *memory) recall(k ident) bool {
	if e, _ := m.inFlight(k); e != nil || m.recent(k) != nil {
		return true
	}
	if m.spill == nil {
		return false
	}
	e, looked := m.recalled[k]
	if !looked {
		if on, found := m.spill.find(k); found {
			e = &on
		}
		m.recalled[k] = e
	}
	return e != nil
}

// put records the original of an identity in the current generation, which must not hold it.
func (m *memory) put(e entry) { m.live[len(m.live)-1].put(e) }

// void notes that the original o is voided by an event of the current batch. The note lives as long as
// this batch, not as long as the original's: after the original is retired the warehouse shows its row,
// but not yet the negation that is still in flight (simulation, seed 97).
func (m *memory) void(o entry) {
	o.at |= entryVoided
	g := m.live[len(m.live)-1]
	if own := g.find(o.ident); own != nil {
		own.at |= entryVoided
		return
	}
	g.put(o)
}

// find returns the entry of k. The pointer is valid until the next put.
func (g *generation) find(k ident) *entry {
	mask := uint64(len(g.index) - 1)
	tag := uint32(k.b) &^ entryMask
	for i := k.a & mask; g.index[i] != 0; i = (i + 1) & mask {
		if w := g.index[i]; w&^entryMask == tag {
			if e := &g.entries[w&entryMask-1]; e.ident == k {
				return e
			}
		}
	}
	return nil
}

func (g *generation) put(e entry) {
	g.entries = append(g.entries, e)
	if 2*len(g.entries) > len(g.index) {
		g.index = make([]uint32, 2*len(g.index))
		for i := range g.entries {
			g.enter(g.entries[i].ident, i)
		}
		return
	}
	g.enter(e.ident, len(g.entries)-1)
}

func (g *generation) enter(k ident, entry int) {
	mask := uint64(len(g.index) - 1)
	i := k.a & mask
	for g.index[i] != 0 {
		i = (i + 1) & mask
	}
	g.index[i] = uint32(k.b)&^entryMask | uint32(entry+1)
}

// merge adds the entries of a younger generation, which know more where both know something.
func (g *generation) merge(younger *generation) {
	for i := range younger.entries {
		if e := g.find(younger.entries[i].ident); e != nil {
			*e = younger.entries[i]
			continue
		}
		g.put(younger.entries[i])
	}
}
