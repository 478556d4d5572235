//go:build soak

package rebuild_test

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// What was counted of a stream that is gone is copied; the rest is counted again.
func TestRebuildKeepsEarlierIncarnations(t *testing.T) {
	f := fight.Begin(t, "REBUILD-INCARNATION", rig.Options{NoConflicts: true})
	f.Check()
	recreate(f)
	f.Load = f.Rig.StartLoad(f.Seed + 1)
	f.Rig.Until("the new stream is counted", rig.SettleWait, func(ctx context.Context) bool {
		rows, err := f.Rig.Warehouse().Rows(ctx, "SELECT count() FROM "+rig.Database+".ledger WHERE shard = 1024 HAVING count() > 100")
		return err == nil && len(rows) == 1
	})
	if o := tool(f, []string{faultpoint.Variable + "=rebuild/carried:3"}); o.code != -1 {
		t.Fatalf("not killed: exit %d\n%s", o.code, o.stderr)
	}
	o := tool(f, nil)
	o.exchanged(t)
	if len(o.Carried) != 1 || o.Carried[0].Shard != 0 || o.Carried[0].Seq == 0 {
		t.Errorf("carried over: %+v", o.Carried)
	}
	f.Recovered()
	f.End()
}

// recreate makes the stream of the log anew, empty.
func recreate(f *fight.Fight) {
	f.T.Helper()
	nc, err := nats.Connect(f.Rig.NATSURL())
	if err != nil {
		f.T.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		f.T.Fatal(err)
	}
	if err := js.DeleteStream(f.T.Context(), "USAGE_0"); err != nil {
		f.T.Fatal(err)
	}
	l, err := eventlog.Dial(eventlog.Config{URL: f.Rig.NATSURL(), Partitions: 1, MaxBytes: 4 << 30}, zap.NewNop())
	if err != nil {
		f.T.Fatal(err)
	}
	defer l.Close()
	f.Rig.Until("the stream is there", rig.SettleWait, func(ctx context.Context) bool { return l.EnsureStreams(ctx) == nil })
}

// toolWait bounds what a test waits for a command that it has let run beside it.
const toolWait = 15 * time.Minute

// started begins a rebuild, and answers where it says what it did.
func started(f *fight.Fight) (*exec.Cmd, chan outcome) {
	cmd, done := f.Command(f.T.Context(), "rebuild", nil), make(chan outcome, 1)
	go func() {
		var o outcome
		o.code, o.stderr = f.Said(cmd, &o.Result)
		done <- o
	}()
	return cmd, done
}

// A command that was frozen comes back when another has finished its work, and does no harm.
func TestRebuildFrozen(t *testing.T) {
	f := fight.Begin(t, "REBUILD-FROZEN", rig.Options{})
	frozen := 0
	for round := range fight.Rounds(2, 12) {
		cmd, done := started(f)
		if round%2 == 0 {
			f.Rig.Until("an exchange begins", toolWait, func(ctx context.Context) bool {
				rows, err := f.Rig.Warehouse().Rows(ctx, "SELECT argMax(step, n) FROM "+rig.Database+".rebuilds")
				return err == nil && rows[0][0] == "exchanging" || len(done) > 0
			})
		} else {
			f.Rig.Until("it works", toolWait, func(context.Context) bool { return databases(f) != "" })
			f.Moment()
		}
		if cmd.Process.Signal(syscall.SIGSTOP) == nil && len(done) == 0 {
			frozen++
		}
		second := tool(f, nil)
		if len(done) == 0 {
			second.exchanged(t)
			f.Recovered()
		}
		_ = cmd.Process.Signal(syscall.SIGCONT) // it may have ended
		select {
		case first := <-done:
			t.Logf("the one that was frozen: exit %d, %.300s", first.code, first.stderr)
		case <-time.After(toolWait):
			t.Fatal("the one that was frozen does not end")
		}
		f.Recovered()
		tool(f, nil).exchanged(t) // whatever it left behind
		if left := databases(f); left != "" {
			t.Errorf("left over: %s", left)
		}
	}
	f.Note = fmt.Sprintf(" frozen=%d", frozen)
	f.End()
}

// Tables that are damaged below the watermark differ from the new ones: that is said, nothing is exchanged; and
// when the differences are accepted everything is there again.
func TestRebuildHeals(t *testing.T) {
	f := fight.Begin(t, "REBUILD-HEALS", rig.Options{})
	f.Moment()
	rows, err := f.Rig.Warehouse().Rows(t.Context(), "SELECT argMax(_partition_id, c) FROM (SELECT _partition_id, count() AS c FROM "+rig.Database+".events GROUP BY _partition_id)")
	if err != nil || len(rows) != 1 {
		t.Fatalf("%v, %v", rows, err)
	}
	for _, table := range []string{"events", "usage_hourly"} {
		if _, err := f.Rig.Warehouse().Rows(t.Context(), "ALTER TABLE "+rig.Database+"."+table+" DROP PARTITION ID '"+rows[0][0]+"'"); err != nil {
			t.Fatal(err)
		}
	}
	was := events(f)
	o := tool(f, nil)
	if o.code != 1 || o.Exchanged || o.Difference == 0 || !o.AuditOK {
		t.Fatalf("damaged tables: exit %d, %+v\n%s", o.code, o.Result, o.stderr)
	}
	if events(f) != was {
		t.Fatal("exchanged in spite of differences")
	}
	o = tool(f, nil, "--accept-differences", "--keep")
	if o.code != 0 || !o.Exchanged || o.Difference == 0 || len(o.KeptIn) != 1 || databases(f) != o.KeptIn[0] {
		t.Fatalf("damaged tables, accepted: exit %d, %+v, databases %s\n%s", o.code, o.Result, databases(f), o.stderr)
	}
	f.Recovered()
	f.End()
}

// Aggregators and ClickHouse die at random while tables are made again: the command waits for them.
func TestRebuildWhileOthersAreKilled(t *testing.T) {
	f := fight.Begin(t, "REBUILD-OTHERS", rig.Options{Aggregators: []string{"one", "two"}})
	for range fight.Rounds(1, 10) {
		_, done := started(f)
		var o outcome
		for ended, n := false, 0; !ended; n++ {
			f.Moment()
			parts := [][]*rig.Part{f.Rig.Aggregators, f.Rig.ClickHouses}[min(n%3, 1)] // aggregators twice as seldom
			part := parts[f.Rnd.IntN(len(parts))]
			if n < 12 { // then it is let through
				back := part.Back()
				part.Kill()
				f.Await(part, back)
			}
			select {
			case o = <-done:
				ended = true
			default:
			}
		}
		o.exchanged(t)
		f.Recovered()
	}
	f.End()
}
