package aggregator

import (
	"errors"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// opener unpacks chunks, one at a time: an event is decoded, decided and written into its columns while
// it is in the processor's cache, and no memory is held for those that wait.
type opener struct {
	packed eventlog.Chunk
	items  []item
}

// open returns the events and rejects of c. They are valid until the next call; the strings for as long as
// anybody holds them. Whatever a chunk holds, it answers: what cannot be read is rejected with its raw
// bytes, and its good neighbours count. The error is a broken invariant.
func (o *opener) open(c *chunk) (items []item, rejects []reject, err error) {
	if c.packed == nil {
		return c.events, c.rejects, nil
	}
	broken := panics(func() { items, rejects, err = o.unpack(c, eventlog.DecodeChunk) })
	if broken != nil { // again, event by event
		o.packed = eventlog.Chunk{}
		broken = panics(func() { items, rejects, err = o.unpack(c, eventlog.DecodeCarefully) })
	}
	if broken != nil {
		o.packed = eventlog.Chunk{}
		return nil, []reject{poisoned(broken, c.packed)}, nil
	}
	return items, rejects, err
}

// panics answers what do panicked with, or nil.
func panics(do func()) (broken any) {
	defer func() { broken = recover() }()
	do()
	return nil
}

// unpack decodes what ingest packed. Its events were validated at the door; decode refuses what the
// warehouse could refuse.
func (o *opener) unpack(c *chunk, decode func([]byte, *eventlog.Chunk) error) ([]item, []reject, error) {
	decodeErr := decode(c.packed, &o.packed)
	partial := (*eventlog.PartialError)(nil)
	if decodeErr != nil && !errors.As(decodeErr, &partial) {
		return nil, nil, fmt.Errorf("%w: shard %d seq %d was read and is now %w", errBroken, c.shard, c.seq, decodeErr)
	}
	if len(o.packed.Events) != len(c.ids) {
		return nil, nil, fmt.Errorf("%w: shard %d seq %d had %d events and has %d", errBroken, c.shard, c.seq, len(c.ids), len(o.packed.Events))
	}
	var rejects []reject
	var bad map[int]bool
	if partial != nil {
		bad = make(map[int]bool, len(partial.Faults))
		raw := c.packed // once: it is all that there is of every one of them
		for _, f := range partial.Faults {
			bad[f.Event] = true
			rejects = append(rejects, reject{idx: uint32(f.Event), reason: f.Code, detail: f.Error(), raw: raw})
			raw = nil
		}
	}
	if o.packed.AcceptedAt.Known() {
		c.acceptedAt = o.packed.AcceptedAt.Millis()
	}
	items := o.items[:0]
	for i := range o.packed.Events {
		if len(bad) > 0 && bad[i] {
			continue
		}
		e := &o.packed.Events[i]
		it := itemOf(c, e, uint32(i))
		if it.idHash != c.ids[i].hash { // looked for under another name: it could be counted twice
			return nil, nil, fmt.Errorf("%w: shard %d seq %d event %d has another identity than was read", errBroken, c.shard, c.seq, i)
		}
		it.ident, it.seen = c.ids[i].ident, c.ids[i].seen
		if r := e.RecordedTime; o.packed.Backfill && r.Known() {
			it.recordedAt = r.Millis()
		}
		items = append(items, it)
	}
	o.items = items
	return items, rejects, nil
}

// itemOf is an event with what follows from it alone.
func itemOf(c *chunk, e *usage.Event, idx uint32) item {
	return item{
		event: e, idx: idx, recordedAt: c.loggedAt, seen: true,
		idHash:      usage.IdentityHash(c.tenant, usage.Identity{Source: e.Source, ID: e.ID}),
		contentHash: usage.ContentHash(e),
	}
}

// poisoned is a message that decoding panicked at.
func poisoned(r any, raw []byte) reject {
	return reject{reason: reasonPoison, detail: fmt.Sprintf("decoding panicked: %.200v", r), raw: raw}
}
