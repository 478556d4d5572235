package readme_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// examplesElsewhere are examples that this test does not run, and why.
var examplesElsewhere = map[string]string{
	"countinghouse up ":                   "it is running",
	"countinghouse rebuild\n":             "test/rebuild does, and it takes a while",
	"countinghouse rebuild -o json":       "likewise",
	"countinghouse restore ":              "cmd/countinghouse does, from a folder of its own",
	"countinghouse events tail\n":         "goes on until it is stopped",
	"countinghouse events import access":  "a file of a web server; internal/importer does",
	"countinghouse report cancel ":        "refuses jobs that have ended, as the demo's have",
	"countinghouse report regenerate ":    "refuses jobs that have their file",
	"countinghouse dlq replay 0:4711:3\n": "refuses a conflict that is still one",
	"countinghouse operators passwd ":     "reads a password",
}

var (
	subcommand = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) {2,}\S`)
	exampleOf  = regexp.MustCompile(`(?s)\nExamples:\n(.*?)\n\n`)
)

// examples runs every example of every --help against the sample data. What stands for the reader's own in them, such
// as ids and addresses, is put in from what the demo has.
func (d *demo) examples() {
	d.Helper()
	var help func(words ...string) string
	seen := map[string]bool{}
	var all []string
	help = func(words ...string) string {
		out, err := d.bash("bin/countinghouse " + strings.Join(words, " ") + " --help")
		if err != nil {
			d.Fatalf("%v --help: %v\n%s", words, err, out)
		}
		if m := exampleOf.FindStringSubmatch(out); m != nil {
			for _, line := range strings.Split(strings.ReplaceAll(m[1], "\\\n", " "), "\n") {
				if line = strings.Join(strings.Fields(line), " "); !seen[line] {
					seen[line] = true
					all = append(all, line)
				}
			}
		}
		_, list, _ := strings.Cut(out, "\nUsage:\n")
		list, _, _ = strings.Cut(list, "\nFlags:\n")
		for _, m := range subcommand.FindAllStringSubmatch(list, -1) {
			if m[1] != "help" && m[1] != "completion" && m[1] != "countinghouse" {
				help(append(slices.Clone(words), m[1])...)
			}
		}
		return out
	}
	help()
	if len(all) < 70 {
		d.Fatalf("found only %d examples: %q", len(all), all)
	}
	d.exampleFiles()
	for _, line := range all {
		if elsewhere(line) {
			continue
		}
		if out, err := d.bash("countinghouse() { bin/countinghouse \"$@\"; }\ngenerate-usage() { cat events.ndjson; }\n" + d.filled(line)); err != nil {
			d.Errorf("$ %s\n%v: %s", d.filled(line), err, out[:min(len(out), 500)])
		}
	}
}

func elsewhere(line string) bool {
	for start := range examplesElsewhere {
		if strings.HasPrefix(line+"\n", start) {
			return true
		}
	}
	return false
}

// filled is an example with the demo's ids and addresses in the place of the reader's.
func (d *demo) filled(line string) string {
	first := func(list string, column int) string {
		out, err := d.bash("bin/countinghouse " + list + " -o csv")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if err != nil || len(lines) < 2 {
			d.Fatalf("%s: %v\n%s", list, err, out)
		}
		return strings.Split(strings.TrimSpace(lines[len(lines)-1]), ",")[column]
	}
	for _, fill := range []struct {
		said string
		with func() string
	}{
		{"0:4711:3", func() string { return first("dlq ls --reason conflict", 0) }},
		{"k7Qd0aZ1x9B", func() string { return first("keys ls --tenant acme", 0) }},
		{"cli 0198c5e2-3f0e-7d1c-9f0a-2f4f5a6b7c8d", func() string { return "demo/cloud twice" }},
		{"nats://nats1:4222", func() string { return d.endpoint("nats") }},
		{"clickhouse://ch1:9000/countinghouse", func() string { return d.endpoint("clickhouse") }},
		{"/etc/countinghouse.yaml", func() string { return "countinghouse.yaml" }},
		{"/var/backups", func() string { return "." }},
	} {
		if strings.Contains(line, fill.said) {
			line = strings.ReplaceAll(line, fill.said, fill.with())
		}
	}
	const id = "01a2039d-9cae-7dc0-921a-de8cb52129a6"
	if strings.Contains(line, id) {
		list := "report jobs --state done"
		if strings.Contains(line, " schedule ") {
			list = "schedule ls"
		}
		line = strings.ReplaceAll(line, id, first(list, 0))
	}
	return line
}

func (d *demo) endpoint(name string) string {
	out, err := d.bash(`sed -n 's/.*"` + name + `": *"\([^"]*\)".*/\1/p' .countinghouse/endpoints.json`)
	if err != nil || strings.TrimSpace(out) == "" {
		d.Fatalf("no %s in endpoints.json: %v %s", name, err, out)
	}
	return strings.TrimSpace(out)
}

// exampleFiles are the files that examples name.
func (d *demo) exampleFiles() {
	d.Helper()
	const event = `{"specversion":"1.0","id":"example-1","source":"examples","type":"usage.metered","subject":"acme","data":{"meter":"tokens","quantity":"1"}}`
	for name, text := range map[string]string{
		"events.ndjson": event + "\n",
		"usage.csv":     "id,when,account,tokens\n1,2026-03-01T00:00:00Z,acme,5\n",
		"usage.yaml": `format: csv
source: examples
subject: "{account}"
time: {from: "{when}", layout: "2006-01-02T15:04:05Z", zone: UTC}
events:
  - data: {meter: tokens, quantity: "{tokens}"}
`,
	} {
		if err := os.WriteFile(filepath.Join(d.home, name), []byte(text), 0o600); err != nil {
			d.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(d.home, "before-upgrade.tar")); err != nil && !os.IsNotExist(err) { // of run-in-production.md
		d.Fatal(err)
	}
	if out, err := exec.CommandContext(d.Context(), "gzip", "-f", filepath.Join(d.home, "usage.csv")).CombinedOutput(); err != nil {
		d.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(top, "deploy", "countinghouse.yaml"))
	if err == nil {
		err = os.WriteFile(filepath.Join(d.home, "countinghouse.yaml"), text, 0o600)
	}
	if err != nil {
		d.Fatal(err)
	}
}
