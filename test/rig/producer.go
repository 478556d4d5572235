package rig

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/countinghouse/countinghouse/test/oracle"
)

// producer makes events, deterministically.
type producer struct {
	load   *Load
	rnd    *rand.Rand
	tenant string
	token  string
	source string
	hour   int64 // the hour the load began in, Unix ms
	next   int
	voids  bool

	acked  []*oracle.Event // a sample of originals that may be repeated, contradicted, taken back
	future []*oracle.Event // voided before they are sent
}

const (
	batchMax  = 40
	sampleMax = 500
	// Events are spread over this many hours: more than a month's end away, so that a batch is several
	// parts, and within the 35 days that ingest takes.
	spreadHours = 33 * 24
	spanHours   = 30 // at least one midnight, so at least two pieces

	// Spread is how long before now the oldest events of a load happened, and the beginning of what lasts.
	Spread = (spreadHours + spanHours + 1) * time.Hour
)

// request makes the next request. Its events go in the order of items.
func (p *producer) request(viaHTTP bool) *request {
	q := &request{tenant: p.tenant, give: p.rnd.IntN(40) == 0}
	if !viaHTTP && p.rnd.IntN(20) == 0 {
		q.items, q.body = []oracle.Item{{Kind: oracle.Poison}}, []byte("\xff\xfe poison")
		q.give = false
		return q
	}
	q.body = append(q.body, '[')
	add := func(kind oracle.Kind, e *oracle.Event, body string) {
		if len(q.items) > 0 {
			q.body = append(q.body, ',')
		}
		q.body = append(q.body, body...)
		q.items = append(q.items, oracle.Item{Kind: kind, Event: e})
	}
	for range 1 + p.rnd.IntN(batchMax) {
		e, kind := p.item(add)
		if e != nil {
			add(kind, e, p.body(e))
		}
	}
	q.body = append(q.body, ']')
	return q
}

// item is the next event of a request, or nil when it has added what it wanted itself.
func (p *producer) item(add func(oracle.Kind, *oracle.Event, string)) (*oracle.Event, oracle.Kind) {
	switch n := p.rnd.IntN(100); {
	case n < 4 && len(p.acked) > 0: // the same again, long after
		return p.sample(), oracle.Original
	case n < 6: // the same twice in one request
		e := p.usage()
		add(oracle.Original, e, p.body(e))
		return e, oracle.Original
	case n < 8 && len(p.acked) > 0 && !p.load.rig.opts.NoConflicts: // a known id with other content
		e := *p.sample()
		if e.Nanos == nil {
			return p.usage(), oracle.Original // a void is not contradicted here
		}
		e.Nanos = new(big.Int).Add(e.Nanos, big.NewInt(1))
		return &e, oracle.Conflict
	case n < 9 && len(p.acked) > 0 && p.voids && p.rnd.IntN(3) == 0: // takes a stored event back
		if target := p.sample(); target.Target == "" {
			return p.void(target.ID), oracle.Original
		}
	case n < 10 && p.voids: // takes back what comes later
		e := p.usage()
		p.future = append(p.future, e)
		return p.void(e.ID), oracle.Original
	case n < 14 && len(p.future) > 0:
		e := p.future[0]
		p.future = p.future[1:]
		return e, oracle.Original
	case n < 17:
		e := p.usage()
		e.Spans, e.Meter = true, "asset_hours"
		e.At -= spanHours * 3_600_000 // its end must not be ahead of the clock
		return e, oracle.Original
	}
	return p.usage(), oracle.Original
}

// usage is a new event.
func (p *producer) usage() *oracle.Event {
	p.next++
	meters := []string{"tokens", "sms_credits", "bandwidth_gib", "api_calls"}
	nanos := big.NewInt(p.rnd.Int64N(5_000_000_000_000))
	if p.rnd.IntN(50) == 0 { // sums that leave 64 bits: 10¹⁹ units of 10⁻⁹
		nanos.Add(nanos, new(big.Int).Exp(big.NewInt(10), big.NewInt(28), nil))
	}
	return &oracle.Event{
		Tenant: p.tenant, Source: p.source, ID: p.id(), Type: "usage.metered",
		Account: fmt.Sprintf("account-%d", p.rnd.IntN(20)), Meter: meters[p.rnd.IntN(len(meters))], Nanos: nanos,
		At: p.hour - p.rnd.Int64N(spreadHours)*3_600_000 + p.rnd.Int64N(3_600_000) - 3_600_000,
	}
}

func (p *producer) void(target string) *oracle.Event {
	p.next++
	return &oracle.Event{
		Tenant: p.tenant, Source: p.source, ID: p.id(), Type: "event.voided", At: p.hour, Target: target,
	}
}

// id is a UUID for half of the events: chunks encode those in another way.
func (p *producer) id() string {
	if p.next%2 == 0 {
		return fmt.Sprintf("event-%d", p.next)
	}
	return uuid.NewSHA1(uuid.Nil, fmt.Append(nil, p.source, p.next)).String()
}

// body is the event as CloudEvents JSON.
func (p *producer) body(e *oracle.Event) string {
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
	if e.Target != "" {
		return fmt.Sprintf(`{"specversion":"1.0","type":"event.voided","source":%q,"id":%q,"time":%q,"data":{"target":{"source":%q,"id":%q},"reason":"rig"}}`,
			e.Source, e.ID, at(e.At), e.Source, e.Target)
	}
	whole, fraction := new(big.Int).QuoRem(e.Nanos, big.NewInt(1_000_000_000), new(big.Int))
	quantity := fmt.Sprintf("%s.%09s", whole, fraction)
	if e.Spans {
		return fmt.Sprintf(`{"specversion":"1.0","type":"usage.metered","source":%q,"id":%q,"subject":%q,"data":{"meter":%q,"quantity":%q,"start":%q,"end":%q}}`,
			e.Source, e.ID, e.Account, e.Meter, quantity, at(e.At), at(e.At+spanHours*3_600_000))
	}
	return fmt.Sprintf(`{"specversion":"1.0","type":"usage.metered","source":%q,"id":%q,"subject":%q,"time":%q,"data":{"meter":%q,"quantity":%q}}`,
		e.Source, e.ID, e.Account, at(e.At), e.Meter, quantity)
}

// learn keeps a sample of what was acknowledged.
func (p *producer) learn(q *request) {
	for _, it := range q.items {
		if it.Kind != oracle.Original {
			continue
		}
		if len(p.acked) < sampleMax {
			p.acked = append(p.acked, it.Event)
		} else if p.rnd.IntN(10) == 0 {
			p.acked[p.rnd.IntN(sampleMax)] = it.Event
		}
	}
}

func (p *producer) sample() *oracle.Event { return p.acked[p.rnd.IntN(len(p.acked))] }
