// Package access decides who may do what: entities, verbs, roles, grants, and what follows from them for
// an operator who is signed in. It is arithmetic: it reads nothing and writes nothing.
//
// Guarantees:
//
//   - Deny by default: what no role allows is refused, and an entity or a verb that is not in the tables of
//     this package allows nothing.
//   - What an operator may do is fixed when the session begins (reports.md B-07): a change of a role is in
//     force at the next sign-in.
package access

// Entity is a thing of the system that a role gives rights to ("System Entity", reports.md B-04).
type Entity string

// The entities there are.
const (
	Usage         Entity = "usage"          // meters and accounts
	Reports       Entity = "reports"        // the twelve reports, on screen
	ExportReports Entity = "export-reports" // the same as files: generate, archive
	Schedules     Entity = "schedules"      // Scheduled Task Management
	Months        Entity = "months"         // states, versions; add: close
	DeadLetters   Entity = "dead-letters"   // edit: replay
	DataHealth    Entity = "data-health"    // ledger, lag, silent producers, audit
	Roles         Entity = "roles"
	Operators     Entity = "operators"
	Keys          Entity = "keys"
	AuditLog      Entity = "audit-log"
)

// Verb is what is done to an entity (reports.md B-05); "all" is the four of them.
type Verb string

// The verbs there are.
const (
	View   Verb = "view"
	Add    Verb = "add"
	Edit   Verb = "edit"
	Remove Verb = "remove"
)

// Viewer is an operator who is signed in, with the rights of the session.
type Viewer struct {
	Tenant   string
	ID       string // of the operator
	Login    string
	Name     string
	Roles    []string // names, for people
	Rights   map[Entity][]Verb
	Accounts []string // the roots of the subtrees within reach; none: the whole tenant
}

// May reports whether the viewer may do verb to entity at all; reach is another question.
func (v *Viewer) May(e Entity, verb Verb) bool {
	if v == nil {
		return false
	}
	for _, have := range v.Rights[e] {
		if have == verb {
			return true
		}
	}
	return false
}
