package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// RoleError is why a role cannot exist as it was asked for.
type RoleError struct {
	Field  string // of Role, as in JSON
	Detail string // what it may be; does not name the field again
}

func (e *RoleError) Error() string { return e.Field + ": " + e.Detail }

func badRole(field, format string, args ...any) error {
	return &RoleError{Field: field, Detail: fmt.Sprintf(format, args...)}
}

const (
	nameMax        = 64  // characters
	descriptionMax = 512 // characters
	managesMax     = 200 // roles
)

// Role is a set of rights with a name.
type Role struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Rights      Rights   `json:"rights"`
	ManageAll   bool     `json:"manage_all_roles"`
	Manages     []string `json:"manages"` // names of the roles that holders may give and change, where ManageAll is not set
	System      bool     `json:"system"`  // not editable (B-06)
}

// Names of the system roles.
const (
	SuperAdministrator = "Super Administrator"
	Auditor            = "Auditor"
	AccountManager     = "Account Manager"
	ReportsRole        = "Reports"
	PartnerAdmin       = "Partner Admin"
	Technician         = "Technician"
	ElasticUsage       = "Elastic Usage"
	HelpDesk           = "Help Desk Administrator"
	SCIM               = "SCIM Provisioning"
	SIEM               = "SIEM Add-on"
	ADConnector        = "AD Connector"
)

// SystemRoles are the roles every tenant has.
func SystemRoles() []Role {
	all, see := Verbs(), []Verb{View}
	every := func(verbs []Verb) Rights {
		rights := Rights{}
		for _, e := range Entities() {
			if e != UsageReport {
				rights[e] = verbs
			}
		}
		return rights
	}
	people := Rights{Operators: all, Roles: see}
	roles := []Role{
		{Name: SuperAdministrator, Description: "Everything but the Usage Report (STA), which is for account managers", Rights: every(all), ManageAll: true},
		{Name: Auditor, Description: "Sees everything but the Usage Report (STA), changes nothing", Rights: every(see)},
		{Name: AccountManager, Description: "The Usage Report (STA) on screen and as a file", Rights: Rights{UsageReport: all, Usage: see, Archive: all, Schedules: all}},
		{Name: ReportsRole, Description: "The Secure Connect reports: detailed usage, monthly costs, adjustments", Rights: Rights{SecureConnect: all, Usage: see, Archive: all}},
		{Name: PartnerAdmin, Description: "The partner reports, with their export", Rights: Rights{PartnerReports: all, Usage: see, Archive: all, Schedules: all}},
		{Name: Technician, Description: "The partner reports on screen, without export", Rights: Rights{PartnerReports: see}},
		{Name: ElasticUsage, Description: "Token usage, on screen and as a file", Rights: Rights{Elastic: all, Archive: all}},
		{Name: HelpDesk, Description: "Finds out what became of somebody's usage", Rights: Rights{Usage: see, DeadLetters: see, DataHealth: see}},
		{Name: SCIM, Description: "Creates and disables operators, gives no roles", Rights: people},
		{Name: SIEM, Description: "Reads the audit log", Rights: Rights{AuditLog: see}},
		{Name: ADConnector, Description: "Keeps operators in step with a directory, gives no roles", Rights: people},
	}
	for i := range roles {
		roles[i].System, roles[i].Manages = true, []string{}
	}
	return roles
}

// SystemRole is a system role by its name.
func SystemRole(name string) (Role, bool) {
	all := SystemRoles()
	i := slices.IndexFunc(all, func(r Role) bool { return strings.EqualFold(r.Name, name) })
	if i < 0 {
		return Role{}, false
	}
	return all[i], true
}

// Checked is a custom role in its canonical form, or what is wrong with it.
func (r Role) Checked() (Role, error) {
	r.Name, r.System = strings.TrimSpace(r.Name), false
	if r.Name == "" || tooLong(r.Name, nameMax) {
		return r, badRole("name", "want 1 to %d characters, none of them a control character", nameMax)
	}
	if _, taken := SystemRole(r.Name); taken {
		return r, badRole("name", "%s is a system role", r.Name)
	}
	if tooLong(r.Description, descriptionMax) {
		return r, badRole("description", "want at most %d characters, none of them a control character", descriptionMax)
	}
	rights := Rights{}
	for _, e := range slices.Sorted(maps.Keys(r.Rights)) {
		if e == UsageReport {
			return r, badRole("rights", "%s belongs to the role %s alone", e, AccountManager)
		}
		if !slices.Contains(Entities(), e) {
			return r, badRole("rights", "no entity %q; there are %s", e, join(Entities()))
		}
		verbs := []Verb{}
		for _, v := range r.Rights[e] {
			switch {
			case v == "all":
				verbs = Verbs()
			case !slices.Contains(Verbs(), v):
				return r, badRole("rights", "no verb %q; there are %s, all", v, join(Verbs()))
			case !slices.Contains(verbs, v):
				verbs = append(verbs, v)
			}
		}
		if len(verbs) > 0 {
			slices.SortFunc(verbs, func(a, b Verb) int { return slices.Index(Verbs(), a) - slices.Index(Verbs(), b) })
			rights[e] = verbs
		}
	}
	r.Rights = rights
	if len(r.Manages) > managesMax || slices.ContainsFunc(r.Manages, func(s string) bool { return s == "" || tooLong(s, nameMax) }) {
		return r, badRole("manages", "want at most %d names of roles", managesMax)
	}
	if r.ManageAll && len(r.Manages) > 0 {
		return r, badRole("manages", "give it or manage_all_roles, not both")
	}
	r.Manages = slices.Compact(slices.Sorted(slices.Values(append([]string{}, r.Manages...))))
	return r, nil
}

func tooLong(s string, most int) bool {
	return utf8.RuneCountInString(s) > most || !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

func join[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, one := range list {
		texts[i] = string(one)
	}
	return strings.Join(texts, ", ")
}
