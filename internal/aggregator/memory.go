package aggregator

import (
	"hash/maphash"
	"math/bits"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// identityKey is an identity with its tenant.
type identityKey struct {
	tenant, source, id string
}

func keyOf(tenant string, id usage.Identity) identityKey {
	return identityKey{tenant: tenant, source: id.Source, id: id.ID}
}

// original is what is known of an identity's first occurrence.
type original struct {
	pos         Position
	contentHash uint64
	isVoid      bool  // its type is event.voided
	voided      bool  // a negation of it was decided
	row         int32 // of its row in the events of its generation's batch, or -1
}

// memory is every identity decided since progress, kept until the covering ledger row is committed
// (architecture 4 a), and the youngest of those committed: a retry comes soon, and is then known without
// asking the warehouse. It is exact: keys are compared, not only hashed. Tables are keyed by a hash
// seeded per process, so a producer cannot choose ids that collide. One generation per batch: the oldest
// is forgotten first, and whole, so what is known of an identity is never older than what was forgotten.
type memory struct {
	seed    maphash.Seed
	live    []*generation // oldest first; the last one belongs to the batch being decided
	retired int           // so many of the oldest are committed
	kept    int           // identities in those
	keep    int           // of them, at most
	pinned  int64         // bytes of the log that the strings of those are slices of, at most
	spare   *generation   // recycled
}

// recentIdentities are 30 MB, and a second and a half of retries at 100,000 events a second.
const recentIdentities = 150_000

// What a trickle of batches, or of large events, may keep: a string keeps the message it was cut from.
const (
	recentBatches = 16
	recentBytes   = 12 << 20
)

type generation struct {
	index []uint64 // open addressing, a power of two: half a hash | 1 + index into slots; 0 is free
	slots []slot
	batch *batch // that the rows of the slots are in; nil once it is retired
	bytes int64  // of the log that the batch was, once it is retired
}

type slot struct {
	key  identityKey
	hash uint64
	original
}

func newMemory() *memory { return &memory{seed: maphash.MakeSeed(), keep: recentIdentities} }

func newGeneration() *generation { return &generation{index: make([]uint64, 1024)} }

func (m *memory) hash(k identityKey) uint64 {
	return maphash.String(m.seed, k.id) ^ bits.RotateLeft64(maphash.String(m.seed, k.source), 21) ^
		bits.RotateLeft64(maphash.String(m.seed, k.tenant), 42)
}

// begin opens the generation of the next batch.
func (m *memory) begin(b *batch) {
	g := m.spare
	m.spare = nil
	if g == nil {
		g = newGeneration()
	}
	g.batch = b
	m.live = append(m.live, g)
}

// retire notes that the oldest batch is committed: its identities are in the warehouse and in the filter
// now, and its rows are not to be touched any more.
func (m *memory) retire() {
	g := m.live[m.retired]
	g.batch, g.bytes = nil, g.batch.weight
	m.retired++
	m.kept += len(g.slots)
	m.pinned += g.bytes
	for m.retired > 0 && (m.kept > m.keep || m.pinned > recentBytes || m.retired >= recentBatches) {
		m.forget()
	}
}

func (m *memory) forget() {
	g := m.live[0]
	m.live = append(m.live[:0], m.live[1:]...)
	m.retired--
	m.kept -= len(g.slots)
	m.pinned -= g.bytes
	clear(g.index)
	clear(g.slots)
	g.slots = g.slots[:0]
	m.spare = g
}

// find returns what is known of k, and the batch its row is in if that is not retired. The pointer is
// valid until the next put.
func (m *memory) find(k identityKey, h uint64) (*original, *batch) {
	for i := len(m.live) - 1; i >= 0; i-- { // newest first: it knows of voids the older do not
		if o := m.live[i].find(k, h); o != nil {
			return o, m.live[i].batch
		}
	}
	return nil, nil
}

// has reports whether find would find k.
func (m *memory) has(k identityKey) bool {
	o, _ := m.find(k, m.hash(k))
	return o != nil
}

const upperHalf = 0xffffffff << 32

func (g *generation) find(k identityKey, h uint64) *original {
	mask := uint64(len(g.index) - 1)
	for i := h & mask; g.index[i] != 0; i = (i + 1) & mask {
		if e := g.index[i]; e&upperHalf == h&upperHalf {
			if s := &g.slots[uint32(e)-1]; s.key == k {
				return &s.original
			}
		}
	}
	return nil
}

// void notes that the original o of k is voided by an event of the current batch. The note lives as long
// as this batch, not as long as the original's: after the original is retired the warehouse shows its
// row, but not yet the negation that is still in flight (simulation, seed 97).
func (m *memory) void(k identityKey, h uint64, o original) {
	o.voided = true
	if own := m.live[len(m.live)-1].find(k, h); own != nil {
		own.voided = true
		return
	}
	o.row = -1 // it is in another batch, and nobody will ask for it: a voided event is not voided again
	m.put(k, h, o)
}

// put records the original of k in the current generation, which must not hold k.
func (m *memory) put(k identityKey, h uint64, o original) {
	g := m.live[len(m.live)-1]
	g.slots = append(g.slots, slot{key: k, hash: h, original: o})
	if 2*len(g.slots) > len(g.index) {
		g.index = make([]uint64, 2*len(g.index))
		for i := range g.slots {
			g.enter(g.slots[i].hash, i)
		}
		return
	}
	g.enter(h, len(g.slots)-1)
}

func (g *generation) enter(h uint64, slot int) {
	mask := uint64(len(g.index) - 1)
	i := h & mask
	for g.index[i] != 0 {
		i = (i + 1) & mask
	}
	g.index[i] = h&upperHalf | uint64(slot+1)
}
