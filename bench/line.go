package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/bench/peers"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/stack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// line is the log and the warehouse, with an aggregator only while one is wanted: what is measured is how
// fast a backlog goes from one to the other.
type line struct {
	*system
	exe        string // of the aggregator
	command    []string
	nats       *localstack.NATSChild
	clickhouse *localstack.ClickHouse
	aggregator *localstack.Process
	port       int // of its admin server

	profiles string // folder for those of the next drain, if any
	out      io.Writer
}

const (
	lineMaxBytes = 64 << 30 // of the log
	drainWait    = 30 * time.Minute
	// A question to the ledger costs ClickHouse some 3 ms of CPU, which the bill of a drain would hold.
	firstPoll = 50 * time.Millisecond
	drainPoll = 250 * time.Millisecond
	quietWait = 2 * time.Minute
	quietPoll = 250 * time.Millisecond

	profileSeconds = 10
)

func openLine(ctx context.Context, o options, out io.Writer) (l *line, err error) {
	fmt.Fprintln(out, "starting NATS and ClickHouse …")
	l = &line{system: &system{keep: o.keep, endpoints: stack.Endpoints{PIDs: map[string]int{}, Admin: map[string]string{}}}, exe: o.exe, command: []string{"__aggregator"}, out: out}
	if o.programs != "" {
		l.exe, l.command = filepath.Join(o.programs, stack.PartAggregator), nil
	}
	if l.dir, err = os.MkdirTemp("", "countinghouse-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	ports, err := localstack.FreePorts(1)
	if err != nil {
		return nil, err
	}
	l.port = ports[0]
	if l.nats, err = localstack.StartNATSChild(ctx, localstack.NATSConfig{Dir: filepath.Join(l.dir, "nats")}); err != nil {
		return nil, err
	}
	engine, err := localstack.EnsureEngine(ctx, nil)
	if err != nil {
		return nil, err
	}
	if l.clickhouse, err = localstack.StartClickHouse(ctx, localstack.ClickHouseConfig{Engine: engine, Dir: filepath.Join(l.dir, "clickhouse")}); err != nil {
		return nil, err
	}
	e := &l.endpoints
	e.NATS, e.Monitor, e.ClickHouseHTTP, e.ClickHouse = l.nats.URL(), l.nats.MonitorURL(), l.clickhouse.URL(), l.clickhouse.DSN("countinghouse")
	e.PIDs[stack.PartNATS], e.PIDs[stack.PartClickHouse] = l.nats.PID(), l.clickhouse.PID()
	return l, l.prepare(ctx)
}

// prepare makes tables and stream.
func (l *line) prepare(ctx context.Context) error {
	w, err := warehouse.Open(ctx, warehouse.Config{DSN: l.endpoints.ClickHouse}, zap.NewNop())
	if err != nil {
		return err
	}
	if err := errors.Join(w.Migrate(ctx, nil), w.Close()); err != nil {
		return err
	}
	cfg := eventlog.DefaultConfig()
	cfg.URL, cfg.Name, cfg.MaxBytes = l.endpoints.NATS, "countinghouse-bench", lineMaxBytes
	if l.log, err = eventlog.Dial(cfg, zap.NewNop()); err != nil {
		return err
	}
	for {
		err := l.log.EnsureStreams(ctx)
		if !errors.Is(err, eventlog.ErrUnavailable) || !pause(ctx, drainPoll) {
			return err
		}
	}
}

func (l *line) close() error {
	var err error
	if l.log != nil {
		l.log.Close()
	}
	err = errors.Join(err, l.stopAggregator())
	if l.clickhouse != nil {
		err = errors.Join(err, l.clickhouse.Stop(localstack.StopGrace))
	}
	if l.nats != nil {
		err = errors.Join(err, l.nats.Stop(localstack.StopGrace))
	}
	if l.keep || l.dir == "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

// startAggregator returns as soon as the process runs.
func (l *line) startAggregator(ctx context.Context) (err error) {
	admin := "127.0.0.1:" + strconv.Itoa(l.port)
	l.aggregator, err = localstack.StartPart(ctx, localstack.Part{
		Name: stack.PartAggregator, Exe: l.exe, LogFile: filepath.Join(l.dir, "aggregator.log"),
		Args: append(slices.Clone(l.command),
			"--admin-listen", admin, "--nats", l.endpoints.NATS, "--nats-monitor-urls", l.endpoints.Monitor,
			"--log-format", "json", "--clickhouse", l.endpoints.ClickHouse, "--dir", filepath.Join(l.dir, "aggregator"),
		),
	})
	if err == nil {
		l.endpoints.PIDs[stack.PartAggregator] = l.aggregator.PID()
		l.endpoints.Admin[stack.PartAggregator] = "http://" + admin
	}
	return err
}

func (l *line) stopAggregator() error {
	if l.aggregator == nil {
		return nil
	}
	err := l.aggregator.Stop(localstack.StopGrace)
	l.aggregator = nil
	delete(l.endpoints.PIDs, stack.PartAggregator)
	return err
}

// publish puts chunks [0, n) of a sample into the log, as chunks or as JSON.
func (l *line) publish(ctx context.Context, s *sample, n int64, asJSON bool) error {
	p, err := newPublisher(l.endpoints.NATS)
	if err != nil {
		return err
	}
	defer p.close()
	if asJSON {
		return p.batches(ctx, s, 0, n)
	}
	return p.chunks(ctx, s, 0, n, func(int64) error { return nil })
}

// drained is one way from the log to the tables.
type drained struct {
	events  int64
	seconds float64            // from the start of the process to the last row
	first   time.Duration      // to the first row
	steady  float64            // events per second from there on
	cpu     map[string]float64 // seconds, by process
	peak    int64              // bytes resident of what drained
}

func (d drained) rate() float64 { return float64(d.events) / d.seconds }

func (d drained) perMillion(parts ...string) float64 {
	sum := 0.0
	for part, s := range d.cpu {
		if len(parts) == 0 || part == parts[0] {
			sum += s
		}
	}
	return sum / float64(d.events) * 1e6
}

// drain lets an aggregator empty the log, and checks what it made of it.
func (l *line) drain(ctx context.Context, events, repeats int64) (d drained, err error) {
	if err := l.quiet(ctx, quietWait); err != nil {
		return d, err
	}
	base, err := l.counted(ctx)
	if err != nil {
		return d, err
	}
	before, err := l.bill()
	if err != nil {
		return d, err
	}
	began := time.Now()
	if err := l.startAggregator(ctx); err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, l.stopAggregator()) }()
	now, err := l.awaitMore(ctx, base)
	if err != nil {
		return d, err
	}
	d.first = time.Since(began)
	head := now.accepted - base.accepted
	profiled := make(chan error, 1)
	go func() { profiled <- l.profile(ctx, l.profiles, profileSeconds, l.out) }()
	ctx, cancel := context.WithTimeout(ctx, drainWait)
	defer cancel()
	for {
		if now, err = l.counted(ctx); err != nil {
			return d, err
		}
		if now.accepted-base.accepted >= events {
			break
		}
		if !pause(ctx, drainPoll) {
			return d, fmt.Errorf("%d of %d events counted in %s", now.accepted-base.accepted, events, drainWait)
		}
	}
	d.events, d.seconds = events, time.Since(began).Seconds()
	d.steady = float64(events-head) / (d.seconds - d.first.Seconds())
	after, err := l.bill()
	if err != nil {
		return d, err
	}
	d.cpu, d.peak = since(before, after), after[stack.PartAggregator].peak
	if err := <-profiled; err != nil {
		return d, err
	}
	if got := now.duplicate - base.duplicate; now.accepted-base.accepted != events || got != repeats || now.stored-base.stored != events-repeats {
		return d, fmt.Errorf("NOT EXACT: %d events with %d duplicates; the ledger has accepted %d, stored %d, duplicate %d",
			events, repeats, now.accepted-base.accepted, now.stored-base.stored, got)
	}
	return d, nil
}

// awaitMore waits until the ledger has more than it had.
func (s *system) awaitMore(ctx context.Context, base ledger) (ledger, error) {
	ctx, cancel := context.WithTimeout(ctx, drainWait)
	defer cancel()
	for {
		now, err := s.counted(ctx)
		if err != nil || now.accepted > base.accepted {
			return now, err
		}
		if !pause(ctx, firstPoll) {
			return now, fmt.Errorf("nothing was counted in %s", drainWait)
		}
	}
}

// since is the CPU that each process has used between two bills; a new process used all of its own.
func since(before, after bill) map[string]float64 {
	cpu := map[string]float64{}
	for part, u := range after {
		if part != generator {
			cpu[part] = (u.cpu - before[part].cpu).Seconds()
		}
	}
	return cpu
}

// quiet waits until the warehouse has no merge to do: what one pass left behind is not the next one's.
func (s *system) quiet(ctx context.Context, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for calm := 0; calm < 4; {
		n, err := s.number(ctx, "SELECT toInt64(count()) FROM system.merges")
		if ctx.Err() != nil {
			return nil // it is as quiet as it gets
		}
		if err != nil {
			return err
		}
		if calm++; n > 0 {
			calm = 0
		}
		if !pause(ctx, quietPoll) {
			return nil
		}
	}
	return nil
}

// peerCommand is the hidden first argument of a process that is a peer.
const peerCommand = "__peer"

// peer lets another's loop empty the log from its beginning.
func (l *line) peer(ctx context.Context, loop string, messages int, events int64) (d drained, err error) {
	const database = "peers"
	table := database + "." + loop
	for _, sql := range []string{"CREATE DATABASE IF NOT EXISTS " + database, peers.Schema(table)} {
		if _, err := l.query(ctx, sql); err != nil {
			return d, err
		}
	}
	defer func() {
		_, dropErr := l.query(ctx, "DROP DATABASE "+database+" SYNC")
		err = errors.Join(err, dropErr)
	}()
	if err := l.quiet(ctx, quietWait); err != nil {
		return d, err
	}
	config, err := json.Marshal(peers.Config{
		NATS: l.endpoints.NATS, Stream: "USAGE_0", From: 1, Messages: messages, ClickHouse: l.clickhouse.Addr(), Table: table,
	})
	if err != nil {
		return d, err
	}
	before, err := l.bill()
	if err != nil {
		return d, err
	}
	began := time.Now()
	self, err := os.Executable()
	if err != nil {
		return d, err
	}
	cmd := exec.CommandContext(ctx, self, peerCommand, loop, string(config))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		return d, fmt.Errorf("the %s loop: %w", loop, err)
	}
	d.events, d.seconds = events, time.Since(began).Seconds()
	after, err := l.bill()
	if err != nil {
		return d, err
	}
	d.cpu = since(before, after)
	d.cpu[loop] = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		d.peak = usage.Maxrss << 10
	}
	n, err := l.number(ctx, "SELECT toInt64(count()) FROM "+table)
	if err == nil && n != events {
		err = fmt.Errorf("the %s loop inserted %d rows of %d events", loop, n, events)
	}
	return d, err
}

// runPeer is the process of a peer.
func runPeer(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("want a loop and its configuration")
	}
	var c peers.Config
	if err := json.Unmarshal([]byte(args[1]), &c); err != nil {
		return err
	}
	return peers.Run(ctx, args[0], c)
}
