package fight

import (
	"fmt"
	"time"

	"github.com/countinghouse/countinghouse/test/rig"
)

// Times are promised of a machine that does nothing else. The full form has one and allows three times as long. In
// the short form several packages are tested on the same processors, and a virtual machine may get none for a while:
// there a promise is broken only by what cannot be their doing, so short times are allowed a minute, and times that are
// short by nature are judged by whether others are served at all.
const (
	loadedShort = 6
	loadedLeast = time.Minute
	loadedFull  = 3
	// percentileOf is how many requests a 99th percentile needs: with fewer it is the second or third slowest, one
	// pause of the machine. A run of the short form once had 139 ms of 216 requests, against 28 of 275.
	percentileOf = 500
	// calm is a latency below which a ratio says nothing: one garbage collection, one fsync.
	calm = 20 * time.Millisecond
	// alive is what the median may be in the short form: less than ingest lets a request wait for the log.
	alive = 4 * time.Second
)

// loaded is how long something may take that is promised within a time.
func loaded(promised time.Duration) time.Duration {
	if Soak {
		return promised * loadedFull
	}
	return max(promised*loadedShort, loadedLeast)
}

// Within fails unless something took no longer than promised.
func (f *Fight) Within(what string, took, promised time.Duration) {
	f.T.Helper()
	if took > loaded(promised) {
		f.T.Errorf("%s seed=%d: %s took %s, promised within %s", f.Name, f.Seed, what, took, promised)
	}
}

// Normal is how long the load's requests take while nothing is wrong: sorted, and in the full form enough of them.
func (f *Fight) Normal() []time.Duration {
	f.T.Helper()
	_ = f.Load.Latencies()
	f.While(time.Duration(Rounds(1, 15)) * time.Second)
	return f.Load.Latencies()
}

// Unaffected compares requests during a fault with normal ones, both sorted; their 99th percentile may be so many
// percent of the normal one. In the short form they are served, half of them before ingest would give up.
func (f *Fight) Unaffected(normal, during []time.Duration, percent int) {
	f.T.Helper()
	was, is := rig.Percentile(normal, 99), rig.Percentile(during, 99)
	f.Note += fmt.Sprintf(" p99=%s normal=%s", is.Round(time.Millisecond/10), was.Round(time.Millisecond/10))
	limit := loaded(max(was, calm)) * time.Duration(percent) / 100
	switch {
	case !Soak:
		is, limit = rig.Percentile(during, 50), alive
	case min(len(normal), len(during)) < percentileOf:
		f.T.Errorf("%s seed=%d: %d and %d requests say nothing of a percentile", f.Name, f.Seed, len(normal), len(during))
	}
	if len(during) == 0 || is > limit {
		f.T.Errorf("%s seed=%d: others waited %s, of %d requests; before %s, of %d; at most %s", f.Name, f.Seed, is, len(during), was, len(normal), limit)
	}
}
