package access

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Grant gives a role to an operator, for an account and all accounts below it; "" is the whole tenant.
type Grant struct {
	Role    string `json:"role"`
	Account string `json:"account,omitempty"`
}

// Held is a grant with what its role allowed when the session began.
type Held struct {
	Grant
	Rights    Rights   `json:"rights"`
	ManageAll bool     `json:"manage_all_roles,omitempty"`
	Manages   []string `json:"manages,omitempty"`
}

// Viewer is an operator who is signed in, with the rights of the session.
type Viewer struct {
	Tenant   string
	ID       string // of the operator
	Login    string
	Name     string
	Roles    []string // names, for people
	Held     []Held
	SignedAt time.Time
	// Fresh: proved who it is within ProofMax. What closes a month or changes rights asks for it; else ErrProof.
	Fresh bool
}

// ProofMax is how old a proof may be for a change of money or rights.
const ProofMax = 10 * time.Minute

// May reports whether the viewer may do verb to entity at all; reach is another question.
func (v *Viewer) May(e Entity, verb Verb) bool {
	return v != nil && slices.ContainsFunc(v.Held, func(h Held) bool { return h.allows(e, verb) })
}

// MayAll is May for several rights.
func (v *Viewer) MayAll(rights []Right) bool {
	return v != nil && !slices.ContainsFunc(rights, func(r Right) bool { return !v.May(r.Entity, r.Verb) })
}

func (h *Held) allows(e Entity, verb Verb) bool {
	has := h.Rights.Has(e, verb) || e == Archive && (verb == View || verb == Add) && h.Rights.generates()
	return has && (h.Account == "" || !e.Whole())
}

// ReachesAll reports whether the right holds for every account of the tenant.
func (v *Viewer) ReachesAll(e Entity, verb Verb) bool {
	return v != nil && slices.ContainsFunc(v.Held, func(h Held) bool { return h.Account == "" && h.allows(e, verb) })
}

// ReachAll reports whether each of the rights holds for every account of the tenant.
func (v *Viewer) ReachAll(rights []Right) bool {
	return !slices.ContainsFunc(rights, func(r Right) bool { return !v.ReachesAll(r.Entity, r.Verb) })
}

// Roots are the accounts for whose subtrees the right holds, sorted; empty where it holds for all (ReachesAll) or
// for none (May).
func (v *Viewer) Roots(e Entity, verb Verb) []string {
	if v == nil || v.ReachesAll(e, verb) {
		return nil
	}
	roots := map[string]bool{}
	for _, h := range v.Held {
		if h.allows(e, verb) {
			roots[h.Account] = true
		}
	}
	return slices.Sorted(maps.Keys(roots))
}

// Reaches reports whether an account is within reach, by whatever right: path is the account itself and the
// accounts above it. Outside it the answer is 404.
func (v *Viewer) Reaches(path ...string) bool {
	return v != nil && slices.ContainsFunc(v.Held, func(h Held) bool { return h.Account == "" || slices.Contains(path, h.Account) })
}

// Allows reports whether the viewer may do verb to entity for an account: path is the account itself and the
// accounts above it. Within reach, but without this, the answer is 403.
func (v *Viewer) Allows(e Entity, verb Verb, path ...string) bool {
	return v != nil && slices.ContainsFunc(v.Held, func(h Held) bool {
		return h.allows(e, verb) && (h.Account == "" || slices.Contains(path, h.Account))
	})
}

// ManagesAll reports whether a role of the viewer says "Manage All Roles".
func (v *Viewer) ManagesAll() bool {
	return v != nil && slices.ContainsFunc(v.Held, func(h Held) bool { return h.ManageAll && h.Account == "" })
}

// Manages reports whether the viewer may give, change and remove the role of this name.
func (v *Viewer) Manages(role string) bool {
	if v.ManagesAll() {
		return true
	}
	return v != nil && slices.ContainsFunc(v.Held, func(h Held) bool {
		return h.Account == "" && slices.ContainsFunc(h.Manages, func(name string) bool { return strings.EqualFold(name, role) })
	})
}

// Covers reports whether the viewer has every right of the role for the whole tenant: who may not manage all roles
// makes no role that can more than itself, and none that manages what it does not.
func (v *Viewer) Covers(r Role) bool {
	if v.ManagesAll() {
		return true
	}
	return v.ReachAll(r.Rights.List()) && !r.ManageAll && !slices.ContainsFunc(r.Manages, func(name string) bool { return !v.Manages(name) })
}
