package rebuild_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// Everything is made again while events go on being counted: same rows, same reports, nothing lost.
func TestRebuildUnderLoad(t *testing.T) {
	f := fight.Begin(t, "REBUILD", rig.Options{FlushWait: flushWait})
	f.Gently()
	f.Moment()
	was := events(f)
	if dry := tool(f, nil, "--dry-run"); dry.code != 0 {
		t.Fatalf("--dry-run: exit %d\n%s", dry.code, dry.stderr)
	}
	if events(f) != was || databases(f) != "" {
		t.Fatalf("--dry-run changed something: %s", databases(f))
	}
	o := tool(f, nil)
	o.exchanged(t)
	f.Note = " paused=" + o.PausedFor
	if events(f) == was {
		t.Error("the table of events is the old one")
	}
	if left := databases(f); left != "" {
		t.Errorf("left over: %s", left)
	}
	f.Recovered()
	f.End()
}
