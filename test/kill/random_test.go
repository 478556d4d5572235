package kill_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/test/rig"
)

// F02: kill -9 of the aggregator at random moments.
func TestF02KillAggregator(t *testing.T) {
	f := begin(t, "F02", rig.Options{})
	f.killAtRandom(rounds(4, 25), func() *rig.Part { return f.rig.Aggregators[0] })
	f.end()
}

// F09: kill -9 of ClickHouse, in the middle of inserts.
func TestF09KillClickHouse(t *testing.T) {
	f := begin(t, "F09", rig.Options{})
	f.killAtRandom(rounds(3, 25), func() *rig.Part { return f.rig.ClickHouse })
	f.end()
}

// F03: kill -9 of NATS under load.
func TestF03KillNATS(t *testing.T) {
	f := begin(t, "F03", rig.Options{})
	f.killAtRandom(rounds(3, 25), func() *rig.Part { return f.rig.NATS })
	f.end()
}

// F01: kill -9 of ingest at random moments.
func TestF01KillIngest(t *testing.T) {
	f := begin(t, "F01", rig.Options{})
	f.killAtRandom(rounds(4, 25), func() *rig.Part { return f.rig.Ingest })
	f.end()
}
