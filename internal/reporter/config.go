package reporter

import (
	"errors"
	"fmt"
	"time"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
	"github.com/countinghouse/countinghouse/internal/reporter/mail"
	"github.com/countinghouse/countinghouse/internal/reporter/signin"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Config is the whole of cmd/reporter's configuration; the help texts are its reference.
type Config struct {
	Listen      string                `koanf:"listen" help:"address of the API"`
	AdminListen string                `koanf:"admin_listen" help:"address of /livez, /readyz, /metrics, /version"`
	CursorKey   string                `koanf:"cursor_key" secret:"true" help:"signs the cursors of pages; the same for all reporters behind one address; random if empty"`
	Ingest      string                `koanf:"ingest" help:"URL of ingest, through which dead letters are sent again from the pages; empty: the pages say how to do it from a shell"`
	HTTP        HTTPConfig            `koanf:"http"`
	Limit       LimitConfig           `koanf:"limit"`
	Months      months.Config         `koanf:"months"`
	Jobs        jobs.Config           `koanf:"jobs"`
	Mail        mail.Config           `koanf:"mail"`
	SignIn      signin.Config         `koanf:"sign_in"`
	ClickHouse  warehouse.Config      `koanf:"clickhouse"`
	NATS        control.Config        `koanf:"nats"`
	Log         telemetry.LogConfig   `koanf:"log"`
	Trace       telemetry.TraceConfig `koanf:"trace"`

	// Clock decides which months are open; nil is the machine's. For tests.
	Clock func() time.Time `koanf:"-"`
	// Audit makes the completeness certificate; nil is a real one over NATS and ClickHouse. For tests.
	Audit Auditor `koanf:"-"`
}

// HTTPConfig bounds what a connection may take.
type HTTPConfig struct {
	Requests       int           `koanf:"requests" help:"most requests served at a time; more are answered 503"`
	TenantRequests int           `koanf:"tenant_requests" help:"most requests of one tenant served at a time; more are answered 429"`
	HeaderWait     time.Duration `koanf:"header_wait" help:"longest time for a request's header to arrive"`
	IdleWait       time.Duration `koanf:"idle_wait" help:"how long an idle connection is kept"`
	PageWait       time.Duration `koanf:"page_wait" help:"how long ClickHouse may give no sign of life until pages and the list of months say so, instead of waiting for it"`
	AnswerWait     time.Duration `koanf:"answer_wait" help:"longest time from a request to the end of its answer"`
	ReadWait       time.Duration `koanf:"read_wait" help:"longest time a client may take to read 64 KiB of its answer"`
	DrainDelay     time.Duration `koanf:"drain_delay" help:"on SIGTERM, how long to stay open after /readyz turned, so that load balancers notice"`
	DrainWait      time.Duration `koanf:"drain_wait" help:"on SIGTERM, how long requests may take to finish"`
	HeaderBytes    int           `koanf:"header_bytes" unit:"bytes" help:"largest request header; more is 431"`
}

// LimitConfig bounds what one question may take of ClickHouse, which ends it there; the answer is 422.
type LimitConfig struct {
	QueryTime   time.Duration `koanf:"query_time" help:"longest time ClickHouse may work on one statement"`
	QueryMemory int64         `koanf:"query_memory" unit:"bytes" help:"most memory ClickHouse may take for one statement"`
}

// DefaultConfig is a service on its usual ports.
func DefaultConfig() Config {
	return Config{
		Listen:      "127.0.0.1:8081",
		AdminListen: "127.0.0.1:9103",
		HTTP: HTTPConfig{
			Requests: 64, TenantRequests: 16, HeaderWait: 5 * time.Second, IdleWait: 2 * time.Minute, PageWait: 4 * time.Second, AnswerWait: 10 * time.Minute,
			ReadWait: 10 * time.Second, DrainDelay: 200 * time.Millisecond, DrainWait: 8 * time.Second, HeaderBytes: 64 << 10,
		},
		Limit:      LimitConfig{QueryTime: 30 * time.Second, QueryMemory: 2 << 30},
		Months:     months.DefaultConfig(),
		SignIn:     signin.DefaultConfig(),
		Jobs:       jobs.DefaultConfig(),
		Mail:       mail.DefaultConfig(),
		ClickHouse: warehouse.DefaultConfig(),
		NATS:       control.DefaultConfig(),
		Log:        telemetry.DefaultLogConfig(),
		Trace:      telemetry.DefaultTraceConfig(),
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
	want(c.Listen != "", "listen: must be given")
	want(c.AdminListen != "", "admin_listen: must be given")
	want(c.ClickHouse.DSN != "", "clickhouse.dsn: must be given")
	want(c.CursorKey == "" || len(c.CursorKey) >= 16, "cursor_key: must have at least 16 characters")
	h := c.HTTP
	want(h.Requests > 0, "http.requests: must be positive")
	want(h.TenantRequests > 0, "http.tenant_requests: must be positive")
	want(h.HeaderBytes > 0, "http.header_bytes: must be positive")
	want(h.HeaderWait > 0 && h.IdleWait > 0 && h.PageWait > 0 && h.AnswerWait > 0 && h.ReadWait > 0 && h.DrainWait > 0, "http: waits must be positive")
	want(c.Limit.QueryTime > 0, "limit.query_time: must be positive")
	want(c.Limit.QueryMemory > 0, "limit.query_memory: must be positive")
	want(h.DrainDelay >= 0, "http.drain_delay: must not be negative")
	want(c.ClickHouse.QueryTimeout > 0, "clickhouse.query_timeout: must be positive")
	errs = append(errs, c.Trace.Validate())
	for _, fault := range c.Months.Validate() {
		errs = append(errs, fmt.Errorf("months.%w", fault))
	}
	for _, fault := range c.Jobs.Validate() {
		errs = append(errs, fmt.Errorf("jobs.%w", fault))
	}
	for _, fault := range c.Mail.Validate() {
		errs = append(errs, fmt.Errorf("mail.%w", fault))
	}
	for _, fault := range c.SignIn.Validate() {
		errs = append(errs, fmt.Errorf("sign_in.%w", fault))
	}
	return errors.Join(errs...)
}
