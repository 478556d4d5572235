// Package telemetry is what a service says about itself: its log lines, its metrics and whether it is
// ready.
//
// Guarantee: metric names and labels are those of docs/reference/metrics.md and live here only, so that two
// services cannot spell one differently; no metric carries a tenant label except the two that the
// contract names. /livez touches no dependency, ever: a server that waits for its database is alive.
package telemetry

import (
	"fmt"
	"os"
	"runtime/debug"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// LogConfig is the `log` section every service has.
type LogConfig struct {
	// Level is the least severe level written.
	Level string `koanf:"level" help:"least severe level to log: debug, info, warn, error"`
	// Format is json, console, or auto: console on a terminal, json elsewhere.
	Format string `koanf:"format" help:"json, console, or auto (console on a terminal)"`
}

// DefaultLogConfig logs info and worse, readable on a terminal and as JSON elsewhere.
func DefaultLogConfig() LogConfig { return LogConfig{Level: "info", Format: "auto"} }

// Validate names a level or format that does not exist.
func (c LogConfig) Validate() error {
	if _, err := zapcore.ParseLevel(c.Level); err != nil {
		return fmt.Errorf("level %q: want debug, info, warn or error", c.Level)
	}
	switch c.Format {
	case "json", "console", "auto", "":
		return nil
	}
	return fmt.Errorf("format %q: want json, console or auto", c.Format)
}

// NewLogger writes to stderr. An empty level means info, an empty format auto.
func NewLogger(level, format string) (*zap.Logger, error) {
	if level == "" {
		level = "info"
	}
	at, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	if format == "auto" || format == "" {
		format = "json"
		if terminal(os.Stderr) {
			format = "console"
		}
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	var encoder zapcore.Encoder
	switch format {
	case "json":
		encoder = zapcore.NewJSONEncoder(enc)
	case "console":
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(enc)
	default:
		return nil, fmt.Errorf("log format %q: want json, console or auto", format)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), at)), nil
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Version is what the binary was built from.
type Version struct {
	Service  string `json:"service"`
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
}

// BuildVersion reads the version the Go tool stamped into the binary.
func BuildVersion(service string) Version {
	v := Version{Service: service, Version: "devel"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Go = info.GoVersion
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
