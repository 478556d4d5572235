package eventlog

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"unicode/utf8"
)

// dictionary finds the reference of a string or UUID that the chunk holds already. It is a hash table
// over the encoder's own buffers, so it keeps no string of its callers alive, and it is emptied without
// giving back its memory.
type dictionary struct {
	seed    maphash.Seed // attackers choose the strings
	seeded  bool
	mix     [2]uint64
	slots   []uint32 // index into entries, plus one; 0 is empty. A power of two, at most half full
	entries []entry
	strings uint64
}

// entry is one string: its reference, and where its bytes are (of a UUID: its 16 bytes).
type entry struct {
	hash, ref  uint32
	start, end uint32
}

const dictionaryFirst = 256 // slots

func (d *dictionary) reset() {
	if !d.seeded {
		d.seed, d.seeded = maphash.MakeSeed(), true
		d.mix = [2]uint64{maphash.String(d.seed, "hi"), maphash.String(d.seed, "lo")}
		d.slots = make([]uint32, dictionaryFirst)
	}
	d.entries, d.strings = d.entries[:0], 0
	clear(d.slots)
}

// truncate forgets all but the first n entries.
func (d *dictionary) truncate(n int) {
	for _, e := range d.entries[n:] {
		d.strings -= uint64(e.ref & 1)
	}
	d.entries = d.entries[:n]
	d.place()
}

func (d *dictionary) place() {
	clear(d.slots)
	mask := uint32(len(d.slots) - 1)
	for i := range d.entries {
		at := d.entries[i].hash & mask
		for d.slots[at] != 0 {
			at = (at + 1) & mask
		}
		d.slots[at] = uint32(i + 1)
	}
}

// insert puts an entry into the empty slot at.
func (d *dictionary) insert(at uint32, e entry) {
	d.entries = append(d.entries, e)
	d.slots[at] = uint32(len(d.entries))
	if 2*len(d.entries) > len(d.slots) {
		d.slots = make([]uint32, 2*len(d.slots))
		d.place()
	}
}

// hash is of a string that is not empty. Most are short, and two words hold them.
func (d *dictionary) hash(s string) uint32 {
	n := len(s)
	switch {
	case n > 16:
		return uint32(maphash.String(d.seed, s))
	case n >= 8:
		return d.fold(be64(s), be64(s[n-8:]))
	case n >= 4:
		return d.fold(be32(s)<<32|be32(s[n-4:]), uint64(n))
	}
	return d.fold(uint64(s[0])<<16|uint64(s[n/2])<<8|uint64(s[n-1]), uint64(n))
}

func (d *dictionary) fold(a, b uint64) uint32 {
	hi, lo := bits.Mul64(a^d.mix[0], b^d.mix[1])
	return uint32(hi ^ lo)
}

// string is the reference of s, which is no UUID and enters the dictionary if it is new.
func (e *encoder) string(s string) uint64 {
	d := &e.dict
	hash := d.hash(s)
	mask := uint32(len(d.slots) - 1)
	at := hash & mask
	for ; d.slots[at] != 0; at = (at + 1) & mask {
		if x := &d.entries[d.slots[at]-1]; x.hash == hash && x.ref&1 != 0 && string(e.strings[x.start:x.end]) == s {
			return uint64(x.ref)
		}
	}
	e.text = e.text && utf8.ValidString(s)
	e.strings = appendString(e.strings, 3, s)
	d.strings++
	ref := d.strings*2 - 1
	end := len(e.strings)
	d.insert(at, entry{hash: hash, ref: uint32(ref), start: uint32(end - len(s)), end: uint32(end)})
	return ref
}

// uuid is the same for a UUID.
func (e *encoder) uuid(hi, lo uint64) uint64 {
	d := &e.dict
	hash := d.fold(hi, lo)
	mask := uint32(len(d.slots) - 1)
	at := hash & mask
	for ; d.slots[at] != 0; at = (at + 1) & mask {
		x := &d.entries[d.slots[at]-1]
		if x.hash != hash || x.ref&1 != 0 {
			continue
		}
		if u := e.uuids[x.start:x.end]; binary.BigEndian.Uint64(u) == hi && binary.BigEndian.Uint64(u[8:]) == lo {
			return uint64(x.ref)
		}
	}
	e.uuids = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(e.uuids, hi), lo)
	end := len(e.uuids)
	ref := end / 16 * 2
	d.insert(at, entry{hash: hash, ref: uint32(ref), start: uint32(end - 16), end: uint32(end)})
	return uint64(ref)
}
