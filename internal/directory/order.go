package directory

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// parsed is an event in its place in the order.
type parsed struct {
	*Event
	at    int64
	seq   int64
	rank  int8
	depth int32 // within one instant: how many accounts are above
}

// Ranks of types within one instant.
const (
	rankMeter = iota + 1
	rankCreation
	rankAccount
	rankService
)

// ranks is the order of types within one instant; a type that is not here does not concern the fold.
func ranks() map[string]int8 {
	order := [...][]string{
		{"meter.defined"},
		{"account.created"},
		{"account.renamed", "account.reparented", "account.converted", "account.deleted"},
		{"service.plan_set", "service.status_set", "service.period_set"},
		{"entitlement.set"},
		{
			"price.set", "ingest.gap_declared", "ingest.gap_closed", "instance.created", "ratetable.published", "lineitem.mapped", "lineitem.changed",
			"subscription.ordered", "subscription.modified", "subscription.renewed", "subscription.cancelled", "inventory.changed", "renewal_inventory.changed",
		},
		CertificateTypes(),
	}
	ranks := map[string]int8{}
	for i, types := range order {
		for _, typ := range types {
			ranks[typ] = int8(i) + rankMeter
		}
	}
	return ranks
}

// Types are the types of events that the fold reads, sorted. Others change nothing in it, but for certificates,
// which it takes and does not ask for. Users, tokens, assets and certificates are populations: they are folded
// where they are stored.
func Types() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(ranks())), func(typ string) bool { return slices.Contains(CertificateTypes(), typ) })
}

// TreeTypes are the types of events about meters, accounts and their services: what the tables of internal/register
// say follows from them and from the rulings.
func TreeTypes() []string {
	var types []string
	for typ, rank := range ranks() {
		if rank <= rankService {
			types = append(types, typ)
		}
	}
	slices.Sort(types)
	return types
}

type identity struct{ source, id string }

// canonical is what happened as known at asOf: every event once, without voided ones, in fold order.
func canonical(events []Event, asOf int64) []parsed {
	voided := map[identity]bool{}
	for i := range events {
		if e := &events[i]; e.Void && e.RecordedAt <= asOf {
			voided[identity{e.Source, e.ID}] = true
		}
	}
	ranks := ranks()
	all := make([]parsed, 0, len(events))
	for i := range events {
		e := &events[i]
		r := ranks[e.Type]
		if e.Void || e.RecordedAt > asOf || r == 0 || len(voided) > 0 && voided[identity{e.Source, e.ID}] {
			continue
		}
		p := parsed{Event: e, at: e.At, rank: r}
		if strings.Contains(e.Data, `"source_seq"`) {
			var d data
			d.read(e.Data)
			p.seq, _ = strconv.ParseInt(d.sourceSeq, 10, 64) // absent: 0
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b parsed) int { return compare(&a, &b) })
	all = slices.CompactFunc(all, func(a, b parsed) bool { return a.at == b.at && a.Source == b.Source && a.ID == b.ID })
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && all[to].at == all[from].at && all[to].rank == all[from].rank {
			to++
		}
		if all[from].rank == rankCreation && to-from > 1 {
			deepen(all[from:to])
			slices.SortFunc(all[from:to], func(a, b parsed) int { return compare(&a, &b) })
		}
		from = to
	}
	return all
}

func compare(a, b *parsed) int {
	switch {
	case a.at != b.at:
		return cmp.Compare(a.at, b.at)
	case a.rank != b.rank:
		return cmp.Compare(a.rank, b.rank)
	case a.depth != b.depth:
		return cmp.Compare(a.depth, b.depth)
	}
	if c := strings.Compare(a.Source, b.Source); c != 0 {
		return c
	}
	if a.seq != b.seq {
		return cmp.Compare(a.seq, b.seq)
	}
	return strings.Compare(a.ID, b.ID)
}

// deepen numbers creations of one instant so that parents come first. Members of a cycle get 0: which of
// its edges is not drawn is then decided by the rest of the order. created is sorted, so that the first
// creation of an account is the one that speaks.
func deepen(created []parsed) {
	parent := make(map[string]string, len(created))
	for i := range created {
		p := &created[i]
		if _, ok := parent[p.Account]; !ok {
			var d data
			d.read(p.Data)
			parent[p.Account] = d.parent
		}
	}
	depth := make(map[string]int32, len(created))
	for start := range parent {
		var path []string
		onPath := map[string]int{}
		id, base := start, int32(-1)
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
	for i := range created {
		created[i].depth = depth[created[i].Account]
	}
}
