package config_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/telemetry"
)

type bus struct {
	URL      string        `koanf:"url" help:"server"`
	Password string        `koanf:"password" secret:"true" help:"password"`
	Wait     time.Duration `koanf:"wait" help:"time-out"`
}

type settings struct {
	Listen string              `koanf:"listen" help:"address"`
	Body   int                 `koanf:"body_bytes" unit:"bytes" help:"largest body"`
	Types  []string            `koanf:"extra_types" help:"more types"`
	Lossy  bool                `koanf:"allow_lossy" help:"risk it"`
	Ratio  float64             `koanf:"ratio" help:"share"`
	NATS   bus                 `koanf:"nats"`
	Log    telemetry.LogConfig `koanf:"log"`
	Clock  func() time.Time    // not a setting
}

func (s settings) Validate() error {
	var errs []error
	if s.Body <= 0 {
		errs = append(errs, errors.New("body_bytes: must be positive"))
	}
	if s.Listen == "" {
		errs = append(errs, errors.New("listen: must be given"))
	}
	return errors.Join(errs...)
}

func defaults() settings {
	return settings{
		Listen: "127.0.0.1:8080", Body: 5 << 20, Ratio: 0.5,
		NATS: bus{URL: "nats://127.0.0.1:4222", Wait: time.Second},
		Log:  telemetry.DefaultLogConfig(),
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, file string, env map[string]string, args ...string) (settings, error) {
	t.Helper()
	cfg := defaults()
	flags := pflag.NewFlagSet("ingest", pflag.ContinueOnError)
	config.Bind(flags, &cfg)
	if file != "" {
		args = append(args, "--config", write(t, "config.yaml", file))
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	for k, v := range env {
		t.Setenv(k, v)
	}
	err := config.Load(flags, "ingest", &cfg)
	return cfg, err
}

func TestFlagsBeatEnvironmentBeatsFileBeatsDefaults(t *testing.T) {
	file := "nats: {url: nats://shared, wait: 5s}\ningest:\n  listen: file\n  body_bytes: 1MiB\n  nats: {wait: 6s}\nreporter: {listen: other}\n"
	got, err := load(t, file, map[string]string{
		"COUNTINGHOUSE_INGEST__LISTEN":      "env",
		"COUNTINGHOUSE_NATS__PASSWORD_FILE": write(t, "pw", "hush\n"),
		"COUNTINGHOUSE_INGEST__EXTRA_TYPES": "a.b, c.d",
		"COUNTINGHOUSE_TOKEN":               "a client's business",
		"COUNTINGHOUSE_REPORTER__LISTEN":    "another service's business",
	}, "--listen", "flag", "--nats", "nats://flag", "--allow-lossy", "--ratio", "0.8")
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Listen, want.Body, want.Lossy, want.Ratio = "flag", 1<<20, true, 0.8
	want.Types = []string{"a.b", "c.d"}
	want.NATS = bus{URL: "nats://flag", Password: "hush", Wait: 6 * time.Second}
	if got.Listen != want.Listen || got.Body != want.Body || got.NATS != want.NATS || !got.Lossy ||
		got.Ratio != want.Ratio || strings.Join(got.Types, " ") != "a.b c.d" {
		t.Errorf("Load = %+v, want %+v", got, want)
	}
}

func TestEveryFaultIsNamedAtOnce(t *testing.T) {
	file := "ingest:\n  lisen: typo\n  body_bytes: lots\n  nats: {wait: soon, wait: 1s}\nbilling: {}\nlisten: here\n"
	_, err := load(t, file, map[string]string{
		"COUNTINGHOUSE_INGEST__NOPE":                "1",
		"COUNTINGHOUSE_INGEST_LISTEN":               "x",
		"COUNTINGHOUSE_INGEST__NATS__PASSWORD_FILE": "/does/not/exist",
	}, "--ratio", "half", "--listen", "")
	var faults *config.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("Load = %v, want *Faults", err)
	}
	for _, want := range []string{
		":2 lisen: unknown", ":3 body_bytes: \"lots\": want a size", ":4 nats.wait: given twice", ":5 billing: unknown section",
		":6 listen: unknown section; it is a setting of ingest: write it below \"ingest:\"",
		"COUNTINGHOUSE_INGEST__NOPE: unknown", "COUNTINGHOUSE_INGEST_LISTEN: unknown; sections are separated",
		"COUNTINGHOUSE_INGEST__NATS__PASSWORD_FILE: read secret", `flag --ratio: "half": want a number`, "listen: must be given",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("fault %q is missing from: %v", want, err)
		}
	}
	if config.ExitCode(err) != 78 {
		t.Errorf("exit code %d, want 78", config.ExitCode(err))
	}
}

func TestValidateSeesTheResult(t *testing.T) {
	_, err := load(t, "", nil, "--listen", "", "--body-bytes", "0", "--nats-url", "nats://alias")
	for _, want := range []string{"listen: must be given", "body_bytes: must be positive"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load = %v, want %q in it", err, want)
		}
	}
	_, err = load(t, "", nil, "--log-level", "loud")
	if err == nil || !strings.Contains(err.Error(), "ingest.log: level") {
		t.Errorf("Load = %v, want the log level named", err)
	}
}

func TestPrintHidesSecretsAndReadsBack(t *testing.T) {
	cfg := defaults()
	cfg.NATS.URL = "nats://user:pass@one:4222,nats://two:4222"
	cfg.NATS.Password = "hush"
	cfg.Types = []string{"a.b", "c.d"}
	var redacted, full bytes.Buffer
	if err := errors.Join(config.Print(&redacted, "ingest", cfg, true), config.Print(&full, "ingest", cfg, false)); err != nil {
		t.Fatal(err)
	}
	if s := redacted.String(); strings.Contains(s, "hush") || strings.Contains(s, ":pass@") || !strings.Contains(s, "***") {
		t.Errorf("redacted print shows a secret or hides nothing:\n%s", s)
	}
	got, err := load(t, full.String(), nil)
	if err != nil {
		t.Fatalf("the printed file does not load: %v\n%s", err, full.String())
	}
	if got.NATS != cfg.NATS || got.Body != cfg.Body || strings.Join(got.Types, ",") != "a.b,c.d" {
		t.Errorf("read back %+v, want %+v", got, cfg)
	}
}

func TestReferenceNamesEveryPlace(t *testing.T) {
	for _, f := range config.Reference(defaults()) {
		if f.Key == "nats.url" {
			if f.Flag != "nats" || f.Env("ingest") != "COUNTINGHOUSE_INGEST__NATS__URL" || f.Default != "nats://127.0.0.1:4222" {
				t.Errorf("reference of nats.url: %+v", f)
			}
			return
		}
	}
	t.Error("nats.url is not in the reference")
}

type app struct{ closed chan struct{} }

func (a app) Wait() error                 { <-a.closed; return nil }
func (a app) Close(context.Context) error { close(a.closed); return nil }

func TestServiceStopsWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cmd := config.Service("ingest", "front door", defaults(), func(_ context.Context, c settings, _ *zap.Logger) (app, error) {
		if c.Listen != "here" {
			return app{}, errors.New("flags did not arrive")
		}
		cancel()
		return app{make(chan struct{})}, nil
	})
	cmd.SetArgs([]string{"--listen", "here", "--log-level", "error"})
	var stderr bytes.Buffer
	if code := config.Run(ctx, cmd, &stderr); code != 0 {
		t.Errorf("exit %d: %s", code, &stderr)
	}
	cmd.SetArgs([]string{"--body-bytes", "much"})
	if code := config.Run(t.Context(), cmd, &stderr); code != 78 || !strings.Contains(stderr.String(), "--body-bytes") {
		t.Errorf("exit %d, want 78 naming the flag: %s", code, &stderr)
	}
	cmd.SetArgs([]string{"surplus"})
	if code := config.Run(t.Context(), cmd, &stderr); code != 64 {
		t.Errorf("exit %d, want 64", code)
	}
}
