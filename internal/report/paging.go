package report

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

const (
	keptRowsMax   = 50_000  // of one answer that is kept for the pages after the first: some 25 MB
	keptRowsTotal = 200_000 // of all of them
)

// Place is where a page begins, in which answer. It is what a cursor carries.
type Place struct {
	Question string `json:"question"`
	Cut      Cut    `json:"cut"`
	Version  int    `json:"version,omitempty"`
	Skip     int    `json:"skip"`
	Loose    bool   `json:"loose,omitempty"` // the rows may hold a little more than the cut: only as they were kept
}

// Page is some rows of a report. Next is nil on the last page.
type Page struct {
	*Result
	Rows []sheet.Row
	Next *Place
}

// Page makes a page of at most limit rows, the one at a place or, if that is nil, the first. All pages of an
// answer are of the same state of the log and agree with each other.
func (r *Reports) Page(ctx context.Context, q Query, at *Place, limit int) (*Page, error) {
	question := q.question()
	if err := guarded(ctx, q.guarded()); err != nil {
		return nil, err // also for rows that are kept
	}
	if at == nil {
		return r.firstPage(ctx, q, question, limit)
	}
	if at.Question != question {
		return nil, &Error{Code: CodeCursor, Parameter: "cursor", Detail: "the cursor belongs to another question; start again without it"}
	}
	if kept := r.answers.get(at.name(q.Tenant)); kept != nil {
		return kept.cut(*at, limit), nil
	}
	if at.Loose {
		return nil, &Error{Code: CodeCursor, Parameter: "cursor", Detail: "the rows of this answer are no longer kept; start again without cursor, with as_of for pages that do not depend on it"}
	}
	q.Cut, q.Version, q.Skip, q.Limit = &at.Cut, at.Version, at.Skip, limit+1
	result, err := r.Run(ctx, q)
	if err != nil {
		return nil, err
	}
	rows, err := result.read(at.Skip, limit+1)
	if err != nil {
		return nil, err
	}
	return (&answer{result, rows, at.Skip}).cut(*at, limit), nil
}

// firstPage also keeps the rows of an answer that had to be computed as a whole.
func (r *Reports) firstPage(ctx context.Context, q Query, question string, limit int) (*Page, error) {
	q.Limit = limit + 1
	result, err := r.Run(ctx, q)
	if err != nil {
		return nil, err
	}
	at := Place{Question: question, Cut: result.Cut, Version: result.Version}
	at.Cut.Now = false
	if result.Seeks {
		rows, err := result.read(0, limit+1)
		return (&answer{result: result, rows: rows}).cut(at, limit), err
	}
	rows, err := result.read(0, keptRowsMax+1)
	if err != nil {
		return nil, err
	}
	page := &answer{result: result, rows: rows}
	if len(rows) <= limit {
		return page.cut(at, limit), nil
	}
	if result.Cut.Now {
		w, err := r.Watermark(ctx)
		if err != nil {
			return nil, err
		}
		at.Loose = !maps.Equal(w.Positions, result.Positions)
	}
	if len(rows) <= keptRowsMax {
		return r.answers.put(at.name(q.Tenant), page, len(rows)).cut(at, limit), nil
	}
	if !at.Loose {
		return page.cut(at, limit), nil
	}
	// Too much to keep, and perhaps ahead of its cut: once more, exactly.
	at.Loose, q.Cut = false, &at.Cut
	if result, err = r.Run(ctx, q); err != nil {
		return nil, err
	}
	rows, err = result.read(0, limit+1)
	return (&answer{result: result, rows: rows}).cut(at, limit), err
}

// question tells questions apart: every page must be of the same one.
func (q Query) question() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %d %d %t", q.Report, q.AsOf, q.Version, q.Export)
	for _, name := range slices.Sorted(maps.Keys(q.Values)) {
		fmt.Fprintf(h, " %q %q", name, q.Values[name])
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// name of the answer that a place is in.
func (p Place) name(tenant string) string {
	cut, _ := json.Marshal(p.Cut) // numbers only: never fails
	return tenant + " " + p.Question + " " + string(cut)
}

// read collects rows from `from` on, at most n.
func (r *Result) read(from, n int) ([]sheet.Row, error) {
	rows := []sheet.Row{}
	i := 0
	if r.Seeks {
		i = from
	}
	for row, err := range r.Table.Rows {
		if err != nil {
			return nil, err
		}
		if i++; i <= from {
			continue
		}
		if rows = append(rows, slices.Clone(row)); len(rows) >= n {
			break
		}
	}
	return rows, nil
}

// answer is rows of a result, from a row on.
type answer struct {
	result *Result
	rows   []sheet.Row
	from   int
}

// cut is the page at a place.
func (a *answer) cut(at Place, limit int) *Page {
	rows := a.rows[min(max(at.Skip-a.from, 0), len(a.rows)):]
	if len(rows) <= limit {
		return &Page{Result: a.result, Rows: rows}
	}
	at.Skip += limit
	return &Page{Result: a.result, Rows: rows[:limit], Next: &at}
}
