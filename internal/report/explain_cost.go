package report

import (
	"context"
	"maps"
	"math/big"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// TierCost is what a tier of a price takes of a month's quantity.
type TierCost struct {
	From      string `json:"from" doc:"Units above this one, up to and including the next tier's from"`
	Units     string `json:"units" doc:"Of the month's quantity, that lie in the tier"`
	UnitPrice string `json:"unit_price"`
	Cost      string `json:"cost" doc:"units × unit_price, exactly: only the sum of the tiers is rounded"`
}

// usageOfAssets is the usage behind quantities of Secure Connect.
func (e *explanation) usageOfAssets(ctx context.Context, rows *fitting) (*assetsAsked, error) {
	if !e.monthy {
		return nil, wrong("month", "must be given: a month as YYYY-MM")
	}
	meter, err := e.need("meter", "the row's meterName")
	if err != nil {
		return nil, err
	}
	m := &metered{
		from: e.month.Start().Millis(), to: e.month.End().Millis(), meter: meter, asset: e.q.Values["asset"], accounts: rows.all("tenantId"), filters: map[string]string{},
	}
	if day := e.q.Values["day"]; day != "" {
		at, err := Ask{values: map[string]string{"day": day}}.Date("day")
		if err != nil {
			return nil, err
		}
		m.from, m.to = at, at+dayMillis
	}
	for _, name := range []string{"region", "platform", "plan", "trial"} {
		if value, ok := e.q.Values[name]; ok {
			m.filters[name] = value
		}
	}
	if trial, ok := m.filters["trial"]; ok {
		m.filters["trial"] = strings.ToLower(trial)
	}
	return e.assetPiecesOf(ctx, m)
}

// ofAssets lists the usage behind a quantity of Secure Connect.
func (e *explanation) ofAssets(ctx context.Context, rows *fitting) error {
	asked, err := e.usageOfAssets(ctx, rows)
	if err != nil {
		return err
	}
	e.out.How = "the sum of what the pieces count: records are cut at midnights and where a trial ends, and count from the registration of their asset on"
	e.out.Evidence = formatAmount(asked.quantity)
	e.list(asked.all)
	return e.listCells(ctx, e.rowParams(asked.metered, asked.accounts))
}

// ofCost lists the usage behind a row of monthly costs, and what each tier of its price takes of the quantity.
func (e *explanation) ofCost(ctx context.Context, rows *fitting) error {
	region, currency := rows.cell("billingRegion"), rows.cell("currency")
	for name, column := range map[string]string{"region": "billingRegion", "plan": "plan", "trial": "trial"} {
		if _, ok := e.q.Values[name]; !ok { // there is one row, whatever tells it apart
			e.q.Values = maps.Clone(e.q.Values)
			e.q.Values[name] = rows.cell(column)
		}
	}
	if err := e.ofAssets(ctx, rows); err != nil {
		return err
	}
	quantity, err := parseAmount(e.out.Evidence)
	if err != nil {
		return err
	}
	return e.price(e.q.Values["meter"], region, currency, rows.cell("trial") == sheet.Boolean(true), quantity)
}

// price is what a quantity costs, tier by tier.
func (e *explanation) price(meter, region, currency string, trial bool, quantity amount) error {
	e.out.Evidence = ""
	e.out.How = "the rows are the usage in the month; "
	at := e.month.Start().Millis()
	price, priced := e.state.Price(meter, region, currency, at)
	switch {
	case trial:
		e.out.How += "what is used under trial costs nothing and fills no tier"
		e.out.Evidence = "0"
	case !priced:
		e.out.How += "no price is in force at " + Instant(at).String() + ", so the cost is blank"
	default:
		e.out.How += "quantity × unit price, tier by tier of the price for region " + price.Region + " in " + price.Currency + ", in force since " +
			Instant(price.EffectiveFrom).String() + ", added up and rounded half-even to two digits"
		e.out.Evidence = trimDecimal(money(divide(e.tiers(price.Tiers, quantity), 10_000_000_000_000_000)))
	}
	return nil
}

// tiers lists what each tier takes, and is the sum, in billionths of a billionth.
func (e *explanation) tiers(tiers []directory.Tier, quantity amount) amount {
	sum := new(big.Int)
	for i, t := range tiers {
		units := new(big.Int).Sub(quantity, t.From)
		if i+1 < len(tiers) {
			if width := new(big.Int).Sub(tiers[i+1].From, t.From); units.Cmp(width) > 0 {
				units = width
			}
		}
		if units.Sign() < 0 {
			units = new(big.Int)
		}
		cost := new(big.Int).Mul(units, t.UnitPrice)
		sum.Add(sum, cost)
		e.out.Tiers = append(e.out.Tiers, TierCost{formatAmount(t.From), formatAmount(units), formatAmount(t.UnitPrice), eighteen(cost)})
	}
	return sum
}

// eighteen prints billionths of a billionth in the shortest form.
func eighteen(a amount) string {
	whole, rest := new(big.Int).QuoRem(a, unit(), new(big.Int))
	if rest.Sign() == 0 {
		return formatAmount(whole)
	}
	tail := formatAmount(rest) // 0.xxxxxxxxx
	return atLeast(formatAmount(whole), 9) + tail[2:]
}
