package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/telemetry"
)

const (
	checkAgain = 500 * time.Millisecond // after a check that failed
	checkMost  = 10 * time.Second       // for one check
)

var (
	errUnconnected = errors.New("not connected to NATS")
	errUnchecked   = errors.New("connected; the log is being checked")
	errKeys        = errors.New("the API keys are not loaded yet")
	// errUnsafe: the log acknowledges what a power cut would lose.
	errUnsafe = errors.New("the log does not write to disk before it acknowledges")
)

// watch knows whether the log can be used: connected, its streams made, and a receipt worth something.
// Each connection is checked anew, because another server may have answered.
type watch struct {
	log    *eventlog.Log
	lossy  bool
	logger *zap.Logger

	state  atomic.Pointer[state]
	again  chan struct{}
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

type state struct{ fault, warning error }

func startWatch(ctx context.Context, log *eventlog.Log, lossy bool, logger *zap.Logger) *watch {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &watch{log: log, lossy: lossy, logger: logger, again: make(chan struct{}, 1), cancel: cancel}
	w.state.Store(&state{fault: errUnchecked})
	remove := log.Conn().OnConnect(func() {
		w.state.Store(&state{fault: errUnchecked})
		w.poke()
	})
	w.poke()
	w.ended.Add(1)
	go func() {
		defer w.ended.Done()
		defer remove()
		w.run(ctx)
	}()
	return w
}

// watchLoss answers what the log is known to have lost of what it confirmed to this process.
func watchLoss(log *eventlog.Log, metrics *telemetry.Ingest) func() error {
	var lost atomic.Pointer[string]
	log.OnLost(func(partition int, gap eventlog.Gap) {
		text := fmt.Sprintf("partition %d of the log has lost the sequences %d to %d, which it had confirmed", partition, gap.From, gap.To)
		lost.Store(&text)
		metrics.LogLost.Add(float64(gap.To - gap.From + 1))
	})
	return func() error {
		if text := lost.Load(); text != nil {
			return errors.New(*text)
		}
		return nil
	}
}

func (w *watch) poke() {
	select {
	case w.again <- struct{}{}:
	default: // a check is due already
	}
}

func (w *watch) stop() {
	w.cancel()
	w.ended.Wait()
}

// usable is nil while events can be taken.
func (w *watch) usable() error {
	if !w.log.Conn().Connected() {
		return errUnconnected
	}
	return w.state.Load().fault
}

// warning is not nil while the log is used although it may lose acknowledged events.
func (w *watch) warning() error { return w.state.Load().warning }

func (w *watch) run(ctx context.Context) {
	timer := time.NewTimer(checkAgain)
	defer timer.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.again:
		case <-timer.C:
			if w.state.Load().fault == nil {
				continue // until the next connection
			}
		}
		if w.log.Conn().Connected() {
			before := w.state.Load()
			found := w.check(ctx)
			if !w.state.CompareAndSwap(before, &found) {
				w.poke() // reconnected meanwhile: what was found belongs to the old connection
			}
			told = w.tell(found, told)
		}
		timer.Reset(checkAgain)
	}
}

func (w *watch) check(ctx context.Context) state {
	ctx, cancel := context.WithTimeout(ctx, checkMost)
	defer cancel()
	if err := w.log.EnsureStreams(ctx); err != nil {
		return state{fault: err}
	}
	if err := w.log.CheckReceipts(ctx); err != nil {
		return state{fault: err}
	}
	d, err := w.log.Durability(ctx)
	switch {
	case err != nil:
		return state{fault: err}
	case d.Safe():
		return state{}
	case w.lossy:
		return state{warning: fmt.Errorf("%w: %s; allowed by allow_lossy", errUnsafe, d)}
	}
	return state{fault: fmt.Errorf("%w: %s; set sync_interval: always on the NATS servers and nats.monitor_urls here, or allow_lossy", errUnsafe, d)}
}

// tell logs a state once.
func (w *watch) tell(s state, told string) string {
	switch {
	case s.fault != nil:
		if text := s.fault.Error(); text != told {
			w.logger.Error("the log cannot be used", zap.Error(s.fault))
			return text
		}
		return told
	case s.warning != nil:
		w.logger.Warn("acknowledged events can be lost in a power cut", zap.Error(s.warning))
	default:
		w.logger.Info("the log is ready")
	}
	return ""
}
