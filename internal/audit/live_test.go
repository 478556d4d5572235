package audit_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/internal/audit"
)

// TestWhileCounting audits again and again while events are being counted: a batch in flight is never a
// difference.
func TestWhileCounting(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	defer r.start()()
	at := base()
	last := r.everything(at)
	r.await(last)

	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan uint64, 1)
	go func() {
		var seq uint64
		for i := 0; ctx.Err() == nil; i++ {
			id := fmt.Sprint("live-", i)
			// Old cells, so that merges mix rows in flight with settled ones; pairs of void and target.
			seq = r.publish("acme", "["+metered(id, "a", "1.25", at)+","+metered(id+"-b", "b", "3", at.Add(-time.Duration(i%30)*24*time.Hour))+"]")
			if i%3 == 0 {
				seq = r.publish("acme", void("void-"+id, id, at))
			}
			if i%20 == 0 {
				r.query("OPTIMIZE TABLE {db}.usage_hourly")
			}
		}
		sent <- seq
	}()
	for range 8 {
		r.sound(audit.Options{})
		off, err := r.audit.Light(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for tenant, n := range off {
			if n != 0 {
				t.Errorf("light: %q is off by %d while counting", tenant, n)
			}
		}
	}
	stop()
	r.await(<-sent)
	if c := r.sound(audit.Options{Full: true}); c.Messages <= last {
		t.Errorf("%d messages audited; nothing was counted meanwhile", c.Messages)
	}
}

// TestBatchThatDied leaves the rows of a batch that reached its tables, but not the ledger, one of them
// merged into a settled cell of the rollup: what an aggregator that was killed leaves until the next one
// takes over. It is no difference, and the certificate says that cells were left out.
func TestBatchThatDied(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := r.start()
	last := r.everything(base())
	r.await(last)
	stop()
	next := fmt.Sprint(last + 1)
	r.query("INSERT INTO {db}.events SELECT * REPLACE (toUInt64(" + next + ") AS seq, 'next' AS id) FROM (SELECT * FROM {db}.events WHERE tenant = 'acme' AND id = '2')")
	r.query("INSERT INTO {db}.usage_hourly SELECT * REPLACE (toUInt64(" + next + ") AS hi) FROM (SELECT * FROM {db}.usage_hourly WHERE tenant = 'acme' AND account = 'a' AND meter = 'tokens' LIMIT 1)")
	r.query("OPTIMIZE TABLE {db}.usage_hourly FINAL")
	c := r.sound(audit.Options{Settle: time.Millisecond})
	if len(c.Shards) != 1 || !c.Shards[0].InFlight {
		t.Errorf("shards: %+v, want one in flight", c.Shards)
	}
	r.query("ALTER TABLE {db}.usage_hourly DELETE WHERE tenant = 'beta' AND account = 'account-3' SETTINGS mutations_sync = 2")
	r.finds(r.run(audit.Options{Settle: time.Millisecond}), audit.Difference{Check: audit.CheckRollup, Tenant: "beta", Cell: "account account-3"})
}

// recreate deletes the stream of partition 0 behind everybody's back and makes it anew, with the same
// settings, beginning at sequence first.
func (r *rig) recreate(first uint64) {
	r.Helper()
	nc, err := nats.Connect(r.nats)
	if err != nil {
		r.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		r.Fatal(err)
	}
	s, err := js.Stream(r.Context(), "USAGE_0")
	if err != nil {
		r.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	if err := js.DeleteStream(r.Context(), "USAGE_0"); err != nil {
		r.Fatal(err)
	}
	cfg.FirstSeq = first
	if _, err := js.CreateStream(r.Context(), cfg); err != nil {
		r.Fatal(err)
	}
}

// TestRecreated loses the log and begins a new one: what was counted of the old one is still counted, but
// cannot be proved any more, and the certificate says so and proves the rest.
func TestRecreated(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	at := base()
	stop := r.start()
	for i := range 5 {
		r.publish("acme", metered(fmt.Sprint("old-", i), "a", "1", at))
	}
	r.await(5)
	stop()
	r.sound(audit.Options{})
	r.recreate(1)
	for i := range 9 {
		r.publish("acme", metered(fmt.Sprint("new-", i%8), "a", "1", at)) // one is a duplicate
	}
	r.publish("acme", metered("old-3", "a", "1", at)) // a duplicate of a row that only the warehouse has
	c := r.run(audit.Options{})
	r.finds(c, audit.Difference{Check: audit.CheckLedger, Tenant: "acme", Seq: 1, What: "hash of the message"})
	defer r.start()()
	r.awaitShard(1024, 10)
	c = r.run(audit.Options{})
	r.finds(c, audit.Difference{Check: audit.CheckLog, Seq: 1, What: "recreated"})
	if c.DifferenceCount != 1 || c.Differences[0].SeqTo != 5 {
		t.Errorf("%d differences:\n%s", c.DifferenceCount, lines(c.Differences))
	}
	if len(c.Shards) != 1 || c.Shards[0].Shard != 1024 || c.Shards[0].Messages != 10 {
		t.Errorf("shards: %+v", c.Shards)
	}
	var found bool
	for _, row := range c.Tenants {
		found = found || row.Stored == 8 && row.Duplicate == 2 && row.RawRows == 13
	}
	if !found {
		t.Errorf("tenants: %+v", c.Tenants)
	}
}

// TestGap begins the log at sequence 3: two messages are gone before anybody read them.
func TestGap(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recreate(3)
	defer r.start()()
	r.await(r.publish("acme", metered("1", "a", "1", base())))
	c := r.run(audit.Options{})
	r.finds(c, audit.Difference{Check: audit.CheckLog, Seq: 1, What: "missing from the log"})
	if c.DifferenceCount != 1 || c.Differences[0].SeqTo != 2 || len(c.Shards) != 1 || c.Shards[0].Missing != 2 || c.Shards[0].Messages != 1 {
		t.Errorf("shards %+v, differences:\n%s", c.Shards, lines(c.Differences))
	}
	if off, err := r.audit.Light(t.Context()); err != nil || off[""] != 2 || off["acme"] != 0 {
		t.Errorf("light: %v, %v", off, err)
	}
}

// TestPartitions audits a log of several partitions, each with tenants of its own.
func TestPartitions(t *testing.T) {
	t.Parallel()
	r := newWideRig(t, 3)
	defer r.start()()
	at := base()
	for i := range 40 {
		tenant := fmt.Sprint("tenant-", i%8)
		r.publish(tenant, "["+metered(fmt.Sprint(i/16), "a", "2", at)+","+metered(fmt.Sprint("x", i), "b", "1", at)+"]")
	}
	for p := range 3 {
		info, err := r.log.Info(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Last > 0 {
			r.awaitShard(uint16(p), info.Last)
		}
	}
	c := r.sound(audit.Options{Full: true})
	if len(c.Shards) != 3 || c.Messages != 40 || c.Events != 80 || len(c.Tenants) != 8 {
		t.Errorf("%+v", c)
	}
	r.query("ALTER TABLE {db}.events DELETE WHERE tenant = 'tenant-3' AND id = 'x11' SETTINGS mutations_sync = 2")
	r.finds(r.run(audit.Options{}), audit.Difference{Check: audit.CheckRaw, Tenant: "tenant-3", ID: "x11"})
}

// TestEmpty audits a log and a warehouse with nothing in them, and a question that makes no sense.
func TestEmpty(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.sound(audit.Options{Full: true})
	if c.Messages != 0 || len(c.Shards) != 1 {
		t.Errorf("%+v", c)
	}
	if _, err := r.audit.Run(t.Context(), audit.Options{Tenant: "no tenant"}); err == nil || !strings.Contains(err.Error(), "no tenant name") {
		t.Errorf("Run of %q: %v", "no tenant", err)
	}
	if _, err := r.audit.Certificate(t.Context(), "", "2026-13"); err == nil {
		t.Error("Certificate of month 2026-13: no error")
	}
	text, err := r.audit.Certificate(t.Context(), "acme", "2026-01")
	if err != nil || !strings.Contains(string(text), `"ok":true`) || !strings.Contains(string(text), `"from":"2026-01","to":"2026-01"`) {
		t.Errorf("Certificate: %s, %v", text, err)
	}
}

// awaitShard waits until a shard has counted up to seq.
func (r *rig) awaitShard(shard uint16, seq uint64) {
	r.Helper()
	deadline := time.After(awaitMost)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for r.query("SELECT max(seq) >= %d FROM {db}.ledger WHERE shard = %d", seq, shard) != "1" {
		select {
		case <-deadline:
			r.Fatalf("shard %d: seq %d not counted after %s", shard, seq, awaitMost)
		case <-tick.C:
		}
	}
}
