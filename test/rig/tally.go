package rig

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Tally is what HTTP producers were answered, of the requests they began after a moment.
type Tally struct {
	Answers map[string]int // by status and problem code, "202", "503 storage-full"; "none" for no answer
	Slowest map[string]time.Duration
}

// Only reports whether every answer is one of some.
func (t Tally) Only(answers ...string) bool {
	for a := range t.Answers {
		if !slices.Contains(answers, a) {
			return false
		}
	}
	return true
}

// Count is how many answers begin with a status.
func (t Tally) Count(status string) (n int) {
	for a, times := range t.Answers {
		if strings.HasPrefix(a, status) {
			n += times
		}
	}
	return n
}

func (t Tally) String() string {
	var b strings.Builder
	for _, a := range slices.Sorted(maps.Keys(t.Answers)) {
		fmt.Fprintf(&b, "%d × %s (slowest %s), ", t.Answers[a], a, t.Slowest[a].Round(time.Millisecond))
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// tally is the running one of a load.
type tally struct {
	mu    sync.Mutex
	since time.Time
	last  time.Time // of a 202
	gap   time.Duration
	now   Tally
}

// Mark begins a new tally, and a new measurement of the longest time without a 202.
func (l *Load) Mark() {
	t := &l.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since, t.last, t.gap = time.Now(), time.Now(), 0
	t.now = Tally{Answers: map[string]int{}, Slowest: map[string]time.Duration{}}
}

// Tally is what was answered since Mark.
func (l *Load) Tally() Tally {
	t := &l.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	return Tally{Answers: maps.Clone(t.now.Answers), Slowest: maps.Clone(t.now.Slowest)}
}

// Gap is the longest time since Mark in which nobody was answered 202.
func (l *Load) Gap() time.Duration {
	t := &l.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(t.gap, time.Since(t.last))
}

func (t *tally) answered(begun time.Time, status int, body []byte) {
	name := "none"
	if status != 0 {
		var problem struct {
			Code string `json:"code"`
		}
		_ = json.Unmarshal(body, &problem) // no problem has no code
		name = strings.TrimSpace(fmt.Sprint(status, " ", problem.Code))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if status == 202 {
		t.gap, t.last = max(t.gap, time.Since(t.last)), time.Now()
	}
	if t.now.Answers == nil || begun.Before(t.since) {
		return
	}
	t.now.Answers[name]++
	t.now.Slowest[name] = max(t.now.Slowest[name], time.Since(begun))
}
