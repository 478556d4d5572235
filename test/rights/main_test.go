// Package rights tries to see and do what one may not, rows 24 to 26 of the project's fault table: every operation of
// the API and every page, by every kind of caller, about their own and others' things; guessed, stolen and forged
// proofs of who one is; members of bodies nobody meant to be settable, and an audit log that was tampered with.
//
// One stack serves the package: NATS, ClickHouse with an analyst, and two reporters. Short form: 25 s.
package rights_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/report/reporttest"
	"github.com/countinghouse/countinghouse/internal/reporter"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const (
	database = "countinghouse"
	canary   = "CANARY7f3a" // in everything the tenant other has
	password = "canary-secret-password-91"
)

func TestMain(m *testing.M) { localstack.Main(m) }

// now is the clock of months: March 2026 is open.
func now() time.Time { return time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC) }

// certifier stands for package audit, which has tests of its own.
type certifier struct{}

func (certifier) Certificate(_ context.Context, tenant, _ string) (json.RawMessage, error) {
	return json.Marshal(map[string]any{"ok": true, "tenant": tenant})
}

func (certifier) Heads(context.Context) (map[uint16]uint64, error) { return map[uint16]uint64{}, nil }

func (certifier) Month(context.Context, string, usage.Month) ([]audit.MonthDifference, error) {
	return nil, nil
}

// house is the stack, and what is in it.
type house struct {
	testing.TB
	stack  *localstack.Stack
	apps   []*reporter.App
	store  *control.Client
	people *control.People
	log    *buffer
}

// buffer is what the reporters logged.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) Sync() error { return nil }

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// open starts it. change is made to the configuration of the reporters.
func open(t testing.TB, reporters int, change func(*reporter.Config)) *house {
	t.Helper()
	var tables []localstack.Table
	for _, one := range warehouse.AnalystTables(database) {
		tables = append(tables, localstack.Table(one))
	}
	h := &house{TB: t, log: &buffer{}, stack: localstack.Start(t, localstack.Options{ClickHouse: localstack.ClickHouseConfig{
		Analysts: []localstack.Analyst{{User: "ann", Password: "one", Tenant: "acme"}}, Tables: tables,
	}})}
	dsn := h.stack.ClickHouse.DSN(database)
	h.fill(dsn)
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), h.log, zapcore.DebugLevel))
	cfg := reporter.DefaultConfig()
	cfg.Listen, cfg.AdminListen, cfg.Clock, cfg.Audit = "127.0.0.1:0", "127.0.0.1:0", now, certifier{}
	cfg.ClickHouse.DSN, cfg.NATS.URL, cfg.CursorKey, cfg.HTTP.DrainDelay = dsn, h.stack.NATSURL, "0123456789abcdef", 0
	cfg.Months.SettleWait = 100 * time.Millisecond // nobody moves the log's clock here: a close is refused
	if change != nil {
		change(&cfg)
	}
	for range reporters {
		app, err := reporter.Start(t.Context(), cfg, log)
		if err != nil {
			t.Fatal(err)
		}
		h.apps = append(h.apps, app)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
			defer cancel()
			_ = app.Close(ctx) // what it proved, it proved before
		})
	}
	var err error
	if h.store, err = control.Dial(t.Context(), cfg.NATS, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.store.Close)
	h.people = h.store.People(t.Context())
	t.Cleanup(h.people.Close)
	h.until("operators are loaded", h.people.Ready)
	return h
}

// fill gives acme a tree of three accounts, other one of two, and both some usage.
func (h *house) fill(dsn string) {
	h.Helper()
	w, err := reporttest.Open(h.Context(), dsn)
	if err != nil {
		h.Fatal(err)
	}
	defer w.Close()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	n := 0
	add := func(tenant, kind, subject, data string) {
		n++
		doc := fmt.Sprintf(`{"specversion":"1.0","id":"%s-e%d","source":"src-%s","time":"2026-01-01T00:00:00Z","type":%q,"subject":%q,"data":%s}`,
			tenant, n, tenant, kind, subject, data)
		if err := w.Add(tenant, at+int64(n), doc); err != nil {
			h.Fatal(err)
		}
	}
	for _, a := range [][4]string{
		{"acme", "A-1", "", "Acme"}, {"acme", "A-2", "A-1", "Beta"}, {"acme", "A-3", "A-1", "Gamma"},
		{"other", canary + "-1", "", canary + " Root"}, {"other", canary + "-2", canary + "-1", canary + " Child"},
	} {
		parent := ""
		if a[2] != "" {
			parent = fmt.Sprintf(`,"parent_account_id":%q`, a[2])
		}
		add(a[0], "account.created", a[1], fmt.Sprintf(`{"name":%q,"kind":"customer"%s}`, a[3], parent))
		add(a[0], "usage.metered", a[1], `{"meter":"tokens","quantity":"7"}`)
	}
	if err := w.Flush(h.Context()); err != nil {
		h.Fatal(err)
	}
}

// until waits for a condition.
func (h *house) until(what string, ok func() bool) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			h.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

var root = control.Actor{By: "test"} //nolint:gochecknoglobals // who reaches NATS

// operator makes an operator of acme with grants.
func (h *house) operator(tenant, login string, grants ...access.Grant) control.Operator {
	h.Helper()
	o, err := h.people.CreateOperator(h.Context(), root, control.OperatorSpec{Tenant: tenant, Login: login, Password: password, Grants: grants})
	if err != nil {
		h.Fatal(err)
	}
	return o
}

// caller is somebody with a browser or a key, or neither.
type caller struct {
	*house
	name   string
	app    int
	client *http.Client
	key    string
	form   string // token of the session's forms
}

func (h *house) nobody() *caller {
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.Fatal(err)
	}
	return &caller{house: h, name: "nobody", client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (h *house) keyed(tenant string, scopes ...string) *caller {
	h.Helper()
	c := h.nobody()
	var err error
	if _, c.key, err = h.store.Create(h.Context(), tenant, "test", scopes, time.Time{}); err != nil {
		h.Fatal(err)
	}
	c.name = "key"
	return c
}

// signed signs in.
func (h *house) signed(name, login string) *caller {
	h.Helper()
	c := h.nobody()
	c.name = name
	if status, _, body := c.post("/sign-in", url.Values{"login": {login}, "password": {password}}); status != http.StatusSeeOther {
		h.Fatalf("sign in as %s: %d %s", login, status, body)
	}
	c.form = c.formToken()
	return c
}

var formToken = regexp.MustCompile(`name="token" value="([^"]+)"`) //nolint:gochecknoglobals // a pattern

func (c *caller) formToken() string {
	c.Helper()
	_, _, body := c.do(http.MethodGet, "/password", nil, nil)
	m := formToken.FindStringSubmatch(body)
	if m == nil {
		c.Fatalf("%s: no token on the page of passwords: %s", c.name, body)
	}
	return m[1]
}

func (c *caller) post(path string, form url.Values) (int, http.Header, string) {
	c.Helper()
	return c.do(http.MethodPost, path, strings.NewReader(form.Encode()), map[string]string{"Content-Type": "application/x-www-form-urlencoded"})
}

// api asks the API; a body is JSON.
func (c *caller) api(method, path, body string) (int, http.Header, string) {
	c.Helper()
	header := map[string]string{"X-CSRF-Token": c.form, "Content-Type": "application/json"}
	if c.key != "" {
		header["Authorization"] = "Bearer " + c.key
	}
	return c.do(method, "/api/v1"+path, strings.NewReader(body), header)
}

func (c *caller) do(method, path string, body io.Reader, header map[string]string) (int, http.Header, string) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.Context(), method, "http://"+c.apps[c.app].Addr()+path, body)
	if err != nil {
		c.Fatal(err)
	}
	for name, value := range header {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	res, err := c.client.Do(req)
	if err != nil {
		c.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.Fatal(err)
	}
	return res.StatusCode, res.Header, string(text)
}

// pass prints the line of a row.
func pass(t *testing.T, line string) {
	t.Helper()
	if !t.Failed() {
		fmt.Fprintln(os.Stderr, line)
	}
}
