package rebuild_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/rebuild"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// points are the crash points that a rebuild of one incarnation passes, with a hit of each.
func points(f *fight.Fight) []string {
	f.T.Helper()
	var at []string
	for _, name := range fight.CrashPoints(f.T, "rebuild") {
		switch name {
		case "rebuild/carried": // TestRebuildKeepsEarlierIncarnations
		case "rebuild/linked": // TestRepair
		case "rebuild/exchanged": // one for each table
			for _, n := range []int{1, 2 + f.Rnd.IntN(4), 7} {
				at = append(at, fmt.Sprintf("%s:%d", name, n))
			}
		default:
			at = append(at, name+":1")
		}
	}
	f.Rnd.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
	return at
}

// The command dies at every crash point, some of them again when it is run again; then it is let through.
// Meanwhile events are sent and counted, but for the time between an exchange that was begun and its end.
func TestRebuildKilledAtCrashPoints(t *testing.T) {
	f := fight.Begin(t, "REBUILD-POINTS", rig.Options{FlushWait: flushWait})
	f.Gently()
	all := points(f)
	if !fight.Soak {
		all = someOf(all)[:1]
	}
	few := []string{"--questions", strconv.Itoa(fight.Rounds(6, rebuild.QuestionsUsual))} // TestRebuildUnderLoad asks them all
	died := 0
	for i, at := range all {
		t.Logf("dies at %s", at)
		o := tool(f, []string{faultpoint.Variable + "=" + at}, few...)
		if o.code != -1 {
			t.Fatalf("not killed at %s: exit %d\n%s", at, o.code, o.stderr)
		}
		died++
		if fight.Soak && i%3 == 0 { // again, wherever it gets to
			again := all[f.Rnd.IntN(len(all))]
			if o := tool(f, []string{faultpoint.Variable + "=" + again}); o.code == -1 {
				t.Logf("died again at %s", again)
				died++
			}
		}
		o = tool(f, nil, few...)
		o.exchanged(t)
		if left := databases(f); left != "" {
			t.Fatalf("killed at %s and run again, there is left: %s", at, left)
		}
		f.Recovered()
	}
	f.Note = fmt.Sprintf(" died=%d", died)
	f.End()
}

// someOf are those around the exchange, and one before.
func someOf(all []string) []string {
	before := 0
	return slices.DeleteFunc(all, func(at string) bool {
		for _, name := range []string{"announced", "stepped-down", "taken", "exchanged:", "concluded"} {
			if len(at) > len("rebuild/"+name) && at[len("rebuild/"):len("rebuild/")+len(name)] == name {
				return false
			}
		}
		before++
		return before > 1
	})
}
