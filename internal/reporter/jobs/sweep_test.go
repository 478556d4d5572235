package jobs_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
)

// TestSwept: what dead reporters left behind goes, a file that no job names and pieces of one that was never finished;
// what a job names stays.
func TestSwept(t *testing.T) {
	h := open(t, "2025-04-05T00:00:00Z")
	h.cfg.SweepEvery = 30 * time.Millisecond
	r := h.reporter()
	j := h.until(r, h.submit(r, jobs.Request{}).ID, "the file", ended)
	cfg := eventlog.DefaultConfig()
	cfg.URL = h.nats
	client, err := control.Dial(t.Context(), cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	files := client.Files(0)
	if _, err := files.Put(t.Context(), tenant+"/nobody/1.csv", strings.NewReader("half a report")); err != nil {
		t.Fatal(err)
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
	if _, err := js.Publish(t.Context(), "$O.REPORTS.C.never-finished", []byte("a piece")); err != nil {
		t.Fatal(err)
	}
	h.wait(t, "the file that no job names to be gone", func() bool {
		f, err := files.Open(t.Context(), tenant+"/nobody/1.csv")
		if err == nil {
			_ = f.Close()
		}
		return errors.Is(err, control.ErrNoFile)
	})
	h.wait(t, "the pieces to be gone", func() bool {
		all, err := files.List(t.Context())
		if err != nil {
			return false
		}
		loose, err := files.Loose(t.Context(), all)
		return err == nil && len(loose) == 0
	})
	h.file(r, j)
	if _, err := r.Manifest(t.Context(), tenant, j.ID); err != nil {
		t.Error(err)
	}
}
