package aggregator

import (
	"errors"
	"fmt"
	"time"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Config is everything an aggregator can be told. The zero value of a field means its default.
type Config struct {
	Name        string           `koanf:"name" help:"name of this aggregator among others: the same after a restart; default is the host's name"`
	Dir         string           `koanf:"dir" help:"directory for the seen-filters, a cache, rebuilt when lost; and for what a session remembers, at most 1 GiB a partition, freed when it ends"`
	AdminListen string           `koanf:"admin_listen" help:"address of /livez, /readyz, /metrics and /version"`
	NATS        eventlog.Config  `koanf:"nats"`
	ClickHouse  warehouse.Config `koanf:"clickhouse"`

	BatchRows     int           `koanf:"batch_rows" help:"events at which a batch is inserted without waiting"`
	FlushWait     time.Duration `koanf:"flush_wait" help:"how long the first event of a batch waits for company"`
	InFlightBytes int64         `koanf:"in_flight_bytes" unit:"bytes" help:"bytes of the log on their way to the warehouse, at most"`
	LeaseTTL      time.Duration `koanf:"lease_ttl" help:"how long a partition waits for an aggregator that went silent"`

	Log   telemetry.LogConfig   `koanf:"log"`
	Trace telemetry.TraceConfig `koanf:"trace"`
}

const (
	// 180,000 rows of 300 bytes are one 54 MB block: so large it becomes only when the warehouse is behind. 250,000
	// would cost it less again, and 60 MiB of memory (ADR 0015).
	batchRows = 180_000
	// Half of the second that freshness is promised in: the other half is for the insert.
	flushWait = 250 * time.Millisecond
	// Of the log, at about 100 bytes an event with its identity: a batch being gathered and one being inserted.
	inFlightBytes = 32 << 20
	leaseTTL      = 5 * time.Second
)

// DefaultConfig is an aggregator on the machine that runs everything.
func DefaultConfig() Config {
	return Config{
		Dir: "aggregator", AdminListen: "127.0.0.1:9102", NATS: eventlog.DefaultConfig(),
		ClickHouse: warehouse.DefaultConfig(),
		BatchRows:  batchRows, FlushWait: flushWait, InFlightBytes: inFlightBytes, LeaseTTL: leaseTTL,
		Log: telemetry.DefaultLogConfig(), Trace: telemetry.DefaultTraceConfig(),
	}
}

// Validate lists everything that is wrong with c, each with the key to change.
func (c Config) Validate() []error {
	faults := c.NATS.Validate()
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	faults = append(faults, c.ClickHouse.Validate()...)
	bad(c.BatchRows < 1 || c.BatchRows > 1_000_000, "batch_rows: %d, want 1 to 1000000", c.BatchRows)
	bad(c.FlushWait <= 0 || c.FlushWait > time.Minute, "flush_wait: %s, want more than 0 and at most 1m", c.FlushWait)
	bad(c.InFlightBytes < 1<<20, "in_flight_bytes: %d, want at least 1 MiB", c.InFlightBytes)
	bad(c.LeaseTTL < time.Second, "lease_ttl: %s, want at least 1s", c.LeaseTTL)
	if err := c.Trace.Validate(); err != nil {
		faults = append(faults, err)
	}
	if c.Dir == "" {
		faults = append(faults, errors.New("dir: missing"))
	}
	return faults
}
