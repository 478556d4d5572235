package demo

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// elastic is what is left of the tokens, as of today. Amounts are millionths of a token.
type elastic struct {
	items []*lineItem
	made  int // operations so far
}

// lineItem are tokens of an instance.
type lineItem struct {
	activation, instance string
	quantity, used       int
}

type product struct {
	item, version string
	cost          int
}

// products of the rate table in force on a day: one is dearer from the fourth month on.
func (s *stage) products() (version string, all []product) {
	sign := 4
	version = "1"
	if !s.today.Before(s.month(3)) {
		version, sign = "2", 5
	}
	return version, []product{{"PhotoPrint", "1.0", 3}, {"SignPrint", "1.0", sign}, {"CADPrint", "2.0", 7}, {"Preview", "1.0", 0}}
}

const (
	series     = "PublicationApps"
	millionths = 1_000_000
)

// elasticAccess is licences by tokens: requests, sessions with refunds, and requests that are denied because the
// tokens have run out.
func (s *stage) elasticAccess() {
	if s.day == 0 {
		s.rates("1", s.began)
		for _, i := range []struct {
			instance, account string
			quantity          int
		}{{"inst-acme", "acme", 6000}, {"inst-hooli", "hooli", 2500}, {"inst-granite", "granite", 700}} {
			s.say(fromElastic, "instance:"+i.instance, "instance.created", i.account, s.today, fields{"instance_id": i.instance})
			s.mapItem("ACT-"+i.account+"-1", i.instance, i.account, i.quantity)
		}
	}
	if s.on(2, 25) {
		s.rates("2", s.month(3))
	}
	if s.on(3, 10) {
		s.mapItem("ACT-hooli-2", "inst-hooli", "hooli", 4000)
	}
	if s.on(4, 15) {
		s.say(fromElastic, "more:ACT-acme-1", "lineitem.changed", "acme", s.at(11, 0), fields{"activation_id": "ACT-acme-1", "quantity": 9000})
		s.elastic.items[0].quantity = 9000 * millionths
	}
	if s.weekend() {
		return
	}
	r := s.chance("elastic")
	for _, account := range []string{"acme", "acme", "acme", "hooli", "hooli", "granite"} {
		at := s.worktime(r)
		if r.IntN(5) == 0 {
			s.session(r, account, at)
			continue
		}
		s.request(r, account, at)
	}
}

func (s *stage) rates(version string, from time.Time) {
	var items []fields
	was := s.today
	s.today = from
	_, products := s.products()
	s.today = was
	for _, p := range products {
		items = append(items, fields{"item": p.item, "item_version": p.version, "charge": p.cost})
	}
	s.say(fromElastic, "rates:"+version, "ratetable.published", "", s.at(6, 0), fields{"series": series, "version": version, "effective_from": instant(from), "items": items})
}

func (s *stage) mapItem(activation, instance, account string, quantity int) {
	s.say(fromElastic, "map:"+activation, "lineitem.mapped", account, s.today, fields{
		"activation_id": activation, "instance_id": instance, "quantity": quantity, "series": series, "state": "DEPLOYED",
		"start": instant(s.today), "end": instant(s.began.AddDate(2, len(s.elastic.items), 0)),
	})
	s.elastic.items = append(s.elastic.items, &lineItem{activation: activation, instance: instance, quantity: quantity * millionths})
}

// operation begins one of an instance.
func (s *stage) operation(account, kind string, consumer int, lines []fields, session, state string, at time.Time) string {
	s.elastic.made++
	id := fmt.Sprintf("op:%d", s.elastic.made)
	correlation := fmt.Sprintf("0197a1f2-6c1e-7b8a-9d3e-%012d", s.elastic.made)
	data := fields{
		"operation": kind, "instance_id": "inst-" + account, "consumer": fields{"type": "user", "value": fmt.Sprintf("artist%d@%s.example", consumer, account)}, "lines": lines,
	}
	if session != "" {
		data["session_id"], data["session_state"] = session, state
	}
	s.add(event{ID: id, Source: fromElastic, Type: "elastic.operation", Subject: account, Data: data, CorrelationID: correlation, at: at, recorded: at.Add(800 * time.Millisecond)})
	return correlation
}

// charge takes tokens for a number of an item, from the line items in turn; nil if they are not enough.
func (s *stage) charge(instance, version string, p product, count int) []fields {
	left := count
	var lines []fields
	var undo []func()
	for _, item := range s.elastic.items {
		if item.instance != instance || left == 0 {
			continue
		}
		fit := left
		if p.cost > 0 {
			fit = min(left, (item.quantity-item.used)/(p.cost*millionths))
		}
		if fit == 0 {
			continue
		}
		item.used += fit * p.cost * millionths
		undo = append(undo, func() { item.used -= fit * p.cost * millionths })
		left -= fit
		lines = append(lines, fields{
			"item": p.item, "item_version": p.version, "item_quantity": fit, "response": 101, "activation_id": item.activation,
			"mapped_entitled_count": item.quantity / millionths, "series": series, "version": version,
			"meter_cost": p.cost, "meter_quantity": fit * p.cost,
		})
	}
	if left > 0 {
		for _, back := range undo {
			back()
		}
		return nil
	}
	return lines
}

// request is one-off: each item is granted or denied on its own.
func (s *stage) request(r *rand.Rand, account string, at time.Time) {
	version, products := s.products()
	var lines []fields
	for range 1 + r.IntN(2) {
		p, count := products[r.IntN(len(products))], 1+r.IntN(4)
		granted := s.charge("inst-"+account, version, p, count)
		if granted == nil {
			granted = []fields{{
				"item": p.item, "item_version": p.version, "item_quantity": count, "response": 202, "series": series, "version": version, "meter_cost": p.cost, "meter_quantity": 0,
			}}
		}
		lines = append(lines, granted...)
	}
	if s.on(4, 3) && account == "acme" {
		lines[0]["used"] = 1 // its producer's own sum is wrong: the report shows both
	}
	for i, l := range lines {
		l["line_no"] = i + 1
		l["meta_data"] = fields{"project": fmt.Sprintf("p%d", 1+r.IntN(5))}
	}
	s.operation(account, "access_request", 1+r.IntN(6), lines, "", "", at)
}

// session ends after twenty of its sixty minutes: two thirds of the tokens come back.
func (s *stage) session(r *rand.Rand, account string, at time.Time) {
	version, products := s.products()
	p := products[2]
	lines := s.charge("inst-"+account, version, p, 1)
	if len(lines) != 1 {
		return
	}
	lines[0]["line_no"] = 1
	consumer, session := 1+r.IntN(6), fmt.Sprintf("0197a1f2-0000-7000-8000-%012d", s.elastic.made)
	correlation := s.operation(account, "access_request", consumer, lines, session, "ACTIVE", at)
	back := p.cost * millionths * 2 / 3 // millionths, rounded to the nearest: 4.666667
	if p.cost*2%3 == 2 {
		back++
	}
	refund := fields{
		"line_no": 1, "item": p.item, "item_version": p.version, "item_quantity": "-0.666666667", "response": 101, "activation_id": lines[0]["activation_id"],
		"mapped_entitled_count": lines[0]["mapped_entitled_count"], "series": series, "version": version, "meter_cost": p.cost,
		"meter_quantity": fmt.Sprintf("-%d.%06d", back/millionths, back%millionths), "refund_of": fields{"correlation_id": correlation, "line_no": 1},
	}
	for _, item := range s.elastic.items {
		if item.activation == lines[0]["activation_id"] {
			item.used -= back
		}
	}
	s.operation(account, "refund", consumer, []fields{refund}, session, "TERMINATED", at.Add(20*time.Minute))
}
