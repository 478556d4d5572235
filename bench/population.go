package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// population is one tenant that every report has something to say about: a tree of accounts with users, tokens,
// entitlements, messages, metered usage and elastic line items, an organization with as many tenants of Secure
// Connect, and a partner with as many customers. Event i is the same whoever makes it.
type population struct {
	accounts int // of each of the three
	month    usage.Month
	stages   []stage
}

// populationTenant is the tenant that has the population.
const populationTenant = "bench-reports"

// How many of everything an account has.
const (
	usersEach      = 100
	tokenSteps     = 2 // of each user's token
	messagesEach   = 50
	meteredEach    = 500
	hoursEach      = 720 // records of an asset: one an hour
	operationsEach = 100
	certificates   = 5
	monthsBefore   = 10 // how long ago it began, before the month that the reports are of
	childrenEach   = 20 // of an account of the tree
)

// stage is a run of events of one kind.
type stage struct {
	events int
	chunk  int // events of a chunk: as many as its bytes allow
	make   func(i int) usage.Event
}

const smallChunk = 200 // of events with half a kilobyte of data

func newPopulation(accounts int, month usage.Month) *population {
	p := &population{accounts: accounts, month: month}
	head := p.head()
	p.stages = []stage{
		{len(head), smallChunk, func(i int) usage.Event { return head[i] }},
		{accounts * 5, chunkEvents, p.account},
		{accounts * 2, chunkEvents, p.asset},
		{accounts * (2 + certificates), smallChunk, p.customer},
		{accounts * usersEach, chunkEvents, p.user},
		{accounts * usersEach * tokenSteps, chunkEvents, p.token},
		{accounts * usersEach, chunkEvents, p.activity},
		{accounts * messagesEach, chunkEvents, p.message},
		{accounts * meteredEach, chunkEvents, p.metered},
		{accounts * hoursEach, chunkEvents, p.hour},
		{accounts * operationsEach, smallChunk, p.operation},
	}
	return p
}

// chunks and events are the sizes of the whole.
func (p *population) chunks() (n int64) {
	for _, s := range p.stages {
		n += int64((s.events + s.chunk - 1) / s.chunk)
	}
	return n
}

func (p *population) events() (n int64) {
	for _, s := range p.stages {
		n += int64(s.events)
	}
	return n
}

// encode writes chunk n.
func (p *population) encode(dst []byte, c *eventlog.Chunk, n int64) ([]byte, error) {
	c.AcceptedAt, c.Backfill, c.Events = usage.AtTime(time.Now()), true, c.Events[:0]
	for of, s := range p.stages {
		all := int64((s.events + s.chunk - 1) / s.chunk)
		if n >= all {
			n -= all
			continue
		}
		first := int(n) * s.chunk
		for i := first; i < min(first+s.chunk, s.events); i++ {
			e := s.make(i)
			e.Source = "/population/" + strconv.Itoa(of)
			rnd := splitmix(uint64(of)<<40 + uint64(i))
			e.ID = uuidText(rnd.next(), rnd.next())
			correlation := splitmix(uint64(of)<<40 + uint64(i/requestEvents)<<20 + 1<<60)
			e.CorrelationID = uuidText(correlation.next(), correlation.next())
			e.CausationID, e.Filled = e.CorrelationID, usage.FilledCorrelation|usage.FilledCausation
			c.Events = append(c.Events, e)
		}
		return eventlog.EncodeChunk(dst, c)
	}
	return dst, fmt.Errorf("the population has no chunk %d", n)
}

// The accounts of the population.
const (
	organization = "bench-organization"
	partner      = "bench-partner"
)

func treeAccount(n int) string     { return padded("tree-", n, 5) }
func assetAccount(n int) string    { return padded("sc-", n, 5) }
func customerAccount(n int) string { return padded("customer-", n, 5) }

// began is when everything that is not usage began.
func (p *population) began() time.Time { return p.month.Start().Time().AddDate(0, -monthsBefore, 0) }

func (p *population) directory(typ, account string, at time.Time, data string) usage.Event {
	return usage.Event{Type: typ, Subject: account, Time: usage.AtTime(at), Data: data}
}

// head is what there is one of. Keys of data are in order, as ingest leaves them.
func (p *population) head() []usage.Event {
	at := p.began()
	day := at.Format(time.RFC3339)
	event := func(typ, account, data string) usage.Event { return p.directory(typ, account, at, data) }
	meter := func(name, element, unit, plan string) usage.Event {
		return event("meter.defined", "", `{"aggregation":"sum","element":"`+element+`","kind":"secure_connect","meter":"`+name+`","meter_id":"id-`+name+
			`","plan":"`+plan+`","scale":6,"service":"secure-connect","unit":"`+unit+`"}`)
	}
	price := func(meter, region, tiers string) usage.Event {
		return event("price.set", "", `{"currency":"EUR","effective_from":"`+day+`","meter":"`+meter+`","region":"`+region+`","tiers":[`+tiers+`]}`)
	}
	return []usage.Event{
		meter("user_hours_essentials", "user", "hours", "essentials"),
		meter("bandwidth_gib_essentials", "bandwidth", "GiB", "essentials"),
		price("user_hours_essentials", "*", `{"from":"0","unit_price":"0.012"}`),
		price("bandwidth_gib_essentials", "EU", `{"from":"0","unit_price":"0"},{"from":"100","unit_price":"0.08"},{"from":"500","unit_price":"0.05"}`),
		event("ratetable.published", "", `{"effective_from":"`+day+`","items":[{"charge":"7","item":"CADPrint","item_version":"2.0"}],"series":"PublicationApps","version":"1"}`),
		event("account.created", organization, `{"currency":"EUR","kind":"organization","name":"Bench Organization"}`),
		event("account.created", partner, `{"kind":"distributor","name":"Bench Partner"}`),
	}
}

// account makes what accounts of the tree are: five events each.
func (p *population) account(i int) usage.Event {
	n, id := i/5, treeAccount(i/5)
	event := func(typ, data string) usage.Event {
		return p.directory(typ, id, p.began().Add(time.Duration(1+i%5)*time.Minute), data)
	}
	switch i % 5 {
	case 0:
		if n == 0 {
			return event("account.created", `{"contract_mode":"PRODUCTION","kind":"service_provider","name":"Tree"}`)
		}
		return event("account.created", `{"contract_mode":"PRODUCTION","kind":"service_provider","name":"Tree `+strconv.Itoa(n)+
			`","parent_account_id":"`+treeAccount((n-1)/childrenEach)+`"}`)
	case 1:
		plan := "STA Basic"
		if n == 0 {
			plan = "STA Premium"
		} else if n*childrenEach+1 < p.accounts {
			plan = "STA"
		}
		return event("service.plan_set", `{"plan":"`+plan+`","service":"sta"}`)
	case 2:
		return event("entitlement.set", `{"bundles":["STANDARD"],"entitlement_id":"E-`+id+`","kind":"USERS","quantity":"150","sms_voice_credits":"500","start":"`+
			p.began().Format(time.RFC3339)+`","status":"ACTIVE"}`)
	case 3:
		return event("instance.created", `{"instance_id":"I-`+id+`"}`)
	}
	return event("lineitem.mapped", `{"activation_id":"ACT-`+id+`","instance_id":"I-`+id+`","quantity":"2500","series":"PublicationApps","start":"`+
		p.began().Format(time.RFC3339)+`","state":"DEPLOYED"}`)
}

// asset makes tenants of Secure Connect and their one asset.
func (p *population) asset(i int) usage.Event {
	id := assetAccount(i / 2)
	if i%2 == 0 {
		return p.directory("account.created", id, p.began().Add(time.Minute),
			`{"currency":"EUR","kind":"tenant","name":"Connect `+strconv.Itoa(i/2)+`","parent_account_id":"`+organization+`"}`)
	}
	return p.directory("asset.registered", id, p.began().Add(2*time.Minute),
		`{"asset_id":"user@`+id+`.example.com","asset_name":"User of `+id+`","asset_type":"USER"}`)
}

// customer makes customers of the partner, a subscription each, and certificates of it.
func (p *population) customer(i int) usage.Event {
	const each = 2 + certificates
	n, id := i/each, customerAccount(i/each)
	subscription := "SUB-" + id
	start := p.began()
	switch i % each {
	case 0:
		return p.directory("account.created", id, start.Add(time.Minute), `{"kind":"customer","name":"Customer `+strconv.Itoa(n)+`","parent_account_id":"`+partner+`"}`)
	case 1:
		return p.directory("subscription.ordered", id, start.Add(2*time.Minute), `{"actor":{"email":"ann@example.com","id":"ann","name":"Ann"},"auto_renew":true,"cost":"600.00","currency":"EUR",`+
			`"end":"`+start.AddDate(2, 0, 0).Format(time.RFC3339)+`","items":[{"cert_type":"SSL","product":"Enterprise SSL","quantity":"10","unit_price":"50.00"},`+
			`{"cert_type":"S/MIME","product":"S/MIME Pro","quantity":"5","unit_price":"20.00"}],"name":"Enterprise SSL","products":["Enterprise SSL"],"start":"`+
			start.Format(time.RFC3339)+`","subscription_id":"`+subscription+`","term_months":24,"transaction_id":"TX-`+id+`"}`)
	}
	k := i%each - 2
	return p.directory("certificate.issued", id, start.AddDate(0, 0, k+1), `{"cert_type":"SSL","certificate_id":"C-`+id+`-`+strconv.Itoa(k)+
		`","product":"Enterprise SSL","subscription_id":"`+subscription+`"}`)
}

// since spreads events evenly over the time from the beginning to the month's end, and within over the month.
func (p *population) since(i, of int) time.Time {
	from, to := p.began().AddDate(0, 0, 1), p.month.End().Time().AddDate(0, 0, -1)
	return from.Add(time.Duration(int64(to.Sub(from)) / int64(of) * int64(i))).Truncate(time.Millisecond)
}

func (p *population) within(i, of int) time.Time {
	from, to := p.month.Start().Time(), p.month.End().Time()
	return from.Add(time.Duration(int64(to.Sub(from)) / int64(of) * int64(i))).Truncate(time.Millisecond)
}

func userName(i int) string { return "u-" + strconv.Itoa(i) }

func (p *population) user(i int) usage.Event {
	return p.directory("user.registered", treeAccount(i%p.accounts), p.since(i, p.accounts*usersEach), `{"login":"`+userName(i)+`@example.com","user_id":"`+userName(i)+`"}`)
}

// token is active from its first step on; the second suspends one in ten.
func (p *population) token(i int) usage.Event {
	users := p.accounts * usersEach
	n, state := i%users, "active"
	at := p.since(n, users).Add(time.Minute)
	if i >= users {
		at = at.Add(12 * time.Hour)
		if n/p.accounts%10 == 0 {
			state = "suspended"
		}
	}
	return p.directory("token.state_set", treeAccount(n%p.accounts), at, `{"state":"`+state+`","token_id":"t-`+strconv.Itoa(n)+`","token_type":"totp","user_id":"`+userName(n)+`"}`)
}

func (p *population) activity(i int) usage.Event {
	n := i
	if i%3 == 0 {
		n = i / 3 * 2 % (p.accounts * usersEach) // some users sign in again, others not at all
	}
	return p.directory(usage.TypeActivity, treeAccount(n%p.accounts), p.within(i, p.accounts*usersEach), `{"kind":"login","result":"success","user_id":"`+userName(n)+`"}`)
}

func (p *population) message(i int) usage.Event {
	e := p.directory(usage.TypeCharged, treeAccount(i%p.accounts), p.within(i, p.accounts*messagesEach),
		`{"channel":"sms","credits":"1","message_id":"m-`+strconv.Itoa(i)+`","user_id":"`+userName(i)+`"}`)
	e.Credits = usage.Int(1)
	return e
}

func (p *population) metered(i int) usage.Event {
	return usage.Event{
		Type: usage.TypeMetered, Subject: treeAccount(i % p.accounts), Time: usage.AtTime(p.within(i, p.accounts*meteredEach)),
		Metered: &usage.Metered{
			Meter: meters[i/p.accounts%len(meters)], Quantity: usage.Int(int64(100 + i%900)), Unit: "unit", Region: regions[i%p.accounts%len(regions)],
			ConsumerType: "device", ConsumerID: device(i % devices),
		},
	}
}

// hour is an hour of an asset, whole hours apart.
func (p *population) hour(i int) usage.Event {
	n := i % p.accounts
	id := assetAccount(n)
	from := p.month.Start().Time().Add(time.Duration(i/p.accounts) * time.Hour)
	return usage.Event{
		Type: usage.TypeMetered, Subject: id, Time: usage.AtTime(from),
		Metered: &usage.Metered{
			Meter: "user_hours_essentials", Quantity: usage.Int(1), Unit: "hours", AssetID: "user@" + id + ".example.com", Region: "EU",
			Start: usage.AtTime(from), End: usage.AtTime(from.Add(time.Hour)),
		},
	}
}

func (p *population) operation(i int) usage.Event {
	id := treeAccount(i % p.accounts)
	e := p.directory(usage.TypeElastic, id, p.within(i, p.accounts*operationsEach), `{"consumer":{"type":"user","value":"`+userName(i%p.accounts)+`"},"instance_id":"I-`+id+
		`","lines":[{"activation_id":"ACT-`+id+`","item":"CADPrint","item_quantity":"2","item_version":"2.0","line_no":1,"meter_cost":"7","meter_quantity":"14","response":"101",`+
		`"series":"PublicationApps","version":"1"}],"operation":"access_request"}`)
	e.Credits = usage.Int(14)
	return e
}
