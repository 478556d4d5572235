package reference

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// counts are users registered, with an active token, and with activity.
type counts [3]int

// own are the users of an account in a month.
func (h *History) own(id string, from, to int64) counts {
	registered, active, tokens := map[string]bool{}, map[string]bool{}, map[string][2]string{}
	for _, e := range h.events {
		if e.Account != id || e.At >= to {
			continue
		}
		user := e.text("user_id")
		switch e.Type {
		case "user.registered":
			registered[user] = true
		case "user.removed":
			delete(registered, user)
		case "token.state_set":
			tokens[e.text("token_id")] = [2]string{user, e.text("state")}
		case "user.activity":
			if e.At >= from && e.text("result") == "success" {
				active[user] = true
			}
		}
	}
	with := map[string]bool{}
	for _, token := range tokens {
		if token[1] == "active" && registered[token[0]] {
			with[token[0]] = true
		}
	}
	return counts{len(registered), len(with), len(active)}
}

// missing reports whether usage of an account is missing in a stretch: what was said last of any part of it decides.
func (h *History) missing(id, source string, from, to int64) bool {
	var said []*Event
	borders := []int64{from, to}
	for _, e := range h.of("ingest.gap_declared", "ingest.gap_closed") {
		if e.Account == id || e.Account == "" && e.Source == source {
			said = append(said, e)
			borders = append(borders, e.instant("from"), e.instant("to"))
		}
	}
	slices.SortStableFunc(said, func(a, b *Event) int { return cmp.Or(cmp.Compare(a.At, b.At), -strings.Compare(a.Type, b.Type)) })
	slices.Sort(borders)
	for i := range borders[1:] {
		open := false
		for _, e := range said {
			if e.instant("from") <= borders[i] && borders[i+1] <= e.instant("to") {
				open = e.Type == "ingest.gap_declared"
			}
		}
		if open && borders[i] < borders[i+1] && borders[i] >= from && borders[i+1] <= to {
			return true
		}
	}
	return false
}

// staMonth is an account and all below it at the end of a month.
type staMonth struct {
	tree     [3]counts // by plan
	plans    [3]bool
	complete bool
	missing  bool
}

func (h *History) staMonth(s *state, a *account, from, to int64) staMonth {
	m := staMonth{complete: true, missing: h.missing(a.id, a.source, from, to)}
	for _, x := range s.tree(a) {
		gap := h.missing(x.id, x.source, from, to)
		m.complete = m.complete && !gap
		if p := level(x.plan["sta"]) - 1; p >= 0 {
			m.plans[p] = true
			for i, n := range h.own(x.id, from, to) {
				if !gap {
					m.tree[p][i] += n
				}
			}
		}
	}
	return m
}

func staStatus(a *account) string {
	if a.status["sta"] == "" && a.plan["sta"] != "" {
		return "Active"
	}
	return a.status["sta"]
}

// STAScreen is sta-usage on screen, as CSV rows: measure 0 registered, 1 token, 2 activity.
func (h *History) STAScreen(id, month string, measure int) []string {
	from, to := Month(month)
	s := h.before(to)
	self := s.living(id)
	if self == nil {
		return nil
	}
	shown := []*account{self}
	if self.kind != "subscriber" {
		children := s.children(id)
		slices.SortFunc(children, func(a, b *account) int { return strings.Compare(a.name, b.name) })
		shown = append(shown, children...)
	}
	var rows []string
	for _, a := range shown {
		m := h.staMonth(s, a, from, to)
		for p, has := range m.plans {
			number := ""
			if !m.missing {
				number = fmt.Sprint(m.tree[p][measure])
			}
			if has {
				rows = append(rows, strings.Join([]string{a.name, staPlans[p], staStatus(a), number}, ","))
			}
		}
	}
	return rows
}

// staRecord is an account in a month.
type staRecord struct {
	month              string
	a, parent          account
	status, data, plan string
	own                counts
	staMonth
}

// records are the accounts of a scope in its order, with their months.
func (h *History) records(id, scope string, months []string) []staRecord {
	from, _ := Month(months[0])
	_, to := Month(months[len(months)-1])
	// Who was in scope at some instant, and below whom last.
	under := map[string]string{id: ""}
	instants := []int64{from}
	for _, e := range h.events {
		if rank(e) <= 3 && e.At > from && e.At < to {
			instants = append(instants, e.At)
		}
	}
	for _, at := range instants {
		s := h.before(at + 1)
		if root := s.living(id); root != nil && scope != "own" {
			within := s.tree(root)[1:]
			if scope == "children" {
				within = s.children(id)
			}
			for _, x := range within {
				under[x.id] = x.parent
			}
		}
	}
	names := h.before(to)
	var order func(x string) []string
	order = func(x string) []string {
		var below []*account
		for y, up := range under {
			if up == x && y != id {
				below = append(below, names.accounts[y])
			}
		}
		slices.SortFunc(below, func(a, b *account) int { return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.id, b.id)) })
		all := []string{x}
		for _, a := range below {
			all = append(all, order(a.id)...)
		}
		return all
	}
	var all []staRecord
	for _, x := range order(id) {
		for _, month := range months {
			if r, ok := h.record(id, scope, x, month); ok {
				all = append(all, r)
			}
		}
	}
	return all
}

// record is false where the account exists outside the scope.
func (h *History) record(root, scope, x, month string) (staRecord, bool) {
	from, to := Month(month)
	s := h.before(to)
	r := staRecord{month: month, data: "Non existent"}
	r.a = h.nearest(x, to-1)
	a := s.living(x)
	if a == nil {
		if r.a.parent != "" {
			r.parent = h.nearest(r.a.parent, to-1)
		}
		return r, true
	}
	if x != root {
		if up := s.living(root); up == nil || !slices.Contains(s.tree(up), a) || scope == "children" && a.parent != root {
			return r, false
		}
	}
	if up := s.above(x); up != nil {
		r.parent = *up
	}
	r.staMonth = h.staMonth(s, a, from, to)
	r.status, r.plan, r.data = staStatus(a), a.plan["sta"], "Available"
	if r.missing {
		r.data = "Not available"
	} else {
		r.own = h.own(x, from, to)
	}
	return r, true
}

// STAExport is sta-usage as a file.
func (h *History) STAExport(id, scope string, months []string) []string {
	var rows []string
	for _, r := range h.records(id, scope, months) {
		cells := []string{r.a.name, r.a.id, r.parent.name, r.parent.id, r.month, r.status, r.data, r.plan}
		numbers := append([]counts{r.own}, r.tree[:]...)
		for _, c := range numbers {
			for _, n := range c {
				if r.data == "Available" {
					cells = append(cells, fmt.Sprint(n))
				} else {
					cells = append(cells, "")
				}
			}
		}
		rows = append(rows, strings.Join(cells, ","))
	}
	return rows
}

// STASummary is sta-monthly-summary as a file.
func (h *History) STASummary(id string, months []string) []string {
	var rows []string
	records := h.records(id, "children", months)
	for _, month := range months {
		for _, r := range records {
			if r.month != month {
				continue
			}
			head := strings.Join([]string{r.month, r.a.id, r.a.name, r.parent.id, r.status, r.data}, ",")
			some := false
			for p, has := range r.plans {
				number := ""
				if r.data == "Available" {
					number = fmt.Sprint(r.tree[p][1])
				}
				if has {
					rows, some = append(rows, head+","+staPlans[p]+","+number), true
				}
			}
			if !some {
				rows = append(rows, head+",,")
			}
		}
	}
	return rows
}
