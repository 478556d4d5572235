package directory

import (
	"encoding/json"
	"maps"
	"math/big"
	"slices"
)

// certificates is which certificates are in use, of the subscriptions whose certificates the fold was given.
//
// Certificates are a population, counted where they are stored, and the fold does not ask for them (Types). It
// needs those of subscriptions whose inventory somebody made smaller, and only for the rule that forbids to take
// away what is in use: without them the rule is silent.
type certificates struct {
	all  map[string]*certificate
	used map[string]map[StockKey]int64 // by subscription
}

type certificate struct {
	subscription string
	kind         StockKey
	live         bool
}

// CertificateTypes are the types of events about certificates.
func CertificateTypes() []string {
	return []string{"certificate.expired", "certificate.issued", "certificate.reissued", "certificate.revoked"}
}

type certificateData struct {
	ID           string `json:"certificate_id"`
	Subscription string `json:"subscription_id"`
	CertType     string `json:"cert_type"`
	Product      string `json:"product"`
	Replaces     string `json:"replaces"`
}

// Shrunk are the subscriptions whose current inventory somebody wanted to make smaller, sorted: those whose
// certificates the fold needs.
func (s *State) Shrunk() []string { return slices.Sorted(maps.Keys(s.subscriptions.shrunk)) }

func (d *certificates) apply(s *State, e *parsed) {
	var in certificateData
	if json.Unmarshal([]byte(e.Data), &in) != nil {
		return
	}
	if _, ordered := s.Subscription(in.Subscription, e.At); !ordered {
		return
	}
	if d.all == nil {
		d.all, d.used = map[string]*certificate{}, map[string]map[StockKey]int64{}
	}
	c := d.all[in.ID]
	if c == nil {
		c = &certificate{}
		d.all[in.ID] = c
	}
	d.count(c, -1)
	c.live = e.Type == "certificate.issued" || e.Type == "certificate.reissued"
	if c.live {
		c.subscription = in.Subscription
		c.kind = Inherit(StockKey{in.CertType, in.Product}, c.kind)
		if old := d.all[in.Replaces]; e.Type == "certificate.reissued" && old != nil && old != c {
			c.kind = Inherit(c.kind, old.kind)
			d.count(old, -1)
			old.live = false
		}
	}
	d.count(c, 1)
}

// Inherit fills what a kind leaves out with what the certificate was before, or the one that it replaces.
func Inherit(kind, before StockKey) StockKey {
	if kind.CertType == "" {
		kind.CertType = before.CertType
	}
	if kind.Product == "" {
		kind.Product = before.Product
	}
	return kind
}

func (d *certificates) count(c *certificate, n int64) {
	if !c.live {
		return
	}
	of := d.used[c.subscription]
	if of == nil {
		of = map[StockKey]int64{}
		d.used[c.subscription] = of
	}
	of[c.kind] += n
}

// above is a kind that changes make smaller and of which more are in use than after them are left; nil if there
// is none. A type is looked at as a whole too: a certificate need not say its product.
func (d *certificates) above(subscription string, after, changes []Stock) *StockKey {
	left, used := map[StockKey]*big.Int{}, map[StockKey]int64{}
	for _, s := range after {
		left[s.StockKey] = s.Quantity
		whole := StockKey{CertType: s.CertType}
		if left[whole] == nil {
			left[whole] = new(big.Int)
		}
		left[whole] = new(big.Int).Add(left[whole], s.Quantity)
	}
	for kind, n := range d.used[subscription] {
		kind = KindOf(kind, after)
		if kind.Product != "" {
			used[kind] += n
		}
		used[StockKey{CertType: kind.CertType}] += n
	}
	for i := range changes {
		c := &changes[i]
		if c.Quantity.Sign() >= 0 {
			continue
		}
		for _, kind := range []StockKey{c.StockKey, {CertType: c.CertType}} {
			if n := left[kind]; n != nil && n.Cmp(new(big.Int).Mul(big.NewInt(used[kind]), big.NewInt(1_000_000_000))) < 0 {
				return &c.StockKey
			}
		}
	}
	return nil
}

// KindOf completes the kind of a certificate from the inventory of its subscription: what it does not say is
// taken from there if only one kind fits.
func KindOf(kind StockKey, items []Stock) StockKey {
	if kind.CertType != "" && kind.Product != "" {
		return kind
	}
	var fits []StockKey
	for _, s := range items {
		if (kind.CertType == "" || kind.CertType == s.CertType) && (kind.Product == "" || kind.Product == s.Product) {
			fits = append(fits, s.StockKey)
		}
	}
	if len(fits) == 1 {
		return fits[0]
	}
	return kind
}
