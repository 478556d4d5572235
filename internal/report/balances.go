package report

import (
	"cmp"
	"context"
	"math/big"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// Balance is what is left of a line item of elastic tokens.
type Balance struct {
	ActivationID, InstanceID   string
	Account, AccountName       string // of the instance
	State, Series              string
	Start, End                 Instant
	Quantity                   string // tokens of the line item
	Used, Remaining, Overage   string
	UsedAmount, QuantityAmount *big.Int // the same two in billionths, for drawing
}

// Balances lists the line items of a tenant, as known now, in the order of their ids. The totals are those of USED in elastic-usage.
func (r *Reports) Balances(ctx context.Context, tenant string) ([]Balance, error) {
	cut, err := r.cut(ctx, Query{AsOf: directory.Latest})
	if err != nil {
		return nil, err
	}
	e := &elasticReport{Reports: r, ask: Ask{Tenant: tenant, Cut: cut, Now: r.now()}, to: Forever + 1, totals: map[string]amount{}}
	if e.state, err = r.directoryAt(ctx, tenant, cut); err != nil {
		return nil, err
	}
	if err := e.before(ctx, elasticKey{at: Forever}, nil); err != nil {
		return nil, err
	}
	all := []Balance{}
	for _, id := range e.state.LineItems() {
		item, ok := e.state.LineItem(id, cut.AsOf)
		if !ok {
			continue
		}
		b, err := e.balance(item)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

func (e *elasticReport) balance(item directory.LineItem) (Balance, error) {
	b := Balance{
		ActivationID: item.ActivationID, InstanceID: item.InstanceID, State: item.State, Series: item.Series,
		Start: Instant(item.Start), End: Instant(item.End), Quantity: trimDecimal(item.Quantity),
	}
	b.Account, _, _ = e.state.Instance(item.InstanceID)
	if a, ok := e.state.Account(b.Account, e.ask.Cut.AsOf); ok {
		b.AccountName = a.Name
	}
	quantity, err := parseAmount(cmp.Or(item.Quantity, "0"))
	if err != nil {
		return b, err
	}
	used := e.totals[item.ActivationID]
	if used == nil {
		used = new(big.Int)
	}
	left := new(big.Int).Sub(quantity, used)
	over := new(big.Int)
	if left.Sign() < 0 {
		over.Neg(left)
	}
	b.Used, b.Remaining, b.Overage = formatAmount(used), formatAmount(left), formatAmount(over)
	b.UsedAmount, b.QuantityAmount = used, quantity
	return b, nil
}
