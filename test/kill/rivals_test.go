package kill_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// F12: two aggregators and one partition. The one that moves it is frozen past its lease, the other takes
// over, and then the first one goes on from the very instruction it was stopped at, believing in its lease.
func TestF12Rivals(t *testing.T) {
	f := fight.Begin(t, "F12", rig.Options{Aggregators: []string{"one", "two"}})
	freezes := fight.Rounds(2, 20)
	f.Note = fmt.Sprintf(" freezes=%d", freezes)
	for range freezes {
		f.Moment()
		owner, frozen := f.Owner()
		frozen.Freeze()
		f.Worst = max(f.Worst, f.Rig.Until("the other aggregator owns the partition", rig.SettleWait, func(ctx context.Context) bool {
			now := f.Rig.Owner(ctx)
			return now != "" && now != owner
		}))
		f.Recovered()
		f.Moment()
		frozen.Thaw()
		f.Recovered()
	}
	f.End()
}
