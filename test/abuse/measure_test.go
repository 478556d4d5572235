package abuse_test

import (
	"fmt"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	// slack is how much longer things may take than promised on a machine that also does other work.
	slack = 3
	// calm is a latency below which a ratio says nothing: one garbage collection, one fsync.
	calm = 20 * time.Millisecond
	// alive is what the median may be where there were too few requests for a percentile.
	alive = 2 * time.Second
)

// normal is how long the load's requests take while nothing is wrong.
func normal(f *fight.Fight, lasting time.Duration) []time.Duration {
	f.T.Helper()
	_ = f.Load.Latencies()
	f.While(lasting)
	return f.Load.Latencies()
}

// percentileOf is how many requests it takes for a ratio of percentiles to mean anything. There are fewer
// where the machine is busy with other things, and then those change the ratio.
const percentileOf = 100

// unaffected compares what the load saw since normal with it; the promise is in percent of it.
func unaffected(f *fight.Fight, before []time.Duration, promised int) {
	f.T.Helper()
	after := f.Load.Latencies()
	f.Note += fmt.Sprintf(" p99=%s normal=%s", rig.Percentile(after, 99).Round(time.Millisecond/10), rig.Percentile(before, 99).Round(time.Millisecond/10))
	was, is := rig.Percentile(before, 99), rig.Percentile(after, 99)
	limit := max(was, calm) * time.Duration(promised) * slack / 100
	if min(len(before), len(after)) < percentileOf {
		is, limit = rig.Percentile(after, 50), alive
	}
	if len(after) == 0 || is > limit {
		f.T.Errorf("%s seed=%d: others waited %s, of %d requests; before %s, of %d; at most %s", f.Name, f.Seed, is, len(after), was, len(before), limit)
	}
}

// cost of a part, which must live.
func cost(f *fight.Fight, p *rig.Part) rig.Cost {
	f.T.Helper()
	c, err := p.Cost()
	if err != nil {
		f.T.Fatalf("%s seed=%d: %s: %v", f.Name, f.Seed, p.Name, err)
	}
	return c
}

// grown is how much more memory a part ever had than at before, in MiB.
func grown(f *fight.Fight, p *rig.Part, before rig.Cost) int64 {
	f.T.Helper()
	return (cost(f, p).Peak - before.Peak) >> 20
}

// within fails unless something took no longer than promised.
func within(f *fight.Fight, what string, took, promised time.Duration) {
	f.T.Helper()
	if took > slack*promised {
		f.T.Errorf("%s seed=%d: %s took %s, promised within %s", f.Name, f.Seed, what, took, promised)
	}
}
