package report

import "context"

// RunAt makes a report at a cut that the caller has settled: the same rows of the same tables, whoever asks and
// when. It is how two sets of tables are compared (package rebuild); AsOf and Version of q are not used.
func (r *Reports) RunAt(ctx context.Context, q Query, cut Cut) (*Answer, error) {
	d, ok := Define(q.Report)
	if !ok {
		return nil, &Error{Code: CodeNotFound, Detail: "no report " + q.Report}
	}
	if err := d.check(q.Values); err != nil {
		return nil, err
	}
	return d.Run(ctx, r, Ask{Tenant: q.Tenant, Cut: cut, Export: q.Export, Now: r.now(), values: q.Values})
}

// CutNow is the watermark of this moment as a cut that stays what it is: rollups, which move on, do not answer it.
func (r *Reports) CutNow(ctx context.Context) (Cut, error) {
	w, err := r.Watermark(ctx)
	if err != nil {
		return Cut{}, err
	}
	return w.cut(int64(w.At))
}
