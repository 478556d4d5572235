package report

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// rowKey says which value of a question names which column of a report's row.
type rowKey struct{ value, column string }

// behind finds the events behind a column of rows of a report, and what they come to.
type behind func(e *explanation, ctx context.Context, rows *fitting) error

// rowReport is a report whose cells are explained: how a row is told apart, and what is behind its columns.
type rowReport struct {
	keys     []rowKey
	measures map[string]behind
	first    string // the measure where none is asked for
	alone    string // what names one row, where a sum over several means nothing; "": it does
}

func rowReports() map[string]rowReport {
	subscription := map[string]behind{"Cost": (*explanation).ofSubscription, "Items Quantity": (*explanation).ofSubscription}
	transaction := map[string]behind{"Cost": (*explanation).ofSubscription, "Total": (*explanation).ofSubscription}
	return map[string]rowReport{
		"subscriptions": {keys: []rowKey{{"subscription", "Subscription ID"}}, first: "Cost", measures: subscription},
		"transactions":  {keys: []rowKey{{"transaction", "Transaction ID"}}, first: "Cost", measures: transaction},
		"certificate-usage": {
			keys: []rowKey{{"customer", "Customer ID"}, {"type", "Certificate Type"}, {"product", "Product"}}, first: measureInUse, alone: "customer, type and product",
			measures: map[string]behind{measureInventory: (*explanation).ofInventory, measureLeft: (*explanation).ofStock, measureInUse: (*explanation).ofCertificates},
		},
		"asset-usage-detail": {
			keys: []rowKey{
				{"tenant", "tenantId"}, {"asset", "assetId"}, {"meter", "meterName"}, {"day", "start"}, {"region", "billingRegion"}, {"platform", "platform"}, {"trial", "trial"},
			},
			first: MeasureQuantity, measures: map[string]behind{MeasureQuantity: (*explanation).ofAssets},
		},
		"asset-monthly-costs": {
			keys:  []rowKey{{"tenant", "tenantId"}, {"meter", "meterName"}, {"region", "billingRegion"}, {"plan", "plan"}, {"trial", "trial"}},
			first: MeasureQuantity, measures: map[string]behind{MeasureQuantity: (*explanation).ofAssets, measureCost: (*explanation).ofCost},
		},
		"tenant-usage": {
			keys: []rowKey{{"tenant", "Tenant ID"}}, first: measureCreditsUsed, alone: "tenant", measures: tenantMeasures(),
		},
		"tenant-usage-api": {
			keys: []rowKey{{"start", "startTime"}, {"trial", "trial"}}, first: "count", alone: "start and trial",
			measures: map[string]behind{"count": (*explanation).ofBucket},
		},
	}
}

// measureCost is what a row of asset-monthly-costs costs. Only a row has tiers, not a sum of several.
const measureCost = "cost"

// fitting are rows of a report that a question is about.
type fitting struct {
	rows    []sheet.Row
	columns []sheet.Column
}

// cell is that of the first row.
func (f *fitting) cell(name string) string { return f.rows[0][f.at(name)] }

func (f *fitting) at(name string) int {
	return slices.IndexFunc(f.columns, func(c sheet.Column) bool { return c.Name == name })
}

// all are the different values of a column.
func (f *fitting) all(name string) []string {
	var values []string
	for _, row := range f.rows {
		values = append(values, row[f.at(name)])
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// sum is that of a column, in its shortest form; blank where all that there is of it is blank.
func (f *fitting) sum(name string) (string, error) {
	total, blank := "0", true
	for _, row := range f.rows {
		cell := row[f.at(name)]
		blank = blank && cell == ""
		negative, err := minus("0", cell)
		if err == nil {
			total, err = minus(total, negative)
		}
		if err != nil {
			return "", err
		}
	}
	if blank {
		return "", nil
	}
	return total, nil
}

// rows explains a cell of a report, or the sum of a column over the rows that fit, or how either changed between two
// versions of the month.
func (e *explanation) rows(ctx context.Context) error {
	spec := rowReports()[e.q.Report]
	d, _ := Define(e.q.Report)
	if (e.older != nil || e.q.Version != 0) && !d.has("month") {
		return wrong("version", e.q.Report+" is explained by as_of")
	}
	for name := range e.q.Values {
		if name != "measure" && !d.has(name) && !slices.ContainsFunc(spec.keys, func(k rowKey) bool { return k.value == name }) {
			return wrong(name, "tells no rows of "+e.q.Report+" apart")
		}
	}
	if e.out.Measure == "" {
		e.out.Measure = spec.first
	}
	proof := spec.measures[e.out.Measure]
	if proof == nil {
		return wrong("measure", "want one of "+strings.Join(slices.Sorted(maps.Keys(spec.measures)), ", "))
	}
	fits, err := e.fitting(ctx, spec)
	if err != nil {
		return err
	}
	if e.older != nil {
		return e.rowsSince(ctx, spec, fits, proof)
	}
	if len(fits.rows) == 0 {
		return &Error{Code: CodeNotFound, Detail: "no row of " + e.q.Report + " fits"}
	}
	if e.out.Number, err = fits.sum(e.out.Measure); err != nil {
		return err
	}
	return proof(e, ctx, fits)
}

// rowsSince explains how rows changed since the older version. A version without such rows has nothing of them.
func (e *explanation) rowsSince(ctx context.Context, spec rowReport, fits *fitting, proof behind) error {
	var err error
	before := *e
	before.out, before.older, before.cut = &Explanation{Measure: e.out.Measure}, nil, *e.older
	if before.state, err = e.directoryAt(ctx, e.q.Tenant, before.cut); err != nil {
		return err
	}
	older, err := before.fitting(ctx, spec)
	if err != nil {
		return err
	}
	for _, side := range []struct {
		*explanation
		own, other *fitting
	}{{&before, older, fits}, {e, fits, older}} {
		told := side.own
		if len(told.rows) == 0 {
			if told = side.other; len(told.rows) == 0 {
				return &Error{Code: CodeNotFound, Detail: "no row of " + e.q.Report + " fits"}
			}
		} else if side.out.Number, err = told.sum(e.out.Measure); err != nil {
			return err
		}
		if err := proof(side.explanation, ctx, told); err != nil {
			return err
		}
	}
	return e.less(ctx, &before)
}

// less turns what is explained into its difference from the same of an older version: the events are those that count
// in only one of the two, or for something else.
func (e *explanation) less(ctx context.Context, before *explanation) error {
	var err error
	if e.out.Number, err = minus(e.out.Number, before.out.Number); err != nil {
		return err
	}
	if e.out.Evidence, err = minus(e.out.Evidence, before.out.Evidence); err != nil {
		return err
	}
	all, err := changed(before.all, e.all)
	if err != nil {
		return err
	}
	e.list(all)
	e.out.How += "; the difference of the two versions, and the rows that count in only one of them"
	e.out.Rollup, e.out.Cells = []RollupCell{}, 0
	e.out.Late, err = e.LateEvents(ctx, e.q.Tenant, e.month, *e.older, e.cut, e.limit())
	return err
}

// fitting are the rows of the report that the question is about.
func (e *explanation) fitting(ctx context.Context, spec rowReport) (*fitting, error) {
	d, _ := Define(e.q.Report)
	values := map[string]string{}
	for _, p := range d.Parameters {
		if value, ok := e.q.Values[p.Name]; ok {
			values[p.Name] = value
		}
	}
	switch e.q.Report {
	case "tenant-usage":
		if tenant := e.q.Values["tenant"]; tenant != "" {
			values["tenants"] = tenant
		}
	case "certificate-usage":
		values["expand"] = e.unfolded()
	}
	answer, err := e.RunAt(ctx, Query{Tenant: e.q.Tenant, Report: e.q.Report, Values: values}, e.cut)
	if err != nil {
		return nil, err
	}
	f := &fitting{columns: answer.Columns}
	for row, err := range answer.Rows {
		if err != nil {
			return nil, err
		}
		other := slices.ContainsFunc(spec.keys, func(k rowKey) bool {
			want, asked := e.q.Values[k.value]
			if !asked { // the report need not have the column
				return false
			}
			have := row[f.at(k.column)]
			if k.value == "trial" {
				want = strings.ToUpper(want)
			}
			return want != have && (k.value != "day" && k.value != "start" || !strings.HasPrefix(have, want+"T"))
		})
		if !other {
			f.rows = append(f.rows, slices.Clone(row))
		}
	}
	switch {
	case len(f.rows) < 2:
	case spec.alone != "":
		return nil, wrong(strings.Split(spec.alone, " ")[0], "several rows fit: name "+spec.alone+" of one")
	case e.out.Measure == measureCost:
		return nil, wrong("trial", "several rows fit: name tenant, meter, region, plan and trial of one")
	}
	return f, nil
}
