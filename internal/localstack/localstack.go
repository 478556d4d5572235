// Package localstack runs the servers that Countinghouse stands on, on one machine:
// the real NATS server and a real ClickHouse engine. `countinghouse up` and every
// integration test use it; production points at servers of its own.
//
// Guarantees:
//   - A server that was started answers: Start… returns only after it did.
//   - No orphans. A child ends when its parent does, even by SIGKILL: the engine reads a
//     pipe that only its parent holds open, and the kernel kills every child with its
//     parent (PR_SET_PDEATHSIG).
//   - Everything listens on loopback only.
//   - What was acknowledged survives SIGKILL of any part: the directories are the state,
//     and a part started again on the same directory goes on where it was.
//
// Children are the calling program itself, executed again with a hidden first argument.
// A program that starts any must call RunChild before anything else; a test binary has
//
//	func TestMain(m *testing.M) { localstack.Main(m) }
//
// Linux only: process groups, parent-death signals and the engine library are.
package localstack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TB is the part of testing.TB this package needs, so that the product does not link
// package testing.
type TB interface {
	Helper()
	Name() string
	Context() context.Context
	TempDir() string
	Cleanup(func())
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Options choose what Start starts. The zero value is one in-process NATS server with one
// partition and one ClickHouse engine.
type Options struct {
	NATS         NATSConfig       // Dir is set by Start when empty
	NATSChild    bool             // run NATS as a process of its own, that can be killed
	ClickHouse   ClickHouseConfig // Dir and Engine are set by Start when empty
	NoNATS       bool
	NoClickHouse bool
}

// Stack is a NATS server and a ClickHouse engine of one test.
type Stack struct {
	NATS       *NATS       // nil with NoNATS or NATSChild
	NATSChild  *NATSChild  // set with NATSChild
	ClickHouse *ClickHouse // nil with NoClickHouse

	NATSURL        string // nats://127.0.0.1:port
	MonitorURL     string // http://127.0.0.1:port, serves /varz
	ClickHouseAddr string // 127.0.0.1:port, native protocol
	ClickHouseURL  string // http://127.0.0.1:port
}

// Start starts servers that belong to t alone: they may be killed, frozen, restarted. They
// are stopped when t ends.
func Start(t TB, opts Options) *Stack {
	t.Helper()
	s := &Stack{}
	if !opts.NoNATS {
		s.startNATS(t, opts)
	}
	if !opts.NoClickHouse {
		cfg := opts.ClickHouse
		if cfg.Dir == "" {
			cfg.Dir = filepath.Join(t.TempDir(), "clickhouse")
		}
		ch, err := startEngineAndClickHouse(t.Context(), cfg, t.Logf)
		if err != nil {
			t.Fatalf("localstack: %v", err)
		}
		t.Cleanup(func() { stopOrTell(t, ch.Stop) })
		s.useClickHouse(ch)
	}
	return s
}

// stopOrTell does not fail the test: what it proved, it proved before.
func stopOrTell(t TB, stop func(time.Duration) error) {
	if err := stop(StopGrace); err != nil {
		t.Logf("localstack: %v", err)
	}
}

func (s *Stack) startNATS(t TB, opts Options) {
	t.Helper()
	cfg := opts.NATS
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "nats")
	}
	if opts.NATSChild {
		child, err := StartNATSChild(t.Context(), cfg)
		if err != nil {
			t.Fatalf("localstack: %v", err)
		}
		t.Cleanup(func() { stopOrTell(t, child.Stop) })
		s.NATSChild, s.NATSURL, s.MonitorURL = child, child.URL(), child.MonitorURL()
		return
	}
	n, err := StartNATS(cfg)
	if err != nil {
		t.Fatalf("localstack: %v", err)
	}
	t.Cleanup(n.Stop)
	s.NATS, s.NATSURL, s.MonitorURL = n, n.URL(), n.MonitorURL()
}

func (s *Stack) useClickHouse(ch *ClickHouse) {
	s.ClickHouse, s.ClickHouseAddr, s.ClickHouseURL = ch, ch.Addr(), ch.URL()
}

// Shared is Start with the ClickHouse engine shared by all tests of the process: it costs a
// second once, not per test. NATS is the test's own, because stream names are global to a
// server. Never kill, freeze or reconfigure a shared engine.
func Shared(t TB) *Stack {
	t.Helper()
	s := &Stack{}
	s.startNATS(t, Options{})
	s.useClickHouse(SharedClickHouse(t))
	return s
}

// SharedClickHouse is the engine of Shared, without a NATS server.
func SharedClickHouse(t TB) *ClickHouse {
	t.Helper()
	ch, err := shared.get(t)
	if err != nil {
		t.Fatalf("localstack: %v", err)
	}
	return ch
}

// Database creates an empty database for t, drops it when t ends, and returns its name.
func (s *Stack) Database(t TB) string {
	t.Helper()
	return s.ClickHouse.Database(t)
}

// Database creates an empty database for t, drops it when t ends, and returns its name.
func (c *ClickHouse) Database(t TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))
	if _, err := c.Query(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("localstack: database for %s: %v", t.Name(), err)
	}
	t.Cleanup(func() {
		// A test that killed its engine has nothing left to drop.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if _, err := c.Query(ctx, "DROP DATABASE IF EXISTS "+name+" SYNC"); err != nil {
			t.Logf("localstack: drop %s: %v", name, err)
		}
	})
	return name
}

// Main is the TestMain of a package that uses this one: it becomes the child when the
// process was started as one, else it runs the tests, stops the shared engine and exits.
func Main(m interface{ Run() int }) {
	if code, ran := RunChild(); ran {
		os.Exit(code) //arch:exit this is the main of a test binary
	}
	code := m.Run()
	shared.stop()
	os.Exit(code) //arch:exit this is the main of a test binary
}

//arch:global one engine per test process is the purpose, and Shared has only t to find it by
var shared sharedEngine

//arch:global numbers the databases of all tests of the process, so that no two share one
var databases atomic.Int64

type sharedEngine struct {
	mu  sync.Mutex
	dir string
	ch  *ClickHouse
	err error // the first failure; later tests report it at once
}

func (s *sharedEngine) get(t TB) (*ClickHouse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil || s.err != nil {
		return s.ch, s.err
	}
	if s.dir, s.err = os.MkdirTemp("", "countinghouse-engine-"); s.err != nil {
		return nil, s.err
	}
	// Not t's context: the engine outlives the test that happened to come first.
	ctx := context.WithoutCancel(t.Context())
	s.ch, s.err = startEngineAndClickHouse(ctx, ClickHouseConfig{Dir: s.dir}, t.Logf)
	return s.ch, s.err
}

func (s *sharedEngine) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		_ = s.ch.Stop(StopGrace) // killed or not, it is gone and so are its data
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // a temporary directory; nothing depends on its removal
	}
}

func startEngineAndClickHouse(ctx context.Context, cfg ClickHouseConfig, progress Progress) (*ClickHouse, error) {
	if cfg.Engine == (Engine{}) {
		engine, err := EnsureEngine(ctx, progress)
		if err != nil {
			return nil, err
		}
		cfg.Engine = engine
	}
	return StartClickHouse(ctx, cfg)
}

// hostPort joins a loopback host and a port.
func hostPort(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}
