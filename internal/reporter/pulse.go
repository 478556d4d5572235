package reporter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// pingEvery is how often the warehouse is asked for a sign of life, for /readyz and for those who would wait for it.
const pingEvery = time.Second

// pulse is whether the warehouse gives signs of life. A server that stands still takes every question and answers none:
// whoever asks would wait until the limit of a statement, which is long, because large questions take long. So what a
// person waits for ends when the signs of life do, and begins only where there are any; what is asked of a warehouse that
// lives may still take its time.
type pulse struct {
	patience time.Duration // without a sign of life

	mu     sync.Mutex
	asked  bool
	err    error     // of the last question
	failed int       // questions in a row
	alive  time.Time // when the last sign of life was asked for
	silent context.Context
	fall   context.CancelCauseFunc // silent
}

// newPulse begins with a sign of life; ctx bounds nothing: silence ends with the service.
func newPulse(ctx context.Context, patience time.Duration) *pulse {
	p := &pulse{patience: patience, alive: time.Now()}
	p.silent, p.fall = context.WithCancelCause(context.WithoutCancel(ctx))
	return p
}

// watch asks again and again until ctx ends; ping has a connection of its own: it does not queue behind large questions.
func (p *pulse) watch(ctx context.Context, ping func(context.Context) error) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		began := time.Now()
		one, cancel := context.WithTimeout(ctx, min(2*time.Second, p.patience/2))
		err := ping(one)
		cancel()
		p.beat(ctx, began, err)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// beat notes an answer. One that does not come may be a moment's business of the whole machine: silence is at least two of
// them, and no sign of life for as long as the patience is.
func (p *pulse) beat(ctx context.Context, began time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked, p.err = true, err
	if err != nil {
		p.failed++
		if p.failed > 1 && time.Since(p.alive) >= p.patience {
			p.fall(fmt.Errorf("%w: %w", warehouse.ErrSilent, err))
		}
		return
	}
	p.failed, p.alive = 0, began
	if p.silent.Err() != nil {
		p.silent, p.fall = context.WithCancelCause(context.WithoutCancel(ctx))
	}
}

// ready is for /readyz.
func (p *pulse) ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked {
		return errors.New("not asked yet")
	}
	return p.err
}

// attentive is a context in which reads end with the signs of life: at once where there are none.
func (p *pulse) attentive(ctx context.Context) context.Context {
	if p == nil {
		return ctx
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return warehouse.Attentive(ctx, p.silent)
}
