package directory_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// ledgerLine is an event of a subscription as the reference reads it, in time order.
type ledgerLine struct {
	typ, transaction string
	at               int64
	deltas           map[string]int64 // or items
	cost             int64            // cents
	certificate      string
}

// plainly is the slow way: one subscription, whole numbers, events in order.
type plainly struct {
	ordered, cancelled  bool
	items, differences  map[string]int64
	cost                int64
	used                map[string]string // certificate → type
	seen                map[string]bool
	transactions, rules []string
}

func (r *plainly) total(m map[string]int64) int64 {
	n := int64(0)
	for _, v := range m {
		n += max(v, -v)
	}
	return n
}

func (r *plainly) read(l ledgerLine) {
	if strings.HasPrefix(l.typ, "certificate.") {
		if !r.ordered {
			return
		}
		if l.typ == "certificate.issued" {
			for kind := range l.deltas {
				r.used[l.certificate] = kind
			}
		} else {
			delete(r.used, l.certificate)
		}
		return
	}
	key := l.typ + l.transaction
	switch {
	case !r.ordered && l.typ != "subscription.ordered":
		return
	case r.seen[key]:
		r.rules = append(r.rules, "transaction-exists")
		return
	case r.cancelled && l.typ != "subscription.ordered":
		r.rules = append(r.rules, "subscription-cancelled")
		return
	case r.ordered && !r.cancelled && l.typ == "subscription.ordered":
		r.rules = append(r.rules, "subscription-exists")
		return
	}
	did, quantity := "", int64(0)
	switch l.typ {
	case "subscription.ordered":
		r.ordered, r.cancelled, r.items, r.differences, r.cost = true, false, l.deltas, map[string]int64{}, l.cost
		did, quantity = "Inventory", r.total(l.deltas)
	case "inventory.changed":
		for kind, d := range l.deltas {
			if r.items[kind]+d < 0 {
				r.rules = append(r.rules, "inventory-below-zero")
				return
			}
		}
		for kind, d := range l.deltas {
			n := int64(0)
			for _, of := range r.used {
				if of == kind {
					n++
				}
			}
			if d < 0 && r.items[kind]+d < n {
				r.rules = append(r.rules, "inventory-below-used")
				return
			}
		}
		items := map[string]int64{}
		for kind, n := range r.items {
			items[kind] += n
		}
		for kind, d := range l.deltas {
			items[kind] += d
		}
		r.items, r.cost = items, r.cost+l.cost
		did, quantity = "Inventory", r.total(l.deltas)
	case "renewal_inventory.changed":
		differences := map[string]int64{}
		for kind, d := range r.differences {
			differences[kind] += d
		}
		for kind, d := range l.deltas {
			differences[kind] += d
		}
		for _, kind := range []string{"A", "B"} {
			if r.items[kind]+differences[kind] < 0 {
				r.rules = append(r.rules, "renewal-inventory-below-zero")
				return
			}
		}
		r.differences = differences
		did, quantity = "Renewal Inventory", r.total(l.deltas)
	case "subscription.renewed":
		items := map[string]int64{}
		for _, kind := range []string{"A", "B"} {
			if n := r.items[kind] + r.differences[kind]; n > 0 {
				items[kind] = n
			}
		}
		r.items, r.differences, r.cost = items, map[string]int64{}, l.cost
		did, quantity = "Renew", r.total(items)
	case "subscription.cancelled":
		r.cancelled = true
		did, quantity = "Cancel", r.total(r.items)
	}
	r.seen[key] = true
	r.transactions = append(r.transactions, fmt.Sprint(l.transaction, " ", did, " ", quantity, " ", l.cost))
}

func drawLedger(t *rapid.T) ([]ledgerLine, []directory.Event) {
	types := []string{
		"subscription.ordered", "inventory.changed", "inventory.changed", "renewal_inventory.changed", "renewal_inventory.changed",
		"subscription.renewed", "subscription.cancelled", "certificate.issued", "certificate.issued", "certificate.revoked",
	}
	var lines []ledgerLine
	var events []directory.Event
	for i := range rapid.IntRange(1, 40).Draw(t, "events") {
		l := ledgerLine{at: int64(i + 1), typ: rapid.SampledFrom(types).Draw(t, "type"), deltas: map[string]int64{}, cost: rapid.Int64Range(0, 500).Draw(t, "cost")}
		if i == 0 && rapid.Bool().Draw(t, "begins with the order") {
			l.typ = "subscription.ordered"
		}
		l.transaction = fmt.Sprint("T-", rapid.IntRange(0, 30).Draw(t, "transaction"))
		var parts []string
		for _, kind := range []string{"A", "B"}[:rapid.IntRange(1, 2).Draw(t, "kinds")] {
			n := rapid.Int64Range(-4, 5).Draw(t, "n")
			if l.typ == "subscription.ordered" {
				n = max(n, -n)
			}
			l.deltas[kind] = n
			parts = append(parts, fmt.Sprintf(`{"cert_type":%q,"product":"P-%s","delta":%d,"quantity":"%d"}`, kind, kind, n, max(n, 0)))
		}
		list := strings.Join(parts, ",")
		data := fmt.Sprintf(`{"transaction_id":%q,"subscription_id":"S","cost":"%d.%02d","deltas":[%s]}`, l.transaction, l.cost/100, l.cost%100, list)
		switch l.typ {
		case "subscription.ordered":
			data = fmt.Sprintf(`{"transaction_id":%q,"subscription_id":"S","cost":%d.%02d,"items":[%s],"term_months":1,"currency":"EUR"}`, l.transaction, l.cost/100, l.cost%100, list)
		case "certificate.issued", "certificate.revoked":
			l.certificate = fmt.Sprint("C-", rapid.IntRange(0, 6).Draw(t, "certificate"))
			l.deltas = map[string]int64{"A": 1}
			data = fmt.Sprintf(`{"certificate_id":%q,"subscription_id":"S","cert_type":"A"}`, l.certificate)
		}
		lines = append(lines, l)
		events = append(events, directory.Event{Type: l.typ, Source: "crm", ID: fmt.Sprint("e-", i), Account: "K", At: l.at, RecordedAt: l.at, Data: data})
	}
	return lines, events
}

func dateOf(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.DateOnly) }

func cents(n *big.Int) string { return new(big.Int).Quo(n, big.NewInt(10_000_000)).String() }

func pieces(n *big.Int) string { return new(big.Int).Quo(n, big.NewInt(1_000_000_000)).String() }

// Inventory, renewal, cost and transactions are those of a slow and obvious reading, in whatever order events come.
func TestSubscriptionsEqualTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines, events := drawLedger(t)
		want := &plainly{items: map[string]int64{}, differences: map[string]int64{}, used: map[string]string{}, seen: map[string]bool{}}
		for _, l := range lines {
			want.read(l)
		}
		s := directory.Fold(rapid.Permutation(events).Draw(t, "shuffled"), directory.Latest)
		var transactions, rules []string
		for _, d := range s.Transactions(directory.Latest) {
			transactions = append(transactions, d.ID+" "+d.Action+" "+pieces(d.Total)+" "+cents(d.Cost))
		}
		for _, r := range s.Rulings() {
			rules = append(rules, strings.TrimPrefix(r.Rule, "rule:"))
		}
		if !slices.Equal(transactions, want.transactions) || !slices.Equal(rules, want.rules) {
			t.Fatalf("transactions %v, rules %v\nwant %v, %v", transactions, rules, want.transactions, want.rules)
		}
		got, ok := s.Subscription("S", directory.Latest)
		if ok != want.ordered {
			t.Fatalf("ordered %v, want %v", ok, want.ordered)
		}
		if !ok {
			return
		}
		have := map[string]string{"A": "0", "B": "0"}
		for _, item := range got.Items {
			have[item.CertType] = pieces(item.Quantity)
		}
		if have["A"] != fmt.Sprint(want.items["A"]) || have["B"] != fmt.Sprint(want.items["B"]) || cents(got.Cost) != fmt.Sprint(want.cost) || got.Cancelled != want.cancelled {
			t.Fatalf("inventory %v, cost %s, cancelled %v; want %v, %d, %v", have, cents(got.Cost), got.Cancelled, want.items, want.cost, want.cancelled)
		}
	})
}

func TestLastDay(t *testing.T) {
	tests := map[string]struct {
		start, end string
		months     int
		want       string
	}{
		"end is the first instant after":  {"2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 12, "2025-12-31"},
		"end is the last day":             {"2025-01-01T00:00:00Z", "2025-12-31T00:00:00Z", 12, "2025-12-31"},
		"end is the last second":          {"2025-01-01T00:00:00Z", "2025-12-31T23:59:59Z", 12, "2025-12-31"},
		"end is elsewhere":                {"2025-01-01T00:00:00Z", "2025-07-01T00:00:00Z", 12, "2025-06-30"},
		"the month after is shorter":      {"2025-01-31T00:00:00Z", "2025-02-28T00:00:00Z", 1, "2025-02-27"},
		"over a leap day":                 {"2024-02-29T00:00:00Z", "2025-02-28T00:00:00Z", 12, "2025-02-27"},
		"begins in the middle of the day": {"2025-01-01T09:30:00+01:00", "2026-01-01T09:30:00+01:00", 12, "2025-12-31"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			data := fmt.Sprintf(`{"transaction_id":"T","subscription_id":"S","cost":1,"items":[],"term_months":%d,"start":%q,"end":%q,"currency":"EUR"}`, tt.months, tt.start, tt.end)
			s := directory.Fold([]directory.Event{{Type: "subscription.ordered", Source: "crm", ID: "1", Account: "K", At: 1, Data: data}}, directory.Latest)
			got, _ := s.Subscription("S", directory.Latest)
			if day := dateOf(got.LastDay); day != tt.want {
				t.Errorf("last day %s, want %s", day, tt.want)
			}
		})
	}
}
