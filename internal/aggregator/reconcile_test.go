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
	deadline, tick := time.After(2*time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		body := get(t, "http://"+app.AdminAddr()+"/readyz?verbose")
		if strings.Contains(body, "tables disagree") && strings.Contains(body, "acme: ") {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("not noticed in 2 min; /readyz says\n%s", body)
		case <-tick.C:
		}
	}
	if m := get(t, "http://"+app.AdminAddr()+"/metrics"); !strings.Contains(m, `countinghouse_reconcile_difference{tenant="acme"}`) || strings.Contains(m, "countinghouse_reconcile_compared_timestamp_seconds 0\n") {
		t.Error("no metric reconcile_difference for acme, or no time of it")
	}
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
