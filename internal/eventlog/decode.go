package eventlog

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
	"unsafe"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// DecodeChunk reads b into c, overwriting it. It validates everything the warehouse, or a fold, could
// refuse later. The error is a *ChunkError when the chunk as a whole is unusable and a *PartialError when
// only some of its events are; c.Events then holds the good ones at their places. It never panics.
//
// Decoded strings share memory with b, which the caller must not change afterwards; to keep one small
// string for long, clone it, or it keeps the whole message alive.
func DecodeChunk(b []byte, c *Chunk) error {
	d := decoder{b: b, c: c}
	return d.chunk(b, c)
}

// DecodeCarefully is DecodeChunk for a chunk at which that broke its promise and panicked: what panics is
// the fault of the one event, CodePoison of package usage, and its neighbours are read.
func DecodeCarefully(b []byte, c *Chunk) error {
	d := decoder{b: b, c: c, careful: true}
	return d.chunk(b, c)
}

func (d *decoder) chunk(b []byte, c *Chunk) error {
	c.AcceptedAt, c.Backfill, c.ReplayOf, c.Events = usage.Instant{}, false, nil, c.Events[:0]
	first, err := d.header()
	if err != nil {
		return err
	}
	n, err := d.count(first)
	if err != nil {
		return err
	}
	d.prepare(n)
	var faults []*ChunkError
	for i, at := 0, first; i < n; i++ {
		size, start := uvarint(b, at+1)
		at = start + int(size)
		e := &c.Events[i]
		code, detail := d.checked(e, start, at)
		if code != "" {
			*e = usage.Event{}
			faults = append(faults, &ChunkError{Event: i, Code: code, Detail: detail})
		}
	}
	if faults != nil {
		return &PartialError{Faults: faults}
	}
	return nil
}

// checked reads an event from b[start:end] and judges it.
func (d *decoder) checked(e *usage.Event, start, end int) (code, detail string) {
	if d.careful {
		defer func() {
			if r := recover(); r != nil {
				code, detail = usage.CodePoison, fmt.Sprintf("decoding panicked: %.200v", r)
			}
		}()
	}
	if code, detail = d.event(e, start, end); code == "" {
		code, detail = check(e)
	}
	return code, detail
}

type decoder struct {
	b []byte
	c *Chunk

	careful bool // a panic is the fault of one event

	accepted, acceptedMs int64
	strings              int    // dictionary entries of either kind
	uuids                []byte // the dictionary's
	slab                 []byte // text of UUIDs; what is used is never written again
}

func chunkFault(code, format string, args ...any) error {
	return &ChunkError{Event: -1, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// header reads everything before the first event and answers where that is.
func (d *decoder) header() (int, error) {
	b := d.b
	if len(b) > ChunkBytesMax {
		return 0, chunkFault(CodeLimit, "%d bytes, at most %d", len(b), ChunkBytesMax)
	}
	if len(b) < 2 || b[0] != 1<<3|wireVarint {
		return 0, chunkFault(CodeVersion, "does not start with a format")
	}
	format, i := uvarint(b, 1)
	if i < 0 || format != ChunkFormat {
		return 0, chunkFault(CodeVersion, "format %d is not known here, only %d", format, ChunkFormat)
	}
	if len(b) < i+9 || b[i] != 2<<3|wireFixed64 {
		return 0, chunkFault(CodeSyntax, "no accepted_at")
	}
	d.c.AcceptedAt = usage.At(int64(binary.LittleEndian.Uint64(b[i+1:])))
	if !d.c.AcceptedAt.Storable() {
		return 0, chunkFault(CodeTime, "accepted_at")
	}
	d.accepted, d.acceptedMs = d.c.AcceptedAt.Nanos(), d.c.AcceptedAt.Millis()
	i += 9
	i, err := d.dictionary(i)
	if err != nil {
		return 0, err
	}
	if i < len(b) && b[i] == 5<<3|wireVarint {
		if i+1 >= len(b) || b[i+1] > 1 {
			return 0, chunkFault(CodeSyntax, "backfill")
		}
		d.c.Backfill = b[i+1] == 1
		i += 2
	}
	if i < len(b) && b[i] == 6<<3|wireBytes {
		pos, next := d.bytes(i+1, len(b))
		if next < 0 || !d.position(pos) {
			return 0, chunkFault(CodeSyntax, "replay_of")
		}
		i = next
	}
	return i, nil
}

// dictionary fills c.refs, so that a reference is an index; what no entry claims stays "".
func (d *decoder) dictionary(i int) (int, error) {
	b, refs := d.b, append(d.c.refs[:0], "")
	for i < len(b) && b[i] == 3<<3|wireBytes {
		s, next := d.bytes(i+1, len(b))
		if next < 0 || len(s) == 0 {
			return 0, chunkFault(CodeSyntax, "dictionary entry %d", d.strings)
		}
		if !utf8.Valid(s) {
			return 0, chunkFault(CodeText, "dictionary entry %d", d.strings)
		}
		refs = append(refs, alias(s), "")
		d.strings++
		i = next
	}
	if i < len(b) && b[i] == 4<<3|wireBytes {
		u, next := d.bytes(i+1, len(b))
		if next < 0 || len(u) == 0 || len(u)%16 != 0 {
			return 0, chunkFault(CodeSyntax, "uuids")
		}
		d.uuids = u
		i = next
	}
	for len(refs) < len(d.uuids)/16*2+1 {
		refs = append(refs, "")
	}
	d.c.refs = refs
	return i, nil
}

// count walks over the frames of the events without reading them.
func (d *decoder) count(i int) (int, error) {
	n := 0
	for ; i < len(d.b); n++ {
		if d.b[i] != 7<<3|wireBytes {
			return 0, chunkFault(CodeSyntax, "unknown field, wrong order or wrong wire type at byte %d", i)
		}
		if _, i = d.bytes(i+1, len(d.b)); i < 0 {
			return 0, chunkFault(CodeSyntax, "event %d is cut off", n)
		}
	}
	if n == 0 || n > ChunkEventsMax {
		return 0, chunkFault(CodeLimit, "%d events, 1 to %d allowed", n, ChunkEventsMax)
	}
	return n, nil
}

// prepare makes room for n events and writes the dictionary's UUIDs out.
func (d *decoder) prepare(n int) {
	c := d.c
	if cap(c.Events) < n {
		c.Events = make([]usage.Event, n)
	}
	c.Events = c.Events[:n]
	if cap(c.metered) < n {
		c.metered = make([]usage.Metered, 0, n)
	}
	c.metered, c.dims = c.metered[:0], c.dims[:0]
	d.slab = make([]byte, 0, uuidText*(n+len(d.uuids)/16))
	for i := 0; i < len(d.uuids); i += 16 {
		c.refs[i/8+2] = d.uuid(d.uuids[i : i+16])
	}
}

func (d *decoder) uuid(u []byte) string {
	n := len(d.slab)
	d.slab = d.slab[:n+uuidText]
	putUUID(d.slab[n:], u)
	return alias(d.slab[n:])
}

// alias is a string over b's memory; b must be non-empty and never change again.
func alias(b []byte) string { return unsafe.String(&b[0], len(b)) }

// bytes reads a length and that many bytes from b[i:end]; the index after them is -1 if they are not there.
func (d *decoder) bytes(i, end int) ([]byte, int) {
	n, i := uvarint(d.b, i)
	if i < 0 || i > end || n > uint64(end-i) {
		return nil, -1
	}
	return d.b[i : i+int(n)], i + int(n)
}

func (d *decoder) position(b []byte) bool {
	var p Position
	last := uint64(0)
	for i := 0; i < len(b); {
		tag, next := uvarint(b, i)
		if next < 0 || tag <= last {
			return false
		}
		last = tag
		v, next := uvarint(b, next)
		if next < 0 {
			return false
		}
		i = next
		switch tag {
		case 1 << 3:
			p.Shard = uint16(v)
			if v > math.MaxUint16 {
				return false
			}
		case 2 << 3:
			p.Seq = v
		case 3 << 3:
			p.Idx = uint32(v)
			if v > math.MaxUint32 {
				return false
			}
		default:
			return false
		}
	}
	d.c.replayOf, d.c.ReplayOf = p, &d.c.replayOf
	return p.Seq > 0
}
