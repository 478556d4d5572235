package report

import (
	"cmp"
	"context"
	"math/big"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// costMonthsMax bounds a question for the costs of several months.
const costMonthsMax = 18

func assetCostColumns() []sheet.Column {
	return []sheet.Column{
		{Name: "organizationId", Kind: sheet.Text},
		{Name: "organizationName", Kind: sheet.Text, Doc: "as it was at the month's end"},
		{Name: "tenantId", Kind: sheet.Text},
		{Name: "tenantName", Kind: sheet.Text, Doc: "as it was at the month's end"},
		{Name: "plan", Kind: sheet.Text, Doc: "of the usage; where neither it nor the account has one, of the meter"},
		{Name: "month", Kind: sheet.Month},
		{Name: "meterId", Kind: sheet.Text},
		{Name: "meterName", Kind: sheet.Text},
		{Name: "billingRegion", Kind: sheet.Code},
		{Name: "trial", Kind: sheet.Bool},
		{Name: "quantity", Kind: sheet.Decimal, Adds: true, Doc: "the sum of asset-usage-detail, exactly"},
		{Name: "currency", Kind: sheet.Code, Doc: "of the organization"},
		{Name: "cost", Kind: sheet.Decimal, Adds: true, Doc: "blank where no price is in force"},
	}
}

// costKey is a row of monthly costs.
type costKey struct {
	account, plan, meter, region string
	trial                        bool
}

// costRow is what a tenant used of a meter in a month, and what that costs.
type costRow struct {
	costKey
	organization   string
	quantity       amount
	currency, cost string // cost: "" without a price
}

// monthlyCosts are the rows of a month for the tenants of an organization, "" for all that have an account above them:
// by account, plan, meter, region and trial. Accounts deleted before are among them: they may have usage in the month.
func (r *Reports) monthlyCosts(ctx context.Context, tenant string, m usage.Month, cut Cut, state *directory.State, organization string) ([]costRow, error) {
	meters, tree := assetMeters(state), state.Tree(m.End().Millis())
	if len(meters) == 0 {
		return nil, nil
	}
	var accounts []string // nil: all there are
	if organization != "" {
		if accounts = tree.Children(organization); len(accounts) == 0 {
			return nil, nil
		}
	}
	wanted := map[string]bool{}
	for _, id := range accounts {
		wanted[id] = true
	}
	all, of, err := r.assetTotals(ctx, tenant, m, cut, state, meters, accounts)
	if err != nil {
		return nil, err
	}
	totals := map[costKey]amount{}
	for _, t := range all {
		k := t.costKey
		a, known := state.Account(k.account, m.End().Millis()-1)
		if !known || tree.Parent(k.account) == "" || accounts != nil && !wanted[k.account] {
			continue
		}
		if k.plan == "" {
			at := m.Start().Millis()
			if t.segment > 0 {
				at = of[k.account][t.segment-1]
			} else if a.CreatedAt > at {
				at = a.CreatedAt
			}
			k.plan = cmp.Or(state.UsagePlan(k.account, k.meter, at), meters[k.meter].Plan)
		}
		if totals[k] == nil {
			totals[k] = new(big.Int)
		}
		totals[k].Add(totals[k], t.quantity)
	}
	rows := make([]costRow, 0, len(totals))
	for k, quantity := range totals {
		row := costRow{costKey: k, organization: tree.Parent(k.account), quantity: quantity}
		row.currency, row.cost = costOf(state, m, &row)
		rows = append(rows, row)
	}
	slices.SortFunc(rows, compareCosts)
	return rows, nil
}

func compareCosts(a, b costRow) int {
	trial := func(t bool) int {
		if t {
			return 0
		}
		return 1
	}
	return cmp.Or(
		strings.Compare(a.account, b.account), strings.Compare(a.plan, b.plan), strings.Compare(a.meter, b.meter), strings.Compare(a.region, b.region),
		cmp.Compare(trial(a.trial), trial(b.trial)),
	)
}

// currencyOf is the currency of a row's cost: the organization's, else the tenant's, else the only one the meter has a
// price in.
func currencyOf(state *directory.State, m usage.Month, k costKey, organization string) string {
	at := m.End().Millis() - 1
	above, _ := state.Account(organization, at)
	tenant, _ := state.Account(k.account, at)
	currency := cmp.Or(above.Currency, tenant.Currency)
	if currency == "" {
		if priced := state.Currencies(k.meter); len(priced) == 1 {
			currency = priced[0]
		}
	}
	return currency
}

// costOf is what a row costs, and in which currency. Only the month's total is rounded.
func costOf(state *directory.State, m usage.Month, row *costRow) (currency, cost string) {
	currency = currencyOf(state, m, row.costKey, row.organization)
	if row.trial {
		return currency, "0.00"
	}
	price, ok := state.Price(row.meter, row.region, currency, m.Start().Millis())
	if !ok {
		return currency, ""
	}
	return currency, money(divide(price.Cost(row.quantity), 10_000_000_000_000_000))
}

// money prints cents.
func money(cents *big.Int) string {
	return atLeast(formatAmount(new(big.Int).Mul(cents, big.NewInt(10_000_000))), 2)
}

func assetCosts(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	months, _, _, err := ask.months(costMonthsMax)
	if err != nil {
		return nil, err
	}
	state, err := r.directoryAt(ctx, ask.Tenant, ask.Cut)
	if err != nil {
		return nil, err
	}
	id := ask.Text("organization")
	if _, ok := state.Account(id, directory.Latest); !ok {
		return nil, unknownAccount("organization", id)
	}
	var all []sheet.Row
	for _, m := range months {
		rows, err := r.monthlyCosts(ctx, ask.Tenant, m, ask.Cut, state, id)
		if err != nil {
			return nil, err
		}
		at := m.End().Millis() - 1
		organization, _ := state.Account(id, at)
		meters := assetMeters(state)
		for i := range rows {
			row := &rows[i]
			tenant, _ := state.Account(row.account, at)
			all = append(all, sheet.Row{
				id, organization.Name, row.account, tenant.Name, row.plan, m.String(), meters[row.meter].ID, row.meter, row.region,
				sheet.Boolean(row.trial), atLeast(formatAmount(row.quantity), 6), row.currency, row.cost,
			})
		}
	}
	name := "asset-monthly-costs_" + id + "_" + months[0].String()
	if len(months) > 1 {
		name += "_" + months[len(months)-1].String()
	}
	return &Answer{Table: sheet.Table{Columns: assetCostColumns(), Rows: sheet.Of(all)}, FileName: name}, nil
}

// costFigures are the rows of asset-monthly-costs of a month for every organization: the quantity, and what it
// costs. Account is the tenant of Secure Connect.
func (r *Reports) costFigures(ctx context.Context, tenant string, m usage.Month, cut Cut) ([]Figure, error) {
	state, err := r.directoryAt(ctx, tenant, cut)
	if err != nil {
		return nil, err
	}
	rows, err := r.monthlyCosts(ctx, tenant, m, cut, state, "")
	if err != nil {
		return nil, err
	}
	figures := make([]Figure, 0, len(rows))
	for i := range rows {
		row := &rows[i]
		figures = append(figures, Figure{
			Account: row.account, Plan: row.plan, Meter: row.meter, Region: row.region, Trial: row.trial,
			Measure: MeasureQuantity, Value: formatAmount(row.quantity), Cost: row.cost, Currency: row.currency,
		})
	}
	return figures, nil
}
