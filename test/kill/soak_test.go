//go:build soak

package kill_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
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
	points := append(crashPoints(t, "aggregator", "warehouse"), crashPoints(t, "ingest")...)
	f := begin(t, "SOAK", rig.Options{Aggregators: []string{"one", "two"}})
	end := time.Now().Add(time.Duration(minutes) * time.Minute)
	for faults := 1; time.Now().Before(end); faults++ {
		f.moment()
		f.anyFault(points)
		if f.rnd.IntN(2) == 0 {
			f.recovered()
		}
		if faults%soakCheckEvery == 0 {
			f.recovered()
			f.check()
			f.load = f.rig.StartLoad(f.seed + uint64(faults))
		}
	}
	f.recovered()
	f.end()
}

// check asks the oracle in between.
func (f *fight) check() {
	f.t.Helper()
	result := f.settled()
	if err := result.Err(); err != nil {
		f.t.Fatalf("%s seed=%d: %v\n%s", f.name, f.seed, err, f.rig.Logs())
	}
	f.t.Logf("holds: kills=%d crashed=%d acked=%d stored=%d recover=%s", f.kills(), f.crashes(), result.Acked, result.Stored, f.worst.Round(time.Millisecond))
}

// anyFault does one thing that may happen at any time.
func (f *fight) anyFault(points []string) {
	f.t.Helper()
	switch n := f.rnd.IntN(10); n {
	case 0, 1, 2: // kill -9 of anything
		part := f.parts()[f.rnd.IntN(len(f.parts()))]
		f.t.Logf("kill %s", part.Name)
		part.Kill()
	case 3: // two at once
		a, b := f.parts()[f.rnd.IntN(len(f.parts()))], f.parts()[f.rnd.IntN(len(f.parts()))]
		f.t.Logf("kill %s and %s", a.Name, b.Name)
		a.Kill()
		b.Kill()
	case 4: // everything at once: the machine's power
		f.t.Logf("kill all")
		for _, p := range f.parts() {
			p.Kill()
		}
	case 5, 6: // frozen, past every lease and time-out of a client
		part := f.parts()[f.rnd.IntN(len(f.parts()))]
		f.t.Logf("freeze %s", part.Name)
		part.Freeze()
		f.while(time.Duration(1+f.rnd.IntN(8)) * time.Second)
		part.Thaw()
	case 7: // a crash point: of the part that has it
		at := fmt.Sprintf("%s:%d", points[f.rnd.IntN(len(points))], 1+f.rnd.IntN(8))
		part := f.rig.Ingest
		if !isIngest(at) {
			part = f.rig.Aggregators[f.rnd.IntN(2)]
		}
		f.t.Logf("%s dies at %s", part.Name, at)
		part.Arm(faultpoint.Variable + "=" + at)
		part.Kill()
	default: // inside ClickHouse
		calls := []string{"rename,renameat,renameat2", "rename,renameat,renameat2", "fsync,fdatasync", "write,pwrite64", "unlink,unlinkat"}[f.rnd.IntN(5)]
		f.diesInside(calls, 1+f.rnd.IntN(5))
	}
}

func isIngest(point string) bool { return len(point) > 7 && point[:7] == "ingest/" }

// while lets a fault last.
func (f *fight) while(d time.Duration) {
	ctx, cancel := context.WithTimeout(f.t.Context(), d)
	defer cancel()
	<-ctx.Done()
}
