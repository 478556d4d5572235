package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/stack"
)

// running is a `countinghouse up` of a test.
type running struct {
	dir   string
	cmd   *exec.Cmd
	out   bytes.Buffer
	ended chan struct{}
	code  int
}

func up(t *testing.T, dir string, args ...string) *running {
	t.Helper()
	r := &running{dir: dir, ended: make(chan struct{})}
	// Not CommandContext: the test's context ends before its cleanup, and would kill instead of stop.
	r.cmd = exec.Command("countinghouse", append([]string{"up", "--ephemeral", "--dir", dir}, args...)...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	runtime.LockOSThread() // until the test has ended: a run that is broken off takes its stack along
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		_ = r.cmd.Wait() // the exit code says it
		r.code = r.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() { r.stop(t) })
	await(t, patience, "endpoints.json", func() bool {
		select {
		case <-r.ended:
			t.Fatalf("up ended with %d:\n%s", r.code, r.out.String())
		default:
		}
		_, err := stack.LoadEndpoints(dir)
		return err == nil
	})
	return r
}

// stop is SIGTERM; it must be over within ten seconds, with exit code 0.
func (r *running) stop(t *testing.T) {
	t.Helper()
	select {
	case <-r.ended:
		return
	default:
	}
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	select {
	case <-r.ended:
		if r.code != 0 {
			t.Errorf("up exited with %d:\n%s", r.code, r.out.String())
		}
	case <-time.After(patience): // the promise is 10 s; a busy machine may be late
		_ = r.cmd.Process.Kill()
		t.Errorf("up did not stop:\n%s", r.out.String())
	}
}

func (r *running) endpoints(t *testing.T) stack.Endpoints {
	t.Helper()
	e, err := stack.LoadEndpoints(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// tool runs a client command against the stack.
func (r *running) tool(t *testing.T, wantCode int, args ...string) string {
	t.Helper()
	out, errs, code := tool(t, append(args, "--dir", r.dir)...)
	if code != wantCode {
		t.Fatalf("countinghouse %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, wantCode, out, errs)
	}
	return out
}

func tool(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "countinghouse", args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// sql asks ClickHouse over HTTP; while it is being restarted there is no answer.
func (r *running) sql(t *testing.T, query string) (string, error) {
	t.Helper()
	e, err := stack.LoadEndpoints(r.dir)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.ClickHouseHTTP, strings.NewReader(query))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(string(body))
	}
	return strings.TrimSpace(string(body)), err
}

// ledger is whether every accepted event is stored or a duplicate, and stored, conflict, quarantined of the whole stack.
// How many are duplicates is not promised: the tool sends again what it got no answer to.
const ledger = "SELECT sum(accepted) = sum(stored) + sum(duplicate), sum(stored), sum(conflict), sum(quarantined) FROM usage_api.ledger_v1"

// patience bounds every wait: the engine may have to be fetched, and others may use the machine.
const patience = 4 * time.Minute

func (r *running) awaitSQL(t *testing.T, query, want string) {
	t.Helper()
	var got string
	var err error
	await(t, patience, query+" = "+want, func() bool {
		got, err = r.sql(t, query)
		return err == nil && strings.Join(strings.Fields(got), " ") == want
	}, func() string { return got + " " + errorText(err) })
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// await asks until the answer is yes.
func await(t *testing.T, within time.Duration, what string, yes func() bool, last ...func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			said := ""
			for _, l := range last {
				said += l()
			}
			t.Fatalf("not within %s: %s; last: %s", within, what, said)
		}
	}
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func dirIn(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "stack")
}
