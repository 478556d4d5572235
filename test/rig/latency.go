package rig

import (
	"slices"
	"sync"
	"time"
)

// latencies of requests that were acknowledged.
type latencies struct {
	mu   sync.Mutex
	took []time.Duration
}

// latenciesMax bounds what is remembered between two readings: an hour at a hundred a second.
const latenciesMax = 400_000

func (l *latencies) add(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) < latenciesMax {
		l.took = append(l.took, took)
	}
}

// Latencies are how long the requests over HTTP took that were acknowledged since it was asked last, sorted.
func (l *Load) Latencies() []time.Duration {
	l.took.mu.Lock()
	defer l.took.mu.Unlock()
	took := l.took.took
	l.took.took = nil
	slices.Sort(took)
	return took
}

// Percentile of sorted latencies; 0 if there are none.
func Percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}
