package aggregator

import "math/bits"

// filter answers "never seen" for almost every new identity, and "perhaps" for the rest. It is a cache:
// a wrong "perhaps" costs a look-up, and everything at or below its covered position is in it.
//
// It is a chain of blocked Bloom segments, each twice the capacity of the one before, 16 bits a key and
// one cache line a probe: about 0.1 % wrong answers a segment, about 2 bytes an identity over all.
type filter struct {
	segments []*segment
}

const (
	filterFirst      = 1 << 20 // capacity of the first segment, in keys: 2 MiB
	filterLargest    = 1 << 26 // segments stop doubling here: 128 MiB
	filterBitsPerKey = 16
	blockWords       = 8 // 512 bits: one cache line
	filterProbes     = 8
)

// segment is one blocked Bloom filter of fixed capacity.
type segment struct {
	words    []uint64 // len is a multiple of blockWords
	blocks   uint64
	capacity uint64
	keys     uint64

	file string // where it was saved last, and the checksum; "" if it has changed since
	sum  uint64
}

func newSegment(capacity uint64) *segment {
	blocks := capacity * filterBitsPerKey / (blockWords * 64)
	return &segment{words: make([]uint64, blocks*blockWords), blocks: blocks, capacity: capacity}
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
	if s.keys >= s.capacity {
		s = newSegment(min(2*s.capacity, filterLargest))
		f.segments = append(f.segments, s)
	}
	s.add(h)
}

// size is the number of identities added.
func (f *filter) size() uint64 {
	var n uint64
	for _, s := range f.segments {
		n += s.keys
	}
	return n
}

// block picks a cache line by the high half of the hash; the low half, remixed, picks the bits.
func (s *segment) block(h uint64) ([]uint64, uint64) {
	hi, _ := bits.Mul64(h, s.blocks)
	i := hi * blockWords
	return s.words[i : i+blockWords : i+blockWords], h * 0x9E3779B97F4A7C15
}

func (s *segment) has(h uint64) bool {
	b, r := s.block(h)
	for range filterProbes {
		bit := r >> 55 // nine high bits: 512 positions
		if b[bit>>6]&(1<<(bit&63)) == 0 {
			return false
		}
		r *= 0xD6E8FEB86659FD93
	}
	return true
}

func (s *segment) add(h uint64) {
	b, r := s.block(h)
	for range filterProbes {
		bit := r >> 55
		b[bit>>6] |= 1 << (bit & 63)
		r *= 0xD6E8FEB86659FD93
	}
	s.keys++
}
