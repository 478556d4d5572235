// Package audit proves that log, ledger, raw rows and rollups say the same, or names the place where they
// do not.
//
// Guarantee: a certificate with ok = true means that up to the progress of every shard each message of the
// log has one ledger row with its hash and its count of events; each event of the log is a raw row with the
// same content, a duplicate or a conflict of an earlier row, or a dead letter at its position; there is no
// row without an event, no identity twice, no negation without its void; pieces sum to their events; and
// the rollups equal the raw rows cell by cell, to the last digit.
//
// The check is independent: what an event is comes from packages eventlog and usage, what becomes of it is
// decided here anew, from the log and the order of positions alone (decide.go, voids.go). Nothing is taken
// from the aggregator, and nothing is ever repaired.
//
// It runs while events are being counted. Rows above a shard's progress belong to a batch in flight and are
// never looked at; a rollup that has merged such rows is compared at the position it has reached.
//
// Rows are compared by fingerprint (fingerprint.go): one pass of ClickHouse over the tables, one pass over
// the log, memory bounded by the messages of a range and not by events. Where fingerprints differ, and only
// there, rows are fetched and compared field by field.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Limits of an audit.
const (
	// rangeMessages is how many messages are compared at a time: 500,000 ledger rows and fingerprints are
	// about 80 MB, and each range is one scan of the tables.
	rangeMessages = 500_000
	// doubtMax is how many events with an open question are gathered before the warehouse is asked.
	doubtMax = warehouse.LookupMax
	// queryWait bounds one statement; a full scan of a large table takes minutes.
	queryWait  = 30 * time.Minute
	settleWait = 20 * time.Second
	settlePoll = 100 * time.Millisecond
	// behindWait is how long a log that ends before what was counted may be a leader that catches up.
	behindWait = 5 * time.Second
)

// Auditor compares a log with a warehouse. Its methods may be used concurrently.
type Auditor struct {
	log   *eventlog.Log
	wh    *warehouse.Warehouse
	zap   *zap.Logger
	owned bool
}

// New audits a log and a warehouse that the caller keeps.
func New(log *eventlog.Log, wh *warehouse.Warehouse, logger *zap.Logger) *Auditor {
	return &Auditor{log: log, wh: wh, zap: logger}
}

// Open dials a connection of its own to the log, for programs that read it for nothing else. NATS may be
// down: a run waits for it as long as its context allows.
func Open(cfg eventlog.Config, wh *warehouse.Warehouse, logger *zap.Logger) (*Auditor, error) {
	log, err := eventlog.Dial(cfg, logger)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	a := New(log, wh, logger)
	a.owned = true
	return a, nil
}

// Close closes what Open opened.
func (a *Auditor) Close() {
	if a.owned {
		a.log.Close()
	}
}

// Options of a run. The zero value audits everything.
type Options struct {
	Tenant   string       // only this tenant's events, rows and differences; "" all
	From, To *usage.Month // only events of these months by their own time, both inclusive; nil unbounded
	// Full compares the minima and maxima of rollup cells too, which needs every cell of a month in the
	// memory of ClickHouse.
	Full bool
	// Settle is how long a batch in flight may take until the rollups it has reached are compared without
	// the cells it touched; 0 is 20 s.
	Settle time.Duration
	// Progress, if set, is told how many messages of the log were compared, of how many.
	Progress func(done, total uint64)
}

// Run audits and answers the certificate. An error means that the audit could not be finished and says
// nothing about the data; what the data is, the certificate says.
func (a *Auditor) Run(ctx context.Context, o Options) (*Certificate, error) {
	if o.Tenant != "" && !eventlog.ValidTenant(o.Tenant) {
		return nil, fmt.Errorf("audit: %q is no tenant name", o.Tenant)
	}
	if o.Settle == 0 {
		o.Settle = settleWait
	}
	started := time.Now()
	r := &run{Auditor: a, Options: o, found: newFindings(o.Tenant), months: newMonths()}
	if err := r.all(ctx); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	c := r.certificate(started)
	if err := c.seal(); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	a.zap.Info("audit done", zap.Bool("ok", c.OK), zap.Uint64("differences", c.DifferenceCount),
		zap.Uint64("events", c.Events), zap.Duration("took", time.Since(started)))
	return c, nil
}

// Certificate is Run for callers that pass it on: the certificate as one JSON object. tenant "" is every
// tenant, month "" every month.
func (a *Auditor) Certificate(ctx context.Context, tenant, month string) (json.RawMessage, error) {
	o := Options{Tenant: tenant}
	if month != "" {
		m, err := usage.ParseMonth(month)
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		o.From, o.To = &m, &m
	}
	c, err := a.Run(ctx, o)
	if err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// run is the state of one audit.
type run struct {
	*Auditor
	Options
	found   *findings
	months  *months
	shards  []shard // every shard of the warehouse, by partition, then incarnation
	reports []ShardReport
	done    uint64
	total   uint64
	rawRead string // the statement that rawSums answered
	rawSums map[rollupKey]*rollupSum
}

func (r *run) all(ctx context.Context) error {
	if err := r.snapshot(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"log, ledger and raw rows", r.partitions},
		{"identities", r.identities},
		{"voids", r.voids},
		{"rollups", r.rollups},
		{"directory", r.directory},
		{"elastic lines", r.elastic},
		{"detached parts", r.detached},
	} {
		started := time.Now()
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		r.zap.Debug("audit step done", zap.String("step", step.name), zap.Duration("took", time.Since(started)))
	}
	return nil
}

// inMonths reports whether an event at the given Unix millisecond is within From and To.
func (r *run) inMonths(ms int64) bool {
	return (r.From == nil || ms >= r.From.Start().Millis()) && (r.To == nil || ms < r.To.End().Millis())
}

// wholeTime reports that no months were asked for, so that counts of whole messages can be compared.
func (r *run) wholeTime() bool { return r.From == nil && r.To == nil }
