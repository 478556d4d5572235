package reference

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

type span struct{ from, to int64 }

const never = int64(1) << 60

// account is one that was created by the instant of the state.
type account struct {
	id, name, kind, parent, mode, currency, reseller, source string
	living                                                   bool
	lives                                                    []span
	plan, status                                             map[string]string // by service
}

// state is the accounts at an instant.
type state struct {
	accounts map[string]*account
	waiting  map[string][]*Event // services of accounts that nobody has created
	refused  map[string]string   // events without effect: the rule
}

// before is the state just before an instant: everything that happened earlier.
func (h *History) before(until int64) *state {
	s := &state{map[string]*account{}, map[string][]*Event{}, map[string]string{}}
	for i := 0; i < len(h.events); i++ {
		e := h.events[i]
		if e.At >= until {
			break
		}
		switch r := rank(e); r {
		case 2, 3:
			s.note(e, s.apply(e))
		case 4:
			group := []*Event{e}
			for i+1 < len(h.events) && h.events[i+1].At == e.At && rank(h.events[i+1]) == r {
				i++
				group = append(group, h.events[i])
			}
			for _, e := range group { // parents first
				e.depth = 0
				for up := s.above(e.Account); up != nil; up = s.above(up.id) {
					e.depth++
				}
			}
			slices.SortFunc(group, func(a, b *Event) int { return cmp.Or(cmp.Compare(a.depth, b.depth), order(a, b)) })
			for _, e := range group {
				if s.accounts[e.Account] == nil {
					s.waiting[e.Account] = append(s.waiting[e.Account], e)
				} else {
					s.note(e, s.serve(e))
				}
			}
		}
	}
	return s
}

func (s *state) note(e *Event, rule string) {
	if rule != "" {
		s.refused[e.name()] = rule
	}
}

func (s *state) living(id string) *account {
	if a := s.accounts[id]; a != nil && a.living {
		return a
	}
	return nil
}

// above is the living parent of a living account.
func (s *state) above(id string) *account {
	if a := s.living(id); a != nil {
		return s.living(a.parent)
	}
	return nil
}

// children are the living accounts below one, whether or not that one exists.
func (s *state) children(id string) []*account {
	var all []*account
	for _, name := range slices.Sorted(maps.Keys(s.accounts)) {
		if a := s.accounts[name]; a.living && a.parent == id {
			all = append(all, a)
		}
	}
	return all
}

// tree is an account and everything living below it.
func (s *state) tree(a *account) []*account {
	all := []*account{a}
	for i := 0; i < len(all); i++ {
		all = append(all, s.children(all[i].id)...)
	}
	return all
}

func (s *state) root(a *account) *account {
	for up := s.above(a.id); up != nil; up = s.above(a.id) {
		a = up
	}
	return a
}

// apply is account.*; the rule it breaks, if any.
func (s *state) apply(e *Event) (rule string) {
	a := s.accounts[e.Account]
	switch {
	case e.Type == "account.created":
		return s.create(e)
	case a == nil:
		return ""
	case !a.living:
		return "account-deleted"
	}
	switch e.Type {
	case "account.renamed":
		if name := e.text("name"); name != a.name {
			for _, x := range s.tree(s.root(a)) {
				if x.name == name {
					return "duplicate-name"
				}
			}
			a.name = name
		}
	case "account.converted":
		if to := e.text("to"); slices.Contains([]string{"TRIAL", "PRODUCTION", "UNKNOWN"}, to) {
			a.mode = to
		} else {
			a.kind = to
		}
	case "account.deleted":
		if len(s.children(a.id)) > 0 {
			return "living-children"
		}
		a.living = false
		a.lives[len(a.lives)-1].to = e.At
	case "account.reparented":
		return s.move(a, e.text("new_parent_account_id"))
	}
	return ""
}

func (s *state) create(e *Event) (rule string) {
	a, parent, mode := s.accounts[e.Account], e.text("parent_account_id"), e.text("contract_mode")
	if a != nil && a.living {
		return "account-exists"
	}
	if rule := s.mayJoin(e.Account, parent, mode); rule != "" {
		return rule
	}
	names := []string{e.text("name")}
	for _, c := range s.children(e.Account) {
		if mode == "TRIAL" && c.mode != "TRIAL" {
			return "trial-provider"
		}
		for _, x := range s.tree(c) {
			names = append(names, x.name)
		}
	}
	if up := s.living(parent); up != nil {
		for _, x := range s.tree(s.root(up)) {
			names = append(names, x.name)
		}
	}
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) < len(names) {
		return "duplicate-name"
	}
	fresh := &account{
		id: e.Account, name: e.text("name"), kind: e.text("kind"), parent: parent, mode: mode, currency: e.text("currency"), reseller: e.text("reseller"),
		source: e.Source, living: true, plan: map[string]string{}, status: map[string]string{},
	}
	if a != nil {
		fresh.lives, fresh.source = a.lives, a.source
	}
	fresh.lives = append(fresh.lives, span{e.At, never})
	s.accounts[e.Account] = fresh
	waiting := s.waiting[e.Account]
	delete(s.waiting, e.Account)
	for _, w := range waiting {
		s.note(w, s.serve(w))
	}
	return ""
}

// mayJoin judges the edge from an account, which may not exist yet, to a parent, which may not either.
func (s *state) mayJoin(id, parent, mode string) (rule string) {
	if parent == "" {
		return ""
	}
	for x := parent; x != ""; {
		if x == id {
			return "cycle"
		}
		a := s.living(x)
		if a == nil {
			break
		}
		x = a.parent
	}
	up := s.accounts[parent]
	switch {
	case up == nil:
		return ""
	case !up.living:
		return "parent-deleted"
	case up.mode == "TRIAL" && mode != "TRIAL":
		return "trial-provider"
	}
	return ""
}

func (s *state) move(a *account, to string) (rule string) {
	if to == a.parent {
		return ""
	}
	if rule := s.mayJoin(a.id, to, a.mode); rule != "" {
		return rule
	}
	if up := s.living(to); up != nil {
		if from, into := s.root(a), s.root(up); from != into {
			if slices.Contains([]string{"provider", "service_provider", "partner", "distributor"}, from.kind) {
				return "cross-provider"
			}
			for _, x := range s.tree(a) {
				for _, y := range s.tree(into) {
					if x.name == y.name {
						return "duplicate-name"
					}
				}
			}
		}
		if mine, its := level(a.plan["sta"]), level(up.plan["sta"]); mine > 0 && its > 0 && mine > its {
			return "plan-above-parent"
		}
	}
	a.parent = to
	return ""
}

var staPlans = [...]string{"STA Basic", "STA", "STA Premium"}

// level is the place of a plan of the service sta, from 1; 0 if it is none.
func level(plan string) int { return slices.Index(staPlans[:], plan) + 1 }

// serve is service.* of an account that was created.
func (s *state) serve(e *Event) (rule string) {
	a, service := s.accounts[e.Account], e.text("service")
	if !a.living {
		return "account-deleted"
	}
	switch e.Type {
	case "service.status_set":
		a.status[service] = e.text("status")
	case "service.plan_set":
		plan := e.text("plan")
		if service == "sta" {
			if level(plan) == 0 {
				return "unknown-plan"
			}
			if up := s.living(a.parent); up != nil && level(up.plan["sta"]) > 0 && level(plan) > level(up.plan["sta"]) {
				return "plan-above-parent"
			}
			for _, c := range s.children(a.id) {
				if level(c.plan["sta"]) > level(plan) {
					return "plan-above-parent"
				}
			}
		}
		a.plan[service] = plan
	}
	return ""
}

// nearest is an account at an instant, deleted perhaps, or as it is first created later; the zero value is one that
// nobody creates.
func (h *History) nearest(id string, at int64) account {
	if a := h.before(at + 1).accounts[id]; a != nil {
		return *a
	}
	ever := h.before(never).accounts[id]
	if ever == nil {
		return account{}
	}
	return *h.before(ever.lives[0].from + 1).accounts[id]
}

// Refused are the events about accounts and services that have no effect as of now, as "source id rule", sorted.
func (h *History) Refused() []string {
	var all []string
	for name, rule := range h.before(never).refused {
		all = append(all, strings.ReplaceAll(name, "\x00", " ")+" "+rule)
	}
	slices.Sort(all)
	return all
}

// kin are an account's descendants in the tree as it stands just before an instant, deleted ones under their last
// parent; direct says only the children.
func (h *History) kin(s *state, id string, direct bool) []*account {
	var all []*account
	if s.accounts[id] == nil {
		return nil // an edge to an account that nobody has created is none
	}
	seen := map[string]bool{id: true}
	for todo := []string{id}; len(todo) > 0; todo = todo[1:] {
		for _, name := range slices.Sorted(maps.Keys(s.accounts)) {
			if a := s.accounts[name]; a.parent == todo[0] && !seen[name] {
				seen[name] = true
				all = append(all, a)
				if !direct {
					todo = append(todo, name)
				}
			}
		}
	}
	return all
}

// usagePlan is the plan that usage of a meter falls under when its event names none.
func (h *History) usagePlan(id, service string, at int64) string {
	a := h.before(at + 1).accounts[id]
	if a == nil {
		return ""
	}
	if plan := a.plan[service]; service != "" && plan != "" {
		return plan
	}
	var plans []string
	for _, plan := range a.plan {
		if plan != "" {
			plans = append(plans, plan)
		}
	}
	if len(plans) == 1 {
		return plans[0]
	}
	return ""
}

// Exists reports whether an account is ever created.
func (h *History) Exists(id string) bool { return h.before(never).accounts[id] != nil }

// ExistsNow reports whether it is by now.
func (h *History) ExistsNow(id string) bool { return h.before(h.AsOf + 1).accounts[id] != nil }
