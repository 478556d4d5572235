package shards_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
	"github.com/countinghouse/countinghouse/test/rig"
)

// TestAnalyst: an analyst of one tenant asks the Distributed tables and sees the rows of that tenant, from
// whichever server, and no others. The servers share a secret, so that a query runs on each as who asked it,
// and the row policies there bind.
func TestAnalyst(t *testing.T) {
	t.Parallel()
	engine, err := localstack.EnsureEngine(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := localstack.FreePorts(2 * servers)
	if err != nil {
		t.Fatal(err)
	}
	var shards string
	cfg := warehouse.Config{DSN: fmt.Sprintf("clickhouse://127.0.0.1:%d/%s", ports[0], rig.Database), Cluster: "countinghouse"}
	for i := range servers {
		shards += fmt.Sprintf("<shard><replica><host>127.0.0.1</host><port>%d</port></replica></shard>", ports[2*i])
		cfg.Servers = append(cfg.Servers, fmt.Sprintf("clickhouse://127.0.0.1:%d/%s", ports[2*i], rig.Rows))
	}
	cluster := "<clickhouse><remote_servers><countinghouse><secret>between-servers</secret>" + shards + "</countinghouse></remote_servers></clickhouse>"
	analyst := localstack.Analyst{User: "anne", Password: "password", Tenant: "acme"}
	var tables []localstack.Table
	for _, a := range warehouse.AnalystTables(rig.Rows) {
		tables = append(tables, localstack.Table(a))
	}
	views := []string{"events_v1", "usage_hourly_v1", "usage_daily_v1", "usage_monthly_v1", "ledger_v1", "dead_letters_v1"}
	for _, v := range append([]string{"usage_monthly_versions_v1"}, views...) { // which usage_monthly_v1 reads
		tables = append(tables, localstack.Table{Database: rig.Rows + "_api", Name: v, Tenant: "tenant"})
	}
	var engines []*localstack.ClickHouse
	for i := range servers {
		dir := filepath.Join(t.TempDir(), "clickhouse")
		if err := os.MkdirAll(filepath.Join(dir, "config.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.d", "servers.xml"), []byte(cluster), 0o600); err != nil {
			t.Fatal(err)
		}
		ch, err := localstack.StartClickHouse(t.Context(), localstack.ClickHouseConfig{
			Engine: engine, Dir: dir, TCPPort: ports[2*i], HTTPPort: ports[2*i+1], Analysts: []localstack.Analyst{analyst}, Tables: tables,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ch.Stop(localstack.StopGrace) }) // the test has ended
		engines = append(engines, ch)
	}
	s, err := warehouse.OpenServers(t.Context(), cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // read and closed
	if err := s.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	tenants := []string{"acme", "beta"}
	for i, ch := range engines {
		for _, insert := range []string{
			"events (shard, seq, idx, sign, tenant, source, id, at, recorded_at, meter, quantity, type, account) SELECT %d, 1, number, 1, '%s', 's', toString(number), '2026-10-01 00:00:00', '2026-10-01 00:00:00', 'tokens', 1, 'usage.metered', 'a' FROM numbers(7)",
			"usage_hourly (shard, hi, tenant, account, meter, hour, quantity, events, rows) SELECT %d, 1, '%s', 'a', 'tokens', '2026-10-01 00:00:00', 7, 7, 7",
			"usage_monthly (shard, hi, tenant, account, meter, month, quantity, events, rows) SELECT %d, 1, '%s', 'a', 'tokens', '2026-10-01 00:00:00', 7, 7, 7",
			"ledger (shard, seq, tenant, accepted, stored) SELECT %d, 1, '%s', 7, 7",
			"dead_letters (shard, seq, idx, tenant, reason) SELECT %d, 1, 9, '%s', 'poison'",
		} {
			if _, err := ch.Query(t.Context(), "INSERT INTO "+rig.Rows+"."+fmt.Sprintf(insert, i, tenants[i])); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, v := range views {
		for i, ch := range engines { // any of them can be read
			all, err := ch.Query(t.Context(), "SELECT uniqExact(tenant) FROM usage_api."+v)
			if err != nil || all != "2" {
				t.Errorf("%s at server %d: the services see %s tenants, %v", v, i, all, err)
			}
			own, err := ch.QueryAs(t.Context(), analyst.User, analyst.Password, "SELECT count() > 0, countIf(tenant != 'acme') FROM usage_api."+v)
			if err != nil || own != "1\t0" {
				t.Errorf("%s at server %d: the analyst sees (own rows, rows of others) = %q, %v", v, i, own, err)
			}
		}
	}
	for _, forbidden := range []string{
		"SELECT count() FROM " + rig.Database + ".owner", "SELECT count() FROM " + rig.Rows + ".owner", "SELECT count() FROM " + rig.Database + ".events WHERE tenant = 'beta'",
		"SELECT count() FROM cluster('countinghouse', " + rig.Rows + ".events)", "SELECT count() FROM remote('127.0.0.1', " + rig.Rows + ".events)",
	} {
		if got, err := engines[0].QueryAs(t.Context(), analyst.User, analyst.Password, forbidden); err == nil {
			t.Errorf("the analyst may ask %s: %s", forbidden, got)
		}
	}
}
