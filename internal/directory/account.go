package directory

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// account is what is known of an account, and where it stands in the tree as folded so far.
type account struct {
	id       string
	source   string // of its first creation
	created  bool
	steps    []step // in time order; the first is the first creation
	services []service
	waiting  []*parsed // services set before the account exists

	// As folded so far. Children of an account that nobody has created yet wait here for it.
	living            bool
	parent            *account // may not exist yet: then the account is a root
	child, next, prev *account // living children, linked
	rank              uint8    // of the plan in service sta
	ranks             [planRanks]int32
	family            *family
	depth             int32
	measured          int32 // the round in which depth was measured
}

// step is what holds of an account from an instant on.
type step struct {
	at                                           int64
	name, kind, parent, mode, currency, reseller string
	trialEnds                                    int64
	deleted                                      bool
}

// step is what holds at the instant, which is not before the first.
func (a *account) step(at int64) *step {
	n := upTo(a.steps, at, func(p *step) int64 { return p.at })
	return &a.steps[max(n, 1)-1]
}

// upTo is how many of steps, which are in order of time, are at or before the instant: the last of them holds then.
func upTo[T any](steps []T, at int64, when func(*T) int64) int {
	return sort.Search(len(steps), func(i int) bool { return when(&steps[i]) > at })
}

func (a *account) now() *step { return &a.steps[len(a.steps)-1] }

// turn adds a step that begins as a copy of the last.
func (a *account) turn(at int64) *step {
	next := *a.now()
	next.at = at
	a.steps = append(a.steps, next)
	return a.now()
}

// above is the parent if it exists.
func (a *account) above() *account {
	if a.parent == nil || !a.parent.living {
		return nil
	}
	return a.parent
}

// under links a living account below its parent.
func (a *account) under(parent *account) {
	a.parent = parent
	if parent == nil {
		return
	}
	a.prev, a.next = nil, parent.child
	if a.next != nil {
		a.next.prev = a
	}
	parent.child = a
	parent.ranks[a.rank]++
}

// leave takes a living account from its parent.
func (a *account) leave() {
	if a.parent == nil {
		return
	}
	if a.prev == nil {
		a.parent.child = a.next
	} else {
		a.prev.next = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	}
	a.parent.ranks[a.rank]--
	a.parent, a.prev, a.next = nil, nil, nil
}

// over reports whether a is x or above it. The walk ends because no cycle was drawn.
func (a *account) over(x *account) bool {
	for ; x != nil; x = x.parent {
		if x == a {
			return true
		}
	}
	return false
}

// create makes an account exist, with everything that waited for it.
func (s *State) create(e *parsed, d *data) {
	a := s.account(e.Account)
	if a.living {
		s.refuse(e, ruleAccountExists, quoted("account %s exists already, created at ", a.id)+instantText(a.born()))
		return
	}
	var parent *account
	if d.parent != "" {
		parent = s.account(d.parent)
	}
	// Nobody is below an account that is deleted; below one that is new there is whoever named it before.
	if rule, detail := s.mayJoin(a, parent, d.mode); rule != "" {
		s.refuse(e, rule, detail)
		return
	}
	into := newFamily(a, d.name)
	for c := a.child; c != nil; c = c.next {
		if rule, detail := mayBelow(c, a.id, d.mode); rule != "" {
			s.refuse(e, rule, detail)
			return
		}
	}
	families := joined(into, a, parent)
	if name, at, other := clash(families); name != "" {
		s.refuse(e, ruleDuplicateName, quoted("the name %s of account %s is that of account %s of the same tree", name, at, other))
		return
	}
	if a.created { // a new life begins without plans
		for i := range a.services {
			a.services[i].end(e.At)
		}
	}
	if !a.created {
		a.source = e.Source
	}
	a.created, a.living, a.rank = true, true, 0
	a.steps = append(a.steps, step{
		at: e.At, name: d.name, kind: d.kind, parent: d.parent, mode: d.mode, currency: d.currency, reseller: d.reseller,
		trialEnds: d.trialEnd(),
	})
	for _, f := range families {
		into = merge(into, f)
	}
	a.under(parent)
	s.arrive(a, e.At)
}

func (d *data) trialEnd() int64 {
	if d.trialEnds == "" {
		return 0
	}
	return instantOf(d.trialEnds)
}

// arrive lets the services that were set before the account existed hold from now on.
func (s *State) arrive(a *account, at int64) {
	waiting := a.waiting
	a.waiting = nil
	for _, w := range waiting {
		var d data
		if d.read(w.Data) {
			s.serve(a, w, &d, at)
		}
	}
}

// joined are the families that become one when a comes to exist, or moves, below parent; its own is the first.
func joined(own *family, a, parent *account) []*family {
	all := []*family{own}
	if !a.living {
		for c := a.child; c != nil; c = c.next {
			all = append(all, c.family)
		}
	}
	if parent != nil && parent.living && parent.family != own {
		all = append(all, parent.family)
	}
	return all
}

// born is when the present life of a living account began.
func (a *account) born() int64 {
	at := a.now().at
	for i := len(a.steps) - 1; i >= 0 && !a.steps[i].deleted; i-- {
		at = a.steps[i].at
	}
	return at
}

// mayJoin judges the edge from a, of a contract mode, to a parent, which may be nil or not exist yet.
func (s *State) mayJoin(a, parent *account, mode string) (rule, detail string) {
	switch {
	case parent == nil:
		return "", ""
	case parent == a || a.child != nil && a.over(parent):
		return ruleCycle, quoted("account %s would be above itself: %s is below it", a.id, parent.id)
	case parent.created && !parent.living:
		return ruleParentDeleted, quoted("the parent %s was deleted at ", parent.id) + instantText(parent.now().at)
	case !parent.living:
		return "", "" // it will be judged when it comes to exist
	}
	if parent.now().mode == modeTrial && mode != modeTrial {
		return ruleTrialProvider, quoted("the parent %s is on trial; the contract mode of %s is %s", parent.id, a.id, cmp.Or(mode, "UNKNOWN"))
	}
	return "", ""
}

// mayBelow judges a child that waited for an account which is to exist with a contract mode.
func mayBelow(c *account, parent, mode string) (rule, detail string) {
	if mode == modeTrial && c.now().mode != modeTrial {
		return ruleTrialProvider, quoted("%s would be on trial above %s, whose contract mode is %s", parent, c.id, cmp.Or(c.now().mode, "UNKNOWN"))
	}
	return "", ""
}

const modeTrial = "TRIAL"

// change is what happens to an account that was created.
func (s *State) change(a *account, e *parsed, d *data) {
	if !a.living {
		s.refuse(e, ruleAccountDeleted, quoted("account %s was deleted at ", a.id)+instantText(a.now().at))
		return
	}
	switch e.Type {
	case "account.renamed":
		s.rename(a, e, d.name)
	case "account.reparented":
		s.move(a, e, d.newParent)
	case "account.deleted":
		s.remove(a, e)
	case "account.converted":
		a.convert(e.At, d.to)
	}
}

// convert changes the kind of an account where `to` is one, else its contract mode.
func (a *account) convert(at int64, to string) {
	switch to {
	case "provider", "subscriber", "organization", "tenant", "partner", "distributor", "reseller", "customer", "service_provider", "other":
		a.turn(at).kind = to
	default:
		a.turn(at).mode = to
	}
}

func (s *State) rename(a *account, e *parsed, name string) {
	if name == a.now().name {
		return
	}
	if other := a.family.get(name); other != nil {
		s.refuse(e, ruleDuplicateName, quoted("the name %s is that of account %s of the same tree", name, other.id))
		return
	}
	a.family.drop(a.now().name)
	a.family.put(name, a)
	a.turn(e.At).name = name
}

func (s *State) remove(a *account, e *parsed) {
	if c := a.child; c != nil {
		for x := c; x != nil; x = x.next { // the same one whatever the order of the links
			if x.id < c.id {
				c = x
			}
		}
		s.refuse(e, ruleLivingChildren, quoted("account %s is below %s and not deleted", c.id, a.id))
		return
	}
	a.family.drop(a.now().name)
	a.leave()
	a.turn(e.At).deleted = true
	a.living, a.family = false, nil
}

// move puts a living account below another parent.
func (s *State) move(a *account, e *parsed, id string) {
	if id == a.now().parent {
		return
	}
	var parent *account
	if id != "" {
		parent = s.account(id)
	}
	rule, detail := s.mayJoin(a, parent, a.now().mode)
	if rule == "" && parent != nil && parent.living {
		rule, detail = mayMove(a, parent)
	}
	if rule != "" {
		s.refuse(e, rule, detail)
		return
	}
	if parent == nil || !parent.living || parent.family != a.family {
		a.split()
	}
	a.leave()
	if parent != nil && parent.living && parent.family != a.family {
		merge(a.family, parent.family)
	}
	a.under(parent)
	a.turn(e.At).parent = id
}

// mayMove judges what only a move to a living parent can break.
func mayMove(a, parent *account) (rule, detail string) {
	if a.family != parent.family {
		root := a
		for up := root.above(); up != nil; up = root.above() {
			root = up
		}
		if leads(root.now().kind) {
			return ruleCrossProvider, quoted("%s belongs to the provider %s; %s does not", a.id, root.id, parent.id)
		}
		if name, at, other := clash([]*family{a.household(), parent.family}); name != "" {
			return ruleDuplicateName, quoted("the name %s of account %s is that of account %s of the same tree", name, at, other)
		}
	}
	if a.rank != 0 && parent.rank != 0 && a.rank > parent.rank {
		return rulePlanAboveParent, quoted("the plan %s of %s is above %s of its parent %s", planOf(a.rank), a.id, planOf(parent.rank), parent.id)
	}
	return "", ""
}

// parentsFirst orders the services of one instant: what is set on an account comes before what is set below it.
func (s *State) parentsFirst(group []parsed) {
	if len(group) < 2 {
		return
	}
	s.round++
	for i := range group {
		if a := s.existing(group[i].Account); a != nil {
			group[i].depth = s.measure(a)
		}
	}
	slices.SortFunc(group, func(a, b parsed) int { return compare(&a, &b) })
}

// measure is the number of accounts above a, which may be many: each is walked once a round.
func (s *State) measure(a *account) int32 {
	var path []*account
	x := a
	for ; x != nil && x.measured != s.round; x = x.above() {
		path = append(path, x)
	}
	depth := int32(-1)
	if x != nil {
		depth = x.depth
	}
	for i := len(path) - 1; i >= 0; i-- {
		depth++
		path[i].depth, path[i].measured = depth, s.round
	}
	return a.depth
}

func instantText(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
