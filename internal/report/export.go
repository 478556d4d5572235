package report

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Writer writes the answer as a file; raw leaves the guard of CSV against formulas out.
func (a *Answer) Writer(f sheet.Format, raw bool) sheet.Writer {
	switch f {
	case sheet.FormatCSV:
		return sheet.CSV{Delimiter: a.Delimiter, Raw: raw}
	case sheet.FormatPipe:
		return sheet.CSV{Delimiter: '|', Raw: raw}
	}
	return f.Writer()
}

// Check finds what is wrong with a question without an answer to it: it is asked of an empty log. What only
// the log can tell, such as an account that does not exist, is left for the answer.
func (r *Reports) Check(ctx context.Context, q Query) error {
	d, ok := Define(q.Report)
	if !ok {
		return &Error{Code: CodeNotFound, Parameter: "report", Detail: "no report " + q.Report}
	}
	if err := d.check(q.Values); err != nil {
		return err
	}
	q.Cut, q.Skip, q.Limit = &Cut{AsOf: 1, Shards: map[uint16]uint64{}}, 0, 1
	result, err := r.Run(ctx, q)
	if err != nil {
		return err
	}
	for _, err := range result.Rows {
		return err
	}
	return nil
}

// Dated is a question without periods that move with the clock: asked later it means the same.
func (q Query) Dated(now time.Time) (Query, error) {
	d, ok := Define(q.Report)
	if !ok || !d.has("period") {
		return q, nil
	}
	ask := Ask{Tenant: q.Tenant, Now: now, values: q.Values}
	from, until, err := ask.period()
	if err != nil {
		return q, err
	}
	q.Values = maps.Clone(q.Values)
	delete(q.Values, "period")
	q.Values["from"] = time.UnixMilli(from).UTC().Format(time.DateOnly)
	q.Values["to"] = time.UnixMilli(until - dayMillis).UTC().Format(time.DateOnly)
	return q, nil
}

func (d Definition) has(parameter string) bool {
	return slices.ContainsFunc(d.Parameters, func(p Parameter) bool { return p.Name == parameter })
}

// Settled is the state of the log that a question is about, fixed.
type Settled struct {
	Cut     Cut
	Version int    // of the closed month that it is; 0: none
	State   string // of the month, where the question is about one
}

// Settle fixes what a question is about, so that the same answer can be made again at any time, to the same
// bytes. Of a closed month that is the newest version, unless the question says otherwise.
func (r *Reports) Settle(ctx context.Context, q Query) (Settled, error) {
	s, err := r.settle(ctx, q)
	s.Cut.Now = false
	return s, err
}

// settle is Settle, where rollups may answer for the watermark.
func (r *Reports) settle(ctx context.Context, q Query) (Settled, error) {
	cut, err := r.cut(ctx, q)
	if err != nil {
		return Settled{}, err
	}
	s := Settled{Cut: cut, Version: q.Version}
	if m, err := usage.ParseMonth(q.Values["month"]); err == nil {
		// The versions are read once: one that is published meanwhile is in neither the state nor the cut.
		all, err := r.Versions(ctx, q.Tenant, m)
		if err != nil {
			return Settled{}, err
		}
		if s.State = monthState(m, r.now()); len(all) > 0 {
			s.State = StateClosed
		}
		// An instant is never a version, even where it is the one that a version was closed as of: the version
		// may come, or another row of that instant, after the instant was first asked about.
		if v, closed := newest(all); closed && cut.Now && q.Report == "monthly-usage" {
			s.Cut, s.Version = v.cut, v.Version
		}
	}
	return s, nil
}
