package directory

import (
	"cmp"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
)

// subscriptions is subscriptions to certificates and their inventory: subscription.*, inventory.changed and
// renewal_inventory.changed.
//
// The renewal inventory follows the current one until somebody changes it; such a change is kept as a difference
// to the current inventory and used up by the next renewal. What concerns a subscription that
// nobody has ordered yet has no effect and breaks no rule.
type subscriptions struct {
	all          map[string]*subscription
	transactions []Transaction
	seen         map[transactionKey]bool
	shrunk       map[string]bool // subscriptions: see Shrunk
	certificates certificates
}

// Actions of transactions.
const (
	ActionInventory        = "Inventory"
	ActionRenewalInventory = "Renewal Inventory"
	ActionRenew            = "Renew"
	ActionCancel           = "Cancel"
)

// SystemUser is whose doing a renewal is.
const SystemUser = "System"

// StockKey is what an inventory counts.
type StockKey struct{ CertType, Product string }

// Stock is how many certificates of a kind somebody may use.
type Stock struct {
	StockKey
	Quantity *big.Int // billionths; never negative
}

// Subscription is a subscription at an instant. What it points to is shared: it is read, never changed.
type Subscription struct {
	ID, Account, Name, Currency string
	Products                    []string
	Items                       []Stock // current inventory, by CertType and Product
	Renewal                     []Stock // differences of the renewal inventory to the current one; may be negative
	OrderedAt                   int64
	Start                       int64 // Unix ms, of the term
	LastDay                     int64 // Unix ms, first instant of the term's last day
	Term                        int   // months
	NoRenewal                   bool  // somebody said that it does not renew itself
	Cancelled                   bool
	Cost                        *big.Int // billionths: of the term and of the changes in it
	ModifiedBy                  string   // e-mail, else whatever names the person
	ModifiedAt                  int64
}

// Active reports whether the subscription counts at an instant: it was not cancelled, and if it does not renew
// itself, its last day is not over. One that does stays until its renewal or cancellation says otherwise.
func (s *Subscription) Active(at int64) bool {
	return !s.Cancelled && !(s.NoRenewal && at >= s.LastDay+dayMillis)
}

// Transaction is what somebody did to a subscription.
type Transaction struct {
	ID, Subscription, Account, Action string
	Products                          []string
	At                                int64
	Total, Cost                       *big.Int // billionths; certificates involved, never negative
	User                              string
}

type subscription struct {
	steps []subscriptionStep
}

// subscriptionStep is what holds from an instant on.
type subscriptionStep struct {
	at int64
	Subscription
}

type transactionKey struct{ typ, subscription, id string }

type subscriptionData struct {
	TransactionID  string          `json:"transaction_id"`
	SubscriptionID string          `json:"subscription_id"`
	Name           string          `json:"name"`
	Products       []string        `json:"products"`
	Items          []stockData     `json:"items"`
	Deltas         []stockData     `json:"deltas"`
	Term           json.RawMessage `json:"term_months"`
	Start          string          `json:"start"`
	End            string          `json:"end"`
	NewStart       string          `json:"new_start"`
	NewEnd         string          `json:"new_end"`
	AutoRenew      *bool           `json:"auto_renew"`
	Cost           json.RawMessage `json:"cost"`
	Currency       string          `json:"currency"`
	Actor          struct {
		ID    string `json:"id"`
		Name  string `json:"name"`
		Email string `json:"email"`
	} `json:"actor"`
}

type stockData struct {
	CertType string          `json:"cert_type"`
	Product  string          `json:"product"`
	Quantity json.RawMessage `json:"quantity"`
	Delta    json.RawMessage `json:"delta"`
}

func (d *subscriptions) apply(s *State, e *parsed) {
	var in subscriptionData
	if json.Unmarshal([]byte(e.Data), &in) != nil {
		return
	}
	known := d.all[in.SubscriptionID]
	if known == nil && e.Type != "subscription.ordered" {
		return // nobody has ordered it yet: a late order with an earlier time makes this count
	}
	key := transactionKey{e.Type, in.SubscriptionID, in.TransactionID}
	if d.seen[key] {
		s.refuse(e, ruleTransactionExists, "transaction "+in.TransactionID+" of subscription "+in.SubscriptionID+" is there already")
		return
	}
	var next Subscription
	if known != nil {
		next = known.steps[len(known.steps)-1].Subscription
		if next.Cancelled && e.Type != "subscription.ordered" {
			s.refuse(e, ruleSubscriptionCancelled, "subscription "+in.SubscriptionID+" is cancelled")
			return
		}
	}
	var did *Transaction
	var rule, detail string
	switch e.Type {
	case "subscription.ordered":
		if known != nil && !next.Cancelled {
			s.refuse(e, ruleSubscriptionExists, "subscription "+in.SubscriptionID+" was ordered before and is not cancelled")
			return
		}
		next, did = order(e, &in)
	case "subscription.modified":
		rule, detail = modify(&next, &in)
	case "subscription.renewed":
		did = renew(&next, &in)
	case "subscription.cancelled":
		next.Cancelled = true
		did = &Transaction{Action: ActionCancel, Total: total(next.Items), Products: next.Products}
	case "inventory.changed":
		did, rule, detail = d.changeInventory(&next, &in)
	case "renewal_inventory.changed":
		did, rule, detail = changeRenewal(&next, &in)
	}
	if rule != "" {
		s.refuse(e, rule, detail)
		return
	}
	next.ModifiedAt, next.ModifiedBy = e.At, cmp.Or(in.Actor.Email, in.Actor.Name, in.Actor.ID)
	if e.Type == "subscription.renewed" {
		next.ModifiedBy = cmp.Or(next.ModifiedBy, SystemUser)
	}
	d.record(e, &in, known, next, did)
}

// record appends a step, and the transaction if the event is one.
func (d *subscriptions) record(e *parsed, in *subscriptionData, known *subscription, next Subscription, did *Transaction) {
	if known == nil {
		if d.all == nil {
			d.all, d.seen, d.shrunk = map[string]*subscription{}, map[transactionKey]bool{}, map[string]bool{}
		}
		known = &subscription{}
		d.all[in.SubscriptionID] = known
	}
	known.steps = append(known.steps, subscriptionStep{e.At, next})
	d.seen[transactionKey{e.Type, in.SubscriptionID, in.TransactionID}] = true
	if did == nil {
		return
	}
	did.ID, did.Subscription, did.Account, did.At, did.Cost = in.TransactionID, in.SubscriptionID, next.Account, e.At, billionths(in.Cost)
	did.User = cmp.Or(in.Actor.Name, in.Actor.Email, in.Actor.ID)
	if did.Action == ActionRenew {
		did.User = SystemUser
	}
	d.transactions = append(d.transactions, *did)
}

func order(e *parsed, in *subscriptionData) (Subscription, *Transaction) {
	start := instantOf(in.Start)
	next := Subscription{
		ID: in.SubscriptionID, Account: e.Account, Name: in.Name, Currency: in.Currency, OrderedAt: e.At,
		Items: stock(in.Items), Start: start, Term: months(in.Term), Cost: billionths(in.Cost),
		NoRenewal: in.AutoRenew != nil && !*in.AutoRenew,
	}
	next.Products = in.Products
	if len(next.Products) == 0 {
		next.Products = products(in.Items)
	}
	next.LastDay = lastDay(start, instantOf(in.End), next.Term)
	return next, &Transaction{Action: ActionInventory, Total: total(next.Items), Products: next.Products}
}

// modify changes what the event names and leaves the rest.
func modify(next *Subscription, in *subscriptionData) (rule, detail string) {
	if in.Currency != "" && in.Currency != next.Currency {
		return ruleCurrencyChanged, "the term of subscription " + next.ID + " is counted in " + next.Currency + ", not in " + in.Currency
	}
	next.Name = cmp.Or(in.Name, next.Name)
	if in.Products != nil {
		next.Products = in.Products
	}
	if in.Items != nil {
		next.Items = stock(in.Items)
	}
	if in.AutoRenew != nil {
		next.NoRenewal = !*in.AutoRenew
	}
	if in.Term != nil {
		next.Term = months(in.Term)
	}
	if in.Start != "" {
		next.Start = instantOf(in.Start)
	}
	switch {
	case in.End != "":
		next.LastDay = lastDay(next.Start, instantOf(in.End), next.Term)
	case in.Start != "" || in.Term != nil:
		next.LastDay = dayOf(addMonths(next.Start, next.Term)) - dayMillis
	}
	next.Cost = new(big.Int).Add(next.Cost, billionths(in.Cost))
	return "", ""
}

// renew begins a term with the renewal inventory, or with what the event names.
func renew(next *Subscription, in *subscriptionData) *Transaction {
	if in.Items != nil {
		next.Items = stock(in.Items)
	} else {
		next.Items = plus(next.Items, next.Renewal)
	}
	next.Renewal = nil
	next.Start = instantOf(in.NewStart)
	next.LastDay = lastDay(next.Start, instantOf(in.NewEnd), next.Term)
	next.Cost = billionths(in.Cost)
	return &Transaction{Action: ActionRenew, Total: total(next.Items), Products: next.Products}
}

func (d *subscriptions) changeInventory(next *Subscription, in *subscriptionData) (did *Transaction, rule, detail string) {
	changes := deltas(in.Deltas)
	if below(changes) != nil {
		d.shrunk[next.ID] = true
	}
	after := sum(next.Items, changes)
	if at := below(after); at != nil {
		return nil, ruleInventoryBelowZero, "subscription " + next.ID + " has fewer " + at.CertType + " " + at.Product + " than the change takes away"
	}
	if at := d.certificates.above(next.ID, after, changes); at != nil {
		return nil, ruleInventoryBelowUsed, "more " + at.CertType + " " + at.Product + " of subscription " + next.ID + " are in use than the change leaves"
	}
	next.Items = after
	next.Cost = new(big.Int).Add(next.Cost, billionths(in.Cost))
	return &Transaction{Action: ActionInventory, Total: magnitude(changes), Products: products(in.Deltas)}, "", ""
}

func changeRenewal(next *Subscription, in *subscriptionData) (did *Transaction, rule, detail string) {
	changes := deltas(in.Deltas)
	renewal := sum(next.Renewal, changes)
	if at := below(sum(next.Items, renewal)); at != nil {
		return nil, ruleRenewalBelowZero, "subscription " + next.ID + " would renew with fewer than no " + at.CertType + " " + at.Product
	}
	next.Renewal = renewal
	return &Transaction{Action: ActionRenewalInventory, Total: magnitude(changes), Products: products(in.Deltas)}, "", ""
}

// Subscription is a subscription at an instant; false if it was not ordered by then.
func (s *State) Subscription(id string, at int64) (Subscription, bool) {
	one := s.subscriptions.all[id]
	if one == nil {
		return Subscription{}, false
	}
	n := upTo(one.steps, at, func(step *subscriptionStep) int64 { return step.at })
	if n == 0 {
		return Subscription{}, false
	}
	return one.steps[n-1].Subscription, true
}

// Subscriptions are the ids of all subscriptions ever ordered, sorted.
func (s *State) Subscriptions() []string { return slices.Sorted(maps.Keys(s.subscriptions.all)) }

// Transactions are all transactions in fold order, up to and including an instant.
func (s *State) Transactions(at int64) []Transaction {
	all := s.subscriptions.transactions
	n := upTo(all, at, func(t *Transaction) int64 { return t.At })
	return all[:n:n]
}

// FirstOrder is when a subscription was ordered first; what was never ordered never was.
func (s *State) FirstOrder(id string) int64 {
	one := s.subscriptions.all[id]
	if one == nil {
		return Latest
	}
	return one.steps[0].at
}
