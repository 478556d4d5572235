// Package reporter is the service finance and operators ask: the API and the pages over HTTP.
//
// Guarantees:
//
//   - The tenant comes from the API key, or the operator's session, and from nothing else; no answer holds anything of
//     another tenant. Keys are the one exception: an admin key of tenant default manages those of every tenant.
//   - What each caller may do is one table (access.Operations, and that of the pages in package web): what is not in it
//     is refused to everybody.
//   - Decimals are strings, exact to the last digit, in JSON and in CSV, and both have the same rows.
//   - A parameter, or a member of a body, that is not known or has a value that is not allowed is refused by name, never
//     ignored.
//   - It writes no usage: closed months, which package months stores, are what was counted. While ClickHouse is away
//     every question is answered 503 with Retry-After, and the service stays up.
package reporter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/reporter/guard"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
	"github.com/countinghouse/countinghouse/internal/reporter/mail"
	"github.com/countinghouse/countinghouse/internal/reporter/schedules"
	"github.com/countinghouse/countinghouse/internal/reporter/signin"
	"github.com/countinghouse/countinghouse/internal/reporter/web"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// completeEvery is how often the audit log is compared with what was changed: a walk over all of CONTROL.
const completeEvery = time.Hour

// App is a running reporter.
type App struct {
	cfg       Config
	log       *zap.Logger
	servers   *warehouse.Servers
	warehouse *warehouse.Warehouse // where everything can be read
	months    *months.Keeper
	jobs      *jobs.Desk
	schedules *schedules.Book
	control   *control.Client
	people    *control.People
	auditor   *audit.Auditor // nil where Config brought its own
	health    *telemetry.Health
	admin     *telemetry.AdminServer
	tracer    *telemetry.Tracer
	listener  net.Listener
	server    *http.Server

	pinged  *warehouse.Warehouse // for signs of life: its connection is not one of those that are waited for
	pulse   *pulse
	stop    context.CancelFunc // what runs in the background
	running sync.WaitGroup

	closing sync.Once
	served  chan struct{} // closed when the server ended
	err     error         // why, if not by Close
	done    chan struct{} // closed when everything ended
}

// Start listens and returns. ClickHouse and NATS may be down. ctx bounds the start only.
func Start(ctx context.Context, cfg Config, log *zap.Logger) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("reporter configuration: %w", err)
	}
	a := &App{cfg: cfg, log: log, served: make(chan struct{}), done: make(chan struct{}), health: telemetry.NewHealth()}
	if err := a.start(ctx); err != nil {
		a.release(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("reporter: %w", err)
	}
	log.Info("reporter started", zap.String("listen", a.Addr()), zap.String("admin", a.AdminAddr()))
	return a, nil
}

// cursorKey signs cursors; one of this process alone where none is given.
func (a *App) cursorKey() []byte {
	key := []byte(a.cfg.CursorKey)
	if len(key) == 0 {
		key = make([]byte, 32)
		_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	}
	return key
}

func (a *App) start(ctx context.Context) error {
	version := telemetry.BuildVersion("reporter")
	registry := telemetry.NewRegistry(version)
	var err error
	if a.tracer, err = telemetry.NewTracer(ctx, a.cfg.Trace, version, a.log); err != nil {
		return err
	}
	if a.listener, err = listen(a.cfg.Listen); err != nil {
		return err
	}
	if a.servers, err = warehouse.OpenServers(ctx, a.cfg.ClickHouse, a.log); err != nil {
		return err
	}
	a.warehouse = a.servers.Reader()
	if a.pinged, err = warehouse.Open(ctx, a.cfg.ClickHouse, a.log); err != nil {
		return err
	}
	a.pulse = newPulse(ctx, a.cfg.HTTP.PageWait)
	nats := a.cfg.NATS
	nats.Name = "countinghouse-reporter"
	if a.control, err = control.Dial(ctx, nats, a.log); err != nil {
		return err
	}
	certificates := a.cfg.Audit
	if certificates == nil {
		if a.auditor, err = audit.Open(nats, a.warehouse, a.log); err != nil {
			return err
		}
		certificates = a.auditor
	}
	metrics := telemetry.NewReporter(registry)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	a.watch(background)
	if a.admin, err = telemetry.Admin(a.cfg.AdminListen, a.health, registry, version); err != nil {
		return err
	}
	now := a.cfg.Clock
	if now == nil {
		now = time.Now
	}
	reports := report.New(a.warehouse, now)
	holder := "reporter-" + uuid.NewString()
	a.months, err = months.Start(ctx, a.cfg.Months, months.Parts{
		Reports: reports, Servers: a.servers, Control: a.control.Store, Audit: certificates, Now: now, State: metrics.MonthState, Holder: holder,
	}, a.log)
	if err != nil {
		return err
	}
	a.people = a.control.People(ctx)
	owners := &guard.Owners{Reports: reports, People: a.people, Keys: a.control.Store, Now: time.Now} // a key expires by the clock that Verify goes by
	a.jobs, err = jobs.Start(ctx, a.cfg.Jobs, jobs.Parts{
		Reports: reports, Control: a.control.Store, Mail: mail.New(a.cfg.Mail, metrics.EmailSend), Now: now, Runs: metrics.ReportRuns, Holder: holder,
		Judge: owners.Judge,
	}, a.log)
	if err != nil {
		return err
	}
	a.schedules = schedules.Start(ctx, a.control.Store, a.jobs, now, a.log)
	key := a.cursorKey()
	a.completeLog(background)
	signIn := signin.New(a.cfg.SignIn, a.people, a.control.Store, key, a.log)
	site := web.New(web.Parts{
		Log: a.log, Now: now, Reports: reports, Months: a.months, Control: a.control.Store, People: a.people, SignIn: signIn,
		Jobs: a.jobs, Schedules: a.schedules, Audit: proof{certificates, a.months}, Replay: a.replay(now), Attentive: a.pulse.attentive,
	})
	a.serve(newServer(&server{ //nolint:contextcheck // every request brings its own
		log: a.log, tracer: a.tracer, reports: reports, months: a.months, keys: a.control.Store, jobs: a.jobs, schedules: a.schedules, audit: proof{certificates, a.months}, auditing: make(chan struct{}, 1), runs: metrics.ReportRuns,
		people: a.people, signIn: signIn, site: signIn.Protect(site), cursors: cursors{key}, now: now, slots: make(chan struct{}, a.cfg.HTTP.Requests),
		tenants: &tenants{most: a.cfg.HTTP.TenantRequests, busy: map[string]int{}}, limit: a.cfg.Limit, wait: a.cfg.HTTP, pulse: a.pulse,
	}))
	return nil
}

// completeLog tells in the audit log what somebody changed and did not live to tell.
func (a *App) completeLog(ctx context.Context) {
	a.running.Go(func() {
		for ctx.Err() == nil {
			n, err := a.control.Complete(ctx)
			switch {
			case err == nil && n > 0:
				a.log.Warn("changes added to the audit log that had no entry", zap.Int("changes", n))
			case err != nil && ctx.Err() == nil:
				a.log.Debug("audit log not completed yet", zap.Error(err))
			}
			wait := completeEvery
			if err != nil {
				wait = pingEvery
			}
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	})
}

func listen(address string) (net.Listener, error) {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	l, err := net.ListenTCP("tcp", addr)
	if err != nil {
		return nil, err
	}
	return problem.Listener(l), nil
}

// watch keeps what /readyz tells: a probe may not start work of its own.
func (a *App) watch(ctx context.Context) {
	a.running.Go(func() { a.pulse.watch(ctx, a.pinged.Ping) })
	a.health.Require("warehouse", a.pulse.ready)
	a.health.Require("keys", func() error {
		if !a.control.Ready() {
			return errors.New("not loaded yet")
		}
		return nil
	})
	a.health.Watch("nats", func() error { // keys already known stay valid without it
		if !a.control.Connected() {
			return errors.New("not connected")
		}
		return nil
	})
}

func (a *App) serve(handler http.Handler) {
	h := a.cfg.HTTP
	a.server = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: h.HeaderWait,
		ReadTimeout:       h.HeaderWait + 10*time.Second, // bodies are small
		WriteTimeout:      h.AnswerWait,
		IdleTimeout:       h.IdleWait,
		MaxHeaderBytes:    h.HeaderBytes,
		ErrorLog:          zap.NewStdLog(a.log.WithOptions(zap.IncreaseLevel(zap.WarnLevel))),
	}
	go func() {
		defer close(a.served)
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			a.err = fmt.Errorf("serve: %w", err)
		}
	}()
}

// Addr is the address of the API.
func (a *App) Addr() string { return a.listener.Addr().String() }

// AdminAddr is the address of the admin port.
func (a *App) AdminAddr() string { return a.admin.Addr() }

// Wait returns when the service ended: nil after Close.
func (a *App) Wait() error {
	select {
	case <-a.done:
	case <-a.served:
		a.closing.Do(func() { close(a.done) })
	}
	return a.err
}

// Close drains and stops; ctx bounds it.
func (a *App) Close(ctx context.Context) error {
	var err error
	a.closing.Do(func() {
		defer close(a.done)
		a.health.Drain()
		delay := time.NewTimer(a.cfg.HTTP.DrainDelay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case <-ctx.Done():
		}
		drain, cancel := context.WithTimeout(ctx, a.cfg.HTTP.DrainWait)
		defer cancel()
		if err = a.server.Shutdown(drain); err != nil {
			err = errors.Join(fmt.Errorf("drain: %w", err), a.server.Close())
		}
		<-a.served
		a.release(ctx)
	})
	return err
}

// release ends what start began, as far as it came.
func (a *App) release(ctx context.Context) {
	if a.stop != nil {
		a.stop()
		a.running.Wait()
	}
	if a.server == nil && a.listener != nil {
		_ = a.listener.Close() // nobody was served
	}
	if a.admin != nil {
		_ = a.admin.Close(ctx) // the process ends anyway
	}
	if a.schedules != nil {
		a.schedules.Stop()
	}
	if a.jobs != nil {
		a.jobs.Stop()
	}
	if a.months != nil {
		a.months.Stop()
	}
	if a.auditor != nil {
		a.auditor.Close()
	}
	if a.people != nil {
		a.people.Close()
	}
	if a.control != nil {
		a.control.Close()
	}
	if a.pinged != nil {
		_ = a.pinged.Close() // nothing is pending
	}
	if a.servers != nil {
		_ = a.servers.Close() // nothing is pending
	}
	a.tracer.Close(ctx)
}
