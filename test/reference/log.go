// Package reference computes the reports the slow way, straight from their rules, so that the product can be
// compared with it.
//
// Contract: a History is the events that were sent; every answer walks all of them again. Nothing is indexed,
// cached or streamed, and nothing of the product is imported: where the two disagree, one of them misread the
// rules. Answers are rows as the CSV of the report has them, without quotes, so names must not need any.
package reference

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Event is one that was sent and accepted. Times are Unix milliseconds.
type Event struct {
	Source, ID, Type, Account, Correlation string
	At, Recorded                           int64 // At is the start, where the data has one
	Data                                   map[string]any
	depth                                  int
}

// text is a member of the data as it is spelled; "" where there is none.
func (e *Event) text(name string) string { return textOf(e.Data, name) }

func textOf(data map[string]any, name string) string {
	switch v := data[name].(type) {
	case nil:
		return ""
	case string:
		return v
	case bool, int, json.Number:
		return fmt.Sprint(v)
	}
	return ""
}

func (e *Event) number(name string) *big.Rat { return numberOf(e.Data, name) }

// numberOf is an exact decimal; 0 where there is none.
func numberOf(data map[string]any, name string) *big.Rat {
	r, ok := new(big.Rat).SetString(textOf(data, name))
	if !ok {
		return new(big.Rat)
	}
	return r
}

func (e *Event) instant(name string) int64 { return instantOf(e.text(name)) }

// instantOf is an RFC 3339 time; 0 where there is none.
func instantOf(text string) int64 {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0
	}
	return t.UnixMilli()
}

// objects are a list of objects in the data.
func (e *Event) objects(name string) []map[string]any {
	list, _ := e.Data[name].([]map[string]any)
	return list
}

func (e *Event) name() string { return e.Source + "\x00" + e.ID }

// History is what happened as it is known at an instant.
type History struct {
	Tenant string
	AsOf   int64
	events []*Event // not voided, in canonical order
}

// Known is the history of a tenant as of an instant: what was recorded by then and not voided by then. A void acts when
// both it and its target are recorded; one that names a void acts on nothing.
func Known(tenant string, all []Event, asOf int64) *History {
	h := &History{Tenant: tenant, AsOf: asOf}
	voided := map[string]bool{}
	for i := range all {
		if e := &all[i]; e.Type == "event.voided" && e.Recorded <= asOf {
			target, _ := e.Data["target"].(map[string]any)
			voided[textOf(target, "source")+"\x00"+textOf(target, "id")] = true
		}
	}
	seen := map[string]bool{}
	for _, e := range all {
		if e.Recorded > asOf || e.Type == "event.voided" || voided[e.name()] || seen[e.name()] {
			continue
		}
		seen[e.name()] = true
		h.events = append(h.events, &e)
	}
	slices.SortFunc(h.events, func(a, b *Event) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(rank(a), rank(b)), order(a, b))
	})
	for from := 0; from < len(h.events); {
		to := from
		for to < len(h.events) && h.events[to].At == h.events[from].At && rank(h.events[to]) == rank(h.events[from]) {
			to++
		}
		if h.events[from].Type == "account.created" {
			parentsFirst(h.events[from:to])
		}
		from = to
	}
	return h
}

// rank is the order of types within an instant.
func rank(e *Event) int {
	switch kind, _, _ := strings.Cut(e.Type, "."); {
	case kind == "meter":
		return 1
	case e.Type == "account.created":
		return 2
	case kind == "account":
		return 3
	case kind == "service":
		return 4
	case kind == "entitlement":
		return 5
	case kind == "certificate":
		return 7
	}
	return 6
}

// order is that of two events of one instant and rank.
func order(a, b *Event) int {
	seq := func(e *Event) int { n, _ := strconv.Atoi(e.text("source_seq")); return n }
	return cmp.Or(strings.Compare(a.Source, b.Source), cmp.Compare(seq(a), seq(b)), strings.Compare(a.ID, b.ID))
}

// parentsFirst orders creations of one instant by how many of their ancestors are created in it as well.
func parentsFirst(group []*Event) {
	parent := map[string]string{}
	for _, e := range group {
		if _, known := parent[e.Account]; !known {
			parent[e.Account] = e.text("parent_account_id")
		}
	}
	for _, e := range group {
		e.depth = 0
		for up, ok := parent[e.Account]; ok && e.depth <= len(group); up, ok = parent[up] {
			if _, here := parent[up]; here {
				e.depth++
			}
		}
	}
	slices.SortFunc(group, func(a, b *Event) int { return cmp.Or(cmp.Compare(a.depth, b.depth), order(a, b)) })
}

// of are the events of some types, in order.
func (h *History) of(types ...string) []*Event {
	var some []*Event
	for _, e := range h.events {
		if slices.Contains(types, e.Type) {
			some = append(some, e)
		}
	}
	return some
}
