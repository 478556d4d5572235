package months

import (
	"context"
	"errors"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// adjust compares a month with its last version and splits what changed by the month in which it became
// known: recorded_at of the late events. Where they are of several months, the month is computed at each
// border between them, from the rows of the version and the late ones up to the border. Each difference
// belongs to one border, so that all of them together are the whole difference, whatever the figures are.
func (k *Keeper) adjust(ctx context.Context, q Request, last control.MonthVersion, cut report.Cut, now *content) ([]report.Adjustment, error) {
	older, err := k.stored(ctx, q.Tenant, q.Month, last.CloseID)
	if err != nil {
		return nil, err
	}
	late, borders, err := k.Reports.Processing(ctx, q.Tenant, q.Month, cutOf(last), cut)
	if err != nil {
		return nil, err
	}
	states := []*content{older}
	for _, border := range borders[1:len(late)] {
		then, err := k.compute(ctx, q, border)
		if err != nil {
			return nil, err
		}
		states = append(states, then)
	}
	figures := figuresOf(append(states, now)...)
	var all []report.Adjustment
	for i, processing := range late {
		changes, err := difference(figures[i], figures[i+1])
		if err != nil {
			return nil, err
		}
		for _, c := range changes {
			all = append(all, report.Adjustment{
				ProcessingMonth: processing.String(), UsageMonth: q.Month.String(), Type: report.AdjustmentSystem,
				Account: c.Account, Plan: c.Plan, Meter: c.Meter, Region: c.Region, Platform: c.Platform, Trial: c.Trial, Measure: c.Measure,
				FromVersion: last.Version, ToVersion: last.Version + 1, Delta: c.Delta, CostDelta: c.CostDelta, Currency: c.Currency,
			})
		}
	}
	return all, nil
}

// figuresOf are the figures that adjustments compare, of each state. What one of them tells by another figure
// is left out of all, or its disappearance would look like a change.
func figuresOf(states ...*content) [][]report.Figure {
	already := report.Told{}
	for _, c := range states {
		already.Add(c.figures)
	}
	all := make([][]report.Figure, len(states))
	for i, c := range states {
		all[i] = report.AllFigures(c.rows, c.figures, already)
	}
	return all
}

// stored is what a version says.
func (k *Keeper) stored(ctx context.Context, tenant string, m usage.Month, closeID string) (*content, error) {
	rows, err := k.Reports.StoredRows(ctx, tenant, m, closeID)
	if err != nil {
		return nil, err
	}
	figures, err := k.Reports.StoredFigures(ctx, tenant, m, closeID)
	if err != nil {
		return nil, err
	}
	return &content{rows, figures}, nil
}

// Difference is what two versions of a month tell differently, and the events behind it.
type Difference struct {
	From, To report.Version
	Changes  []Change
	Events   []report.LateEvent // at most the number asked for, oldest recorded first
}

// Diff compares two versions of a month. to 0 is the newest version, from 0 the one before it.
func (k *Keeper) Diff(ctx context.Context, tenant string, m usage.Month, from, to, events int) (*Difference, error) {
	d := &Difference{}
	var err error
	if d.To, err = k.Reports.Version(ctx, tenant, m, to); err != nil {
		return nil, naming(err, "to")
	}
	if from == 0 {
		if from = d.To.Version - 1; from == 0 {
			return nil, &report.Error{Code: report.CodeNoVersion, Parameter: "from", Detail: "month " + m.String() + " has no version before version 1"}
		}
	}
	if d.From, err = k.Reports.Version(ctx, tenant, m, from); err != nil {
		return nil, naming(err, "from")
	}
	older, err := k.stored(ctx, tenant, m, d.From.CloseID)
	if err != nil {
		return nil, err
	}
	newer, err := k.stored(ctx, tenant, m, d.To.CloseID)
	if err != nil {
		return nil, err
	}
	figures := figuresOf(older, newer)
	if d.Changes, err = difference(figures[0], figures[1]); err != nil {
		return nil, err
	}
	first, second := d.From.Cut(), d.To.Cut()
	if d.From.Version > d.To.Version {
		first, second = second, first
	}
	d.Events, err = k.Reports.LateEvents(ctx, tenant, m, first, second, events)
	return d, err
}

// naming is a version that does not exist, by the parameter that named it.
func naming(err error, parameter string) error {
	var missing *report.Error
	if errors.As(err, &missing) && missing.Code == report.CodeNoVersion {
		return &report.Error{Code: missing.Code, Parameter: parameter, Detail: missing.Detail}
	}
	return err
}
