package report_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

// Every number of a meter's days is explained by its events: of an account, and of the whole tenant.
func TestEveryDayExplainsItself(t *testing.T) {
	b := setUp(t)
	h := rapid.Custom(draw).Example(117)
	b.store(t, "tenant", h)
	b.settle(t)
	from, to := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 12, 7, 0, 0, 0, time.UTC)
	meters, tried := map[string]bool{}, 0
	for _, row := range b.month(t, "tenant", directory.Latest) {
		meters[row.Meter] = true
	}
	for meter := range meters {
		for _, q := range []report.UsageQuery{{Window: "total"}, {Window: "day"}, {Window: "day", GroupBy: []string{"account"}}} {
			q.Tenant, q.Meter, q.AsOf = "tenant", meter, directory.Latest
			q.From, q.To = from.UnixMilli(), to.UnixMilli()
			u, err := b.reports.MeterUsage(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for i, row := range u.Rows {
				if q.Window == "day" && i%5 != 0 {
					continue
				}
				for measure, number := range map[string]string{"quantity": row.Quantity, "events": fmt.Sprint(row.Events)} {
					values := map[string]string{"from": row.Start.String(), "to": row.End.String(), "meter": meter, "measure": measure}
					if len(row.Group) > 0 {
						values["account"] = row.Group[0]
					}
					b.explained(t, report.ExplainQuery{Tenant: "tenant", AsOf: directory.Latest, Values: values}, number)
					tried++
				}
			}
		}
	}
	if tried < 20 {
		t.Errorf("only %d numbers were tried", tried)
	}
	for name, values := range map[string]map[string]string{
		"month": {"meter": "tokens"}, "from": {"meter": "tokens", "from": "2026-03-01T00:00:01Z", "to": "2026-03-02T00:00:00Z"}, "to": {"meter": "tokens", "from": "2026-03-01T00:00:00Z"},
	} {
		_, err := b.reports.Explain(t.Context(), report.ExplainQuery{Tenant: "tenant", AsOf: directory.Latest, Values: values})
		if refused, ok := err.(*report.Error); !ok || refused.Parameter != name { //nolint:errorlint // as it is
			t.Errorf("%v: %v, want a refusal of %s", values, err, name)
		}
	}
}
