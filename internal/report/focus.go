package report

import (
	"encoding/json"
	"iter"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// layoutFocus is monthly-usage with the column names of FOCUS 1, the FinOps Open Cost and Usage Specification, for
// programs that read such files from many providers. Costs are blank: what a quantity costs is decided elsewhere. Each row
// is an account's own usage, so that rows add up; columns of ours begin with x_, as the specification wants it.
const layoutFocus = "focus"

func focusColumns() []sheet.Column {
	return []sheet.Column{
		{Name: "BilledCost", Kind: sheet.Decimal, Adds: true, Doc: "blank, as are all costs"},
		{Name: "BillingAccountId", Kind: sheet.Code, Doc: "the tenant"},
		{Name: "BillingAccountName", Kind: sheet.Text},
		{Name: "BillingCurrency", Kind: sheet.Code, Doc: "blank"},
		{Name: "BillingPeriodEnd", Kind: sheet.Instant, Doc: "exclusive"},
		{Name: "BillingPeriodStart", Kind: sheet.Instant},
		{Name: "ChargeCategory", Kind: sheet.Code, Doc: "Usage"},
		{Name: "ChargeClass", Kind: sheet.Code, Doc: "blank: corrections of a closed month are a version of it"},
		{Name: "ChargeDescription", Kind: sheet.Text, Doc: "meter and plan"},
		{Name: "ChargeFrequency", Kind: sheet.Code, Doc: "Usage-Based"},
		{Name: "ChargePeriodEnd", Kind: sheet.Instant, Doc: "exclusive"},
		{Name: "ChargePeriodStart", Kind: sheet.Instant},
		{Name: "ConsumedQuantity", Kind: sheet.Decimal, Adds: true},
		{Name: "ConsumedUnit", Kind: sheet.Text},
		{Name: "ContractedCost", Kind: sheet.Decimal, Adds: true},
		{Name: "EffectiveCost", Kind: sheet.Decimal, Adds: true},
		{Name: "InvoiceIssuerName", Kind: sheet.Code, Doc: "the tenant"},
		{Name: "ListCost", Kind: sheet.Decimal, Adds: true},
		{Name: "PricingQuantity", Kind: sheet.Decimal, Adds: true},
		{Name: "PricingUnit", Kind: sheet.Text},
		{Name: "ProviderName", Kind: sheet.Code, Doc: "the tenant"},
		{Name: "PublisherName", Kind: sheet.Code, Doc: "the tenant"},
		{Name: "RegionId", Kind: sheet.Code},
		{Name: "RegionName", Kind: sheet.Code},
		{Name: "ServiceCategory", Kind: sheet.Code, Doc: "Other"},
		{Name: "ServiceName", Kind: sheet.Text, Doc: "the plan; the meter where there is none"},
		{Name: "SkuId", Kind: sheet.Code, Doc: "the meter"},
		{Name: "SubAccountId", Kind: sheet.Text},
		{Name: "SubAccountName", Kind: sheet.Text},
		{Name: "Tags", Kind: sheet.JSON, Doc: "plan, platform, trial"},
		{Name: "x_Closed", Kind: sheet.Bool},
		{Name: "x_Events", Kind: sheet.Whole, Adds: true},
		{Name: "x_Version", Kind: sheet.Whole, Doc: "of the closed month; 0: computed"},
	}
}

// focus is rows as FOCUS has them.
func (q monthAsk) focus(rows []MonthRow) iter.Seq2[sheet.Row, error] {
	start, end := instantOf(q.month.Start()), instantOf(q.month.End())
	version, closed := strconv.Itoa(q.version), sheet.Boolean(q.version != 0)
	return func(yield func(sheet.Row, error) bool) {
		for i := range rows {
			m := &rows[i]
			if m.Events == 0 && m.FirstAt == 0 {
				continue // only accounts below it have usage
			}
			name, description := m.Plan, m.Meter+", "+m.Plan
			if m.Plan == "" {
				name, description = m.Meter, m.Meter
			}
			tags, err := json.Marshal(map[string]string{"plan": m.Plan, "platform": m.Platform, "trial": strconv.FormatBool(m.Trial)})
			if !yield(sheet.Row{
				"", q.tenant, q.tenant, "", end, start, "Usage", "", description, "Usage-Based", end, start, m.Quantity, m.Unit, "", "", q.tenant, "",
				m.Quantity, m.Unit, q.tenant, q.tenant, m.Region, m.Region, "Other", name, m.Meter, m.Account, m.AccountName, string(tags),
				closed, strconv.FormatInt(m.Events, 10), version,
			}, err) {
				return
			}
		}
	}
}

func instantOf(at usage.Instant) string { return Instant(at.Millis()).String() }
