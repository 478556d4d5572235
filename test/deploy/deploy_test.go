// Package deploy_test holds the files of deploy/ to what the programs are: every flag, key, variable,
// metric and page that they name exists, and the servers that start from them satisfy the doctor.
package deploy_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

func TestMain(m *testing.M) { fight.Main(m) }

const top = "../.."

var services = []string{"ingest", "aggregator", "reporter"}

func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{top}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// settings are the flags and variables of a service, as the generated reference names them.
func settings(t *testing.T, service string) (flags, variables []string) {
	t.Helper()
	_, section, found := strings.Cut(read(t, "docs", "reference", "configuration.md"), "\n## "+service+"\n")
	if !found {
		t.Fatalf("the reference has no section %s", service)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	row := regexp.MustCompile("`(--[a-z0-9-]+)` \\| `(COUNTINGHOUSE_[A-Z0-9_]+)`")
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		flags, variables = append(flags, m[1]), append(variables, m[2], m[2]+"_FILE")
	}
	return append(flags, "--config"), variables
}

// The configuration file has only keys that exist and values that work.
func TestConfigurationFile(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), fight.Program(), "config", "check", "--config", filepath.Join(top, "deploy", "countinghouse.yaml"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("config check: %v\n%s", err, out)
	}
}

// Each service has a unit that starts it with flags and variables it knows, shut off from the rest of
// the machine.
func TestUnits(t *testing.T) {
	t.Parallel()
	for _, service := range services {
		unit := parseUnit(t, read(t, "deploy", "systemd", "countinghouse-"+service+".service"))
		flags, variables := settings(t, service)
		start := strings.Fields(unit.one(t, "Service", "ExecStart"))
		if start[0] != "/usr/lib/countinghouse/"+service {
			t.Errorf("%s: starts %s", service, start[0])
		}
		for _, word := range start[1:] {
			if strings.HasPrefix(word, "--") && !slices.Contains(flags, word) {
				t.Errorf("%s: has no flag %s", service, word)
			}
		}
		for _, set := range unit["Service/Environment"] {
			if name, _, _ := strings.Cut(set, "="); !slices.Contains(variables, name) {
				t.Errorf("%s: has no variable %s", service, name)
			}
		}
		for key, want := range map[string]string{
			"Restart": "always", "RestartPreventExitStatus": "78", "DynamicUser": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
			"NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "MemoryDenyWriteExecute": "yes", "PrivateTmp": "yes",
		} {
			if got := unit.one(t, "Service", key); got != want {
				t.Errorf("%s: %s=%s, want %s", service, key, got, want)
			}
		}
		if got := unit.one(t, "Install", "WantedBy"); got != "multi-user.target" {
			t.Errorf("%s: WantedBy=%s", service, got)
		}
	}
}

// unit is what a unit file sets, by section and key.
type unit map[string][]string

func (u unit) one(t *testing.T, section, key string) string {
	t.Helper()
	values := u[section+"/"+key]
	if len(values) != 1 {
		t.Errorf("%s of [%s] is set %d times", key, section, len(values))
		return ""
	}
	return values[0]
}

// parseUnit reads the syntax of systemd.syntax(7) without line continuations, which ours do not use.
func parseUnit(t *testing.T, text string) unit {
	t.Helper()
	u, section := unit{}, ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, set := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			section = line[1 : len(line)-1]
			if !slices.Contains([]string{"Unit", "Service", "Install"}, section) {
				t.Errorf("section [%s]", section)
			}
		case set && section != "" && !strings.HasSuffix(line, `\`):
			u[section+"/"+key] = append(u[section+"/"+key], value)
		default:
			t.Errorf("not a line of a unit: %s", line)
		}
	}
	return u
}

// Every container has a pinned image, a health check, variables the service knows, mounts that exist,
// and ports that only this machine reaches.
func TestComposeFile(t *testing.T) {
	t.Parallel()
	type container struct {
		Image       string
		Command     []string
		Environment map[string]string
		Volumes     []string
		Ports       []string
		Healthcheck struct{ Test []string }
		DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	}
	var file struct {
		Services map[string]container
		Volumes  map[string]any
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy", "compose", "compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	pinned := regexp.MustCompile(`^[a-z/]+(-[a-z]+)*:(v?[0-9]+\.[0-9]+[0-9a-z.-]*|local)$`)
	for name, c := range file.Services {
		if !pinned.MatchString(c.Image) {
			t.Errorf("%s: the image %s is not pinned", name, c.Image)
		}
		if len(c.Healthcheck.Test) == 0 && name != "migrate" {
			t.Errorf("%s: no health check", name)
		}
		for other := range c.DependsOn {
			if _, there := file.Services[other]; !there {
				t.Errorf("%s: depends on %s, which is not there", name, other)
			}
		}
		for _, port := range c.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to others", name, port)
			}
		}
		for _, volume := range c.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			if _, named := file.Volumes[from]; named {
				continue
			}
			if _, err := os.Stat(filepath.Join(top, "deploy", "compose", from)); err != nil {
				t.Errorf("%s: mounts %v", name, err)
			}
		}
		if !slices.Contains(services, name) {
			continue
		}
		_, variables := settings(t, name)
		for variable := range c.Environment {
			if !slices.Contains(variables, variable) {
				t.Errorf("%s: has no variable %s", name, variable)
			}
		}
		if _, err := os.Stat(filepath.Join(top, "cmd", c.Command[0])); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, service := range append(services, "nats", "clickhouse", "prometheus", "grafana") {
		if _, there := file.Services[service]; !there {
			t.Errorf("no container %s", service)
		}
	}
}

// metrics are the names that the services serve, as the generated reference has them.
func metrics(t *testing.T) []string {
	t.Helper()
	var names []string
	row := regexp.MustCompile("^\\| `(countinghouse_[a-z_]+)` \\| ([a-z]+) \\|")
	lines := bufio.NewScanner(strings.NewReader(read(t, "docs", "reference", "metrics.md")))
	for lines.Scan() {
		if m := row.FindStringSubmatch(lines.Text()); m != nil {
			names = append(names, m[1])
			if m[2] == "histogram" {
				names = append(names, m[1]+"_bucket", m[1]+"_sum", m[1]+"_count")
			}
		}
	}
	return append(names, "countinghouse_build_info")
}

var metricName = regexp.MustCompile(`countinghouse_[a-z_]+`)

// Alerts and dashboard name metrics that are served, and the dashboard shows each.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	served := metrics(t)
	for _, path := range []string{"prometheus/alerts.yaml", "prometheus/alerts_test.yaml", "grafana/countinghouse.json"} {
		for _, name := range metricName.FindAllString(read(t, "deploy", path), -1) {
			if !slices.Contains(served, name) {
				t.Errorf("%s: no service has the metric %s", path, name)
			}
		}
	}
	shown := read(t, "deploy", "grafana", "countinghouse.json")
	for _, name := range served {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count"), "_bucket")
		if !strings.Contains(shown, base) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// Every alert says what happened, has an entry in the runbook that it links to, and is told to fire and to be silent by
// the tests of the rules.
func TestAlertsHaveEntries(t *testing.T) {
	t.Parallel()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Expr        string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy", "prometheus", "alerts.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	runbook, tests := read(t, "docs", "RUNBOOK.md"), read(t, "deploy", "prometheus", "alerts_test.yaml")
	var alerts []string
	for _, rule := range file.Groups[0].Rules {
		alerts = append(alerts, rule.Alert)
		if !strings.Contains(runbook, "\n### "+rule.Alert+"\n") {
			t.Errorf("%s has no entry in the runbook", rule.Alert)
		}
		if !strings.Contains(tests, `alertname="`+rule.Alert+`"`) || !strings.Contains(tests, "alertname: "+rule.Alert+"}") {
			t.Errorf("no test has %s fire, or none has it be silent", rule.Alert)
		}
		if want := "docs/RUNBOOK.md#" + strings.ToLower(rule.Alert); !strings.HasSuffix(rule.Annotations["runbook_url"], want) {
			t.Errorf("%s links to %s, want …/%s", rule.Alert, rule.Annotations["runbook_url"], want)
		}
		if s := rule.Labels["severity"]; s != "critical" && s != "warning" || rule.Annotations["summary"] == "" {
			t.Errorf("%s: severity %q, summary %q", rule.Alert, s, rule.Annotations["summary"])
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Countinghouse\w+)$`).FindAllStringSubmatch(runbook, -1) {
		if !slices.Contains(alerts, m[1]) {
			t.Errorf("the runbook has an entry for %s, which is no alert", m[1])
		}
	}
}

// The rules are what Prometheus reads, each alert fires on its fault, and a calm system is silent.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(top, "deploy", "prometheus")
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}, {"check", "config", "--syntax-only", "prometheus.yaml"}} {
		cmd := exec.CommandContext(t.Context(), promtool(t), args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func promtool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "countinghouse", "tools", "promtool")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: `make deps` fetches it", err)
	}
	return path
}

// Servers that are started from the files of deploy/ satisfy the doctor.
func TestDoctorApproves(t *testing.T) {
	t.Parallel()
	tool := fight.Program()
	warehouse := localstack.Start(t, localstack.Options{NoNATS: true}) // its engine reads deploy/clickhouse
	dsn := "clickhouse://" + warehouse.ClickHouseAddr + "/countinghouse"
	nats, monitor := natsFromFile(t)
	nice, err := warehouse.ClickHouse.Query(t.Context(), "SELECT value FROM system.server_settings WHERE name = 'os_threads_nice_value_merge_mutate'")
	if err != nil || strings.TrimSpace(nice) != "5" {
		t.Errorf("merges have nice %q, %v; want 5, or they take the cores from inserts and questions", nice, err)
	}
	run := func(ctx context.Context, args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, tool, args...).CombinedOutput()
		return string(out), err
	}
	if out, err := run(t.Context(), "migrate", "--clickhouse", dsn); err != nil {
		t.Fatalf("migrate: %v\n%s", err, out)
	}
	out, err := run(t.Context(), "keys", "create", "--nats", nats, "--tenant", "acme", "--scope", "events:write")
	if err != nil {
		t.Fatalf("keys create: %v\n%s", err, out)
	}
	startIngest(t, tool, nats, monitor) // makes the streams of the log
	ctx, cancel := context.WithTimeout(t.Context(), rig.SettleWait)
	defer cancel()
	for { // a check has ten seconds, which a busy machine may need
		out, err = run(t.Context(), "doctor", "--nats", nats, "--nats-monitor", monitor, "--clickhouse", dsn)
		missed := slices.DeleteFunc([]string{"nats durability", "log mapping", "log streams", "clickhouse settings", "migrations"}, func(check string) bool {
			return regexp.MustCompile(`(?m)^ok +` + check + ` `).MatchString(out)
		})
		switch {
		case err == nil && len(missed) == 0 && !strings.Contains(out, "fail "):
			return
		case ctx.Err() != nil:
			t.Fatalf("doctor: %v; does not approve of %v:\n%s", err, missed, out)
		}
	}
}
