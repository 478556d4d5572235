package ingest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/ingest"
)

// TestReceiptOfAnotherServer: publishing goes on over a reconnect, and who answers then may not be the
// server that was checked. Its receipt is worth a 202 only when its settings are known to be good.
func TestReceiptOfAnotherServer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		after []error // what is known of the log, one look after the other; the last one stays
		wait  time.Duration
		want  int
	}{
		"the same server":                 {[]error{nil}, time.Minute, http.StatusAccepted},
		"another, found to be safe":       {[]error{ingest.ErrUnchecked(), ingest.ErrUnchecked(), nil}, time.Minute, http.StatusAccepted},
		"another, found to be lossy":      {[]error{ingest.ErrUnchecked(), ingest.ErrUnsafe()}, time.Minute, http.StatusServiceUnavailable},
		"another, about which is nothing": {[]error{ingest.ErrUnchecked()}, 500 * time.Millisecond, http.StatusServiceUnavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var acked atomic.Bool
			var looks atomic.Int64
			handler := ingest.Handler(func(context.Context, string, uuid.UUID, []byte) (eventlog.Receipt, error) {
				acked.Store(true)
				return eventlog.Receipt{Seq: 1}, nil
			}, func() error {
				if !acked.Load() {
					return nil
				}
				return tt.after[min(int(looks.Add(1)), len(tt.after))-1]
			}, tt.wait)
			body := `{"specversion":"1.0","id":"1","source":"/s","type":"usage.metered","time":"` + time.Now().UTC().Format(time.RFC3339) +
				`","data":{"meter":"tokens","quantity":1}}`
			req := httptest.NewRequest(http.MethodPost, "/api/v1/events", strings.NewReader(body))
			req.Header.Set("Content-Type", "application/cloudevents+json")
			req.Header.Set("Authorization", "Bearer any")
			got := httptest.NewRecorder()
			handler.ServeHTTP(got, req)
			if got.Code != tt.want {
				t.Errorf("answered %d %s, want %d", got.Code, got.Body, tt.want)
			}
		})
	}
}
