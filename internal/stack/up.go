package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// stopWithin leaves a second of the ten that SIGTERM grants.
const stopWithin = 9 * time.Second

// Names of the parts, as in endpoints.json and DIR/logs.
const (
	PartNATS       = "nats"
	PartClickHouse = "clickhouse"
	PartIngest     = "ingest"
	PartAggregator = "aggregator"
	PartReporter   = "reporter"
)

// Config of a stack. Dir is required.
type Config struct {
	Dir       string
	Ports     Ports
	Ephemeral bool   // free ports instead of Ports
	Operator  bool   // make an operator, to look around with
	Exe       string // the program whose hidden commands are the services; empty: this one
	Programs  string // directory of ingest, aggregator and reporter, to run those; empty: the hidden commands

	// Observe is told what happens, for a person to read. It may be nil and is never called concurrently.
	Observe func(Event)
}

// Event is one thing a person may want to see while the stack starts and runs.
type Event struct {
	Kind EventKind
	Part string        // part or step
	Took time.Duration // of Done
	Text string
}

// EventKind says what an Event is about.
type EventKind int

// Kinds of Event.
const (
	Started  EventKind = iota // a step began
	Done                      // a step ended well
	Note                      // something that takes long says how far it is
	Restated                  // a part has another pid: it was restarted
)

// Stack is a running stack.
type Stack struct {
	cfg    Config
	log    *zap.Logger
	sup    *localstack.Supervisor
	locked *os.File
	secret secrets

	endWatch context.CancelFunc // nil until the stack is ready
	watching sync.WaitGroup

	observing sync.Mutex

	mu        sync.Mutex
	endpoints Endpoints
	ready     bool // endpoints.json may exist
}

// Start brings everything up and returns when all of it is ready. ctx bounds the start only. Whatever
// was started is stopped again when the start fails.
func Start(ctx context.Context, cfg Config, log *zap.Logger) (*Stack, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", cfg.Dir, err)
	}
	cfg.Dir = dir
	for _, d := range []string{dir, filepath.Join(dir, secretsDir), filepath.Join(dir, logsDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("directory %s: %w", dir, err)
		}
	}
	locked, err := lock(dir)
	if err != nil {
		return nil, err
	}
	s := &Stack{cfg: cfg, log: log, locked: locked}
	s.sup = localstack.NewSupervisor(log, s.changed)
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context) error {
	_ = os.Remove(s.path(endpointsFile)) // left by a process that was killed
	if s.cfg.Ephemeral {
		if err := s.cfg.Ports.free(); err != nil {
			return err
		}
	} else if err := s.cfg.Ports.check(ctx); err != nil {
		return err
	}
	var err error
	if s.secret, err = loadSecrets(s.path(secretsDir)); err != nil {
		return err
	}
	var engine localstack.Engine
	if err := s.step("engine", func() (err error) {
		engine, err = localstack.EnsureEngine(ctx, func(format string, args ...any) {
			s.observe(Event{Kind: Note, Part: "engine", Text: fmt.Sprintf(format, args...)})
		})
		return err
	}); err != nil {
		return err
	}
	if err := s.together(ctx, s.startNATS, func(ctx context.Context) error {
		if err := s.startClickHouse(ctx, engine); err != nil {
			return err
		}
		return s.step("migrations", func() error { return s.migrate(ctx) })
	}); err != nil {
		return err
	}
	if err := s.step("log and keys", func() error { return s.prepare(ctx) }); err != nil {
		return err
	}
	services := s.services()
	starts := make([]func(context.Context) error, len(services))
	for i, part := range services {
		starts[i] = func(ctx context.Context) error {
			return s.step(part.Name, func() error { return s.sup.Start(ctx, part) })
		}
	}
	if err := s.together(ctx, starts...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = s.describe()
	s.ready = true
	var watch context.Context
	watch, s.endWatch = context.WithCancel(context.WithoutCancel(ctx))
	s.watching.Go(func() { s.watchLog(watch) })
	return s.endpoints.save(s.cfg.Dir)
}

// together runs steps at the same time; the first failure ends the others.
func (s *Stack) together(ctx context.Context, steps ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(steps))
	var wg sync.WaitGroup
	for _, step := range steps {
		wg.Go(func() {
			if err := step(ctx); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (s *Stack) step(name string, do func() error) error {
	s.observe(Event{Kind: Started, Part: name})
	begun := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.observe(Event{Kind: Done, Part: name, Took: time.Since(begun)})
	return nil
}

func (s *Stack) observe(e Event) {
	s.observing.Lock()
	defer s.observing.Unlock()
	if s.cfg.Observe != nil {
		s.cfg.Observe(e)
	}
}

func (s *Stack) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

func (s *Stack) logFile(part string) string {
	return filepath.Join(s.cfg.Dir, logsDir, part+".log")
}

func (s *Stack) startNATS(ctx context.Context) error {
	return s.step(PartNATS, func() error {
		part, err := localstack.NATSConfig{
			Dir: s.path(PartNATS), Port: s.cfg.Ports.NATS, MonitorPort: s.cfg.Ports.Monitor,
		}.Part()
		if err != nil {
			return err
		}
		part.Name, part.LogFile = PartNATS, s.logFile(PartNATS)
		return s.sup.Start(ctx, part)
	})
}

func (s *Stack) startClickHouse(ctx context.Context, engine localstack.Engine) error {
	return s.step(PartClickHouse, func() error {
		part, err := localstack.ClickHouseConfig{
			Engine: engine, Dir: s.path(PartClickHouse),
			TCPPort: s.cfg.Ports.ClickHouse, HTTPPort: s.cfg.Ports.ClickHouseHTTP,
			Analysts: []localstack.Analyst{{User: analystUser, Password: s.secret.analyst, Tenant: DefaultTenant}},
			Tables:   analystTables(),
		}.Part()
		if err != nil {
			return err
		}
		part.Name, part.LogFile = PartClickHouse, s.logFile(PartClickHouse)
		return s.sup.Start(ctx, part)
	})
}

// analystTables are the tables under the views of usage_api, each with its column of the tenant.
func analystTables() []localstack.Table {
	var out []localstack.Table
	for _, t := range warehouse.AnalystTables(database) {
		out = append(out, localstack.Table{Database: t.Database, Name: t.Name, Tenant: t.Tenant})
	}
	return out
}

const database = "countinghouse"

func (s *Stack) dsn() string {
	return "clickhouse://" + loopback(s.cfg.Ports.ClickHouse) + "/" + database
}

func (s *Stack) natsURL() string { return "nats://" + loopback(s.cfg.Ports.NATS) }

func (s *Stack) migrate(ctx context.Context) error {
	w, err := warehouse.Open(ctx, warehouse.Config{DSN: s.dsn()}, s.log)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }() // the migrations have answered; nothing is pending
	return w.Migrate(ctx, func(p warehouse.MigrationProgress) {
		s.log.Info("migration statement", zap.String("migration", p.Name), zap.Int("statement", p.Statement), zap.Int("of", p.Count))
	})
}

// services are the three programs of ours: this binary, executed again, or those of Programs. A program of its own
// is a third of this one, and the kernel counts the pages of its file for it.
func (s *Stack) services() []localstack.Part {
	p := s.cfg.Ports
	monitor := "http://" + loopback(p.Monitor)
	part := func(name string, admin int, args ...string) localstack.Part {
		args = append([]string{
			"--admin-listen", loopback(admin), "--nats", s.natsURL(), "--nats-monitor-urls", monitor, "--log-format", "json",
		}, args...)
		exe := s.cfg.Exe
		if s.cfg.Programs == "" {
			args = slices.Insert(args, 0, "__"+name)
		} else {
			exe = filepath.Join(s.cfg.Programs, name)
		}
		return localstack.Part{
			Name: name, Exe: exe, Args: args, LogFile: s.logFile(name), Ready: ready("http://" + loopback(admin)),
		}
	}
	return []localstack.Part{
		part(PartIngest, p.IngestAdmin, "--listen", loopback(p.Ingest)),
		part(PartAggregator, p.AggregatorAdmin, "--clickhouse", s.dsn(), "--dir", s.path(PartAggregator)),
		part(PartReporter, p.ReporterAdmin, "--listen", loopback(p.Reporter), "--clickhouse", s.dsn(), "--ingest", "http://"+loopback(p.Ingest),
			"--months-restate-delay", "2s", "--months-quiet-delay", "10s", "--months-retry-delay", "10s"),
	}
}

// ready asks a service's admin port once.
func ready(admin string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/readyz", nil)
		if err != nil {
			return err
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }() // read below
		why, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return errors.New(strings.Join(strings.Split(strings.TrimSpace(string(why)), "\n"), "; "))
		}
		return nil
	}
}

func (s *Stack) describe() Endpoints {
	p := s.cfg.Ports
	e := Endpoints{
		Ingest:         "http://" + loopback(p.Ingest),
		Reporter:       "http://" + loopback(p.Reporter),
		NATS:           s.natsURL(),
		ClickHouse:     s.dsn(),
		ClickHouseHTTP: "http://" + loopback(p.ClickHouseHTTP),
		AdminToken:     s.secret.admin,
		PIDs:           s.sup.PIDs(),
		Monitor:        "http://" + loopback(p.Monitor),
		Admin: map[string]string{
			PartIngest:     "http://" + loopback(p.IngestAdmin),
			PartAggregator: "http://" + loopback(p.AggregatorAdmin),
			PartReporter:   "http://" + loopback(p.ReporterAdmin),
		},
		Analyst: Analyst{User: analystUser, Password: s.secret.analyst, Tenant: DefaultTenant},
	}
	if s.cfg.Operator {
		e.Operator = &Operator{Login: operatorLogin, Password: s.secret.operator}
		if s.secret.operatorStale {
			e.Operator.Password = ""
		}
	}
	return e
}

// changed is told by the supervisor whenever a part has another pid.
func (s *Stack) changed(pids map[string]int) {
	s.mu.Lock()
	if !s.ready {
		s.mu.Unlock()
		return
	}
	var back []string
	for part, pid := range pids {
		if s.endpoints.PIDs[part] != pid {
			back = append(back, part)
		}
	}
	s.endpoints.PIDs = pids
	err := s.endpoints.save(s.cfg.Dir)
	s.mu.Unlock()
	if err != nil {
		s.log.Error("endpoints not rewritten; they name a dead process", zap.Error(err))
	}
	for _, part := range back {
		s.observe(Event{Kind: Restated, Part: part, Text: fmt.Sprintf("restarted, pid %d", pids[part])})
	}
}

// Endpoints is where everything is.
func (s *Stack) Endpoints() Endpoints {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoints
}

// Stop ends all parts, the services before what they stand on, and gives the directory back. A part that is not done in
// its time is killed, which the log tells and which is no failure: every part is made for it, and the time is short on a
// busy machine.
func (s *Stack) Stop() error {
	if s.endWatch != nil {
		s.endWatch()
		s.watching.Wait()
	}
	s.mu.Lock()
	s.ready = false
	err := os.Remove(s.path(endpointsFile))
	s.mu.Unlock()
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if killed := s.sup.Stop(stopWithin); killed != nil {
		s.log.Warn("a part did not end in its time", zap.Error(killed))
	}
	return errors.Join(err, s.locked.Close())
}
