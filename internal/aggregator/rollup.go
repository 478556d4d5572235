package aggregator

import (
	"math/bits"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// rollupKey is a cell of usage_hourly or usage_monthly: the event's own fields only, as words of the batch.
type rollupKey struct {
	at                                             int64 // first instant of the hour or month, Unix seconds
	tenant, account, meter, region, platform, plan word
	trial                                          bool
}

// rollupCell is what a run of rows adds to a cell.
type rollupCell struct {
	rollupKey
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

// rollup builds the partials of one rollup from the same rows as events and pieces.
type rollup struct {
	target warehouse.Target // Hourly or Monthly
	index  []uint32         // open addressing, a power of two: 1 + index into cells; 0 is free
	cells  []rollupCell
	words  *words
	cut    func(ms int64) int64 // where the cell of an instant begins, Unix seconds
	month  span                 // of the last instant a monthly cell was looked for
}

// span is a run of Unix seconds, [from, to).
type span struct{ from, to int64 }

func newRollup(t warehouse.Target, w *words) *rollup {
	h := &rollup{target: t, index: make([]uint32, 1024), words: w, cut: hourOf}
	if t == warehouse.Monthly {
		h.cut = func(ms int64) int64 { return h.monthOf(ms / 1000) }
	}
	return h
}

// monthOf cuts a Unix second to the month. Rows of a batch are mostly of one month.
func (h *rollup) monthOf(s int64) int64 {
	if s < h.month.from || s >= h.month.to {
		m := usage.MonthOf(millis(s * 1000))
		h.month = span{m.Start().Millis() / 1000, m.End().Millis() / 1000}
	}
	return h.month.from
}

// reset empties the rollup for another batch. Its words are those of the hourly one, which empties them.
func (h *rollup) reset() {
	clear(h.index)
	h.cells = h.cells[:0]
	if h.target == warehouse.Hourly {
		h.words.reset()
	}
}

// merge adds a whole hourly cell.
func (h *rollup) merge(o *rollupCell) {
	k := o.rollupKey
	k.at = h.monthOf(o.at)
	c := h.cell(&k, o.firstAt, o.low)
	c.hi = max(c.hi, o.hi)
	c.quantity = c.quantity.Add(o.quantity)
	c.events, c.voids, c.rows = c.events+o.events, c.voids+o.voids, c.rows+o.rows
	if o.low.Cmp(c.low) < 0 {
		c.low = o.low
	}
	if o.high.Cmp(c.high) > 0 {
		c.high = o.high
	}
	c.firstAt, c.lastAt = min(c.firstAt, o.firstAt), max(c.lastAt, o.lastAt)
}

// cell is the cell of k, made from q and at if it is new.
func (h *rollup) cell(k *rollupKey, at int64, q usage.Quantity) *rollupCell {
	mask := uint64(len(h.index) - 1)
	i := k.hash() & mask
	for ; h.index[i] != 0; i = (i + 1) & mask {
		if c := &h.cells[h.index[i]-1]; c.rollupKey == *k {
			return c
		}
	}
	h.cells = append(h.cells, rollupCell{rollupKey: *k, low: q, high: q, firstAt: at, lastAt: at})
	h.index[i] = uint32(len(h.cells))
	if 2*len(h.cells) > len(h.index) {
		h.grow()
	}
	return &h.cells[len(h.cells)-1]
}

func (h *rollup) grow() {
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
func (k *rollupKey) hash() uint64 {
	const odd = 0x9e3779b97f4a7c15 // of the golden ratio: spreads numbers that are near each other
	at := uint64(k.at)
	if k.trial {
		at++ // hours and months are multiples of 3600
	}
	hi, lo := bits.Mul64(uint64(k.account)<<32|uint64(k.tenant)^uint64(k.plan)<<16, odd)
	sum := hi ^ lo ^ at
	hi, lo = bits.Mul64(sum^(uint64(k.meter)<<40|uint64(k.region)<<20|uint64(k.platform)), odd)
	return hi ^ lo
}

// add counts a row: at its time, or piece by piece where it was cut, as far as keep lets it through.
func (h *rollup) add(r *eventRow, k keeper) {
	if r.meter == "" {
		return
	}
	if len(r.pieces) < 2 {
		if k.keep(h.target, r.at, r.pos.Seq) {
			trial := trialOf(r)
			h.count(r, r.at, trial, r.quantity, int64(r.sign))
		}
		return
	}
	for i := range r.pieces {
		p := &r.pieces[i]
		at := p.Start.Millis()
		if !k.keep(h.target, at, r.pos.Seq) {
			continue
		}
		events := int64(0)
		if i == 0 {
			events = int64(r.sign) // a cut event counts once, in the cell it starts
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

func (h *rollup) count(r *eventRow, at int64, trial bool, q usage.Quantity, events int64) {
	w := h.words
	k := rollupKey{tenant: w.of(0, r.tenant), account: w.of(1, r.event.Subject), meter: w.of(2, r.meter), at: h.cut(at), trial: trial}
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
