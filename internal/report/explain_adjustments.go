package report

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// Measures of adjustments.
const (
	measureDelta     = "delta"
	measureCostDelta = "cost_delta"
)

// adjusts reports whether the question is about adjustments.
func (e *explanation) adjusts() bool {
	return e.q.Report == ReportAdjustments || e.q.Report == "asset-adjustments"
}

// adjustment explains what a version changed of a figure of the one before it: the figure is computed again from its
// events before and after the month in which they became known, and the events are those that count in only one of the
// two.
func (e *explanation) adjustment(ctx context.Context) error {
	if !e.monthy {
		return wrong("month", "must be given: the row's usage month as YYYY-MM")
	}
	if e.q.Cut == nil && e.q.Version != 0 {
		return wrong("version", "an adjustment is between two versions: from_version and to_version")
	}
	if e.out.Measure == "" {
		e.out.Measure = measureDelta
	}
	if measures := []string{measureDelta, measureCostDelta}; !slices.Contains(measures, e.out.Measure) {
		return wrong("measure", "want one of "+strings.Join(measures, ", "))
	}
	a, err := e.adjusted(ctx)
	if err != nil {
		return err
	}
	number := a.Delta
	if e.out.Measure == measureCostDelta {
		number = a.CostDelta
	}
	if err := e.bounds(ctx, a); err != nil {
		return err
	}
	measure := e.out.Measure
	if err := e.adjustedFigure(ctx, a); err != nil {
		return err
	}
	e.out.Measure = measure
	e.out.How += "; between version " + strconv.Itoa(a.FromVersion) + " and version " + strconv.Itoa(a.ToVersion) + ", as far as it became known in " + a.ProcessingMonth
	if e.out.Number, err = minus(number, "0"); number == "" {
		e.out.Number = ""
	}
	return err
}

// adjusted is the row that is meant.
func (e *explanation) adjusted(ctx context.Context) (*Adjustment, error) {
	all, err := e.Adjustments(ctx, AdjustmentsQuery{Tenant: e.q.Tenant, UsageMonth: e.month.String(), ProcessingMonth: e.q.Values["processing_month"]})
	if err != nil {
		return nil, err
	}
	shown := func(*Adjustment) bool { return true }
	if e.q.Report == "asset-adjustments" {
		if shown, err = e.shownOfAssets(ctx); err != nil {
			return nil, err
		}
	}
	var fits []*Adjustment
	for i := range all {
		a := &all[i]
		told := map[string]string{"account": a.Account, "plan": a.Plan, "meter": a.Meter, "region": a.Region, "platform": a.Platform, "trial": boolText(a.Trial), "figure": a.Measure}
		other := false
		for name, have := range told {
			want, asked := e.q.Values[name]
			if name == "trial" {
				want = strings.ToLower(want)
			}
			other = other || asked && want != have
		}
		if !other && (e.q.From == 0 || e.q.From == a.FromVersion) && (e.q.To == 0 || e.q.To == a.ToVersion) && shown(a) {
			fits = append(fits, a)
		}
	}
	switch len(fits) {
	case 0:
		return nil, &Error{Code: CodeNotFound, Detail: "no row of " + e.q.Report + " fits"}
	case 1:
		return fits[0], nil
	}
	return nil, wrong("account", "several rows fit: name processing_month, account, plan, meter, region, platform, trial, figure and from_version of one")
}

// shownOfAssets tells which adjustments the report asset-adjustments shows of the organization.
func (e *explanation) shownOfAssets(ctx context.Context) (func(*Adjustment) bool, error) {
	values := map[string]string{}
	for _, name := range []string{"organization", "processing_month"} {
		value, err := e.need(name, "as of the report")
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	answer, err := e.RunAt(ctx, Query{Tenant: e.q.Tenant, Report: e.q.Report, Values: values}, e.cut)
	if err != nil {
		return nil, err
	}
	rows := map[string]bool{}
	for row, err := range answer.Rows {
		if err != nil {
			return nil, err
		}
		rows[strings.Join(row[:12], "\x00")] = true // all but the two numbers
	}
	return func(a *Adjustment) bool {
		return rows[strings.Join([]string{
			a.ProcessingMonth, a.UsageMonth, a.Type, a.Account, a.Plan, a.Meter, a.Region, a.Platform, sheet.Boolean(a.Trial), a.Measure,
			strconv.Itoa(a.FromVersion), strconv.Itoa(a.ToVersion),
		}, "\x00")]
	}, nil
}

// bounds sets the states of the log before and after what the adjustment tells became known.
func (e *explanation) bounds(ctx context.Context, a *Adjustment) error {
	from, err := pick(e.versions, e.month, a.FromVersion)
	if err != nil {
		return err
	}
	to, err := pick(e.versions, e.month, a.ToVersion)
	if err != nil {
		return err
	}
	months, borders, err := e.Processing(ctx, e.q.Tenant, e.month, from.cut, to.cut)
	if err != nil {
		return err
	}
	for i, m := range months {
		if m.String() == a.ProcessingMonth {
			e.older, e.cut = &borders[i], borders[i+1]
		}
	}
	if e.older == nil {
		return &Error{Code: CodeNotFound, Detail: "nothing that became known in " + a.ProcessingMonth + " is in the log any more"}
	}
	e.out.Version, e.out.AsOf, e.out.Positions = a.ToVersion, Instant(e.cut.AsOf), e.cut.positions()
	e.state, err = e.directoryAt(ctx, e.q.Tenant, e.cut)
	return err
}

// adjustedFigure computes the figure again at both states.
func (e *explanation) adjustedFigure(ctx context.Context, a *Adjustment) error {
	_, asset := assetMeters(e.state)[a.Meter]
	switch {
	case a.Measure != MeasureQuantity:
		if err := e.usersOf(ctx, a.Account, a.Plan, a.Measure); err != nil {
			return err
		}
		return e.storedUsers(ctx, a.Account, a.Plan, a.Measure)
	case asset && (a.Currency != "" || a.CostDelta != ""):
		return e.adjustedAssets(ctx, a)
	case e.out.Measure == measureCostDelta:
		return wrong("measure", "the figure has no cost: want "+measureDelta)
	}
	e.out.Measure = MeasureQuantity
	m := &metered{
		from: e.month.Start().Millis(), to: e.month.End().Millis(), meter: a.Meter, accounts: []string{a.Account},
		filters: map[string]string{"plan": a.Plan, "region": a.Region, "platform": a.Platform, "trial": boolText(a.Trial)},
	}
	if err := e.measure(ctx, m); err != nil {
		return err
	}
	return e.storedNumbers(ctx, a.Account, m)
}

// adjustedAssets does so for usage of assets, or what it costs.
func (e *explanation) adjustedAssets(ctx context.Context, a *Adjustment) error {
	var err error
	before := *e
	before.out, before.older, before.cut = &Explanation{Measure: e.out.Measure}, nil, *e.older
	if before.state, err = e.directoryAt(ctx, e.q.Tenant, before.cut); err != nil {
		return err
	}
	for _, side := range []*explanation{&before, e} {
		m := &metered{
			from: e.month.Start().Millis(), to: e.month.End().Millis(), meter: a.Meter, accounts: []string{a.Account},
			filters: map[string]string{"plan": a.Plan, "region": a.Region, "trial": boolText(a.Trial)},
		}
		asked, err := side.assetPiecesOf(ctx, m)
		if err != nil {
			return err
		}
		side.out.Evidence, side.all = formatAmount(asked.quantity), asked.all
		side.out.How = "the sum of what the pieces count: records are cut at midnights and where a trial ends, and count from the registration of their asset on"
		if e.out.Measure == measureCostDelta && len(asked.all) > 0 { // without usage there is no row, and no cost
			organization := side.state.Tree(side.month.End().Millis()).Parent(a.Account)
			if err := side.price(a.Meter, a.Region, currencyOf(side.state, side.month, costKey{account: a.Account, meter: a.Meter}, organization), a.Trial, asked.quantity); err != nil {
				return err
			}
		}
	}
	return e.less(ctx, &before)
}
