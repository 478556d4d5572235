package aggregator_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/aggregator"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestStreamRecreated deletes the stream behind the aggregator's back and fills a new one. What was counted
// stays counted, what producers send again is recognised across incarnations, what is new counts.
func TestStreamRecreated(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now().Add(-time.Hour).Truncate(time.Hour)
	stop := r.start()
	var last uint64
	for i := range 3 {
		last = r.publish("acme", metered(fmt.Sprint("old-", i), "a", "1", now))
	}
	r.await(last)
	stop()

	r.recreate()
	r.publish("acme", metered("old-1", "a", "1", now))
	for i := range 3 {
		last = r.publish("acme", metered(fmt.Sprint("new-", i), "a", "1", now))
	}
	stop = r.start()
	r.await(last)
	stop()
	for sql, want := range map[string]string{
		"SELECT count(), uniqExact(id) FROM {db}.events":                                                    "6\t6",
		"SELECT shard, count(), sum(stored), sum(duplicate) FROM {db}.ledger GROUP BY shard ORDER BY shard": "0\t3\t3\t0\n1024\t4\t3\t1",
		"SELECT sum(quantity), sum(events) FROM {db}.usage_hourly":                                          "6\t6",
	} {
		if got := r.query(sql); got != want {
			t.Errorf("%s: have %s, want %s", sql, got, want)
		}
	}
}

// recreate deletes the stream and makes it anew.
func (r *rig) recreate() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), awaitMost)
	defer cancel()
	if err := r.log.Conn().JetStream().DeleteStream(ctx, "USAGE_0"); err != nil {
		r.t.Fatal(err)
	}
	r.ensure()
}

// TestOwnerOfAnEndedIncarnationIsFenced: who still moves the stream that is gone, with a decided batch in
// its hands, must not be able to store it once the next incarnation has begun: the same events, sent
// again, are counted there.
func TestOwnerOfAnEndedIncarnationIsFenced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now().Add(-time.Hour).Truncate(time.Hour)
	stop := r.start()
	r.await(r.publish("acme", metered("1", "a", "1", now)))
	stop()
	wh, err := warehouse.Open(t.Context(), r.cfg.ClickHouse, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = wh.Close() }()
	frozen, err := wh.TakeOver(t.Context(), 0, 0, "frozen")
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()

	r.recreate()
	stop = r.start()
	r.publish("acme", metered("1", "a", "1", now))
	r.await(r.publish("acme", metered("2", "a", "1", now)))
	block := warehouse.NewLedgerBlock()
	block.Append(&warehouse.LedgerRow{Shard: 0, Seq: 2, Tenant: "acme", LoggedAt: usage.AtTime(now), Accepted: 1, Stored: 1})
	if err := frozen.Insert(t.Context(), block); !errors.Is(err, warehouse.ErrFenced) {
		t.Errorf("the owner of the ended incarnation stored a row: %v", err)
	}
	stop()
	if got, want := r.query("SELECT shard, count(), sum(stored), sum(duplicate) FROM {db}.ledger GROUP BY shard ORDER BY shard"), "0\t1\t1\t0\n1024\t2\t1\t1"; got != want {
		t.Errorf("ledger: have %s, want %s", got, want)
	}
}

// TestStreamRecreatedBehindAMissingSequence: the last thing counted was a hole in the log. What stands at
// its place in the new stream is no hole, so the stream is another one, and nothing of it may be skipped.
func TestStreamRecreatedBehindAMissingSequence(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now().Add(-time.Hour).Truncate(time.Hour)
	stop := r.start()
	r.publish("acme", metered("1", "a", "1", now))
	r.await(r.publish("acme", metered("2", "a", "1", now)))
	stop()
	r.query(`INSERT INTO {db}.ledger (shard, seq, tenant, logged_at, hash, missing, accepted, stored, duplicate, conflict, quarantined, voided)
		SELECT 0, 3, '', max(logged_at), 0, 1, 0, 0, 0, 0, 0, 0 FROM {db}.ledger`)
	r.recreate()
	var last uint64
	for i := range 5 {
		last = r.publish("acme", metered(fmt.Sprint("new-", i), "a", "1", now))
	}
	stop = r.start()
	r.await(last)
	stop()
	if got, want := r.query("SELECT count(), uniqExact(id) FROM {db}.events"), "7\t7"; got != want {
		t.Errorf("events: have %s, want %s", got, want)
	}
}

// TestFilterOfAnotherWorld: log and warehouse were both made anew, the directory of the filters was not.
// A filter that covers the same positions of another log knows none of the identities stored there.
func TestFilterOfAnotherWorld(t *testing.T) {
	t.Parallel()
	old, r := newRig(t), newRig(t)
	r.cfg.Dir = old.cfg.Dir
	now := time.Now().Add(-time.Hour).Truncate(time.Hour)
	stop := old.start()
	for i := range 3 {
		old.await(old.publish("acme", metered(fmt.Sprint("old-", i), "a", "1", now)))
	}
	stop()

	stop = r.start(func(c *aggregator.Config) { c.Dir = t.TempDir() })
	for i := range 5 {
		r.await(r.publish("acme", metered(fmt.Sprint("new-", i), "a", "1", now)))
	}
	stop()
	stop = r.start()
	r.await(r.publish("acme", metered("new-0", "a", "1", now)))
	stop()
	if got, want := r.query("SELECT count(), uniqExact(id) FROM {db}.events"), "5\t5"; got != want {
		t.Errorf("events: have %s, want %s", got, want)
	}
}
