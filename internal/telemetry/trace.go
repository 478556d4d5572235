package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// TraceHeader carries a trace between services: in HTTP, and in the messages of the log (W3C Trace Context).
const TraceHeader = "traceparent"

// TraceConfig is the `trace` section every service has.
type TraceConfig struct {
	// Endpoint is where spans are sent; empty: none are made.
	Endpoint string `koanf:"endpoint" help:"URL of an OpenTelemetry collector that takes OTLP over HTTP, http://127.0.0.1:4318; empty: no traces"`
	// Sample is a share of 1000.
	Sample int `koanf:"sample" help:"how many of 1000 requests are traced"`
}

// DefaultTraceConfig is off; with an endpoint, one request of ten is traced.
func DefaultTraceConfig() TraceConfig { return TraceConfig{Sample: 100} }

const sampleMost = 1000

// Validate names what cannot work.
func (c TraceConfig) Validate() error {
	var errs []error
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, errors.New("trace.endpoint: want a URL such as http://127.0.0.1:4318"))
		}
	}
	if c.Sample < 0 || c.Sample > sampleMost {
		errs = append(errs, fmt.Errorf("trace.sample: %d, want 0 to %d", c.Sample, sampleMost))
	}
	return errors.Join(errs...)
}

// Limits of what waits for the collector. What does not fit is dropped: no request waits for a trace.
const (
	spansWaiting = 4096
	spansAtOnce  = 512
	spansEvery   = time.Second
	sendWait     = 5 * time.Second
	linksMost    = 64 // chunks of a batch, or requests of a chunk, that its span names
)

// Tracer makes the spans a service begins with. A nil Tracer makes none, and costs a comparison.
//
// There is a span per request, chunk, batch and statement, never per event, and no span has anything of an event in it.
// Who calls does not decide whether it is recorded, so that nobody else can fill the collector; what the services
// tell each other they believe.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// NewTracer sends spans to the collector of cfg; it is nil where there is none. The collector may be down.
func NewTracer(ctx context.Context, cfg TraceConfig, v Version, log *zap.Logger) (*Tracer, error) {
	if cfg.Endpoint == "" {
		return nil, nil //nolint:nilnil // a nil Tracer is one that is off
	}
	endpoint := cfg.Endpoint
	if u, err := url.Parse(endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
		endpoint = u.JoinPath("v1", "traces").String()
	}
	to, err := otlptrace.New(ctx, &collector{endpoint: endpoint, client: &http.Client{Timeout: sendWait}})
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	limits := sdk.NewSpanLimits()
	limits.LinkCountLimit = linksMost
	t := &Tracer{provider: sdk.NewTracerProvider(
		sdk.WithBatcher(exporter{to, log}, sdk.WithMaxQueueSize(spansWaiting), sdk.WithMaxExportBatchSize(spansAtOnce), sdk.WithBatchTimeout(spansEvery), sdk.WithExportTimeout(sendWait)),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "countinghouse-"+v.Service), attribute.String("service.version", v.Version))),
		sdk.WithSampler(sampler(cfg.Sample)),
		sdk.WithRawSpanLimits(limits),
	)}
	t.tracer = t.provider.Tracer(tracerName)
	return t, nil
}

const tracerName = "github.com/countinghouse/countinghouse"

// sampler records what belongs to a span of ours that is recorded. Of the others, whether a caller brought a trace or
// not, the trace's id decides: alike in every service of the same ratio.
func sampler(of1000 int) sdk.Sampler {
	ratio := sdk.TraceIDRatioBased(float64(of1000) / sampleMost)
	return sdk.ParentBased(ratio, sdk.WithRemoteParentSampled(ratio), sdk.WithRemoteParentNotSampled(ratio))
}

// exporter tells the log what could not be sent, and nobody else.
type exporter struct {
	sdk.SpanExporter
	log *zap.Logger
}

func (e exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.log.Warn("spans not sent; they are dropped", zap.Int("spans", len(spans)), zap.Error(err))
	}
	return nil
}

// Close sends what waits.
func (t *Tracer) Close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, spansEvery)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // a collector that is down keeps nobody from ending
}

// Span is work that is traced; nil is work that is not.
type Span struct{ span trace.Span }

// Request begins the span of a request from outside, as part of the trace that its header names, if it does.
func (t *Tracer) Request(ctx context.Context, name string, header http.Header) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, recorded(span)
}

// Origin is a span that others come from, possibly of another process; the zero value is none.
type Origin struct{ span trace.SpanContext }

// OriginOf is the span of ctx, if it is recorded.
func OriginOf(ctx context.Context) Origin {
	if s := trace.SpanContextFromContext(ctx); s.IsSampled() {
		return Origin{s}
	}
	return Origin{}
}

// ReadOrigin takes the origin out of a message. A header that is broken, or forged, names none, or one that
// nobody knows: neither harms.
func (t *Tracer) ReadOrigin(ctx context.Context, header map[string][]string) Origin {
	if t == nil || len(header[TraceHeader]) == 0 {
		return Origin{}
	}
	return OriginOf(propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{TraceHeader: header[TraceHeader][0]}))
}

// Recorded reports whether there is an origin.
func (o Origin) Recorded() bool { return o.span.IsValid() }

// Carry puts the span of ctx into the header of a message, if it is recorded: header may be nil, and then stays nil otherwise.
func Carry(ctx context.Context, header map[string][]string) map[string][]string {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return header
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	if header == nil {
		header = map[string][]string{}
	}
	header[TraceHeader] = []string{carrier[TraceHeader]}
	return header
}

// Join begins the span of work for several: it belongs to the trace of the first, and names all. Without an origin
// nothing is recorded, whatever ctx brings along.
func (t *Tracer) Join(ctx context.Context, name string, origins []Origin) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	if len(origins) == 0 {
		return trace.ContextWithSpanContext(ctx, trace.SpanContext{}), nil
	}
	links := make([]trace.Link, 0, min(len(origins), linksMost))
	for _, o := range origins[:min(len(origins), linksMost)] {
		links = append(links, trace.Link{SpanContext: o.span})
	}
	// Not remote: what our services record together is not drawn again.
	ctx = trace.ContextWithSpanContext(ctx, origins[0].span.WithRemote(false))
	ctx, span := t.tracer.Start(ctx, name, trace.WithLinks(links...), trace.WithSpanKind(trace.SpanKindConsumer))
	return ctx, recorded(span)
}

// Child begins a part of the work that ctx brings the span of, if it is recorded.
func Child(ctx context.Context, name string) (context.Context, *Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, nil
	}
	ctx, span := parent.TracerProvider().Tracer(tracerName).Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
	return ctx, recorded(span)
}

func recorded(span trace.Span) *Span {
	if !span.IsRecording() {
		return nil
	}
	return &Span{span}
}

// In is ctx with the span, for work that goes on elsewhere.
func (s *Span) In(ctx context.Context) context.Context {
	if s == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, s.span)
}

// Int adds a number that says how much work it was.
func (s *Span) Int(key string, n int) {
	if s != nil {
		s.span.SetAttributes(attribute.Int(key, n))
	}
}

// Text adds a word of ours: nothing that a producer wrote.
func (s *Span) Text(key, value string) {
	if s != nil {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// End ends the work; err says that it failed. Why is in the log: the text of an error may quote an event, or the values
// that a statement was asked with.
func (s *Span) End(err error) {
	if s == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, "")
	}
	s.span.End()
}
