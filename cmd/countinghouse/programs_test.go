package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPrograms: the services are those of a directory that is named, which count an event and stop as the ones inside do.
// They are built in as well, so that each program here is a line which says that it ran.
func TestPrograms(t *testing.T) {
	t.Parallel()
	programs := t.TempDir()
	ran := filepath.Join(programs, "ran")
	names := []string{"aggregator", "ingest", "reporter"}
	for _, name := range names {
		text := "#!/bin/sh\necho " + name + " >> '" + ran + "'\nexec countinghouse __" + name + ` "$@"` + "\n"
		if err := os.WriteFile(filepath.Join(programs, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := up(t, dirIn(t), "--programs", programs)
	r.tool(t, 0, "events", "send", "--meter", "tokens", "--account", "acme", "--id", "1", "--quantity", "1")
	r.awaitSQL(t, ledger, "1 1 0 0")
	r.stop(t)
	text, err := os.ReadFile(ran)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(text))
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, names) {
		t.Errorf("programs that ran: %q, want %q", got, names)
	}
}
