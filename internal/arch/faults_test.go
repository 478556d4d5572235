package arch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/countinghouse/countinghouse/internal/arch"
)

// TestFaultsHaveTests holds docs/explanation/what-we-survived.md to the tests there are.
func TestFaultsHaveTests(t *testing.T) {
	t.Parallel()
	findings, err := arch.CheckFaults(os.DirFS(filepath.Join("..", "..")))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}

// TestFaultRulesBite breaks a small table in each way it can break.
func TestFaultRulesBite(t *testing.T) {
	t.Parallel()
	var rows strings.Builder
	for n := range 31 {
		fmt.Fprintf(&rows, "| %d | f | p | not yet | |\n", n+2)
	}
	const first = "| 1 | kill | nothing lost | `test/a` TestF01Kill, TestF01Again | kills=3 |\n"
	for name, tt := range map[string]struct {
		table string
		want  string // part of the only finding; "" for none
	}{
		"good":            {first + rows.String(), ""},
		"a row is gone":   {strings.Replace(first+rows.String(), "| 7 | f |", "7", 1), "row 7 is missing"},
		"a row twice":     {first + rows.String() + "| 7 | f | p | not yet | |\n", "row 7 is there twice"},
		"test is gone":    {strings.Replace(first, "TestF01Kill,", "TestF01Kill, TestF01Gone,", 1) + rows.String(), "TestF01Gone, which does not exist"},
		"no test":         {first + strings.Replace(rows.String(), "not yet", "surely", 1), "row 2: \"surely\""},
		"test is unnamed": {strings.Replace(first, ", TestF01Again", "", 1) + rows.String(), "row 1 does not name `test/a` TestF01Again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			findings, err := arch.CheckFaults(fstest.MapFS{
				"docs/explanation/what-we-survived.md": {Data: []byte("| # | fault | promise | tests | figures |\n|---|\n" + tt.table)},
				"test/a/a_test.go":                     {Data: []byte("package a\n\nfunc TestF01Kill(t *testing.T) {}\n\nfunc TestF01Again(t *testing.T) {}\n")},
			})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.want == "" && len(findings) > 0:
				t.Errorf("found %v, want nothing", findings)
			case tt.want != "" && (len(findings) != 1 || !strings.Contains(findings[0].Text, tt.want)):
				t.Errorf("found %v, want one with %q", findings, tt.want)
			}
		})
	}
}
