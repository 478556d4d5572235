package report

import (
	"context"
	"math/big"

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

// ofCost lists the usage behind a row of monthly costs, and what each tier of its price takes of the quantity.
func (e *explanation) ofCost(ctx context.Context, _ sheet.Row, column func(string) string) error {
	if err := e.assetUsage(ctx, column, "the rows are all usage of the tenant, meter and region in the month; "); err != nil {
		return err
	}
	quantity, err := parseAmount(column("quantity"))
	if err != nil {
		return err
	}
	e.out.Evidence = ""
	at := e.month.Start().Millis()
	price, priced := e.state.Price(column("meterName"), column("billingRegion"), column("currency"), at)
	switch {
	case column("trial") == sheet.Boolean(true):
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
