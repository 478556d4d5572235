package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/ingest"
	"github.com/countinghouse/countinghouse/internal/localstack"
)

// NATS is killed and started again under load: what was answered 202 is in the log once the dust settles,
// what was answered otherwise was answered 503, and in the end everything got through.
func TestNATSIsKilledAndComesBack(t *testing.T) {
	t.Parallel()
	stack := localstack.Start(t, localstack.Options{NoClickHouse: true, NATSChild: true})
	d := openOn(t, stack, func(c *ingest.Config) { c.Commit.Wait = 2 * time.Second })
	const clients, each = 6, 40
	var mu sync.Mutex
	confirmed := map[string]bool{}
	var wg sync.WaitGroup
	stopAt, stopped := make(chan struct{}), make(chan struct{})
	for c := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				if c == 0 && i == each/4 {
					close(stopAt)
				}
				if i == each/2 {
					<-stopped // everybody meets the outage
				}
				id := fmt.Sprintf("c%d-%d", c, i)
				for {
					got, err := d.try(t.Context(), "", http.Header{"Content-Type": {"application/json"}}, strings.NewReader(event(id)))
					if err != nil {
						t.Errorf("%s: %v", id, err)
						return
					}
					if got.status == 202 {
						break
					}
					if got.status != 503 || got.header.Get("Retry-After") == "" {
						t.Errorf("%s: %d %s, want 503 with Retry-After", id, got.status, got.body)
						return
					}
				}
				mu.Lock()
				confirmed[id] = true
				mu.Unlock()
			}
		}()
	}
	<-stopAt
	stack.NATSChild.Kill()
	close(stopped)
	await(t, "unready", func() bool { return d.app.Health().Ready() != nil })
	if got := d.json(t, event("meanwhile")); got.status != 503 || got.problem.Code != "log-unavailable" {
		t.Errorf("while NATS is down: %d %s, want 503 log-unavailable", got.status, got.body)
	}
	if err := stack.NATSChild.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	await(t, "connected", d.log.Conn().Connected)
	stored := map[string]bool{}
	for _, id := range d.ids(t) {
		stored[id] = true
	}
	for id := range confirmed {
		if !stored[id] {
			t.Errorf("%s was answered 202 and is not in the log", id)
		}
	}
	if len(confirmed) != clients*each {
		t.Errorf("%d of %d events got through", len(confirmed), clients*each)
	}
}

// NATS is frozen: it neither answers nor hangs up. The request is answered when its time is over, and
// the chunk that was on its way is in the log at most once.
func TestNATSFreezes(t *testing.T) {
	t.Parallel()
	stack := localstack.Start(t, localstack.Options{NoClickHouse: true, NATSChild: true})
	d := openOn(t, stack, func(c *ingest.Config) { c.Commit.Wait = 500 * time.Millisecond })
	await(t, "taking events", func() bool { return d.json(t, event("before")).status == 202 }) // half a second may be too short
	if err := stack.NATSChild.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, "frozen", func() bool { return stopped(t, stack.NATSChild.PID()) })
	got := d.json(t, event("frozen"))
	if err := stack.NATSChild.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got.status != 503 || got.problem.Code != "log-unconfirmed" || got.header.Get("Retry-After") == "" {
		t.Errorf("while NATS is frozen: %d %s, want 503 log-unconfirmed with Retry-After", got.status, got.body)
	}
	await(t, "taking events", func() bool { return d.json(t, event("after")).status == 202 })
	count := map[string]int{}
	for _, id := range d.ids(t) {
		count[id]++
	}
	if count["frozen"] > 1 || count["after"] == 0 {
		t.Errorf("the log holds %v", count)
	}
}

// stopped reports whether every thread of a process has taken the SIGSTOP: the signal is delivered to
// each in its own time.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of %d: %v", pid, err)
	}
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err == nil && !strings.Contains(string(text), ") T ") {
			return false
		}
	}
	return true
}

func TestStartsWhileNATSIsDown(t *testing.T) {
	t.Parallel()
	stack := localstack.Start(t, localstack.Options{NoClickHouse: true})
	stack.NATS.Stop()
	app, err := ingest.Start(t.Context(), testConfig(stack), zap.NewNop())
	if err != nil {
		t.Fatalf("start while NATS is down: %v", err)
	}
	t.Cleanup(func() { _ = app.Close(context.WithoutCancel(t.Context())) })
	for path, want := range map[string]int{"/livez": 200, "/readyz?verbose": 503, "/metrics": 200, "/version": 200} {
		res, err := http.Get("http://" + app.AdminAddr() + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s = %d, want %d", path, res.StatusCode, want)
		}
	}
	res, err := http.Post("http://"+app.Addr()+"/api/v1/events", "application/json", strings.NewReader(event("x")))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("while NATS is down: %d", res.StatusCode)
	}
	if err := stack.NATS.Restart(); err != nil {
		t.Fatal(err)
	}
	await(t, "ready", func() bool { return app.Health().Ready() == nil })
}

// A log that acknowledges before it writes is refused, unless the operator says so.
func TestLossyLogIsRefused(t *testing.T) {
	t.Parallel()
	stack := localstack.Start(t, localstack.Options{NoClickHouse: true, NATS: localstack.NATSConfig{LazySync: true}})
	cfg := testConfig(stack)
	app, err := ingest.Start(t.Context(), cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Close(context.WithoutCancel(t.Context())) })
	await(t, "refusing", func() bool {
		err := app.Health().Ready()
		return err != nil && strings.Contains(err.Error(), "does not write to disk before it acknowledges")
	})
	d := openOn(t, stack, func(c *ingest.Config) { c.AllowLossy = true })
	if got := d.json(t, event("x")); got.status != 202 {
		t.Errorf("with allow_lossy: %d %s", got.status, got.body)
	}
	_, body := d.admin(t, "/readyz?verbose")
	if !strings.Contains(body, "[!] durability") {
		t.Errorf("no warning in %q", body)
	}
	d.app, app = app, d.app
	t.Cleanup(func() { _ = app.Close(context.WithoutCancel(t.Context())) })
	await(t, "answering 503 log-unsafe without allow_lossy", func() bool { // once it knows the key
		got := d.json(t, event("y"))
		if got.status != 503 {
			t.Fatalf("without allow_lossy: %d %s", got.status, got.body)
		}
		return got.problem.Code == "log-unsafe"
	})
}

func (d *door) admin(t testing.TB, path string) (int, string) {
	t.Helper()
	res, err := http.Get("http://" + d.app.AdminAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestFullLog(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *ingest.Config) { c.NATS.MaxBytes = 300 << 10 })
	var confirmed []string
	for i := 0; ; i++ {
		if i == 100 {
			t.Fatal("100 events of 32 KiB fit into 300 KiB")
		}
		id := fmt.Sprintf("e%d", i)
		got := d.json(t, event(id, "m1", strings.Repeat("x", 200), `"model"`, `"`+strings.Repeat("k", 200)+`"`, `"subject":"acme"`, `"subject":"`+strings.Repeat("s", 30<<10)+`"`))
		if got.status == 202 {
			confirmed = append(confirmed, id)
			continue
		}
		if got.status != 503 || got.problem.Code != "storage-full" || got.header.Get("Retry-After") == "" {
			t.Fatalf("answered %d %s, want 503 storage-full with Retry-After", got.status, got.body)
		}
		break
	}
	if err := d.app.Health().Ready(); err != nil {
		t.Errorf("a full log made ingest %v: nobody would be told storage-full", err)
	}
	if _, body := d.admin(t, "/readyz?verbose"); !strings.Contains(body, "[!] storage: the log's storage is full") {
		t.Errorf("/readyz?verbose of a full log:\n%s", body)
	}
	if got := d.ids(t); !slices.Equal(got, confirmed) {
		t.Errorf("the log holds %q, confirmed were %q", got, confirmed)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *ingest.Config) { c.Limit.RateEvents, c.Limit.RateBurst = 10, 1000 })
	batch := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, ",%s", event(fmt.Sprintf("e%d", i)))
		}
		return "[" + b.String()[1:] + "]"
	}
	got := d.json(t, batch(900))
	if got.status != 202 || got.header.Get("RateLimit") != `"events";r=100;t=90` || got.header.Get("RateLimit-Policy") != `"events";q=1000;w=100` {
		t.Fatalf("answered %d, RateLimit %q, RateLimit-Policy %q", got.status, got.header.Get("RateLimit"), got.header.Get("RateLimit-Policy"))
	}
	got = d.json(t, batch(150))
	if got.status != 429 || got.problem.Code != "rate-limited" || got.header.Get("Retry-After") != "5" || got.header.Get("RateLimit") == "" {
		t.Errorf("over the rate: %d %s, Retry-After %q", got.status, got.body, got.header.Get("Retry-After"))
	}
	if got = d.json(t, batch(100)); got.status != 202 {
		t.Errorf("what is left of the rate was refused: %d %s", got.status, got.body)
	}
	if got = d.json(t, event("x")); got.status != 429 {
		t.Errorf("nothing is left: %d %s", got.status, got.body)
	}
	globex := d.newKey(t, "globex", "events:write")
	d.awaitKey(t, globex, http.StatusAccepted)
	other := http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + globex}}
	if got = d.post(t, "", other, []byte(event("x"))); got.status != 202 {
		t.Errorf("another tenant suffers: %d %s", got.status, got.body)
	}
}

func TestGuessesAreThrottled(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *ingest.Config) { c.Limit.Guesses = 5 })
	fresh := d.newKey(t, "acme", "events:write")
	d.json(t, event("before"))
	try := func(key string) answer {
		return d.post(t, "", http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + key}}, []byte(event("x")))
	}
	for i := range 5 {
		if got := try(fmt.Sprintf("chk_guess_%d", i)); got.status != 401 {
			t.Fatalf("guess %d: %d, want 401", i, got.status)
		}
	}
	if got := try("chk_guess"); got.status != 429 || got.problem.Code != "too-many-guesses" || got.header.Get("Retry-After") != "12" {
		t.Errorf("sixth guess: %d %s, Retry-After %q", got.status, got.body, got.header.Get("Retry-After"))
	}
	if got := try(fresh); got.status != 429 {
		t.Errorf("a guess that happens to be right: %d, want 429 like any other", got.status)
	}
	if got := try(d.key); got.status != 202 {
		t.Errorf("a key that was good before: %d, want 202", got.status)
	}
}

func TestNewKeyWorksWhileTheOldOneDoes(t *testing.T) {
	t.Parallel()
	d := open(t)
	old := d.key
	d.key = d.newKey(t, "acme", "events:write")
	d.awaitKey(t, d.key, http.StatusAccepted)
	if got := d.json(t, event("new")); got.status != 202 {
		t.Fatalf("new key: %d %s", got.status, got.body)
	}
	d.revoke(t, old)
	d.key = old
	await(t, "revoked", func() bool { return d.json(t, event("old")).status == 401 })
}

func TestOverload(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *ingest.Config) { c.Limit.TenantRequests = 1 })
	// With 100-continue the body is asked for by the handler itself: once a byte of it is taken, the
	// request is being served.
	d.client.Transport = &http.Transport{ExpectContinueTimeout: time.Minute}
	body, feed := io.Pipe()
	first := make(chan answer, 1)
	go func() {
		got, err := d.try(t.Context(), "", http.Header{"Content-Type": {"application/json"}, "Expect": {"100-continue"}}, body)
		if err != nil {
			t.Error(err)
		}
		first <- got
	}()
	if _, err := io.WriteString(feed, " "); err != nil {
		t.Fatal(err)
	}
	if got := d.json(t, event("second")); got.status != 503 || got.problem.Code != "overloaded" || got.header.Get("Retry-After") == "" {
		t.Errorf("a second request of the tenant: %d %s, want 503 overloaded with Retry-After", got.status, got.body)
	}
	if _, err := io.Copy(feed, bytes.NewReader([]byte(event("first")))); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	if got := <-first; got.status != 202 {
		t.Errorf("the request that was being served: %d %s", got.status, got.body)
	}
}
