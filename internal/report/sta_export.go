package report

import (
	"context"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// staRecord is an account in a month, as exports say it.
type staRecord struct {
	x, month     int
	account      directory.Account // at the month's end, or as near as it ever was
	parent       directory.Account // the zero value for none
	status, data string
}

// placesOf are the accounts of a scope, in order, and their months: one each, but for months at whose end the account
// exists outside the scope.
func (b *staBook) placesOf(q *staAsk, scope string) []staPlace {
	root := b.index[q.account]
	from, to := q.months[0].Start().Millis(), q.months[len(q.months)-1].End().Millis()
	order := staScopeOf(b, q.state, root, scope, from, to).inOrder(b, q.state, root, to-1)
	places := make([]staPlace, 0, len(order)*len(q.months))
	for _, x := range order {
		for i := range q.months {
			m := &b.months[i]
			outside := x != root && (scope == "children" && m.parent[x] != root || !m.below[x])
			if !m.exists[x] || !outside {
				places = append(places, staPlace{x, int32(i)})
			}
		}
	}
	return places
}

// record is an account in a month. Where it does not exist it has the name and the parent that it is going to
// have first, or had last.
func (b *staBook) record(q *staAsk, x, month int) staRecord {
	m, at := &b.months[month], q.months[month].End().Millis()-1
	r := staRecord{x: x, month: month, account: nearest(q.state, b.ids[x], at), data: dataNonExistent}
	switch {
	case m.exists[x] && m.parent[x] < 0:
	case r.account.Parent != "":
		r.parent = nearest(q.state, r.account.Parent, at)
	}
	if m.exists[x] {
		r.status, r.data = staStatus(q.state, b.ids[x], at), dataAvailable
		if m.missing[x] {
			r.data = dataMissing
		}
	}
	return r
}

// nearest is an account at an instant, or, before its creation, as it was created. The zero value stands for one that
// nobody created.
func nearest(state *directory.State, id string, at int64) directory.Account {
	if a, ok := state.Account(id, at); ok {
		return a
	}
	ever, _ := state.Account(id, directory.Latest)
	a, _ := state.Account(id, ever.CreatedAt)
	return a
}

func (r *Reports) staExport(ctx context.Context, q *staAsk, ask Ask) (*Answer, error) {
	scope := ask.Text("scope")
	if scope == "" {
		scope = "children"
	}
	a := &Answer{FileName: q.staFileName()}
	a.Columns = staExportColumns()
	end := q.months[len(q.months)-1].End().Millis()
	if _, ok := q.state.Account(q.account, end-1); !ok {
		a.Rows = sheet.Of(q.unborn())
		return a, nil
	}
	b, err := r.staRead(ctx, q, staNeed{staNumbers{population: true, activity: true}, scope})
	if err != nil {
		return nil, err
	}
	// Of a page, only its rows are made.
	a.Seeks = true
	a.Rows = func(yield func(sheet.Row, error) bool) {
		for _, p := range pageOf(b.places, ask) {
			if !yield(b.exportRow(q, b.record(q, int(p.x), int(p.month))), nil) {
				return
			}
		}
	}
	incomplete := b.incomplete(q)
	a.Extra = func(row sheet.Row) map[string]any {
		return map[string]any{"tree_complete": !incomplete[row[1]+" "+row[4]]}
	}
	return a, nil
}

// unborn are the rows of an account that was created after the range.
func (q *staAsk) unborn() []sheet.Row {
	var rows []sheet.Row
	for _, m := range q.months {
		a := nearest(q.state, q.account, m.End().Millis()-1)
		parent := nearest(q.state, a.Parent, m.End().Millis()-1)
		row := make(sheet.Row, len(staExportColumns()))
		copy(row, sheet.Row{a.Name, a.ID, parent.Name, parent.ID, m.String(), "", dataNonExistent})
		rows = append(rows, row)
	}
	return rows
}

// incomplete are the accounts and months, as "id month", in whose tree something is missing.
func (b *staBook) incomplete(q *staAsk) map[string]bool {
	all := map[string]bool{}
	for i, m := range q.months {
		for x, complete := range b.months[i].complete {
			if b.months[i].exists[x] && !complete {
				all[b.ids[x]+" "+m.String()] = true
			}
		}
	}
	return all
}

func (b *staBook) exportRow(q *staAsk, r staRecord) sheet.Row {
	row := make(sheet.Row, 0, 8+len(staMeasures)*(1+staPlans))
	m := &b.months[r.month]
	plan := ""
	if p := m.plan[r.x]; p >= 0 {
		plan = directory.STAPlans()[p]
	}
	row = append(row, r.account.Name, b.ids[r.x], r.parent.Name, r.parent.ID, q.months[r.month].String(), r.status, r.data, plan)
	if r.data != dataAvailable {
		return row[:cap(row)] // blank numbers
	}
	number := func(n uint32) { row = append(row, strconv.FormatUint(uint64(n), 10)) }
	for _, n := range m.own[r.x] {
		number(n)
	}
	for _, counts := range m.tree[r.x] {
		for _, n := range counts {
			number(n)
		}
	}
	return row
}
