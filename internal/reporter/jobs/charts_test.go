package jobs

import (
	"slices"
	"testing"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// TestChartsNameColumns: a chart of a column that was given another name would be missing from its mails, and nobody
// would be told.
func TestChartsNameColumns(t *testing.T) {
	for name, of := range charts {
		d, ok := report.Define(name)
		if !ok {
			t.Errorf("there is no report %s", name)
		}
		if d.Columns == nil {
			continue // they depend on the parameters
		}
		for _, column := range append([]string{of.value}, of.labels...) {
			i := slices.IndexFunc(d.Columns, func(c sheet.Column) bool { return c.Name == column })
			if i < 0 {
				t.Errorf("%s has no column %s", name, column)
				continue
			}
			if kind := d.Columns[i].Kind; column == of.value && kind != sheet.Whole && kind != sheet.Decimal {
				t.Errorf("%s: %s is %s, which cannot be added up", name, column, kind)
			}
		}
	}
}
