package eventlog

import (
	"errors"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// ErrChunkFull: the event does not fit into this chunk any more; it fits into an empty one.
var ErrChunkFull = errors.New("chunk is full")

// Packer builds one chunk, event by event, as the bytes EncodeChunk would make of the same events. It
// keeps no memory of the events it is given, and is reused from chunk to chunk.
type Packer struct {
	enc      encoder
	backfill bool
	replayOf Position
	events   int
}

// Open begins a chunk and forgets the one before. replayOf is zero, or the dead letter that is replayed.
func (p *Packer) Open(acceptedAt usage.Instant, backfill bool, replayOf Position) {
	p.enc.reset(acceptedAt)
	p.backfill, p.replayOf, p.events = backfill, replayOf, 0
}

// Add encodes e. After an error the chunk is what it was before: ErrChunkFull, or a *ChunkError whose
// event no chunk can hold.
func (p *Packer) Add(e *usage.Event) error {
	if p.events == ChunkEventsMax {
		return ErrChunkFull
	}
	before := p.Mark()
	if code, detail := p.enc.add(e); code != "" {
		p.Rollback(before)
		return &ChunkError{Event: p.events, Code: code, Detail: detail}
	}
	if p.enc.size() > ChunkBytesMax {
		p.Rollback(before)
		if p.events == 0 {
			return &ChunkError{Event: 0, Code: CodeLimit, Detail: "chunk larger than 256 KiB"}
		}
		return ErrChunkFull
	}
	p.events++
	return nil
}

// Release ends the use of what the events added so far point to: their memory may be used for something
// else from now on. More events may be added.
func (p *Packer) Release() { p.enc.forget() }

// Len is how many events the chunk has.
func (p *Packer) Len() int { return p.events }

// Size is about how many bytes it has.
func (p *Packer) Size() int { return p.enc.size() }

// AppendTo appends the chunk to dst.
func (p *Packer) AppendTo(dst []byte) []byte {
	if p.replayOf != (Position{}) {
		return p.enc.assemble(dst, p.backfill, &p.replayOf)
	}
	return p.enc.assemble(dst, p.backfill, nil)
}

// Mark is a state of a Packer to go back to.
type Mark struct{ events, strings, uuids, bytes, entries int }

// Mark is the state now.
func (p *Packer) Mark() Mark {
	e := &p.enc
	return Mark{p.events, len(e.strings), len(e.uuids), len(e.events), len(e.dict.entries)}
}

// Rollback takes out what was added since m was made, of the same chunk.
func (p *Packer) Rollback(m Mark) {
	e := &p.enc
	p.events, e.text = m.events, true
	e.strings, e.uuids, e.events = e.strings[:m.strings], e.uuids[:m.uuids], e.events[:m.bytes]
	e.forget() // it may know references that are no more
	e.dict.truncate(m.entries)
}
