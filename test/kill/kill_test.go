// Package kill kills the system's parts under load and asks an oracle what is left.
//
// A test is a fault of the project's fault table, by number. Each has a short form for `make test` and a
// full one for `make soak` (build tag soak). A failure prints its seed; `go test ./test/kill -run … -seed N`
// makes the same decisions again (the kernel's scheduler is not seeded, so try it a few times).
package kill_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/test/oracle"
	"github.com/countinghouse/countinghouse/test/rig"
)

var seedFlag = flag.Uint64("seed", 0, "replays the decisions of a run; 0 draws a seed")

func TestMain(m *testing.M) {
	if code, ran := localstack.RunChild(); ran {
		os.Exit(code)
	}
	dir, err := os.MkdirTemp("", "countinghouse-kill-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = sync.OnceValues(func() (string, error) { return rig.Build(context.Background(), dir) })
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// program is the product with crash points, built once.
var program func() (string, error)

// fight is a system under load, and someone who kills.
type fight struct {
	t     *testing.T
	name  string
	seed  uint64
	rnd   *rand.Rand
	rig   *rig.Rig
	load  *rig.Load
	note  string        // more for the line of the test
	worst time.Duration // longest time from a kill to new events being counted
}

// begin starts a system and its load.
func begin(t *testing.T, name string, opts rig.Options) *fight {
	t.Helper()
	f := &fight{t: t, name: name, seed: *seedFlag}
	if f.seed == 0 {
		f.seed = rand.Uint64() >> 1
	}
	t.Cleanup(func() {
		if t.Failed() {
			fmt.Printf("%s FAIL seed=%d\n", name, f.seed)
		}
	})
	f.rnd = rand.New(rand.NewPCG(f.seed, 0))
	if opts.Program == "" {
		var err error
		if opts.Program, err = program(); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	f.rig = rig.Start(t, opts)
	t.Logf("%s seed=%d: started after %s", name, f.seed, time.Since(begun))
	f.load = f.rig.StartLoad(f.seed)
	f.counting(0)
	t.Logf("counting after %s", time.Since(begun))
	return f
}

// counting waits until the warehouse has counted past a sequence, and answers how far it is.
func (f *fight) counting(past uint64) uint64 {
	f.t.Helper()
	var counted uint64
	took := f.rig.Until(fmt.Sprintf("the warehouse counts past seq %d", past), rig.SettleWait, func(ctx context.Context) bool {
		n, err := f.rig.Counted(ctx)
		counted = n
		return err == nil && n > past
	})
	f.worst = max(f.worst, took)
	return counted
}

// moment waits for a random instant under load: that is the fault's time, not a wait for anything.
func (f *fight) moment() {
	f.t.Helper()
	select {
	case <-time.After(time.Duration(f.rnd.Int64N(int64(600 * time.Millisecond)))):
	case <-f.t.Context().Done():
	}
}

// slowRecovery is worth the logs of the parts.
const slowRecovery = 5 * time.Second

// recovered waits until events that were acknowledged after now are counted: everything lives again.
func (f *fight) recovered() {
	f.t.Helper()
	begun := time.Now()
	acked := f.load.Requests()
	f.rig.Until("ingest acknowledges again", rig.SettleWait, func(context.Context) bool { return f.load.Requests() > acked })
	var logged uint64
	f.rig.Until("the log answers", rig.SettleWait, func(ctx context.Context) bool {
		var err error
		logged, err = f.rig.Logged(ctx)
		return err == nil
	})
	f.counting(logged)
	took := time.Since(begun)
	f.worst = max(f.worst, took)
	f.t.Logf("recovered after %s", took)
	if took > slowRecovery {
		f.t.Logf("slow: %s", f.rig.Logs())
	}
}

// end stops the load, waits for the warehouse, and asks the oracle.
func (f *fight) end() oracle.Result {
	f.t.Helper()
	result := f.settled()
	if err := result.Err(); err != nil {
		f.t.Fatalf("%s seed=%d: %v\n%s", f.name, f.seed, err, f.rig.Logs())
	}
	kills := f.kills()
	fmt.Printf("%s PASS seed=%d kills=%d acked=%d stored=%d dup=%d conflict=%d voided=%d retried=%d crashed=%d lost=%d doubled=%d%s recover=%s\n", f.name, f.seed,
		kills, result.Acked, result.Stored, result.Duplicate, result.Conflict, result.Voided, f.load.Retries(), f.crashes(), result.Lost, result.Doubled, f.note, f.worst.Round(time.Millisecond))
	return result
}

func (f *fight) settled() oracle.Result {
	f.t.Helper()
	if err := f.load.Stop(); err != nil {
		f.t.Fatalf("%s seed=%d: %v", f.name, f.seed, err)
	}
	f.t.Logf("settled after %s", f.rig.Settle())
	result, err := f.load.Oracle().Check(f.t.Context(), f.rig.Warehouse(), rig.Database)
	if err != nil {
		f.t.Fatalf("%s seed=%d: check: %v", f.name, f.seed, err)
	}
	return result
}

func (f *fight) parts() []*rig.Part {
	return append([]*rig.Part{f.rig.NATS, f.rig.ClickHouse, f.rig.Ingest}, f.rig.Aggregators...)
}

func (f *fight) kills() (n int) {
	for _, p := range f.parts() {
		n += p.Kills()
	}
	return n
}

// crashes are ends that nobody caused.
func (f *fight) crashes() (n int) {
	for _, p := range f.parts() {
		n += p.Crashes()
	}
	return n
}

// rounds picks between the short and the full form.
func rounds(short, full int) int {
	if soak {
		return full
	}
	return short
}

// killAtRandom kills one part n times at random moments; every third time it is killed again before it
// has recovered.
func (f *fight) killAtRandom(n int, pick func() *rig.Part) {
	f.t.Helper()
	for i := range n {
		f.moment()
		part := pick()
		back := part.Back()
		part.Kill()
		f.await(part, back)
		if i%3 != 2 {
			f.recovered()
		}
	}
}

// await waits until a part that was killed runs again.
func (f *fight) await(part *rig.Part, back <-chan struct{}) {
	f.t.Helper()
	select {
	case <-back:
	case <-time.After(rig.SettleWait):
		f.t.Fatalf("%s does not come back\n%s", part.Name, f.rig.Logs())
	}
}
