package ingest

import (
	"errors"
	"fmt"
	"time"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/tlsfile"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Config is the whole of cmd/ingest's configuration; the help texts are its reference.
type Config struct {
	Listen      string                `koanf:"listen" help:"address to take events on"`
	AdminListen string                `koanf:"admin_listen" help:"address of /livez, /readyz, /metrics, /version"`
	AllowLossy  bool                  `koanf:"allow_lossy" help:"be ready although the log may lose acknowledged events in a power cut"`
	ExtraTypes  []string              `koanf:"extra_types" help:"further event types to take; stored, not metered"`
	TLS         TLSConfig             `koanf:"tls"`
	HTTP        HTTPConfig            `koanf:"http"`
	Limit       LimitConfig           `koanf:"limit"`
	Commit      CommitConfig          `koanf:"commit"`
	NATS        eventlog.Config       `koanf:"nats"`
	Log         telemetry.LogConfig   `koanf:"log"`
	Trace       telemetry.TraceConfig `koanf:"trace"`

	// Clock is the time events are judged by; nil is the machine's. For tests.
	Clock func() time.Time `koanf:"-"`
}

// TLSConfig is the certificate of the public port; without one it speaks plain HTTP. The files are
// looked at again at most once a second, so a renewed certificate needs no restart.
type TLSConfig struct {
	Cert string `koanf:"cert" help:"file with the certificate chain (PEM)"`
	Key  string `koanf:"key" help:"file with its private key (PEM)"`
}

// HTTPConfig bounds what a connection may take.
type HTTPConfig struct {
	Connections int           `koanf:"connections" help:"most open connections; more wait in the kernel's queue"`
	HeaderBytes int           `koanf:"header_bytes" unit:"bytes" help:"largest request header; more is 431"`
	HeaderWait  time.Duration `koanf:"header_wait" help:"longest time for a request's header to arrive"`
	BodyWait    time.Duration `koanf:"body_wait" help:"longest time for a whole request to arrive"`
	IdleWait    time.Duration `koanf:"idle_wait" help:"how long an idle connection is kept"`
	DrainDelay  time.Duration `koanf:"drain_delay" help:"on SIGTERM, how long to stay open after /readyz turned, so that load balancers notice"`
	DrainWait   time.Duration `koanf:"drain_wait" help:"on SIGTERM, how long requests may take to finish"`
}

// LimitConfig bounds events, requests and tenants (docs/reference/configuration.md).
type LimitConfig struct {
	BodyBytes      int64         `koanf:"body_bytes" unit:"bytes" help:"largest body, compressed or not"`
	Events         int           `koanf:"events" help:"most events in one request"`
	EventBytes     int           `koanf:"event_bytes" unit:"bytes" help:"largest event"`
	Dimensions     int           `koanf:"dimensions" help:"most dimensions of one event"`
	DimensionBytes int           `koanf:"dimension_bytes" unit:"bytes" help:"longest name or value of a dimension"`
	Span           time.Duration `koanf:"span" help:"longest time from start to end of one event"`
	Past           time.Duration `koanf:"past" help:"oldest event taken without scope events:backfill"`
	Future         time.Duration `koanf:"future" help:"how far ahead of our clock an event may be"`

	Requests           int   `koanf:"requests" help:"most requests served at a time"`
	TenantRequests     int   `koanf:"tenant_requests" help:"most requests of one tenant served at a time"`
	WaitingBytes       int64 `koanf:"waiting_bytes" unit:"bytes" help:"most memory for requests and for events that wait for the log; over it 503"`
	TenantWaitingBytes int64 `koanf:"tenant_waiting_bytes" unit:"bytes" help:"the same for one tenant"`

	RateEvents int `koanf:"rate_events" help:"events a second that one tenant may send; 0 is no limit"`
	RateBurst  int `koanf:"rate_burst" help:"events one tenant may send at once; 0 is one second's worth"`
	Guesses    int `koanf:"guesses" help:"wrong keys a minute that one address may try; 0 is no limit"`
}

// CommitConfig is how requests are packed into chunks.
type CommitConfig struct {
	Wait     time.Duration `koanf:"wait" help:"longest time a request waits for the log before it is answered 503"`
	Linger   time.Duration `koanf:"linger" help:"how long a chunk waits for company when nothing is in flight; 0 sends at once"`
	InFlight int           `koanf:"in_flight" help:"chunks of one tenant on their way to the log at a time"`
	Abreast  int           `koanf:"abreast" help:"chunks on their way to one partition of the log at a time; more would only wait there, and here they still grow; 0 is 8, or 32 if the log has replicas, which take several at once"`
}

// abreast is CommitConfig.Abreast with its default.
func (c CommitConfig) abreast(replicas int) int {
	switch {
	case c.Abreast > 0:
		return c.Abreast
	case replicas > 1:
		return 32
	}
	return 8
}

// DefaultConfig is a service on its usual ports with the limits of docs/reference/configuration.md.
func DefaultConfig() Config {
	return Config{
		Listen:      "127.0.0.1:8080",
		AdminListen: "127.0.0.1:9101",
		HTTP: HTTPConfig{
			Connections: 8192, HeaderBytes: 32 << 10, HeaderWait: 5 * time.Second, BodyWait: 30 * time.Second,
			IdleWait: 2 * time.Minute, DrainDelay: 200 * time.Millisecond, DrainWait: 8 * time.Second,
		},
		Limit: LimitConfig{
			BodyBytes: 5 << 20, Events: 1000, EventBytes: 64 << 10, Dimensions: 64, DimensionBytes: 256,
			Span: 400 * 24 * time.Hour, Past: 35 * 24 * time.Hour, Future: 5 * time.Minute,
			Requests: 2048, TenantRequests: 1024, WaitingBytes: 256 << 20, TenantWaitingBytes: 128 << 20,
			Guesses: 30,
		},
		Commit: CommitConfig{Wait: 5 * time.Second, InFlight: 8},
		NATS:   eventlog.DefaultConfig(),
		Log:    telemetry.DefaultLogConfig(),
		Trace:  telemetry.DefaultTraceConfig(),
	}
}

// Validate names everything that cannot work.
func (c *Config) Validate() error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	l, h := &c.Limit, &c.HTTP
	want(c.Listen != "", "listen: must be given")
	want(c.AdminListen != "", "admin_listen: must be given")
	if err := tlsfile.Pair("tls.", c.TLS.Cert, c.TLS.Key, time.Now()); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.Trace.Validate())
	for name, n := range map[string]int64{
		"http.connections": int64(h.Connections), "http.header_bytes": int64(h.HeaderBytes), "http.header_wait": int64(h.HeaderWait),
		"http.body_wait": int64(h.BodyWait), "http.idle_wait": int64(h.IdleWait), "http.drain_wait": int64(h.DrainWait),
		"limit.body_bytes": l.BodyBytes, "limit.events": int64(l.Events), "limit.event_bytes": int64(l.EventBytes),
		"limit.dimensions": int64(l.Dimensions), "limit.dimension_bytes": int64(l.DimensionBytes), "limit.span": int64(l.Span),
		"limit.past": int64(l.Past), "limit.requests": int64(l.Requests), "limit.tenant_requests": int64(l.TenantRequests),
		"limit.waiting_bytes": l.WaitingBytes, "limit.tenant_waiting_bytes": l.TenantWaitingBytes,
		"commit.wait": int64(c.Commit.Wait), "commit.in_flight": int64(c.Commit.InFlight),
	} {
		want(n > 0, "%s: must be positive", name)
	}
	for name, n := range map[string]int64{
		"limit.future": int64(l.Future), "limit.rate_events": int64(l.RateEvents), "limit.rate_burst": int64(l.RateBurst),
		"limit.guesses": int64(l.Guesses), "commit.linger": int64(c.Commit.Linger), "commit.abreast": int64(c.Commit.Abreast), "http.drain_delay": int64(h.DrainDelay),
	} {
		want(n >= 0, "%s: must not be negative", name)
	}
	want(l.TenantWaitingBytes >= 2*bodyCost*l.BodyBytes, "limit.tenant_waiting_bytes: must hold one request, at least %d times limit.body_bytes", 2*bodyCost)
	want(l.WaitingBytes >= l.TenantWaitingBytes, "limit.waiting_bytes: must not be less than limit.tenant_waiting_bytes")
	want(l.EventBytes <= eventlog.ChunkBytesMax/2, "limit.event_bytes: must not exceed 128KiB, half a chunk of the log")
	want(l.Span <= usage.DefaultLimits().MaxSpan, "limit.span: must not exceed 9600h, 400 days: that far from its start the pieces of an event are found")
	want(l.RateBurst == 0 || l.RateBurst >= l.Events, "limit.rate_burst: must not be less than limit.events")
	return errors.Join(errs...)
}

// burst is never less than one request, which could otherwise never be let in.
func (l LimitConfig) burst() int {
	if l.RateBurst > 0 {
		return l.RateBurst
	}
	return max(l.RateEvents, l.Events)
}

func (c *Config) usageLimits() usage.Limits {
	return usage.Limits{
		EventBytes: c.Limit.EventBytes, Dimensions: c.Limit.Dimensions, DimensionBytes: c.Limit.DimensionBytes,
		MaxSpan: c.Limit.Span, ExtraTypes: c.ExtraTypes,
	}
}
