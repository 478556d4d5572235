package aggregator

import (
	"hash/maphash"
	"math/bits"

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
	seed   maphash.Seed
	index  []uint64 // open addressing, a power of two: half a hash | 1 + index into cells; 0 is free
	keys   []hourlyKey
	cells  []hourlyCell
	hashes []uint64

	tenant     string // of the previous row, with its hash: rows of a chunk share it
	tenantHash uint64
}

// upperHalf of an index word is of a hash, the lower says which cell.
const upperHalf = 0xffffffff << 32

func newHourly() *hourly { return &hourly{seed: maphash.MakeSeed(), index: make([]uint64, 1024)} }

func (h *hourly) reset() {
	clear(h.index)
	clear(h.keys) // pins no strings of the batch before
	h.keys, h.cells, h.hashes, h.tenant = h.keys[:0], h.cells[:0], h.hashes[:0], ""
}

// cell is the cell of k, made from q and at if it is new.
func (h *hourly) cell(k *hourlyKey, at int64, q usage.Quantity) *hourlyCell {
	sum := h.hash(k)
	mask := uint64(len(h.index) - 1)
	i := sum & mask
	for ; h.index[i] != 0; i = (i + 1) & mask {
		if e := h.index[i]; e&upperHalf == sum&upperHalf && h.keys[uint32(e)-1] == *k {
			return &h.cells[uint32(e)-1]
		}
	}
	h.keys = append(h.keys, *k)
	h.hashes = append(h.hashes, sum)
	h.cells = append(h.cells, hourlyCell{low: q, high: q, firstAt: at, lastAt: at})
	h.index[i] = sum&upperHalf | uint64(len(h.keys))
	if 2*len(h.keys) > len(h.index) {
		h.grow()
	}
	return &h.cells[len(h.cells)-1]
}

func (h *hourly) grow() {
	h.index = make([]uint64, 2*len(h.index))
	mask := uint64(len(h.index) - 1)
	for n, sum := range h.hashes {
		i := sum & mask
		for h.index[i] != 0 {
			i = (i + 1) & mask
		}
		h.index[i] = sum&upperHalf | uint64(n+1)
	}
}

// hash mixes the fields; most of region, platform and plan are empty.
func (h *hourly) hash(k *hourlyKey) uint64 {
	if k.tenant != h.tenant {
		h.tenant, h.tenantHash = k.tenant, maphash.String(h.seed, k.tenant)
	}
	sum := h.tenantHash ^ maphash.String(h.seed, k.account) ^ bits.RotateLeft64(maphash.String(h.seed, k.meter), 13)
	for i, s := range [...]string{k.region, k.platform, k.plan} {
		if s != "" {
			sum ^= bits.RotateLeft64(maphash.String(h.seed, s), 20*i+23)
		}
	}
	const odd = 0x9e3779b97f4a7c15 // of the golden ratio: spreads the hours, which are near each other
	hour := uint64(k.hour)
	if k.trial {
		hour++ // hours are multiples of 3600
	}
	hi, lo := bits.Mul64(sum^hour, odd)
	return hi ^ lo
}

// add counts a row: at its time, or piece by piece where it was cut, as far as keep lets it through.
func (h *hourly) add(r *eventRow, k keeper) {
	if r.meter == "" {
		return
	}
	if len(r.pieces) < 2 {
		if k.keep(warehouse.Hourly, r.at, r.pos.Seq) {
			trial := trialOf(r)
			h.count(r, r.at, trial, r.quantity, int64(r.sign))
		}
		return
	}
	for i := range r.pieces {
		p := &r.pieces[i]
		at := p.Start.Millis()
		if !k.keep(warehouse.Hourly, at, r.pos.Seq) {
			continue
		}
		events := int64(0)
		if i == 0 {
			events = int64(r.sign) // a cut event counts once, in the hour it starts
		}
		h.count(r, at, p.Trial, p.Quantity, events)
	}
}

// trialOf is the event's own word on whether its usage, or its first piece, is under trial. The piece
// decides where there is one: it compares to the nanosecond, and row and rollup must agree.
func trialOf(r *eventRow) bool {
	if len(r.pieces) > 0 {
		return r.pieces[0].Trial
	}
	m := r.event.Metered
	return m != nil && m.TrialExpiry.Known() && r.at < m.TrialExpiry.Millis()
}

func (h *hourly) count(r *eventRow, at int64, trial bool, q usage.Quantity, events int64) {
	k := hourlyKey{tenant: r.tenant, account: r.event.Subject, meter: r.meter, hour: hourOf(at), trial: trial}
	if m := r.event.Metered; m != nil {
		k.region, k.platform, k.plan = m.Region, m.Platform, m.Plan
	}
	c := h.cell(&k, at, q)
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
