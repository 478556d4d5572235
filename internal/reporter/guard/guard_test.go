package guard_test

import (
	"slices"
	"testing"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
)

// What an operation asks for by its parameter is what the guard judges: a report whose two tables differ would be let in
// for one account and answered for another.
func TestRoots(t *testing.T) {
	t.Parallel()
	for name, need := range access.GuardNeeds() {
		if got := report.RootParameter(name); got != need.Root {
			t.Errorf("%s: the guard judges %q, the table of rights says %q", name, got, need.Root)
		}
	}
	for _, d := range report.Definitions() {
		need, known := access.ReportNeeds()[d.Name]
		if !known || !slices.ContainsFunc(d.Parameters, func(p report.Parameter) bool { return p.Name == need.Root }) {
			t.Errorf("%s is in no table of rights, or has no parameter %q", d.Name, need.Root)
		}
	}
}
