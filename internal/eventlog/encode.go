package eventlog

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// encoder is a chunk on its way to bytes: the dictionary and the encoded events, which are written before
// the dictionary is complete but stand behind it.
type encoder struct {
	dict    dictionary
	last    [slots]lastRef
	strings []byte // framed, as they will stand in the chunk
	uuids   []byte
	events  []byte

	accepted, acceptedMs int64
	text                 bool // false once a string was not UTF-8
}

// lastRef remembers what an attribute was in the event before: mostly it is the same again.
type lastRef struct {
	s   string
	ref uint64
}

// Slots of encoder.last, one per attribute that goes through the dictionary.
const (
	slotSource = iota
	slotType
	slotSubject
	slotCorrelation
	slotCausation
	slotTrace
	slotMeter
	slotUnit
	slotAssetID
	slotAssetName
	slotAssetType
	slotRegion
	slotPlatform
	slotConsumerID
	slotConsumerType
	slotItem
	slotItemVersion
	slotPlan
	slotOther // attributes without a memory of their own
	slots
)

// EncodeChunk appends the wire form of c to dst. The same chunk always encodes to the same bytes. What it
// accepts DecodeChunk accepts; what it refuses (a *ChunkError) no retry can mend.
func EncodeChunk(dst []byte, c *Chunk) ([]byte, error) {
	switch {
	case len(c.Events) == 0 || len(c.Events) > ChunkEventsMax:
		return dst, &ChunkError{Event: -1, Code: CodeLimit, Detail: "a chunk has 1 to 500 events"}
	case !c.AcceptedAt.Known() || !c.AcceptedAt.Storable():
		return dst, &ChunkError{Event: -1, Code: CodeTime, Detail: "accepted_at"}
	case c.ReplayOf != nil && c.ReplayOf.Seq == 0:
		return dst, &ChunkError{Event: -1, Code: CodeRequired, Detail: "replay_of.seq"}
	}
	if c.enc == nil {
		c.enc = &encoder{}
	}
	e := c.enc
	e.reset(c.AcceptedAt)
	defer e.forget()
	for i := range c.Events {
		if code, detail := e.add(&c.Events[i]); code != "" {
			return dst, &ChunkError{Event: i, Code: code, Detail: detail}
		}
	}
	base := len(dst)
	dst = e.assemble(dst, c.Backfill, c.ReplayOf)
	if len(dst)-base > ChunkBytesMax {
		return dst[:base], &ChunkError{Event: -1, Code: CodeLimit, Detail: "chunk larger than 256 KiB"}
	}
	return dst, nil
}

func (e *encoder) reset(accepted usage.Instant) {
	e.dict.reset()
	e.forget()
	e.strings, e.uuids, e.events = e.strings[:0], e.uuids[:0], e.events[:0]
	e.accepted, e.acceptedMs, e.text = accepted.Nanos(), accepted.Millis(), true
}

// forget lets go of the strings of the events encoded last.
func (e *encoder) forget() { e.last = [slots]lastRef{} }

// add encodes one event, or answers the code and detail of a ChunkError and leaves a part of it behind.
func (e *encoder) add(ev *usage.Event) (code, detail string) {
	if code, detail = check(ev); code != "" {
		return code, detail
	}
	start := e.open(7)
	e.event(ev)
	e.close(start)
	if !e.text {
		return CodeText, "a string is not UTF-8"
	}
	return "", ""
}

// size is what assemble will write at most.
func (e *encoder) size() int { return len(e.strings) + len(e.uuids) + len(e.events) + headMax }

// headMax bounds what a chunk has beside strings, UUIDs and events: format, time, flags, a position.
const headMax = 64

func (e *encoder) assemble(dst []byte, backfill bool, replayOf *Position) []byte {
	dst = slices.Grow(dst, e.size())
	dst = append(dst, 1<<3|wireVarint, ChunkFormat, 2<<3|wireFixed64)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.accepted))
	dst = append(dst, e.strings...)
	if len(e.uuids) > 0 {
		dst = appendBytes(dst, 4, e.uuids)
	}
	if backfill {
		dst = append(dst, 5<<3|wireVarint, 1)
	}
	if p := replayOf; p != nil {
		var buf [32]byte
		b := buf[:0]
		b = appendVarint(b, 1, uint64(p.Shard))
		b = appendVarint(b, 2, p.Seq)
		b = appendVarint(b, 3, uint64(p.Idx))
		dst = appendBytes(dst, 6, b)
	}
	return append(dst, e.events...)
}

func (e *encoder) event(ev *usage.Event) {
	b := e.events
	if hi, lo, ok := parseUUID(ev.ID); ok {
		b = append(b, 1<<3|wireBytes, 16)
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, hi), lo)
	} else {
		e.text = e.text && utf8.ValidString(ev.ID)
		b = appendString(b, 2, ev.ID)
	}
	b = e.attribute(b, 3, slotSource, ev.Source)
	if ev.Metered == nil { // else the type is usage.metered and goes without saying: 2 bytes an event
		b = e.attribute(b, 4, slotType, ev.Type)
	}
	b = e.attribute(b, 5, slotSubject, ev.Subject)
	b = e.instant(b, 6, ev.Time)
	b = e.attribute(b, 8, slotCorrelation, ev.CorrelationID)
	if ev.Filled&usage.FilledCausation == 0 || ev.CausationID != ev.CorrelationID {
		b = e.attribute(b, 9, slotCausation, ev.CausationID)
	}
	if ev.Metered != nil {
		e.events = b
		start := e.open(10)
		e.metered(ev.Metered)
		e.close(start)
		b = e.events
	}
	if ev.Data != "" {
		b = appendString(b, 11, ev.Data)
	}
	b = appendVarint(b, 12, uint64(ev.Filled))
	b = appendQuantity(b, 13, ev.Credits)
	b = e.attribute(b, 15, slotTrace, ev.TraceParent)
	b = e.instant(b, 16, ev.RecordedTime)
	if ev.Extensions != "" {
		b = appendString(b, 18, ev.Extensions)
	}
	b = e.attribute(b, 19, slotOther, ev.Target.Source)
	e.events = e.attribute(b, 20, slotOther, ev.Target.ID)
}

func (e *encoder) metered(m *usage.Metered) {
	b := e.events
	b = e.attribute(b, 1, slotMeter, m.Meter)
	b = appendQuantity(b, 2, m.Quantity)
	b = e.attribute(b, 4, slotUnit, m.Unit)
	b = e.attribute(b, 5, slotAssetID, m.AssetID)
	b = e.attribute(b, 6, slotAssetName, m.AssetName)
	b = e.attribute(b, 7, slotAssetType, m.AssetType)
	b = e.attribute(b, 8, slotRegion, m.Region)
	b = e.attribute(b, 9, slotPlatform, m.Platform)
	b = e.attribute(b, 10, slotConsumerID, m.ConsumerID)
	b = e.attribute(b, 11, slotConsumerType, m.ConsumerType)
	b = e.attribute(b, 12, slotItem, m.Item)
	b = e.attribute(b, 13, slotItemVersion, m.ItemVersion)
	b = e.attribute(b, 14, slotPlan, m.Plan)
	if len(m.Dimensions) > 0 {
		e.events = b
		start := e.open(15)
		for i := range m.Dimensions {
			e.events = binary.AppendUvarint(e.events, e.ref(slotOther, m.Dimensions[i].Key))
			e.events = binary.AppendUvarint(e.events, e.ref(slotOther, m.Dimensions[i].Value))
		}
		e.close(start)
		b = e.events
	}
	b = e.instant(b, 16, m.Start)
	b = e.instant(b, 18, m.End)
	e.events = e.instant(b, 20, m.TrialExpiry)
}

// attribute writes the reference of s; most attributes of most events are absent.
func (e *encoder) attribute(b []byte, field, slot int, s string) []byte {
	if s == "" {
		return b
	}
	return e.refer(b, field, slot, s)
}

func (e *encoder) refer(b []byte, field, slot int, s string) []byte {
	return appendVarint(b, field, e.ref(slot, s))
}

// ref is the dictionary reference of s, which enters the dictionary if it is new.
func (e *encoder) ref(slot int, s string) uint64 {
	if s == "" {
		return 0
	}
	l := &e.last[slot]
	if l.s == s {
		return l.ref
	}
	hi, lo, isUUID := parseUUID(s)
	var r uint64
	if isUUID {
		r = e.uuid(hi, lo)
	} else {
		r = e.string(s)
	}
	*l = lastRef{s, r}
	return r
}

// instant writes t as field (milliseconds) or field+1 (nanoseconds).
func (e *encoder) instant(b []byte, field int, t usage.Instant) []byte {
	if !t.Known() {
		return b
	}
	if t.Nanos()%1e6 == 0 {
		return binary.AppendUvarint(appendTag(b, field, wireVarint), zigzag(t.Nanos()/1e6-e.acceptedMs))
	}
	return binary.AppendUvarint(appendTag(b, field+1, wireVarint), zigzag(t.Nanos()-e.accepted))
}

// open starts an embedded message of e.events with one byte for its length; close fills in the length
// and moves the message up in the rare case that it needs more.
func (e *encoder) open(field int) int {
	e.events = append(appendTag(e.events, field, wireBytes), 0)
	return len(e.events)
}

func (e *encoder) close(start int) {
	n := len(e.events) - start
	if n < 0x80 {
		e.events[start-1] = byte(n)
		return
	}
	var buf [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(buf[:], uint64(n))
	e.events = slices.Insert(e.events, start, buf[1:size]...)
	copy(e.events[start-1:], buf[:size])
}

func appendTag(b []byte, field, wire int) []byte {
	if field < 16 {
		return append(b, byte(field<<3|wire))
	}
	return binary.AppendUvarint(b, uint64(field<<3|wire))
}

// appendVarint writes a non-zero v; zero is what absence means.
func appendVarint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	if v < 0x80 && field < 16 {
		return append(b, byte(field<<3|wireVarint), byte(v))
	}
	return binary.AppendUvarint(appendTag(b, field, wireVarint), v)
}

// appendQuantity writes a non-zero q as field, or as field+1 when it takes 16 bytes.
func appendQuantity(b []byte, field int, q usage.Quantity) []byte {
	if v, ok := packQuantity(q); ok {
		return appendVarint(b, field, v)
	}
	return appendWide(append(appendTag(b, field+1, wireBytes), 16), q)
}

func appendString(b []byte, field int, s string) []byte {
	b = binary.AppendUvarint(appendTag(b, field, wireBytes), uint64(len(s)))
	return append(b, s...)
}

func appendBytes(b []byte, field int, s []byte) []byte {
	b = binary.AppendUvarint(appendTag(b, field, wireBytes), uint64(len(s)))
	return append(b, s...)
}
