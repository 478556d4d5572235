package aggregator

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// ErrOusted says that somebody else writes the tables that a Replay writes.
var ErrOusted = errors.New("somebody else has taken the tables over")

// Place answers which server a partition of the log that has no owner yet is given to.
type Place = func(ctx context.Context, partition int, server string) (string, error)

// Replay counts the log into tables beside those of the aggregators, by the same sessions as theirs: from
// wherever the ledger there ends, and on as the log grows, until Close. It takes no leases: nobody else is meant to
// write these tables, and if two do, the fence parts them.
type Replay struct {
	partitions []*partition
	cancel     context.CancelFunc
	running    sync.WaitGroup
	ended      chan struct{} // closed at the first partition's end
	once       sync.Once
	err        error
}

// StartReplay begins. cfg.Dir takes the filters; cfg.NATS and cfg.ClickHouse are not used. It outlives ctx.
func StartReplay(ctx context.Context, cfg Config, log *eventlog.Log, servers *warehouse.Servers, place Place, logger *zap.Logger) *Replay {
	metrics := telemetry.NewAggregator(prometheus.NewRegistry()) // nobody asks for them
	r := &Replay{ended: make(chan struct{})}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	for id := range log.Partitions() {
		p := &partition{
			id: uint16(id), cfg: cfg, log: log, servers: servers, place: place, metrics: metrics, zap: logger.With(zap.Int("partition", id)),
		}
		r.partitions = append(r.partitions, p)
		r.running.Go(func() {
			err := p.own(running, 0)
			if err == nil && running.Err() == nil {
				err = fmt.Errorf("partition %d: %w", p.id, ErrOusted)
			}
			if err != nil {
				r.once.Do(func() { r.err = err; close(r.ended) })
			}
		})
	}
	return r
}

// Ended is closed when a partition cannot go on; Close says why.
func (r *Replay) Ended() <-chan struct{} { return r.ended }

// Counted is the highest sequence counted of each partition.
func (r *Replay) Counted() []uint64 {
	all := make([]uint64, len(r.partitions))
	for i, p := range r.partitions {
		all[i] = p.progress.Load()
	}
	return all
}

// Trouble is what keeps a partition from moving at the moment, "" if nothing does.
func (r *Replay) Trouble() string {
	for _, p := range r.partitions {
		if e := p.lastError.Load(); e != nil {
			return fmt.Sprintf("partition %d: %s", p.id, *e)
		}
	}
	return ""
}

// Close stops behind the insert in flight and answers why a partition could not go on, if one could not.
func (r *Replay) Close() error {
	r.cancel()
	r.running.Wait()
	r.once.Do(func() {})
	return r.err
}
