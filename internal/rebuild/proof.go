package rebuild

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Proof is a report of all tenants, as the old tables and the new ones make it at one cut.
type Proof struct {
	Report    string   `json:"report"`
	Questions int      `json:"questions"`
	LeftOut   int      `json:"left_out"` // beyond Options.Questions
	Refused   int      `json:"refused"`  // answered with an error, the same on both sides
	Rows      uint64   `json:"rows"`
	Before    string   `json:"before"` // SHA-256 of the hashes of all answers, in order
	After     string   `json:"after"`
	Differ    []string `json:"differ"` // questions whose answers differ, at most differMax of them
	answers   []answer
}

// Same reports whether both sides gave the same bytes.
func (p Proof) Same() bool { return p.Before == p.After }

// differMax bounds what is named of a report.
const differMax = 20

// TableProof is a table whose rows, up to the cut, were compared.
type TableProof struct {
	Server    string `json:"server"`
	Table     string `json:"table"`
	Rows      uint64 `json:"rows"`
	RowsAfter uint64 `json:"rows_after"`
	Before    string `json:"before"` // sum of the hashes of all rows
	After     string `json:"after"`
}

// Same reports whether the rows are the same.
func (p TableProof) Same() bool { return p.Before == p.After }

// answer is what one question was answered.
type answer struct {
	query report.Query
	sum   [sha256.Size]byte
}

// prove audits the new tables, compares their rows with the old ones', and then all reports.
func (r *run) prove(ctx context.Context, before, after *report.Reports, cut report.Cut) error {
	if err := r.audit(ctx); err != nil {
		return err
	}
	for i, w := range r.old.All() {
		if err := r.compareTables(ctx, w, r.twins.All()[i], cut); err != nil {
			return err
		}
	}
	if err := r.compareReports(ctx, before, after, cut); err != nil {
		return err
	}
	var wider error // than was made again
	for _, t := range r.result.Tables {
		if !t.Same() {
			r.result.Difference++
			if len(r.Only) > 0 && !r.only(t.Server, t.Table) {
				wider = errors.Join(wider, fmt.Errorf("%w: %s of %s, of which nothing was made again", ErrDiffer, t.Table, t.Server))
			}
		}
	}
	for _, p := range r.result.Reports {
		if !p.Same() {
			r.result.Difference++
		}
	}
	if wider != nil {
		return wider
	}
	if r.result.Difference > 0 && !r.AcceptDifferences {
		return fmt.Errorf("%w: %d tables and reports; audit the old ones, and if they are damaged accept the differences", ErrDiffer, r.result.Difference)
	}
	return nil
}

// audit compares the new tables with the log, event by event. They are filled on meanwhile.
func (r *run) audit(ctx context.Context) error {
	auditor := audit.New(r.Log, r.twins.Reader(), r.zap)
	defer auditor.Close()
	var c *audit.Certificate
	if err := r.patiently(ctx, "audit the new tables", func(ctx context.Context) (err error) {
		c, err = auditor.Run(ctx, audit.Options{Progress: func(done, total uint64) {
			r.Progress(Progress{Phase: PhaseAudit, Done: done, Total: total})
		}})
		return err
	}); err != nil {
		return err
	}
	r.result.AuditOK, r.result.AuditSHA = c.OK || r.onlyCarried(c), c.SHA256
	if !r.result.AuditOK {
		return fmt.Errorf("%w: the audit of the new tables found %d differences from the log, the first: %+v", ErrDiffer, c.DifferenceCount, c.Differences[:min(1, len(c.Differences))])
	}
	return nil
}

// onlyCarried reports whether an audit found nothing but that the streams of the rows that were copied are gone.
func (r *run) onlyCarried(c *audit.Certificate) bool {
	for _, d := range c.Differences {
		if !slices.ContainsFunc(r.result.Carried, func(k Carried) bool { return k.Shard == d.Shard }) {
			return false
		}
	}
	return c.DifferenceCount == uint64(len(c.Differences))
}

// compareTables compares what rows say, table by table, up to the cut. Rollups are partials of batches, which
// nobody can cut: the audit has compared them with the rows behind them.
func (r *run) compareTables(ctx context.Context, old, twin *warehouse.Warehouse, cut report.Cut) error {
	for _, name := range warehouse.Projections() {
		p := TableProof{Server: old.Address(), Table: name}
		var compared bool
		if err := r.patiently(ctx, "compare the rows of "+name, func(ctx context.Context) (err error) {
			if p.Rows, p.Before, compared, err = old.Fingerprint(ctx, name, cut.Shards); err != nil || !compared {
				return err
			}
			p.RowsAfter, p.After, _, err = twin.Fingerprint(ctx, name, cut.Shards)
			return err
		}); err != nil {
			return err
		}
		if compared {
			r.result.Tables = append(r.result.Tables, p)
		}
	}
	return nil
}

// compareReports asks both sides everything.
func (r *run) compareReports(ctx context.Context, before, after *report.Reports, cut report.Cut) error {
	var all []*Tenant
	if err := r.patiently(ctx, "list what to ask", func(ctx context.Context) (err error) {
		all, err = tenants(ctx, r.old.Reader(), cut)
		return err
	}); err != nil {
		return err
	}
	if err := r.lend(ctx, false); err != nil {
		return err
	}
	definitions := report.Definitions()
	for n, d := range definitions {
		p := Proof{Report: d.Name, Differ: []string{}}
		was, is := sha256.New(), sha256.New()
		for i, t := range all {
			asked, leftOut := t.Questions(d, max(questionsEach, cmp.Or(r.Questions, QuestionsUsual)/len(all)))
			p.LeftOut += leftOut
			for _, q := range asked {
				p.Questions++
				if err := r.compare(ctx, &p, q, [2]*report.Reports{before, after}, [2]hash.Hash{was, is}, cut); err != nil {
					return err
				}
			}
			r.Progress(Progress{Phase: PhaseReports, Done: uint64(n*len(all) + i + 1), Total: uint64(len(definitions) * len(all))})
		}
		p.Before, p.After = hex.EncodeToString(was.Sum(nil)), hex.EncodeToString(is.Sum(nil))
		r.result.Reports = append(r.result.Reports, p)
	}
	return nil
}

func (r *run) compare(ctx context.Context, p *Proof, q report.Query, sides [2]*report.Reports, sums [2]hash.Hash, cut report.Cut) error {
	sum, rows, refused, err := r.ask(ctx, q, sides, cut)
	if err == nil && sum[0] != sum[1] { // a month may have been closed meanwhile
		if err = r.lend(ctx, true); err == nil {
			sum, rows, refused, err = r.ask(ctx, q, sides, cut)
		}
	}
	if err != nil {
		return err
	}
	for i := range sums {
		sums[i].Write(sum[i][:])
	}
	p.Rows += rows
	if refused {
		p.Refused++
	}
	if sum[0] != sum[1] {
		question := q.Tenant + " " + q.Report + "?" + text(q.Values)
		r.zap.Warn("a report of the new tables differs", zap.String("question", question))
		if len(p.Differ) < differMax {
			p.Differ = append(p.Differ, question)
		}
	}
	p.answers = append(p.answers, answer{q, sum[1]})
	return nil
}

// ask asks both sides one thing.
func (r *run) ask(ctx context.Context, q report.Query, sides [2]*report.Reports, cut report.Cut) (sum [2][sha256.Size]byte, rows uint64, refused bool, err error) {
	for i := range sides {
		if err := r.patiently(ctx, "ask for "+q.Report, func(ctx context.Context) (err error) {
			sum[i], rows, refused, err = Answer(ctx, sides[i], q, cut)
			return err
		}); err != nil {
			return sum, 0, false, err
		}
	}
	return sum, rows, refused, nil
}

// lend gives the new tables copies of what a rebuild leaves alone and reports read: closed months. With again it has
// been done, and only tables that have more rows since are copied: where many answers differ it is asked for each.
func (r *run) lend(ctx context.Context, again bool) error {
	return r.patiently(ctx, "copy closed months", func(ctx context.Context) error {
		for _, w := range r.old.All() {
			twin, found, err := w.Twin(ctx)
			if err != nil {
				return err
			}
			if !found { // the reports of the others would be compared without its closed months
				return fmt.Errorf("%s: %w", w.Address(), errGone)
			}
			was, err := w.Tables(ctx)
			if err != nil {
				return err
			}
			is, err := twin.Tables(ctx)
			if err != nil {
				return err
			}
			for _, table := range warehouse.Closed() {
				if again && was[table].Rows == is[table].Rows {
					continue
				}
				if err := twin.Lend(ctx, table); err != nil {
					return err
				}
				r.lent[w.Address()+" "+table] = was[table].Rows
			}
		}
		return nil
	})
}

// Answer is the SHA-256 of what a report says at a cut: of its CSV, or of the error that it is refused with.
func Answer(ctx context.Context, reports *report.Reports, q report.Query, cut report.Cut) (sum [sha256.Size]byte, rows uint64, refused bool, err error) {
	h := sha256.New()
	a, err := reports.RunAt(ctx, q, cut)
	var no *report.Error
	if errors.As(err, &no) {
		h.Write([]byte(no.Error()))
		return [sha256.Size]byte(h.Sum(nil)), 0, true, nil
	}
	if err != nil {
		return sum, 0, false, err
	}
	if a.Document != nil {
		if err := json.NewEncoder(h).Encode(a.Document); err != nil {
			return sum, 0, false, fmt.Errorf("encode %s: %w", q.Report, err)
		}
	}
	table := a.Table
	table.Rows = func(yield func(sheet.Row, error) bool) {
		for row, err := range a.Rows {
			rows++
			if !yield(row, err) {
				return
			}
		}
	}
	if err := (sheet.CSV{Delimiter: a.Delimiter}).Write(h, table); err != nil {
		return sum, 0, false, fmt.Errorf("read %s: %w", q.Report, err)
	}
	return [sha256.Size]byte(h.Sum(nil)), rows, false, nil
}

// againEvery: behind the exchange the tables are those that were compared, so that a few questions are enough to see
// that they are.
const againEvery = 4

// proveAgain asks some of it once more, of the tables that are in use now.
func (r *run) proveAgain(ctx context.Context, cut report.Cut) error {
	now := report.New(r.old.Reader(), r.clock)
	for i := range r.result.Reports {
		p := &r.result.Reports[i]
		for n, a := range p.answers {
			if n%againEvery != 0 {
				continue
			}
			var sum [sha256.Size]byte
			if err := r.patiently(ctx, "ask for "+p.Report, func(ctx context.Context) (err error) {
				sum, _, _, err = Answer(ctx, now, a.query, cut)
				return err
			}); err != nil {
				return err
			}
			if sum == a.sum {
				continue
			}
			closed, err := r.closedMeanwhile(ctx)
			if err != nil {
				return err
			}
			if !closed {
				return fmt.Errorf("behind the exchange %s?%s of %s answers something else: the old tables are kept; call for help", p.Report, text(a.query.Values), a.query.Tenant)
			}
		}
		r.Progress(Progress{Phase: PhaseAgain, Done: uint64(i + 1), Total: uint64(len(r.result.Reports))})
	}
	return nil
}

// closedMeanwhile reports whether months were closed since the new tables were lent those that were: then a report may
// say something else than a moment ago, and rightly.
func (r *run) closedMeanwhile(ctx context.Context) (closed bool, err error) {
	err = r.patiently(ctx, "look for months that were closed meanwhile", func(ctx context.Context) error {
		closed = false
		for _, w := range r.old.All() {
			tables, err := w.Tables(ctx)
			if err != nil {
				return err
			}
			for _, name := range warehouse.Closed() {
				closed = closed || tables[name].Rows != r.lent[w.Address()+" "+name]
			}
		}
		return nil
	})
	return closed, err
}
