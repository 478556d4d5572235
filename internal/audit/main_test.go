package audit_test

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
	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func TestMain(m *testing.M) { localstack.Main(m) }

// rig is a log, a warehouse, the real aggregator between them, and the auditor.
type rig struct {
	testing.TB
	engine *localstack.ClickHouse
	nats   string
	db     string
	cfg    aggregator.Config
	log    *eventlog.Log
	wh     *warehouse.Warehouse
	audit  *audit.Auditor
}

func newRig(t testing.TB) *rig {
	t.Helper()
	s := localstack.Shared(t)
	r := &rig{TB: t, engine: s.ClickHouse, nats: s.NATSURL, db: s.Database(t)}
	r.open(1)
	return r
}

// newWideRig has a log of several partitions.
func newWideRig(t testing.TB, partitions int) *rig {
	t.Helper()
	s := localstack.Start(t, localstack.Options{NATS: localstack.NATSConfig{Partitions: partitions}, NoClickHouse: true})
	r := &rig{TB: t, engine: localstack.SharedClickHouse(t), nats: s.NATSURL}
	r.db = r.engine.Database(t)
	r.open(partitions)
	return r
}

func (r *rig) open(partitions int) {
	r.Helper()
	t := r.TB
	logger := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	var err error
	if r.wh, err = warehouse.Open(t.Context(), warehouse.Config{DSN: r.engine.DSN(r.db)}, logger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.wh.Close() })
	if err := r.wh.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r.cfg = aggregator.DefaultConfig()
	r.cfg.Dir, r.cfg.AdminListen, r.cfg.Name = t.TempDir(), "127.0.0.1:0", t.Name()
	r.cfg.ClickHouse.DSN, r.cfg.NATS.URL = r.engine.DSN(r.db), r.nats
	r.cfg.NATS.Partitions = partitions
	r.cfg.FlushWait = 20 * time.Millisecond
	if r.log, err = eventlog.Dial(eventlog.Config{URL: r.nats, Partitions: partitions, MaxBytes: 4 << 30, PublishTimeout: awaitMost}, logger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.log.Close)
	for deadline := time.Now().Add(awaitMost); ; { // NATS may take longer than one question waits
		err := r.log.EnsureStreams(t.Context())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	r.audit = audit.New(r.log, r.wh, logger)
}

// start runs an aggregator until the returned function stops it.
func (r *rig) start() (stop func()) {
	r.Helper()
	app, err := aggregator.Start(r.Context(), r.cfg, zaptest.NewLogger(r, zaptest.Level(zap.WarnLevel)))
	if err != nil {
		r.Fatal(err)
	}
	return func() {
		r.Helper()
		if err := app.Close(context.WithoutCancel(r.Context())); err != nil {
			r.Error(err)
		}
		if err := app.Wait(); err != nil {
			r.Error(err)
		}
	}
}

// publish sends CloudEvents JSON the way a direct producer does, and answers its sequence.
func (r *rig) publish(tenant, doc string) uint64 {
	r.Helper()
	return r.append(tenant, eventlog.KindEvents, nil, []byte(doc))
}

func (r *rig) append(tenant, kind string, header map[string][]string, data []byte) uint64 {
	r.Helper()
	receipt, err := r.log.AppendMessage(r.Context(), tenant, kind, header, uuid.New(), data)
	if err != nil {
		r.Fatal(err)
	}
	return receipt.Seq
}

// chunk sends events the way ingest does.
func (r *rig) chunk(tenant string, c *eventlog.Chunk) uint64 {
	r.Helper()
	data, err := eventlog.EncodeChunk(nil, c)
	if err != nil {
		r.Fatal(err)
	}
	return r.append(tenant, eventlog.KindChunk, nil, data)
}

// awaitMost is how long a test waits for anything: a machine that is busy elsewhere is no fault of ours.
const awaitMost = 5 * time.Minute

// await waits until the warehouse has counted everything up to seq.
func (r *rig) await(seq uint64) {
	r.Helper()
	deadline := time.After(awaitMost)
	for {
		asked := time.Now()
		if r.query("SELECT max(seq) >= %d FROM {db}.ledger", seq) == "1" {
			return
		}
		select {
		case <-deadline:
			r.Fatalf("seq %d not counted after %s", seq, awaitMost)
		case <-time.After(max(20*time.Millisecond, 2*time.Since(asked))): // the server is the one that counts, too
		}
	}
}

// query is the tab-separated answer of the server.
func (r *rig) query(sql string, args ...any) string {
	r.Helper()
	sql = strings.ReplaceAll(fmt.Sprintf(sql, args...), "{db}", r.db)
	out, err := r.engine.Query(r.Context(), sql)
	if err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
	return strings.TrimSpace(out)
}

// run audits.
func (r *rig) run(o audit.Options) *audit.Certificate {
	r.Helper()
	c, err := r.audit.Run(r.Context(), o)
	if err != nil {
		r.Fatalf("Run: %v", err)
	}
	return c
}

// sound audits and wants no difference.
func (r *rig) sound(o audit.Options) *audit.Certificate {
	r.Helper()
	c := r.run(o)
	if !c.OK || c.DifferenceCount != 0 {
		r.Errorf("audit of a sound warehouse: ok %t, %d differences:\n%s", c.OK, c.DifferenceCount, lines(c.Differences))
	}
	return c
}

func lines(all []audit.Difference) string {
	var b strings.Builder
	for i, d := range all {
		if i == 8 {
			return b.String() + "  …"
		}
		fmt.Fprintf(&b, "  %+v\n", d)
	}
	return b.String()
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

func metered(id, account, quantity string, at time.Time) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"usage.metered","subject":%q,"time":%q,"data":{"meter":"tokens","quantity":%q,"region":"eu","plan":"basic","dimensions":{"b":"2","a":"1"}}}`,
		id, account, stamp(at), quantity)
}

// spanning is usage over [start, end), on trial until trial.
func spanning(id, account, quantity string, start, end, trial time.Time) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"usage.metered","subject":%q,"data":{"meter":"hours","quantity":%q,"start":%q,"end":%q,"trial_expiry":%q}}`,
		id, account, quantity, stamp(start), stamp(end), stamp(trial))
}

func void(id, target string, at time.Time) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"event.voided","time":%q,"data":{"target":{"source":"/test","id":%q},"reason":"typing error"}}`,
		id, stamp(at), target)
}

func created(id, account string, at time.Time) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"account.created","subject":%q,"time":%q,"data":{"name":"Account %s","kind":"customer"}}`,
		id, account, stamp(at), account)
}

// everything writes one of each kind of message and event and answers the last sequence. Sequences are
// named by the tests that break things: they are fixed.
func (r *rig) everything(base time.Time) uint64 {
	r.Helper()
	day := base.Truncate(24 * time.Hour)
	r.publish("acme", created("c1", "a", day))                                                                                                                 // 1
	r.publish("acme", metered("1", "a", "10", base))                                                                                                           // 2
	r.publish("acme", metered("1", "a", "10.0", base))                                                                                                         // 3: duplicate
	r.publish("acme", metered("1", "a", "11", base))                                                                                                           // 4: conflict
	r.publish("acme", "["+metered("2", "a", "1.5", base)+`,{"specversion":"1.0"},`+metered("3", "b", "2", base)+"]")                                           // 5: a bad one between
	r.publish("acme", void("v1", "1", base))                                                                                                                   // 6: acts
	r.publish("acme", void("v2", "1", base))                                                                                                                   // 7: already voided
	r.publish("acme", void("v3", "v1", base))                                                                                                                  // 8: void of a void
	r.publish("acme", void("v4", "later", base))                                                                                                               // 9: waits
	r.publish("acme", metered("later", "a", "5", base))                                                                                                        // 10: voided at once
	r.publish("acme", void("v5", "never", base))                                                                                                               // 11: waits for ever
	r.publish("acme", `{"specversion":`)                                                                                                                       // 12: no JSON
	r.publish("acme", "\xff\xfe poison")                                                                                                                       // 13
	r.publish("beta", metered("1", "a", "7", base))                                                                                                            // 14: another tenant's id 1
	r.publish("acme", spanning("cut", "a", "48", day.Add(-30*time.Hour), day.Add(12*time.Hour), day.Add(-3*time.Hour)))                                        // 15: four pieces
	r.publish("acme", spanning("cutv", "a", "31.000000001", day.Add(-50*time.Hour), day.Add(time.Hour), day))                                                  // 16
	r.publish("acme", void("v6", "cutv", base))                                                                                                                // 17: a cut one is voided
	r.publish("acme", "["+metered("4", "a", "1", base)+","+metered("4", "a", "1", base)+","+metered("4", "a", "1", base)+","+metered("4", "a", "9", base)+"]") // 18
	r.append("acme", eventlog.KindChunk, nil, []byte("no chunk"))                                                                                              // 19
	r.append("acme", eventlog.KindEvents, map[string][]string{"Content-Type": {"text/plain"}}, []byte("x"))                                                    // 20
	r.append("acme", "other", nil, []byte("x"))                                                                                                                // 21
	r.publish("acme", metered("old", "a", "1", base.Add(-40*24*time.Hour)))                                                                                    // 22: outside the window
	r.publish("acme", created("c2", "b", day))                                                                                                                 // 23
	r.publish("acme", void("v7", "c2", base))                                                                                                                  // 24: a directory event is voided
	r.publish("acme", "[]")                                                                                                                                    // 25: nothing at all
	r.publish("acme", void("v8", "late-void", base))                                                                                                           // 26: waits for what turns out to be a void
	r.publish("acme", void("late-void", "3", base))                                                                                                            // 27
	r.publish("acme", spanning("one", "a", "2", day, day.Add(2*time.Hour), day.Add(24*time.Hour)))                                                             // 28: one piece
	at := usage.AtTime(base)
	backfill := &eventlog.Chunk{AcceptedAt: at, Backfill: true}
	for i := range 200 {
		backfill.Events = append(backfill.Events, usage.Event{
			Source: "/packed", ID: fmt.Sprint("p", i), Type: usage.TypeMetered, Subject: fmt.Sprint("account-", i%7),
			Time: usage.AtTime(base.Add(-time.Duration(i) * 24 * time.Hour)), RecordedTime: usage.AtTime(base.Add(-time.Duration(i) * time.Hour)),
			Metered: &usage.Metered{Meter: "tokens", Quantity: usage.Int(int64(i)), Region: "us", Platform: "aws"},
		})
	}
	r.chunk("beta", backfill) // 29: two hundred days back
	r.chunk("beta", backfill) // 30: all of it again
	r.publish("acme", operation("op", base))
	r.publish("acme", operation("op-voided", base))
	return r.publish("acme", void("v9", "op-voided", base)) // 33
}

// operation has a line that was granted, with a number longer than a double, a refund, and one that was denied.
func operation(id string, at time.Time) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"elastic.operation","subject":"a","time":%q,"data":{"operation":"access_request","instance_id":"i",
		"consumer":{"type":"user","value":"joe"},"session_id":"s","session_state":"ACTIVE","source_seq":7,"lines":[
		{"line_no":2,"item":"Photo \"x\"/y","item_quantity":"10","response":101,"activation_id":"ACT","series":"S","version":"1","meter_cost":3,"meter_quantity":"30.000","used":44,"mapped_entitled_count":123456789012.123456789,
			"meta_data":{"a":"]","n":[1.50],"u":"ä/"},"refund_of":{"correlation_id":"c","line_no":2}},
		{"line_no":1,"item":"CAD","item_quantity":"-0.166666667","response":"101","activation_id":"ACT","series":"S","version":"1","meter_cost":7.0,"meter_quantity":-1.166667},
		{"line_no":3,"item":"None","item_quantity":1,"response":"201","activation_id":"ACT","meter_quantity":0}]}}`, id, stamp(at))
}
