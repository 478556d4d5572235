package kill_test

import (
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/proxy"
	"github.com/countinghouse/countinghouse/test/rig"
)

// F02: kill -9 of the aggregator at random moments.
func TestF02KillAggregator(t *testing.T) {
	f := fight.Begin(t, "F02", rig.Options{})
	f.KillAtRandom(fight.Rounds(4, 25), func() *rig.Part { return f.Rig.Aggregators[0] })
	f.End()
}

// F09: kill -9 of ClickHouse, at random and with the rows of an insert in its hands.
func TestF09KillClickHouse(t *testing.T) {
	var p *proxy.Proxy
	f := fight.Begin(t, "F09", rig.Options{ClickHouseOfAggregator: proxy.Between(t, &p)})
	f.Limit(15 * time.Second)
	tables := []string{"events", "usage_hourly", "usage_monthly", "pieces", "ledger"}
	for range fight.Rounds(2, 15) {
		rows := fight.Place{Direction: proxy.ToServer, FromEnd: true, Bytes: f.Rnd.Int64N(2)} // with the last byte, and without
		cut := f.CutNext(p, tables[f.Rnd.IntN(len(tables))], rows, proxy.Stall)
		back := f.Rig.ClickHouse.Back()
		f.Rig.ClickHouse.Kill()
		cut.Release()
		f.Await(f.Rig.ClickHouse, back)
		f.Recovered()
	}
	f.KillAtRandom(fight.Rounds(2, 15), func() *rig.Part { return f.Rig.ClickHouse })
	f.End()
}

// F03: kill -9 of NATS under load. What is published in between fails or is sent again; a 202 without the
// message in the log would be lost, and the oracle would miss it.
func TestF03KillNATS(t *testing.T) {
	f := fight.Begin(t, "F03", rig.Options{})
	f.Limit(5 * time.Second)
	f.KillAtRandom(fight.Rounds(3, 25), func() *rig.Part { return f.Rig.NATS })
	f.End()
}

// F01: kill -9 of ingest at random moments.
func TestF01KillIngest(t *testing.T) {
	f := fight.Begin(t, "F01", rig.Options{})
	f.Limit(3 * time.Second)
	f.KillAtRandom(fight.Rounds(4, 25), func() *rig.Part { return f.Rig.Ingest })
	f.End()
}
