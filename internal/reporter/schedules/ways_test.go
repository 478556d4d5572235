package schedules

import (
	"slices"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/report"
)

// TestEveryReportCanBeScheduled: a report without a way would be offered and then refused, and one whose way names a
// parameter that it does not have would fail at each run.
func TestEveryReportCanBeScheduled(t *testing.T) {
	day := time.Date(2025, 3, 10, 0, 0, 0, 0, time.UTC)
	for _, d := range report.Definitions() {
		filled, err := fill(d.Name, nil, Weekly, Run{Day: day})
		if err != nil {
			t.Errorf("%s: %v", d.Name, err)
		}
		for name := range filled {
			if !slices.ContainsFunc(d.Parameters, func(p report.Parameter) bool { return p.Name == name }) {
				t.Errorf("%s has no parameter %s", d.Name, name)
			}
		}
	}
	if len(ways) != len(report.Definitions()) {
		t.Errorf("%d ways of %d reports", len(ways), len(report.Definitions()))
	}
}
