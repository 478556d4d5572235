package reference

import (
	"cmp"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
)

// kind is what an inventory counts: certificate type and product.
type kind struct{ certType, product string }

type stock map[kind]*big.Rat

func (s stock) plus(items []map[string]any, member string) stock {
	sum := stock{}
	for k, n := range s {
		sum[k] = n
	}
	for _, i := range items {
		k := kind{textOf(i, "cert_type"), textOf(i, "product")}
		if sum[k] == nil {
			sum[k] = new(big.Rat)
		}
		sum[k] = new(big.Rat).Add(sum[k], numberOf(i, member))
	}
	return sum
}

// with adds another stock.
func (s stock) with(other stock) stock {
	sum := stock{}
	maps.Copy(sum, s)
	for k, n := range other {
		if sum[k] == nil {
			sum[k] = new(big.Rat)
		}
		sum[k] = new(big.Rat).Add(sum[k], n)
	}
	return sum
}

func (s stock) total(abs bool) *big.Rat {
	sum := new(big.Rat)
	for _, n := range s {
		if abs {
			n = new(big.Rat).Abs(n)
		}
		sum.Add(sum, n)
	}
	return sum
}

func (s stock) negative() bool {
	for _, n := range s {
		if n.Sign() < 0 {
			return true
		}
	}
	return false
}

// subscription is one as it is at an instant.
type subscription struct {
	id, account, name, currency, by string
	products                        []string
	items, renewal                  stock // renewal: differences
	ordered, first, start, lastDay  int64
	term                            int
	noRenewal, cancelled            bool
	cost                            *big.Rat
	modified                        int64
}

type transaction struct {
	id, subscription, account, action, user string
	products                                []string
	at                                      int64
	total, cost                             *big.Rat
}

// certificate is one as it is at an instant.
type certificate struct {
	subscription string
	kind
	used bool
}

// partners is subscriptions and certificates at an instant.
type partners struct {
	subscriptions map[string]*subscription
	transactions  []transaction
	certificates  map[string]*certificate
	refused       map[string]string
	seen          map[[3]string]bool
}

func (h *History) partners(at int64) *partners {
	p := &partners{map[string]*subscription{}, nil, map[string]*certificate{}, map[string]string{}, map[[3]string]bool{}}
	for _, e := range h.events {
		switch domain, _, _ := strings.Cut(e.Type, "."); {
		case e.At > at:
		case domain == "certificate":
			p.certify(e)
		case domain == "subscription" || domain == "inventory" || domain == "renewal_inventory":
			if rule := p.apply(e); rule != "" {
				p.refused[e.name()] = rule
			}
		}
	}
	return p
}

func lastDayOf(start, end int64, months int) int64 {
	t := time.UnixMilli(start).UTC()
	first := time.Date(t.Year(), t.Month()+time.Month(months), 1, 0, 0, 0, 0, time.UTC)
	after := first.AddDate(0, 0, min(t.Day(), first.AddDate(0, 1, -1).Day())-1).UnixMilli()
	if months > 0 && (end == 0 || end-after <= day && after-end <= day) {
		return after - day
	}
	return end - 1 - (end-1)%day
}

func productsOf(items []map[string]any) []string {
	var all []string
	for _, i := range items {
		if name := textOf(i, "product"); name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

func (p *partners) apply(e *Event) (rule string) {
	id := e.text("subscription_id")
	s := p.subscriptions[id]
	key := [3]string{e.Type, id, e.text("transaction_id")}
	switch {
	case s == nil && e.Type != "subscription.ordered":
		return ""
	case p.seen[key]:
		return "transaction-exists"
	case s != nil && s.cancelled && e.Type != "subscription.ordered":
		return "subscription-cancelled"
	case s != nil && !s.cancelled && e.Type == "subscription.ordered":
		return "subscription-exists"
	}
	actor, _ := e.Data["actor"].(map[string]any)
	t := transaction{
		id: e.text("transaction_id"), subscription: id, at: e.At, cost: e.number("cost"),
		user: cmp.Or(textOf(actor, "name"), textOf(actor, "email"), textOf(actor, "id")),
	}
	by := cmp.Or(textOf(actor, "email"), textOf(actor, "name"), textOf(actor, "id"))
	if s == nil {
		s = &subscription{first: e.At}
	} else {
		copied := *s
		s = &copied
	}
	if s, rule = p.change(s, e, &t); rule != "" {
		return rule
	}
	if e.Type == "subscription.renewed" {
		t.user, by = "System", cmp.Or(by, "System")
	}
	s.modified, s.by = e.At, by
	p.subscriptions[id], p.seen[key] = s, true
	if t.account = s.account; t.action != "" {
		p.transactions = append(p.transactions, t)
	}
	return ""
}

// change is what an event does to a subscription, and what of it is a transaction.
func (p *partners) change(s *subscription, e *Event, t *transaction) (after *subscription, rule string) {
	switch e.Type {
	case "subscription.ordered":
		s = orderOf(s, e)
		t.action, t.total, t.products = "Inventory", s.items.total(false), s.products
	case "subscription.modified":
		if c := e.text("currency"); c != "" && c != s.currency {
			return s, "currency-changed"
		}
		if e.Data["items"] != nil {
			s.items = stock{}.plus(e.objects("items"), "quantity")
		}
		if renew, ok := e.Data["auto_renew"].(bool); ok {
			s.noRenewal = !renew
		}
		s.name = cmp.Or(e.text("name"), s.name)
		s.cost = new(big.Rat).Add(s.cost, e.number("cost"))
	case "subscription.renewed":
		if e.Data["items"] != nil {
			s.items = stock{}.plus(e.objects("items"), "quantity")
		} else {
			s.items = s.items.with(s.renewal)
			for k, n := range s.items {
				if n.Sign() < 0 {
					s.items[k] = new(big.Rat)
				}
			}
		}
		s.renewal, s.start, s.cost = nil, e.instant("new_start"), e.number("cost")
		s.lastDay = lastDayOf(s.start, e.instant("new_end"), s.term)
		t.action, t.total, t.products = "Renew", s.items.total(false), s.products
	case "subscription.cancelled":
		s.cancelled = true
		t.action, t.total, t.products = "Cancel", s.items.total(false), s.products
	case "inventory.changed":
		after, delta := s.items.plus(e.objects("deltas"), "delta"), stock{}.plus(e.objects("deltas"), "delta")
		if after.negative() {
			return s, "inventory-below-zero"
		}
		if p.belowUsed(s, after, delta) {
			return s, "inventory-below-used"
		}
		s.items, s.cost = after, new(big.Rat).Add(s.cost, e.number("cost"))
		t.action, t.total, t.products = "Inventory", delta.total(true), productsOf(e.objects("deltas"))
	case "renewal_inventory.changed":
		delta := stock{}.plus(e.objects("deltas"), "delta")
		renewal := s.renewal.plus(e.objects("deltas"), "delta")
		if s.items.with(renewal).negative() {
			return s, "renewal-inventory-below-zero"
		}
		s.renewal = renewal
		t.action, t.total, t.products = "Renewal Inventory", delta.total(true), productsOf(e.objects("deltas"))
	}
	return s, ""
}

func orderOf(before *subscription, e *Event) *subscription {
	s := &subscription{
		id: e.text("subscription_id"), account: e.Account, name: e.text("name"), currency: e.text("currency"), ordered: e.At, first: before.first,
		items: stock{}.plus(e.objects("items"), "quantity"), start: e.instant("start"), cost: e.number("cost"),
		term: int(new(big.Int).Quo(e.number("term_months").Num(), big.NewInt(1)).Int64()),
	}
	if s.first == 0 {
		s.first = e.At
	}
	s.products, _ = e.Data["products"].([]string)
	if len(s.products) == 0 {
		s.products = productsOf(e.objects("items"))
	}
	if renew, ok := e.Data["auto_renew"].(bool); ok {
		s.noRenewal = !renew
	}
	s.lastDay = lastDayOf(s.start, e.instant("end"), s.term)
	return s
}

// certify is certificate.*: what is said last of a certificate holds; a reissue replaces, and takes the kind of what
// it replaces where it says none.
func (p *partners) certify(e *Event) {
	id := e.text("subscription_id")
	if p.subscriptions[id] == nil {
		return
	}
	name := e.text("certificate_id")
	c := p.certificates[name]
	if c == nil {
		c = &certificate{}
		p.certificates[name] = c
	}
	c.used = e.Type == "certificate.issued" || e.Type == "certificate.reissued"
	if !c.used {
		return
	}
	c.subscription = id
	c.certType, c.product = cmp.Or(e.text("cert_type"), c.certType), cmp.Or(e.text("product"), c.product)
	if old := p.certificates[e.text("replaces")]; e.Type == "certificate.reissued" && old != nil && old != c {
		c.certType, c.product = cmp.Or(c.certType, old.certType), cmp.Or(c.product, old.product)
		old.used = false
	}
}

// belowUsed reports whether a change takes away of a kind, or of a type as a whole, what is in use.
func (p *partners) belowUsed(s *subscription, after, delta stock) bool {
	for k, n := range delta {
		if n.Sign() >= 0 {
			continue
		}
		left, ofType := after[k], new(big.Rat)
		for other, n := range after {
			if other.certType == k.certType {
				ofType.Add(ofType, n)
			}
		}
		used, usedOfType := int64(0), int64(0)
		for _, c := range p.certificates {
			if !c.used || c.subscription != s.id {
				continue
			}
			if of := whole(c.kind, after); of.certType == k.certType {
				usedOfType++
				if of == k {
					used++
				}
			}
		}
		if left.Cmp(big.NewRat(used, 1)) < 0 || ofType.Cmp(big.NewRat(usedOfType, 1)) < 0 {
			return true
		}
	}
	return false
}

// whole completes a kind from an inventory where only one fits.
func whole(k kind, items stock) kind {
	if k.certType != "" && k.product != "" {
		return k
	}
	var fits []kind
	for other := range items {
		if (k.certType == "" || k.certType == other.certType) && (k.product == "" || k.product == other.product) {
			fits = append(fits, other)
		}
	}
	if len(fits) == 1 {
		return fits[0]
	}
	return k
}

func (s *subscription) active(at int64) bool {
	return !s.cancelled && !(s.noRenewal && at >= s.lastDay+day)
}

// client is a customer in a partner's reach, and the name of its reseller.
func (s *state) client(partner, id string) (a *account, reseller string, reached bool) {
	if a = s.accounts[id]; a == nil {
		return nil, "", false
	}
	below := func(id string) bool {
		for i := 0; id != "" && i < 100; i++ {
			if id == partner {
				return true
			}
			if s.accounts[id] == nil {
				return false
			}
			id = s.accounts[id].parent
		}
		return false
	}
	by := a.reseller
	for up := s.accounts[a.parent]; by == "" && up != nil; up = s.accounts[up.parent] {
		if up.kind == "reseller" {
			by = up.id
		}
	}
	reached = below(id) || below(by)
	if r := s.accounts[by]; r != nil {
		return a, r.name, reached
	}
	return a, by, reached
}

// Subscriptions is the report of that name.
func (h *History) Subscriptions(partner string) []string {
	s := h.before(h.AsOf + 1)
	var rows [][]string
	all := h.partners(h.AsOf).subscriptions
	for _, id := range slices.Sorted(maps.Keys(all)) {
		one := all[id]
		a, reseller, reached := s.client(partner, one.account)
		if !reached || !a.living || !one.active(h.AsOf) {
			continue
		}
		rows = append(rows, []string{
			a.name, one.id, reseller, one.name, dateOf(one.lastDay), cents(one.cost), dateOf(one.ordered), one.by, dateOf(one.modified), shortest(one.items.total(false)),
		})
	}
	slices.SortStableFunc(rows, func(a, b []string) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) })
	return joined(rows)
}

func joined(rows [][]string) []string {
	var all []string
	for _, row := range rows {
		all = append(all, strings.Join(row, ","))
	}
	return all
}

// Transactions is the report of that name, of all time.
func (h *History) Transactions(partner string) []string {
	s := h.before(h.AsOf + 1)
	var rows [][]string
	for _, t := range h.partners(h.AsOf).transactions {
		if a, reseller, reached := s.client(partner, t.account); reached {
			rows = append(rows, []string{
				a.name, a.id, t.subscription, reseller, strings.Join(t.products, ";"), t.id, t.action, dateOf(t.at), shortest(t.total), cents(t.cost), t.user,
			})
		}
	}
	return joined(rows)
}

// CertificateUsage is certificate-usage; expand is "", customer or type.
func (h *History) CertificateUsage(partner, expand string) []string {
	s, p := h.before(h.AsOf+1), h.partners(h.AsOf)
	type row struct {
		customer string
		kind
	}
	current, used := map[row]*big.Rat{}, map[row]*big.Rat{}
	add := func(customer string, k kind, n, u *big.Rat) {
		if expand == "" {
			k.certType = ""
		}
		if expand != "type" {
			k.product = ""
		}
		r := row{customer, k}
		if current[r] == nil {
			current[r], used[r] = new(big.Rat), new(big.Rat)
		}
		current[r].Add(current[r], n)
		used[r].Add(used[r], u)
	}
	for _, one := range p.subscriptions {
		if a, _, reached := s.client(partner, one.account); reached && a.living && one.active(h.AsOf) {
			for k, n := range one.items {
				add(a.id, k, n, new(big.Rat))
			}
		}
	}
	for _, c := range p.certificates {
		if !c.used {
			continue
		}
		one := p.subscriptions[c.subscription]
		if a, _, reached := s.client(partner, one.account); reached && a.living {
			add(a.id, whole(c.kind, one.items), new(big.Rat), big.NewRat(1, 1))
		}
	}
	var rows [][]string
	for r, n := range current {
		a, reseller, _ := s.client(partner, r.customer)
		cells := []string{a.name, a.id, reseller}
		if expand != "" {
			cells = append(cells, r.certType)
		}
		if expand == "type" {
			cells = append(cells, r.product)
		}
		available := new(big.Rat).Sub(n, used[r])
		if available.Sign() < 0 {
			available.SetInt64(0)
		}
		rows = append(rows, append(cells, shortest(n), shortest(available), shortest(used[r])))
	}
	slices.SortFunc(rows, func(a, b []string) int {
		return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1]), slices.Compare(a[3:], b[3:]))
	})
	return joined(rows)
}
