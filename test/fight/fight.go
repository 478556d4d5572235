// Package fight is a system under load and someone who breaks it: what the tests of the fault table
// (docs/explanation/what-we-survived.md) have in common. A test begins a fight, does its fault, and ends the fight,
// which asks the oracle and prints one line: `F02 PASS seed=… lost=0 doubled=0`.
//
// A failure prints its seed; `go test ./test/… -run … -seed N` makes the same decisions again (the kernel's
// scheduler is not seeded, so try it a few times).
package fight

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/test/oracle"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	seedFlag        = "seed"
	programVariable = "COUNTINGHOUSE_FIGHT_PROGRAM" // of this process only: where Main built it
)

// Main is the TestMain of a package of fights: the product is built once, with its crash points, and
// children that the rig starts from the test's own binary do their work.
func Main(m *testing.M) {
	if code, ran := localstack.RunChild(); ran {
		os.Exit(code)
	}
	flag.Uint64(seedFlag, 0, "replays the decisions of a run; 0 draws a seed")
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "countinghouse-fight-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program, err := rig.Build(context.Background(), dir)
	if err == nil {
		err = os.Setenv(programVariable, program)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Program is the product with its crash points.
func Program() string { return os.Getenv(programVariable) }

// Seed is what a run's decisions follow from.
func Seed() uint64 {
	if f := flag.Lookup(seedFlag); f != nil {
		if n, err := strconv.ParseUint(f.Value.String(), 10, 64); err == nil && n > 0 {
			return n
		}
	}
	return rand.Uint64() >> 1
}

// Fight is a system under load, and someone who breaks it.
type Fight struct {
	T    *testing.T
	Name string // of the fault: F02
	Seed uint64
	Rnd  *rand.Rand
	Rig  *rig.Rig
	Load *rig.Load
	Note string        // more for the line of the test, with a space before it
	Cap  time.Duration // the recovery that is promised; 0: it is printed only

	Worst time.Duration // longest time from a fault to new events being counted
}

// Begin starts a system and its load.
func Begin(t *testing.T, name string, opts rig.Options) *Fight {
	t.Helper()
	if opts.Program == "" {
		opts.Program = Program()
	}
	return On(t, name, func() *rig.Rig { return rig.Start(t, opts) })
}

// On is Begin on a system that is started in another way.
func On(t *testing.T, name string, start func() *rig.Rig) *Fight {
	t.Helper()
	f := &Fight{T: t, Name: name, Seed: Seed()}
	t.Cleanup(func() {
		if t.Failed() {
			fmt.Printf("%s FAIL seed=%d\n", name, f.Seed)
		}
	})
	f.Rnd = rand.New(rand.NewPCG(f.Seed, 0))
	begun := time.Now()
	f.Rig = start()
	t.Logf("%s seed=%d: started after %s", name, f.Seed, time.Since(begun))
	f.Load = f.Rig.StartLoad(f.Seed)
	f.Counting(0)
	f.Worst = 0 // that was no recovery
	t.Logf("counting after %s", time.Since(begun))
	return f
}

// Counting waits until the warehouse has counted past a sequence, and answers how far it is.
func (f *Fight) Counting(past uint64) uint64 {
	f.T.Helper()
	var counted uint64
	took := f.Rig.Until(fmt.Sprintf("the warehouse counts past seq %d", past), rig.SettleWait, func(ctx context.Context) bool {
		n, err := f.Rig.Counted(ctx)
		counted = n
		return err == nil && n > past
	})
	f.Worst = max(f.Worst, took)
	return counted
}

// Limit bounds the recovery and has it printed.
func (f *Fight) Limit(promised time.Duration) {
	f.Cap = loaded(promised)
	f.Note += fmt.Sprintf(" limit=%s", promised)
}

// Moment waits for a random instant under load: that is the fault's time, not a wait for anything.
func (f *Fight) Moment() {
	f.T.Helper()
	select {
	case <-time.After(time.Duration(f.Rnd.Int64N(int64(600 * time.Millisecond)))):
	case <-f.T.Context().Done():
	}
}

// slowRecovery is worth the logs of the parts.
const slowRecovery = 5 * time.Second

// Recovered waits until events that were acknowledged after now are counted: everything lives again.
func (f *Fight) Recovered() {
	f.T.Helper()
	begun := time.Now()
	acked := f.Load.Requests()
	f.Rig.Until("ingest acknowledges again", rig.SettleWait, func(context.Context) bool { return f.Load.Requests() > acked })
	var logged uint64
	f.Rig.Until("the log answers", rig.SettleWait, func(ctx context.Context) bool {
		var err error
		logged, err = f.Rig.Logged(ctx)
		return err == nil
	})
	f.Counting(logged)
	took := time.Since(begun)
	f.Worst = max(f.Worst, took)
	f.T.Logf("recovered after %s", took)
	if took > slowRecovery {
		f.T.Logf("slow: %s", f.Rig.Logs())
	}
}

// End stops the load, waits for the warehouse, and asks the oracle.
func (f *Fight) End() oracle.Result {
	f.T.Helper()
	result := f.Check()
	kills := f.Kills()
	if f.Cap > 0 && f.Worst > f.Cap {
		f.T.Errorf("%s seed=%d: recovered after %s, promised within %s", f.Name, f.Seed, f.Worst, f.Cap)
	}
	if f.T.Failed() {
		return result // its own line says so
	}
	fmt.Printf("%s PASS seed=%d kills=%d acked=%d stored=%d dup=%d conflict=%d voided=%d retried=%d crashed=%d lost=%d doubled=%d%s recover=%s\n", f.Name, f.Seed,
		kills, result.Acked, result.Stored, result.Duplicate, result.Conflict, result.Voided, f.Load.Retries(), f.Crashes(), result.Lost, result.Doubled, f.Note, f.Worst.Round(time.Millisecond))
	return result
}

// Settled stops the load, waits for the warehouse, and answers what the oracle found.
func (f *Fight) Settled() oracle.Result {
	f.T.Helper()
	if err := f.Load.Stop(); err != nil {
		f.T.Fatalf("%s seed=%d: %v", f.Name, f.Seed, err)
	}
	f.T.Logf("settled after %s", f.Rig.Settle())
	result, err := f.Load.Oracle().Check(f.T.Context(), f.Rig.Warehouse(), rig.Database)
	if err != nil {
		f.T.Fatalf("%s seed=%d: check: %v", f.Name, f.Seed, err)
	}
	return result
}

// Parts are all processes of the system.
func (f *Fight) Parts() []*rig.Part {
	parts := slices.Concat(f.Rig.Servers(), f.Rig.ClickHouses, []*rig.Part{f.Rig.Ingest}, f.Rig.Aggregators)
	return slices.DeleteFunc(parts, func(p *rig.Part) bool { return p == nil })
}

// Kills are ends that the fight caused.
func (f *Fight) Kills() (n int) {
	for _, p := range f.Parts() {
		n += p.Kills()
	}
	return n
}

// Crashes are ends that nobody caused.
func (f *Fight) Crashes() (n int) {
	for _, p := range f.Parts() {
		n += p.Crashes()
	}
	return n
}

// Rounds picks between the short and the full form.
func Rounds(short, full int) int {
	if Soak {
		return full
	}
	return short
}

// KillAtRandom kills one part n times at random moments; every third time it is killed again before it
// has recovered.
func (f *Fight) KillAtRandom(n int, pick func() *rig.Part) {
	f.T.Helper()
	for i := range n {
		f.Moment()
		part := pick()
		back := part.Back()
		part.Kill()
		f.Await(part, back)
		if i%3 != 2 {
			f.Recovered()
		}
	}
}

// Await waits until a part that was killed runs again.
func (f *Fight) Await(part *rig.Part, back <-chan struct{}) {
	f.T.Helper()
	select {
	case <-back:
	case <-time.After(rig.SettleWait):
		f.T.Fatalf("%s does not come back\n%s", part.Name, f.Rig.Logs())
	}
}

// Check asks the oracle in between. The load has ended after it: start another.
func (f *Fight) Check() oracle.Result {
	f.T.Helper()
	result := f.Settled()
	if err := result.Err(); err != nil {
		f.T.Fatalf("%s seed=%d: %v\n%s", f.Name, f.Seed, err, f.Rig.Logs())
	}
	f.T.Logf("holds: kills=%d crashed=%d acked=%d stored=%d recover=%s", f.Kills(), f.Crashes(), result.Acked, result.Stored, f.Worst.Round(time.Millisecond))
	return result
}

// gentle is the pause of a producer between two requests where rows are what a test costs: about 1,000 events a second.
const gentle = 100 * time.Millisecond

// Gently slows the load down in the short form, for tests that go through all rows there are again and again: what they
// prove does not depend on how many there are.
func (f *Fight) Gently() {
	if !Soak {
		f.Load.Think(gentle)
		f.Load.Tire()
	}
}

// While lets a fault last: it is the fault's own length, not a wait for anything.
func (f *Fight) While(d time.Duration) {
	ctx, cancel := context.WithTimeout(f.T.Context(), d)
	defer cancel()
	<-ctx.Done()
}
