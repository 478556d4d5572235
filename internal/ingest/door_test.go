package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/ingest"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/usage"
)

func TestMain(m *testing.M) { localstack.Main(m) }

// now is the ingest's clock in these tests: events of March 2026 are inside its window.
func now() time.Time { return time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC) }

// door is an ingest with a NATS server of its own, and a view of the log behind it.
type door struct {
	app    *ingest.App
	cfg    ingest.Config
	stack  *localstack.Stack
	log    *eventlog.Log
	store  *control.Store
	logger *zap.Logger
	key    string
	client *http.Client

	read uint64   // last sequence in seen
	seen []stored // the log so far
}

// open starts a door whose tenant acme has a key with scope events:write.
func open(t testing.TB, change ...func(*ingest.Config)) *door {
	t.Helper()
	return openOn(t, localstack.Start(t, localstack.Options{NoClickHouse: true}), change...)
}

func openOn(t testing.TB, stack *localstack.Stack, change ...func(*ingest.Config)) *door {
	t.Helper()
	d := &door{stack: stack, cfg: testConfig(stack), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, ExpectContinueTimeout: time.Minute}}}
	for _, f := range change {
		f(&d.cfg)
	}
	d.logger = zap.NewNop()
	if testing.Verbose() {
		d.logger = zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel))
	}
	var err error
	if d.log, err = eventlog.Dial(d.cfg.NATS, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.log.Close)
	if d.app, err = ingest.Start(t.Context(), d.cfg, d.logger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
		defer cancel()
		if err := d.app.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		d.client.CloseIdleConnections()
	})
	d.awaitReady(t)
	d.openStore(t)
	d.key = d.newKey(t, "acme", "events:write")
	if d.cfg.TLS.Cert == "" { // else the client trusts nobody yet
		d.awaitKey(t, d.key, http.StatusAccepted)
	}
	return d
}

func testConfig(stack *localstack.Stack) ingest.Config {
	cfg := ingest.DefaultConfig()
	cfg.Listen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.HTTP.DrainDelay = 0
	// A machine that is busy elsewhere is no fault of a request: only what a test is about runs out of time.
	cfg.HTTP.HeaderWait, cfg.HTTP.BodyWait, cfg.HTTP.DrainWait, cfg.Commit.Wait = 2*time.Minute, 2*time.Minute, 2*time.Minute, 2*time.Minute
	cfg.Clock = now
	cfg.NATS.URL, cfg.NATS.MonitorURLs, cfg.NATS.MaxBytes = stack.NATSURL, []string{stack.MonitorURL}, 1<<30
	return cfg
}

func (d *door) awaitReady(t testing.TB) {
	t.Helper()
	await(t, "ready", func() bool { return d.app.Health().Ready() == nil })
}

// awaitKey sends nothing with a key until it is answered with status: what a key may do is asked of NATS the first time,
// which a busy machine may take too long for, and what it may do no longer arrives when it does.
func (d *door) awaitKey(t testing.TB, key string, status int) {
	t.Helper()
	await(t, "answering the key", func() bool {
		h := http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + key}}
		got, err := d.try(t.Context(), "", h, strings.NewReader("[]"))
		return err == nil && got.status == status
	})
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(2*time.Minute), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not %s within 2 min", what)
		case <-tick.C:
		}
	}
}

// answer is what a client got, parsed both ways.
type answer struct {
	status  int
	header  http.Header
	body    string
	taken   outcome
	problem problem.Problem
}

type outcome struct {
	Accepted, Rejected int
	CorrelationID      string `json:"correlation_id"`
	Errors             []problem.Item
}

func (d *door) url() string {
	if d.cfg.TLS.Cert != "" {
		return "https://" + d.app.Addr() + "/api/v1/events"
	}
	return "http://" + d.app.Addr() + "/api/v1/events"
}

// post sends body with d's key, unless h has an Authorization of its own.
func (d *door) post(t testing.TB, query string, h http.Header, body []byte) answer {
	t.Helper()
	got, err := d.try(t.Context(), query, h, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (d *door) try(ctx context.Context, query string, h http.Header, body io.Reader) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url()+query, body)
	if err != nil {
		return answer{}, err
	}
	req.Header = h.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+d.key)
	}
	res, err := d.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	got := answer{status: res.StatusCode, header: res.Header, body: string(text)}
	if err := json.Unmarshal(text, &got.taken); err != nil && res.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		return got, err
	}
	_ = json.Unmarshal(text, &got.problem) // only one of the two fits
	return got, nil
}

// json posts one application/json body.
func (d *door) json(t testing.TB, body string) answer {
	t.Helper()
	return d.post(t, "", http.Header{"Content-Type": {"application/json"}}, []byte(body))
}

type stored struct {
	tenant string
	usage.Event
}

// events is the whole log. What was read once is not read again: the log is append-only.
func (d *door) events(t testing.TB) []stored {
	t.Helper()
	var last uint64
	await(t, "told the end of the log", func() bool {
		info, err := d.log.Info(t.Context(), 0)
		last = info.Last
		return err == nil
	})
	for ; d.read < last; d.read++ {
		m := d.message(t, d.read+1)
		var c eventlog.Chunk
		if err := eventlog.DecodeChunk(m.Data, &c); err != nil {
			t.Fatalf("sequence %d: %v", d.read+1, err)
		}
		for _, e := range c.Events {
			d.seen = append(d.seen, stored{m.Tenant, e})
		}
	}
	return slices.Clone(d.seen)
}

func (d *door) message(t testing.TB, seq uint64) (m eventlog.Message) {
	t.Helper()
	await(t, "read", func() (ok bool) {
		var err error
		m, err = d.log.Get(t.Context(), 0, seq)
		return err == nil
	})
	return m
}

func (d *door) ids(t testing.TB) []string {
	t.Helper()
	var ids []string
	for _, e := range d.events(t) {
		ids = append(ids, e.ID)
	}
	return ids
}

// expectStored compares the log with what it held before plus want.
func (d *door) expectStored(t testing.TB, before, want []string) {
	t.Helper()
	if got := d.ids(t); !slices.Equal(got, append(slices.Clone(before), want...)) {
		t.Errorf("the log holds %d events, the new ones are %q, want %q", len(got), got[min(len(before), len(got)):], want)
	}
}
