// Package directory knows accounts, their tree, plans and statuses, meters, and what other domains of events
// say, as of any instant.
//
// Guarantee: State is a pure function of the set of events and the as_of given to Fold. The order in
// which events arrive, and how often, changes nothing: they are folded in the canonical
// order (when it happened; within one instant meters, accounts with parents first, services with parents
// first; then source, source_seq, id). A State is immutable and safe for concurrent use.
//
// An event that would break a rule (rules.go) has no effect at all; Rulings lists it. Because it is judged anew
// in every fold, a late event that makes it legal heals it. So the tree has no cycle and walking up always ends.
// What is said about an account before it exists waits for it: a plan holds from the creation on, a parent that
// does not exist yet is none until it does. What nobody creates stays unresolved, which is no ruling.
//
// Users, tokens, certificates and usage are not folded here: they are counted where they lie. The package does
// no I/O and imports nothing of ours.
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

// Account is an account at an instant.
type Account struct {
	ID, Name, Kind string
	Parent         string // "" for a root; may name an account that does not exist (yet)
	ContractMode   string // TRIAL, PRODUCTION, UNKNOWN or "", which is UNKNOWN
	TrialEndsAt    int64  // Unix ms; 0 where nobody said
	Currency       string
	Reseller       string
	CreatedAt      int64 // first creation
	Deleted        bool
	DeletedAt      int64 // Unix ms, where Deleted
}

// Plan is an account's plan and status in one service, and when the service runs.
type Plan struct {
	Service, Plan, Status string
	Start, End            int64 // of the service period, Unix ms; 0 where nobody said
}

// State is the fold of a set of events: the whole history, asked by instant.
type State struct {
	accounts map[string]*account
	meters   map[string]*meter
	broken   []*ruled
	rulings  []Ruling
	round    int32 // of measuring depths, while folding

	entitlements  entitlements
	prices        prices
	elastic       elastic
	subscriptions subscriptions
	gaps          gaps
}

// Fold builds the state from events recorded at or before asOf (Unix ms), in any order, repeated or not.
// Events of one source and id are the same event.
func Fold(events []Event, asOf int64) *State {
	s := &State{accounts: map[string]*account{}, meters: map[string]*meter{}}
	all := canonical(events, asOf)
	for from := 0; from < len(all); {
		to := from + 1
		if all[from].rank == rankService {
			for to < len(all) && all[to].At == all[from].At && all[to].rank == rankService {
				to++
			}
			s.parentsFirst(all[from:to])
		}
		for i := range all[from:to] {
			s.apply(&all[from+i])
		}
		from = to
	}
	s.settle()
	return s
}

func (s *State) apply(e *parsed) {
	if e.rank > rankService {
		s.applyDomain(e)
		return
	}
	// What ingest accepted can be read; a row damaged since then concerns nobody but itself.
	var d data
	if !d.read(e.Data) {
		return
	}
	switch e.rank {
	case rankMeter:
		s.define(e, &d)
	case rankService:
		if a := s.account(e.Account); a.created {
			s.serve(a, e, &d, e.At)
		} else {
			kept := *e
			a.waiting = append(a.waiting, &kept)
		}
	case rankCreation:
		s.create(e, &d)
	default:
		if a := s.existing(e.Account); a != nil {
			s.change(a, e, &d)
		}
	}
}

// applyDomain folds what is not about the account tree. Each domain decodes its own data.
func (s *State) applyDomain(e *parsed) {
	domain, _, _ := strings.Cut(e.Type, ".")
	switch domain {
	case "entitlement":
		s.entitlements.apply(s, e)
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

// account is the account, or a place for one that nobody has created yet.
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
	if a == nil || a.steps[0].at > at {
		return Account{}, false
	}
	p := a.step(at)
	found := Account{
		ID: id, Name: p.name, Kind: p.kind, Parent: p.parent, ContractMode: p.mode, TrialEndsAt: p.trialEnds, Currency: p.currency,
		Reseller: p.reseller, CreatedAt: a.steps[0].at, Deleted: p.deleted,
	}
	if p.deleted {
		found.DeletedAt = p.at
	}
	return found, true
}

// Accounts are the ids of all accounts created at or before the instant, deleted ones too, sorted.
func (s *State) Accounts(at int64) []string {
	ids := make([]string, 0, len(s.accounts))
	for id, a := range s.accounts {
		if a.created && a.steps[0].at <= at {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Span is a stretch of time, [From, To), in Unix milliseconds. To is Latest where there is no end.
type Span struct{ From, To int64 }

// Lives are the stretches in which the account existed: one, or more if it was created again.
func (s *State) Lives(id string) []Span {
	a := s.existing(id)
	if a == nil {
		return nil
	}
	var lives []Span
	living := false
	for _, p := range a.steps {
		switch {
		case !living && !p.deleted:
			lives = append(lives, Span{p.at, Latest})
		case living && p.deleted:
			lives[len(lives)-1].To = p.at
		}
		living = !p.deleted
	}
	return lives
}

// Steps are the instants at which anything about the account changed, in order: its creation is the first.
func (s *State) Steps(id string) []int64 {
	a := s.existing(id)
	if a == nil {
		return nil
	}
	at := make([]int64, len(a.steps))
	for i := range a.steps {
		at[i] = a.steps[i].at
	}
	return slices.Compact(at)
}
