package clickhouse_test

import (
	"fmt"
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/proxy"
	"github.com/countinghouse/countinghouse/test/rig"
)

// F12: an insert of an owner that has lost its lease arrives after the next owner has read how far the
// tables are.
func TestF12LateInsert(t *testing.T) {
	var warehouse *proxy.Proxy
	var nats []*proxy.Proxy
	f := fight.Begin(t, "F12l", rig.Options{
		Aggregators: []string{"one", "two"}, ClickHouseOfAggregator: proxy.Between(t, &warehouse), NATSOfAggregator: proxy.BetweenEach(t, &nats),
	})
	times := fight.Rounds(1, 20)
	for i := range times {
		f.Moment()
		f.LateInsert([]string{"ledger", "events", "usage_hourly"}[i%3], warehouse, nats)
	}
	f.Note = fmt.Sprintf(" late=%d", times)
	f.End()
}
