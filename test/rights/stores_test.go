package rights_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/countinghouse/countinghouse/internal/doctor"
)

// TestF24ClickHouse asks as the analyst of acme for what the tenant other has, in every way SQL has.
func TestF24ClickHouse(t *testing.T) {
	h := open(t, 0, nil)
	own, err := h.stack.ClickHouse.QueryAs(t.Context(), "ann", "one", "SELECT count() FROM usage_api.events_v1")
	if err != nil || strings.TrimSpace(own) == "0" {
		t.Fatalf("the analyst's own events: %q, %v", own, err)
	}
	native := h.stack.ClickHouseAddr
	statements := []string{
		"SELECT * FROM usage_api.events_v1", "SELECT * FROM usage_api.accounts_v1", "SELECT * FROM usage_api.events_v1 WHERE tenant = 'other'",
		"SELECT * FROM countinghouse.events", "SELECT * FROM countinghouse.directory", "SELECT * FROM countinghouse.events PREWHERE tenant = 'other'",
		"SELECT a.* FROM usage_api.events_v1 a JOIN countinghouse.events b ON a.id = b.id", "SELECT b.* FROM (SELECT 1 AS x) a CROSS JOIN countinghouse.events b",
		"SELECT * FROM usage_api.accounts_v1 WHERE account IN (SELECT account FROM countinghouse.events)", "SELECT (SELECT groupArray(account) FROM countinghouse.events)",
		"SELECT * FROM merge('countinghouse', 'events')", "SELECT * FROM merge('.*', '.*')",
		"SELECT * FROM remote('" + native + "', 'countinghouse', 'events')", "SELECT * FROM remote('" + native + "', 'countinghouse', 'events', 'default', '')",
		"SELECT * FROM remoteSecure('" + native + "', 'countinghouse', 'events')", "SELECT * FROM cluster('default', 'countinghouse', 'events')",
		"SELECT * FROM url('" + h.stack.ClickHouseURL + "/?query=SELECT+*+FROM+countinghouse.events', 'LineAsString')", "SELECT * FROM file('*', 'LineAsString')",
		"SELECT * FROM file('/etc/passwd', 'LineAsString')", "SELECT * FROM system.tables", "SELECT * FROM system.query_log", "SELECT * FROM system.processes", "SELECT * FROM system.parts",
		"SELECT * FROM system.row_policies", "EXPLAIN SELECT * FROM countinghouse.events", "EXPLAIN ESTIMATE SELECT * FROM countinghouse.events WHERE tenant = 'other'",
		"CREATE TEMPORARY TABLE x AS SELECT * FROM countinghouse.events", "CREATE TABLE default.x ENGINE = Memory AS SELECT * FROM countinghouse.events",
		"CREATE VIEW default.v AS SELECT * FROM countinghouse.events", "INSERT INTO FUNCTION file('x.csv') SELECT * FROM countinghouse.events",
		"SELECT * FROM countinghouse.events INTO OUTFILE 'x.csv'", "SELECT * FROM numbers(1) WHERE throwIf((SELECT any(account) FROM countinghouse.events WHERE tenant = 'other') != '', 'found')",
		"SELECT dictGet('countinghouse.events', 'account', 1)", "SELECT joinGet('countinghouse.events', 'account', 1)", "SHOW CREATE TABLE countinghouse.events",
		"SET readonly = 0", "SELECT * FROM usage_api.events_v1 SETTINGS readonly = 0", "SYSTEM FLUSH LOGS", "GRANT ALL ON *.* TO ann", "DROP ROW POLICY ann ON countinghouse.events",
	}
	refused := 0
	for _, sql := range statements {
		got, err := h.stack.ClickHouse.QueryAs(t.Context(), "ann", "one", sql)
		if err != nil {
			refused++
			got = err.Error()
		}
		if strings.Contains(strings.ReplaceAll(got, sql, ""), canary) {
			t.Errorf("%s: %.300s", sql, got)
		}
	}
	pass(t, fmt.Sprintf("F24c PASS statements=%d refused=%d canary_bytes=0", len(statements), refused))
}

// TestF24Index asks for the index of the events, which holds names of all tenants. ClickHouse before 26.7.6.5 answers
// without asking its row policies, and then the doctor says so; later ones refuse.
func TestF24Index(t *testing.T) {
	h := open(t, 0, nil)
	address := h.stack.ClickHouseURL + "/?" + url.Values{"user": {"ann"}, "password": {"one"}}.Encode()
	got, err := h.stack.ClickHouse.QueryAs(t.Context(), "ann", "one", "SELECT countIf(tenant != 'acme') FROM mergeTreeIndex('countinghouse', 'events')")
	answered := err == nil && strings.TrimSpace(got) != "0"
	findings := doctor.Examine(t.Context(), &doctor.Target{AnalystURL: address, Tenant: "acme"})
	i := slices.IndexFunc(findings, func(f doctor.Finding) bool { return f.Check == "analyst isolation" })
	if i < 0 || (findings[i].Level == doctor.Warn) != answered || findings[i].Level == doctor.Fail {
		t.Errorf("the index was answered: %v (%.200s, %v); the doctor says %+v", answered, got, err, findings)
	}
	pass(t, fmt.Sprintf("F24i PASS answered=%v", answered))
}

// TestF24NATS starts the reference configuration with its authorization block, and publishes and subscribes as the
// producer acme beyond its own subject.
func TestF24NATS(t *testing.T) {
	text, err := os.ReadFile("../../deploy/nats/nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	in := false
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "# authorization {"):
			in = true
		case strings.HasPrefix(line, "# tls"):
			in = false
		case strings.HasPrefix(line, "port:"), strings.HasPrefix(line, "http:"):
			lines[i] = ""
		}
		if in {
			lines[i] = strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "), "$2a$…", "pw")
		}
	}
	conf := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(strings.Join(lines, "\n"), "/var/lib/countinghouse/nats", t.TempDir())), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	opts.Port, opts.HTTPPort, opts.NoSigs, opts.NoLog = -1, 0, true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(2 * time.Minute) {
		t.Fatal("the server is not ready")
	}
	denied := make(chan string, 100)
	acme, err := nats.Connect(s.ClientURL(), nats.UserInfo("acme", "pw"), nats.CustomInboxPrefix("_INBOX.acme"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- strings.ToLower(err.Error()) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(acme.Close)
	wait := func(what, subject string) {
		t.Helper()
		deadline := time.NewTimer(2 * time.Minute)
		defer deadline.Stop()
		for {
			select {
			case err := <-denied:
				mapped := strings.Replace(subject, "usage.in.", "usage.log.0.", 1) // the server checks what the mapping made of it
				if strings.Contains(err, "permissions violation") && (strings.Contains(err, strings.ToLower(subject)) || strings.Contains(err, mapped)) {
					return
				}
			case <-deadline.C:
				t.Errorf("%s %s is not denied", what, subject)
				return
			}
		}
	}
	subjects := []string{
		"usage.in.other.events", "usage.in.acme.chunk", "usage.log.0.other.events", "control.key.x", "control.audit.acme", "control.operator.x",
		"$JS.API.STREAM.DELETE.CONTROL", "$JS.API.STREAM.MSG.GET.CONTROL", "$KV.SESSIONS.x", "$KV.LEASES.x",
	}
	for _, subject := range subjects {
		if err := acme.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		wait("publishing to", subject)
	}
	listened := []string{">", "usage.>", "usage.in.*.events", "usage.in.other.events", "control.>", "$JS.API.>", "$KV.>", "_INBOX.>"}
	for _, subject := range listened {
		if _, err := acme.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		wait("listening to", subject)
	}
	if err := acme.Publish("usage.in.acme.events", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := acme.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-denied:
		t.Errorf("its own subject: %s", err)
	default:
	}
	pass(t, fmt.Sprintf("F24n PASS publish_denied=%d subscribe_denied=%d", len(subjects), len(listened)))
}
