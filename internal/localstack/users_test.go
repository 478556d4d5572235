package localstack_test

import (
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

const canary = "canary-of-another-tenant"

func TestAnalystsSeeTheirTenantOnly(t *testing.T) {
	t.Parallel()
	ch := localstack.Start(t, localstack.Options{NoNATS: true, ClickHouse: localstack.ClickHouseConfig{
		Analysts: []localstack.Analyst{
			{User: "analyst_acme", Password: "a-secret", Tenant: "acme"},
			{User: "analyst_other", Password: "b-secret", Tenant: "other"},
		},
		Tables: []localstack.Table{
			{Database: "house", Name: "events", Tenant: "tenant"},
			{Database: "house", Name: "rollup", Tenant: "tenant"},
			{Database: "house", Name: "shards"},
			{Database: "another", Name: "things", Tenant: "owner"},
		},
	}}).ClickHouse
	for _, sql := range []string{
		"CREATE DATABASE house", "CREATE DATABASE another", "CREATE DATABASE usage_api",
		"CREATE TABLE house.events (tenant String, what String) ENGINE = MergeTree ORDER BY tenant",
		"CREATE TABLE house.rollup (tenant String, what String) ENGINE = MergeTree ORDER BY tenant",
		"CREATE TABLE house.keys (tenant String, what String) ENGINE = MergeTree ORDER BY tenant",
		"CREATE TABLE house.shards (shard UInt16) ENGINE = MergeTree ORDER BY shard",
		"CREATE TABLE another.things (owner String, what String) ENGINE = MergeTree ORDER BY owner",
		"INSERT INTO house.events (tenant, what) VALUES ('acme', 'own'), ('other', '" + canary + "')",
		"INSERT INTO house.rollup (tenant, what) VALUES ('acme', 'own'), ('other', '" + canary + "')",
		"INSERT INTO house.keys (tenant, what) VALUES ('acme', 'own'), ('other', '" + canary + "')",
		"INSERT INTO another.things (owner, what) VALUES ('acme', 'own'), ('other', '" + canary + "')",
		"INSERT INTO house.shards (shard) VALUES (7)",
		"CREATE VIEW usage_api.events SQL SECURITY INVOKER AS SELECT tenant, what FROM house.events",
		"CREATE VIEW usage_api.joined SQL SECURITY INVOKER AS SELECT e.what AS what, r.what AS rolled, t.what AS thing FROM house.events AS e JOIN house.rollup AS r ON 1 = 1 JOIN another.things AS t ON 1 = 1",
		"CREATE VIEW usage_api.shards SQL SECURITY INVOKER AS SELECT shard FROM house.shards",
		"CREATE VIEW usage_api.keys SQL SECURITY INVOKER AS SELECT what FROM house.keys",
	} {
		query(t, ch, sql)
	}
	if got := query(t, ch, "SELECT what FROM usage_api.events ORDER BY what"); got != canary+"\nown" {
		t.Errorf("the services see %q, want every row", got)
	}
	allowed := map[string]string{
		"SELECT what FROM usage_api.events":                                        "own",
		"SELECT what, rolled, thing FROM usage_api.joined":                         "own\town\town",
		"SELECT shard FROM usage_api.shards":                                       "7",
		"SELECT what FROM merge('usage_api', '^events$')":                          "own",
		"SELECT what FROM house.events":                                            "own",
		"SELECT count() FROM (SELECT what FROM usage_api.events)":                  "1",
		"SELECT what FROM usage_api.events WHERE tenant = 'other'":                 "",
		"SELECT what FROM usage_api.events PREWHERE tenant != 'acme' OR 1":         "",
		"SELECT count() FROM usage_api.events WHERE throwIf(tenant = 'other') = 0": "1",
	}
	for sql, want := range allowed {
		got, err := ch.QueryAs(t.Context(), "analyst_acme", "a-secret", sql)
		if strings.Contains(sql, "PREWHERE") && err != nil {
			continue // views take no PREWHERE: refused is as good
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", sql, got, err, want)
		}
	}
	if got, err := ch.QueryAs(t.Context(), "analyst_other", "b-secret", "SELECT what FROM usage_api.events"); err != nil || got != canary {
		t.Errorf("the other tenant sees %q, %v", got, err)
	}
	refused := []string{
		"SELECT what FROM usage_api.keys", // a view over a table that is not listed
		"SELECT what FROM house.keys",
		"INSERT INTO house.events (tenant, what) VALUES ('acme', 'x')",
		"CREATE TEMPORARY TABLE x (n Int8)",
		"CREATE TABLE usage_api.x (n Int8) ENGINE = Memory",
		"DROP VIEW usage_api.events",
		"SELECT what FROM remote('127.0.0.1', house.events)",
		"SELECT line FROM file('/etc/hostname', 'LineAsString')",
		"SELECT line FROM url('" + ch.URL() + "/ping', 'LineAsString')",
		"SELECT query FROM system.query_log",
		"SELECT query FROM system.processes",
		"SELECT name FROM system.users",
		"SELECT select_filter FROM system.row_policies",
		"SELECT name FROM system.parts",
		"SELECT name FROM system.server_settings",
		"SYSTEM FLUSH LOGS",
		"KILL QUERY WHERE 1 SYNC",
		"SET max_execution_time = 0",
		"SELECT 1 SETTINGS max_memory_usage = 0",
		"SELECT what FROM executable('cat', 'TSV', 'what String')",
		"EXECUTE AS default SELECT what FROM house.events",
	}
	for _, sql := range refused {
		if got, err := ch.QueryAs(t.Context(), "analyst_acme", "a-secret", sql); err == nil {
			t.Errorf("%s: answered %q, want a refusal", sql, got)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the refusal tells the other tenant's data: %v", sql, err)
		}
	}
	// Drivers turn a deadline into max_execution_time: that one setting may be lowered or raised within bounds.
	if _, err := ch.QueryAs(t.Context(), "analyst_acme", "a-secret", "SELECT 1 SETTINGS max_execution_time = 10"); err != nil {
		t.Errorf("a deadline of 10 s was refused: %v", err)
	}
	for _, setting := range []string{"max_execution_time = 1000", "max_memory_usage = 99999999999", "readonly = 0"} {
		if _, err := ch.QueryAs(t.Context(), "analyst_acme", "a-secret", "SELECT 1 SETTINGS "+setting); err == nil {
			t.Errorf("an analyst may set %s", setting)
		}
	}
	if _, err := ch.QueryAs(t.Context(), "analyst_acme", "b-secret", "SELECT 1"); err == nil {
		t.Error("another password was taken")
	}
}

func TestAnalystsChangeWithARestart(t *testing.T) {
	t.Parallel()
	s := localstack.Start(t, localstack.Options{NoNATS: true})
	if _, err := s.ClickHouse.QueryAs(t.Context(), "late", "secret", "SELECT 1"); err == nil {
		t.Fatal("the user exists already")
	}
	s.ClickHouse.SetAnalysts([]localstack.Analyst{{User: "late", Password: "secret", Tenant: "acme"}}, nil)
	if err := s.ClickHouse.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ClickHouse.QueryAs(t.Context(), "late", "secret", "SELECT 1"); err != nil {
		t.Error(err)
	}
}

func TestWriteUsersRefusesNamesThatMeanSomethingElse(t *testing.T) {
	t.Parallel()
	good := localstack.Analyst{User: "a", Password: "secret", Tenant: "acme"}
	tests := map[string]struct {
		analyst localstack.Analyst
		table   localstack.Table
		want    string
	}{
		"quote in tenant": {analyst: localstack.Analyst{User: "a", Password: "p", Tenant: "x' OR '1"}, want: "tenant"},
		"markup in user":  {analyst: localstack.Analyst{User: "a><b", Password: "p", Tenant: "acme"}, want: "user"},
		"default":         {analyst: localstack.Analyst{User: "default", Password: "p", Tenant: "acme"}, want: "user"},
		"no password":     {analyst: localstack.Analyst{User: "a", Tenant: "acme"}, want: "password"},
		"table":           {analyst: good, table: localstack.Table{Database: "d", Name: "*"}, want: "not names"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.table == (localstack.Table{}) {
				tt.table = localstack.Table{Database: "d", Name: "t", Tenant: "tenant"}
			}
			dir := t.TempDir()
			wantError(t, localstack.WriteUsers(dir, []localstack.Analyst{tt.analyst}, []localstack.Table{tt.table}), tt.want)
		})
	}
}
