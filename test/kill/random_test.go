package kill_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// F02: kill -9 of the aggregator at random moments.
func TestF02KillAggregator(t *testing.T) {
	f := fight.Begin(t, "F02", rig.Options{})
	f.KillAtRandom(fight.Rounds(4, 25), func() *rig.Part { return f.Rig.Aggregators[0] })
	f.End()
}

// F09: kill -9 of ClickHouse, in the middle of inserts.
func TestF09KillClickHouse(t *testing.T) {
	f := fight.Begin(t, "F09", rig.Options{})
	f.KillAtRandom(fight.Rounds(3, 25), func() *rig.Part { return f.Rig.ClickHouse })
	f.End()
}

// F03: kill -9 of NATS under load.
func TestF03KillNATS(t *testing.T) {
	f := fight.Begin(t, "F03", rig.Options{})
	f.KillAtRandom(fight.Rounds(3, 25), func() *rig.Part { return f.Rig.NATS })
	f.End()
}

// F01: kill -9 of ingest at random moments.
func TestF01KillIngest(t *testing.T) {
	f := fight.Begin(t, "F01", rig.Options{})
	f.KillAtRandom(fight.Rounds(4, 25), func() *rig.Part { return f.Rig.Ingest })
	f.End()
}
