package logfaults_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	publishTimeout = 5 * time.Second // ingest's default: who waits that long is answered 503
	healedPromised = 5 * time.Second
)

// F15: ingest and NATS lose each other, in both directions or in one, without a word to either; or NATS is
// off the network altogether. Clients still reach ingest, and are told.
func TestF15Partition(t *testing.T) {
	t.Parallel()
	net := rig.NewNetwork(t, 2)
	log, ingest := net.Host(0), net.Host(1)
	f := fight.Begin(t, "F15", rig.Options{NATSHosts: net.Hosts()[:1], IngestIn: ingest})
	faults := []struct {
		name       string
		part, heal func()
	}{
		{"neither hears the other", func() { ingest.Lose(log); log.Lose(ingest) }, func() { ingest.Find(log); log.Find(ingest) }},
		{"nats does not hear ingest", func() { ingest.Lose(log) }, func() { ingest.Find(log) }},
		{"ingest does not hear nats", func() { log.Lose(ingest) }, func() { log.Find(ingest) }},
		{"nats is unplugged", log.Unplug, log.Plug},
	}
	f.Rnd.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	var slowest, worst time.Duration
	for _, fault := range faults[:fight.Rounds(2, 4)] {
		f.Moment()
		fault.part()
		f.Load.Mark()
		f.While(time.Duration(fight.Rounds(6, 30)) * time.Second)
		f.Rig.Until("a request that was begun since is answered", rig.SettleWait, func(context.Context) bool { return f.Load.Tally().Count("") > 0 })
		told := f.Load.Tally()
		f.T.Logf("%s: %s", fault.name, told)
		if !told.Only("503 log-unavailable", "503 log-unconfirmed") {
			t.Errorf("%s: answered %s; want 503 only", fault.name, told)
		}
		for _, took := range told.Slowest {
			slowest = max(slowest, took)
		}
		fault.heal()
		f.Load.Mark()
		healed := f.Rig.Until("ingest takes events again", rig.SettleWait, func(context.Context) bool { return f.Load.Tally().Count("202") > 0 })
		f.Recovered()
		f.T.Logf("%s: healed after %s: %s", fault.name, healed, f.Load.Tally())
		worst = max(worst, healed)
	}
	f.Within("an answer, after the time it may take,", slowest-publishTimeout, time.Second)
	f.Within("taking events once the network was whole again", worst, healedPromised)
	f.Note = fmt.Sprintf(" answered=%s healed=%s", slowest.Round(time.Millisecond), worst.Round(time.Millisecond))
	f.End()
}
