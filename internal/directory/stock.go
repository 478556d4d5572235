package directory

import (
	"cmp"
	"encoding/json"
	"math/big"
	"slices"
	"time"
)

const dayMillis = int64(86_400_000)

func compareStock(a, b Stock) int {
	return cmp.Or(cmp.Compare(a.CertType, b.CertType), cmp.Compare(a.Product, b.Product))
}

// stock is the inventory that items of an event make, same kinds added up.
func stock(items []stockData) []Stock {
	var all []Stock
	for _, i := range items {
		all = append(all, Stock{StockKey{i.CertType, i.Product}, billionths(i.Quantity)})
	}
	return sum(nil, all)
}

func deltas(items []stockData) []Stock {
	var all []Stock
	for _, i := range items {
		all = append(all, Stock{StockKey{i.CertType, i.Product}, billionths(i.Delta)})
	}
	return sum(nil, all)
}

// sum adds two inventories into a third, by kind; kinds that come to nothing stay.
func sum(a, b []Stock) []Stock {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, compareStock)
	var out []Stock
	for _, s := range all {
		if n := len(out); n > 0 && out[n-1].StockKey == s.StockKey {
			out[n-1].Quantity = new(big.Int).Add(out[n-1].Quantity, s.Quantity)
			continue
		}
		out = append(out, s)
	}
	return out
}

// plus is sum without what would be negative: less than nothing cannot be renewed.
func plus(a, b []Stock) []Stock {
	out := sum(a, b)
	for i := range out {
		if out[i].Quantity.Sign() < 0 {
			out[i].Quantity = new(big.Int)
		}
	}
	return out
}

// below is a kind of which there is less than nothing; nil if there is none.
func below(all []Stock) *StockKey {
	for i := range all {
		if all[i].Quantity.Sign() < 0 {
			return &all[i].StockKey
		}
	}
	return nil
}

func total(all []Stock) *big.Int {
	n := new(big.Int)
	for _, s := range all {
		n.Add(n, s.Quantity)
	}
	return n
}

func magnitude(all []Stock) *big.Int {
	n := new(big.Int)
	for _, s := range all {
		n.Add(n, new(big.Int).Abs(s.Quantity))
	}
	return n
}

// products are the products of items, each once, in their order.
func products(items []stockData) []string {
	var all []string
	for _, i := range items {
		if i.Product != "" && !slices.Contains(all, i.Product) {
			all = append(all, i.Product)
		}
	}
	return all
}

func months(raw json.RawMessage) int {
	n := billionths(raw)
	return int(n.Quo(n, big.NewInt(1_000_000_000)).Int64())
}

func dayOf(ms int64) int64 { return ms - ((ms%dayMillis)+dayMillis)%dayMillis }

// lastDay is the first instant of a term's last day: start + months − 1 day. Some say the first
// instant after the term as its end, some its last day; both lie within a day of that and mean it. An end that is
// elsewhere is taken as it stands, as the first instant after the term.
func lastDay(start, end int64, months int) int64 {
	after := addMonths(start, months)
	if months > 0 && (end == 0 || end-after <= dayMillis && after-end <= dayMillis) {
		return dayOf(after) - dayMillis
	}
	return dayOf(end - 1)
}

// addMonths keeps the day of the month, or takes the month's last where it has no such day.
func addMonths(ms int64, months int) int64 {
	t := time.UnixMilli(ms).UTC()
	first := time.Date(t.Year(), t.Month()+time.Month(months), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1).UnixMilli()
}
