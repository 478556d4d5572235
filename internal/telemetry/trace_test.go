package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/countinghouse/countinghouse/internal/telemetry"
)

func TestTraceConfig(t *testing.T) {
	t.Parallel()
	for fault, cfg := range map[string]telemetry.TraceConfig{
		"":               {Endpoint: "https://collector:4318", Sample: 1000},
		"trace.endpoint": {Endpoint: "collector:4318"},
		"trace.sample":   {Sample: 1001},
	} {
		if err := cfg.Validate(); (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
			t.Errorf("%+v: %v, want a fault of %q", cfg, err, fault)
		}
	}
	if err := telemetry.DefaultTraceConfig().Validate(); err != nil {
		t.Error(err)
	}
}

// TestTraceOff: without a collector every call is one of a nil Tracer or a nil Span, and makes nothing.
func TestTraceOff(t *testing.T) { //nolint:paralleltest // allocations are counted
	tracer, err := telemetry.NewTracer(t.Context(), telemetry.DefaultTraceConfig(), telemetry.BuildVersion("ingest"), zap.NewNop())
	if tracer != nil || err != nil {
		t.Fatalf("%v, %v", tracer, err)
	}
	header := http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}
	made := testing.AllocsPerRun(100, func() {
		ctx, span := tracer.Request(t.Context(), "request", header)
		ctx, chunk := tracer.Join(ctx, "chunk", nil)
		_, insert := telemetry.Child(ctx, "insert")
		if telemetry.Carry(ctx, nil) != nil || telemetry.OriginOf(ctx).Recorded() || tracer.ReadOrigin(ctx, header).Recorded() {
			t.Error("something is traced")
		}
		insert.Int("rows", 1)
		insert.End(nil)
		chunk.End(nil)
		span.Text("route", "x")
		span.End(context.Canceled)
	})
	if made > 0 {
		t.Errorf("%v allocations", made)
	}
	tracer.Close(t.Context())
}

// TestTraceWithoutCollector: one that is down is told of in the log, and keeps nobody.
func TestTraceWithoutCollector(t *testing.T) {
	t.Parallel()
	core, logged := observer.New(zap.WarnLevel)
	cfg := telemetry.TraceConfig{Endpoint: "http://127.0.0.1:1", Sample: 1000}
	tracer, err := telemetry.NewTracer(t.Context(), cfg, telemetry.BuildVersion("ingest"), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := tracer.Request(t.Context(), "request", http.Header{})
	if telemetry.Carry(ctx, nil)[telemetry.TraceHeader] == nil {
		t.Error("the request is not traced")
	}
	span.End(nil)
	tracer.Close(t.Context())
	told := func() int { return logged.FilterMessage("spans not sent; they are dropped").Len() }
	for deadline := time.Now().Add(time.Minute); told() == 0 && time.Now().Before(deadline); { // Close waits for a while only
		runtime.Gosched()
	}
	if told() != 1 {
		t.Errorf("logged: %v", logged.All())
	}
}

// TestTraceQuotesNothing: that work failed is in its span, and not why: an error may quote an event.
func TestTraceQuotesNothing(t *testing.T) {
	t.Parallel()
	sent := make(chan []byte, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent <- body
	}))
	t.Cleanup(server.Close)
	tracer, err := telemetry.NewTracer(t.Context(), telemetry.TraceConfig{Endpoint: server.URL, Sample: 1000}, telemetry.BuildVersion("reporter"), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Request(t.Context(), "the-request", http.Header{})
	span.End(errors.New("cannot parse 'quantity-of-acme'"))
	defer tracer.Close(t.Context())
	if body := <-sent; !bytes.Contains(body, []byte("the-request")) || bytes.Contains(body, []byte("acme")) {
		t.Errorf("sent: %q", body)
	}
}
