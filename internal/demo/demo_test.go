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
			if _, twice := got[e.ID]; twice {
				t.Fatalf("id %s twice", e.ID)
			}
			got[e.ID] = usage.ContentHash(&e)
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

// TestAgain: a demo sent again later repeats every event with the same content and adds the new hours.
func TestAgain(t *testing.T) {
	began := time.Date(2026, 3, 5, 13, 0, 0, 0, time.UTC)
	now := began.AddDate(0, 0, demo.Days)
	first := collect(t, began, now)
	if len(first) < 3000 || len(first) > 20_000 {
		t.Errorf("%d events, want some thousand", len(first))
	}
	later := collect(t, began, now.Add(49*time.Hour))
	if len(later) <= len(first) {
		t.Errorf("%d events two days later, %d before", len(later), len(first))
	}
	for id, hash := range first {
		if later[id] != hash {
			t.Errorf("event %s changed", id)
		}
	}
}
