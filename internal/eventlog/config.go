package eventlog

import (
	"fmt"
	"os"
	"time"

	"github.com/countinghouse/countinghouse/internal/tlsfile"
)

// Config says where the log is and how it is made. The zero value of a field means its default.
type Config struct {
	URL      string `koanf:"url" help:"NATS servers, comma separated; user and password may be part of it"`
	Creds    string `koanf:"creds" help:"NATS credentials file; read again at each reconnect"`
	User     string `koanf:"user" help:"NATS user, if not part of the URL"`
	Password string `koanf:"password" secret:"true" help:"NATS password, if not part of the URL"`
	TLSCA    string `koanf:"tls_ca" help:"file of certificate authorities for NATS; read again at each reconnect"`
	TLSCert  string `koanf:"tls_cert" help:"client certificate file for NATS; read again at each reconnect"`
	TLSKey   string `koanf:"tls_key" help:"key file of the client certificate"`
	Name     string `koanf:"-"` // connection name, shown by the NATS server

	MonitorURLs []string `koanf:"monitor_urls" help:"HTTP monitoring of the NATS servers (http://host:8222), all of them: says whether they fsync before they acknowledge"`

	Partitions  int   `koanf:"partitions" help:"partitions of the log; fixed when the log is made"`
	Replicas    int   `koanf:"replicas" help:"copies of the log on different NATS servers: 1, 3 or 5"`
	MaxBytes    int64 `koanf:"max_bytes" unit:"bytes" help:"size at which a partition refuses new events; 0 leaves an existing log as it is"`
	Compression bool  `koanf:"compression" help:"let NATS compress the log (S2); set when the log is made"`

	PublishTimeout time.Duration `koanf:"publish_timeout" help:"how long an append may take, retries included"`
	InFlight       int           `koanf:"in_flight" help:"appends that may wait for their acknowledgement at once"`
	InFlightBytes  int64         `koanf:"in_flight_bytes" unit:"bytes" help:"bytes of those appends"`
}

// DefaultConfig is a log of one partition on this machine.
func DefaultConfig() Config {
	return Config{URL: "nats://127.0.0.1:4222"}.withDefaults()
}

const (
	partitionsMax = 1024 // the low ten bits of a shard number
	// 64 appends hide an fsync of 10 ms at 6,400 chunks a second; 16 MiB is 64 full chunks.
	inFlightDefault      = 64
	inFlightBytesDefault = 16 << 20
	publishTimeout       = 5 * time.Second
)

func (c Config) withDefaults() Config {
	set(&c.URL, "nats://127.0.0.1:4222")
	set(&c.Partitions, 1)
	set(&c.Replicas, 1)
	set(&c.PublishTimeout, publishTimeout)
	set(&c.InFlight, inFlightDefault)
	set(&c.InFlightBytes, inFlightBytesDefault)
	return c
}

func set[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}

// readable checks a file that is read again whenever it is needed.
func readable(setting, file string) error {
	if file == "" {
		return nil
	}
	if _, err := os.ReadFile(file); err != nil {
		return fmt.Errorf("%s: %w", setting, err)
	}
	return nil
}

// Validate lists everything that is wrong with c, each with the key to change.
func (c Config) Validate() []error {
	c = c.withDefaults()
	var faults []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	bad(c.Partitions < 1 || c.Partitions > partitionsMax, "partitions: %d, want 1 to %d", c.Partitions, partitionsMax)
	bad(c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5, "replicas: %d, want 1, 3 or 5", c.Replicas)
	bad(c.MaxBytes < 0, "max_bytes: %d is negative", c.MaxBytes)
	bad(c.MaxBytes > 0 && c.MaxBytes < ChunkBytesMax, "max_bytes: %d is less than one chunk", c.MaxBytes)
	bad(c.PublishTimeout < 0, "publish_timeout: %s is negative", c.PublishTimeout)
	bad(c.InFlight < 0 || c.InFlightBytes < 0, "in_flight, in_flight_bytes: must not be negative")
	now := time.Now()
	for _, err := range []error{tlsfile.Pair("tls_", c.TLSCert, c.TLSKey, now), tlsfile.Authorities("tls_", c.TLSCA, now), readable("creds", c.Creds)} {
		if err != nil {
			faults = append(faults, err)
		}
	}
	bad(c.Creds != "" && c.User != "", "creds, user: one of the two")
	return faults
}
