package report

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// explainSince explains how a number changed between what was known at two instants: it is explained at both, and the
// events are those that count in only one of the two, or for something else. Where one of the two reports has no such
// row there is nothing of it, as it is with versions.
func (r *Reports) explainSince(ctx context.Context, q ExplainQuery) (*Explanation, error) {
	switch {
	case q.Report == ReportAdjustments || q.Report == "asset-adjustments":
		return nil, wrong("from_as_of", "an adjustment is between two versions: from_version and to_version")
	case q.Version != 0 || q.From != 0 || q.To != 0:
		return nil, wrong("from_as_of", "goes with as_of, not with versions")
	case q.AsOf < q.Since:
		return nil, wrong("from_as_of", "want an instant before as_of")
	}
	newer := q.Cut
	if newer == nil {
		cut, err := r.CutAt(ctx, q.AsOf)
		if err != nil {
			return nil, err
		}
		newer = &cut
	}
	older, err := r.CutAt(ctx, q.Since)
	if err != nil {
		return nil, err
	}
	before, errBefore := r.explainWhole(ctx, q, older)
	now, errNow := r.explainWhole(ctx, q, *newer)
	switch {
	case errNow != nil && (errBefore != nil || !isMissing(errNow)):
		return nil, errNow
	case errBefore != nil && !isMissing(errBefore):
		return nil, errBefore
	case errNow != nil:
		now = &Explanation{How: before.How, Positions: newer.positions(), AsOf: Instant(newer.AsOf), Measure: before.Measure, Versions: []VersionNumber{}}
	case errBefore != nil:
		before = &Explanation{}
	}
	return r.betweenInstants(ctx, q, before, now, older, *newer)
}

// explainWhole explains a number at a cut, with all of its events as far as two lists of them are compared.
func (r *Reports) explainWhole(ctx context.Context, q ExplainQuery, cut Cut) (*Explanation, error) {
	q.Since, q.AsOf, q.Cut, q.Skip, q.Limit = 0, directory.Latest, &cut, 0, comparedMax
	q.Values = maps.Clone(q.Values) // an explainer may write down which row there is
	return r.Explain(ctx, q)
}

// isMissing reports whether a report has no such row at an instant, or no such account: it may have come later.
func isMissing(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Code == CodeNotFound
}

// betweenInstants is the difference of two explanations of a number.
func (r *Reports) betweenInstants(ctx context.Context, q ExplainQuery, before, now *Explanation, older, newer Cut) (*Explanation, error) {
	e := &explanation{Reports: r, q: q, out: now}
	var err error
	if now.Number, err = minus(now.Number, before.Number); err != nil {
		return nil, err
	}
	if now.Evidence, err = minus(now.Evidence, before.Evidence); err != nil {
		return nil, err
	}
	since := Instant(older.AsOf)
	now.Report, now.Key, now.Since, now.Cut, now.Explained = q.Report, q.Values, &since, newer, now.Number == now.Evidence
	now.Rollup, now.Cells, now.Tiers = []RollupCell{}, 0, nil
	between := fmt.Sprintf("; the difference of what was known at %s and at %s, and ", since, Instant(newer.AsOf))
	if max(before.Total, now.Total) > comparedMax {
		now.How += between + "the rows of the later one"
		e.q.Limit = min(e.limit(), comparedMax)
		total := now.Total
		e.list(now.Events)
		now.Total = total
	} else {
		all, err := changed(before.Events, now.Events)
		if err != nil {
			return nil, err
		}
		now.How += between + "the rows that count in only one of them"
		e.list(all)
		if told, err := addsUp(all, now.Number); told || err != nil {
			return now, err
		}
	}
	if text, ok := q.Values["month"]; ok {
		m, err := usage.ParseMonth(text)
		if err != nil {
			return nil, wrong("month", "want a month as YYYY-MM")
		}
		now.Late, err = r.LateEvents(ctx, q.Tenant, m, older, newer, e.limit())
		return now, err
	}
	return now, nil
}

// addsUp reports whether rows make a difference by what they count, so that nothing else has to be told of it.
func addsUp(all []Evidence, number string) (bool, error) {
	for i := range all {
		var err error
		if number, err = minus(number, all[i].Counts); err != nil {
			return false, err
		}
	}
	return number == "0", nil
}
