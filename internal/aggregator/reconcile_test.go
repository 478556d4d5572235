package aggregator_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/aggregator"
)

// TestLossBelowTheWatermarkIsNoticed deletes a row behind the aggregator's back. No watermark can see
// that; the comparison at the next takeover must, and /readyz must say so.
func TestLossBelowTheWatermarkIsNoticed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now().Add(-time.Hour)
	stop := r.start()
	r.publish("acme", metered("1", "a", "1", now))
	r.await(r.publish("acme", metered("2", "a", "1", now)))
	stop()
	r.query("ALTER TABLE {db}.events DELETE WHERE id = '1' SETTINGS mutations_sync = 2")

	app, err := aggregator.Start(t.Context(), r.cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := app.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	deadline, tick := time.After(awaitMost), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		body, m := get(t, "http://"+app.AdminAddr()+"/readyz?verbose"), get(t, "http://"+app.AdminAddr()+"/metrics")
		if strings.Contains(body, "tables disagree") && strings.Contains(body, "acme: ") &&
			strings.Contains(m, `countinghouse_reconcile_difference{tenant="acme"}`) && !strings.Contains(m, "countinghouse_reconcile_compared_timestamp_seconds 0\n") {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("not noticed in %s; /readyz says\n%s\nmetrics of it:\n%s", awaitMost, body, linesWith(m, "reconcile_"))
		case <-tick.C:
		}
	}
}

func linesWith(text, part string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
