package aggregator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// What is lost below the watermark, a damaged part that ClickHouse has put aside, cannot heal by itself
// (I16): the tables are compared with each other whenever a session of partition 0
// begins, and hourly. A difference is an alarm, a metric and a degraded /readyz; nothing is repaired.
const reconcileEvery = time.Hour

// reconcile compares until ctx ends. It runs beside the session and never stops it.
func (p *partition) reconcile(ctx context.Context) {
	auditor := audit.New(p.log, p.servers.Reader(), p.zap)
	defer auditor.Close()
	// It reads every event, and begins when people begin to look as well: with all processors it doubles what the first pages take.
	polite := warehouse.Bounded(ctx, warehouse.Bounds{Threads: 1})
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		off, err := auditor.Light(polite)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			p.zap.Warn("tables not compared", zap.Error(err))
		default:
			p.differs(off)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// differs publishes the result of a comparison: events that cannot be accounted for, by tenant.
func (p *partition) differs(off map[string]uint64) {
	p.metrics.Reconciled.SetToCurrentTime()
	p.metrics.Difference.Reset()
	var named []string
	for _, tenant := range slices.Sorted(maps.Keys(off)) {
		p.metrics.Difference.WithLabelValues(tenant).Set(float64(off[tenant]))
		if off[tenant] > 0 {
			named = append(named, fmt.Sprintf("%s: %d", tenant, off[tenant]))
		}
	}
	if len(named) == 0 {
		p.difference.Store(nil)
		return
	}
	text := "tables disagree, run countinghouse audit: " + strings.Join(named, ", ")
	p.difference.Store(&text)
	p.zap.Error("the tables do not agree; no month may close until they do; see the runbook: reconcile-difference", zap.Strings("events_off", named))
}
