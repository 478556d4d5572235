package ingest

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Committer is the group commit on a log of the test's own, for faults that a real one rarely has.
type Committer struct{ *committer }

// Append makes a function a log.
type Append func(ctx context.Context, tenant string, id uuid.UUID, chunk []byte) (eventlog.Receipt, error)

func (f Append) Append(ctx context.Context, tenant string, id uuid.UUID, chunk []byte) (eventlog.Receipt, error) {
	return f(ctx, tenant, id, chunk)
}

// NewCommitter packs into log.
func NewCommitter(log Append, cfg CommitConfig) Committer {
	return Committer{newCommitter(log, cfg, telemetry.NewIngest(prometheus.NewRegistry()), time.Now, zap.NewNop())}
}

// Account is a tenant's memory.
func Account(own, all int64) *account {
	return &account{own: budget{most: own}, all: &budget{most: all}}
}

// Used is what is charged.
func (a *account) Used() int64 { return a.own.used.Load() + a.all.used.Load() }

// ErrOverloaded for tests.
func ErrOverloaded() error { return errOverloaded }

// Submit returns a function that waits for the answer.
func (c Committer) Submit(ctx context.Context, tenant string, memory *account, events []usage.Event, wait time.Duration) (func() error, error) {
	t, err := c.submit(ctx, laneKey{tenant: tenant}, memory, events, time.Now().Add(wait))
	if err != nil {
		return nil, err
	}
	return func() error { <-t.done; return t.err }, nil
}

// Wait ends when nothing is in flight.
func (c Committer) Wait() { c.wait() }

// BenchHandler is the front door in front of log, with one key that always fits.
func BenchHandler(log Append, now func() time.Time) http.Handler {
	cfg := DefaultConfig()
	metrics := telemetry.NewIngest(prometheus.NewRegistry())
	c := newCommitter(log, cfg.Commit, metrics, now, zap.NewNop())
	return newFront(&cfg, anyKey{}, c, metrics, now, func() error { return nil }, zap.NewNop())
}

// Handler is the front door in front of log, whose state is what reachable says; requests wait for it as long as wait.
func Handler(log Append, reachable func() error, wait time.Duration) http.Handler {
	cfg := DefaultConfig()
	cfg.Commit.Wait = wait
	metrics := telemetry.NewIngest(prometheus.NewRegistry())
	c := newCommitter(log, cfg.Commit, metrics, time.Now, zap.NewNop())
	return newFront(&cfg, anyKey{}, c, metrics, time.Now, reachable, zap.NewNop())
}

// ErrUnsafe and ErrUnchecked for tests.
func ErrUnsafe() error    { return errUnsafe }
func ErrUnchecked() error { return errUnchecked }

type anyKey struct{}

func (anyKey) Verify(context.Context, string) (control.Key, error) {
	return control.Key{Tenant: "acme", Scopes: []string{scopeWrite}}, nil
}
