package report

import (
	"context"
	"fmt"
	"iter"
	"math/big"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// assetReports are the reports of Secure Connect.
func assetReports() []Definition {
	return []Definition{
		{
			Name: "asset-usage-detail", Title: "Secure Connect Tenant's Detailed Usage Report",
			Doc: "Usage of every asset of a tenant, a row per UTC day, meter, region, platform and trial. The sums of its quantities are exactly those of " +
				"asset-monthly-costs. Usage of assets or accounts that are not known yet is left out until they are; so are records that break a rule.",
			Parameters: []Parameter{
				{Name: "tenant", Doc: "account id of the tenant", Example: "alpine", Required: true},
				{Name: "month", Doc: "month as YYYY-MM; of the running day, what is there", Example: "2026-03", Required: true},
			},
			Columns: assetDetailColumns(), Run: assetDetail,
		},
		{
			Name: "asset-monthly-costs", Title: "Secure Connect Monthly Costs Report",
			Doc: "Usage of an organization's tenants by plan, meter, region and trial, and what it costs: the price in force at the month's first instant, tier by tier " +
				"on the month's total, rounded half-even to two digits. Usage under trial costs 0.00 and fills no tier. Without a price the cost is blank.",
			Parameters: []Parameter{
				{Name: "organization", Doc: "account id of the organization", Example: "alpine-org", Required: true},
				{Name: "month", Doc: "month as YYYY-MM", Example: "2026-03"},
				{Name: "from", Doc: "first month as YYYY-MM, with to instead of month", Example: "2026-01"},
				{Name: "to", Doc: "last month as YYYY-MM; at most 18 months", Example: "2026-03"},
			},
			Columns: assetCostColumns(), Run: assetCosts,
		},
		{
			Name: "asset-adjustments", Title: "Secure Connect adjustments",
			Doc: "What later versions of closed months changed of the quantities and costs of an organization's tenants, in the month in which that became known.",
			Parameters: []Parameter{
				{Name: "organization", Doc: "account id of the organization", Example: "alpine-org", Required: true},
				{Name: "processing_month", Doc: "month as YYYY-MM in which the late usage was recorded", Example: "2026-04", Required: true},
			},
			Columns: assetAdjustmentColumns(), Run: assetAdjustments,
		},
	}
}

func assetDetailColumns() []sheet.Column {
	return []sheet.Column{
		{Name: "organizationId", Kind: sheet.Text, Doc: "account above the tenant at the month's end"},
		{Name: "tenantId", Kind: sheet.Text},
		{Name: "assetName", Kind: sheet.Text, Doc: "as it was at the end of the day"},
		{Name: "assetId", Kind: sheet.Text},
		{Name: "assetType", Kind: sheet.Code, Doc: "USER, TRANSPORT, TENANT, GATEWAY or ENDPOINT"},
		{Name: "meterName", Kind: sheet.Text},
		{Name: "meterId", Kind: sheet.Text},
		{Name: "start", Kind: sheet.Instant, Doc: "first instant of the UTC day"},
		{Name: "end", Kind: sheet.Instant, Doc: "first instant of the next day"},
		{Name: "quantity", Kind: sheet.Decimal, Adds: true, Doc: "at least six decimals, more where exactness needs them"},
		{Name: "billingRegion", Kind: sheet.Code, Doc: "AF, AP, EU, NA"},
		{Name: "platform", Kind: sheet.Code, Doc: "mcp or azure, of bandwidth"},
		{Name: "trial", Kind: sheet.Bool, Doc: "the usage began before the trial's end"},
		{Name: "trialExpiry", Kind: sheet.Instant, Doc: "end of the asset's trial; the latest where it changed during the day"},
	}
}

// assetDetailRows are the rows of one tenant: by asset, meter and day.
const assetDetailRows = `
SELECT asset, meter, region, platform, trial, day, toString(sum(q)), max(expiry_of),
    tupleElement(arrayLast(s -> tupleElement(s, 1) < day + 86400000, any(n)), 5) AS name,
    tupleElement(arrayLast(s -> tupleElement(s, 1) < day + 86400000, any(t)), 5) AS type
FROM
(
    SELECT asset, meter, region, platform, trial, intDiv(start, 86400000) * 86400000 AS day, expiry AS expiry_of, sum(amount) AS q,
        any(names) AS n, any(types) AS t
    FROM (` + assetPieces + `)
    GROUP BY asset, meter, region, platform, trial, day, expiry_of
    HAVING sum(live) > 0
)
GROUP BY asset, meter, region, platform, trial, day
ORDER BY asset, meter, region, platform, day, trial DESC`

func assetDetail(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	m, err := ask.Month("month")
	if err != nil {
		return nil, err
	}
	state, err := r.directoryAt(ctx, ask.Tenant, ask.Cut)
	if err != nil {
		return nil, err
	}
	tenant := ask.Text("tenant")
	if _, ok := state.Account(tenant, directory.Latest); !ok {
		return nil, unknownAccount("tenant", tenant)
	}
	meters := assetMeters(state)
	organization := state.Tree(m.End().Millis()).Parent(tenant)
	params := assetParams(ask.Tenant, m, ask.Cut, state, meters, []string{tenant})
	name, err := r.assetName(ctx, ask.Tenant, m, ask.Cut, params)
	if err != nil {
		return nil, err
	}
	row := func(rows warehouse.Rows) (sheet.Row, error) {
		var asset, meter, region, platform, quantity, name, kind string
		var trial bool
		var day, expiry int64
		if err := rows.Scan(&asset, &meter, &region, &platform, &trial, &day, &quantity, &expiry, &name, &kind); err != nil {
			return nil, err
		}
		amount, err := sixDecimals(quantity)
		return sheet.Row{
			organization, tenant, name, asset, kind, meter, meters[meter].ID, Instant(day).String(), Instant(day + dayMillis).String(), amount, region, platform,
			sheet.Boolean(trial), Instant(expiry).String(),
		}, err
	}
	if name != "" {
		name = fmt.Sprintf("%s %q %v", name, organization, meters)
	}
	rows := keptRows(&r.details, name, stream(ctx, r, "read the usage of assets", assetDetailRows, params, row))
	return &Answer{Table: sheet.Table{Columns: assetDetailColumns(), Rows: rows}, FileName: "asset-usage-detail_" + tenant + "_" + m.String()}, nil
}

// keptRows are the rows of a name; without any they are those that come, which are kept once they have all come, if they
// are not too many. Nothing is kept under "".
func keptRows(s *shelf[[]sheet.Row], name string, come iter.Seq2[sheet.Row, error]) iter.Seq2[sheet.Row, error] {
	if name == "" {
		return come
	}
	if kept := s.get(name); kept != nil {
		return sheet.Of(*kept)
	}
	return func(yield func(sheet.Row, error) bool) {
		var rows []sheet.Row
		for row, err := range come {
			if err != nil || len(rows) > keptRowsMax {
				rows, name = nil, ""
			} else if name != "" {
				rows = append(rows, row)
			}
			if !yield(row, err) {
				return
			}
		}
		if name != "" {
			s.put(name, &rows, 1+len(rows))
		}
	}
}

// detailRowsKept bounds the rows of assets that are kept for the next question, over all tenants: about 500 bytes each.
const detailRowsKept = 100_000

const dayMillis = int64(86_400_000)

// unknownAccount is a parameter that names an account that is not there.
func unknownAccount(parameter, id string) *Error {
	return &Error{Code: CodeNotFound, Parameter: parameter, Detail: "no account " + id}
}

// sixDecimals prints an integer of billionths with six decimals, or with as many more as it needs.
func sixDecimals(billionths string) (string, error) {
	n, err := wholeNumber(billionths)
	if err != nil {
		return "", err
	}
	return atLeast(formatAmount(n), 6), nil
}

func wholeNumber(text string) (*big.Int, error) {
	n, ok := new(big.Int).SetString(text, 10)
	if !ok {
		return nil, fmt.Errorf("%q is no integer", text)
	}
	return n, nil
}

// atLeast pads the decimals of an exact decimal with zeros.
func atLeast(decimal string, digits int) string {
	_, fraction, point := strings.Cut(decimal, ".")
	if !point {
		decimal += "."
	}
	return decimal + strings.Repeat("0", max(0, digits-len(fraction)))
}
