package months_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/test/rig"
)

// A reporter dies by SIGKILL at every step of a close, of the first version and of the second. Nobody ever
// sees half of a version; the next reporter makes known what was decided on, and what was not is gone, an hour
// later at the latest. A close that is asked for again answers the one that was decided on.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	program, err := rig.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for point, decided := range map[string]bool{"months/stored": false, "months/named": true, "months/published": true} {
		for _, version := range []int{1, 2} {
			t.Run(strings.TrimPrefix(point, "months/")+" "+string(rune('0'+version)), func(t *testing.T) {
				t.Parallel()
				crash(t, program, point, version, decided)
			})
		}
	}
}

func crash(t *testing.T, program, point string, version int, decided bool) {
	h := open(t)
	h.add("2026-01-10T00:00:00Z", tokens("1", "a", "2026-01-10T00:00:00Z", "1"))
	h.add("2026-02-03T00:00:00Z", tokens("2", "a", "2026-02-03T00:00:00Z", "1"))
	if version == 2 {
		k, _, _ := h.keeper("before", byHand())
		h.close(k, "2026-01")
		k.Stop()
		h.add("2026-02-05T00:00:00Z", tokens("3", "b", "2026-01-31T00:00:00Z", "7"), tokens("4", "a", "2026-02-05T00:00:00Z", "1"))
	}
	before := h.versions("2026-01")
	rows := h.count("month_rows")
	_, key, err := h.control.Create(t.Context(), h.tenant, "test", []string{"months:close"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	address, child := h.child(program, point)
	h.await("the process to die of the close", func() bool {
		status, err := post(t, "http://"+address+"/api/v1/months/2026-01/close", key)
		if err == nil && status != http.StatusServiceUnavailable { // which a busy machine answers now and then
			t.Fatalf("the close was answered %d by a process that was to die", status)
		}
		return err != nil
	})
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v, want SIGKILL", err)
	}
	if got := h.versions("2026-01"); point != "months/published" && !reflect.DeepEqual(got, before) {
		t.Errorf("versions seen after the crash: %+v, before it %+v", got, before)
	}
	if n := h.count("month_rows"); n <= rows {
		t.Errorf("%d rows are stored, as before: the crash came too early to test anything", n)
	}
	cfg := byHand()
	cfg.QuietDelay = time.Second // what makes it look often; it closes nothing by itself
	k, _, _ := h.keeper("after", cfg)
	want := len(before)
	if decided {
		want++
		h.await("what was decided on to be known", func() bool { return len(h.versions("2026-01")) == want })
	}
	named := h.versions("2026-01")
	v := h.close(k, "2026-01")
	all := h.versions("2026-01")
	if v.Version != version || len(all) != version || decided && all[version-1].CloseID != named[version-1].CloseID {
		t.Errorf("closed again: %+v, versions %+v", v, all)
	}
	if version == 2 && all[0].CloseID != before[0].CloseID {
		t.Errorf("version 1 is another one: %+v, was %+v", all[0], before[0])
	}
	k.Stop()
	h.clock.Store(time.Now().Add(2 * time.Hour).UnixMilli()) // the child's clock was the machine's
	h.keeper("later", cfg)
	stored := uint64(0)
	for _, one := range all {
		stored += uint64(one.Rows)
	}
	h.await("the rows of a close that was not decided on to be gone", func() bool { return h.count("month_rows") == stored })
	if rows := h.rows("2026-01", all[version-1].CloseID); len(rows) != version || rows[0] != (report.MonthRow{}) && rows[0].Quantity != "1" {
		t.Errorf("version %d says %+v", version, rows)
	}
}

// child starts a reporter that dies at the point, and waits until it is ready.
func (h *house) child(program, point string) (address string, child *exec.Cmd) {
	h.Helper()
	ports, err := localstack.FreePorts(2)
	if err != nil {
		h.Fatal(err)
	}
	address, admin := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	child = exec.Command(program, "__reporter", "--listen", address, "--admin-listen", admin, "--nats", h.nats, "--clickhouse", h.dsn,
		"--months-close-day", "0", "--months-restate-delay", "1h")
	child.Env = append(os.Environ(), faultpoint.Variable+"="+point)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if testing.Verbose() {
		child.Stderr = os.Stderr
	}
	if err := child.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = child.Process.Kill() })
	h.await("the reporter to be ready", func() bool {
		req, err := http.NewRequestWithContext(h.Context(), http.MethodGet, "http://"+admin+"/readyz", nil)
		if err != nil {
			h.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return address, child
}

func post(t *testing.T, address, key string) (int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), awaitMost)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	res.Body.Close()
	return res.StatusCode, nil
}
