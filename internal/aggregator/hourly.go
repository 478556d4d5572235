package aggregator

import (
	"math/bits"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// hourlyKey is a cell of usage_hourly: the event's own fields only, as words of the batch.
type hourlyKey struct {
	hour                                           int64 // Unix seconds
	tenant, account, meter, region, platform, plan word
	trial                                          bool
}

// hourlyCell is what a run of rows adds to a cell.
type hourlyCell struct {
	hourlyKey
	hi              uint64
	quantity        usage.Quantity // signed
	events          int64          // signed
	voids, rows     uint64
	low, high       usage.Quantity
	firstAt, lastAt int64 // Unix ms
}

// word is a text of the batch: keys of numbers are compared and hashed at once, wherever the texts are.
type word uint32

// words are the texts of a batch. The empty text is 0.
type words struct {
	known map[string]word
	texts []string
	last  [6]struct { // of each field: rows of a chunk repeat most of them
		text string
		word word
	}
}

func newWords() *words { return &words{known: map[string]word{}, texts: []string{""}} }

func (w *words) reset() {
	clear(w.known)
	clear(w.texts) // pins no messages of the batch before
	w.texts = w.texts[:1]
	clear(w.last[:])
}

// of is the word of a text of one of the fields.
func (w *words) of(field int, text string) word {
	if text == "" {
		return 0
	}
	l := &w.last[field]
	if l.text == text {
		return l.word
	}
	n, ok := w.known[text]
	if !ok {
		n = word(len(w.texts))
		w.texts = append(w.texts, text)
		w.known[text] = n
	}
	l.text, l.word = text, n
	return n
}

// hourly builds rollup partials from the same rows as events and pieces.
type hourly struct {
	index []uint32 // open addressing, a power of two: 1 + index into cells; 0 is free
	cells []hourlyCell
	words *words
}

func newHourly() *hourly { return &hourly{index: make([]uint32, 1024), words: newWords()} }

func (h *hourly) reset() {
	clear(h.index)
	h.cells = h.cells[:0]
	h.words.reset()
}

// cell is the cell of k, made from q and at if it is new.
func (h *hourly) cell(k *hourlyKey, at int64, q usage.Quantity) *hourlyCell {
	mask := uint64(len(h.index) - 1)
	i := k.hash() & mask
	for ; h.index[i] != 0; i = (i + 1) & mask {
		if c := &h.cells[h.index[i]-1]; c.hourlyKey == *k {
			return c
		}
	}
	h.cells = append(h.cells, hourlyCell{hourlyKey: *k, low: q, high: q, firstAt: at, lastAt: at})
	h.index[i] = uint32(len(h.cells))
	if 2*len(h.cells) > len(h.index) {
		h.grow()
	}
	return &h.cells[len(h.cells)-1]
}

func (h *hourly) grow() {
	h.index = make([]uint32, 2*len(h.index))
	mask := uint64(len(h.index) - 1)
	for n := range h.cells {
		i := h.cells[n].hash() & mask
		for h.index[i] != 0 {
			i = (i + 1) & mask
		}
		h.index[i] = uint32(n + 1)
	}
}

// hash mixes the fields. Words are numbered as they come, so nobody can choose keys that meet.
func (k *hourlyKey) hash() uint64 {
	const odd = 0x9e3779b97f4a7c15 // of the golden ratio: spreads numbers that are near each other
	hour := uint64(k.hour)
	if k.trial {
		hour++ // hours are multiples of 3600
	}
	hi, lo := bits.Mul64(uint64(k.account)<<32|uint64(k.tenant)^uint64(k.plan)<<16, odd)
	sum := hi ^ lo ^ hour
	hi, lo = bits.Mul64(sum^(uint64(k.meter)<<40|uint64(k.region)<<20|uint64(k.platform)), odd)
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
	w := h.words
	k := hourlyKey{tenant: w.of(0, r.tenant), account: w.of(1, r.event.Subject), meter: w.of(2, r.meter), hour: hourOf(at), trial: trial}
	if m := r.event.Metered; m != nil {
		k.region, k.platform, k.plan = w.of(3, m.Region), w.of(4, m.Platform), w.of(5, m.Plan)
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
