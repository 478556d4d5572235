package reporter_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/report/reporttest"
	"github.com/countinghouse/countinghouse/internal/reporter"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestMain(m *testing.M) { localstack.Main(m) }

// now is the reporter's clock: March 2026 is open, February provisional.
func now() time.Time { return time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC) }

// certifier stands for package audit, which has tests of its own.
type certifier struct{}

func (certifier) Certificate(_ context.Context, tenant, month string) (json.RawMessage, error) {
	if month == "1999-01" {
		return nil, errors.New("the log did not answer")
	}
	return json.Marshal(map[string]any{"ok": true, "asked": tenant + " " + month})
}

func (certifier) Heads(context.Context) (map[uint16]uint64, error) { return map[uint16]uint64{}, nil }

func (certifier) Month(context.Context, string, usage.Month) ([]audit.MonthDifference, error) {
	return nil, nil
}

// desk is a reporter over a filled warehouse, with keys of two tenants.
type desk struct {
	testing.TB
	app   *reporter.App
	world *reporttest.World
	keys  *control.Client
	acme  string // every reading scope
	other string
	admin string // admin of tenant default
}

func open(t testing.TB, stack *localstack.Stack) *desk {
	t.Helper()
	d := &desk{TB: t}
	dsn := stack.ClickHouse.DSN(stack.Database(t))
	var err error
	if d.world, err = reporttest.Open(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.world.Close)
	log := zap.NewNop()
	if testing.Verbose() {
		log = zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel))
	}
	cfg := reporter.DefaultConfig()
	cfg.Listen, cfg.AdminListen, cfg.Clock = "127.0.0.1:0", "127.0.0.1:0", now
	cfg.ClickHouse.DSN, cfg.NATS.URL = dsn, stack.NATSURL
	cfg.HTTP.DrainDelay, cfg.HTTP.DrainWait, cfg.Audit = 0, time.Minute, certifier{}
	if d.app, err = reporter.Start(t.Context(), cfg, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
		defer cancel()
		if err := d.app.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := d.app.Wait(); err != nil {
			t.Errorf("Wait: %v", err)
		}
	})
	if d.keys, err = control.Dial(t.Context(), cfg.NATS, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.keys.Close)
	d.acme = d.key("acme", "usage:read", "reports:read", "dlq:read")
	d.other = d.key("other", "usage:read", "reports:read", "dlq:read", "admin")
	d.admin = d.key("default", "admin")
	return d
}

func (d *desk) key(tenant string, scopes ...string) string {
	d.Helper()
	_, secret, err := d.keys.Create(d.Context(), tenant, "test", scopes, time.Time{})
	if err != nil {
		d.Fatal(err)
	}
	return secret
}

// send is one request; the answer's header and body. 503 is asked again, as every client should: a machine that stood
// still for seconds gives it.
func (d *desk) send(method, key, path, accept, body string) (int, http.Header, string) {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		status, header, answer := d.once(method, key, path, accept, body)
		if status != http.StatusServiceUnavailable || ctx.Err() != nil {
			return status, header, answer
		}
		<-tick.C
	}
}

// once is send for where 503 is the answer.
func (d *desk) once(method, key, path, accept, body string) (int, http.Header, string) {
	d.Helper()
	req, err := http.NewRequestWithContext(d.Context(), method, "http://"+d.app.Addr()+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		d.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(answer)
}

// get reads JSON.
func (d *desk) get(key, path string, into any) {
	d.Helper()
	status, _, body := d.send(http.MethodGet, key, path, "", "")
	if status != http.StatusOK {
		d.Fatalf("GET %s: %d %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		d.Fatalf("GET %s: %v in %s", path, err, body)
	}
}

// refused is the problem a request is answered with.
func (d *desk) refused(method, key, path string, status int, code string) problem.Problem {
	d.Helper()
	ask := d.send
	if status == http.StatusServiceUnavailable {
		ask = d.once
	}
	got, header, body := ask(method, key, path, "", "")
	var p problem.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		d.Fatalf("%s %s: %d %q: %v", method, path, got, body, err)
	}
	if got != status || p.Status != status || p.Code != code || p.CorrelationID == "" || p.Type != "urn:countinghouse:problem:"+code ||
		header.Get("Content-Type") != problem.ContentType || header.Get("Cache-Control") != "no-store" {
		d.Errorf("%s %s: %d %s %v, want %d %s", method, path, got, body, header, status, code)
	}
	if allow := header.Get("Allow"); (status == http.StatusMethodNotAllowed) != (allow != "") {
		d.Errorf("%s %s: %d with Allow %q", method, path, status, allow)
	}
	return p
}

// add stores events of a tenant, recorded a second apart.
func (d *desk) add(tenant string, docs ...string) {
	d.Helper()
	for _, doc := range docs {
		recorded := now().Add(-time.Hour).UnixMilli() + int64(d.world.Seq())*1000
		if err := d.world.Add(tenant, recorded, doc); err != nil {
			d.Fatal(err)
		}
	}
	if err := d.world.Flush(d.Context()); err != nil {
		d.Fatal(err)
	}
}

// source has everything that must survive a path segment.
const source = "https://crm/x%20y?a=b&c#d"

func event(id, typ, subject, at, data string) string {
	if subject != "" {
		subject = fmt.Sprintf(`"subject":%q,`, subject)
	}
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":%q,%s"time":%q,"data":%s}`, id, source, typ, subject, at, data)
}

// fill is a small group of accounts whose plan changes at 12:20, and a canary of another tenant.
func (d *desk) fill() {
	d.Helper()
	metered := func(id, account, at, q string) string {
		return event(id, "usage.metered", account, at, fmt.Sprintf(`{"meter":"tokens","quantity":%q,"region":"eu","dimensions":{"model":"=x"}}`, q))
	}
	d.add("acme",
		event("m", "meter.defined", "", "2026-01-01T00:00:00Z", `{"meter":"tokens","meter_id":"m1","element":"token","unit":"token","aggregation":"sum","scale":9,"kind":"usage","service":"sta"}`),
		event("a1", "account.created", "A-1", "2026-01-01T00:00:00Z", `{"name":"=Acme, \"MSP\"","kind":"provider"}`),
		event("a2", "account.created", "A-2", "2026-01-01T00:00:00Z", `{"name":"Beta Bank","kind":"customer","parent_account_id":"A-1"}`),
		event("p1", "service.plan_set", "A-2", "2026-01-01T00:00:00Z", `{"service":"sta","plan":"STA Basic"}`),
		event("p2", "service.plan_set", "A-2", "2026-03-10T12:20:00Z", `{"service":"sta","plan":"STA Premium"}`),
		metered("u1", "A-2", "2026-03-10T12:19:59.999Z", "1.5"),
		metered("u2", "A-2", "2026-03-10T12:20:00Z", "2"),
		metered("u3", "A-2", "2026-03-10T12:59:59.999Z", "0.000000001"),
		metered("u4", "A-2", "2026-03-10T11:00:00Z", "10"),
		metered("u5", "ghost", "2026-03-11T00:00:00Z", "-7"),
		metered("u6", "A-2", "2026-02-28T23:59:59.999Z", "100"),
	)
	d.add("other",
		event("c1", "account.created", "A-2", "2026-01-01T00:00:00Z", `{"name":"CANARY","kind":"customer"}`),
		event("u1", "usage.metered", "A-2", "2026-03-10T12:00:00Z", `{"meter":"tokens","quantity":"4711","region":"CANARY"}`),
		event("canary", "usage.metered", "CANARY", "2026-03-10T12:00:00Z", `{"meter":"CANARY","quantity":"4711"}`),
	)
	d.world.Dead(warehouse.DeadLetterRow{
		Tenant: "other", Source: source, ID: "u2", Reason: "poison", Detail: "CANARY", Raw: []byte("CANARY"), RecordedAt: usage.AtTime(now()),
	})
	d.add("other")
}

// await polls until done.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}
