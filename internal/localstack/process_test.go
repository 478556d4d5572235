package localstack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// patience is for a machine with other work: what ends by itself has ended by then.
const patience = 2 * time.Minute

// part is a child of this test binary that counts as ready once it wrote its line.
func part(t *testing.T, name, what string) localstack.Part {
	t.Helper()
	log := filepath.Join(t.TempDir(), name+".log")
	return localstack.Part{
		Name: name, Args: []string{what}, LogFile: log,
		Ready: func(context.Context) error {
			text, err := os.ReadFile(log)
			if err == nil && !bytes.Contains(text, []byte(argSays)) {
				err = errors.New("has not said that it runs")
			}
			return err
		},
	}
}

func startPart(t *testing.T, what string) *localstack.Process {
	t.Helper()
	p, err := localstack.StartPart(t.Context(), part(t, "part", what))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// gone says whether no process with this id runs: a dead one whose parent has not asked yet
// is gone as well.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // "pid (name) state …"
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func TestNoOrphanWhenTheParentIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := filepath.Join(dir, "parent.log")
	var engine, nats int
	parent, err := localstack.StartPart(t.Context(), localstack.Part{
		Name: "parent", Args: []string{childParent, dir}, LogFile: log,
		Ready: func(context.Context) error {
			text, err := os.ReadFile(log)
			if err == nil {
				_, err = fmt.Sscanf(string(text), "%d %d\n", &engine, &nats)
			}
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(parent.Kill)
	if gone(engine) || gone(nats) {
		t.Fatalf("engine %d or nats %d does not run", engine, nats)
	}
	// The parent alone, not its process group.
	if err := parent.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "engine and nats end with their parent", func() bool { return gone(engine) && gone(nats) })
}

func TestStopIsGracefulAndEndsAFrozenPart(t *testing.T) {
	t.Parallel()
	p := startPart(t, childService)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(patience); err != nil {
		t.Error(err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("ended with %v, want exit code 0", err)
	}
	if err := p.Stop(patience); err != nil {
		t.Errorf("stopped twice: %v", err)
	}
}

func TestStopKillsAfterItsGrace(t *testing.T) {
	t.Parallel()
	p := startPart(t, childStubborn)
	wantError(t, p.Stop(50*time.Millisecond), "stop part", "killed")
	if !p.Killed() || !gone(p.PID()) {
		t.Errorf("killed %v, gone %v", p.Killed(), gone(p.PID()))
	}
}

func TestAPartThatEndsAtOnceIsReportedWithItsLog(t *testing.T) {
	t.Parallel()
	_, err := localstack.StartPart(t.Context(), part(t, "broken", childBroken))
	wantError(t, err, "start broken", "exit status 3", "no such thing as a good day")
}

func TestSupervisor(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	told := map[string]int{}
	s := localstack.NewSupervisor(zaptest.NewLogger(t), func(pids map[string]int) {
		mu.Lock()
		defer mu.Unlock()
		told = pids
	})
	names := []string{"first", "second"}
	for _, name := range names {
		if err := s.Start(t.Context(), part(t, name, childService)); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, s.Start(t.Context(), part(t, "broken", childBroken)), "start broken")
	if n := len(s.PIDs()); n != 2 {
		t.Errorf("%d parts, want 2: one that never ran is not kept", n)
	}
	for range 5 {
		for _, name := range names {
			pid := s.PIDs()[name]
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			eventually(t, name+" is back and told", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return told[name] != pid && !gone(told[name])
			})
		}
	}
	last := s.PIDs()
	if err := s.Stop(patience); err != nil {
		t.Error(err)
	}
	for name, pid := range last {
		if !gone(pid) {
			t.Errorf("%s (%d) still runs", name, pid)
		}
	}
	if err := s.Start(t.Context(), part(t, "late", childService)); err == nil {
		t.Error("a part was started after Stop")
	}
}

// Clients that stay connected, idle or waiting for an answer, do not hold up the end.
func TestEngineStopsUnderItsClients(t *testing.T) {
	t.Parallel()
	ch := localstack.Start(t, localstack.Options{NoNATS: true}).ClickHouse
	idle, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", ch.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = idle.Close() })
	var asked sync.WaitGroup
	t.Cleanup(asked.Wait)
	asked.Go(func() {
		// Ends with an error when the engine does; which one is no matter.
		_, _ = ch.Query(t.Context(), "SELECT sum(sleepEachRow(1)) FROM numbers(1000) SETTINGS function_sleep_max_microseconds_per_block = 0, max_block_size = 1")
	})
	eventually(t, "the long query runs", func() bool {
		return query(t, ch, "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sum(sleep%'") == "1"
	})
	if err := ch.Stop(patience); err != nil {
		t.Error(err)
	}
}

// Killed while it starts, or again and again: the part comes back every time.
func TestSupervisorRestartsTheEngine(t *testing.T) {
	t.Parallel()
	engine, err := localstack.EnsureEngine(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := localstack.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	p, err := localstack.ClickHouseConfig{Engine: engine, Dir: t.TempDir(), TCPPort: ports[0], HTTPPort: ports[1]}.Part()
	if err != nil {
		t.Fatal(err)
	}
	s := localstack.NewSupervisor(zaptest.NewLogger(t), nil)
	t.Cleanup(func() { _ = s.Stop(patience) })
	if err := s.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	pid := s.PIDs()["clickhouse"]
	for range 3 {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := pid
		eventually(t, "another engine", func() bool { pid = s.PIDs()["clickhouse"]; return pid != killed })
	}
	eventually(t, "the engine answers", func() bool { return p.Ready(t.Context()) == nil })
	if err := s.Stop(patience); err != nil {
		t.Error(err)
	}
	if !gone(pid) {
		t.Errorf("engine %d still runs", pid)
	}
}
