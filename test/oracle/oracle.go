// Package oracle knows what producers sent and what they were told, and compares it with what the
// warehouse holds.
//
// It shares no code with the product: plain maps, math/big, and ClickHouse over HTTP. What it proves
// (test names start with the number of the fault in docs/INVARIANTS.md's terms):
//
//	D  every event that was acknowledged is in `events` exactly once
//	X  raw rows, rollups and the oracle's own sums agree to the last digit, per tenant, meter and hour
//	P  nothing is stored that no producer sent, and what is stored is what was sent
//	A  accepted = stored + duplicate + conflict + quarantined, and no sequence is missing
//
// A send that was never answered may be stored or not, once at most.
package oracle

import (
	"fmt"
	"math/big"
	"sync"
)

// Event is one event as a producer means it. It must not change after the first Sending.
type Event struct {
	Tenant, Source, ID string
	Type, Account      string
	Meter              string   // "" counts nothing
	Nanos              *big.Int // quantity × 10⁹; nil counts nothing
	At                 int64    // Unix ms
	Spans              bool     // has a start and an end, so its quantity is spread over hours
	Target             string   // of an event.voided: the id it takes back, of the same source
}

type key struct{ tenant, source, id string }

func (e *Event) key() key { return key{e.Tenant, e.Source, e.ID} }

// identity is everything known about one (tenant, source, id).
type identity struct {
	event      *Event
	sent       int // attempts, answered or not
	acked      int // attempts that were acknowledged
	voidsSent  int // attempts of voids that name it
	voidsAcked int
}

// Oracle is safe for concurrent use.
type Oracle struct {
	mu         sync.Mutex
	identities map[key]*identity

	conflictsSent           int                 // other content under a known id
	conflictsAcked          map[string]struct{} // by identity and content: the same again may be a duplicate of the first
	poisonSent, poisonAcked int                 // messages that cannot be decoded
	acked                   int                 // events of every kind that were acknowledged
}

// New is an oracle that has seen nothing.
func New() *Oracle {
	return &Oracle{identities: map[key]*identity{}, conflictsAcked: map[string]struct{}{}}
}

// Kind is what a producer does by sending an event.
type Kind int

// Kinds of sends.
const (
	Original Kind = iota // the event, or the same event again
	Conflict             // other content under the id of an event that was acknowledged before
	Poison               // bytes that are no event; Event is ignored
)

// Item is one event of a request.
type Item struct {
	Kind  Kind
	Event *Event
}

// Sending must be called before each attempt: from then on the items may be stored.
func (o *Oracle) Sending(items []Item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range items {
		switch it.Kind {
		case Conflict:
			o.conflictsSent++
		case Poison:
			o.poisonSent++
		default:
			o.of(it.Event).sent++
			if it.Event.Target != "" {
				o.target(it.Event).voidsSent++
			}
		}
	}
}

// Acked must be called for an attempt that was acknowledged: from then on the items must be stored.
func (o *Oracle) Acked(items []Item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acked += len(items)
	for _, it := range items {
		switch it.Kind {
		case Conflict:
			o.conflictsAcked[fmt.Sprint(it.Event.key(), it.Event.nanos())] = struct{}{}
		case Poison:
			o.poisonAcked++
		default:
			o.of(it.Event).acked++
			if it.Event.Target != "" {
				o.target(it.Event).voidsAcked++
			}
		}
	}
}

func (o *Oracle) of(e *Event) *identity {
	id := o.identities[e.key()]
	if id == nil {
		id = &identity{}
		o.identities[e.key()] = id
	}
	if id.event == nil {
		id.event = e
	}
	return id
}

// target is the identity a void names; it may never be sent.
func (o *Oracle) target(void *Event) *identity {
	k := key{void.Tenant, void.Source, void.Target}
	id := o.identities[k]
	if id == nil {
		id = &identity{}
		o.identities[k] = id
	}
	return id
}
