package demo

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// partner is certificates sold, as of today.
type partner struct {
	subscriptions []*subscription
	transactions  int
}

type subscription struct {
	id, account, name string
	start, end        time.Time // of the term, both included
	months            int
	stock             []stock
	certificates      []certificate
	issued            int
	cancelled         bool
}

type stock struct {
	certType, product   string
	quantity, priceCent int
	renewal             int // difference at the next renewal
}

type certificate struct {
	id   string
	kind int
	from time.Time
}

type order struct {
	month, day, months int
	account, name      string
	stock              []stock
}

func orders() []order {
	ssl := func(n int) stock { return stock{"SSL", "OV SSL", n, 5000, 0} }
	wildcard := func(n int) stock { return stock{"SSL", "Wildcard SSL", n, 18_000, 0} }
	mail := func(n int) stock { return stock{"S/MIME", "S/MIME Pro", n, 2000, 0} }
	code := func(n int) stock { return stock{"Code Signing", "EV Code Signing", n, 30_000, 0} }
	return []order{
		{0, 2, 12, "kappa", "Enterprise SSL", []stock{ssl(20), mail(30)}},
		{0, 5, 3, "lambda", "Team SSL", []stock{ssl(8), wildcard(2)}},
		{0, 9, 12, "sigma", "Retail SSL", []stock{ssl(40), wildcard(5)}},
		{1, 4, 12, "omega", "Mail Security", []stock{mail(60)}},
		{2, 11, 12, "kappa", "Code Signing", []stock{code(3)}},
		{2, 18, 1, "sigma", "Holiday SSL", []stock{ssl(10)}},
		{4, 6, 12, "lambda", "Enterprise SSL", []stock{ssl(15), mail(10)}},
	}
}

func seller(r *rand.Rand) fields {
	people := [][2]string{{"Ann Archer", "ann@trust.example"}, {"Bob Bauer", "bob@trust.example"}, {"Cleo Costa", "cleo@certware.example"}}
	p := people[r.IntN(len(people))]
	return fields{"id": p[1], "name": p[0], "email": p[1]}
}

// certificates is the partner platform: orders, changes of inventory, renewals, and the certificates themselves.
func (s *stage) certificates() {
	r := s.chance("partner")
	for i, o := range orders() {
		if s.on(o.month, o.day) {
			s.order(fmt.Sprintf("SUB-%d", i+1), o, s.worktime(r), seller(r))
		}
	}
	for i, sub := range s.partner.subscriptions {
		if sub.cancelled {
			continue
		}
		if s.today.After(sub.end) {
			s.renew(sub)
		}
		s.issue(sub, s.chance("certificates "+sub.id))
		at := s.worktime(r)
		switch {
		case i == 0 && s.on(2, 3):
			s.inventory(sub, 0, 8, at, seller(r))
		case i == 2 && s.on(3, 21):
			s.inventory(sub, 1, 3, at, seller(r))
		case i == 3 && s.on(4, 12):
			s.inventory(sub, 0, -10, at, seller(r))
		case i == 1 && s.on(2, 1):
			s.renewal(sub, 0, 4, at, seller(r))
		case i == 5 && s.on(4, 9):
			s.cancel(sub, at, seller(r))
		}
	}
}

func (s *stage) transaction() string {
	s.partner.transactions++
	return fmt.Sprintf("TX-%04d", s.partner.transactions)
}

func midnight(t time.Time) string { return date(t) + "T00:00:00Z" }

func (s *stage) order(id string, o order, at time.Time, actor fields) {
	sub := &subscription{id: id, account: o.account, name: o.name, start: s.today, end: s.today.AddDate(0, o.months, -1), months: o.months, stock: o.stock}
	s.partner.subscriptions = append(s.partner.subscriptions, sub)
	var items []fields
	cost := 0
	for _, k := range sub.stock {
		items = append(items, fields{"cert_type": k.certType, "product": k.product, "quantity": k.quantity, "unit_price": cents(k.priceCent)})
		cost += k.quantity * k.priceCent
	}
	tx := s.transaction()
	s.say(fromPartner, "order:"+tx, "subscription.ordered", sub.account, at, fields{
		"transaction_id": tx, "subscription_id": id, "name": sub.name, "products": []string{sub.name}, "items": items, "term_months": o.months,
		"start": midnight(sub.start), "end": midnight(sub.end), "auto_renew": true, "cost": cents(cost), "currency": "EUR", "actor": actor,
	})
}

// inventory changes what may be used at once, and costs its part of the term.
func (s *stage) inventory(sub *subscription, kind, delta int, at time.Time, actor fields) {
	k := &sub.stock[kind]
	cost := 0
	if delta > 0 {
		whole := int(sub.end.Sub(sub.start)/(24*time.Hour)) + 1
		left := int(sub.end.Sub(s.today)/(24*time.Hour)) + 1
		cost = share(delta*k.priceCent, left, whole)
	}
	k.quantity += delta
	tx := s.transaction()
	s.say(fromPartner, "inventory:"+tx, "inventory.changed", sub.account, at, fields{
		"transaction_id": tx, "subscription_id": sub.id, "cost": cents(cost), "actor": actor,
		"deltas": []fields{{"cert_type": k.certType, "product": k.product, "delta": delta}},
	})
}

func (s *stage) renewal(sub *subscription, kind, delta int, at time.Time, actor fields) {
	k := &sub.stock[kind]
	k.renewal += delta
	tx := s.transaction()
	s.say(fromPartner, "renewal:"+tx, "renewal_inventory.changed", sub.account, at, fields{
		"transaction_id": tx, "subscription_id": sub.id, "cost": "0.00", "actor": actor,
		"deltas": []fields{{"cert_type": k.certType, "product": k.product, "delta": delta}},
	})
}

func (s *stage) renew(sub *subscription) {
	cost := 0
	for i := range sub.stock {
		k := &sub.stock[i]
		k.quantity, k.renewal = k.quantity+k.renewal, 0
		cost += k.quantity * k.priceCent
	}
	sub.start, sub.end = s.today, s.today.AddDate(0, sub.months, -1)
	tx := s.transaction()
	s.say(fromPartner, "renewed:"+tx, "subscription.renewed", sub.account, s.at(0, 5), fields{
		"transaction_id": tx, "subscription_id": sub.id, "new_start": midnight(sub.start), "new_end": midnight(sub.end), "cost": cents(cost),
		"actor": fields{"id": "System", "name": "System"},
	})
}

func (s *stage) cancel(sub *subscription, at time.Time, actor fields) {
	sub.cancelled = true
	tx := s.transaction()
	s.say(fromPartner, "cancel:"+tx, "subscription.cancelled", sub.account, at, fields{"transaction_id": tx, "subscription_id": sub.id, "cost": "0.00", "actor": actor})
}

// issue uses the inventory, some certificates a day, and never more than there are.
func (s *stage) issue(sub *subscription, r *rand.Rand) {
	if s.weekend() {
		return
	}
	for kind, k := range sub.stock {
		used := 0
		for _, c := range sub.certificates {
			if c.kind == kind {
				used++
			}
		}
		if luck := r.IntN(100); luck < 25 && used < k.quantity {
			sub.issued++
			c := certificate{fmt.Sprintf("CRT-%s-%d", sub.id, sub.issued), kind, s.today}
			sub.certificates = append(sub.certificates, c)
			s.certificate(sub, "issued", c, "", s.worktime(r))
		}
	}
	if len(sub.certificates) == 0 {
		return
	}
	i := r.IntN(len(sub.certificates))
	c := sub.certificates[i]
	if c.from.Equal(s.today) {
		return
	}
	switch luck := r.IntN(100); {
	case luck < 3: // in place of one whose key was lost
		sub.issued++
		next := certificate{fmt.Sprintf("CRT-%s-%d", sub.id, sub.issued), c.kind, s.today}
		sub.certificates[i] = next
		s.certificate(sub, "reissued", next, c.id, s.worktime(r))
	case luck < 5:
		sub.certificates = append(sub.certificates[:i], sub.certificates[i+1:]...)
		s.certificate(sub, "revoked", c, "", s.worktime(r))
	case luck < 6:
		sub.certificates = append(sub.certificates[:i], sub.certificates[i+1:]...)
		s.certificate(sub, "expired", c, "", s.worktime(r))
	}
}

func (s *stage) certificate(sub *subscription, what string, c certificate, replaces string, at time.Time) {
	k := sub.stock[c.kind]
	data := fields{"certificate_id": c.id, "subscription_id": sub.id, "cert_type": k.certType, "product": k.product}
	if replaces != "" {
		data["replaces"] = replaces
	}
	s.say(fromPartner, what+":"+c.id, "certificate."+what, sub.account, at, data)
}
