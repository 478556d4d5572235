package logfaults_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/stack"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	smallDisk     = 16 << 20
	fullAnswered  = time.Second // a full disk is answered so soon
	fullRecovered = 10 * time.Second
	// tooSlow is what ingest answers on a machine that stands still for longer than a publish may take.
	tooSlow = "503 log-unconfirmed"
)

// F06: the disk of the log is full, because of what somebody else put there, and later there is room again.
// NATS does not recover from that by itself; `up` restarts it.
func TestF06DiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := rig.NewDisk(t, filepath.Join(dir, stack.PartNATS), smallDisk)
	f := fight.On(t, "F06", func() *rig.Rig { return rig.Up(t, fight.Program(), dir) })
	var slowest, worst time.Duration
	refused := 0
	for range fight.Rounds(1, 5) {
		f.Moment()
		disk.Fill(int64(200<<10 + f.Rnd.IntN(300<<10)))
		f.Load.Mark()
		f.Rig.Until("ingest says that the storage is full", rig.SettleWait, func(context.Context) bool { return f.Load.Tally().Count("503 storage-full") > 0 })
		before := f.Rig.PIDs()[stack.PartNATS]
		f.Load.Mark()
		f.While(time.Duration(1+f.Rnd.IntN(fight.Rounds(2, 20))) * time.Second)
		f.Rig.Until("a request that was begun since is answered", rig.SettleWait, func(context.Context) bool { return f.Load.Tally().Count("503 storage-full") > 0 })
		full := f.Load.Tally()
		t.Logf("full: %s", full)
		if !full.Only("503 storage-full", tooSlow) {
			t.Errorf("while the disk is full, answered %s; want 503 storage-full", full)
		}
		slowest, refused = max(slowest, full.Slowest["503 storage-full"]), refused+full.Count("503")
		disk.Empty()
		f.Load.Mark()
		worst = max(worst, f.Rig.Until("ingest takes events again", rig.SettleWait, func(context.Context) bool { return f.Load.Tally().Count("202") > 0 }))
		f.Recovered()
		t.Logf("back after %s: %s; nats was %d, is %d", worst, f.Load.Tally(), before, f.Rig.PIDs()[stack.PartNATS])
	}
	f.Within("the answer that the disk is full", slowest, fullAnswered)
	f.Within("taking events once there was room again", worst, fullRecovered)
	f.Note = fmt.Sprintf(" refused=%d answered=%s back=%s", refused, slowest.Round(time.Millisecond), worst.Round(time.Millisecond))
	f.End()
}
