package shards_test

import (
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	partitions = 4
	servers    = 2

	recoverWithin = 15 * time.Second // row 9 of the fault table: a server that died
)

// tenants fall into all partitions, by NATS' own hash; placed checks that.
func tenants() []string { return []string{"acme", "beta", "gamma", "delta", "omega"} }

// TestShards: four partitions on two servers, two aggregators. One aggregator is killed and the other takes
// its partitions over, on the servers they are on; one server stands still, and the partitions of the other
// go on; servers and aggregators are killed at random. Then the oracle, the audit, the reporter and the
// doctor are asked, all of them by way of the Distributed tables; the months are closed; and all tables are made again.
func TestShards(t *testing.T) {
	f := fight.Begin(t, "SHARDS", rig.Options{
		Aggregators: []string{"one", "two"}, Partitions: partitions, ClickHouses: servers, Tenants: tenants(),
		FlushWait: 100 * time.Millisecond, // of four partitions, each with inserts of its own
	})
	f.Limit(recoverWithin)
	f.Gently()
	b := &both{Fight: f}
	for range fight.Rounds(1, 10) {
		b.aggregatorGone()
		b.serverStill(f.Rnd.IntN(servers))
	}
	for i := range fight.Rounds(1, 40) {
		f.Moment()
		parts := [][]*rig.Part{f.Rig.ClickHouses, f.Rig.Aggregators}[i%2]
		part := parts[f.Rnd.IntN(len(parts))]
		back := part.Back()
		part.Kill()
		f.Await(part, back)
		b.recovered()
	}
	b.questions(f.Check())
	b.again()
	f.End()
}
