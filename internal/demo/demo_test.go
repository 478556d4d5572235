package demo_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/demo"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// collect parses every event of the demo as ingest would.
func collect(t *testing.T, began, now time.Time) map[string]uint64 {
	t.Helper()
	got := map[string]uint64{}
	parser := usage.NewParser(usage.DefaultLimits())
	err := demo.Events(began, now, func(batch []byte, n int) error {
		seen := 0
		err := parser.Batch(batch, func(_ int, raw []byte, e usage.Event, faults []usage.Fault) error {
			if len(faults) > 0 {
				t.Fatalf("%s: %v", raw, faults)
			}
			if e.Time.Time().After(now) || e.Time.Time().Before(began.Truncate(24*time.Hour)) {
				t.Fatalf("%s is outside of %s to %s", raw, began, now)
			}
			key := e.Source + " " + e.ID
			if _, twice := got[key]; twice && e.ID != "twice" { // that one contradicts itself
				t.Fatalf("id %s twice", e.ID)
			}
			got[key] ^= usage.ContentHash(&e)
			seen++
			return nil
		})
		if seen != n || !json.Valid(batch) {
			t.Fatalf("%d events in a batch of %d", seen, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestAgain: a demo sent again later repeats every event with the same content and adds the new days.
func TestAgain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 5, 13, 0, 0, 0, time.UTC)
	began := demo.Began(now)
	if want := time.Date(2025, 9, 1, 0, 0, 0, 0, time.UTC); !began.Equal(want) {
		t.Fatalf("began %s, want %s", began, want)
	}
	first := collect(t, began, now)
	if len(first) < 20_000 || len(first) > 60_000 {
		t.Errorf("%d events, want some tens of thousands", len(first))
	}
	t.Logf("%d events", len(first))
	for _, wait := range []time.Duration{time.Hour, 49 * time.Hour, 40 * 24 * time.Hour} {
		later := collect(t, began, now.Add(wait))
		if len(later) <= len(first) {
			t.Errorf("%d events %s later, %d before", len(later), wait, len(first))
		}
		for id, hash := range first {
			if later[id] != hash {
				t.Errorf("event %s changed %s later", id, wait)
			}
		}
	}
}
