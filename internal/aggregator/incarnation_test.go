package aggregator_test

import (
	"fmt"
	"testing"
	"time"
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

	if err := r.log.Conn().JetStream().DeleteStream(t.Context(), "USAGE_0"); err != nil {
		t.Fatal(err)
	}
	if err := r.log.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
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
