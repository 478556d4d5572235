package kill_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/countinghouse/countinghouse/test/rig"
)

// F12: two aggregators and one partition. The one that moves it is frozen past its lease, the other takes
// over, and then the first one goes on from the very instruction it was stopped at, believing in its lease.
func TestF12Rivals(t *testing.T) {
	f := begin(t, "F12", rig.Options{Aggregators: []string{"one", "two"}})
	freezes := rounds(2, 20)
	f.note = fmt.Sprintf(" freezes=%d", freezes)
	for range freezes {
		f.moment()
		owner, frozen := f.owner()
		frozen.Freeze()
		f.worst = max(f.worst, f.rig.Until("the other aggregator owns the partition", rig.SettleWait, func(ctx context.Context) bool {
			now := f.rig.Owner(ctx)
			return now != "" && now != owner
		}))
		f.recovered()
		f.moment()
		frozen.Thaw()
		f.recovered()
	}
	f.end()
}

// owner is the aggregator that moves the partition.
func (f *fight) owner() (string, *rig.Part) {
	f.t.Helper()
	var name string
	f.rig.Until("somebody owns the partition", rig.SettleWait, func(ctx context.Context) bool {
		name = f.rig.Owner(ctx)
		return name != ""
	})
	for _, a := range f.rig.Aggregators {
		if a.Name == "aggregator-"+name {
			return name, a
		}
	}
	f.t.Fatalf("%q owns the partition and is nobody", name)
	return "", nil
}
