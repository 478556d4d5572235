// Package ingest is the front door: HTTP in, chunks of the log out, 202 after the PubAck.
//
// Guarantees:
//
//   - A 202 is sent only when every event it counts is in the log, on disk (I1). Any other answer
//     promises nothing; sending the same ids again is always safe.
//   - The tenant comes from the API key and from nothing else.
//   - A request is refused with everything that is wrong with it, or taken as a whole; with
//     ?partial=true event by event.
//   - Memory is bounded: bodies, events that wait for the log, connections and requests each have a
//     limit, per tenant and in all. Over it the answer is 503, at once.
//   - One request's end, by time-out or a client that hung up, never harms another's events.
//
// It never talks to ClickHouse, keeps nothing on its own disk, and judges no event by another: what
// needs state is decided behind the log (docs/reference/event-codes.md).
package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/telemetry"
)

const ballastBytes = 16 << 20

// App is a running ingest.
type App struct {
	cfg      Config
	logger   *zap.Logger
	log      *eventlog.Log
	keys     *control.Store
	watch    *watch
	commit   *committer
	health   *telemetry.Health
	tracer   *telemetry.Tracer
	admin    *telemetry.AdminServer
	listener net.Listener
	server   *http.Server

	// ballast is never touched, so it takes address space and no memory. It lets the collector wait for
	// 16 MiB of garbage instead of 4: nearly everything is used again, so that is seconds' worth.
	ballast []byte

	closing sync.Once
	served  chan struct{} // closed when the server ended
	err     error         // why, if not by Close
	done    chan struct{} // closed when everything ended
}

// Start listens and returns. NATS may be down: until it is there, every request is answered 503. ctx
// bounds the start only.
func Start(ctx context.Context, cfg Config, logger *zap.Logger) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("ingest configuration: %w", err)
	}
	a := &App{cfg: cfg, logger: logger, ballast: make([]byte, ballastBytes), served: make(chan struct{}), done: make(chan struct{})}
	if err := a.start(ctx); err != nil {
		return nil, errors.Join(err, a.stop(context.WithoutCancel(ctx)))
	}
	return a, nil
}

func (a *App) start(ctx context.Context) error {
	version := telemetry.BuildVersion("ingest")
	registry := telemetry.NewRegistry(version)
	metrics := telemetry.NewIngest(registry)
	a.health = telemetry.NewHealth()

	var err error
	if a.tracer, err = telemetry.NewTracer(ctx, a.cfg.Trace, version, a.logger); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	if a.listener, err = a.listen(); err != nil {
		return err
	}
	nats := a.cfg.NATS
	nats.Name = "countinghouse-ingest"
	nats.PublishTimeout = a.cfg.Commit.Wait
	if a.log, err = eventlog.Dial(nats, a.logger); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	if a.keys, err = control.Open(ctx, a.log.Conn(), a.logger); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	a.health.Watch("log-loss", watchLoss(a.log, metrics))
	a.watch = startWatch(ctx, a.log, a.cfg.AllowLossy, a.logger)
	a.health.Require("log", a.watch.usable)
	a.health.Require("keys", func() error {
		if !a.keys.Ready() {
			return errKeys
		}
		return nil
	})
	a.health.Watch("durability", a.watch.warning)

	now := a.cfg.Clock
	if now == nil {
		now = time.Now
	}
	commit := a.cfg.Commit
	commit.Abreast = commit.abreast(nats.Replicas)
	a.commit = newCommitter(a.log, commit, metrics, now, a.logger)
	handler := newFront(&a.cfg, a.keys, a.commit, metrics, now, a.watch.usable, a.logger)
	a.commit.tracer, handler.tracer = a.tracer, a.tracer
	a.health.Watch("storage", handler.room)
	if a.admin, err = telemetry.Admin(a.cfg.AdminListen, a.health, registry, version); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	a.serve(handler)
	a.logger.Info("ingest started", zap.String("listen", a.Addr()), zap.String("admin", a.AdminAddr()))
	return nil
}

func (a *App) listen() (net.Listener, error) {
	addr, err := net.ResolveTCPAddr("tcp", a.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	tcp, err := net.ListenTCP("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	l := newLimitListener(tcp, a.cfg.HTTP.Connections)
	if a.cfg.TLS.Cert == "" {
		return l, nil
	}
	cert, err := newCertificate(a.cfg.TLS, a.logger)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ingest: %w", err), l.Close())
	}
	return tls.NewListener(l, cert.config()), nil
}

func (a *App) serve(handler http.Handler) {
	h := a.cfg.HTTP
	a.server = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: h.HeaderWait,
		ReadTimeout:       h.BodyWait,
		// A client that does not read its small answer blocks nobody for long.
		WriteTimeout:   h.BodyWait + a.cfg.Commit.Wait + 5*time.Second,
		IdleTimeout:    h.IdleWait,
		MaxHeaderBytes: h.HeaderBytes,
		ErrorLog:       zap.NewStdLog(a.logger.WithOptions(zap.IncreaseLevel(zap.WarnLevel))),
	}
	go func() {
		defer close(a.served)
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			a.err = fmt.Errorf("serve: %w", err)
		}
	}()
}

// Addr is the address events are taken on.
func (a *App) Addr() string { return a.listener.Addr().String() }

// AdminAddr is the address of the admin port.
func (a *App) AdminAddr() string { return a.admin.Addr() }

// Health is what /readyz says.
func (a *App) Health() *telemetry.Health { return a.health }

// Wait returns when the service has ended, by Close or by itself.
func (a *App) Wait() error {
	select {
	case <-a.done:
	case <-a.served:
		select {
		case <-a.done:
		default:
			if a.err == nil { // Close is at work
				<-a.done
			}
		}
	}
	return a.err
}

// Close turns /readyz, lets what is being served finish, and stops. It may be called more than once.
func (a *App) Close(ctx context.Context) error {
	var err error
	a.closing.Do(func() {
		defer close(a.done)
		a.health.Drain()
		a.server.SetKeepAlivesEnabled(false)
		delay := time.NewTimer(a.cfg.HTTP.DrainDelay)
		select {
		case <-delay.C:
		case <-ctx.Done():
		}
		delay.Stop()
		draining, cancel := context.WithTimeout(ctx, a.cfg.HTTP.DrainWait)
		defer cancel()
		if err = a.server.Shutdown(draining); err != nil {
			err = errors.Join(fmt.Errorf("drain: %w", err), a.server.Close())
		}
		<-a.served
		err = errors.Join(err, a.stop(ctx))
	})
	<-a.done
	return err
}

// stop ends what start began, in the order in which it depends on each other.
func (a *App) stop(ctx context.Context) error {
	var err error
	if a.server == nil && a.listener != nil {
		err = a.listener.Close()
	}
	if a.commit != nil {
		a.commit.wait() // ends by the deadlines of the requests
	}
	if a.watch != nil {
		a.watch.stop()
	}
	if a.keys != nil {
		a.keys.Close()
	}
	if a.log != nil {
		a.log.Close()
	}
	if a.admin != nil {
		err = errors.Join(err, a.admin.Close(ctx))
	}
	a.tracer.Close(ctx)
	return err
}
