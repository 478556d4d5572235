// Package access decides who may do what: entities, verbs, roles, grants, and what follows from them for
// an operator who is signed in or a program with a key. It is arithmetic: it reads nothing and writes nothing.
//
// Guarantees:
//
//   - Deny by default: what no role allows is refused, and an entity, a verb or an operation that is not in
//     the tables of this package allows nothing.
//   - What an operator may do is fixed when the session begins: a change of a role is in
//     force at the next sign-in.
//   - A right holds within the subtree of accounts it was granted for. What concerns the whole tenant (Whole)
//     takes a grant without an account.
package access

import (
	"maps"
	"slices"
)

// Entity is a thing of the system that a role gives rights to ("System Entity").
type Entity string

// The entities there are.
const (
	Usage          Entity = "usage"           // meters and accounts
	Reports        Entity = "reports"         // monthly usage, explanations; add: as files
	UsageReport    Entity = "usage-report"    // STA; only of the role Account Manager; add: export
	ExportReports  Entity = "export-reports"  // IDaaS usage reports; add, with Schedules add: generate
	SecureConnect  Entity = "secure-connect"  // detail, monthly costs, adjustments; add: download
	Elastic        Entity = "elastic"         // token usage; add: as files
	PartnerReports Entity = "partner-reports" // subscriptions, transactions, certificates; add: export
	Archive        Entity = "archive"         // report jobs and their files, of reports one may export
	Schedules      Entity = "schedules"       // Scheduled Task Management
	Months         Entity = "months"          // states, versions; add: close
	DeadLetters    Entity = "dead-letters"    // edit: replay
	DataHealth     Entity = "data-health"     // ledger, lag, silent producers, audit
	Roles          Entity = "roles"
	Operators      Entity = "operators"
	Keys           Entity = "keys"
	AuditLog       Entity = "audit-log"
)

// Entities lists every entity, in the order in which pages show them.
func Entities() []Entity {
	return []Entity{
		Usage, Reports, UsageReport, ExportReports, SecureConnect, Elastic, PartnerReports, Archive, Schedules, Months,
		DeadLetters, DataHealth, Roles, Operators, Keys, AuditLog,
	}
}

// Whole reports whether the entity belongs to the tenant as a whole: a grant for some accounts does not reach it.
func (e Entity) Whole() bool {
	return slices.Contains([]Entity{Months, DeadLetters, DataHealth, Roles, Operators, Keys, AuditLog}, e)
}

// Verb is what is done to an entity; "all" is the four of them.
type Verb string

// The verbs there are.
const (
	View   Verb = "view"
	Add    Verb = "add"
	Edit   Verb = "edit"
	Remove Verb = "remove"
)

// Verbs lists the four.
func Verbs() []Verb { return []Verb{View, Add, Edit, Remove} }

// Right is a verb on an entity.
type Right struct {
	Entity Entity `json:"entity"`
	Verb   Verb   `json:"verb"`
}

func (r Right) String() string { return string(r.Entity) + ":" + string(r.Verb) }

// Rights are the verbs allowed, by entity.
type Rights map[Entity][]Verb

// List is the rights one by one, in the order in which pages show them, behind them those to what is no Entity.
func (r Rights) List() []Right {
	list := []Right{}
	add := func(e Entity) {
		for _, v := range r[e] {
			list = append(list, Right{e, v})
		}
	}
	for _, e := range Entities() {
		add(e)
	}
	for _, e := range slices.Sorted(maps.Keys(r)) {
		if !slices.Contains(Entities(), e) {
			add(e)
		}
	}
	return list
}

// Has reports whether the right is among them.
func (r Rights) Has(e Entity, v Verb) bool { return slices.Contains(r[e], v) }

// generates reports whether the rights are enough to generate reports: that asks for the right to export them and the
// one to schedule tasks, and for no other, so these two bring the archive that the files are put into.
func (r Rights) generates() bool { return r.Has(ExportReports, Add) && r.Has(Schedules, Add) }
