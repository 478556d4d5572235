package aggregator_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/countinghouse/countinghouse/internal/aggregator"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func TestMain(m *testing.M) { localstack.Main(m) }

// rig is a log, a warehouse and one aggregator between them.
type rig struct {
	t     *testing.T
	stack *localstack.Stack
	db    string
	cfg   aggregator.Config
	log   *eventlog.Log
}

func newRig(t *testing.T) *rig {
	t.Helper()
	s := localstack.Shared(t)
	r := &rig{t: t, stack: s, db: s.Database(t)}
	logger := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	wh, err := warehouse.Open(t.Context(), warehouse.Config{DSN: s.ClickHouse.DSN(r.db)}, logger)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = wh.Close() }()
	if err := wh.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r.cfg = aggregator.DefaultConfig()
	r.cfg.Dir, r.cfg.AdminListen, r.cfg.Name = t.TempDir(), "127.0.0.1:0", t.Name()
	r.cfg.ClickHouse.DSN, r.cfg.NATS.URL = s.ClickHouse.DSN(r.db), s.NATSURL
	r.cfg.FlushWait = 20 * time.Millisecond
	if r.log, err = eventlog.Dial(eventlog.Config{URL: s.NATSURL, MaxBytes: 1 << 30, PublishTimeout: awaitMost}, logger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.log.Close)
	r.ensure()
	return r
}

// awaitMost is how long a test waits for anything: a machine that is busy elsewhere is no fault of ours.
const awaitMost = 5 * time.Minute

// ensure makes the streams, whether NATS is there at once or not.
func (r *rig) ensure() {
	r.t.Helper()
	deadline := time.Now().Add(awaitMost)
	for {
		err := r.log.EnsureStreams(r.t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatal(err)
		}
	}
}

// start runs an aggregator until the returned function stops it.
func (r *rig) start(change ...func(*aggregator.Config)) (stop func()) {
	r.t.Helper()
	cfg := r.cfg
	for _, c := range change {
		c(&cfg)
	}
	app, err := aggregator.Start(r.t.Context(), cfg, zaptest.NewLogger(r.t, zaptest.Level(zap.WarnLevel)))
	if err != nil {
		r.t.Fatal(err)
	}
	return func() {
		r.t.Helper()
		if err := app.Close(context.WithoutCancel(r.t.Context())); err != nil {
			r.t.Error(err)
		}
		if err := app.Wait(); err != nil {
			r.t.Error(err)
		}
	}
}

// publish sends CloudEvents JSON the way a direct producer does, and answers its sequence.
func (r *rig) publish(tenant, doc string) uint64 {
	r.t.Helper()
	receipt, err := r.log.AppendMessage(r.t.Context(), tenant, eventlog.KindEvents, nil, uuid.New(), []byte(doc))
	if err != nil {
		r.t.Fatal(err)
	}
	return receipt.Seq
}

// await waits until the warehouse has counted everything up to seq.
func (r *rig) await(seq uint64) {
	r.t.Helper()
	deadline := time.After(awaitMost)
	for {
		asked := time.Now()
		if r.query(fmt.Sprintf("SELECT max(seq) >= %d FROM {db}.ledger", seq)) == "1" {
			return
		}
		select {
		case <-deadline:
			r.t.Fatalf("seq %d not counted after %s; ledger: %s", seq, awaitMost, r.query("SELECT max(seq) FROM {db}.ledger"))
		case <-time.After(max(20*time.Millisecond, 2*time.Since(asked))): // the server is the one that counts, too
		}
	}
}

func (r *rig) query(sql string) string {
	r.t.Helper()
	out, err := r.stack.ClickHouse.Query(r.t.Context(), strings.ReplaceAll(sql, "{db}", r.db))
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	return strings.TrimSpace(out)
}

func metered(id, account, quantity string, at time.Time) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"usage.metered","subject":%q,"time":%q,"data":{"meter":"tokens","quantity":%q}}`,
		id, account, at.UTC().Format(time.RFC3339Nano), quantity)
}

func void(id, target string, at time.Time) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"event.voided","time":%q,"data":{"target":{"source":"/test","id":%q},"reason":"typing error"}}`,
		id, at.UTC().Format(time.RFC3339Nano), target)
}

// TestEveryOutcome sends one of each kind through a real log into a real warehouse and reads the ledger,
// the rows, the rollup and the dead letters back.
func TestEveryOutcome(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	defer r.start()()
	now := time.Now().Add(-time.Hour).Truncate(time.Hour)
	var last uint64
	for _, doc := range []string{
		metered("1", "a", "10", now),
		metered("1", "a", "10.0", now),                                       // the same in another spelling: a duplicate
		metered("1", "a", "11", now),                                         // a conflict
		"[" + metered("2", "a", "1.5", now) + `,{"specversion":"1.0"}` + "]", // a good neighbour
		void("v1", "1", now),                                                 // voids a stored event
		void("v2", "1", now),                                                 // already voided
		void("v3", "v1", now),                                                // a void of a void
		void("v4", "later", now),                                             // waits
		metered("later", "a", "5", now),                                      // and is voided at once
		`{"specversion":`,                                                    // undecodable
		"\xff\xfe poison",                                                    // undecodable
	} {
		last = r.publish("acme", doc)
	}
	other := r.publish("beta", metered("1", "a", "7", now)) // another tenant's id 1 is another identity
	r.await(max(last, other))

	tests := map[string]struct{ sql, want string }{
		"ledger identity": {"SELECT sum(accepted), sum(stored), sum(duplicate), sum(conflict), sum(quarantined), sum(voided) FROM {db}.ledger", "13\t7\t1\t1\t4\t2"},
		"rows":            {"SELECT id, sign, toString(quantity), void_effect FROM {db}.events WHERE tenant = 'acme' ORDER BY id, sign DESC, seq", "1\t1\t10\t\n1\t-1\t10\t\n2\t1\t1.5\t\nlater\t1\t5\t\nlater\t-1\t5\t\nv1\t1\t0\tacted\nv2\t1\t0\talready_voided\nv4\t1\t0\twaiting"},
		"rollup":          {"SELECT tenant, account, meter, toString(sum(quantity)), sum(events), sum(voids), sum(rows) FROM {db}.usage_hourly GROUP BY ALL ORDER BY tenant", "acme\ta\ttokens\t1.5\t1\t2\t5\nbeta\ta\ttokens\t7\t1\t0\t1"},
		"dead letters":    {"SELECT reason, id, length(raw) > 0 FROM {db}.dead_letters ORDER BY seq, idx", "conflict\t1\t1\nmissing-attribute\t\t1\nvoid-of-void\tv3\t1\nundecodable\t\t1\nundecodable\t\t1"},
		"duplicates":      {"SELECT id, n, original_seq FROM {db}.duplicates", "1\t1\t1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := r.query(tt.sql); got != tt.want {
				t.Errorf("have\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// TestMemoryComesBack stops the aggregator between the halves of every pair that must meet: duplicate and
// original, void and target either way round. What one process remembered the next must read back.
func TestMemoryComesBack(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*aggregator.Config){
		"filter from disk":          func(*aggregator.Config) {},
		"filter lost with its disk": func(c *aggregator.Config) { c.Dir = t.TempDir() },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			now := time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour) // noon: what is cut is cut at two midnights, whatever the time of day
			stop := r.start()
			r.publish("acme", metered("1", "a", "10", now))
			r.publish("acme", spanning("cut", "a", "48", now.Add(-50*time.Hour), now))
			r.await(r.publish("acme", void("early", "later", now)))
			stop()
			stop = r.start(change)
			r.publish("acme", metered("1", "a", "10", now))
			r.publish("acme", metered("1", "a", "12", now))
			r.publish("acme", void("v", "1", now))
			r.publish("acme", void("vc", "cut", now))
			r.publish("acme", metered("later", "a", "5", now))
			r.await(r.publish("acme", void("again", "later", now)))
			stop()
			if got, want := r.query("SELECT sum(accepted), sum(stored), sum(duplicate), sum(conflict), sum(quarantined), sum(voided) FROM {db}.ledger"), "9\t7\t1\t1\t0\t3"; got != want {
				t.Errorf("ledger: have %s, want %s", got, want)
			}
			if got, want := r.query("SELECT sum(quantity), sum(events), sum(rows) FROM {db}.usage_hourly"), "0\t0\t10"; got != want {
				t.Errorf("rollup after voiding everything: have %s, want %s", got, want)
			}
			if got, want := r.query("SELECT count(), sum(sign), sum(quantity * sign) FROM {db}.pieces"), "6\t0\t0"; got != want {
				t.Errorf("pieces: have %s, want %s", got, want)
			}
		})
	}
}

// spanning is usage over [start, end).
func spanning(id, account, quantity string, start, end time.Time) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"usage.metered","subject":%q,"data":{"meter":"hours","quantity":%q,"start":%q,"end":%q}}`,
		id, account, quantity, start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
}

// TestTwoAggregators lets two fight over one partition, each believing it is the owner: they share a name,
// so each takes the other's lease as its own from before a restart.
func TestTwoAggregators(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.start()
	second := r.start(func(c *aggregator.Config) { c.Dir = t.TempDir() })
	now := time.Now().Add(-time.Hour)
	var last uint64
	const events = 300
	for i := range events {
		doc := metered(fmt.Sprint(i), "a", "1", now)
		r.publish("acme", doc)
		last = r.publish("acme", doc)
	}
	r.await(last)
	second()
	first()
	for sql, want := range map[string]string{
		"SELECT count(), uniqExact(id) FROM {db}.events":                  fmt.Sprintf("%d\t%d", events, events),
		"SELECT sum(quantity), sum(events) FROM {db}.usage_hourly":        fmt.Sprintf("%d\t%d", events, events),
		"SELECT count(), uniqExact(seq), sum(duplicate) FROM {db}.ledger": fmt.Sprintf("%d\t%d\t%d", 2*events, 2*events, events),
	} {
		if got := r.query(sql); got != want {
			t.Errorf("%s: have %s, want %s", sql, got, want)
		}
	}
}

// TestManyVoidsInOneBatch voids more stored events at once than one query fetches. It once asked for all
// of them together, was refused, and took the shard over again for ever.
func TestManyVoidsInOneBatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now().Add(-time.Hour).Truncate(time.Hour)
	const messages, each = 11, 1000 // of one message at most; together more than warehouse.FetchMax
	send := func(one func(id string) string) (last uint64) {
		for m := range messages {
			batch := make([]string, each)
			for i := range batch {
				batch[i] = one(fmt.Sprintf("%d-%d", m, i))
			}
			last = r.publish("acme", "["+strings.Join(batch, ",")+"]")
		}
		return last
	}
	stop := r.start()
	r.await(send(func(id string) string { return metered(id, "a", "1", now) }))
	stop()
	last := send(func(id string) string { return void("v"+id, id, now) })
	defer r.start(func(c *aggregator.Config) { c.FlushWait = time.Second })()
	r.await(last)
	if got, want := r.query("SELECT sum(stored), sum(voided) FROM {db}.ledger"), fmt.Sprintf("%d\t%d", 2*messages*each, messages*each); got != want {
		t.Errorf("stored, voided: have %s, want %s", got, want)
	}
	if got, want := r.query("SELECT sum(quantity), sum(events), sum(voids) FROM {db}.usage_hourly WHERE meter = 'tokens'"), fmt.Sprintf("0\t0\t%d", messages*each); got != want {
		t.Errorf("rollup: have %s, want %s", got, want)
	}
}
