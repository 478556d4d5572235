// Package usage is the domain: what an event is, when it is acceptable, and what it counts.
//
// Guarantee: parsing is strict and lossless. An event that Parse accepts means exactly what the
// producer wrote: decimals are never rounded, times keep their instant, unknown fields and duplicate
// keys are refused. The same event has the same content hash whatever spelling it
// arrived in, over HTTP or NATS, before or after it went through the chunk codec.
//
// The package does no I/O, reads no clock and imports nothing of ours.
package usage

// Event is one CloudEvent of a tenant, parsed and validated. The tenant is not part of it: it comes
// from the API key or the NATS subject, never from the payload.
//
// The zero value of every optional field means "the producer did not send it".
type Event struct {
	Source  string // CloudEvents source; identity with tenant and ID
	ID      string // CloudEvents id
	Type    string // CloudEvents type, without version suffix for version 1
	Subject string // account id; "" when the event names none
	Time    Instant

	CorrelationID string // "" when absent; whoever stores the event assigns one (AssignedCorrelation)
	CausationID   string
	TraceParent   string
	RecordedTime  Instant // honoured only with scope events:backfill; ingest drops it otherwise
	Extensions    string  // other CloudEvents extension attributes as one canonical JSON object, or ""

	// Filled marks attributes that ingest assigned; they are no part of the content hash.
	Filled Filled

	// Metered holds the typed columns of usage.metered; nil for every other type.
	Metered *Metered
	// Target is what an event.voided names; zero for every other type.
	Target Identity
	// Credits is the quantity of message.charged / message.credit_returned, and the granted total of an
	// elastic.operation (sum of meter_quantity over lines with response 101).
	Credits Quantity
	// Data is the canonical JSON of `data` (object keys sorted, numbers normalised, no white space),
	// without the members that Metered holds; "" when nothing remains.
	Data string
}

// Filled is a set of attributes that ingest assigned because the producer sent none.
type Filled uint8

const (
	FilledCorrelation Filled = 1 << iota // CorrelationID was assigned
	FilledCausation                      // CausationID was assigned
)

// Identity names an event within a tenant, unique for ever.
type Identity struct{ Source, ID string }

// Metered is the payload of usage.metered.
type Metered struct {
	Meter        string
	Quantity     Quantity
	Unit         string
	AssetID      string
	AssetName    string
	AssetType    string
	Start, End   Instant // both or neither: the usage belongs to [Start, End)
	TrialExpiry  Instant
	Region       string
	Platform     string
	ConsumerID   string
	ConsumerType string
	Item         string
	ItemVersion  string
	Plan         string
	Dimensions   []Dimension // sorted by key, keys unique
}

// Dimension is one free label of a usage event.
type Dimension struct{ Key, Value string }

// Event types the pipeline gives a meaning of its own.
const (
	TypeMetered        = "usage.metered"
	TypeCharged        = "message.charged"
	TypeCreditReturned = "message.credit_returned"
	TypeActivity       = "user.activity"
	TypeElastic        = "elastic.operation"
	TypeVoided         = "event.voided"
)

// Occurred is the business time of the event: start if given, else time, else the
// receipt, which the caller supplies.
func (e *Event) Occurred(receipt Instant) Instant {
	if e.Metered != nil && e.Metered.Start.Known() {
		return e.Metered.Start
	}
	if e.Time.Known() {
		return e.Time
	}
	return receipt
}
