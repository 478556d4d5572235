package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReferenceIsFresh compares the pages in the tree with what the code says now.
func TestReferenceIsFresh(t *testing.T) {
	t.Parallel()
	if err := run(filepath.Join("..", "..", "docs", "reference"), false, &bytes.Buffer{}); err != nil {
		t.Error(err)
	}
}

// TestStaleIsNoticed: a changed, a missing and a left-over page are each found, and mended by -write.
func TestStaleIsNoticed(t *testing.T) {
	t.Parallel()
	tests := map[string]func(dir string) error{
		"changed":   func(dir string) error { return os.WriteFile(filepath.Join(dir, "metrics.md"), []byte("old"), 0o600) },
		"missing":   func(dir string) error { return os.Remove(filepath.Join(dir, "metrics.md")) },
		"left over": func(dir string) error { return os.WriteFile(filepath.Join(dir, "gone.md"), nil, 0o600) },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := run(dir, true, &bytes.Buffer{}); err != nil {
				t.Fatal(err)
			}
			if err := run(dir, false, &bytes.Buffer{}); err != nil {
				t.Fatalf("fresh pages: %v", err)
			}
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			if err := run(dir, false, &bytes.Buffer{}); err == nil {
				t.Error("not noticed")
			}
			if err := run(dir, true, &bytes.Buffer{}); err != nil {
				t.Fatal(err)
			}
			if err := run(dir, false, &bytes.Buffer{}); err != nil {
				t.Errorf("not mended: %v", err)
			}
		})
	}
}

// TestPagesSaySomething: each page holds a row it must have, so that a generator that finds nothing
// does not pass for one with nothing to say.
func TestPagesSaySomething(t *testing.T) {
	t.Parallel()
	must := map[string][]string{
		"events.md":        {"## `usage.metered`", "| `quantity` | decimal | required |", "| `asset.id` | string | required |", "| `lines[].response` | code | required |"},
		"event-codes.md":   {"`time-window`", "`conflict`", "`rule:cycle` | account.created, account.reparented"},
		"request-codes.md": {"`storage-full` | 503", "`not-settled` | 409"},
		"reports.md":       {"## `elastic-usage`", "| `USED` | decimal |", "| `account` | required |", "TIMESTAMP(ms, UTC)"},
		"configuration.md": {"`nats.url` | `--nats` | `COUNTINGHOUSE_INGEST__NATS__URL`", "## aggregator", "## reporter"},
		"metrics.md":       {"`countinghouse_aggregator_lag_events` | gauge | shard", "`countinghouse_ingest_ack_seconds` | histogram"},
		"tables.md":        {"### table `events`", "| `content_hash` | `UInt64` |", "### view `ledger_v1`", "`accepted`, `stored`, `duplicate`", "PARTITION BY toYYYYMM(at)"},
	}
	for _, p := range pages() {
		text := &strings.Builder{}
		if err := p.body(text); err != nil {
			t.Fatal(err)
		}
		if len(must[p.name]) == 0 {
			t.Errorf("%s: say here what it must hold", p.name)
		}
		for _, want := range must[p.name] {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s lacks %q", p.name, want)
			}
		}
	}
}
