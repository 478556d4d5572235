package clickhouse_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/proxy"
	"github.com/countinghouse/countinghouse/test/rig"
)

// F14: ClickHouse is slow: each insert takes 5 s, for 5 minutes.
func TestF14SlowClickHouse(t *testing.T) {
	const (
		rssMax      = 512 << 20
		inFlightMax = 1 << 20
	)
	lasts, insert := 4*time.Second, 600*time.Millisecond
	if fight.Soak {
		lasts, insert = 5*time.Minute, 5*time.Second
	}
	var p *proxy.Proxy
	f := fight.Begin(t, "F14", rig.Options{
		ClickHouseOfAggregator: proxy.Between(t, &p), BatchRows: 100_000,
		AggregatorFlags: []string{"--in-flight-bytes", fmt.Sprint(inFlightMax)},
	})
	aggregator := f.Rig.Aggregators[0]
	const metric = "countinghouse_aggregator_in_flight_bytes"
	f.Rig.Until("the aggregator tells what is in flight", rig.SettleWait, func(ctx context.Context) bool {
		_, err := aggregator.Metric(ctx, metric)
		return err == nil
	})
	over := time.Now().Add(lasts)
	p.Latency(proxy.ToClient, insert/2) // of the header that lets the rows come, and of the answer
	acked := f.Load.Requests()
	var inFlight, rss, lag int64
	f.Rig.Until("the fault is over", 2*lasts+rig.SettleWait, func(ctx context.Context) bool {
		bytes, err := aggregator.Metric(ctx, metric)
		if err != nil {
			t.Fatal(err)
		}
		cost, err := aggregator.Cost()
		if err != nil {
			t.Fatal(err)
		}
		inFlight, rss = max(inFlight, bytes), max(rss, cost.Peak)
		logged, err := f.Rig.Logged(ctx)
		if err != nil {
			t.Fatal(err)
		}
		counted, err := f.Rig.Counted(ctx)
		if err != nil {
			t.Fatal(err)
		}
		lag = max(lag, int64(logged-counted))
		return time.Now().After(over) && f.Load.Requests() > acked // ingest acknowledges while ClickHouse is slow
	})
	if rss >= rssMax || inFlight > inFlightMax {
		t.Errorf("F14 seed=%d: the aggregator holds %d MiB, %d bytes of the log are in flight", f.Seed, rss>>20, inFlight)
	}
	p.Latency(proxy.ToClient, 0)
	caughtUp(f, 2*lasts)
	f.Note = fmt.Sprintf(" insert=%s lasted=%s behind=%d rss_mib=%d in_flight=%d", insert, lasts, lag, rss>>20, inFlight)
	f.End()
}

// caughtUp waits until the warehouse has what the log had when the fault ended, which is lag 0 of a log that
// goes on growing.
func caughtUp(f *fight.Fight, within time.Duration) {
	f.T.Helper()
	logged, err := f.Rig.Logged(f.T.Context())
	if err != nil {
		f.T.Fatal(err)
	}
	f.Worst = 0
	f.Limit(within + recovery)
	f.Counting(logged - 1)
}
