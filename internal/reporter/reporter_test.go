package reporter_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func TestPlanChangeSplitsTheHourExactly(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	var month struct {
		Month, State string
		Version      int
		Positions    map[string]uint64
		AsOf         string `json:"as_of"`
		Rows         []struct {
			Account, Plan, Unit string
			Name                string `json:"account_name"`
			Resolved            bool
			Quantity, Region    string
			QuantityTree        string `json:"quantity_tree"`
			Events              int
			EventsTree          int     `json:"events_tree"`
			FirstAt             *string `json:"first_at"`
			LastAt              *string `json:"last_at"`
		}
		Next *string
	}
	d.get(d.acme, "/months/2026-03/usage", &month)
	var lines []string
	for _, r := range month.Rows {
		at := func(s *string) string {
			if s == nil {
				return "-"
			}
			return *s
		}
		lines = append(lines, fmt.Sprint(r.Account, "|", r.Name, "|", r.Plan, "|", r.Unit, "|", r.Resolved, "|", r.Quantity, "|", r.Events, "|", r.QuantityTree, "|", r.EventsTree, "|", at(r.FirstAt), "|", at(r.LastAt)))
	}
	want := []string{
		`A-1|=Acme, "MSP"|STA Basic|token|true|0|0|11.5|2|-|-`,
		`A-1|=Acme, "MSP"|STA Premium|token|true|0|0|2.000000001|2|-|-`,
		`A-2|Beta Bank|STA Basic|token|true|11.5|2|11.5|2|2026-03-10T11:00:00Z|2026-03-10T12:19:59.999Z`,
		`A-2|Beta Bank|STA Premium|token|true|2.000000001|2|2.000000001|2|2026-03-10T12:20:00Z|2026-03-10T12:59:59.999Z`,
		`ghost|||token|false|-7|1|-7|1|2026-03-11T00:00:00Z|2026-03-11T00:00:00Z`,
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("rows:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
	if month.Month != "2026-03" || month.State != "open" || month.Version != 0 || month.Next != nil || month.Positions["0"] != 15 || month.AsOf == "" {
		t.Errorf("month = %+v", month)
	}

	var hours struct {
		Closed    bool
		Watermark struct {
			At        string
			Positions map[string]uint64
		}
		Rows []map[string]any
	}
	d.get(d.acme, "/meters/tokens/usage?from=2026-03-10T12:00:00Z&to=2026-03-10T15:00:00%2B02:00&window=hour&group_by=plan,trial&account=A-2", &hours)
	if got, want := fmt.Sprint(hours.Rows), "[map[end:2026-03-10T13:00:00Z events:1 plan:STA Basic quantity:1.5 start:2026-03-10T12:00:00Z trial:false] "+
		"map[end:2026-03-10T13:00:00Z events:2 plan:STA Premium quantity:2.000000001 start:2026-03-10T12:00:00Z trial:false]]"; got != want {
		t.Errorf("hours = %s\nwant %s", got, want)
	}
	if hours.Watermark.Positions["0"] != 15 || hours.Watermark.At == "" || hours.Closed {
		t.Errorf("watermark = %+v", hours)
	}
}

func TestCSV(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	for name, path := range map[string]string{
		"month.csv": "/months/2026-03/usage", "months.csv": "/months", "usage.csv": "/meters/tokens/usage?from=2026-03-01T00:00:00Z&window=day&group_by=account,dimensions.model,trial",
	} {
		t.Run(name, func(t *testing.T) {
			status, header, body := d.send(http.MethodGet, d.acme, path, "text/csv", "")
			if *update {
				if err := os.WriteFile("testdata/"+name, []byte(body), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile("testdata/" + name)
			if err != nil {
				t.Fatal(err)
			}
			if status != http.StatusOK || header.Get("Content-Type") != "text/csv; charset=utf-8; header=present" || body != string(want) {
				t.Errorf("%d %s\n%q\nwant\n%q", status, header.Get("Content-Type"), body, want)
			}
			separator := "?"
			if strings.Contains(path, "?") {
				separator = "&"
			}
			if _, _, same := d.send(http.MethodGet, d.acme, path+separator+"format=csv", "", ""); same != body {
				t.Errorf("format=csv: %q", same)
			}
		})
	}
}

func TestPagesAreTheWhole(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	type page struct {
		Rows []json.RawMessage
		Next *string
	}
	var whole page
	d.get(d.acme, "/months/2026-03/usage", &whole)
	var rows []json.RawMessage
	path := "/months/2026-03/usage?limit=2"
	for {
		var p page
		d.get(d.acme, path, &p)
		rows = append(rows, p.Rows...)
		if p.Next == nil {
			break
		}
		if len(rows) == 2 { // what comes in between does not move a page
			d.add("acme", event("late", "usage.metered", "A-1", "2026-03-01T00:00:00Z", `{"meter":"aaa","quantity":"1"}`))
		}
		path = "/months/2026-03/usage?limit=2&cursor=" + url.QueryEscape(*p.Next)
	}
	if fmt.Sprintf("%s", rows) != fmt.Sprintf("%s", whole.Rows) {
		t.Errorf("pages: %s\nwhole: %s", rows, whole.Rows)
	}
	var p page
	d.get(d.acme, "/months/2026-03/usage?limit=1", &p)
	cursor := url.QueryEscape(*p.Next)
	d.refused(http.MethodGet, d.other, "/months/2026-03/usage?limit=1&cursor="+cursor, 400, "bad-cursor")
	d.refused(http.MethodGet, d.acme, "/months/2026-02/usage?limit=1&cursor="+cursor, 400, "bad-cursor")
	d.refused(http.MethodGet, d.acme, "/months/2026-03/usage?limit=1&cursor=A"+cursor, 400, "bad-cursor")
	d.refused(http.MethodGet, d.acme, "/events?cursor="+cursor, 400, "bad-cursor")
}

func TestRefusals(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	tests := map[string]struct {
		method, key, path string
		status            int
		code, parameter   string
	}{
		"no key":            {"GET", "", "/months", 401, "unauthorized", ""},
		"not a key":         {"GET", "x", "/months", 401, "unauthorized", ""},
		"missing scope":     {"GET", d.admin, "/months", 403, "missing-scope", ""},
		"no dlq scope":      {"GET", d.key("acme", "usage:read"), "/dead-letters", 403, "missing-scope", ""},
		"unknown parameter": {"GET", d.acme, "/months?montth=1", 400, "unknown-parameter", "montth"},
		"twice":             {"GET", d.acme, "/meters/tokens/usage?window=day&window=hour", 400, "bad-parameter", "window"},
		"window":            {"GET", d.acme, "/meters/tokens/usage?window=week", 400, "bad-parameter", "window"},
		"group_by":          {"GET", d.acme, "/meters/tokens/usage?group_by=colour", 400, "bad-parameter", "group_by"},
		"group_by twice":    {"GET", d.acme, "/meters/tokens/usage?group_by=plan&group_by=plan", 400, "bad-parameter", "group_by"},
		"naive time":        {"GET", d.acme, "/meters/tokens/usage?from=2026-03-01T00:00:00", 400, "bad-parameter", "from"},
		"to before from":    {"GET", d.acme, "/meters/tokens/usage?from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z", 400, "bad-parameter", "from"},
		"format":            {"GET", d.acme, "/months?format=xml", 400, "bad-parameter", "format"},
		"month":             {"GET", d.acme, "/months/2026-13", 400, "bad-parameter", "month"},
		"limit":             {"GET", d.acme, "/months/2026-03/usage?limit=1001", 400, "bad-parameter", "limit"},
		"version":           {"GET", d.acme, "/months/2026-03/usage?version=1", 404, "no-such-version", "version"},
		"not settled":       {"GET", d.acme, "/months/2026-03/usage?as_of=2030-01-01T00:00:00Z", 409, "not-settled", "as_of"},
		"meter not settled": {"GET", d.acme, "/meters/tokens/usage?as_of=2030-01-01T00:00:00Z", 409, "not-settled", "as_of"},
		"two states":        {"GET", d.acme, "/months/2026-03/usage?as_of=2026-03-20T11:00:20Z&version=1", 400, "bad-parameter", "version"},
		"path":              {"GET", d.acme, "/nothing", 404, "not-found", ""},
		"report":            {"GET", d.acme, "/reports/nothing", 404, "not-found", ""},
		"method":            {"PUT", d.acme, "/months", 405, "method-not-allowed", ""},
		"event never seen":  {"GET", d.acme, "/events/crm/none", 404, "not-found", ""},
		"source without id": {"GET", d.acme, "/events?source=crm", 400, "bad-parameter", "source"},
		"position":          {"GET", d.acme, "/dead-letters/0/x/0", 400, "bad-parameter", "seq"},
		"other's keys":      {"GET", d.other, "/keys?tenant=acme", 403, "missing-scope", ""},
		"all keys":          {"GET", d.other, "/keys?tenant=*", 403, "missing-scope", ""},
		"other's audit":     {"GET", d.acme, "/audit?tenant=other", 403, "missing-scope", ""},
		"audit of no month": {"GET", d.acme, "/audit?month=2026-00", 400, "bad-parameter", "month"},
		"audit of nobody":   {"GET", d.admin, "/audit?tenant=nobody", 404, "not-found", "tenant"},
		"no such reason":    {"GET", d.acme, "/dead-letters?reason=conflikt", 400, "bad-parameter", "reason"},
		"no such rule":      {"GET", d.acme, "/dead-letters?reason=rule:x", 400, "bad-parameter", "reason"},
		"audit broken":      {"GET", d.acme, "/audit?month=1999-01", 503, "audit-unavailable", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := d.refused(tt.method, tt.key, tt.path, tt.status, tt.code)
			if tt.parameter != "" && (len(p.Errors) != 1 || p.Errors[0].Parameter != tt.parameter) {
				t.Errorf("errors = %+v, want one about %s", p.Errors, tt.parameter)
			}
			if tt.status == http.StatusBadRequest && !strings.Contains(p.Detail, tt.parameter) {
				t.Errorf("detail %q does not name the parameter %s", p.Detail, tt.parameter)
			}
		})
	}
}

// TestNoAnswerHoldsAnothersData asks everything there is with one tenant's key.
func TestNoAnswerHoldsAnothersData(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	segment := url.PathEscape(source)
	for _, path := range []string{
		"/months", "/months/2026-03", "/months/2026-03/usage", "/months/2026-03/usage?as_of=2026-03-20T11:00:20Z", "/meters/tokens/usage?from=2026-01-01T00:00:00Z&group_by=account,region",
		"/meters/CANARY/usage", "/meters/tokens/usage?account=CANARY&group_by=account", "/events", "/events?account=CANARY", "/events/" + segment + "/u1",
		"/dead-letters?raw=true", "/ledger", "/freshness", "/keys",
	} {
		for _, accept := range []string{"application/json", "text/csv"} {
			_, _, body := d.send(http.MethodGet, d.acme, path, accept, "")
			if echo := strings.ReplaceAll(body, `"meter":"CANARY"`, ""); strings.Contains(echo, "CANARY") || strings.Contains(body, "4711") {
				t.Errorf("GET %s (%s) shows another tenant's data: %s", path, accept, body)
			}
		}
	}
	d.refused(http.MethodGet, d.acme, "/events/"+segment+"/canary", 404, "not-found")
	d.refused(http.MethodGet, d.acme, fmt.Sprintf("/dead-letters/0/%d/0", d.world.Seq()), 404, "not-found")
	var ledger struct {
		Rows []struct{ Accepted, Stored int }
	}
	d.get(d.acme, "/ledger", &ledger)
	if len(ledger.Rows) != 1 || ledger.Rows[0].Accepted != 11 || ledger.Rows[0].Stored != 11 {
		t.Errorf("ledger of acme = %+v, want 11 events", ledger.Rows)
	}
}

func TestFateOfAnEvent(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	d.world.Duplicate("acme", now().UnixMilli(), source, "u2")
	d.world.Dead(warehouse.DeadLetterRow{
		Tenant: "acme", Source: source, ID: "u2", Type: "usage.metered", Reason: "conflict", Detail: "other content", Raw: []byte(`{"a":1}`),
		RecordedAt: usage.AtTime(now()), Original: warehouse.Position{Seq: 7},
	})
	d.world.Dead(warehouse.DeadLetterRow{
		Tenant: "acme", Source: source, ID: "bad", Reason: "poison", Detail: "not UTF-8", Raw: []byte{0xff, 0x00}, RecordedAt: usage.AtTime(now().Add(time.Second)),
	})
	if err := d.world.Void("acme", now().UnixMilli(), source, "u1"); err != nil {
		t.Fatal(err)
	}
	d.add("acme")

	type trace struct {
		Status, Meter, Quantity string
		Position                *struct{ Shard, Seq, Idx int }
		Correlation             string `json:"correlation_id"`
		Deliveries              []struct {
			Result, Reason string
			Position       struct{ Seq int }
			Original       *struct{ Seq int }
		}
		Voids []struct{ Effect string }
	}
	var got trace
	d.get(d.acme, "/events/"+url.PathEscape(source)+"/u2", &got)
	if got.Status != "stored" || got.Quantity != "2" || got.Meter != "tokens" || got.Position.Seq != 7 || got.Correlation != "corr-u2" || len(got.Deliveries) != 3 ||
		got.Deliveries[1].Result != "duplicate" || got.Deliveries[1].Original.Seq != 7 || got.Deliveries[2].Result != "conflict" {
		t.Errorf("u2 = %+v", got)
	}
	got = trace{}
	d.get(d.acme, "/events?source="+url.QueryEscape(source)+"&id=u1", &got)
	if got.Status != "voided" || len(got.Voids) != 1 || got.Voids[0].Effect != "acted" {
		t.Errorf("u1 = %+v", got)
	}
	got = trace{}
	d.get(d.acme, "/events/"+url.PathEscape(source)+"/bad", &got)
	if got.Status != "quarantined" || got.Deliveries[0].Reason != "poison" || got.Position != nil {
		t.Errorf("bad = %+v", got)
	}

	var dead struct {
		Rows []struct {
			Shard, Seq, Idx int
			Reason          string
			Raw             []byte
			RawText         *string `json:"raw_text"`
		}
		Next *string
	}
	d.get(d.acme, "/dead-letters?limit=1", &dead)
	if len(dead.Rows) != 1 || dead.Rows[0].Reason != "poison" || dead.Rows[0].Raw != nil || dead.Next == nil {
		t.Fatalf("dead letters = %+v", dead)
	}
	position := fmt.Sprintf("/dead-letters/%d/%d/%d", dead.Rows[0].Shard, dead.Rows[0].Seq, dead.Rows[0].Idx)
	d.get(d.acme, "/dead-letters?limit=1&raw=true&cursor="+url.QueryEscape(*dead.Next), &dead)
	if len(dead.Rows) != 1 || dead.Rows[0].Reason != "conflict" || *dead.Rows[0].RawText != `{"a":1}` {
		t.Errorf("second page = %+v", dead)
	}
	var one struct{ Raw []byte }
	d.get(d.acme, position, &one)
	if string(one.Raw) != "\xff\x00" {
		t.Errorf("raw = %q", one.Raw)
	}

	var list struct {
		Rows []struct {
			ID, Quantity string
			Seq          int
		}
		Next, Newest *string
	}
	d.get(d.acme, "/events?type=usage.metered&limit=2", &list)
	if len(list.Rows) != 2 || list.Rows[0].ID != "u6" || list.Rows[1].ID != "u5" {
		t.Errorf("newest = %+v", list.Rows)
	}
	newest := *list.Newest
	d.get(d.acme, "/events?type=usage.metered&limit=2&cursor="+url.QueryEscape(*list.Next), &list)
	if len(list.Rows) != 2 || list.Rows[0].ID != "u4" {
		t.Errorf("older = %+v", list.Rows)
	}
	d.add("acme", event("new", "usage.metered", "A-1", "2026-03-01T00:00:00Z", `{"meter":"tokens","quantity":"1"}`))
	d.get(d.acme, "/events?type=usage.metered&after="+url.QueryEscape(newest), &list)
	if len(list.Rows) != 1 || list.Rows[0].ID != "new" {
		t.Errorf("following = %+v", list.Rows)
	}
}

func TestAudit(t *testing.T) {
	d := open(t, localstack.Shared(t))
	for key, question := range map[string][2]string{
		d.acme: {"/audit?month=2026-03", "acme 2026-03"}, d.key("default", "admin"): {"/audit?tenant=*", " "}, d.admin: {"/audit?tenant=acme", "acme "},
	} {
		var certificate struct {
			OK    bool
			Asked string
		}
		d.get(key, question[0], &certificate)
		if !certificate.OK || certificate.Asked != question[1] {
			t.Errorf("GET %s: %+v, want one of %q", question[0], certificate, question[1])
		}
	}
}

// Who changes a row of a closed version in ClickHouse is told of by the audit of the API, whose own part, the log and its
// tables, agrees as before.
func TestAuditHasClosedVersions(t *testing.T) {
	t.Parallel()
	stack := localstack.Start(t, localstack.Options{NoClickHouse: true}) // no other test's audit of all tenants has these versions
	stack.ClickHouse = localstack.SharedClickHouse(t)
	d := open(t, stack)
	d.add("acme", event("1", "usage.metered", "A-1", "2026-02-10T00:00:00Z", `{"meter":"tokens","quantity":"1"}`))
	d.add("acme", event("2", "usage.metered", "A-1", "2026-03-10T00:00:00Z", `{"meter":"tokens","quantity":"1"}`)) // the log's clock passes the first
	key := d.key("acme", "reports:read", "months:close")
	if status, _, answer := d.send(http.MethodPost, key, "/months/2026-02/close", "", ""); status != http.StatusOK {
		t.Fatalf("close: %d %s", status, answer)
	}
	var c audit.Certificate
	if d.get(key, "/audit", &c); !c.OK || len(c.Differences) > 0 {
		t.Errorf("nothing was changed: %+v", c)
	}
	const change = `ALTER TABLE {{db}}.month_rows UPDATE quantity = quantity + 1 WHERE month = '2026-02' SETTINGS mutations_sync = 2`
	if err := d.world.W.Remove(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if d.get(key, "/audit", &c); c.OK || len(c.Differences) != 1 || c.Differences[0].Check != audit.CheckVersion {
		t.Errorf("a row of the closed version was changed: %+v", c)
	}
}

func TestKeys(t *testing.T) {
	d := open(t, localstack.Shared(t))
	type key struct {
		ID, Key, Tenant string
		Scopes          []string
		ExpiresAt       *time.Time `json:"expires_at"`
	}
	mint := func(admin, body string, want int) key {
		t.Helper()
		status, _, answer := d.send(http.MethodPost, admin, "/keys", "", body)
		var k key
		if err := json.Unmarshal([]byte(answer), &k); err != nil || status != want {
			t.Fatalf("POST /keys %s: %d %s, want %d", body, status, answer, want)
		}
		return k
	}
	made := mint(d.other, `{"name":"ci","scopes":["usage:read"],"expires":"30d"}`, 201)
	if made.Tenant != "other" || made.Key == "" || made.ExpiresAt == nil || time.Until(*made.ExpiresAt).Round(time.Hour) != 30*24*time.Hour {
		t.Errorf("made %+v", made)
	}
	d.get(made.Key, "/months", &struct{}{})
	mint(d.other, `{"tenant":"acme","scopes":["usage:read"]}`, 403)
	mint(d.other, `{"scopes":["all"]}`, 400)
	mint(d.other, `{"scopes":["usage:read"],"expires":"soon"}`, 400)
	mint(d.other, `{"scopes":["usage:read"],"colour":1}`, 422)
	mint(d.other, `[`, 400)
	mint(d.acme, `{"scopes":["usage:read"]}`, 403)
	foreign := mint(d.admin, `{"tenant":"newcomer","scopes":["usage:read"],"expires_at":"2199-01-01T00:00:00Z"}`, 201)

	var list struct{ Rows []key }
	d.get(d.other, "/keys", &list)
	for _, k := range list.Rows {
		if k.Tenant != "other" || k.Key != "" {
			t.Errorf("listed %+v", k)
		}
	}
	d.get(d.admin, "/keys?tenant=*", &list)
	if len(list.Rows) < 5 {
		t.Errorf("all keys: %+v", list.Rows)
	}
	d.refused(http.MethodDelete, d.other, "/keys/"+foreign.ID, 404, "not-found")
	if status, _, body := d.send(http.MethodDelete, d.other, "/keys/"+made.ID, "", ""); status != http.StatusNoContent || body != "" {
		t.Errorf("DELETE: %d %s", status, body)
	}
	d.refused(http.MethodGet, made.Key, "/months", 401, "unauthorized")
}

func TestDescription(t *testing.T) {
	d := open(t, localstack.Shared(t))
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Parameters []struct{ Name, In string }
			Responses  map[string]struct{ Content map[string]any }
		}
		Servers []struct{ URL string }
	}
	d.get("", "/openapi.json", &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || len(doc.Paths) < 11 || doc.Servers[0].URL != "/api/v1" {
		t.Errorf("document = %+v", doc)
	}
	for path, item := range doc.Paths {
		for method, op := range item {
			for _, p := range op.Parameters {
				if p.In != "query" && p.In != "path" {
					t.Errorf("%s %s has parameter %+v", method, path, p)
				}
			}
			if op.Responses["default"].Content[problem.ContentType] == nil {
				t.Errorf("%s %s does not say how it refuses", method, path)
			}
		}
	}
	usageOp := doc.Paths["/meters/{meter}/usage"]["get"]
	if usageOp.Responses["200"].Content["text/csv"] == nil || len(usageOp.Parameters) != 8 {
		t.Errorf("meter usage = %+v", usageOp)
	}
	status, header, page := d.send(http.MethodGet, "", "/docs", "", "")
	for _, code := range []string{"not-settled", "/months/{month}/usage", "group_by"} {
		if !strings.Contains(page, code) {
			t.Errorf("the page does not mention %s", code)
		}
	}
	if status != 200 || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") || strings.Contains(page, "<script") {
		t.Errorf("docs: %d %v", status, header)
	}
}

func TestClickHouseDown(t *testing.T) {
	stack := localstack.Start(t, localstack.Options{})
	d := open(t, stack)
	d.fill()
	ready := func() (int, string) {
		resp, err := http.Get("http://" + d.app.AdminAddr() + "/readyz?verbose")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	await(t, "ready", func() bool { status, _ := ready(); return status == 200 })
	stack.ClickHouse.Kill()
	await(t, "not ready", func() bool { status, body := ready(); return status == 503 && strings.Contains(body, "warehouse") })
	d.refused(http.MethodGet, d.acme, "/months", 503, "warehouse-unavailable")
	_, header, _ := d.once(http.MethodGet, d.acme, "/months/2026-03/usage", "text/csv", "")
	if header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	if err := stack.ClickHouse.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "answers again", func() bool {
		status, _, _ := d.once(http.MethodGet, d.acme, "/months/2026-03/usage", "", "")
		return status == 200
	})
}
