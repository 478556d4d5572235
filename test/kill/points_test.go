package kill_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// F01: ingest dies at every crash point.
func TestF01CrashPointsOfIngest(t *testing.T) {
	names := fight.CrashPoints(t, "ingest")
	f := fight.Begin(t, "F01p", rig.Options{})
	f.KillAtPoints(f.Rig.Ingest, names, fight.Rounds(1, 20))
	f.End()
}

// F02: the aggregator dies at every crash point: read, decided, owner row written, earlier inserts killed,
// watermarks read, before and after any insert, before the ledger, after it.
func TestF02CrashPointsOfAggregator(t *testing.T) {
	names := fight.AggregatorPoints(t)
	f := fight.Begin(t, "F02p", rig.Options{})
	f.KillAtPoints(f.Rig.Aggregators[0], names, fight.Rounds(1, 20))
	f.End()
}
