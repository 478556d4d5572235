// Package rig runs the whole system as processes that can be killed: NATS, the ClickHouse engine, ingest
// and any number of aggregators, from a binary built with the crash points of internal/faultpoint.
//
// Whatever dies is started again at once, as `countinghouse up` and every process manager do; what died
// by itself is counted, because a server that crashes under load is news. Nothing here knows how events
// are counted: that is the oracle's.
package rig

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
	"github.com/countinghouse/countinghouse/test/oracle"
)

// Database holds the tables of a rig.
const Database = "countinghouse"

// Options of a rig.
type Options struct {
	Program     string   // built by Build; required
	Aggregators []string // names; default one
	LeaseTTL    time.Duration
	FlushWait   time.Duration
	BatchRows   int

	// NoVoids leaves out voids. They make the aggregator read back what it wrote, so that a warehouse made
	// wrong on purpose is noticed at once, and everything stands still.
	NoVoids bool

	// NoConflicts leaves out other content under a known id: where the log loses the first, the second counts.
	NoConflicts bool
	Remember    bool // loads can replay what they sent

	Tenants     []string      // who sends; default Tenants()
	Ago         time.Duration // how long ago the newest events happened, beside an hour
	Partitions  int           // of the log; default one
	ClickHouses int           // servers that the partitions are spread over; default one, that is also read

	NATSDir, ClickHouseDir string // where they keep their data, a small disk for instance; default a folder of the rig's
	LogMaxBytes            int64  // of each partition's stream; default 4 GiB

	Behind    bool    // the tables are as they were before the last migration
	Unready   bool    // ingest need not become ready
	LazySync  bool    // NATS acknowledges before it syncs
	NATSHosts []*Host // where servers of the log run: one, or three as a cluster; default one on loopback
	IngestIn  *Host   // where ingest runs; default loopback

	// What stands between two parts: given an address (host:port), the address to dial instead.
	NATSOfIngest, NATSOfAggregator, ClickHouseOfAggregator func(address string) string

	IngestFlags, AggregatorFlags []string // more of them; the last of a name wins
}

// Rig is a running system.
type Rig struct {
	t      *testing.T
	ctx    context.Context
	opts   Options
	dir    string
	ports  []int
	tokens map[string]string // by tenant
	keys   map[string]string // their ids
	oracle *oracle.Oracle    // of all loads
	loads  int
	front  string // of what stands before ingest, if anything does

	NATS        *Part
	ClickHouse  *Part   // the one that is read
	ClickHouses []*Part // all of them
	Ingest      *Part
	Aggregators []*Part
	Reporter    *Part // the last that was started; nil: none

	servers []*natsServer
	asker   jetstream.JetStream // nil until somebody asks the log
}

// Tenants are who sends, where nobody else is named.
func Tenants() []string { return []string{"acme", "beta", "gamma"} }

// Start brings the system up and returns when ingest takes events. It is stopped when t ends.
func Start(t *testing.T, opts Options) *Rig {
	t.Helper()
	if len(opts.Aggregators) == 0 {
		opts.Aggregators = []string{"one"}
	}
	if opts.LeaseTTL == 0 {
		opts.LeaseTTL = time.Second
	}
	if opts.FlushWait == 0 {
		opts.FlushWait = 20 * time.Millisecond // many small batches: more boundaries to be killed at
	}
	if opts.BatchRows == 0 {
		opts.BatchRows = 5000
	}
	if opts.LogMaxBytes == 0 {
		opts.LogMaxBytes = 4 << 30
	}
	if len(opts.Tenants) == 0 {
		opts.Tenants = Tenants()
	}
	opts.Partitions, opts.ClickHouses = max(opts.Partitions, 1), max(opts.ClickHouses, 1)
	// Not t's context, which ends before the clean-up that must stop the parts in order.
	r := &Rig{t: t, ctx: context.WithoutCancel(t.Context()), opts: opts, dir: t.TempDir(), tokens: map[string]string{}, keys: map[string]string{}}
	if err := r.start(); err != nil {
		t.Fatalf("rig: %v", err)
	}
	return r
}

func (r *Rig) start() error {
	var err error
	if r.ports, err = localstack.FreePorts(2 + 2*r.opts.ClickHouses + len(r.opts.Aggregators)); err != nil {
		return err
	}
	engine, err := localstack.EnsureEngine(r.ctx, r.t.Logf)
	if err != nil {
		return err
	}
	if err := r.startLog(); err != nil {
		return err
	}
	r.NATS = r.servers[0].part
	if err := r.startClickHouses(engine); err != nil {
		return err
	}
	if err := r.prepare(); err != nil {
		return err
	}
	log := r.logFlags()
	if r.Ingest, err = r.service("ingest", r.ports[1], !r.opts.Unready, slices.Concat(log, []string{
		"--nats", r.natsURL(r.opts.NATSOfIngest), "--listen", r.address("ingest", r.ports[0]),
	}, r.opts.IngestFlags)...); err != nil {
		return err
	}
	clickHouse := r.clickHouseFlags(r.opts.ClickHouseOfAggregator)
	for i, name := range r.opts.Aggregators {
		a, err := r.service("aggregator", r.ports[2+2*r.opts.ClickHouses+i], false, slices.Concat(log, clickHouse, []string{
			"--nats", r.natsURL(r.opts.NATSOfAggregator), "--name", name, "--dir", filepath.Join(r.dir, "filters-"+name), "--lease-ttl", r.opts.LeaseTTL.String(), "--flush-wait", r.opts.FlushWait.String(),
			"--batch-rows", fmt.Sprint(r.opts.BatchRows),
		}, r.opts.AggregatorFlags)...)
		if err != nil {
			return err
		}
		a.Name = "aggregator-" + name
		r.Aggregators = append(r.Aggregators, a)
	}
	return nil
}

func by(via func(string) string, address string) string {
	if via == nil {
		return address
	}
	return via(address)
}

func (r *Rig) traceFile() string { return filepath.Join(r.dir, "strace.log") }

// Victim is the system call in which a life under strace ended; "" when it ended otherwise.
func (r *Rig) Victim() string { return victim(r.traceFile()) }

// prepare does what `up` does before the services start: tables, streams, keys.
func (r *Rig) prepare() error {
	w, err := warehouse.OpenServers(r.ctx, r.clickHouseConfig(nil), zap.NewNop())
	if err != nil {
		return err
	}
	defer w.Close()
	if r.opts.Behind {
		err = migrateAllButLast(r.ctx, w)
	} else {
		err = w.Migrate(r.ctx, nil)
	}
	if err != nil {
		return err
	}
	return r.control(func(l *eventlog.Log, store *control.Store) error {
		if err := r.retry("make the streams", l.EnsureStreams); err != nil {
			return err
		}
		for _, tenant := range r.opts.Tenants {
			err := r.retry("make a key", func(ctx context.Context) (err error) {
				r.keys[tenant], r.tokens[tenant], err = store.Create(ctx, tenant, "rig", []string{"events:write"}, time.Time{})
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// control calls f with the log and the control state. It knows of one server only, as a tool does that is
// not told more: of a cluster, the services make the other copies.
func (r *Rig) control(f func(*eventlog.Log, *control.Store) error) error {
	l, err := eventlog.Dial(eventlog.Config{URL: r.natsURL(nil), MaxBytes: r.opts.LogMaxBytes, Partitions: r.opts.Partitions}, zap.NewNop())
	if err != nil {
		return err
	}
	defer l.Close()
	store, err := control.Open(r.ctx, l.Conn(), zap.NewNop())
	if err != nil {
		return err
	}
	defer store.Close()
	return f(l, store)
}

// Revoke takes a tenant's key away.
func (r *Rig) Revoke(tenant string) error {
	return r.control(func(_ *eventlog.Log, store *control.Store) error {
		return r.retry("revoke a key", func(ctx context.Context) error { return store.Revoke(ctx, r.keys[tenant]) })
	})
}

// retry repeats what a server that was just started may not answer yet.
func (r *Rig) retry(what string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(r.ctx, SettleWait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := do(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// service starts one of the product's programs.
func (r *Rig) service(name string, admin int, awaitReady bool, args ...string) (*Part, error) {
	part := localstack.Part{
		Name: name, Exe: r.opts.Program, LogFile: filepath.Join(r.dir, fmt.Sprintf("%s-%d.log", name, admin)),
		Args: append([]string{
			"__" + name, "--admin-listen", r.address(name, admin), "--nats-monitor-urls", r.monitorURLs(), "--log-format", "json",
		}, args...),
	}
	if awaitReady {
		part.Ready = func(ctx context.Context) error { return Get(ctx, "http://"+r.address(name, admin)+"/readyz") }
	}
	if name == "ingest" && r.opts.IngestIn != nil {
		var err error
		if part, err = r.opts.IngestIn.within(part); err != nil {
			return nil, err
		}
	}
	var kept *Part
	start := func(ctx context.Context) (*localstack.Process, error) {
		p := part
		if kept != nil {
			p.Ready = nil // killed again before it is ready is part of the game
			p.Env = kept.takeArms()
		}
		return localstack.StartPart(ctx, p)
	}
	proc, err := start(r.ctx)
	if err != nil {
		return nil, err
	}
	kept = r.keep(name, part.LogFile, proc, start)
	kept.admin = r.address(name, admin)
	return kept, nil
}

// address is where a service listens.
func (r *Rig) address(service string, port int) string {
	if service == "ingest" && r.opts.IngestIn != nil {
		return fmt.Sprintf("%s:%d", r.opts.IngestIn.Address, port)
	}
	return loopback(port)
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// logFlags are how the log is laid out, for who may have to make its streams.
func (r *Rig) logFlags() []string {
	return []string{"--nats-max-bytes", fmt.Sprint(r.opts.LogMaxBytes), "--nats-replicas", r.replicas(), "--nats-partitions", fmt.Sprint(r.opts.Partitions)}
}

// Get answers an error unless the address answers 200.
func Get(ctx context.Context, address string) error {
	body, err := Fetch(ctx, address)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(body, 1<<20)) // only the status matters
	return body.Close()
}

// Fetch is the body of what an address answers with 200.
func Fetch(ctx context.Context, address string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1024)) // the status is the error
		_ = res.Body.Close()
		return nil, fmt.Errorf("%s: %s %s", address, res.Status, strings.TrimSpace(string(text)))
	}
	return res.Body, nil
}

// URL is where events are posted.
func (r *Rig) URL() string {
	if r.front != "" {
		return r.front + eventsPath
	}
	return "http://" + r.address("ingest", r.ports[0]) + eventsPath
}

const eventsPath = "/api/v1/events"

// Admin is where ingest and the aggregators answer how they are.
func (r *Rig) Admin() (ingest string, aggregators []string) {
	for _, a := range r.Aggregators {
		aggregators = append(aggregators, "http://"+a.admin)
	}
	return "http://" + r.address("ingest", r.ports[1]), aggregators
}

// NATSURL is where direct producers publish.
func (r *Rig) NATSURL() string { return r.natsURL(nil) }

// Token is the API key of a tenant.
func (r *Rig) Token(tenant string) string { return r.tokens[tenant] }

// Warehouse is the address the oracle asks.
func (r *Rig) Warehouse() oracle.ClickHouse {
	return oracle.ClickHouse("http://" + loopback(r.ports[3]))
}

// Counted is the highest sequence the warehouse has counted of the streams as they are now, those of all partitions together; an error
// while it is down.
func (r *Rig) Counted(ctx context.Context) (uint64, error) {
	n, err := r.Warehouse().Numbers(ctx, "SELECT sum(seq) FROM (SELECT argMax(seq, (shard, seq)) AS seq FROM "+Database+".ledger GROUP BY bitAnd(shard, 1023))")
	if err != nil {
		return 0, err
	}
	return uint64(n[0]), nil
}

// Owner is the name of the aggregator that may write; "" while that is not known.
func (r *Rig) Owner(ctx context.Context) string {
	rows, err := r.Warehouse().Rows(ctx, "SELECT holder FROM "+Database+".owner ORDER BY epoch DESC, nonce DESC LIMIT 1")
	if err != nil || len(rows) != 1 {
		return ""
	}
	return rows[0][0]
}

// Until waits for a condition; what it is about is for the error. It rests twice as long as the question took: who
// waits must not be what the parts wait for.
func (r *Rig) Until(what string, within time.Duration, ok func(ctx context.Context) bool) time.Duration {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), within)
	defer cancel()
	begun := time.Now()
	for {
		asked := time.Now()
		if ok(ctx) {
			return time.Since(begun)
		}
		select {
		case <-time.After(max(20*time.Millisecond, 2*time.Since(asked))):
		case <-ctx.Done():
			r.t.Fatalf("not within %s: %s\n%s", within, what, r.Logs())
		}
	}
}

// SettleWait bounds Settle. The promise is seconds; this is for a machine with other work.
const SettleWait = 2 * time.Minute

// Settle waits until the warehouse has counted everything the log has. The producers must have stopped.
func (r *Rig) Settle() time.Duration {
	r.t.Helper()
	return r.Until("the warehouse has counted the log", SettleWait, func(ctx context.Context) bool {
		logged, err := r.Logged(ctx)
		if err != nil {
			return false
		}
		counted, err := r.Counted(ctx)
		return err == nil && counted == logged
	})
}

// Logs are the ends of the parts' logs, for an error.
func (r *Rig) Logs() string {
	var out strings.Builder
	for _, p := range append(append(r.Servers(), r.Ingest, r.Reporter), r.Aggregators...) {
		if p == nil {
			continue
		}
		fmt.Fprintf(&out, "--- %s\n%s\n", p.Name, tail(p.log))
	}
	return out.String()
}
