package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/stack"
)

func (t *tool) up() *cobra.Command {
	cfg := stack.Config{Ports: stack.DefaultPorts()}
	var withDemo bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the whole stack on this machine, in the foreground",
		Long: `Runs NATS, ClickHouse, ingest, aggregator and reporter on this machine, on loopback, each as a process
of its own; one that dies is started again within a second. Ctrl-C or SIGTERM stops all of it.

Everything is kept in --dir: the same directory brought up again continues where it was. URLs, pids and
the admin key are in endpoints.json there, logs in logs/. With --demo sample data is sent in, once, and an
operator is made to sign in with.

If no clickhouse is on PATH its engine is fetched once with npm (178 MB, checksummed, cached).`,
		Example: `  countinghouse up --demo
  countinghouse up --dir /srv/countinghouse --ingest-port 9080
  countinghouse up --ephemeral --dir "$(mktemp -d)"   # free ports, for tests`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, p := range cfg.Ports.List() {
				switch given := cmd.Flags().Changed(p.Flag); {
				case given && cfg.Ephemeral:
					return usageError("--ephemeral chooses every port: leave out --%s", p.Flag)
				case *p.Value < 1 || *p.Value > 65535:
					return usageError("--%s %d is no port: want 1 to 65535", p.Flag, *p.Value)
				}
			}
			cfg.Dir, cfg.Operator = t.where.dir, withDemo
			return t.runUp(cmd.Context(), cfg, withDemo)
		},
	}
	t.dirFlag(cmd)
	cmd.Flags().Lookup("dir").Usage = "directory for all data"
	cmd.Flags().BoolVar(&withDemo, "demo", false, "send sample data: a company group and half a year of its usage")
	cmd.Flags().BoolVar(&cfg.Ephemeral, "ephemeral", false, "use free ports instead of the usual ones")
	cmd.Flags().StringVar(&cfg.Programs, "programs", "", "run ingest, aggregator and reporter of this directory instead of the ones in this program")
	for _, p := range cfg.Ports.List() {
		cmd.Flags().IntVar(p.Value, p.Flag, *p.Value, p.Help)
	}
	return cmd
}

func (t *tool) runUp(ctx context.Context, cfg stack.Config, withDemo bool) error {
	log, closeLog, err := upLog(cfg.Dir)
	if err != nil {
		return err
	}
	defer closeLog()
	screen := newUpScreen(t.out)
	cfg.Observe = screen.event
	begun := time.Now()
	s, err := stack.Start(ctx, cfg, log)
	if err != nil {
		screen.end()
		if ctx.Err() != nil {
			return &config.ExitError{Code: config.ExitNo, Err: errors.New("stopped while it was starting")}
		}
		return startError(err)
	}
	var closes func()
	if withDemo {
		if closes, err = t.sendDemo(ctx, s.Endpoints(), cfg.Dir, screen); err != nil && ctx.Err() == nil {
			return errors.Join(err, s.Stop())
		}
	}
	screen.ready(s.Endpoints(), cfg.Dir, time.Since(begun))
	if closes != nil {
		closes()
	}
	<-ctx.Done()
	screen.say("stopping …")
	if err := s.Stop(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	screen.say("stopped; `countinghouse up` continues from here")
	return nil
}

// startError gives a start that failed the exit code of its reason.
func startError(err error) error {
	var inUse *stack.InUseError
	if errors.As(err, &inUse) {
		return &config.ExitError{Code: config.ExitUnreachable, Err: inUse}
	}
	return &config.ExitError{Code: config.ExitUnreachable, Err: fmt.Errorf("up: %w", err)}
}

// upLog is the log of `up` itself; those of the parts are beside it.
func upLog(dir string) (*zap.Logger, func(), error) {
	logs := filepath.Join(dir, "logs")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return nil, nil, usageError("--dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(logs, "up.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, usageError("--dir: %w", err)
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.AddSync(f), zapcore.InfoLevel))
	return log, func() { _ = f.Close() }, nil
}
