package aggregator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
)

// ownership is what this aggregator holds right now. Leases are for liveness only: two aggregators that
// both believe in theirs do no harm, because the warehouse fences one of them off.
type ownership struct {
	*App
	leases *control.Leases
	fatal  chan error

	mu   sync.Mutex
	held map[int]*holding
	lost map[int]time.Time // when a lease was lost: two that think alike must not fight at full speed
}

// holding is one partition being moved.
type holding struct {
	lease   control.Lease
	renewed time.Time
	cancel  context.CancelFunc
	done    chan struct{}
}

// own takes and gives back partitions until ctx ends or an invariant breaks.
func (a *App) own(ctx context.Context) error {
	leases, err := a.store.Leases(ctx, a.cfg.Name, a.cfg.LeaseTTL)
	if err != nil {
		return fmt.Errorf("aggregator: %w", err)
	}
	defer leases.Close()
	for _, p := range a.partitions {
		p.place = leases.Place
	}
	o := &ownership{App: a, leases: leases, fatal: make(chan error, len(a.partitions)), held: map[int]*holding{}, lost: map[int]time.Time{}}
	defer o.leave(ctx)
	tick := time.NewTicker(a.cfg.LeaseTTL / 5)
	defer tick.Stop()
	o.beat(ctx)
	for {
		o.turn(ctx)
		select {
		case <-ctx.Done():
			return nil
		case err := <-o.fatal:
			return err
		case <-leases.Changed():
		case <-tick.C:
			o.beat(ctx)
		}
	}
}

// beat tells the other aggregators that this one lives.
func (o *ownership) beat(ctx context.Context) {
	if err := o.leases.Beat(ctx); err != nil {
		o.zap.Debug("not announced", zap.Error(err))
	}
}

// turn renews what is held, takes what is this member's share and free, gives back what is not.
func (o *ownership) turn(ctx context.Context) {
	mine := control.Share(o.leases.Members(), len(o.partitions), o.cfg.Name)
	for p := range o.partitions {
		h := o.holding(p)
		switch wanted := slices.Contains(mine, p); {
		case h != nil && o.ended(h):
			o.lost[p] = time.Now() // fenced: somebody else moves it
			o.drop(ctx, p, h)
		case h != nil && !wanted:
			o.zap.Info("another aggregator has joined; giving a partition back", zap.Int("partition", p))
			o.drop(ctx, p, h)
		case h != nil:
			o.renew(ctx, p, h)
		case wanted && time.Since(o.lost[p]) > o.cfg.LeaseTTL:
			o.acquire(ctx, p)
		}
	}
}

func (o *ownership) holding(p int) *holding {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.held[p]
}

func (o *ownership) ended(h *holding) bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

// renew extends a lease; one that is lost, or not renewed in time, ends its sessions at once.
func (o *ownership) renew(ctx context.Context, p int, h *holding) {
	if time.Since(h.renewed) < o.cfg.LeaseTTL/6 {
		return
	}
	h.renewed = time.Now()
	lease, err := o.leases.Renew(ctx, h.lease)
	switch {
	case err == nil:
		h.lease = lease
	case errors.Is(err, control.ErrLost), !o.leases.Valid(h.lease):
		o.zap.Warn("lease lost; another aggregator goes on", zap.Int("partition", p), zap.Error(err))
		o.lost[p] = time.Now()
		o.stop(p, h)
	}
}

// acquire takes a free partition and starts moving it.
func (o *ownership) acquire(ctx context.Context, p int) {
	lease, err := o.leases.Acquire(ctx, p)
	if err != nil {
		o.zap.Debug("partition not taken", zap.Int("partition", p), zap.Error(err))
		return
	}
	running, cancel := context.WithCancel(ctx)
	h := &holding{lease: lease, renewed: time.Now(), cancel: cancel, done: make(chan struct{})}
	o.mu.Lock()
	o.held[p] = h
	o.mu.Unlock()
	go func() {
		defer close(h.done)
		if err := o.partitions[p].own(running, lease.Revision); err != nil {
			o.fatal <- err
		}
	}()
}

// stop ends the sessions of a partition and waits for them.
func (o *ownership) stop(p int, h *holding) {
	h.cancel()
	<-h.done
	o.mu.Lock()
	delete(o.held, p)
	o.mu.Unlock()
}

// drop stops and gives the lease back, so that the next one need not wait.
func (o *ownership) drop(ctx context.Context, p int, h *holding) {
	o.stop(p, h)
	if err := o.leases.Release(ctx, h.lease); err != nil && !errors.Is(err, control.ErrLost) {
		o.zap.Debug("lease not given back; it ends by itself", zap.Int("partition", p), zap.Error(err))
	}
}

// leaveWait bounds giving everything back at the end.
const leaveWait = 3 * time.Second

func (o *ownership) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
	defer cancel()
	for p := range o.partitions {
		if h := o.holding(p); h != nil {
			o.drop(ctx, p, h)
		}
	}
	if err := o.leases.Leave(ctx); err != nil {
		o.zap.Debug("not signed off", zap.Error(err))
	}
}
