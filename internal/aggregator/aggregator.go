// Package aggregator moves events from the log into the warehouse.
//
// Guarantee: every event of the log is decided exactly once — stored, duplicate, conflict or quarantined —
// and what follows from it is in every target table exactly once (I2). The position an event came from is
// stored in the same part as its rows, so that a crash at any instruction leaves tables that say
// themselves how far they got (ADR 0002). The decision is a pure function of the log: the same log
// gives the same tables, whatever the batches and whatever died in between.
//
// The package never loses, doubles or reorders, never trusts a second store with "already counted", and
// keeps no state that the warehouse cannot rebuild. What an event may make it do is in decide.go; how a
// decided batch reaches the tables is in commit.go and sink.go; what happens after any failure is in
// session.go: there is one road, taking over again.
package aggregator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// App is a running aggregator.
type App struct {
	cfg        Config
	zap        *zap.Logger
	log        *eventlog.Log
	store      *control.Store
	servers    *warehouse.Servers
	health     *telemetry.Health
	admin      *telemetry.AdminServer
	tracer     *telemetry.Tracer
	partitions []*partition

	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
	err    error
}

// gcPercent lets the heap grow by less than Go's default before it is collected. What lives is tables of
// numbers and bytes, which cost the collector next to nothing to look through, and little is thrown away. With 10
// collecting was a seventh of the processor time. A drain peaks at 266 MiB with 25, at 253 with 15.
const gcPercent = 25

// Start begins to take partitions and returns. NATS and ClickHouse may be down: the work begins when
// they are there. ctx bounds the start only.
func Start(ctx context.Context, cfg Config, log *zap.Logger) (*App, error) {
	if cfg.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("aggregator: name: %w", err)
		}
		cfg.Name = host
	}
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, fmt.Errorf("aggregator configuration: %w", errors.Join(faults...))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	a := &App{cfg: cfg, zap: log, done: make(chan struct{})}
	if err := a.start(ctx); err != nil {
		a.release(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	return a, nil
}

func (a *App) start(ctx context.Context) error {
	version := telemetry.BuildVersion("aggregator")
	registry := telemetry.NewRegistry(version)
	metrics := telemetry.NewAggregator(registry)
	a.health = telemetry.NewHealth()
	nats := a.cfg.NATS
	nats.Name = "countinghouse-aggregator"
	var err error
	if a.tracer, err = telemetry.NewTracer(ctx, a.cfg.Trace, version, a.zap); err != nil {
		return err
	}
	if a.log, err = eventlog.Dial(nats, a.zap); err != nil {
		return err
	}
	if a.store, err = control.Open(ctx, a.log.Conn(), a.zap); err != nil {
		return err
	}
	if a.servers, err = warehouse.OpenServers(ctx, a.cfg.ClickHouse, a.zap); err != nil {
		return err
	}
	for id := range a.log.Partitions() {
		a.partitions = append(a.partitions, &partition{
			id: uint16(id), cfg: a.cfg, log: a.log, servers: a.servers, metrics: metrics, tracer: a.tracer,
			zap: a.zap.With(zap.Int("partition", id)),
		})
	}
	a.health.Require("partitions", a.ready)
	a.health.Watch("log", a.losses)
	a.health.Watch("tables", a.tables) // degraded, not down: events go on being counted
	if a.admin, err = telemetry.Admin(a.cfg.AdminListen, a.health, registry, version); err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.cancel = cancel
	go func() {
		defer close(a.done)
		a.err = a.own(running)
	}()
	a.zap.Info("aggregator started", zap.String("name", a.cfg.Name), zap.String("admin", a.AdminAddr()), zap.Int("partitions", len(a.partitions)))
	return nil
}

// ready names a partition that this aggregator owns but cannot move.
func (a *App) ready() error {
	var faults []error
	for _, p := range a.partitions {
		if e := p.lastError.Load(); e != nil {
			faults = append(faults, fmt.Errorf("partition %d: %s", p.id, *e))
		}
	}
	return errors.Join(faults...)
}

// tables says what the last comparison of the tables found.
func (a *App) tables() error {
	for _, p := range a.partitions {
		if e := p.difference.Load(); e != nil {
			return errors.New(*e)
		}
	}
	return nil
}

// AdminAddr is where /readyz and /metrics are.
func (a *App) AdminAddr() string { return a.admin.Addr() }

// Wait returns when the aggregator has stopped: nil after Close, else why.
func (a *App) Wait() error {
	<-a.done
	return a.err
}

// Close stops after the insert in flight, gives the leases back and saves the filters. What was read and
// not committed is read again by whoever comes next.
func (a *App) Close(ctx context.Context) error {
	a.health.Drain()
	a.cancel()
	var err error
	select {
	case <-a.done:
	case <-ctx.Done():
		err = fmt.Errorf("aggregator did not stop in time: %w", ctx.Err())
	}
	a.release(ctx)
	return err
}

// release closes what start opened.
func (a *App) release(ctx context.Context) {
	a.once.Do(func() {
		if a.admin != nil {
			_ = a.admin.Close(ctx) // nobody asks any more
		}
		if a.store != nil {
			a.store.Close()
		}
		if a.log != nil {
			a.log.Close()
		}
		if a.servers != nil {
			_ = a.servers.Close() // every session has closed its own
		}
		a.tracer.Close(ctx)
	})
}
