// Package scenario tries the reports as their users would: events go in over HTTP, reports come out over
// HTTP. One `countinghouse up` serves the package; every scenario is a tenant of its own, so they run side by
// side. Tests are named after the scenarios of the reports they replace: TestA1OnScreen, TestC7PastMidnight.
package scenario

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/stack"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	upWait      = 5 * time.Minute // the engine may have to be fetched
	countedWait = 5 * time.Minute // many read at once, and what is folded for all tenants follows with rests
	// sideBySide is how many scenarios run at a time: each waits for most of its time until its events are counted.
	sideBySide = "6"
)

// product is the stack all scenarios share, and its tool.
type product struct {
	at           stack.Endpoints
	dir, program string
}

var house *product //nolint:gochecknoglobals // one stack for all tests of the package

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "scenario-*")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	house = &product{dir: filepath.Join(dir, "stack")}
	if house.program, err = rig.Build(ctx, dir); err != nil {
		return 1, err
	}
	up := exec.CommandContext(ctx, house.program, "up", "--ephemeral", "--dir", house.dir)
	runtime.LockOSThread() // whose end is that of this process: a run that is broken off takes its stack along
	up.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var log bytes.Buffer
	// All that is sent here is counted by one aggregator: a close waits for what others have sent.
	up.Env = append(os.Environ(), "COUNTINGHOUSE_REPORTER__MONTHS__SETTLE_WAIT="+countedWait.String())
	up.Stdout, up.Stderr = &log, &log
	if err := up.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	deadline, cancel := context.WithTimeout(ctx, upWait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for house.at.Ingest == "" {
		select {
		case err := <-ended:
			return 1, fmt.Errorf("countinghouse up ended: %w\n%s", err, log.String())
		case <-deadline.Done():
			_ = up.Process.Signal(syscall.SIGTERM)
			return 1, errors.Join(<-ended, fmt.Errorf("countinghouse up is not ready\n%s", log.String()))
		case <-tick.C:
			if at, err := stack.LoadEndpoints(house.dir); err == nil {
				house.at = at
			}
		}
	}
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(sideBySide); err != nil {
			return 1, err
		}
	}
	code = m.Run()
	_ = up.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		return 1, fmt.Errorf("countinghouse up: %w\n%s", err, log.String())
	}
	return code, nil
}

var tenants atomic.Int64 //nolint:gochecknoglobals // names of tenants differ

// world is a tenant with a history of its own.
type world struct {
	t           *testing.T
	tenant, key string
	sent        int
}

// newWorld makes a tenant that may do everything a tenant can. Its test runs beside others.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return newWorldAlone(t)
}

// newWorldAlone is newWorld for a test that runs before those that run side by side.
func newWorldAlone(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, tenant: fmt.Sprintf("s%d", tenants.Add(1))}
	w.key = newKey(t, w.tenant, "events:write", "events:backfill", "usage:read", "reports:read", "reports:write", "months:close", "dlq:read", "dlq:write")
	return w
}

func newKey(t *testing.T, tenant string, scopes ...string) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"tenant": tenant, "scopes": scopes})
	if err != nil {
		t.Fatal(err)
	}
	status, answer := call(t, http.MethodPost, house.at.Reporter+"/api/v1/keys", house.at.AdminToken, "application/json", body)
	var key struct{ Key string }
	if err := json.Unmarshal([]byte(answer), &key); err != nil || key.Key == "" {
		t.Fatalf("POST /keys: %d %s", status, answer)
	}
	return key.Key
}

// call asks, and asks again for as long as the answer is 503, as everybody should: the log or the warehouse did not
// answer in time, which says nothing of what is tried here, and all requests may be repeated.
func call(t *testing.T, method, address, key, contentType string, body []byte) (status int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), countedWait)
	defer cancel()
	for {
		status, answer = once(t, method, address, key, contentType, body)
		if status != http.StatusServiceUnavailable {
			return status, answer
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return status, answer
		}
	}
}

func once(t *testing.T, method, address, key, contentType string, body []byte) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// event is one that happened at a time and was recorded then, unless recorded says otherwise.
type event struct {
	id       string // counted up where empty
	at       string // RFC 3339; a date alone is its midnight
	typ      string
	account  string
	data     map[string]any
	recorded string // RFC 3339 or a date; empty: at

	correlation string // assigned where empty
	source      string // "test" where empty
}

// ev is an event in the order of the notation of the scenarios: time, type, account, data.
func ev(at, typ, account string, data map[string]any) event {
	return event{at: at, typ: typ, account: account, data: data}
}

func (e event) recordedAt(at string) event { e.recorded = at; return e }

func (e event) named(id string) event { e.id = id; return e }

// d is the data of an event, or a part of it.
type d = map[string]any

func instant(s string) string {
	if len(s) == len(time.DateOnly) {
		return s + "T00:00:00Z"
	}
	return s
}

func (w *world) document(e *event) map[string]any {
	if e.id == "" {
		w.sent++
		e.id = fmt.Sprintf("e%d", w.sent)
	}
	if e.recorded == "" {
		e.recorded = e.at
	}
	doc := map[string]any{
		"specversion": "1.0", "source": cmp.Or(e.source, "test"), "id": e.id, "type": e.typ, "time": instant(e.at), "recordedtime": instant(e.recorded), "data": e.data,
	}
	if e.account != "" {
		doc["subject"] = e.account
	}
	if e.correlation != "" {
		doc["correlationid"] = e.correlation
	}
	return doc
}

// post sends events as one request and returns what ingest said.
func (w *world) post(events ...event) (status int, answer string) {
	w.t.Helper()
	docs := make([]map[string]any, len(events))
	for i := range events {
		docs[i] = w.document(&events[i])
	}
	body, err := json.Marshal(docs)
	if err != nil {
		w.t.Fatal(err)
	}
	return call(w.t, http.MethodPost, house.at.Ingest+"/api/v1/events", w.key, "application/json", body)
}

// send sends events, a thousand a request, and returns when all of them are in the books.
func (w *world) send(events ...event) {
	w.t.Helper()
	for len(events) > 0 {
		n := min(len(events), 1000)
		if status, answer := w.post(events[:n]...); status != http.StatusAccepted {
			w.t.Fatalf("POST /events: %d %s", status, answer)
		}
		if events = events[n:]; len(events) == 0 {
			w.marker()
		}
	}
}

// marker sends one more event, of nothing, and waits until it is counted: a tenant's events stay in order.
func (w *world) marker() {
	w.t.Helper()
	w.sent++
	id := fmt.Sprintf("marker-%d", w.sent)
	status, answer := w.post(event{id: id, at: "2000-01-01", typ: "user.activity", account: "marker", data: d{"user_id": "m", "kind": "login", "result": "failure"}})
	if status != http.StatusAccepted {
		w.t.Fatalf("POST /events: %d %s", status, answer)
	}
	// One small question, where the API asks many for each of its answers: what is waited for most is what costs most.
	// It is enough: a chunk's ledger is written after everything else of it, and reports go by the ledger's last row.
	w.await("the ledger to have "+id, func() bool {
		where := "tenant = '" + w.tenant + "' AND source = 'test' AND id = '" + id + "'"
		return strings.TrimSpace(w.sql("SELECT count() > 0 FROM countinghouse.ledger WHERE (shard, seq) IN (SELECT shard, seq FROM countinghouse.events WHERE "+where+")")) == "1"
	})
}

// await asks until the answer is yes. It rests twice as long as the question took: who waits must not be what others
// wait for.
func (w *world) await(what string, yes func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), countedWait)
	defer cancel()
	for {
		begun := time.Now()
		if yes() {
			return
		}
		select {
		case <-time.After(max(50*time.Millisecond, 2*time.Since(begun))):
		case <-ctx.Done():
			w.t.Fatalf("waited %s for %s", countedWait, what)
		}
	}
}

// get asks the reporter; path follows /api/v1.
func (w *world) get(path string) (status int, answer string) {
	w.t.Helper()
	return call(w.t, http.MethodGet, house.at.Reporter+"/api/v1"+path, w.key, "", nil)
}

// query makes a query string of name, value, name, value …
func query(pairs ...string) string {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return values.Encode()
}

// csv is a report as CSV with line feeds; parameters are name, value, name, value …
func (w *world) csv(report string, pairs ...string) string {
	w.t.Helper()
	status, answer := w.get("/reports/" + report + "?" + query(append(pairs, "format", "csv")...))
	if status != http.StatusOK {
		w.t.Fatalf("%s %v: %d %s", report, pairs, status, answer)
	}
	return strings.ReplaceAll(answer, "\r\n", "\n")
}

// json is a report as JSON, decoded into into.
func (w *world) json(into any, report string, pairs ...string) {
	w.t.Helper()
	status, answer := w.get("/reports/" + report + "?" + query(append(pairs, "format", "json")...))
	if status != http.StatusOK {
		w.t.Fatalf("%s %v: %d %s", report, pairs, status, answer)
	}
	if err := json.Unmarshal([]byte(answer), into); err != nil {
		w.t.Fatalf("%s: %v: %s", report, err, answer)
	}
}

// want compares text line by line.
func (w *world) want(what, got, want string) {
	w.t.Helper()
	got, want = strings.TrimSpace(got), strings.TrimSpace(want)
	if got != want {
		w.t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}
