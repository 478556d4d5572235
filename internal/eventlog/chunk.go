package eventlog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Limits of one chunk. They are part of format 1: a decoder refuses what exceeds them, so no
// configuration of an ingest can write what an aggregator cannot read.
const (
	ChunkFormat    = 1
	ChunkEventsMax = 500
	ChunkBytesMax  = 256 << 10
	// EventBytesMax bounds one event with all dictionary references expanded: without it a forged
	// chunk of 256 KiB could unfold into gigabytes.
	EventBytesMax = 256 << 10
	// DirectEventsMax is the most events of one message of kind `events`, as of one HTTP request.
	DirectEventsMax = 1000
)

// Chunk is one message of the log: events of one tenant that were accepted together.
//
// A Chunk may be reused for any number of encodings and decodings, by one goroutine at a time; it keeps
// its storage. Decoding overwrites Events, and what their Metered and Dimensions point to. Strings are
// never overwritten: they share memory with the decoded message and with memory allocated per decode.
type Chunk struct {
	AcceptedAt usage.Instant // ingest's clock; required
	Backfill   bool          // accepted under events:backfill: recordedtime counts, the past is unlimited
	ReplayOf   *Position     // the dead letter this chunk replays, or nil
	Events     []usage.Event

	enc      *encoder
	refs     []string
	metered  []usage.Metered
	dims     []usage.Dimension
	replayOf Position
}

// Position is a place in the log.
type Position struct {
	Shard uint16 // partition | incarnation << 10
	Seq   uint64
	Idx   uint32
}

// String is "shard:seq:idx".
func (p Position) String() string { return fmt.Sprintf("%d:%d:%d", p.Shard, p.Seq, p.Idx) }

// ParsePosition reads what String writes. Sequences start at 1.
func ParsePosition(s string) (Position, error) {
	var p Position
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return p, fmt.Errorf("position %.60q: want shard:seq:idx, like 0:4711:3", s)
	}
	shard, err1 := strconv.ParseUint(parts[0], 10, 16)
	seq, err2 := strconv.ParseUint(parts[1], 10, 64)
	idx, err3 := strconv.ParseUint(parts[2], 10, 32)
	if err := errors.Join(err1, err2, err3); err != nil || seq == 0 {
		return p, fmt.Errorf("position %.60q: want shard:seq:idx, like 0:4711:3", s)
	}
	return Position{Shard: uint16(shard), Seq: seq, Idx: uint32(idx)}, nil
}

// Codes of a ChunkError: stable, they end up as the reason of a dead letter.
const (
	CodeVersion  = "chunk-version"  // a format this program does not know
	CodeSyntax   = "chunk-syntax"   // not the wire format, an unknown field, a reference to nothing
	CodeLimit    = "chunk-limit"    // more events or bytes than a chunk may have
	CodeRequired = "required"       // a required attribute is missing
	CodeTime     = "time-range"     // outside [1970, 2200)
	CodeQuantity = "quantity-range" // not below 1e20 (credits: 1e29)
	CodeText     = "invalid-utf8"
	CodeData     = "invalid-data" // data is not JSON, data of a known type or extensions not one object; dimensions not sorted
)

// ChunkError says why a chunk, or one event of it, can never be stored. Retrying is pointless.
type ChunkError struct {
	Event  int // index, or -1 for the chunk as a whole
	Code   string
	Detail string
}

func (e *ChunkError) Error() string {
	if e.Event < 0 {
		return "chunk: " + e.Code + ": " + e.Detail
	}
	return fmt.Sprintf("chunk event %d: %s: %s", e.Event, e.Code, e.Detail)
}

// PartialError is DecodeChunk's answer when the chunk is sound but some of its events are not. The good
// neighbours are decoded and may be used; the events listed here are zero.
type PartialError struct{ Faults []*ChunkError }

func (e *PartialError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d events of the chunk are refused", len(e.Faults))
	for i, f := range e.Faults {
		if i == 3 {
			b.WriteString("; …")
			break
		}
		b.WriteString("; " + f.Error())
	}
	return b.String()
}

// The magnitudes a Decimal(38, 9) target takes, in billionths.
func quantityLimit() usage.Quantity { return usage.Quantity{Hi: 0x1431E0FAE, Lo: 0x6D7217CAA0000000} } // 1e20
func creditsLimit() usage.Quantity {
	return usage.Quantity{Hi: 0x4B3B4CA85A86C47A, Lo: 0x098A224000000000} // 1e29
}

func within(q, limit usage.Quantity) bool { return q.Cmp(limit) < 0 && q.Cmp(limit.Neg()) > 0 }

// check is everything but the wire format that makes an event unfit for the log, for the encoder and the
// decoder alike: what encodes decodes. It answers the code and detail, or "" if the event is fit.
func check(e *usage.Event) (code, detail string) {
	switch {
	case e.Source == "":
		return CodeRequired, "source"
	case e.ID == "":
		return CodeRequired, "id"
	case e.Type == "":
		return CodeRequired, "type"
	case (e.Type == usage.TypeMetered) != (e.Metered != nil):
		return CodeRequired, "metered payload and type usage.metered go together"
	case e.Filled&^(usage.FilledCorrelation|usage.FilledCausation) != 0:
		return CodeSyntax, "unknown bit in filled"
	case e.Filled&usage.FilledCorrelation != 0 && e.CorrelationID == "":
		return CodeRequired, "correlation_id is marked as assigned"
	case e.Filled&usage.FilledCausation != 0 && e.CausationID == "":
		return CodeRequired, "causation_id is marked as assigned"
	case !fits(e.Time) || !fits(e.RecordedTime):
		return CodeTime, "time or recordedtime"
	case !within(e.Credits, creditsLimit()):
		return CodeQuantity, "credits"
	}
	if voided := e.Type == usage.TypeVoided; voided && (e.Target.Source == "" || e.Target.ID == "") {
		return CodeRequired, "target"
	} else if !voided && e.Target != (usage.Identity{}) {
		return CodeSyntax, "target on an event that is not event.voided"
	}
	if !dataFits(e) {
		return CodeData, "data is not a JSON object, nor, for a type the schema does not know, a JSON value"
	}
	if !object(e.Extensions) {
		return CodeData, "extensions is not a JSON object"
	}
	size := len(e.Source) + len(e.ID) + len(e.Type) + len(e.Subject) + len(e.CorrelationID) + len(e.CausationID) +
		len(e.TraceParent) + len(e.Extensions) + len(e.Target.Source) + len(e.Target.ID) + len(e.Data)
	if e.Metered != nil {
		var n int
		if code, detail, n = checkMetered(e.Metered); code != "" {
			return code, detail
		}
		size += n
	}
	if size > EventBytesMax {
		return CodeLimit, "event larger than 256 KiB"
	}
	return "", ""
}

func checkMetered(m *usage.Metered) (code, detail string, size int) {
	switch {
	case m.Meter == "":
		return CodeRequired, "meter", 0
	case !within(m.Quantity, quantityLimit()):
		return CodeQuantity, "quantity", 0
	case m.Start.Known() != m.End.Known():
		return CodeRequired, "start and end go together", 0
	case !fits(m.Start) || !fits(m.End) || !fits(m.TrialExpiry):
		return CodeTime, "start, end or trial_expiry", 0
	}
	size = len(m.Meter) + len(m.Unit) + len(m.AssetID) + len(m.AssetName) + len(m.AssetType) + len(m.Region) +
		len(m.Platform) + len(m.ConsumerID) + len(m.ConsumerType) + len(m.Item) + len(m.ItemVersion) + len(m.Plan)
	for i := range m.Dimensions {
		if i > 0 && m.Dimensions[i-1].Key >= m.Dimensions[i].Key {
			return CodeData, "dimensions are not sorted by unique key", 0
		}
		size += len(m.Dimensions[i].Key) + len(m.Dimensions[i].Value)
	}
	return "", "", size
}

func fits(t usage.Instant) bool { return !t.Known() || t.Storable() }

// dataFits: data of a known type is an object, of an extra type (ingest.extra_types) any JSON value.
func dataFits(e *usage.Event) bool {
	switch {
	case e.Data == "":
		return true
	case usage.KnownType(e.Type):
		return object(e.Data)
	}
	return jsontext.Value(e.Data).IsValid()
}

func object(s string) bool {
	return s == "" || s[0] == '{' && jsontext.Value(s).IsValid()
}

// SizeBound is at least the number of bytes e adds to a chunk: a packer that keeps the sum below
// ChunkBytesMax - 64 never sees EncodeChunk answer CodeLimit for bytes.
func SizeBound(e *usage.Event) int {
	// A string costs at most 4 bytes in the dictionary and 5 as a reference, a time or quantity 19.
	const perString, perNumber = 9, 19
	n := 3*perNumber + 13*perString + len(e.Source) + len(e.ID) + len(e.Type) + len(e.Subject) + len(e.CorrelationID) +
		len(e.CausationID) + len(e.TraceParent) + len(e.Extensions) + len(e.Target.Source) + len(e.Target.ID) + len(e.Data)
	m := e.Metered
	if m == nil {
		return n
	}
	n += 5*perNumber + 14*perString + len(m.Meter) + len(m.Unit) + len(m.AssetID) + len(m.AssetName) + len(m.AssetType) +
		len(m.Region) + len(m.Platform) + len(m.ConsumerID) + len(m.ConsumerType) + len(m.Item) + len(m.ItemVersion) + len(m.Plan)
	for i := range m.Dimensions {
		n += 2*perString + len(m.Dimensions[i].Key) + len(m.Dimensions[i].Value)
	}
	return n
}
