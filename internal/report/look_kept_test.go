package report_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

// Sums are counted once for what they follow from, and again after a repair: what it changes stands below the positions
// that had been reached, so that nothing else tells of it.
func TestSumsAreKept(t *testing.T) {
	b := setUp(t)
	family(t, b)
	ask := func() string {
		t.Helper()
		ctx := report.OneLook(t.Context())
		q := report.UsageQuery{Tenant: "fam", From: month.UnixMilli(), To: next.UnixMilli(), Window: "total", GroupBy: []string{"plan"}, AsOf: directory.Latest}
		sums, err := b.reports.SumsUsage(ctx, q, []string{"tokens"})
		if err != nil {
			t.Fatal(err)
		}
		q.Meter = "people"
		people, err := b.reports.MeterUsage(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		monthly := b.ask(t, report.Query{Tenant: "fam", Report: "monthly-usage", Values: map[string]string{"month": "2026-03", "meter": "tokens", "group_by": "plan"}, AsOf: directory.Latest})
		return fmt.Sprint(sums["tokens"].Rows, people.Rows, monthly)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := b.engine.Query(t.Context(), strings.ReplaceAll(sql, "{{db}}", b.W.Database())); err != nil {
			t.Fatal(err)
		}
	}
	before := ask()
	for _, table := range []string{"usage_monthly", "usage_hourly"} {
		exec("INSERT INTO {{db}}." + table + " SELECT * FROM {{db}}." + table + " WHERE tenant = 'fam'")
	}
	if now := ask(); now != before {
		t.Errorf("nothing came, and it was counted again:\n%s\nbefore:\n%s", now, before)
	}
	exec("INSERT INTO {{db}}.rebuilds (n, step, holder, at) VALUES (2, 'exchanged', 'test', now64(3, 'UTC'))")
	if now := ask(); now == before {
		t.Errorf("tables changed places, and what was kept is answered:\n%s", now)
	}
}
