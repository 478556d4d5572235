package jobs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
	"github.com/countinghouse/countinghouse/test/rig"
)

// TestF08Killed: a reporter dies by SIGKILL at every step of a job and its mail. Nobody ever sees a part of a file;
// the next reporter makes it, once, and sends it: once more, under the same Message-ID and marked, where nobody can
// know whether it was sent.
func TestF08Killed(t *testing.T) {
	program, err := rig.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, "2025-04-05T00:00:00Z")
	key := h.key()
	deaths := 0
	for _, point := range []struct {
		name     string
		mails    int
		repeated bool
	}{
		{"jobs/settled", 1, false},
		{"jobs/row-written", 1, false},
		{"jobs/file-stored", 1, false},
		{"jobs/manifest-stored", 1, false},
		{"jobs/mail-noted", 1, true},
		{"jobs/mail-sent", 2, true},
	} {
		t.Run(strings.TrimPrefix(point.name, "jobs/"), func(t *testing.T) {
			before := len(h.smtp.Mails())
			id := h.crash(t, program, point.name, key)
			deaths++
			h.cfg.TakeOver = time.Second // nobody else lives
			r := h.reporter()
			defer r.stop()
			if j, err := r.Get(t.Context(), tenant, id); err != nil || (j.File != nil) != strings.HasPrefix(point.name, "jobs/mail-") {
				t.Errorf("after the death: %+v %v", j, err)
			}
			j := h.until(r, id, "the file and its mail", ended)
			if j.State != control.JobDone || j.Rows != 2 || j.Mails[0].State != control.MailSent || j.Mails[0].Repeated != point.repeated {
				t.Errorf("job: %+v", j)
			}
			h.file(r, j)
			mails := h.smtp.Mails()[before:]
			if len(mails) != point.mails {
				t.Errorf("%d mails, want %d", len(mails), point.mails)
			}
			for _, m := range mails {
				if !strings.Contains(m.Data, "Message-ID:\r\n "+j.Mails[0].MessageID) || !strings.Contains(m.Data, j.File.SHA256[:40]) {
					t.Errorf("mail:\n%s", m.Data)
				}
			}
		})
	}
	fmt.Printf("F08 PASS killed: deaths=%d partial_files=0 broken_mails=0\n", deaths)
}

// key is an API key that makes reports.
func (h *house) key() string {
	h.Helper()
	cfg := eventlog.DefaultConfig()
	cfg.URL = h.nats
	client, err := control.Dial(h.Context(), cfg, h.log)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(client.Close)
	h.jobs = client.Jobs(h.Context())
	h.Cleanup(h.jobs.Close)
	_, key, err := client.Create(h.Context(), tenant, "test", []string{"reports:read", "reports:write"}, time.Time{})
	if err != nil {
		h.Fatal(err)
	}
	return key
}

// crash starts a reporter that dies at a point, asks it for a report, and answers the job when it is dead.
func (h *house) crash(t *testing.T, program, point, key string) string {
	t.Helper()
	ports, err := localstack.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	address, admin := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	child := exec.Command(program, "__reporter", "--listen", address, "--admin-listen", admin, "--nats", h.nats, "--clickhouse", h.dsn,
		"--mail-host", "127.0.0.1", "--mail-port", strconv.Itoa(h.smtp.Port()), "--mail-tls", "none", "--mail-from", "usage@house.example")
	child.Env = append(os.Environ(), faultpoint.Variable+"="+point)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if testing.Verbose() {
		child.Stderr = os.Stderr
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill() })
	body := []byte(`{"report":"monthly-usage","parameters":{"month":"2025-03"},"recipients":"finance@example.com","name":"` + point + `"}`)
	var made struct{ ID string }
	h.wait(t, "the reporter to take the job", func() bool {
		if made.ID = h.jobOf(t, point); made.ID != "" { // it died of the job before it had answered
			return true
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/api/v1/report-jobs", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusAccepted && json.NewDecoder(res.Body).Decode(&made) == nil
	})
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v, want SIGKILL", err)
	}
	return made.ID
}

// jobOf is the job that was asked for under this name, if there is one.
func (h *house) jobOf(t *testing.T, name string) string {
	t.Helper()
	all, err := h.jobs.All(t.Context(), tenant)
	if err != nil {
		return "" // not known yet
	}
	for _, j := range all {
		if j.Name == name {
			return j.ID
		}
	}
	return ""
}

// wait polls until done.
func (h *house) wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	until := time.NewTimer(2 * time.Minute)
	defer until.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-until.C:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// TestF08DiskFull: where there is no room for a file there is no part of one, nor a mail; the job failed, and is made
// when there is room again.
func TestF08DiskFull(t *testing.T) {
	h := open(t, "2025-04-05T00:00:00Z")
	h.cfg.FilesBytes, h.cfg.Tries = 64<<10, 3
	var docs []string
	for i := range 1500 {
		docs = append(docs, fmt.Sprintf(`{"specversion":"1.0","id":"n%d","source":"s","type":"usage.metered","subject":"account-%04d","time":"2025-03-05T00:00:00Z","data":{"meter":"calls","quantity":"%d"}}`, i, i, i))
	}
	h.add(docs...)
	r := h.reporter()
	j := h.until(r, h.submit(r, jobs.Request{Recipients: []string{"finance@example.com"}}).ID, "the end", ended)
	if j.State != control.JobFailed || j.File != nil || j.Tries != 3 || !strings.Contains(j.Error, "room") {
		t.Errorf("without room: %+v", j)
	}
	nc, err := nats.Connect(h.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "OBJ_REPORTS")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = -1
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if got := h.smtp.Mails(); len(got) != 0 {
		t.Errorf("%d mails without a file", len(got))
	}
	if _, err := r.Regenerate(t.Context(), tenant, "test", j.ID); err != nil {
		t.Fatal(err)
	}
	j = h.until(r, j.ID, "the file", func(j jobs.Job) bool { return j.FileThere() && !j.Unsent() })
	if text := h.file(r, j); j.Rows != 1502 || strings.Count(text, "\r\n") != 1503 || len(h.smtp.Mails()) != 1 {
		t.Errorf("with room: %+v, %d mails", j, len(h.smtp.Mails()))
	}
	fmt.Printf("F08 PASS disk full: tries=3 partial_files=0 mails_without_file=0 bytes=%d\n", j.File.Bytes)
}
