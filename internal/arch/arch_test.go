package arch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/countinghouse/countinghouse/internal/arch"
)

// TestTree holds the whole tree to the rules.
func TestTree(t *testing.T) {
	t.Parallel()
	findings, err := arch.Check(os.DirFS(filepath.Join("..", "..")))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}

// TestRulesBite plants each sin in a small tree and wants exactly the named rule to find it; beside
// each stands the form that is allowed. A rule that cannot fail is no rule.
func TestRulesBite(t *testing.T) {
	t.Parallel()
	const doc = "// Package x is here to be looked at, and promises nothing at all.\n"
	const ours = "github.com/countinghouse/countinghouse/internal/"
	tests := map[string]struct {
		file string
		text string
		rule string // "" if nothing may be found
	}{
		"ingest sees the warehouse":        {"internal/ingest/a.go", doc + `package x; import _ "` + ours + `warehouse"`, "import"},
		"ingest sees the log":              {"internal/ingest/a.go", doc + `package x; import _ "` + ours + `eventlog"`, ""},
		"reporter sees the log":            {"internal/reporter/a.go", doc + `package x; import _ "` + ours + `eventlog"`, "import"},
		"usage sees anything":              {"internal/usage/a.go", doc + `package x; import _ "` + ours + `problem"`, "import"},
		"a test looks from outside":        {"internal/ingest/a_test.go", `package x; import _ "` + ours + `localstack"`, ""},
		"unknown package":                  {"internal/billing/a.go", doc + `package x`, "import"},
		"banned name":                      {"internal/usage/util/a.go", doc + `package x`, "name"},
		"nats outside the log":             {"internal/ingest/a.go", doc + `package x; import _ "github.com/nats-io/nats.go"`, "import"},
		"nats in the log":                  {"internal/eventlog/a.go", doc + `package x; import _ "github.com/nats-io/nats.go"`, ""},
		"clickhouse outside the warehouse": {"internal/report/a.go", doc + `package x; import _ "github.com/ClickHouse/ch-go"`, "import"},
		"clickhouse in a command":          {"cmd/countinghouse/a.go", doc + `package main; import _ "github.com/ClickHouse/ch-go"`, "import"},
		"a command inside the product":     {"internal/usage/a.go", doc + `package x; import _ "github.com/countinghouse/countinghouse/cmd/ingest"`, "import"},
		"init":                             {"internal/usage/a.go", doc + "package x\nfunc init() {}", "init"},
		"a method called init":             {"internal/usage/a.go", doc + "package x\nfunc (t T) init() {}", ""},
		"empty global":                     {"internal/usage/a.go", doc + "package x\nvar cache map[string]int", "global"},
		"lock as a global":                 {"internal/usage/a.go", doc + "package x\nimport \"sync\"\nvar mu = sync.Mutex{}", "global"},
		"map made at start":                {"internal/usage/a.go", doc + "package x\nvar seen = make(map[string]int)", "global"},
		"global assigned later":            {"internal/usage/a.go", doc + "package x\nvar n = 1\nfunc f() { n = 2 }", "global"},
		"element of a global stored":       {"internal/usage/a.go", doc + "package x\nvar m = map[int]int{}\nfunc f() { m[1] = 2 }", "global"},
		"local of the same name":           {"internal/usage/a.go", doc + "package x\nvar n = 1\nfunc f() int { n := n; n++; return n }", ""},
		"table":                            {"internal/usage/a.go", doc + "package x\nvar m = map[int]int{1: 2}\nfunc f() int { return m[1] }", ""},
		"global with a reason":             {"internal/usage/a.go", doc + "package x\n//arch:global the C library holds one handle per process\nvar handle uintptr", ""},
		"global without a reason":          {"internal/usage/a.go", doc + "package x\nvar n = 1 //arch:global\nfunc f() { n = 2 }", "allowance global"},
		"embedded":                         {"internal/usage/a.go", doc + "package x\nimport \"embed\"\n//go:embed *.sql\nvar files embed.FS", ""},
		"sleep in a test":                  {"internal/usage/a_test.go", "package x\nimport \"time\"\nfunc f() { time.Sleep(1) }", "sleep"},
		"sleep in the product":             {"internal/usage/a.go", doc + "package x\nimport \"time\"\nfunc f() { time.Sleep(1) }", ""},
		"skip":                             {"internal/usage/a_test.go", "package x\nimport \"testing\"\nfunc f(t *testing.T) { t.Skip() }", "skip"},
		"a field named skip":               {"internal/usage/a_test.go", "package x\nimport \"testing\"\ntype q struct{ Skip int }\nfunc f(_ *testing.T, a q) int { return a.Skip }", ""},
		"short":                            {"internal/usage/a_test.go", "package x\nimport \"testing\"\nfunc f() bool { return testing.Short() }", "skip"},
		"exit below main":                  {"internal/usage/a.go", doc + "package x\nimport \"os\"\nfunc f() { os.Exit(1) }", "exit"},
		"exit in main":                     {"cmd/countinghouse/a.go", doc + "package main\nimport \"os\"\nfunc f() { os.Exit(1) }", ""},
		"print below main":                 {"internal/usage/a.go", doc + "package x\nimport \"fmt\"\nfunc f() { fmt.Println() }", "print"},
		"log package":                      {"internal/usage/a.go", doc + "package x\nimport \"log\"\nfunc f() { log.Fatal() }", "log"},
		"logger called log":                {"internal/usage/a.go", doc + "package x\nfunc f(log L) { log.Fatal() }", ""},
		"background below main":            {"internal/usage/a.go", doc + "package x\nimport \"context\"\nvar _ = context.Background()", "background"},
		"background in a test":             {"internal/usage/a_test.go", "package x\nimport \"context\"\nvar _ = context.Background()", ""},
		"signals below main":               {"internal/ingest/a.go", doc + "package x\nimport \"os/signal\"\nfunc f() { signal.Notify(nil) }", "signal"},
		"float near quantities":            {"internal/report/a.go", doc + "package x\ntype T struct{ cost float64 }", "float"},
		"float with a reason":              {"internal/report/a.go", doc + "package x\nfunc f(n int) any { return float64(n) } //arch:float a progress bar, not a sum", ""},
		"float for a metric":               {"internal/report/a.go", doc + "package x\nfunc (a A) f(n int) { a.metrics.Rows.WithLabelValues(`x`).Add(float64(n)) }", ""},
		"float added to something":         {"internal/report/a.go", doc + "package x\nfunc (a A) f(n int) { a.total.Add(float64(n)) }", "float"},
		"float elsewhere":                  {"internal/telemetry/a.go", doc + "package x\ntype T struct{ seconds float64 }", ""},
		"star in a query":                  {"internal/warehouse/a.go", doc + "package x\nconst q = `SELECT * FROM events`", "sql"},
		"star in a migration":              {"schema/clickhouse/1.sql", "SELECT *\nFROM events", "sql"},
		"insert without columns":           {"schema/clickhouse/1.sql", "INSERT INTO {{db}}.events SELECT 1", "sql"},
		"count of everything":              {"schema/clickhouse/1.sql", "-- not SELECT * but\nSELECT count(*) FROM events", ""},
		"no package comment":               {"internal/usage/a.go", "package x", "comment"},
		"long file":                        {"internal/usage/a.go", doc + "package x" + strings.Repeat("\n", 601), "length"},
		"long test":                        {"internal/usage/a_test.go", "package x" + strings.Repeat("\n", 601), "length"},
		"generated file":                   {"internal/usage/a.go", "// Code generated by hand. DO NOT EDIT.\n\n" + doc + "package x" + strings.Repeat("\n", 601), ""},
		"long main":                        {"cmd/ingest/main.go", doc + "package main" + strings.Repeat("\n", 61), "length"},
		"path of a machine":                {"docs/a.md", "see /ho" + "me/me/notes", "place"},
		"path in a script":                 {".ci/run", "cd /wor" + "k/main", "place"},
		"host of a registry":               {"Makefile", "curl https://registry.npm" + "js.org/x", "place"},
		"path of the product":              {"docs/a.md", "GET /api/v1/work/1 and https://example.org/homework/", ""},
		"fixture":                          {"internal/usage/testdata/a.go", "package x; func init() {}", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			findings, err := arch.Check(fstest.MapFS{tt.file: {Data: []byte(tt.text)}})
			if err != nil {
				t.Fatal(err)
			}
			var rules []string
			for _, f := range findings {
				rules = append(rules, f.Rule)
			}
			if got := strings.Join(rules, " "); got != tt.rule {
				t.Errorf("Check found %q, want %q: %v", got, tt.rule, findings)
			}
		})
	}
}
