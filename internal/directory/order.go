package directory

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// data is what the fold reads of an event's data.
type data struct {
	Name        string      `json:"name"`
	Kind        string      `json:"kind"`
	Parent      string      `json:"parent_account_id"`
	NewParent   string      `json:"new_parent_account_id"`
	Service     string      `json:"service"`
	Plan        string      `json:"plan"`
	Status      string      `json:"status"`
	Currency    string      `json:"currency"`
	Reseller    string      `json:"reseller"`
	Meter       string      `json:"meter"`
	MeterID     string      `json:"meter_id"`
	Element     string      `json:"element"`
	Aggregation string      `json:"aggregation"`
	Unit        string      `json:"unit"`
	Scale       *int        `json:"scale"`
	SourceSeq   json.Number `json:"source_seq"`
}

func (d *data) meter() Meter {
	m := Meter{
		Name: d.Meter, ID: d.MeterID, Element: d.Element, Plan: d.Plan, Kind: d.Kind, Service: d.Service, Aggregation: d.Aggregation, Unit: d.Unit, Scale: 9,
	}
	if m.Aggregation == "" {
		m.Aggregation = "sum"
	}
	if d.Scale != nil {
		m.Scale = *d.Scale
	}
	return m
}

type parsed struct {
	*Event
	data  data
	rank  int
	depth int // of an account.created: how many of its ancestors are created in the same instant
	seq   int64
}

// ranks is the order of types within one instant; a type that is not here does not concern the fold.
func ranks() map[string]int {
	order := [...][]string{
		{"meter.defined"},
		{"account.created"},
		{"account.renamed", "account.reparented", "account.converted", "account.deleted"},
		{"service.plan_set", "service.status_set", "service.period_set"},
		{"entitlement.set"},
		{"asset.registered", "asset.renamed", "asset.removed", "asset.trial_set"},
		{
			"price.set", "ingest.gap_declared", "ingest.gap_closed", "instance.created", "ratetable.published", "lineitem.mapped", "lineitem.changed",
			"subscription.ordered", "subscription.modified", "subscription.renewed", "subscription.cancelled", "inventory.changed", "renewal_inventory.changed",
		},
		CertificateTypes(),
	}
	ranks := map[string]int{}
	for i, types := range order {
		for _, typ := range types {
			ranks[typ] = i + 1
		}
	}
	return ranks
}

// Types are the types of events that the fold reads, sorted. Others change nothing in it, but for certificates,
// which it takes and does not ask for.
func Types() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(ranks())), func(typ string) bool { return slices.Contains(CertificateTypes(), typ) })
}

type identity struct{ source, id string }

// canonical is what happened as known at asOf: every event once, without voided ones, in fold order.
func canonical(events []Event, asOf int64) []*parsed {
	voided := map[identity]bool{}
	for i := range events {
		if e := &events[i]; e.Void && e.RecordedAt <= asOf {
			voided[identity{e.Source, e.ID}] = true
		}
	}
	ranks := ranks()
	seen := make(map[identity]bool, len(events))
	all := make([]*parsed, 0, len(events))
	for i := range events {
		e := &events[i]
		key := identity{e.Source, e.ID}
		r := ranks[e.Type]
		if e.Void || e.RecordedAt > asOf || r == 0 || voided[key] || seen[key] {
			continue
		}
		seen[key] = true
		p := &parsed{Event: e, rank: r}
		// What ingest accepted parses; a row damaged since then concerns nobody but itself.
		if json.Unmarshal([]byte(e.Data), &p.data) != nil {
			continue
		}
		p.seq, _ = p.data.SourceSeq.Int64() // absent: 0
		all = append(all, p)
	}
	slices.SortFunc(all, compare)
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && all[to].At == all[from].At && all[to].rank == all[from].rank {
			to++
		}
		if all[from].rank == 2 && to-from > 1 {
			deepen(all[from:to])
			slices.SortFunc(all[from:to], compare)
		}
		from = to
	}
	return all
}

func compare(a, b *parsed) int {
	return cmp.Or(
		cmp.Compare(a.At, b.At),
		cmp.Compare(a.rank, b.rank),
		cmp.Compare(a.depth, b.depth),
		strings.Compare(a.Source, b.Source),
		cmp.Compare(a.seq, b.seq),
		strings.Compare(a.ID, b.ID),
	)
}

// deepen numbers creations of one instant so that parents come first. Members of a cycle get 0: which of
// its edges is not drawn is then decided by the rest of the order. created is sorted, so that the first
// creation of an account is the one that speaks.
func deepen(created []*parsed) {
	parent := make(map[string]string, len(created))
	for _, p := range created {
		if _, ok := parent[p.Account]; !ok {
			parent[p.Account] = p.data.Parent
		}
	}
	depth := make(map[string]int, len(created))
	for start := range parent {
		var path []string
		onPath := map[string]int{}
		id, base := start, -1
		for {
			if d, ok := depth[id]; ok {
				base = d
				break
			}
			up, ok := parent[id]
			if !ok { // created at another instant, or never
				break
			}
			if at, ok := onPath[id]; ok {
				for _, member := range path[at:] {
					depth[member] = 0
				}
				path, base = path[:at], 0
				break
			}
			onPath[id] = len(path)
			path = append(path, id)
			id = up
		}
		for i := len(path) - 1; i >= 0; i-- {
			base++
			depth[path[i]] = base
		}
	}
	for _, p := range created {
		p.depth = depth[p.Account]
	}
}
