package directory

import (
	"cmp"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
)

// prices is prices of meters by region, currency and instant: price.set.
//
// What a price.set says holds from its effective_from on, whenever it was said: a price for the past changes the
// past. Of several with the same effective_from the one that was said last speaks (in fold order).
type prices struct {
	lists map[priceKey][]Price // by EffectiveFrom
}

type priceKey struct{ meter, region, currency string }

// Anywhere is the region of a price that holds where no price of the region itself is in force.
const Anywhere = "*"

// Price is what a meter costs in a region from EffectiveFrom on.
type Price struct {
	Region        string // Anywhere or the region itself
	Currency      string
	EffectiveFrom int64 // Unix ms
	Tiers         []Tier
}

// Tier is the price of the units above From, up to and including the From of the next tier.
type Tier struct {
	From, UnitPrice *big.Int // billionths
}

type priceData struct {
	Meter         string `json:"meter"`
	Region        string `json:"region"`
	Currency      string `json:"currency"`
	EffectiveFrom string `json:"effective_from"`
	Tiers         []struct {
		From      json.RawMessage `json:"from"`
		UnitPrice json.RawMessage `json:"unit_price"`
	} `json:"tiers"`
}

func (d *prices) apply(_ *State, e *parsed) {
	var in priceData
	if json.Unmarshal([]byte(e.Data), &in) != nil {
		return
	}
	p := Price{Region: in.Region, Currency: in.Currency, EffectiveFrom: instantOf(in.EffectiveFrom)}
	for _, t := range in.Tiers {
		p.Tiers = append(p.Tiers, Tier{billionths(t.From), billionths(t.UnitPrice)})
	}
	slices.SortStableFunc(p.Tiers, func(a, b Tier) int { return a.From.Cmp(b.From) })
	if d.lists == nil {
		d.lists = map[priceKey][]Price{}
	}
	key := priceKey{in.Meter, in.Region, in.Currency}
	list := d.lists[key]
	i, found := slices.BinarySearchFunc(list, p.EffectiveFrom, func(p Price, at int64) int { return cmp.Compare(p.EffectiveFrom, at) })
	if found {
		list[i] = p // events come in fold order: this one was said later
	} else {
		list = slices.Insert(list, i, p)
	}
	d.lists[key] = list
}

// Price is what a meter costs in a region and currency at an instant: the price of the region if one is in
// force, else the one of anywhere. False if neither is.
func (s *State) Price(meter, region, currency string, at int64) (Price, bool) {
	for _, where := range []string{region, Anywhere} {
		list := s.prices.lists[priceKey{meter, where, currency}]
		i, found := slices.BinarySearchFunc(list, at, func(p Price, at int64) int { return cmp.Compare(p.EffectiveFrom, at) })
		if found {
			return list[i], true
		}
		if i > 0 {
			return list[i-1], true
		}
	}
	return Price{}, false
}

// Currencies are those in which a meter ever had a price, sorted.
func (s *State) Currencies(meter string) []string {
	var all []string
	for key := range s.prices.lists {
		if key.meter == meter {
			all = append(all, key.currency)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Cost is what a quantity costs by the tiers, exactly: in billionths of a billionth. What lies below the first
// tier costs nothing.
func (p Price) Cost(quantity *big.Int) *big.Int {
	cost := new(big.Int)
	for i, t := range p.Tiers {
		upper := quantity
		if i+1 < len(p.Tiers) && p.Tiers[i+1].From.Cmp(quantity) < 0 {
			upper = p.Tiers[i+1].From
		}
		if units := new(big.Int).Sub(upper, t.From); units.Sign() > 0 {
			cost.Add(cost, units.Mul(units, t.UnitPrice))
		}
	}
	return cost
}

// billionths is a JSON number, or a decimal in a string, as an integer of billionths; 0 where there is none. What
// was accepted has at most nine fractional digits.
func billionths(raw json.RawMessage) *big.Int {
	r, ok := new(big.Rat).SetString(strings.TrimSpace(decimalOf(raw)))
	if !ok {
		return new(big.Int)
	}
	r.Mul(r, big.NewRat(1_000_000_000, 1))
	return new(big.Int).Quo(r.Num(), r.Denom())
}
