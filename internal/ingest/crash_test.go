//go:build faultpoint

package ingest_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/ingest"
)

const crashChild = "INGEST_CRASH_CHILD"

// F1: the process dies by SIGKILL at every named instruction. What was answered 202 is in the log, each
// time, and a client that sends again until it gets its 202 loses nothing.
func TestKilledAtEveryPoint(t *testing.T) {
	if os.Getenv(crashChild) != "" {
		runCrashChild(t)
		return
	}
	d := open(t)
	for _, point := range []string{"body-read", "decoded", "chunk-filled", "acked", "before-answer"} {
		for _, hit := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s-%d", point, hit), func(t *testing.T) {
				addr, child := startCrashChild(t, d, fmt.Sprintf("ingest/%s:%d", point, hit))
				confirmed := 0
				for i := range hit + 1 {
					if sendTo(t, d, addr, event(fmt.Sprintf("%s-%d-%d", point, hit, i))) {
						confirmed++
					}
				}
				err := child.Wait()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("the child ended with %v, want SIGKILL", err)
				}
				if confirmed != hit-1 {
					t.Errorf("%d answers 202, want %d", confirmed, hit-1)
				}
				stored := map[string]int{}
				for _, id := range d.ids(t) {
					stored[id]++
				}
				for i := range confirmed {
					if id := fmt.Sprintf("%s-%d-%d", point, hit, i); stored[id] != 1 {
						t.Errorf("%s was answered 202 and is in the log %d times", id, stored[id])
					}
				}
				if id := fmt.Sprintf("%s-%d-%d", point, hit, hit); stored[id] != 0 {
					t.Errorf("%s was sent to a dead process and is in the log", id)
				}
			})
		}
	}
}

func startCrashChild(t *testing.T, d *door, at string) (addr string, child *exec.Cmd) {
	t.Helper()
	child = exec.Command(os.Args[0], "-test.run=^TestKilledAtEveryPoint$")
	child.Env = append(os.Environ(), crashChild+"="+strings.Join([]string{d.stack.NATSURL, d.stack.MonitorURL}, ","), faultpoint.Variable+"="+at)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if addr, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			return addr, child
		}
	}
	t.Fatal("the child did not get ready")
	return "", nil
}

func runCrashChild(t *testing.T) {
	urls := strings.Split(os.Getenv(crashChild), ",")
	cfg := ingest.DefaultConfig()
	cfg.Listen, cfg.AdminListen, cfg.Clock = "127.0.0.1:0", "127.0.0.1:0", now
	cfg.NATS.URL, cfg.NATS.MonitorURLs = urls[0], urls[1:]
	d := &door{cfg: cfg}
	var err error
	if d.app, err = ingest.Start(t.Context(), cfg, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	d.awaitReady(t)
	fmt.Println("ready " + d.app.Addr())
	select {} // until the crash, or the parent's end
}

// sendTo reports whether the event was answered 202. No answer is the point of the test.
func sendTo(t *testing.T, d *door, addr, body string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/api/v1/events", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + d.key}}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusAccepted
}
