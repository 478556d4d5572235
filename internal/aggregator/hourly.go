package aggregator

import (
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// hourlyKey is a cell of usage_hourly: the event's own fields only.
type hourlyKey struct {
	tenant, account, meter string
	hour                   int64 // Unix seconds
	region, platform, plan string
	trial                  bool
}

// hourlyCell is what a run of rows adds to a cell.
type hourlyCell struct {
	hi              uint64
	quantity        usage.Quantity // signed
	events          int64          // signed
	voids, rows     uint64
	low, high       usage.Quantity
	firstAt, lastAt int64 // Unix ms
}

// hourly builds rollup partials from the same rows as events and pieces.
type hourly struct {
	index map[hourlyKey]int32
	keys  []hourlyKey
	cells []hourlyCell
}

func newHourly() *hourly { return &hourly{index: make(map[hourlyKey]int32)} }

func (h *hourly) reset() {
	clear(h.index)
	h.keys = h.keys[:0]
	h.cells = h.cells[:0]
}

// add counts a row: at its time, or piece by piece where it was cut, as far as keep lets it through.
func (h *hourly) add(r *eventRow, k keeper) {
	if r.meter == "" {
		return
	}
	if len(r.pieces) < 2 {
		if k.keep(partitionOf(warehouse.Hourly, r.at), r.pos.Seq) {
			trial := len(r.pieces) == 1 && r.pieces[0].Trial || len(r.pieces) == 0 && trialAt(r)
			h.count(r, r.at, trial, r.quantity, int64(r.sign))
		}
		return
	}
	for i := range r.pieces {
		p := &r.pieces[i]
		at := p.Start.Millis()
		if !k.keep(partitionOf(warehouse.Hourly, at), r.pos.Seq) {
			continue
		}
		events := int64(0)
		if i == 0 {
			events = int64(r.sign) // a cut event counts once, in the hour it starts
		}
		h.count(r, at, p.Trial, p.Quantity, events)
	}
}

// trialAt is the event's own word on whether its usage is under trial.
func trialAt(r *eventRow) bool {
	m := r.event.Metered
	return m != nil && m.TrialExpiry.Known() && r.at < m.TrialExpiry.Millis()
}

func (h *hourly) count(r *eventRow, at int64, trial bool, q usage.Quantity, events int64) {
	k := hourlyKey{tenant: r.tenant, account: r.event.Subject, meter: r.meter, hour: hourOf(at), trial: trial}
	if m := r.event.Metered; m != nil {
		k.region, k.platform, k.plan = m.Region, m.Platform, m.Plan
	}
	i, ok := h.index[k]
	if !ok {
		i = int32(len(h.cells))
		h.index[k] = i
		h.keys = append(h.keys, k)
		h.cells = append(h.cells, hourlyCell{low: q, high: q, firstAt: at, lastAt: at})
	}
	c := &h.cells[i]
	c.hi = max(c.hi, r.pos.Seq)
	c.rows++
	c.events += events
	if r.sign < 0 {
		c.voids++
		c.quantity = c.quantity.Sub(q)
	} else {
		c.quantity = c.quantity.Add(q)
	}
	if q.Cmp(c.low) < 0 {
		c.low = q
	}
	if q.Cmp(c.high) > 0 {
		c.high = q
	}
	c.firstAt, c.lastAt = min(c.firstAt, at), max(c.lastAt, at)
}
