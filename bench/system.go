package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/stack"
)

// system is the Countinghouse that is measured.
type system struct {
	endpoints stack.Endpoints
	host      string // of ingest
	probeKey  string
	keys      []string // of the tenants, to send and to read
	log       *eventlog.Log
	up        *exec.Cmd  // nil: it was running already
	ended     chan error // what up ended with
	dir       string
	keep      bool
	more      []string // flags of up
	programs  string   // folder of the services

	baseline ledger // before the first event
	sent     tally
}

const (
	startWait = 3 * time.Minute // the engine may have to be fetched
	storeWait = time.Hour       // a migration may have to write a hundred million rows anew
	stopWait  = 15 * time.Second
)

func openStack(ctx context.Context, o options, out io.Writer) (*system, error) {
	s := &system{dir: o.dir, keep: o.keep || o.dir != "", programs: o.programs}
	return s, s.open(ctx, o, out)
}

// open starts the stack in a directory of its own, unless one runs already, and connects to it.
func (s *system) open(ctx context.Context, o options, out io.Writer) error {
	if o.dir == "" {
		var err error
		if s.dir, err = os.MkdirTemp("", "countinghouse-bench-"); err != nil {
			return err
		}
		if err := s.start(ctx, o.exe, startWait, out); err != nil {
			return errors.Join(err, s.close())
		}
	}
	if err := s.connect(ctx); err != nil {
		return errors.Join(err, s.close())
	}
	return nil
}

// openStore starts the stack of a store, which stays.
func openStore(ctx context.Context, o options, out io.Writer) (*system, error) {
	s := &system{dir: o.store, keep: true, programs: o.programs}
	if err := s.start(ctx, o.exe, storeWait, out); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := s.connect(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// start runs `countinghouse up --ephemeral` in s.dir.
func (s *system) start(ctx context.Context, exe string, wait time.Duration, out io.Writer) error {
	dir := s.dir
	fmt.Fprintf(out, "starting %s up --ephemeral --dir %s …\n", exe, dir)
	began := time.Now()
	s.up = exec.Command(exe, append([]string{"up", "--ephemeral", "--dir", dir, "--programs", s.programs}, s.more...)...)
	s.up.Stderr = os.Stderr
	s.up.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.up.Start(); err != nil {
		s.up = nil
		return fmt.Errorf("start %s: %w; build it with make build", exe, err)
	}
	s.ended = make(chan error, 1)
	go func() { s.ended <- s.up.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		select {
		case err := <-s.ended:
			s.up = nil
			return fmt.Errorf("%s ended before it was ready: %w", exe, err)
		default:
		}
		if endpointsSince(dir, began) {
			return nil
		}
		if !pause(ctx, 100*time.Millisecond) {
			return fmt.Errorf("%s was not ready in %s; see %s", exe, wait, filepath.Join(dir, "logs"))
		}
	}
}

// endpointsSince says whether the stack that was started then is ready: an `up` that was killed leaves its
// endpoints behind.
func endpointsSince(dir string, began time.Time) bool {
	info, err := os.Stat(filepath.Join(dir, "endpoints.json"))
	return err == nil && !info.ModTime().Before(began.Truncate(time.Second))
}

func (s *system) connect(ctx context.Context) error {
	var err error
	if s.endpoints, err = stack.LoadEndpoints(s.dir); err != nil {
		return err
	}
	u, err := url.Parse(s.endpoints.Ingest)
	if err != nil {
		return fmt.Errorf("address of ingest: %w", err)
	}
	s.host = u.Host
	cfg := eventlog.DefaultConfig()
	cfg.URL, cfg.Name = s.endpoints.NATS, "countinghouse-bench"
	if s.log, err = eventlog.Dial(cfg, zap.NewNop()); err != nil {
		return err
	}
	s.baseline, err = s.counted(ctx)
	return err
}

func (s *system) close() error {
	if s.log != nil {
		s.log.Close()
	}
	var err error
	if s.up != nil {
		err = s.stop()
	}
	if s.keep {
		return err
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *system) stop() error {
	if err := s.up.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	late := time.AfterFunc(stopWait, func() { _ = s.up.Process.Kill() }) // it may have ended in between
	defer late.Stop()
	if err := <-s.ended; err != nil {
		return fmt.Errorf("countinghouse up: %w", err)
	}
	return nil
}

// query asks ClickHouse over HTTP and answers the lines, cut at tabs.
func (s *system) query(ctx context.Context, sql string) ([][]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoints.ClickHouseHTTP, strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask ClickHouse: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("ask ClickHouse: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask ClickHouse: %s", strings.TrimSpace(string(text)))
	}
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows, nil
}

// numbers is the one row of an answer.
func (s *system) numbers(ctx context.Context, sql string) ([]int64, error) {
	rows, err := s.query(ctx, sql)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("ask ClickHouse: %d rows, want one", len(rows))
	}
	out := make([]int64, len(rows[0]))
	for i, text := range rows[0] {
		if out[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, fmt.Errorf("ask ClickHouse: %w", err)
		}
	}
	return out, nil
}

func (s *system) number(ctx context.Context, sql string) (int64, error) {
	n, err := s.numbers(ctx, sql)
	if err != nil {
		return 0, err
	}
	return n[0], nil
}

// ledger is the sum of the ledger.
type ledger struct {
	accepted, stored, duplicate, conflict, quarantined int64
}

func (s *system) counted(ctx context.Context) (ledger, error) {
	n, err := s.numbers(ctx, `SELECT sum(accepted), sum(stored), sum(duplicate), sum(conflict), sum(quarantined) FROM countinghouse.ledger`)
	if err != nil {
		return ledger{}, err
	}
	return ledger{n[0], n[1], n[2], n[3], n[4]}, nil
}

const (
	countPoll = 20 * time.Millisecond
	countWait = 5 * time.Minute
)

// awaitCounted waits until the ledger holds everything that was sent, and answers when it did.
func (s *system) awaitCounted(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, countWait)
	defer cancel()
	for {
		l, err := s.counted(ctx)
		if err != nil {
			return time.Time{}, err
		}
		if l.stored-s.baseline.stored >= s.sent.stored() {
			return time.Now(), nil
		}
		if !pause(ctx, countPoll) {
			return time.Time{}, fmt.Errorf("%d of %d events counted after %s", l.stored-s.baseline.stored, s.sent.stored(), countWait)
		}
	}
}

// verify holds the ledger against what was sent.
func (s *system) verify(ctx context.Context, out io.Writer) error {
	l, err := s.counted(ctx)
	if err != nil {
		return err
	}
	accepted, stored, duplicate := l.accepted-s.baseline.accepted, l.stored-s.baseline.stored, l.duplicate-s.baseline.duplicate
	other := l.conflict - s.baseline.conflict + l.quarantined - s.baseline.quarantined
	t := &s.sent
	extra := duplicate - t.duplicates // of requests that were sent again without knowing
	rows, err := s.number(ctx, `SELECT toInt64(sum(sign)) FROM countinghouse.events`)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "exact: %d accepted = %d stored + %d duplicate (%d sent twice on purpose), %d rows in events\n",
		accepted, stored, duplicate, t.duplicates, rows)
	if stored != t.stored() || extra < 0 || extra > t.ambiguous || other != 0 || accepted != stored+duplicate || rows != l.stored {
		return fmt.Errorf("NOT EXACT: sent %d, of them %d duplicates and at most %d more; the ledger has accepted %d, stored %d, duplicate %d, other %d, and events has %d rows of %d",
			t.accepted, t.duplicates, t.ambiguous, accepted, stored, duplicate, other, rows, l.stored)
	}
	return nil
}

// logBytes is the size of the log.
func (s *system) logBytes(ctx context.Context) (int64, error) {
	info, err := s.log.Info(ctx, 0) // `up` has one partition
	return info.Bytes, err
}
