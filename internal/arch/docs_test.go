package arch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/countinghouse/countinghouse/internal/arch"
)

// TestInvariantsPointSomewhere holds docs/INVARIANTS.md, and every link and number in the tree, to
// what is there.
func TestInvariantsPointSomewhere(t *testing.T) {
	t.Parallel()
	findings, err := arch.CheckDocs(os.DirFS(filepath.Join("..", "..")))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}

// TestDocRulesBite breaks a small document in each way it can break.
func TestDocRulesBite(t *testing.T) {
	t.Parallel()
	const good = "### I1: True\nIt is.\n\nKept: `a/a.go`\nBreaks: `a` TestA\n"
	tests := map[string]struct {
		invariants string
		code       string
		want       string // part of the only finding; "" for none
	}{
		"good":               {good, "// kept here (I1)", ""},
		"no place":           {strings.Replace(good, "Kept", "Somewhere", 1), "", "does not say where"},
		"no test":            {strings.Replace(good, "Breaks", "Nothing", 1), "", "names no test"},
		"file is gone":       {strings.Replace(good, "a/a.go", "a/b.go", 1), "", "a/b.go, which does not exist"},
		"test is gone":       {strings.Replace(good, "TestA", "TestB", 1), "", "TestB, which does not exist"},
		"tag is not said":    {strings.Replace(good, "TestA", "TestA, TestLong", 1), "", "TestLong, which needs a build tag: write (soak)"},
		"tag is said":        {strings.Replace(good, "TestA", "TestA, TestLong (soak)", 1), "", ""},
		"tag is made up":     {strings.Replace(good, "TestA", "TestA, TestA (soak)", 1), "", "TestA (soak), which needs no build tag"},
		"only behind a tag":  {strings.Replace(good, "TestA", "TestLong (soak)", 1), "", "not tested by make test"},
		"one of two is gone": {strings.Replace(good, "TestA", "TestA · `b` TestA", 1), "", "b TestA, which does not exist"},
		"unknown number":     {good, "// (I1, I7)", "I7 is not in"},
		"broken link":        {good + "\n[x](adr/none.md)\n", "", "leads nowhere"},
		"link with anchor":   {good + "\n[x](INVARIANTS.md#i1) [y](https://example.org/none)\n", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			findings, err := arch.CheckDocs(fstest.MapFS{
				"docs/INVARIANTS.md": {Data: []byte(tt.invariants)},
				"a/a.go":             {Data: []byte("package a\n" + tt.code + "\n")},
				"a/a_test.go":        {Data: []byte("package a\n\nfunc TestA(t *testing.T) {}\n")},
				"a/long_test.go":     {Data: []byte("//go:build soak\n\npackage a\n\nfunc TestLong(t *testing.T) {}\n")},
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
