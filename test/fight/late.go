package fight

import (
	"context"
	"slices"
	"time"

	"github.com/countinghouse/countinghouse/test/proxy"
	"github.com/countinghouse/countinghouse/test/rig"
)

// LateInsert is the worst that two rivals can do to each other: the owner of the partition asks to insert,
// its packet is delayed, it is cut off from NATS and frozen past its lease. The other takes over and goes on.
// Then the packet arrives, and the first owner wakes up to send the rows, and nobody can tell it that
// its lease is gone. Nothing but the fence can stop that insert. warehouse is what lies before ClickHouse, nats
// what lies between each aggregator and NATS. The ledger is inserted into alone; an insert into another table has
// siblings, which the server knows, and the next owner ends those first.
func (f *Fight) LateInsert(table string, warehouse *proxy.Proxy, nats []*proxy.Proxy) {
	f.T.Helper()
	cut := &proxy.Cut{Direction: proxy.ToServer, End: proxy.Stall}
	late := 0 // the number of the connection
	cut.When = func(connection int, d proxy.Direction, chunk []byte) bool {
		into, _ := InsertOf(d, chunk)
		late = connection
		return into == table
	}
	ended := make(chan struct{})
	over := false
	// What the late one is answered, or that it has gone: the tap and the cut are called one after the other.
	tap := func(connection int, d proxy.Direction, chunk []byte) {
		if connection != late || over || len(chunk) > 0 && (d == proxy.ToServer || chunk[len(chunk)-1] != EndOfStream) {
			return
		}
		select {
		case <-cut.Fired():
			over = true
			close(ended)
		default:
		}
	}
	warehouse.Arm(cut)
	warehouse.Tap(tap)
	f.await("an insert is late", cut.Fired())
	owner, frozen := f.Owner()
	alone := nats[slices.Index(f.Rig.Aggregators, frozen)]
	hold := func(on bool) {
		alone.Hold(proxy.ToServer, on)
		alone.Hold(proxy.ToClient, on)
	}
	hold(true)
	frozen.Freeze()
	f.Rig.Until("the other aggregator owns the partition", rig.SettleWait, func(ctx context.Context) bool {
		now := f.Rig.Owner(ctx)
		return now != "" && now != owner
	})
	f.Recovered()
	cut.Release()
	frozen.Thaw()
	f.await("the late insert ends", ended)
	hold(false)
	warehouse.Tap(nil)
	warehouse.Arm(nil)
	f.Recovered()
}

// Owner is the aggregator that moves the partition.
func (f *Fight) Owner() (string, *rig.Part) {
	f.T.Helper()
	var name string
	f.Rig.Until("somebody owns the partition", rig.SettleWait, func(ctx context.Context) bool {
		name = f.Rig.Owner(ctx)
		return name != ""
	})
	for _, a := range f.Rig.Aggregators {
		if a.Name == "aggregator-"+name {
			return name, a
		}
	}
	f.T.Fatalf("%q owns the partition and is nobody", name)
	return "", nil
}

// CutNext arms a cut and waits until it has struck. One that stalls is the caller's to release.
func (f *Fight) CutNext(warehouse *proxy.Proxy, table string, at Place, end proxy.End) *proxy.Cut {
	f.T.Helper()
	cut := CutInsert(table, at, end)
	warehouse.Arm(cut)
	f.await("an insert into "+table+" is cut at "+at.String(), cut.Fired())
	warehouse.Arm(nil)
	f.T.Logf("%s cut at %s", table, at)
	return cut
}

func (f *Fight) await(what string, done <-chan struct{}) {
	f.T.Helper()
	select {
	case <-done:
	case <-time.After(rig.SettleWait):
		f.T.Fatalf("%s seed=%d: not yet: %s\n%s", f.Name, f.Seed, what, f.Rig.Logs())
	}
}
