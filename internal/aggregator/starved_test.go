package aggregator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/aggregator"
)

// TestStarvedBatchDoesNotWait: when all the bytes in flight are taken, the batch being gathered cannot grow,
// and waiting for company is waiting for nothing. A backlog of large messages was drained in jerks, with a
// pause of FlushWait after each.
func TestStarvedBatchDoesNotWait(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	doc := func(i int) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"usage.metered","subject":"a","data":{"meter":"tokens","quantity":1,"dimensions":{"pad":%q}}}`,
			i, strings.Repeat("x", 200))
	}
	var seq uint64
	for i := range 240 {
		var docs []string
		for n := range 100 {
			docs = append(docs, doc(100*i+n))
		}
		at := r.publish("acme", "["+strings.Join(docs, ",")+"]")
		if i == 200 {
			seq = at // what fits into the bytes in flight after it may wait
		}
	}
	defer r.start(func(c *aggregator.Config) {
		c.FlushWait = time.Minute // for each of seven batches: longer than await waits
		c.InFlightBytes = 1 << 20
	})()
	r.await(seq)
}
