package report_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// More rows than a question may have end it, whether it is about one meter or about several at once; and as many as it
// may have do not.
func TestUsageOfTooManyRows(t *testing.T) {
	b := setUp(t)
	family(t, b)
	q := report.UsageQuery{
		Tenant: "fam", Meter: "tokens", From: month.UnixMilli(), To: next.UnixMilli(), Window: "hour", GroupBy: []string{"account"}, AsOf: directory.Latest,
	}
	roads := map[string]func() (int, error){
		"one meter": func() (int, error) {
			u, err := b.reports.MeterUsage(t.Context(), q)
			if err != nil {
				return 0, err
			}
			return len(u.Rows), nil
		},
		"several": func() (int, error) {
			all, err := b.reports.SumsUsage(t.Context(), q, []string{"tokens"})
			if err != nil {
				return 0, err
			}
			return len(all["tokens"].Rows), nil
		},
	}
	for name, ask := range roads {
		q.RowsMax = 0
		n, err := ask()
		if err != nil || n < 3 {
			t.Fatalf("%s: %d rows, %v", name, n, err)
		}
		q.RowsMax = 1
		if n, err := ask(); warehouse.Exceeded(err) != warehouse.BoundRows {
			t.Errorf("%s: %d rows of at most 1, %v", name, n, err)
		}
		q.RowsMax = 100_000
		if again, err := ask(); err != nil || again != n {
			t.Errorf("%s: %d rows where more may be, %v; want %d", name, again, err, n)
		}
	}
}
