//go:build soak

package kill_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	soakMinutesVariable = "COUNTINGHOUSE_SOAK_MINUTES"
	soakMinutes         = 30
	soakCheckEvery      = 40 // faults
)

// TestSoak lets every fault happen at random, for SOAK_MINUTES, with two aggregators, and asks the oracle
// again and again.
func TestSoak(t *testing.T) {
	minutes := soakMinutes
	if n, err := strconv.Atoi(os.Getenv(soakMinutesVariable)); err == nil && n > 0 {
		minutes = n
	}
	if err := rig.CanTrace(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	points := append(fight.CrashPoints(t, "aggregator", "warehouse"), fight.CrashPoints(t, "ingest")...)
	f := fight.Begin(t, "SOAK", rig.Options{Aggregators: []string{"one", "two"}})
	end := time.Now().Add(time.Duration(minutes) * time.Minute)
	for faults := 1; time.Now().Before(end); faults++ {
		f.Moment()
		anyFault(f, points)
		if f.Rnd.IntN(2) == 0 {
			f.Recovered()
		}
		if faults%soakCheckEvery == 0 {
			f.Recovered()
			f.Check()
			f.Load = f.Rig.StartLoad(f.Seed + uint64(faults))
		}
	}
	f.Recovered()
	f.End()
}

// anyFault does one thing that may happen at any time.
func anyFault(f *fight.Fight, points []string) {
	f.T.Helper()
	switch n := f.Rnd.IntN(10); n {
	case 0, 1, 2: // kill -9 of anything
		part := f.Parts()[f.Rnd.IntN(len(f.Parts()))]
		f.T.Logf("kill %s", part.Name)
		part.Kill()
	case 3: // two at once
		a, b := f.Parts()[f.Rnd.IntN(len(f.Parts()))], f.Parts()[f.Rnd.IntN(len(f.Parts()))]
		f.T.Logf("kill %s and %s", a.Name, b.Name)
		a.Kill()
		b.Kill()
	case 4: // everything at once: the machine's power
		f.T.Logf("kill all")
		for _, p := range f.Parts() {
			p.Kill()
		}
	case 5, 6: // frozen, past every lease and time-out of a client
		part := f.Parts()[f.Rnd.IntN(len(f.Parts()))]
		f.T.Logf("freeze %s", part.Name)
		part.Freeze()
		f.While(time.Duration(1+f.Rnd.IntN(8)) * time.Second)
		part.Thaw()
	case 7: // a crash point: of the part that has it
		at := fmt.Sprintf("%s:%d", points[f.Rnd.IntN(len(points))], 1+f.Rnd.IntN(8))
		part := f.Rig.Ingest
		if !isIngest(at) {
			part = f.Rig.Aggregators[f.Rnd.IntN(2)]
		}
		f.T.Logf("%s dies at %s", part.Name, at)
		part.Arm(faultpoint.Variable + "=" + at)
		part.Kill()
	default: // inside ClickHouse
		calls := []string{"rename,renameat,renameat2", "rename,renameat,renameat2", "fsync,fdatasync", "write,pwrite64", "unlink,unlinkat"}[f.Rnd.IntN(5)]
		diesInside(f, calls, 1+f.Rnd.IntN(5))
	}
}

func isIngest(point string) bool { return len(point) > 7 && point[:7] == "ingest/" }
