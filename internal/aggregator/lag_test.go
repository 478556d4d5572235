package aggregator

import "testing"

// TestLagCountsEvents: freshness_v1.lag_events once showed messages, which may hold 500 events each.
func TestLagCountsEvents(t *testing.T) {
	t.Parallel()
	chunkOf := func(seq uint64, events int) *chunk { return &chunk{seq: seq, events: make([]item, events)} }
	var l lag
	l.seq.Store(7) // progress at takeover
	for _, step := range []struct {
		story string
		do    func()
		last  uint64
		want  uint64
	}{
		{"nothing new", func() {}, 7, 0},
		{"two messages, nothing read yet", func() {}, 9, 2},
		{"one read: the other is taken for one like it", func() { l.read(chunkOf(8, 100)) }, 9, 200},
		{"both read", func() { l.read(chunkOf(9, 50)) }, 9, 150},
		{"the first committed", func() { l.committed(&batch{accepted: 100}) }, 9, 50},
		{"the second committed", func() { l.committed(&batch{accepted: 50}) }, 9, 0},
		{"a message without events still waits", func() {}, 10, 75},
		{"and is committed", func() { l.read(chunkOf(10, 0)); l.committed(&batch{}) }, 10, 0},
	} {
		step.do()
		if got := l.pending(step.last); got != step.want {
			t.Errorf("%s: %d pending, want %d", step.story, got, step.want)
		}
	}
}
