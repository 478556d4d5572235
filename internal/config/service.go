package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"reflect"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/telemetry"
)

// Exit codes of every program.
const (
	ExitOK          = 0
	ExitNo          = 1
	ExitUsage       = 64
	ExitUnreachable = 69
	ExitConfig      = 78
)

// ExitError carries the exit code a main must end with.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// ExitCode is the code for err: 0 for nil, 78 for *Faults, an ExitError's own, else 1.
func ExitCode(err error) int {
	var exit *ExitError
	var faults *Faults
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &faults):
		return ExitConfig
	}
	return ExitNo
}

// App is a running service.
type App interface {
	Wait() error                     // until it ends by itself or by Close
	Close(ctx context.Context) error // drain and stop; ctx bounds the drain
}

// CloseWait bounds a graceful stop.
const CloseWait = 9 * time.Second

// Service is the command of a service: flags, file and environment → T, logger, start, wait; SIGTERM
// and SIGINT drain it. A second signal ends the process at once.
func Service[T any, A App](name, short string, def T, start func(context.Context, T, *zap.Logger) (A, error)) *cobra.Command {
	cfg := def
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.NoArgs(cmd, args); err != nil {
				return &ExitError{ExitUsage, err}
			}
			return nil
		},
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	Bind(cmd.Flags(), &cfg)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &ExitError{ExitUsage, fmt.Errorf("%w; see %s --help", err, name)}
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := Load(cmd.Flags(), name, &cfg); err != nil {
			return err
		}
		lc := logConfig(cfg)
		log, err := telemetry.NewLogger(lc.Level, lc.Format)
		if err != nil {
			return &ExitError{ExitConfig, err}
		}
		defer func() { _ = log.Sync() }() // stderr cannot be synced on every system
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		return run(ctx, stop, cfg, log.With(zap.String("service", name)), start)
	}
	return cmd
}

func run[T any, A App](ctx context.Context, stop func(), cfg T, log *zap.Logger, start func(context.Context, T, *zap.Logger) (A, error)) error {
	app, err := start(ctx, cfg, log)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- app.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stop() // the next signal kills
	log.Info("stopping")
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), CloseWait)
	defer cancel()
	err = app.Close(closing)
	log.Info("stopped", zap.Error(err))
	return errors.Join(err, <-ended)
}

// logConfig finds the log section of a Config.
func logConfig(cfg any) telemetry.LogConfig {
	v := reflect.ValueOf(cfg)
	for i := range v.NumField() {
		if v.Type().Field(i).IsExported() {
			if lc, ok := v.Field(i).Interface().(telemetry.LogConfig); ok {
				return lc
			}
		}
	}
	return telemetry.DefaultLogConfig()
}

// Run executes cmd for a main and returns the exit code; an error is told on stderr, one line a fault.
func Run(ctx context.Context, cmd *cobra.Command, stderr io.Writer) int {
	err := cmd.ExecuteContext(ctx)
	var faults *Faults
	switch {
	case err == nil:
	case errors.As(err, &faults):
		for _, f := range faults.List {
			fmt.Fprintf(stderr, "%s: bad configuration: %s: %s\n", cmd.Name(), f.Where, f.Detail)
		}
	default:
		fmt.Fprintf(stderr, "%s: %v\n", cmd.Name(), err)
	}
	return ExitCode(err)
}
