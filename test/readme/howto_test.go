package readme_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/report"
)

// demo is `up --demo` in a folder of its own, its months closed.
type demo struct {
	*testing.T
	home  string
	ports *strings.Replacer
}

func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{T: t, home: t.TempDir()}
	program := build(t)
	notAtMonthsEnd(t)
	if err := os.Mkdir(filepath.Join(d.home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(d.home, "bin", "countinghouse")); err != nil {
		t.Fatal(err)
	}
	e := up(t, program, d.home)
	d.ports = strings.NewReplacer("http://127.0.0.1:8080", e.Ingest, "http://127.0.0.1:8081", e.Reporter)
	eventually(t, 2*readyWait, func() bool {
		out, err := d.bash("bin/countinghouse month ls -o csv")
		return err == nil && strings.Count(out, ",closed,") >= 5 && strings.Contains(out, ",closed,2,")
	}, "the months of the sample data are not closed, one of them again after its late event")
	return d
}

func (d *demo) bash(script string) (string, error) {
	cmd := exec.CommandContext(d.Context(), "bash", "-euc", d.ports.Replace(script))
	cmd.Dir = d.home
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestExportHowTo runs what docs/how-to and the examples of every --help tell one to type, and finds something worth looking
// at in every report of the sample data.
func TestExportHowTo(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	for _, name := range []string{"export-a-report.md", "prove-a-number.md", "schedule-a-report.md", "run-in-production.md", "operators-and-roles.md"} {
		text, err := os.ReadFile(filepath.Join(top, "docs", "how-to", name))
		if err != nil {
			t.Fatal(err)
		}
		blocks := runnable.FindAllStringSubmatch(string(text), -1)
		if len(blocks) < 4 {
			t.Fatalf("%s has %d blocks to run", name, len(blocks))
		}
		for _, block := range blocks {
			out, err := d.bash(block[1])
			if err != nil || out == "" {
				t.Errorf("%s\n%v: %s", block[1], err, out)
			}
			t.Logf("$ %s\n%s", block[1], out[:min(len(out), 1600)])
		}
	}
	d.examples()
	now := time.Now().UTC()
	last := time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, time.UTC)
	month, before := last.Format("2006-01"), last.AddDate(0, -1, 0).Format("2006-01")
	ask := map[string]string{
		"sta-usage":           "--account northwind --month " + month,
		"sta-monthly-summary": "--account northwind --from " + before + " --to " + month,
		"tenant-usage":        "--account northwind --tenants all --period last_month",
		"tenant-usage-api":    "--tenant acme --usage-type USERS --aggregation MONTHLY --from " + before + "-01 --to " + month + "-28",
		"asset-usage-detail":  "--tenant alpine --month " + month,
		"asset-monthly-costs": "--organization alpine-org --month " + month,
		"asset-adjustments":   "--organization alpine-org --processing-month " + month,
		"elastic-usage":       "--account acme",
		"subscriptions":       "--partner trust",
		"transactions":        "--partner trust --from " + before + "-01 --to " + now.Format(time.DateOnly),
		"certificate-usage":   "--partner trust",
		"monthly-usage":       "--month " + month,
	}
	for _, r := range report.Definitions() {
		var out string
		var err error
		eventually(t, soonWait, func() bool { // adjustments come with the second version, a moment later
			out, err = d.bash("bin/countinghouse report show " + r.Name + " " + ask[r.Name] + " -o csv")
			return err != nil || strings.Count(out, "\r\n") >= 2
		}, r.Name+" shows nothing: "+out)
		if err != nil {
			t.Errorf("%s: %v\n%s", r.Name, err, out)
		}
		t.Logf("%s %s: %d lines\n%s", r.Name, ask[r.Name], strings.Count(out, "\n"), out[:min(len(out), 500)])
	}
	d.proveNumbers()
}
