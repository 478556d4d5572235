package directory

import (
	"cmp"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
)

// entitlements is what accounts may use: entitlement.set. Each one says all there is to say of an
// entitlement, which is known by its account and its id, from then on.
type entitlements struct {
	accounts map[string][]Entitlement // in the order in which they were set
}

// Entitlement is what an account may use, as it was set. Numbers are shared: they are read, never changed.
type Entitlement struct {
	ID       string
	Users    bool     // Quantity counts users, not transactions
	Quantity *big.Int // billionths
	Credits  *big.Int // for messages and calls, billionths
	Bundles  []string
	Start    int64 // Unix ms
	End      int64 // the first instant after it; Latest where there is no end
	Status   string
	Since    int64 // when it was set so
}

// InForce reports whether the entitlement may be used at the instant. One without a status is active.
func (e Entitlement) InForce(at int64) bool {
	return e.Start <= at && at < e.End && (e.Status == "" || e.Status == "ACTIVE")
}

type entitlementData struct {
	ID       string          `json:"entitlement_id"`
	Kind     string          `json:"kind"`
	Quantity json.RawMessage `json:"quantity"`
	Credits  json.RawMessage `json:"sms_voice_credits"`
	Bundles  []string        `json:"bundles"`
	Start    string          `json:"start"`
	End      string          `json:"end"`
	Status   string          `json:"status"`
}

func (d *entitlements) apply(_ *State, e *parsed) {
	var in entitlementData
	if json.Unmarshal([]byte(e.Data), &in) != nil {
		return
	}
	if d.accounts == nil {
		d.accounts = map[string][]Entitlement{}
	}
	set := Entitlement{
		ID: in.ID, Users: in.Kind == "USERS", Quantity: billionths(in.Quantity), Credits: billionths(in.Credits), Bundles: in.Bundles,
		Start: instantOf(in.Start), End: Latest, Status: in.Status, Since: e.At,
	}
	if in.End != "" {
		set.End = instantOf(in.End)
	}
	d.accounts[e.Account] = append(d.accounts[e.Account], set)
}

// Entitlements are those of an account as set at or before the instant, whatever their status and period, by
// start and id.
func (s *State) Entitlements(account string, at int64) []Entitlement {
	var all []Entitlement
	for _, e := range s.entitlements.accounts[account] {
		if e.Since > at {
			break
		}
		i := slices.IndexFunc(all, func(known Entitlement) bool { return known.ID == e.ID })
		if i < 0 {
			all = append(all, e)
		} else {
			all[i] = e
		}
	}
	slices.SortFunc(all, func(a, b Entitlement) int { return cmp.Or(cmp.Compare(a.Start, b.Start), strings.Compare(a.ID, b.ID)) })
	return all
}
