package limits_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	warehouseDisk = 256 << 20
	smallLog      = 1536 << 10
	largeLog      = 4 << 30
	caughtUp      = 10 * time.Second // after there is room again
)

// TestF07WarehouseFull: the disk of ClickHouse is full, because of what somebody else put there. Events go on
// being taken until the log is full too, which then refuses; nothing that was taken is dropped. When there is
// room again, the warehouse catches up by itself; the log takes events again when it is given more room.
func TestF07WarehouseFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "clickhouse")
	disk := rig.NewDisk(t, dir, warehouseDisk)
	f := fight.Begin(t, "F07", rig.Options{ClickHouseDir: dir, LogMaxBytes: smallLog})
	var lag uint64
	var worst time.Duration
	refused := 0
	for range fight.Rounds(1, 5) {
		f.Moment()
		roomy(f)
		f.Load.Mark()
		f.Rig.Until("the log is full as well", rig.SettleWait, func(context.Context) bool {
			disk.Fill(0) // what a merge gives back is taken as well
			return f.Load.Tally().Count("503 storage-full") > 0
		})
		full := f.Load.Tally()
		// log-unconfirmed: a machine that stands still for longer than a publish may take.
		if !full.Only("202", "503 storage-full", "503 log-unconfirmed") || full.Count("202") == 0 {
			t.Errorf("while the warehouse filled up, answered %s; want 202, then 503 storage-full", full)
		}
		refused += full.Count("503")
		end := logged(f)
		f.Rig.Until("the log tells its state", rig.SettleWait, func(ctx context.Context) bool {
			info, err := f.Rig.Stream(ctx, "USAGE_0")
			if err == nil && (info.State.FirstSeq != 1 || info.State.NumDeleted != 0) {
				t.Errorf("the log dropped something: %+v", info.State)
			}
			return err == nil
		})
		disk.Empty()
		at := counted(f) // before, it answers nobody: an answer is put together on disk
		lag = max(lag, end-at)
		worst = max(worst, f.Rig.Until("the warehouse has counted the backlog", rig.SettleWait, func(ctx context.Context) bool {
			n, err := f.Rig.Counted(ctx)
			return err == nil && n >= end
		}))
		f.Rig.GrowLog(min(largeLog, size(f)+smallLog))
		f.Load.Mark()
		f.Rig.Until("ingest takes events again", rig.SettleWait, func(context.Context) bool { return f.Load.Tally().Count("202") > 0 })
	}
	f.Rig.GrowLog(largeLog)
	f.Within("counting the backlog once there was room again", worst, caughtUp)
	f.Recovered()
	f.Note = fmt.Sprintf(" refused=%d backlog=%d caughtup=%s", refused, lag, worst.Round(time.Millisecond))
	f.End()
}

// roomy lets the log take more where it is half full: on a slow machine it may be full before the warehouse has begun to
// count.
func roomy(f *fight.Fight) {
	f.T.Helper()
	if has := size(f); has > smallLog/2 {
		f.Rig.GrowLog(min(largeLog, has+smallLog/2))
	}
}

// size is how many bytes the log has.
func size(f *fight.Fight) (bytes int64) {
	f.T.Helper()
	f.Rig.Until("the log tells its size", rig.SettleWait, func(ctx context.Context) bool {
		info, err := f.Rig.Stream(ctx, "USAGE_0")
		if err == nil {
			bytes = int64(info.State.Bytes)
		}
		return err == nil
	})
	return bytes
}
