package aggregator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/google/uuid"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// decoder turns messages of one shard into chunks. Whatever a message holds, decode returns: what cannot
// be read becomes a reject with its raw bytes, and its good neighbours count.
// Not safe for concurrent use; decode must see the messages in log order (logged_at never decreases).
type decoder struct {
	shard   uint16
	hash    hasher
	scanner eventlog.Scanner
	ids     []identified
	parser  *usage.Parser
	window  usage.Window // for events published straight to NATS; ingest checks its own
	logged  int64        // logged_at of the previous message, Unix ms
}

// rejectCost is charged for a dead letter beside its message's bytes: one event that is refused can be a
// single byte.
const rejectCost = 512

var errManyEvents = fmt.Errorf("more than %d events in one message; publish smaller ones", eventlog.DirectEventsMax)

// The window for direct producers, as at the door of ingest.
const (
	windowPast   = 35 * 24 * time.Hour
	windowFuture = 5 * time.Minute
)

func newDecoder(shard uint16, logged int64, hash hasher) *decoder {
	return &decoder{
		shard: shard, logged: logged, hash: hash,
		parser: usage.NewParser(usage.DefaultLimits()),
		window: usage.Window{Past: windowPast, Future: windowFuture},
	}
}

// decode never fails: an undecodable message is one reject (ledger: accepted 1, quarantined 1).
func (d *decoder) decode(m *eventlog.Message) (c *chunk) {
	d.logged = max(d.logged, m.Time.Millis())
	c = &chunk{
		shard: d.shard, seq: m.Seq, tenant: m.Tenant, loggedAt: d.logged, acceptedAt: d.logged,
		hash: m.Hash, weight: int64(len(m.Data)) + chunkOverhead,
	}
	defer func() {
		if r := recover(); r != nil {
			c.events = nil
			c.packed, c.ids, c.targets = nil, nil, nil
			c.rejects = []reject{poisoned(r, m.Data)}
			d.parser = usage.NewParser(usage.DefaultLimits())
		}
		for i := range c.rejects {
			c.weight += rejectCost + int64(len(c.rejects[i].detail))
		}
	}()
	if h := forbiddenHeader(m.Header); h != "" {
		c.rejects = []reject{{reason: reasonBadHeader, detail: fmt.Sprintf("header %.60s is not allowed on usage events", h), raw: m.Data}}
		return c
	}
	switch m.Kind {
	case eventlog.KindChunk:
		d.chunk(c, m)
	case eventlog.KindEvents:
		if panics(func() { d.events(c, m) }) != nil {
			c.events, c.rejects = nil, nil
			d.eventByEvent(c, m)
		}
	default:
		c.rejects = []reject{{reason: reasonUndecodable, detail: fmt.Sprintf("subject ends in %.60s; publish to usage.in.<tenant>.events", m.Kind), raw: m.Data}}
	}
	return c
}

// gap is the chunk of a sequence the log does not have.
func (d *decoder) gap(seq uint64) *chunk {
	return &chunk{shard: d.shard, seq: seq, loggedAt: d.logged, acceptedAt: d.logged, missing: true, weight: chunkOverhead}
}

// chunk notes the identities of what ingest packed, and leaves it packed until it is decided.
func (d *decoder) chunk(c *chunk, m *eventlog.Message) {
	ids, targets := d.ids[:0], c.targets
	err := d.scanner.Scan(m.Data, func(id, target usage.Identity) {
		ids = append(ids, identified{ident: d.hash.of(c.tenant, id), hash: usage.IdentityHash(c.tenant, id)})
		if target != (usage.Identity{}) {
			targets = append(targets, usage.Identity{Source: strings.Clone(target.Source), ID: strings.Clone(target.ID)})
		}
	})
	d.ids = ids
	if err != nil {
		c.rejects = []reject{{reason: reasonUndecodable, detail: err.Error(), raw: m.Data}}
		return
	}
	c.packed, c.ids, c.targets = m.Data, slices.Clone(ids), targets
	c.weight += int64(len(ids)) * int64(unsafe.Sizeof(identified{}))
}

// events parses CloudEvents JSON, single or batch, that a producer published itself.
func (d *decoder) events(c *chunk, m *eventlog.Message) {
	if t := m.ContentType(); t != "" && !strings.HasSuffix(mediaType(t), "json") {
		c.rejects = []reject{{reason: reasonUndecodable, detail: fmt.Sprintf("content type %.100s is not CloudEvents JSON", t), raw: m.Data}}
		return
	}
	err := d.parser.Batch(m.Data, func(i int, raw []byte, e usage.Event, faults []usage.Fault) error {
		if i >= eventlog.DirectEventsMax {
			return errManyEvents
		}
		d.take(c, m, uint32(i), raw, &e, faults) // e is this call's own
		return nil
	})
	if err == nil {
		return
	}
	c.events = nil // a message that is not JSON to its end is one undecodable whole
	c.rejects = []reject{{reason: reasonUndecodable, detail: err.Error(), raw: m.Data}}
	if errors.Is(err, errManyEvents) {
		c.rejects[0].reason = usage.CodeManyEvents
	}
}

// take adds an event, or what is wrong with it.
func (d *decoder) take(c *chunk, m *eventlog.Message, idx uint32, raw []byte, e *usage.Event, faults []usage.Fault) {
	if len(faults) == 0 {
		faults = d.window.Check(e, m.Time)
	}
	if len(faults) > 0 {
		c.rejects = append(c.rejects, reject{
			idx: idx, id: usage.Identity{Source: e.Source, ID: e.ID}, typ: e.Type, account: e.Subject,
			reason: faults[0].Code, detail: faults[0].Error(), raw: raw,
		})
		return
	}
	e.RecordedTime = usage.Instant{} // honoured only through ingest with events:backfill
	it := itemOf(c, e, idx)
	it.raw = raw
	c.events = append(c.events, it)
}

// eventByEvent is events for a message at which that panicked: a defect of ours in reading one event makes
// that one a dead letter, and its neighbours count.
func (d *decoder) eventByEvent(c *chunk, m *eventlog.Message) {
	docs, err := usage.Split(m.Data)
	if err != nil {
		c.rejects = []reject{{reason: reasonUndecodable, detail: err.Error(), raw: m.Data}}
		return
	}
	if len(docs) > eventlog.DirectEventsMax {
		c.rejects = []reject{{reason: usage.CodeManyEvents, detail: errManyEvents.Error(), raw: m.Data}}
		return
	}
	for i, raw := range docs {
		d.parser = usage.NewParser(usage.DefaultLimits()) // the last one may have been left anyhow
		broken := panics(func() {
			e, faults := d.parser.Event(raw)
			d.take(c, m, uint32(i), raw, &e, faults)
		})
		if broken != nil {
			r := poisoned(broken, raw)
			r.idx = uint32(i)
			c.rejects = append(c.rejects, r)
		}
	}
	d.parser = usage.NewParser(usage.DefaultLimits())
}

// forbiddenHeader names a header that would change what the log keeps, or "".
func forbiddenHeader(h map[string][]string) string {
	for k := range h {
		l := strings.ToLower(k)
		if l == "nats-rollup" || l == "nats-ttl" || strings.HasPrefix(l, "nats-schedule") {
			return k
		}
	}
	return ""
}

func mediaType(s string) string {
	t, _, _ := strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// correlationOf is the correlation id of events that came from NATS without one: a UUID derived from the
// position, so that a replay agrees with itself.
func correlationOf(shard uint16, seq uint64) string {
	var b [10]byte
	binary.BigEndian.PutUint16(b[:], shard)
	binary.BigEndian.PutUint64(b[2:], seq)
	return uuid.NewSHA1(correlationSpace, b[:]).String()
}

// correlationSpace is the UUID name space of derived correlation ids; changing it changes history.
var correlationSpace = uuid.MustParse("6f2f6c0e-5d5a-5f0b-9c35-0c3f6f0a4a11")
