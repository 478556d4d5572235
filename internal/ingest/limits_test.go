package ingest

import (
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// A tenant far over its rate was given 1.3 % more than its quota in a minute on a loaded machine: requests side by
// side ask in another order than their clocks say, and the limiter granted the time between once more.
func TestRateHoldsWhateverTheOrder(t *testing.T) {
	const quota, burst = 1000, 2000
	tenant := &tenant{limiter: rate.NewLimiter(quota, burst)}
	begun := time.Unix(1_700_000_000, 0)
	taken := 0
	for ms := range 60_000 {
		for _, late := range []int{0, 40, 3} { // each of the three asks with the time it had when it began
			if _, ok := tenant.allow(begun.Add(time.Duration(ms-late)*time.Millisecond), 100); ok {
				taken += 100
			}
		}
	}
	if most := 60*quota + burst; taken > most || taken < most-200 {
		t.Errorf("%d events taken in a minute, want %d", taken, most)
	}
}
