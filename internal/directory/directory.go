// Package directory knows accounts, their tree, plans and statuses, and meters, as of any instant.
//
// Guarantee: State is a pure function of the set of events and the as_of given to Fold. The order in
// which events arrive, and how often, changes nothing: they are folded in the canonical order of
// events.md 1 (when it happened; within one instant meters, accounts with parents first, services; then
// source, source_seq, id). A State is immutable and safe for concurrent use.
//
// It never refuses: an event that breaks a rule has no effect here. In particular an edge that would
// close a cycle in the tree is not drawn, so walking up always ends.
//
// The package does no I/O and imports nothing of ours.
package directory

import (
	"math"
	"slices"
	"strings"
)

// Latest as an as_of leaves nothing out.
const Latest = math.MaxInt64

// Event is a row of directory_events. Times are Unix milliseconds.
type Event struct {
	Type       string
	Source     string
	ID         string
	Account    string
	At         int64
	RecordedAt int64
	Void       bool   // the negation of the event of this source and id: it never happened
	Data       string // JSON
	Position          // of the delivery; it decides nothing here
}

// Position is where the log has an event.
type Position struct {
	Shard uint16
	Seq   uint64
	Idx   uint32
}

// Meter is what meter.defined says. The zero value of a field means nobody said.
type Meter struct {
	Name        string
	Service     string
	Aggregation string // sum where nobody defined the meter
	Unit        string
	Scale       int    // fractional digits; 9 where nobody defined the meter
	Kind        string // KindSecureConnect, or usage
	ID          string // of kind secure_connect: a GUID
	Element     string // of kind secure_connect: what is metered, such as user or bandwidth
	Plan        string // the plan the meter is for, if it is for one
}

// KindSecureConnect is the kind of meters whose usage belongs to assets and has a price.
const KindSecureConnect = "secure_connect"

// Account is an account at an instant.
type Account struct {
	ID, Name, Kind string
	Parent         string // "" for a root; may name an account that does not exist (yet)
	CreatedAt      int64  // first creation
	Deleted        bool
	Currency       string // as its creation says
	Reseller       string // account of the reseller, as its creation says
}

// Plan is an account's plan and status in one service.
type Plan struct{ Service, Plan, Status string }

// State is the fold of a set of events: the whole history, asked by instant.
type State struct {
	accounts map[string]*account
	meters   map[string]Meter
	rulings  []Ruling

	entitlements  entitlements
	assets        assets
	prices        prices
	elastic       elastic
	subscriptions subscriptions
	gaps          gaps
}

// Ruling is an event that breaks a rule: stored, without effect, as long as the rest of the events is what it
// is. It heals by itself when a late event makes it legal.
type Ruling struct {
	Source, ID, Type, Account string
	At, RecordedAt            int64
	Rule                      string // "rule:<name>"
	Detail                    string
}

// Rulings are the events that have no effect, in fold order.
func (s *State) Rulings() []Ruling { return s.rulings }

// refuse records that an event has no effect because of a rule.
func (s *State) refuse(e *parsed, rule, detail string) {
	s.rulings = append(s.rulings, Ruling{e.Source, e.ID, e.Type, e.Account, e.At, e.RecordedAt, "rule:" + rule, detail})
}

// change is one step of a history; it holds from at on, inclusive.
type change struct {
	at    int64
	value string
}

type history []change

// set appends a step unless it changes nothing. Steps come in time order.
func (h *history) set(at int64, value string) {
	if n := len(*h); n > 0 && (*h)[n-1].value == value || n == 0 && value == "" {
		return
	}
	*h = append(*h, change{at, value})
}

// value is what holds at the instant: the last step at or before it.
func (h history) value(at int64) string {
	i, _ := slices.BinarySearchFunc(h, at, func(c change, at int64) int {
		if c.at <= at {
			return -1
		}
		return 1
	})
	if i == 0 {
		return ""
	}
	return h[i-1].value
}

type service struct {
	name            string
	plans, statuses history
}

type account struct {
	id         string
	kind       string
	currency   string
	reseller   string
	created    bool
	createdAt  int64
	names      history
	parents    history
	deleted    history // "deleted" or ""
	services   []service
	referenced bool // somebody's edge points here: only then can a new edge close a cycle
}

func (a *account) service(name string) *service {
	for i := range a.services {
		if a.services[i].name == name {
			return &a.services[i]
		}
	}
	a.services = append(a.services, service{name: name})
	slices.SortFunc(a.services, func(x, y service) int { return strings.Compare(x.name, y.name) })
	return a.service(name)
}

// Fold builds the state from events recorded at or before asOf (Unix ms), in any order, repeated or not.
// Events of one source and id are the same event.
func Fold(events []Event, asOf int64) *State {
	s := &State{accounts: map[string]*account{}, meters: map[string]Meter{}}
	for _, e := range canonical(events, asOf) {
		s.apply(e)
	}
	return s
}

func (s *State) apply(e *parsed) {
	switch e.Type {
	case "meter.defined":
		s.meters[e.data.Meter] = e.data.meter()
	case "service.plan_set":
		s.account(e.Account).service(e.data.Service).plans.set(e.At, e.data.Plan)
	case "service.status_set":
		s.account(e.Account).service(e.data.Service).statuses.set(e.At, e.data.Status)
	case "account.created":
		s.create(e)
	case "account.renamed":
		if a := s.existing(e.Account); a != nil {
			a.names.set(e.At, e.data.Name)
		}
	case "account.reparented":
		if a := s.existing(e.Account); a != nil {
			s.attach(a, e.At, e.data.NewParent)
		}
	case "account.deleted":
		if a := s.existing(e.Account); a != nil {
			a.deleted.set(e.At, "deleted")
		}
	default:
		s.applyDomain(e)
	}
}

// applyDomain folds what is not about the account tree. Each domain decodes its own data.
func (s *State) applyDomain(e *parsed) {
	domain, _, _ := strings.Cut(e.Type, ".")
	switch domain {
	case "entitlement":
		s.entitlements.apply(s, e)
	case "asset":
		s.assets.apply(s, e)
	case "price":
		s.prices.apply(s, e)
	case "instance", "lineitem", "ratetable":
		s.elastic.apply(s, e)
	case "subscription", "inventory", "renewal_inventory":
		s.subscriptions.apply(s, e)
	case "certificate":
		s.subscriptions.certificates.apply(s, e)
	case "ingest":
		s.gaps.apply(s, e)
	}
}

// create makes an account exist. A second creation of a living account has no effect.
func (s *State) create(e *parsed) {
	a := s.account(e.Account)
	if a.created && a.deleted.value(e.At) == "" {
		return
	}
	if !a.created {
		a.created, a.createdAt = true, e.At
	}
	a.kind, a.currency, a.reseller = e.data.Kind, e.data.Currency, e.data.Reseller
	a.deleted.set(e.At, "")
	a.names.set(e.At, e.data.Name)
	s.attach(a, e.At, e.data.Parent)
}

// attach draws the edge from a to parent, unless that would close a cycle.
func (s *State) attach(a *account, at int64, parent string) {
	if parent != "" {
		if parent == a.id || a.referenced && s.leadsTo(parent, a.id, at) {
			return
		}
		s.account(parent).referenced = true
	}
	a.parents.set(at, parent)
}

// leadsTo reports whether walking up from id meets target. The walk ends because no cycle was drawn.
func (s *State) leadsTo(id, target string, at int64) bool {
	for id != "" {
		if id == target {
			return true
		}
		a := s.accounts[id]
		if a == nil {
			return false
		}
		id = a.parents.value(at)
	}
	return false
}

func (s *State) account(id string) *account {
	a := s.accounts[id]
	if a == nil {
		a = &account{id: id}
		s.accounts[id] = a
	}
	return a
}

func (s *State) existing(id string) *account {
	if a := s.accounts[id]; a != nil && a.created {
		return a
	}
	return nil
}

// Account is the account at the instant; false if it was not created by then.
func (s *State) Account(id string, at int64) (Account, bool) {
	a := s.existing(id)
	if a == nil || a.createdAt > at {
		return Account{}, false
	}
	return Account{
		ID: id, Name: a.names.value(at), Kind: a.kind, Parent: a.parents.value(at),
		CreatedAt: a.createdAt, Deleted: a.deleted.value(at) != "", Currency: a.currency, Reseller: a.reseller,
	}, true
}

// Accounts are the ids of all accounts created at or before the instant, sorted.
func (s *State) Accounts(at int64) []string {
	ids := make([]string, 0, len(s.accounts))
	for id, a := range s.accounts {
		if a.created && a.createdAt <= at {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Plans are the plan and status of an account in every service at the instant, by service name.
func (s *State) Plans(id string, at int64) []Plan {
	a := s.existing(id)
	if a == nil || a.createdAt > at {
		return nil
	}
	var plans []Plan
	for i := range a.services {
		p := Plan{a.services[i].name, a.services[i].plans.value(at), a.services[i].statuses.value(at)}
		if p.Plan != "" || p.Status != "" {
			plans = append(plans, p)
		}
	}
	return plans
}

// PlanAt is the account's plan in the service at the instant, "" if it has none or does not exist yet.
func (s *State) PlanAt(id, service string, at int64) string {
	a := s.existing(id)
	if a == nil || a.createdAt > at {
		return ""
	}
	for i := range a.services {
		if a.services[i].name == service {
			return a.services[i].plans.value(at)
		}
	}
	return ""
}

// UsagePlan is the plan that usage of the meter at the instant falls under when the event names none:
// the account's plan in the meter's service, else its plan if exactly one service has one, else "".
func (s *State) UsagePlan(id, meter string, at int64) string {
	a := s.existing(id)
	if a == nil || a.createdAt > at {
		return ""
	}
	service := s.meters[meter].Service
	only, several := "", false
	for i := range a.services {
		plan := a.services[i].plans.value(at)
		if plan == "" {
			continue
		}
		if service != "" && a.services[i].name == service {
			return plan
		}
		several = several || only != ""
		only = plan
	}
	if several {
		return ""
	}
	return only
}

// PlanChanges maps every account whose plans may differ between two instants of [from, to) to the
// instants strictly inside at which they change, in order: usage on both sides of one falls under
// different plans. A change at from itself splits nothing.
func (s *State) PlanChanges(from, to int64) map[string][]int64 {
	changes := map[string][]int64{}
	for id, a := range s.accounts {
		if !a.created {
			continue
		}
		var at []int64
		add := func(t int64) {
			if t > from && t < to && t >= a.createdAt {
				at = append(at, t)
			}
		}
		for i := range a.services {
			for _, c := range a.services[i].plans {
				add(max(c.at, a.createdAt))
			}
		}
		if len(at) > 0 {
			slices.Sort(at)
			changes[id] = slices.Compact(at)
		}
	}
	return changes
}

// Meter is the meter as defined last. A meter nobody defined is a sum of scale 9 without unit and service.
func (s *State) Meter(name string) Meter {
	if m, ok := s.meters[name]; ok {
		return m
	}
	return Meter{Name: name, Aggregation: "sum", Scale: 9}
}

// Meters are all defined meters by name.
func (s *State) Meters() []Meter {
	meters := make([]Meter, 0, len(s.meters))
	for _, m := range s.meters {
		meters = append(meters, m)
	}
	slices.SortFunc(meters, func(a, b Meter) int { return strings.Compare(a.Name, b.Name) })
	return meters
}
