package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/countinghouse/countinghouse/internal/stack"
)

// TestUp is the life of a stack: its parts are killed one after the other and come back on the same
// ports, everything sent in between is counted once, and the directory goes on where it was.
func TestUp(t *testing.T) {
	t.Parallel()
	dir := dirIn(t)
	r := up(t, dir)
	first := r.endpoints(t)
	for _, want := range []string{"nats", "clickhouse", "ingest", "aggregator", "reporter"} {
		if first.PIDs[want] == 0 {
			t.Errorf("no pid of %s in %v", want, first.PIDs)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "endpoints.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("endpoints.json: %v, %v; it holds a key and must be its owner's", info, err)
	}
	sent := 0
	send := func() {
		sent++
		r.tool(t, 0, "events", "send", "--meter", "tokens", "--account", "acme", "--quantity", "2.5", "--id", "up-"+strconv.Itoa(sent))
	}
	send()
	for _, part := range []string{"aggregator", "clickhouse", "nats", "reporter", "ingest"} {
		before := r.endpoints(t)
		if err := syscall.Kill(before.PIDs[part], syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s: %v", part, err)
		}
		await(t, patience, "another pid of "+part, func() bool { return r.endpoints(t).PIDs[part] != before.PIDs[part] })
		after := r.endpoints(t)
		after.PIDs, before.PIDs = nil, nil
		if fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("after %s was killed: %v, before %v", part, after, before)
		}
		if part == "ingest" { // a first connection that is refused is "unreachable" to the tool
			await(t, patience, "ingest ready", func() bool { return ready(t, after.Admin["ingest"]) })
		}
		send()
	}
	want := fmt.Sprintf("1 %d 0 0", sent)
	r.awaitSQL(t, ledger, want)

	_, errs, code := tool(t, "up", "--ephemeral", "--dir", dir)
	if code != 69 || !strings.Contains(errs, "pid "+strconv.Itoa(r.cmd.Process.Pid)) || strings.Count(errs, "\n") != 1 {
		t.Errorf("second up: exit code %d, %q; want 69 and the pid %d", code, errs, r.cmd.Process.Pid)
	}

	pids := r.endpoints(t).PIDs
	r.stop(t)
	if _, err := stack.LoadEndpoints(dir); err == nil {
		t.Error("endpoints.json is still there")
	}
	for part, pid := range pids {
		if lives(pid) {
			t.Errorf("%s (%d) outlived up", part, pid)
		}
	}

	again := up(t, dir)
	if got := again.endpoints(t); got.AdminToken != first.AdminToken || got.Analyst != first.Analyst {
		t.Error("keys changed across a restart")
	}
	again.awaitSQL(t, ledger, want)
	again.awaitSQL(t, "SELECT sum(quantity * sign) FROM usage_api.events_v1", fmt.Sprint(2.5*float64(sent)))
}

func ready(t *testing.T, admin string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// TestOrphans: up gone by SIGKILL takes its parts along, and the directory can be brought up again.
func TestOrphans(t *testing.T) {
	t.Parallel()
	dir := dirIn(t)
	r := up(t, dir)
	pids := r.endpoints(t).PIDs
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-r.ended
	await(t, patience, "every part gone", func() bool {
		for _, pid := range pids {
			if lives(pid) {
				return false
			}
		}
		return true
	})
	if err := os.Remove(filepath.Join(dir, "endpoints.json")); err != nil { // left behind: up waits below for the new one
		t.Fatal(err)
	}
	up(t, dir)
}

// lives reports whether a process runs. One that has ended and that nobody has waited for is a number only: whose parent
// was killed it stays one where the first process of a container does not ask.
func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ") // after the name
	return !strings.HasPrefix(state, "Z")
}

// TestPortInUse: the message names the port and the flag that moves it.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	r := up(t, dirIn(t))
	_, port, _ := strings.Cut(strings.TrimPrefix(r.endpoints(t).Ingest, "http://"), ":")
	_, errs, code := tool(t, "up", "--dir", dirIn(t), "--reporter-port", port)
	if code != 69 || !strings.Contains(errs, "port "+port+" is in use; pass --reporter-port") {
		t.Errorf("exit code %d, %q", code, errs)
	}
	_, errs, code = tool(t, "up", "--dir", dirIn(t), "--reporter-port", "9999", "--ingest-port", "9999")
	if code != 69 || !strings.Contains(errs, "--ingest-port and --reporter-port are both 9999") {
		t.Errorf("exit code %d, %q", code, errs)
	}
}

// TestDemo: the sample data is counted, and a second start does not double it.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := dirIn(t)
	r := up(t, dir, "--demo")
	// The late event that restates a closed month is sent last.
	await(t, patience, "the months of the sample data are closed, and one is restated", func() bool {
		got, err := r.sql(t, "SELECT count() > 0 FROM usage_api.month_adjustments_v1")
		return err == nil && strings.TrimSpace(got) == "1"
	})
	got, err := r.sql(t, "SELECT sum(stored), sum(duplicate) FROM usage_api.ledger_v1")
	var stored, duplicate int
	if _, scanned := fmt.Sscan(got, &stored, &duplicate); err != nil || scanned != nil || stored < 10_000 {
		t.Fatalf("sample data: %q, %v, %v", got, err, scanned)
	}
	r.stop(t)
	again := up(t, dir, "--demo")
	// An hour may have passed in between: what is stored may grow, what was stored is a duplicate.
	again.awaitSQL(t, fmt.Sprintf("SELECT sum(duplicate) >= %d FROM usage_api.ledger_v1", duplicate+stored), "1")
	again.awaitSQL(t, "SELECT sum(accepted) = sum(stored) + sum(duplicate) + sum(conflict) + sum(quarantined) FROM usage_api.ledger_v1", "1")
}
