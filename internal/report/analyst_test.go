package report_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/report/reporttest"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// D17: analysts of two tenants. What one has used, the other never sees, and neither can do more than read.
func TestD17AnalystsSQL(t *testing.T) {
	t.Parallel()
	const db = "countinghouse"
	var tables []localstack.Table
	for _, r := range warehouse.AnalystTables(db) {
		tables = append(tables, localstack.Table(r))
	}
	s := localstack.Start(t, localstack.Options{NoNATS: true, ClickHouse: localstack.ClickHouseConfig{
		Analysts: []localstack.Analyst{{User: "ann", Password: "one", Tenant: "t1"}, {User: "bob", Password: "two", Tenant: "t2"}}, Tables: tables,
	}})
	w, err := reporttest.Open(t.Context(), s.ClickHouse.DSN(db))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	at := month.UnixMilli()
	for i, doc := range []string{
		`"type":"account.created","subject":"A","data":{"name":"A","kind":"customer"}`,
		`"type":"instance.created","subject":"A","data":{"instance_id":"I"}`,
		`"type":"lineitem.mapped","subject":"A","data":{"activation_id":"ACT01","instance_id":"I","quantity":1000,"start":"2025-01-01T00:00:00Z","state":"DEPLOYED","series":"PublicationApps"}`,
		`"type":"elastic.operation","subject":"A","data":{"operation":"access_request","instance_id":"I","consumer":{"type":"user","value":"joe"},"lines":[
			{"line_no":1,"item":"PhotoPrint","item_quantity":10,"response":"101","activation_id":"ACT01","series":"PublicationApps","version":"1","meter_cost":3,"meter_quantity":30},
			{"line_no":2,"item":"CADPrint","item_quantity":2,"response":"101","activation_id":"ACT01","series":"PublicationApps","version":"1","meter_cost":7,"meter_quantity":14},
			{"line_no":3,"item":"CADPrint","item_quantity":2,"response":"202","meter_quantity":0}]}`,
	} {
		if err := w.Add("t1", at, fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"s","time":"2026-03-01T00:00:00Z",%s}`, i, doc)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	const sums = "SELECT ITEM, sum(METER_QUANTITY) FROM usage_api.elastic_usage_v1 WHERE REQUEST_RESPONSE='101' GROUP BY ITEM ORDER BY ITEM DESC"
	ask := func(user, sql string) string {
		t.Helper()
		got, err := s.ClickHouse.QueryAs(t.Context(), user, map[string]string{"ann": "one", "bob": "two"}[user], sql)
		if err != nil {
			t.Fatalf("%s: %s: %v", user, sql, err)
		}
		return strings.TrimSpace(got)
	}
	if got := ask("ann", sums); got != "PhotoPrint\t30\nCADPrint\t14" {
		t.Errorf("t1 sees %q", got)
	}
	if got := ask("ann", "SELECT activation_id, quantity, used, remaining, overage FROM usage_api.elastic_balance_v1"); got != "ACT01\t1000\t44\t956\t0" {
		t.Errorf("t1's balance is %q", got)
	}
	if got := ask("ann", "SELECT count() FROM usage_api.elastic_usage_v1 WHERE ACTIVATION_ID = '' AND USED IS NULL"); got != "1" {
		t.Errorf("t1 sees %s denied lines", got)
	}
	for _, sql := range []string{sums, "SELECT ITEM FROM usage_api.elastic_usage_v1", "SELECT activation_id FROM usage_api.elastic_balance_v1", "SELECT id FROM countinghouse.elastic_lines"} {
		if got := ask("bob", sql); got != "" {
			t.Errorf("t2: %s: %q", sql, got)
		}
	}
	for _, sql := range []string{
		"INSERT INTO countinghouse.elastic_lines (tenant) VALUES ('t1')", "ALTER TABLE countinghouse.elastic_lines DELETE WHERE 1", "DROP TABLE countinghouse.elastic_lines",
		"CREATE TABLE default.x (a UInt8) ENGINE = Memory", "SELECT name FROM system.users", "SELECT query FROM system.query_log", "SELECT count() FROM numbers(100000000000)",
	} {
		if got, err := s.ClickHouse.QueryAs(t.Context(), "ann", "one", sql); err == nil {
			t.Errorf("%s: %q", sql, got)
		}
	}
}
