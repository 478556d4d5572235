package aggregator

import (
	"math/bits"
	"math/rand/v2"
)

// filter answers "never seen" for almost every new identity, and "perhaps" for the rest. It is a cache:
// a wrong "perhaps" costs a look-up, and everything at or below its covered position is in it.
//
// It is a chain of cuckoo tables of 16-bit fingerprints: 18 bits a key, two cache lines a probe, and one wrong
// answer in nine thousand a segment. A Bloom filter of as many bits gave one in a thousand, and half of all look-ups
// were of events never seen. A segment is a quarter of those before it: fewer would be asked faster, but the newest is
// half empty on average, and all of it is resident.
type filter struct {
	segments []*segment
}

const (
	filterFirst = 1 << 20 // capacity of the first segment, in keys: 2 MiB
	filterStep  = 1 << 22 // segments double up to here, and are a quarter of the filter from there on
	filterLoad  = 90      // percent of the slots that are used at most: at 95 an addition moves three times as many, at 98 no key finds a place
	bucketSlots = 4       // fingerprints of a word
	pageBuckets = 512     // 4 KiB: both buckets of a key are in one
	kicksMost   = 500     // a key that moved so many others found no place: the segment is full
)

// segment is one cuckoo table of fixed capacity. A key has two buckets, either of which can be computed from
// the other and the fingerprint, so that a fingerprint can be moved without knowing its key. The seed is
// nobody's business: who knew it could choose ids that want the same buckets.
type segment struct {
	words    []uint64 // buckets of four fingerprints; an empty slot is 0
	capacity uint64
	keys     uint64
	seed     uint64
	turn     uint64 // which slot is emptied next

	file string // where it was saved last, and the checksum; "" if it has changed since
	sum  uint64
}

// bucketsOf is how many buckets a segment of the given capacity has: whole pages of them.
func bucketsOf(capacity uint64) uint64 {
	return (capacity*100/(filterLoad*bucketSlots)/pageBuckets + 1) * pageBuckets
}

func newSegment(capacity uint64) *segment {
	return &segment{words: make([]uint64, bucketsOf(capacity)), capacity: capacity, seed: rand.Uint64()}
}

// newFilter is an empty filter whose first segment takes first keys.
func newFilter(first uint64) *filter { return &filter{segments: []*segment{newSegment(first)}} }

// has reports whether the identity hash was possibly added.
func (f *filter) has(h uint64) bool {
	for _, s := range f.segments {
		if s.has(h) {
			return true
		}
	}
	return false
}

// add notes an identity hash. A full segment is sealed and a larger one begun.
func (f *filter) add(h uint64) {
	s := f.segments[len(f.segments)-1]
	if s.keys < s.capacity && s.add(h) {
		return
	}
	s = newSegment(max(min(2*s.capacity, filterStep), f.size()/4))
	f.segments = append(f.segments, s)
	s.add(h) // it is empty
}

// size is the number of identities added.
func (f *filter) size() uint64 {
	var n uint64
	for _, s := range f.segments {
		n += s.keys
	}
	return n
}

// place is the first bucket of a hash and its fingerprint.
func (s *segment) place(h uint64) (bucket, print uint64) {
	h ^= s.seed
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h = (h ^ h>>29) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	bucket, _ = bits.Mul64(h, uint64(len(s.words)))
	return bucket, max(h&0xffff, 1) // 0 is an empty slot
}

// other is the other bucket of a fingerprint: twice other is the bucket itself.
func other(bucket, print uint64) uint64 {
	return bucket ^ (print*0x9e3779b97f4a7c15>>55 | 1)
}

// Four fingerprints of 16 bits lie in a word.
const (
	lanes    = 0x0001000100010001
	laneTops = 0x8000800080008000
)

// zeroLane is not 0 if a lane is 0; its lowest bit is the top one of the lowest such lane.
func zeroLane(w uint64) uint64 { return (w - lanes) &^ w & laneTops }

func (s *segment) has(h uint64) bool {
	b, p := s.place(h)
	c := other(b, p)
	p *= lanes
	return zeroLane(s.words[b]^p)|zeroLane(s.words[c]^p) != 0
}

// put takes an empty slot of a bucket.
func (s *segment) put(bucket, print uint64) bool {
	free := zeroLane(s.words[bucket])
	if free == 0 {
		return false
	}
	s.words[bucket] |= print << (bits.TrailingZeros64(free) &^ 15)
	return true
}

// add reports whether there was a place. What looks like the key already says "perhaps" for it too.
func (s *segment) add(h uint64) bool {
	b, p := s.place(h)
	if c := other(b, p); s.has(h) || s.put(b, p) || s.put(c, p) || s.kick(c, p) {
		s.keys++
		return true
	}
	return false
}

// kick moves fingerprints to their other buckets until one finds an empty slot. If none does, all go back.
func (s *segment) kick(bucket, print uint64) bool {
	type move struct{ bucket, shift uint64 }
	var path [kicksMost]move
	for n := range path {
		s.turn = s.turn*0xd6e8feb86659fd93 + 1
		shift := s.turn >> 62 * 16
		path[n] = move{bucket, shift}
		print = s.swap(bucket, shift, print)
		if bucket = other(bucket, print); s.put(bucket, print) {
			return true
		}
	}
	for n := len(path) - 1; n >= 0; n-- {
		print = s.swap(path[n].bucket, path[n].shift, print)
	}
	return false
}

// swap puts a fingerprint where another is, and returns that.
func (s *segment) swap(bucket, shift, print uint64) uint64 {
	w := s.words[bucket]
	s.words[bucket] = w&^(0xffff<<shift) | print<<shift
	return w >> shift & 0xffff
}
