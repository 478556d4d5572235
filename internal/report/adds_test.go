package report_test

import (
	"slices"
	"testing"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// Every column of numbers adds up, but for those that are named here: what is no count of anything, what is repeated from row
// to row, and what counts accounts below, whose rows are there as well.
func TestColumnsThatAddUp(t *testing.T) {
	t.Parallel()
	not := map[string][]string{
		"sta-monthly-summary": {"Users with Token"},
		"asset-adjustments":   {"from_version", "to_version"},
		"elastic-usage":       {"MAPPED_ENTITLED_COUNT", "USED", "METER_COST"},
		"monthly-usage":       {"version", "quantity_tree", "events_tree"},
	}
	for _, d := range report.Definitions() {
		for _, c := range d.Columns {
			number := c.Kind == sheet.Whole || c.Kind == sheet.Decimal
			if want := number && !slices.Contains(not[d.Name], c.Name); c.Adds != want {
				t.Errorf("%s: %s adds up: %v, want %v", d.Name, c.Name, c.Adds, want)
			}
		}
	}
}
