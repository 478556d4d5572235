package logfaults_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	usageStream = "USAGE_0"
	// gapPromised is how long a cluster that has lost a minority may take nothing: an election alone takes
	// NATS 4 to 9 s.
	gapPromised = 10 * time.Second
)

// cluster is a fight on three servers, each in a network of its own, and two aggregators.
func cluster(t *testing.T, name string) (*fight.Fight, *rig.Network) {
	t.Helper()
	net := rig.NewNetwork(t, 3)
	f := fight.Begin(t, name, rig.Options{NATSHosts: net.Hosts(), Aggregators: []string{"one", "two"}})
	for _, stream := range []string{usageStream, "CONTROL", "KV_LEASES"} {
		f.Rig.Until("there are three copies of "+stream, rig.SettleWait, func(ctx context.Context) bool {
			info, err := f.Rig.Stream(ctx, stream)
			return err == nil && info.Config.Replicas == 3 && info.Cluster != nil && len(info.Cluster.Replicas) == 2 &&
				info.Cluster.Replicas[0].Current && info.Cluster.Replicas[1].Current
		})
	}
	return f, net
}

// leader waits until the log has a leader, and answers its number.
func leader(f *fight.Fight) int {
	f.T.Helper()
	n := -1
	f.Rig.Until("the log has a leader", rig.SettleWait, func(ctx context.Context) bool {
		n = f.Rig.Leader(ctx, usageStream)
		return n >= 0
	})
	return n
}

// gap checks how long nothing was acknowledged since Mark.
func gap(f *fight.Fight, what string) time.Duration {
	f.T.Helper()
	gap := f.Load.Gap()
	f.T.Logf("%s: longest time without a 202 %s; %s", what, gap.Round(time.Millisecond), f.Load.Tally())
	if gap > gapPromised {
		f.T.Log(f.Rig.Logs())
	}
	f.Within(what+": the longest time without a 202", gap, gapPromised)
	if !f.Load.Tally().Only("202", "503 log-unavailable", "503 log-unconfirmed", "503 keys-unavailable") {
		f.T.Errorf("%s: answered %s", what, f.Load.Tally())
	}
	return gap
}

// F16: the leader of a cluster of three dies, and an aggregator with it: two go on. Then another server stops,
// and what is left acknowledges nothing. When all are back everything is counted.
func TestF16KillLeader(t *testing.T) {
	t.Parallel()
	f, _ := cluster(t, "F16")
	worst, told := time.Duration(0), ""
	for range fight.Rounds(1, 10) {
		inStep(f)
		f.Moment()
		f.Load.Mark()
		n := leader(f)
		f.T.Logf("kill the leader, %d", n)
		stay := make(chan struct{})
		f.Rig.Servers()[n].Interrupt(func() { <-stay })
		f.Rig.Aggregators[f.Rnd.IntN(2)].Kill()
		f.Recovered() // by the two that are left
		worst = max(worst, gap(f, "leader killed"))

		if err := f.Rig.Servers()[(n+1+f.Rnd.IntN(2))%3].Halt(localstack.StopGrace, func() { <-stay }); err != nil {
			t.Log(err) // NATS; killed, it is as far away
		}
		f.Load.Mark()
		f.While(time.Duration(6+f.Rnd.IntN(fight.Rounds(2, 20))) * time.Second) // longer than a publish may take
		f.Rig.Until("a request that was begun since is answered", rig.SettleWait, func(context.Context) bool { return f.Load.Tally().Count("") > 0 })
		tally := f.Load.Tally()
		told = tally.String()
		f.T.Logf("two of three are gone: %s", told)
		if !tally.Only("503 log-unavailable", "503 log-unconfirmed", "503 keys-unavailable") {
			t.Errorf("without a majority, answered %s; want 503 only", told)
		}
		close(stay)
		f.Recovered()
	}
	f.Note = fmt.Sprintf(" gap=%s without-majority=%q", worst.Round(time.Millisecond), told)
	f.End()
}

// inStep waits until the fault before this one is over for the servers, too.
func inStep(f *fight.Fight) {
	for _, stream := range []string{usageStream, "CONTROL", "KV_LEASES"} {
		f.Rig.InStep(stream)
	}
}

// F16: the leader loses the other two, and they lose it, without a word; clients still reach all three. The
// worst of them to be the leader is the one that ingest is connected to.
func TestF16IsolateLeader(t *testing.T) {
	t.Parallel()
	f, net := cluster(t, "F16")
	worst := time.Duration(0)
	for i := range fight.Rounds(1, 10) {
		inStep(f)
		n := f.Rnd.IntN(3)
		if i%2 == 0 {
			f.Rig.Until("ingest is connected", rig.SettleWait, func(ctx context.Context) bool {
				n = f.Rig.ServerOf(ctx, "countinghouse-ingest")
				return n >= 0
			})
		}
		f.Rig.Lead(usageStream, n)
		f.Moment()
		f.T.Logf("isolate the leader, %d; ingest is connected to %d", n, f.Rig.ServerOf(t.Context(), "countinghouse-ingest"))
		alone := net.Host(n)
		for i, other := range net.Hosts() {
			if i != n {
				alone.Lose(other)
				other.Lose(alone)
			}
		}
		f.Load.Mark()
		f.Rig.Aggregators[f.Rnd.IntN(2)].Kill()
		f.Rig.Until("ingest takes events while the old leader is alone", rig.SettleWait, func(context.Context) bool { return f.Load.Tally().Count("202") > 0 })
		f.Recovered()
		worst = max(worst, gap(f, "leader isolated"))
		for i, other := range net.Hosts() {
			if i != n {
				alone.Find(other)
				other.Find(alone)
			}
		}
	}
	f.Note = fmt.Sprintf(" gap=%s", worst.Round(time.Millisecond))
	f.End()
}
