package report_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// Every number of the month is explained by its events, all pages of them together.
func TestEveryRowExplainsItself(t *testing.T) {
	b := setUp(t)
	generator := rapid.Custom(draw)
	histories := make([]*history, 2)
	for i := range histories {
		histories[i] = generator.Example(110 + i)
		b.store(t, fmt.Sprint("tenant-", i), histories[i])
	}
	b.settle(t)
	tried := 0
	for i, h := range histories {
		tenant := fmt.Sprint("tenant-", i)
		for _, asOf := range []int64{directory.Latest, h.all[len(h.all)/2].recorded} {
			for _, row := range b.month(t, tenant, asOf) {
				numbers := [...]struct{ measure, number string }{
					{"quantity", row.Quantity}, {"events", fmt.Sprint(row.Events)}, {"quantity_tree", row.QuantityTree}, {"events_tree", fmt.Sprint(row.EventsTree)},
				}
				for _, n := range numbers {
					if tried++; tried%explainedEvery != 0 {
						continue
					}
					b.explained(t, report.ExplainQuery{Tenant: tenant, AsOf: asOf, Values: map[string]string{
						"month": "2026-03", "account": row.Account, "meter": row.Meter, "plan": row.Plan, "region": row.Region, "platform": row.Platform,
						"trial": fmt.Sprint(row.Trial), "measure": n.measure,
					}}, n.number)
				}
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d numbers were tried", tried)
	}
}

// explained checks a number's explanation, and that pages of it are the whole.
func (b bench) explained(t testing.TB, q report.ExplainQuery, number string) {
	t.Helper()
	q.Limit = 1000
	e, err := b.reports.Explain(t.Context(), q)
	if err != nil {
		t.Fatalf("%v: %v", q.Values, err)
	}
	if !e.Explained || e.Number != number || int64(len(e.Events)) != min(e.Total, 1000) {
		t.Fatalf("%v as of %d: number %s, evidence %s, the report has %s, %d of %d events", q.Values, q.AsOf, e.Number, e.Evidence, number, len(e.Events), e.Total)
	}
	if len(e.Events) < 2 {
		return
	}
	page, err := b.reports.Explain(t.Context(), report.ExplainQuery{Tenant: q.Tenant, Report: q.Report, Values: q.Values, Skip: 1, Limit: 1, Cut: &e.Cut})
	if err != nil || len(page.Events) != 1 || page.Events[0] != e.Events[1] {
		t.Fatalf("%v: the second event is %v, %v; want %v", q.Values, page.Events, err, e.Events[1])
	}
}

// Every running total of the Elastic table is explained by the lines before it.
func TestElasticRowsExplainThemselves(t *testing.T) {
	b := setUp(t)
	generator := rapid.Custom(drawTokens)
	for i := range 3 {
		b.storeTokens(t, fmt.Sprint("tenant-", i), generator.Example(50+i))
	}
	b.settle(t)
	for i := range 3 {
		tenant := fmt.Sprint("tenant-", i)
		rows := b.elastic(t, report.Query{Tenant: tenant, Values: map[string]string{}, AsOf: directory.Latest})
		last := map[string]string{}
		for _, row := range rows {
			if row[8] != "" {
				last[row[8]] = row[10]
			}
		}
		for activation, used := range last {
			b.explained(t, report.ExplainQuery{Tenant: tenant, Report: "elastic-usage", AsOf: directory.Latest, Values: map[string]string{"activation": activation}}, used)
		}
		for n, row := range slices.Backward(rows) {
			same := func(other sheet.Row) bool { return other[0] == row[0] && other[8] == row[8] && other[11] == row[11] }
			if row[8] == "" || slices.ContainsFunc(rows[n+1:], same) {
				continue
			}
			b.explained(t, report.ExplainQuery{Tenant: tenant, Report: "elastic-usage", AsOf: directory.Latest, Values: map[string]string{
				"activation": row[8], "correlation": row[0], "item": row[11],
			}}, row[10])
		}
	}
}
