package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// tellEvery is how often other reporters are told how far a job is.
const tellEvery = 2 * time.Second

// errChanged is a file that was made again and is not the same: a promise was broken.
var errChanged = errors.New("the file was made again and its bytes are not the same")

// final reports whether an error will be the same at the next try; bad is set where the asker can do something.
func final(err error, bad **report.Error) bool {
	if errors.As(err, bad) {
		return (*bad).Code != report.CodeNotSettled
	}
	var limit *sheet.LimitError
	if errors.As(err, &limit) {
		*bad = &report.Error{Code: report.CodeParameter, Parameter: "format", Detail: limit.Error()}
		return true
	}
	return errors.Is(err, errChanged)
}

// reason is an error as people see it: what it is to them, without addresses of servers.
func reason(err error) string {
	switch {
	case errors.Is(err, errChanged):
		return errChanged.Error()
	case errors.Is(err, control.ErrFilesFull):
		return "there is no room for more files"
	case errors.Is(err, control.ErrUnavailable):
		return "the files could not be reached"
	case errors.Is(err, context.DeadlineExceeded):
		return "it took longer than a job may"
	case warehouse.Exceeded(err) != warehouse.Unbounded:
		return "it takes ClickHouse longer, or more memory, than a question may"
	case warehouse.Unavailable(err):
		return "the warehouse could not answer"
	}
	return "a defect of this program; its log says more"
}

// make writes the file of a job and its manifest under names that nobody else uses. The job's cut is settled
// first, and written, so that every later try is about the same.
func (d *Desk) make(ctx context.Context, j *control.Job, w *work) (*control.JobFile, *control.JobCut, error) {
	if err := d.judge(ctx, j); err != nil {
		return nil, nil, err
	}
	ctx = warehouse.Bounded(ctx, warehouse.Bounds{Time: d.cfg.Time})
	q := report.Query{Tenant: j.Tenant, Report: j.Report, Values: j.Parameters, Version: j.Version, AsOf: directory.Latest, Export: j.Format != string(sheet.FormatJSON)}
	if err := d.settleCut(ctx, j, q); err != nil {
		return nil, nil, err
	}
	faultpoint.Hit("jobs/settled")
	q.Cut, q.Version = cutOf(j.Cut), j.Cut.Version
	result, err := d.parts.Reports.Run(ctx, q)
	if err != nil {
		return nil, j.Cut, err
	}
	format := sheet.Format(j.Format)
	tally, bars := sheet.NewTally(result.Columns), newCharting(j.Report, result.Columns)
	table := sheet.Table{Columns: result.Columns, Rows: tally.Of(watched(ctx, result.Rows, w), func(row sheet.Row) {
		w.rows.Add(1)
		if bars != nil {
			bars.add(row)
		}
	})}
	telling, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() { defer close(told); d.tell(telling, j, w) }()
	stored, err := d.store(ctx, objectName(j, format.Extension()), func(out io.Writer) error { return write(out, result, table, format, j.Raw) })
	stop()
	<-told
	if err != nil {
		return nil, j.Cut, err
	}
	faultpoint.Hit("jobs/file-stored")
	f := control.JobFile{
		Object: stored.Name, Name: sheet.FileName(result.FileName, format), Bytes: stored.Bytes, SHA256: stored.SHA256, Rows: tally.Rows,
		Columns: len(result.Columns), MadeAt: d.now(),
	}
	if have := j.File; have != nil && (have.SHA256 != f.SHA256 || have.Bytes != f.Bytes) {
		d.drop(context.WithoutCancel(ctx), &f)
		return nil, j.Cut, fmt.Errorf("%w: sha256 %s then, %s now", errChanged, have.SHA256, f.SHA256)
	}
	body, err := newManifest(j, f, result.Columns, tally, bars.chart()).reader()
	if err != nil {
		return nil, j.Cut, err
	}
	manifest, err := d.files.Put(ctx, objectName(j, ".manifest.json"), body)
	if err != nil {
		d.drop(context.WithoutCancel(ctx), &f)
		return nil, j.Cut, err
	}
	f.Manifest = manifest.Name
	faultpoint.Hit("jobs/manifest-stored")
	if err := d.judge(ctx, j); err != nil { // it may have taken an hour
		d.drop(context.WithoutCancel(ctx), &f)
		return nil, j.Cut, err
	}
	return &f, j.Cut, nil
}

// objectName is used once: by one claim of one job.
func objectName(j *control.Job, ending string) string {
	return j.Tenant + "/" + j.ID + "/" + strconv.Itoa(j.Claims) + ending
}

// settleCut fixes the state of the log that a job is about, unless an earlier try did.
func (d *Desk) settleCut(ctx context.Context, j *control.Job, q report.Query) error {
	if j.Cut != nil {
		return nil
	}
	if at, err := usage.ParseInstant(j.AsOf); err == nil {
		q.AsOf = at.Millis()
	}
	s, err := d.parts.Reports.Settle(ctx, q)
	if err != nil {
		return err
	}
	settled := *j
	settled.Cut = &control.JobCut{AsOf: time.UnixMilli(s.Cut.AsOf).UTC(), Positions: s.Cut.Shards, Version: s.Version, State: s.State}
	written := d.settle(ctx, settled, "settled")
	if written == nil {
		return errTaken
	}
	*j = *written
	return nil
}

// watched ends the rows when the job is no longer this reporter's.
func watched(ctx context.Context, rows iter.Seq2[sheet.Row, error], w *work) iter.Seq2[sheet.Row, error] {
	return func(yield func(sheet.Row, error) bool) {
		for row, err := range rows {
			if err == nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if err == nil && w.rows.Load() == 1 {
				faultpoint.Hit("jobs/row-written")
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// write writes a file: a table, or the document of a report that is none where JSON is asked for.
func write(out io.Writer, result *report.Result, table sheet.Table, format sheet.Format, raw bool) error {
	if format != sheet.FormatJSON || result.Document == nil {
		return result.Writer(format, raw).Write(out, table)
	}
	for _, err := range table.Rows { // for the tally
		if err != nil {
			return err
		}
	}
	body, err := json.Marshal(result.Document)
	if err == nil {
		_, err = out.Write(append(body, '\n'))
	}
	return err
}

// store streams what write writes into the store: memory does not grow with it.
func (d *Desk) store(ctx context.Context, name string, write func(io.Writer) error) (control.StoredFile, error) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := write(w)
		_ = w.CloseWithError(err) // nil ends the file
		done <- err
	}()
	stored, err := d.files.Put(ctx, name, r)
	_ = r.CloseWithError(errTaken) // a writer that nobody reads any more
	if failed := <-done; failed != nil && !errors.Is(failed, errTaken) {
		return stored, failed // why the file ended
	}
	if err == nil && stored.SHA256 == "" {
		err = errors.New("the store gave no digest")
	}
	return stored, err
}

// tell lets others know how far the job is, until ctx ends.
func (d *Desk) tell(ctx context.Context, j *control.Job, w *work) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := d.files.Progress(ctx, j.Tenant, j.ID, w.rows.Load()); err != nil && ctx.Err() == nil {
			d.log.Debug("progress not told", zap.String("job", j.ID), zap.Error(err))
		}
	}
}

// dropUnnamed removes a file whose job could not be told of it, unless the job was told and its answer was lost. Where
// nobody knows, the sweep will.
func (d *Desk) dropUnnamed(ctx context.Context, j *control.Job, f *control.JobFile) {
	have, err := d.parts.Control.Job(ctx, j.Tenant, j.ID)
	if err == nil && (have.File == nil || have.File.Object != f.Object) {
		d.drop(ctx, f)
	}
}

// drop removes a file that no job names.
func (d *Desk) drop(ctx context.Context, f *control.JobFile) {
	for _, name := range []string{f.Object, f.Manifest} {
		if name == "" {
			continue
		}
		if err := d.files.Remove(ctx, name); err != nil {
			d.log.Debug("file not removed; the next sweep will", zap.String("file", name), zap.Error(err))
		}
	}
}
