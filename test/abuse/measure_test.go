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
)

// normal is how long the load's requests take while nothing is wrong.
func normal(f *fight.Fight, lasting time.Duration) []time.Duration {
	f.T.Helper()
	_ = f.Load.Latencies()
	f.While(lasting)
	return f.Load.Latencies()
}

// percentileOf is how many requests it takes for a 99th percentile to be more than one request's bad
// luck; of fewer, which a busy machine makes, the median is compared.
const percentileOf = 300

// unaffected compares what the load saw since normal with it; the promise is in percent of it.
func unaffected(f *fight.Fight, before []time.Duration, promised int) {
	f.T.Helper()
	after := f.Load.Latencies()
	f.Note += fmt.Sprintf(" p99=%s normal=%s", rig.Percentile(after, 99).Round(time.Millisecond/10), rig.Percentile(before, 99).Round(time.Millisecond/10))
	percent := 99
	if min(len(before), len(after)) < percentileOf {
		percent = 50
	}
	was, is := rig.Percentile(before, percent), rig.Percentile(after, percent)
	if len(after) == 0 || is > max(was, calm)*time.Duration(promised)*slack/100 {
		f.T.Errorf("%s seed=%d: others' p%d is %s of %d requests, before %s of %d; promised within %d %% of that",
			f.Name, f.Seed, percent, is, len(after), was, len(before), promised)
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
