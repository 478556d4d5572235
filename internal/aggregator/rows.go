package aggregator

import (
	"cmp"
	"iter"
	"slices"

	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// chunk is one message of the log, not yet decided. What ingest packed stays packed until then: only its
// identities are known. A message of a direct producer is decoded.
type chunk struct {
	shard      uint16
	seq        uint64
	tenant     string
	loggedAt   int64 // Unix ms; never decreasing per shard
	acceptedAt int64 // Unix ms; ingest's stamp, else loggedAt
	hash       [16]byte
	missing    bool // a sequence the log does not have
	events     []item
	rejects    []reject         // quarantined while decoding
	weight     int64            // credit taken for it: bytes in flight
	origin     telemetry.Origin // the span it was published in, if that is recorded

	packed  []byte           // as in the log; nil where events and rejects say it all
	ids     []identified     // of its events, in order
	targets []usage.Identity // of the voids among them
}

// identified is what has to be known of an event before its batch is decided.
type identified struct {
	ident
	hash  uint64 // usage.IdentityHash
	seen  bool   // the filter says perhaps
	asked bool   // and memory does not know, so the warehouse is asked
}

// accepted is the number of events the ledger answers for: an undecodable message counts one.
func (c *chunk) accepted() int {
	if c.packed != nil {
		return len(c.ids)
	}
	return len(c.events) + len(c.rejects)
}

// voids are the identities that event.voided of c name.
func (c *chunk) voids() iter.Seq[usage.Identity] {
	if c.packed != nil {
		return slices.Values(c.targets)
	}
	return func(yield func(usage.Identity) bool) {
		for i := range c.events {
			if e := c.events[i].event; e.Type == usage.TypeVoided && !yield(e.Target) {
				return
			}
		}
	}
}

// item is an event of a chunk with everything about it that is a function of the event alone.
type item struct {
	event       *usage.Event
	idx         uint32
	ident       ident
	idHash      uint64
	seen        bool // the filter says perhaps, or was not asked
	contentHash uint64
	recordedAt  int64  // Unix ms
	raw         []byte // as received, where it came straight from NATS; nil: AppendJSON(event)
}

// reject is an event, or a whole message, that can never count.
type reject struct {
	idx     uint32
	id      usage.Identity
	typ     string
	account string
	reason  string // code of usage.Codes
	detail  string
	raw     []byte
}

// eventRow is a row of table events (and, from it, of pieces, the rollups and directory_events).
type eventRow struct {
	pos         Position
	sign        int8
	tenant      string
	event       *usage.Event
	idHash      uint64
	contentHash uint64
	at          int64 // Unix ms
	reportedAt  int64
	recordedAt  int64
	acceptedAt  int64
	correlation string
	causation   string
	meter       string
	quantity    usage.Quantity
	pieces      []usage.Piece // nil: no start and end; one: counts at `at`; more: table pieces
	voidEffect  string
}

// Effects of an event.voided, as stored.
const (
	voidActed   = "acted"          // its target was negated
	voidWaiting = "waiting"        // its target has not been seen
	voidAlready = "already_voided" // an earlier void names the same target
)

// deadRow is a row of table dead_letters.
type deadRow struct {
	pos          Position
	tenant       string
	id           usage.Identity
	typ          string
	account      string
	reason       string
	detail       string
	raw          []byte
	recordedAt   int64
	contentHash  uint64
	original     Position
	originalHash uint64
}

// duplicateRow is a row of table duplicates: repetitions of one identity within one chunk.
type duplicateRow struct {
	pos        Position
	n          uint32
	tenant     string
	id         usage.Identity
	idHash     uint64
	recordedAt int64
	original   Position
}

// ledgerRow is a row of table ledger.
type ledgerRow struct {
	shard                                              uint16
	seq                                                uint64
	tenant                                             string
	loggedAt                                           int64
	hash                                               [16]byte
	missing                                            bool
	accepted, stored, duplicate, conflict, quarantined uint32
	voided                                             uint32
}

// batch is a run of whole chunks, decided. Its rows are where the router put them.
type batch struct {
	shard       uint16
	first, last uint64 // sequences
	rows        rows
	chunks      []*chunk // until it is retired: a row of theirs may have to be negated
	stored      []uint64 // usage.IdentityHash of the events stored
	accepted    int
	hash        [16]byte        // of the last chunk
	loggedAt    int64           // Unix ms, of the last chunk
	oldest      int64           // Unix ms: loggedAt of the first chunk, for the lag metric
	weight      int64           // credit to give back
	touched     map[string]bool // tenants whose directory it changes
	span        *telemetry.Span // from its decision to its end; nil: it is not traced
}

// chunkAt is the chunk of a sequence that b has.
func (b *batch) chunkAt(seq uint64) *chunk {
	i, _ := slices.BinarySearchFunc(b.chunks, seq, func(c *chunk, seq uint64) int { return cmp.Compare(c.seq, seq) })
	return b.chunks[i]
}

// hourOf cuts Unix milliseconds to the hour, in Unix seconds.
func hourOf(ms int64) int64 {
	s := ms / 1000
	return s - s%3600
}
