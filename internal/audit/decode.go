package audit

import (
	"errors"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// message is a message of the log, taken apart: events that can count, and the indexes of those that
// cannot. A message that cannot be read at all is one reject at index 0.
type message struct {
	seq     uint64
	tenant  string
	logged  int64 // Unix ms, never decreasing per shard
	hash    [16]byte
	events  []event
	rejects []uint32

	chunk *eventlog.Chunk // storage of the events
	open  bool            // kept for later: the storage may not be reused
}

// event is an event and everything about its row that follows from the event alone.
type event struct {
	*usage.Event
	idx      uint32
	at       int64 // Unix ms
	recorded int64
	content  uint64
	meter    string
	quantity usage.Quantity
	pieces   []usage.Piece
}

// accepted is how many events the ledger must answer for.
func (m *message) accepted() uint32 { return uint32(len(m.events) + len(m.rejects)) }

var errManyEvents = errors.New("too many events in one message")

// The window of direct producers (docs/reference/configuration.md): ingest has checked the times of what it packed.
const (
	windowPast   = 35 * 24 * time.Hour
	windowFuture = 5 * time.Minute
)

// reader takes messages apart. Not for concurrent use.
type reader struct {
	parser *usage.Parser
	spare  *eventlog.Chunk
	buf    []event
	bad    []uint32
}

func newReader() *reader { return &reader{parser: usage.NewParser(usage.DefaultLimits())} }

// read takes m apart; logged is the previous message's. The result shares storage with the next one
// unless it is kept.
func (r *reader) read(m *eventlog.Message, logged int64) (out *message) {
	out = &message{seq: m.Seq, tenant: m.Tenant, logged: max(logged, m.Time.Millis()), hash: m.Hash}
	out.events, out.rejects = r.buf[:0], r.bad[:0]
	defer func() {
		if recover() != nil {
			r.carefully(out, m)
		}
	}()
	switch {
	case forbidden(m.Header):
		out.rejects = append(out.rejects, 0)
	case m.Kind == eventlog.KindChunk:
		r.packed(out, m.Data, eventlog.DecodeChunk)
	case m.Kind == eventlog.KindEvents && isJSON(m.ContentType()):
		r.direct(out, m)
	default:
		out.rejects = append(out.rejects, 0)
	}
	r.buf, r.bad = out.events, out.rejects
	return out
}

// keep takes a message out of the reader's storage.
func (r *reader) keep(m *message) {
	if m.open {
		return
	}
	m.open = true
	r.buf, r.bad = nil, nil
	if r.spare == m.chunk {
		r.spare = nil
	}
}

// packed is a chunk as ingest writes it.
func (r *reader) packed(out *message, data []byte, decode func([]byte, *eventlog.Chunk) error) {
	if r.spare == nil {
		r.spare = &eventlog.Chunk{}
	}
	c := r.spare
	out.chunk = c
	err := decode(data, c)
	var partial *eventlog.PartialError
	if err != nil && !errors.As(err, &partial) {
		out.rejects = append(out.rejects, 0)
		return
	}
	bad := map[int]bool(nil)
	if partial != nil {
		bad = make(map[int]bool, len(partial.Faults))
		for _, f := range partial.Faults {
			bad[f.Event] = true
		}
	}
	received := out.logged
	if c.AcceptedAt.Known() {
		received = c.AcceptedAt.Millis()
	}
	for i := range c.Events {
		if bad[i] {
			out.rejects = append(out.rejects, uint32(i))
			continue
		}
		recorded := out.logged
		if t := c.Events[i].RecordedTime; c.Backfill && t.Known() {
			recorded = t.Millis()
		}
		out.take(&c.Events[i], i, received, recorded)
	}
}

// direct is CloudEvents JSON as a producer published it.
func (r *reader) direct(out *message, m *eventlog.Message) {
	window := usage.Window{Past: windowPast, Future: windowFuture}
	err := r.parser.Batch(m.Data, func(i int, _ []byte, e usage.Event, faults []usage.Fault) error {
		if i >= eventlog.DirectEventsMax {
			return errManyEvents
		}
		if len(faults) > 0 || len(window.Check(&e, m.Time)) > 0 {
			out.rejects = append(out.rejects, uint32(i))
			return nil
		}
		out.take(&e, i, out.logged, out.logged)
		return nil
	})
	if err != nil {
		out.events, out.rejects = out.events[:0], append(out.rejects[:0], 0)
	}
}

func (m *message) take(e *usage.Event, idx int, received, recorded int64) {
	v := event{Event: e, idx: uint32(idx), recorded: recorded, content: usage.ContentHash(e)}
	v.at = e.Occurred(usage.At(received * 1e6)).Millis()
	v.meter, v.quantity = e.Count()
	if e.Metered != nil && e.Metered.Start.Known() {
		v.pieces = e.Metered.Cut()
	}
	m.events = append(m.events, v)
}

// forbidden reports headers that would change what the log keeps; such messages count nothing.
func forbidden(header map[string][]string) bool {
	for name := range header {
		name = strings.ToLower(name)
		if name == "nats-rollup" || name == "nats-ttl" || strings.HasPrefix(name, "nats-schedule") {
			return true
		}
	}
	return false
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "" || strings.HasSuffix(media, "json")
}
