package directory

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// RulePrefix comes before a rule's name where it is a status or a reason.
const RulePrefix = "rule:"

// Rules by name. The names are part of the contract: rule:<name> is the status of an event without effect, and its
// reason among the dead letters.
const (
	ruleAccountExists   = "account-exists"
	ruleAccountDeleted  = "account-deleted"
	ruleParentDeleted   = "parent-deleted"
	ruleCycle           = "cycle"
	ruleDuplicateName   = "duplicate-name"
	ruleLivingChildren  = "living-children"
	ruleCrossProvider   = "cross-provider"
	ruleTrialProvider   = "trial-provider"
	ruleUnknownPlan     = "unknown-plan"
	rulePlanAboveParent = "plan-above-parent"
	ruleMeterRedefined  = "meter-redefined"

	ruleInstanceExists        = "instance-exists"
	ruleLineItemObsolete      = "line-item-obsolete"
	ruleSubscriptionExists    = "subscription-exists"
	ruleSubscriptionCancelled = "subscription-cancelled"
	ruleTransactionExists     = "transaction-exists"
	ruleCurrencyChanged       = "currency-changed"
	ruleInventoryBelowZero    = "inventory-below-zero"
	ruleInventoryBelowUsed    = "inventory-below-used"
	ruleRenewalBelowZero      = "renewal-inventory-below-zero"
)

// Rules of the usage of assets, which package report looks after: the fold is not given usage.
const (
	RuleAssetQuantity = "asset-quantity"
	RuleAssetRegion   = "asset-region"
	RuleAssetPlatform = "asset-platform"
	RuleUserPlatform  = "user-platform"
)

// Rule is a rule of the directory, for people.
type Rule struct{ Name, Types, Doc string }

// Rules are all rules, those of the tree first. An event that breaks one has no effect, for as long as the other
// events are what they are.
func Rules() []Rule {
	return []Rule{
		{ruleAccountExists, "account.created", "The account exists at that instant. (One that was deleted may be created again: a new life, without plans.)"},
		{ruleAccountDeleted, "account.*, service.*", "The account is deleted at that instant."},
		{ruleParentDeleted, "account.created, account.reparented", "The parent is deleted at that instant. (One that does not exist yet is none until it does.)"},
		{ruleCycle, "account.created, account.reparented", "The account would be above itself."},
		{ruleDuplicateName, "account.created, account.renamed, account.reparented", "Another living account of the same tree has the name. A tree is a root and everything below it."},
		{ruleLivingChildren, "account.deleted", "An account below it is not deleted."},
		{ruleCrossProvider, "account.reparented", "The account belongs to a provider (the root of its tree, itself perhaps, of kind provider, service_provider, partner or distributor) and the new parent is in another tree. (Organizations, customers and the like pass their accounts on.)"},
		{ruleTrialProvider, "account.created, account.reparented", "The parent's contract mode is TRIAL and the account's is not: a provider on trial adds only tenants on trial."},
		{ruleUnknownPlan, "service.plan_set", "The plan is not one of the service: `sta` has `STA Basic`, `STA` and `STA Premium`. Other services take any."},
		{rulePlanAboveParent, "service.plan_set, account.reparented", "In the service `sta` a plan would be above that of the parent, where both have one: a child's raised, a parent's lowered, or a child moved."},
		{ruleMeterRedefined, "meter.defined", "The meter is defined otherwise, and was used before that instant."},

		{ruleInstanceExists, "instance.created", "The instance was created before; it stays with its account."},
		{ruleLineItemObsolete, "lineitem.mapped, lineitem.changed", "The line item is OBSOLETE, which it stays."},
		{ruleSubscriptionExists, "subscription.ordered", "The subscription was ordered before and is not cancelled."},
		{ruleSubscriptionCancelled, "subscription.*, inventory.changed, renewal_inventory.changed", "The subscription is cancelled."},
		{ruleTransactionExists, "subscription.*, inventory.changed, renewal_inventory.changed", "The subscription has a transaction of that id."},
		{RuleAssetQuantity, "usage.metered", "The meter is of kind secure_connect, and the quantity is negative."},
		{RuleAssetRegion, "usage.metered", "The meter is of kind secure_connect, and the region is not AF, AP, EU or NA."},
		{RuleAssetPlatform, "usage.metered", "The meter is of kind secure_connect, and the platform is neither mcp nor azure."},
		{RuleUserPlatform, "usage.metered", "The meter is of kind secure_connect, the asset a USER, and there is a platform."},
		{ruleCurrencyChanged, "subscription.modified", "The subscription's term is counted in another currency."},
		{ruleInventoryBelowZero, "inventory.changed", "The change takes away more than there is."},
		{ruleInventoryBelowUsed, "inventory.changed", "More certificates are in use at that instant than the change leaves. (Issued after it, they leave none available.)"},
		{ruleRenewalBelowZero, "renewal_inventory.changed", "The subscription would renew with less than nothing."},
	}
}

// Ruling is an event that breaks a rule: stored, without effect, as long as the rest of the events is what it
// is. It heals by itself when a late event makes it legal.
type Ruling struct {
	Source, ID, Type, Account string
	At, RecordedAt            int64
	Rule                      string // "rule:<name>"
	Detail                    string
	Position
	data string
}

// Of is the ruling about an event with the given data, JSON.
func (r Ruling) Of(data string) Ruling {
	r.data = data
	return r
}

// Document is the event as CloudEvents JSON: what was sent, but for the spelling.
func (r *Ruling) Document() string {
	data := json.RawMessage(r.data)
	if !json.Valid(data) {
		data = json.RawMessage("null")
	}
	text, _ := json.Marshal(struct { // texts and valid JSON: it cannot fail
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Subject     string          `json:"subject,omitempty"`
		Time        string          `json:"time"`
		Data        json.RawMessage `json:"data"`
	}{"1.0", r.ID, r.Source, r.Type, r.Account, time.UnixMilli(r.At).UTC().Format("2006-01-02T15:04:05.000Z"), data})
	return string(text)
}

// ruled is a ruling with its place in the order of the fold.
type ruled struct {
	parsed
	Ruling
}

// Rulings are the events that have no effect, in fold order.
func (s *State) Rulings() []Ruling { return s.rulings }

// refuse records that an event has no effect because of a rule.
func (s *State) refuse(e *parsed, rule, detail string) {
	s.broken = append(s.broken, &ruled{*e, Ruling{
		e.Source, e.ID, e.Type, e.Account, e.At, e.RecordedAt, RulePrefix + rule, detail, e.Position, e.Data,
	}})
}

// settle puts the rulings in order: some events are judged only when the account they are about exists.
func (s *State) settle() {
	slices.SortStableFunc(s.broken, func(a, b *ruled) int { return compare(&a.parsed, &b.parsed) })
	s.rulings = make([]Ruling, len(s.broken))
	for i, r := range s.broken {
		s.rulings[i] = r.Ruling
	}
}

// Plans of the service whose plans have an order.
const (
	serviceSTA = "sta"
	planRanks  = 4 // 0: no plan
)

// STAPlans are the plans of the service sta, lowest first.
func STAPlans() []string { return []string{"STA Basic", "STA", "STA Premium"} }

// rankOf is the place of a plan of the service sta; 0 if it is none.
func rankOf(plan string) uint8 {
	switch plan {
	case "STA Basic":
		return 1
	case "STA":
		return 2
	case "STA Premium":
		return 3
	}
	return 0
}

func planOf(rank uint8) string {
	if rank == 0 {
		return ""
	}
	return STAPlans()[rank-1]
}

// leads reports whether an account of a kind is the provider of its tree, and not somebody's customer.
func leads(kind string) bool {
	switch kind {
	case "provider", "service_provider", "partner", "distributor":
		return true
	}
	return false
}

func quoted(format string, texts ...string) string {
	args := make([]any, len(texts))
	for i, t := range texts {
		args[i] = strconv.Quote(t)
	}
	return fmt.Sprintf(format, args...)
}
