package aggregator

import (
	"hash/maphash"

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
	isVoid      bool   // its type is event.voided
	voided      bool   // a negation of it was decided
	batch       *batch // holds its row; nil when it is only in the warehouse
	index       int32  // of its row in batch.events
}

// memory is every identity decided since progress, kept until the covering ledger row is committed
// (architecture 4 a). It is exact: keys are compared, not only hashed. Maps are keyed by a hash seeded per
// process, so a producer cannot choose ids that collide. One generation per batch: a commit forgets the
// oldest generation whole.
type memory struct {
	seed  maphash.Seed
	live  []*generation // oldest first; the last one belongs to the batch being decided
	spare *generation   // recycled
}

type generation struct {
	heads map[uint64]int32
	slots []slot
}

type slot struct {
	key  identityKey
	next int32 // index into slots of the next key with the same hash, or -1
	original
}

func newMemory() *memory { return &memory{seed: maphash.MakeSeed()} }

func (m *memory) hash(k identityKey) uint64 { return maphash.Comparable(m.seed, k) }

// begin opens the generation of the next batch.
func (m *memory) begin() {
	g := m.spare
	m.spare = nil
	if g == nil {
		g = &generation{heads: make(map[uint64]int32)}
	}
	m.live = append(m.live, g)
}

// forget drops the oldest generation: its identities are in the warehouse and in the filter now.
func (m *memory) forget() {
	g := m.live[0]
	m.live = append(m.live[:0], m.live[1:]...)
	clear(g.heads)
	clear(g.slots)
	g.slots = g.slots[:0]
	m.spare = g
}

// find returns the original of k decided since progress, or nil. The pointer is valid until the next put.
func (m *memory) find(k identityKey, h uint64) *original {
	for i := len(m.live) - 1; i >= 0; i-- { // newest first: it knows of voids the older do not
		if o := m.live[i].find(k, h); o != nil {
			return o
		}
	}
	return nil
}

func (g *generation) find(k identityKey, h uint64) *original {
	i, ok := g.heads[h]
	if !ok {
		return nil
	}
	for ; i >= 0; i = g.slots[i].next {
		if g.slots[i].key == k {
			return &g.slots[i].original
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
	m.put(k, h, o)
}

// put records the original of k in the current generation, which must not hold k.
func (m *memory) put(k identityKey, h uint64, o original) {
	g := m.live[len(m.live)-1]
	next := int32(-1)
	if i, ok := g.heads[h]; ok {
		next = i
	}
	g.slots = append(g.slots, slot{key: k, next: next, original: o})
	g.heads[h] = int32(len(g.slots) - 1)
}
