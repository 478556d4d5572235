package eventlog

import "github.com/countinghouse/countinghouse/internal/usage"

// Scanner reads from chunks what deduplication asks about before it decides: identities. It keeps its
// storage; one goroutine at a time may use it.
type Scanner struct {
	chunk Chunk // for its dictionary
	text  [4][uuidText]byte
}

// Slots of Scanner.text: UUIDs that have to be written out.
const (
	textID = iota
	textSource
	textTargetSource
	textTargetID
)

// Scan calls each for every event of a chunk, in order, with its identity and, if it is an event.voided,
// with the identity it names. It looks at nothing else: an event that DecodeChunk takes has the same
// identity here, but one that DecodeChunk refuses may have any, or an empty one. The strings are valid
// during the call. The error is DecodeChunk's for a chunk that is unusable as a whole.
func (s *Scanner) Scan(b []byte, each func(id, target usage.Identity)) error {
	d := decoder{b: b, c: &s.chunk}
	at, err := d.header()
	if err != nil {
		return err
	}
	n, err := d.count(at)
	if err != nil {
		return err
	}
	for range n {
		size, start := uvarint(b, at+1)
		at = start + int(size)
		id, target := s.event(&d, start, at)
		each(id, target)
	}
	return nil
}

// event reads b[i:end] up to the fields it needs: those of an identity come first, those of a target last.
func (s *Scanner) event(d *decoder, i, end int) (id, target usage.Identity) {
	void := false
	for i < end {
		tag, next := uvarint(d.b, i)
		if next < 0 || next >= end || tag > 5<<3 && !void {
			break
		}
		if tag&7 == wireBytes {
			var text []byte
			if text, i = d.bytes(next, end); i < 0 {
				break
			}
			switch {
			case tag>>3 == 1 && len(text) == 16:
				putUUID(s.text[textID][:], text)
				id.ID = alias(s.text[textID][:])
			case tag>>3 == 2 && len(text) > 0:
				id.ID = alias(text)
			}
			continue
		}
		var v uint64
		if v, i = uvarint(d.b, next); i < 0 || i > end {
			break
		}
		switch tag {
		case 3 << 3:
			id.Source = s.word(d, v, textSource)
		case 4 << 3:
			void = d.isVoided(v)
		case 19 << 3:
			target.Source = s.word(d, v, textTargetSource)
		case 20 << 3:
			target.ID = s.word(d, v, textTargetID)
		}
	}
	return id, target
}

// isVoided reports whether a reference is to the type event.voided.
func (d *decoder) isVoided(ref uint64) bool {
	return ref < uint64(len(d.c.refs)) && d.c.refs[ref] == usage.TypeVoided
}

// word is what a reference means; UUIDs of the dictionary are written out where they are asked for.
func (s *Scanner) word(d *decoder, ref uint64, slot int) string {
	if at := int(ref/2-1) * 16; ref > 0 && ref%2 == 0 && ref/2 <= uint64(len(d.uuids)/16) {
		putUUID(s.text[slot][:], d.uuids[at:at+16])
		return alias(s.text[slot][:])
	}
	if ref >= uint64(len(d.c.refs)) {
		return ""
	}
	return d.c.refs[ref]
}
