package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
)

func TestMain(m *testing.M) { localstack.Main(m) }

func startNATS(t testing.TB, cfg localstack.NATSConfig) *localstack.NATS {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	n, err := localstack.StartNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

func config(url string, partitions int) eventlog.Config {
	c := eventlog.DefaultConfig()
	c.URL, c.Partitions, c.MaxBytes, c.Name = url, partitions, 256<<20, "test"
	c.PublishTimeout = 3 * time.Minute // as long as within: a machine that is busy elsewhere is no fault of the log
	return c
}

// dial opens a log; its streams are there if made is set.
func dial(t testing.TB, cfg eventlog.Config, made bool) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Dial(cfg, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if made {
		if err := ensure(t, l); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// answered asks until NATS has answered: each question waits a time of its own, which a busy machine may pass, and a log
// that was just opened may still be connecting.
func answered(t testing.TB, ask func() error) (err error) {
	t.Helper()
	waitFor(t, "an answer of NATS", func() bool {
		err = ask()
		return !errors.Is(err, eventlog.ErrUnavailable)
	})
	return err
}

func ensure(t testing.TB, l *eventlog.Log) error {
	t.Helper()
	return answered(t, func() error { return l.EnsureStreams(t.Context()) })
}

func infoOf(t testing.TB, l *eventlog.Log, partition int) (info eventlog.Info, err error) {
	t.Helper()
	err = answered(t, func() (err error) {
		info, err = l.Info(t.Context(), partition)
		return err
	})
	return info, err
}

func get(t testing.TB, l *eventlog.Log, partition int, seq uint64) (m eventlog.Message, err error) {
	t.Helper()
	err = answered(t, func() (err error) {
		m, err = l.Get(t.Context(), partition, seq)
		return err
	})
	return m, err
}

func logger(t testing.TB) *zap.Logger {
	if testing.Verbose() {
		return zaptest.NewLogger(t)
	}
	return zap.NewNop()
}

func appendText(t testing.TB, l *eventlog.Log, tenant, text string) eventlog.Receipt {
	t.Helper()
	r, err := l.Append(t.Context(), tenant, uuid.New(), []byte(text))
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	return r
}

// within is a context for one wait of a test: generous, because the machine is shared.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func read(t testing.TB, l *eventlog.Log, partition int, from uint64) *eventlog.Reader {
	t.Helper()
	r, err := l.Read(partition, from, eventlog.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// wantMessage reads one message and checks its place and text.
func wantMessage(t testing.TB, r *eventlog.Reader, seq uint64, text string) *eventlog.Message {
	t.Helper()
	m, gap, err := r.Next(within(t))
	if err != nil || gap != nil {
		t.Fatalf("Next = gap %v, error %v, want message %d", gap, err, seq)
	}
	if m.Seq != seq || string(m.Data) != text {
		t.Fatalf("Next = %d %q, want %d %q", m.Seq, m.Data, seq, text)
	}
	return m
}

func TestEnsureStreams(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{Partitions: 3})
	l := dial(t, config(n.URL(), 3), true)
	if err := ensure(t, l); err != nil {
		t.Errorf("second EnsureStreams: %v", err)
	}
	grown := config(n.URL(), 3)
	grown.MaxBytes = 300 << 20
	l2 := dial(t, grown, true)
	info, err := infoOf(t, l2, 2)
	if err != nil || info.MaxBytes != 300<<20 || info.Last != 0 || info.Created.IsZero() {
		t.Errorf("Info = %+v, %v", info, err)
	}
	unset := config(n.URL(), 3)
	unset.MaxBytes = 0
	if err := ensure(t, dial(t, unset, true)); err != nil {
		t.Errorf("max_bytes 0 on an existing log: %v", err)
	}
	if info, _ := infoOf(t, l, 2); info.MaxBytes != 300<<20 {
		t.Errorf("max_bytes 0 changed the limit to %d", info.MaxBytes)
	}
	for _, other := range []int{2, 4} {
		if err := ensure(t, dial(t, config(n.URL(), other), false)); !errors.Is(err, eventlog.ErrSettings) {
			t.Errorf("EnsureStreams with %d partitions on a log of 3 = %v", other, err)
		}
	}
}

func TestEnsureStreamsRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mapped int
		change func(*eventlog.Config)
		stream func(*jetstream.StreamConfig) // an existing stream, changed like this
		names  string                        // what the error must name
	}{
		"no limit":              {1, func(c *eventlog.Config) { c.MaxBytes = 0 }, nil, "max_bytes"},
		"mapping of fewer":      {1, func(c *eventlog.Config) { c.Partitions = 2 }, nil, "reaches 1 of 2"},
		"mapping of more":       {2, nil, nil, "usage.in"},
		"stream drops old":      {1, nil, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard"},
		"stream forgets by age": {1, nil, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "max_age"},
		"stream can be purged":  {1, nil, func(c *jetstream.StreamConfig) { c.DenyPurge = false }, "deny_purge"},
		"stream in memory":      {1, nil, func(c *jetstream.StreamConfig) { c.Storage, c.MaxBytes = jetstream.MemoryStorage, 1<<20 }, "storage"},
		"stream of others":      {1, nil, func(c *jetstream.StreamConfig) { c.Metadata = nil }, "partitions"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNATS(t, localstack.NATSConfig{Partitions: tt.mapped})
			cfg := config(n.URL(), 1)
			if tt.change != nil {
				tt.change(&cfg)
			}
			l := dial(t, cfg, false)
			if tt.stream != nil {
				makeStream(t, l, tt.stream)
			}
			err := ensure(t, l)
			if !errors.Is(err, eventlog.ErrSettings) || !strings.Contains(err.Error(), tt.names) {
				t.Errorf("EnsureStreams = %v, want ErrSettings naming %s", err, tt.names)
			}
		})
	}
}

// makeStream makes USAGE_0 as EnsureStreams would, but for a change.
func makeStream(t *testing.T, l *eventlog.Log, change func(*jetstream.StreamConfig)) {
	t.Helper()
	c := jetstream.StreamConfig{
		Name: "USAGE_0", Subjects: []string{"usage.log.0.>"}, Discard: jetstream.DiscardNew, MaxBytes: 1 << 30,
		DenyDelete: true, DenyPurge: true, AllowDirect: true, Metadata: map[string]string{"countinghouse_partitions": "1"},
	}
	change(&c)
	waitFor(t, "the connection", l.Conn().Connected)
	// A stream of that name that was just deleted is still being cleared away on disk.
	waitFor(t, "the stream is made", func() bool {
		_, err := l.Conn().JetStream().CreateStream(within(t), c)
		var api *jetstream.APIError
		if err != nil && (!errors.As(err, &api) || api.Code != 500) {
			t.Fatal(err)
		}
		return err == nil
	})
}

func TestCheckMappingStoresNothing(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{Partitions: 4})
	l := dial(t, config(n.URL(), 4), true)
	if err := answered(t, func() error { return l.CheckMapping(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	for p := range 4 {
		if info, err := infoOf(t, l, p); err != nil || info.Last != 0 {
			t.Errorf("partition %d after probes: %+v, %v", p, info, err)
		}
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{Partitions: 2})
	l := dial(t, config(n.URL(), 2), true)
	id := uuid.New()
	first, err := l.Append(t.Context(), "acme", id, []byte("one"))
	if err != nil || first.Seq != 1 { // a PubAck that took long makes the first one a duplicate of itself
		t.Fatalf("Append = %+v, %v", first, err)
	}
	again, err := l.Append(t.Context(), "acme", id, []byte("one"))
	if err != nil || again.Seq != 1 || !again.Duplicate || again.Partition != first.Partition {
		t.Errorf("same bytes, same id = %+v, %v", again, err)
	}
	// A duplicate PubAck for bytes that are not ours is no receipt.
	if _, err := l.Append(t.Context(), "acme", id, []byte("two")); !errors.Is(err, eventlog.ErrIDReused) {
		t.Errorf("other bytes, same id = %v, want ErrIDReused", err)
	}
	if _, err := l.Append(t.Context(), "acme", uuid.New(), make([]byte, 2<<20)); !errors.Is(err, eventlog.ErrTooLarge) {
		t.Errorf("2 MiB = %v, want ErrTooLarge", err)
	}
	for _, tenant := range []string{"", "A", "a.b", "a>", "*", "-a", strings.Repeat("a", 64)} {
		if _, err := l.Append(t.Context(), tenant, uuid.New(), nil); err == nil {
			t.Errorf("tenant %q was taken", tenant)
		}
	}
	m, err := get(t, l, first.Partition, 1)
	if err != nil || m.Tenant != "acme" || m.Kind != eventlog.KindChunk || m.MsgID() != id.String() || string(m.Data) != "one" {
		t.Errorf("Get = %+v, %v", m, err)
	}
	r := read(t, l, first.Partition, 1)
	if got := wantMessage(t, r, 1, "one"); got.Hash != m.Hash || got.Time != m.Time || got.Subject != m.Subject {
		t.Errorf("read %+v, got %+v", got, m)
	}
	if _, err := get(t, l, first.Partition, 2); !errors.Is(err, eventlog.ErrNotFound) {
		t.Errorf("Get of what is not there = %v", err)
	}
}

func TestAppendFull(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{})
	cfg := config(n.URL(), 1)
	cfg.MaxBytes = 300 << 10
	l := dial(t, cfg, true)
	chunk := make([]byte, 100<<10)
	for i := range 5 {
		_, err := l.Append(t.Context(), "acme", uuid.New(), chunk)
		if err == nil && i < 4 {
			continue
		}
		if !errors.Is(err, eventlog.ErrFull) {
			t.Fatalf("append %d = %v, want ErrFull", i, err)
		}
		return
	}
	t.Error("the log never filled")
}

// A server with a full disk answers nothing at all; only its /healthz tells. What it says there is recorded
// from such a server; here a frozen one keeps just as quiet.
func TestAppendToAFullDisk(t *testing.T) {
	t.Parallel()
	health := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":"unavailable","error":"JetStream stream '$G \u003e USAGE_0' write error: write /data/USAGE_0/msgs/2.blk: no space left on device"}`))
	}))
	defer health.Close()
	s := localstack.Start(t, localstack.Options{NATSChild: true, NoClickHouse: true})
	cfg := config(s.NATSURL, 1)
	dial(t, cfg, true)
	cfg.MonitorURLs = []string{health.URL}
	l := dial(t, cfg, false)
	waitFor(t, "the connection", l.Conn().Connected)
	if err := s.NATSChild.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.NATSChild.Signal(syscall.SIGCONT) }()
	waitFor(t, "the server is frozen", func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.NATSChild.PID()))
		return err == nil && strings.Contains(string(status), "State:\tT")
	})
	if _, err := l.Append(t.Context(), "acme", uuid.New(), []byte("x")); !errors.Is(err, eventlog.ErrFull) {
		t.Errorf("Append to a full disk = %v, want ErrFull", err)
	}
	cfg.MonitorURLs, cfg.PublishTimeout = nil, time.Second
	blind := dial(t, cfg, false)
	if _, err := blind.Append(t.Context(), "acme", uuid.New(), []byte("x")); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("Append without monitor_urls = %v, want ErrUnavailable", err)
	}
}

func TestAppendWhileDown(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{})
	cfg := config(n.URL(), 1)
	l := dial(t, cfg, true)
	n.Stop()
	cfg.PublishTimeout = 300 * time.Millisecond
	short := dial(t, cfg, false) // made while NATS is down
	id := uuid.New()
	if _, err := short.Append(t.Context(), "acme", id, []byte("x")); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Fatalf("Append while down = %v, want ErrUnavailable", err)
	}
	// An append that began while NATS was away succeeds when it comes back in time.
	done := make(chan error, 1)
	cfg.PublishTimeout = time.Minute
	patient := dial(t, cfg, false)
	if err := patient.AppendAsync(t.Context(), "acme", id, []byte("x"), func(_ eventlog.Receipt, err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("append over a restart: %v", err)
		}
	case <-within(t).Done():
		t.Fatal("append over a restart hangs")
	}
	waitFor(t, "the first connection is back", func() bool { return l.Conn().Connected() })
	if info, err := infoOf(t, l, 0); err != nil || info.Last != 1 {
		t.Errorf("after all: %+v, %v, want one message", info, err)
	}
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

func TestAppendAsync(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{Partitions: 2, LazySync: true})
	cfg := config(n.URL(), 2)
	cfg.InFlight, cfg.InFlightBytes = 16, 64
	l := dial(t, cfg, true)
	const total = 500
	var wg sync.WaitGroup
	var failed atomic.Int64
	seqs := [2]sync.Map{}
	for i := range total {
		wg.Add(1)
		tenant := fmt.Sprintf("t%d", i%7)
		err := l.AppendAsync(t.Context(), tenant, uuid.New(), fmt.Appendf(nil, "message %d", i), func(r eventlog.Receipt, err error) {
			defer wg.Done()
			if err != nil {
				failed.Add(1)
				return
			}
			seqs[r.Partition].Store(r.Seq, tenant)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if failed.Load() > 0 {
		t.Fatalf("%d appends failed", failed.Load())
	}
	homes, read := map[string]int{}, 0
	for p := range 2 {
		info, err := infoOf(t, l, p)
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); seq <= info.Last; seq++ {
			tenant, ok := seqs[p].Load(seq)
			if !ok {
				t.Fatalf("no receipt names %d:%d", p, seq)
			}
			if home, known := homes[tenant.(string)]; known && home != p {
				t.Errorf("tenant %v lives in two partitions", tenant)
			}
			homes[tenant.(string)] = p
			read++
		}
	}
	if read != total {
		t.Errorf("%d messages, want %d", read, total)
	}
}

func TestDurability(t *testing.T) {
	t.Parallel()
	always, lazy := startNATS(t, localstack.NATSConfig{}), startNATS(t, localstack.NATSConfig{LazySync: true})
	tests := map[string]struct {
		nats     *localstack.NATS
		monitors []string
		want     eventlog.Sync
		safe     bool
	}{
		"always":       {always, []string{always.MonitorURL()}, eventlog.SyncAlways, true},
		"lazy":         {lazy, []string{lazy.MonitorURL() + "/"}, eventlog.SyncLazy, false},
		"not told":     {always, nil, eventlog.SyncUnknown, false},
		"other server": {lazy, []string{always.MonitorURL()}, eventlog.SyncUnknown, false},
		"one is lazy":  {always, []string{always.MonitorURL(), lazy.MonitorURL()}, eventlog.SyncLazy, false},
		"unreachable":  {always, []string{"http://127.0.0.1:1"}, eventlog.SyncUnknown, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := config(tt.nats.URL(), 1)
			cfg.MonitorURLs = tt.monitors
			l := dial(t, cfg, true)
			var d eventlog.Durability
			var err error
			waitFor(t, "what the monitors say", func() bool { // a monitor that took too long is not known either
				err = answered(t, func() (err error) {
					d, err = l.Durability(t.Context())
					return err
				})
				return d.Sync == tt.want || d.Sync != eventlog.SyncUnknown
			})
			if err != nil || d.Sync != tt.want || d.Safe() != tt.safe || d.Replicas != 1 {
				t.Errorf("Durability = %v, safe %t, %v; want %s, safe %t", d, d.Safe(), err, tt.want, tt.safe)
			}
		})
	}
	if three := (eventlog.Durability{Sync: eventlog.SyncLazy, Replicas: 3}); !three.Safe() {
		t.Error("three replicas are safe")
	}
}

func TestMessageHash(t *testing.T) {
	t.Parallel()
	base := eventlog.MessageHash("s", map[string][]string{"A": {"1"}}, []byte("d"))
	for name, other := range map[string][16]byte{
		"subject":      eventlog.MessageHash("t", map[string][]string{"A": {"1"}}, []byte("d")),
		"header name":  eventlog.MessageHash("s", map[string][]string{"B": {"1"}}, []byte("d")),
		"header value": eventlog.MessageHash("s", map[string][]string{"A": {"2"}}, []byte("d")),
		"two values":   eventlog.MessageHash("s", map[string][]string{"A": {"1", ""}}, []byte("d")),
		"no header":    eventlog.MessageHash("s", nil, []byte("d")),
		"data":         eventlog.MessageHash("s", map[string][]string{"A": {"1"}}, []byte("e")),
		"moved border": eventlog.MessageHash("s", map[string][]string{"A": {"1d"}}, nil),
	} {
		if other == base {
			t.Errorf("a different %s gives the same hash", name)
		}
	}
	// The ledger keeps these for ever.
	if got := fmt.Sprintf("%x", base); got != "a60e5f685cc05954543cb04ec347bffc" {
		t.Errorf("hash of the fixed message is %s", got)
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	bad := eventlog.Config{Partitions: 2000, Replicas: 2, MaxBytes: -1, TLSCert: "x", Creds: "c", User: "u"}
	if faults := bad.Validate(); len(faults) != 6 {
		t.Errorf("%d faults, want 6: %v", len(faults), faults)
	}
	if faults := eventlog.DefaultConfig().Validate(); len(faults) > 0 {
		t.Errorf("defaults: %v", faults)
	}
}

// copyDir copies a store directory of a stopped server.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
