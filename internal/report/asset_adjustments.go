package report

import (
	"context"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
)

func assetAdjustmentColumns() []sheet.Column {
	return []sheet.Column{
		{Name: "processing_month", Kind: sheet.Month, Doc: "in which the late usage was recorded"},
		{Name: "usage_month", Kind: sheet.Month, Doc: "to which it belongs"},
		{Name: "type", Kind: sheet.Code, Doc: "SYSTEM; MANUAL is reserved"},
		{Name: "account", Kind: sheet.Text, Doc: "account id of the tenant"},
		{Name: "plan", Kind: sheet.Text},
		{Name: "meter", Kind: sheet.Text},
		{Name: "region", Kind: sheet.Code},
		{Name: "platform", Kind: sheet.Code, Doc: "blank: costs are not by platform"},
		{Name: "trial", Kind: sheet.Bool},
		{Name: "measure", Kind: sheet.Code},
		{Name: "from_version", Kind: sheet.Whole},
		{Name: "to_version", Kind: sheet.Whole},
		{Name: "delta", Kind: sheet.Decimal, Adds: true, Doc: "new quantity minus the published one"},
		{Name: "cost_delta", Kind: sheet.Decimal, Adds: true, Doc: "new cost minus the published one; blank without a price"},
	}
}

func assetAdjustments(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	processing, err := ask.Month("processing_month")
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
	all, err := r.Adjustments(ctx, AdjustmentsQuery{Tenant: ask.Tenant, ProcessingMonth: processing.String()})
	if err != nil {
		return nil, err
	}
	meters, parents := assetMeters(state), map[string]*directory.Tree{}
	var rows []sheet.Row
	for i := range all {
		a := &all[i]
		if _, asset := meters[a.Meter]; !asset || a.Measure != MeasureQuantity || a.Currency == "" && a.CostDelta == "" {
			continue
		}
		if parents[a.UsageMonth] == nil {
			m, err := usage.ParseMonth(a.UsageMonth)
			if err != nil {
				return nil, err
			}
			parents[a.UsageMonth] = state.Tree(m.End().Millis())
		}
		if parents[a.UsageMonth].Parent(a.Account) != id {
			continue
		}
		cost := a.CostDelta
		if cost != "" {
			cost = atLeast(cost, 2)
		}
		rows = append(rows, sheet.Row{
			a.ProcessingMonth, a.UsageMonth, a.Type, a.Account, a.Plan, a.Meter, a.Region, a.Platform, sheet.Boolean(a.Trial), a.Measure,
			strconv.Itoa(a.FromVersion), strconv.Itoa(a.ToVersion), atLeast(a.Delta, 6), cost,
		})
	}
	return &Answer{
		Table: sheet.Table{Columns: assetAdjustmentColumns(), Rows: sheet.Of(rows)}, FileName: "asset-adjustments_" + id + "_" + processing.String(),
	}, nil
}
