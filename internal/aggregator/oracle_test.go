package aggregator

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// simLog makes a log of a few dozen chunks over few identities, so that duplicates, conflicts, voids,
// voids of voids and voids before their targets all meet, over three months.
func simLog(rnd *rand.Rand) []*chunk {
	base := int64(1_762_000_000_000) // 2025-11-01T12:26:40Z, Unix ms
	if rnd.IntN(3) == 0 {
		base = 1_764_547_185_000 // 15 s before December: dead letters and duplicates on both sides
	}
	ids := 6 + rnd.IntN(40)
	var log []*chunk
	for seq := range uint64(8 + rnd.IntN(40)) {
		c := &chunk{
			seq: seq + 1, tenant: []string{"acme", "beta"}[rnd.IntN(2)],
			loggedAt: base + int64(seq)*997, acceptedAt: base + int64(seq)*997,
		}
		if rnd.IntN(40) == 0 {
			c.missing, c.tenant = true, ""
			log = append(log, c)
			continue
		}
		for idx := range uint32(rnd.IntN(6)) {
			if rnd.IntN(15) == 0 {
				c.rejects = append(c.rejects, reject{idx: idx, reason: "bad-time", id: usage.Identity{ID: "x"}})
				continue
			}
			c.events = append(c.events, simItem(rnd, c, idx, ids))
		}
		log = append(log, c)
	}
	return log
}

func simItem(rnd *rand.Rand, c *chunk, idx uint32, ids int) item {
	n := rnd.IntN(ids)
	e := &usage.Event{Source: "/s", ID: fmt.Sprint(n), Subject: fmt.Sprint("a", n%3), CorrelationID: fmt.Sprint("c", c.seq), CausationID: fmt.Sprint("c", c.seq)}
	variant := uint64(0)
	if rnd.IntN(6) == 0 {
		variant = 1
	}
	kind := n % 8 // an identity nearly always keeps its kind, as real retries do
	if rnd.IntN(12) == 0 {
		kind = rnd.IntN(8)
	}
	at := usage.At((c.loggedAt - int64(n%5)*18*86_400_000) * 1e6)
	if n%3 == 0 {
		at = usage.At(at.Nanos() + int64(n)*100_000 + 1) // finer than the warehouse keeps
	}
	e.Time = at
	switch {
	case kind < 2:
		e.Type = usage.TypeVoided
		e.Target = usage.Identity{Source: "/s", ID: fmt.Sprint((n*7 + 3) % ids)}
	case kind == 2 && n%16 == 2:
		e.Type = usage.TypeElastic
		e.Data = `{"consumer":{"type":"user","value":"joe"},"instance_id":"i","lines":[{"item":"a","line_no":1,"response":"202"},{"item":"b","line_no":2,"response":"202"}],"operation":"access_request"}`
	case kind == 2:
		e.Type = "account.created"
	case kind == 3:
		e.Type = usage.TypeMetered
		e.Metered = &usage.Metered{Meter: "bandwidth", Quantity: usage.Int(int64(n) + 10), Start: at, End: usage.At(at.Nanos() + int64(30*3600)*1e9)}
		if n%16 == 3 {
			e.Metered.End = usage.At(at.Nanos() + 300_000)
			e.Metered.TrialExpiry = usage.At(at.Nanos() + 200_000) // within the millisecond of the start, or next to it
		}
		if n%32 == 19 {
			e.Metered.TrialExpiry = usage.At(at.Nanos() + 400_000)
		}
	default:
		e.Type = usage.TypeMetered
		e.Metered = &usage.Metered{Meter: "tokens", Quantity: usage.Int(int64(n) + 1)}
	}
	idHash := uint64(n) * 0x9E3779B97F4A7C15
	if n%4 == 0 {
		idHash = 7 // collisions: the filter says "perhaps" of identities never seen
	}
	recorded := c.loggedAt
	if rnd.IntN(6) == 0 {
		recorded += (rnd.Int64N(80) - 40) * 86_400_000 / 2 // recordedtime, honoured
	}
	return item{event: e, idx: idx, idHash: idHash, contentHash: uint64(n)<<8 | uint64(kind)<<1 | variant, recordedAt: recorded}
}

// oracle computes, from the log alone and in one pass, what every table must hold. It shares no code
// with the decider: plain maps, plain sums.
type oracle struct {
	events, dead, ledger map[string]int
	repeats, tree, lines map[string]int
	cells, months        map[string]int64      // quantity, events, rows and voids of each
	first                map[string]*oracleRow // first stored occurrence by tenant/id
	waits                map[string]int64      // first waiting void by target: recorded_at
}

type oracleRow struct {
	row    eventRow
	voided bool
}

func (w *world) check() error {
	o := &oracle{
		events: map[string]int{}, dead: map[string]int{}, ledger: map[string]int{}, repeats: map[string]int{}, tree: map[string]int{}, lines: map[string]int{},
		cells: map[string]int64{}, months: map[string]int64{}, first: map[string]*oracleRow{}, waits: map[string]int64{},
	}
	for _, c := range slices.Concat(w.truth, w.log[w.prefix:]) {
		o.chunk(c)
	}
	for _, t := range []struct {
		target warehouse.Target
		want   map[string]int
	}{
		{warehouse.Events, o.events}, {warehouse.DeadLetters, o.dead}, {warehouse.Ledger, o.ledger},
		{warehouse.Duplicates, o.repeats}, {warehouse.Directory, o.tree}, {warehouse.Elastic, o.lines},
	} {
		if err := differ(w.count(t.target), t.want); err != nil {
			return fmt.Errorf("%s: %w", t.target, err)
		}
	}
	for target, want := range map[warehouse.Target]map[string]int64{warehouse.Hourly: o.cells, warehouse.Monthly: o.months} {
		sums := map[string]int64{}
		for r := range w.rows(target) {
			sums[r.key] += r.cell.quantity.Big().Int64()
			sums[r.key+" events"] += r.cell.events
			sums[r.key+" rows"] += int64(r.cell.rows)
			sums[r.key+" voids"] += int64(r.cell.voids)
		}
		if err := differ(sums, want); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
	}
	return w.checkPieces()
}

// checkPieces: every stored event that was cut has all its pieces exactly once, and they sum to it.
func (w *world) checkPieces() error {
	want := map[string]int{}
	for r := range w.rows(warehouse.Events) {
		if len(r.row.pieces) < 2 {
			continue
		}
		var sum usage.Quantity
		for n, p := range r.row.pieces {
			sum = sum.Add(p.Quantity)
			want[fmt.Sprintf("%s piece %d %s %v", r.key, n, p.Quantity, p.Trial)]++
		}
		if sum != r.row.quantity {
			return fmt.Errorf("pieces of %s sum to %s", r.key, sum)
		}
	}
	return differ(w.count(warehouse.Pieces), want)
}

func (w *world) count(t warehouse.Target) map[string]int {
	got := map[string]int{}
	for r := range w.rows(t) {
		got[r.key]++
	}
	return got
}

// rows are those of a table that were committed, or still can be.
func (w *world) rows(t warehouse.Target) iter.Seq[simRow] {
	return func(yield func(simRow) bool) {
		for _, rows := range w.parts[t] {
			for _, r := range rows {
				if w.ended.holds(warehouse.Position{Shard: r.shard, Seq: r.seq}) && !yield(r) {
					return
				}
			}
		}
	}
}

func differ[V int | int64](got, want map[string]V) error {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			return fmt.Errorf("%q: have %d, want %d", k, got[k], want[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if got[k] != want[k] {
			return fmt.Errorf("%q: have %d, want %d", k, got[k], want[k])
		}
	}
	return nil
}

func (o *oracle) chunk(c *chunk) {
	l := ledgerRow{shard: c.shard, seq: c.seq, tenant: c.tenant, missing: c.missing, accepted: uint32(len(c.events) + len(c.rejects))}
	for _, r := range c.rejects {
		l.quarantined++
		o.dead[fmt.Sprintf("%v %s %s", Position{Shard: c.shard, Seq: c.seq, Idx: r.idx}, r.reason, r.id.ID)]++
	}
	repeats := map[string]*oracleRepeat{}
	for i := range c.events {
		o.event(c, &c.events[i], &l, repeats)
	}
	for _, r := range repeats {
		if r.n > 0 {
			o.repeats[fmt.Sprintf("%v %s x%d of %v", r.pos, r.id, r.n, r.of)]++
		}
	}
	o.ledger[ledgerKey(&l)]++
}

// oracleRepeat is what a chunk says again, of an original or of a conflict of its own: the first
// repetition, and how many there are.
type oracleRepeat struct {
	id      string
	pos, of Position
	n       int
}

func (o *oracle) event(c *chunk, it *item, l *ledgerRow, repeats map[string]*oracleRepeat) {
	pos := Position{Shard: c.shard, Seq: c.seq, Idx: it.idx}
	key := c.tenant + "/" + it.event.ID
	if f := o.first[key]; f != nil {
		what := fmt.Sprintf("%s %d", it.event.ID, it.contentHash)
		if f.row.contentHash == it.contentHash && repeats[what] == nil {
			repeats[what] = &oracleRepeat{id: it.event.ID, of: f.row.pos}
		}
		switch r := repeats[what]; {
		case r == nil: // the first to say so in this chunk
			l.conflict++
			o.dead[fmt.Sprintf("%v conflict %s", pos, it.event.ID)]++
			repeats[what] = &oracleRepeat{id: it.event.ID, of: pos}
		default:
			l.duplicate++
			if r.n == 0 {
				r.pos = pos
			}
			r.n++
		}
		return
	}
	row := eventRow{pos: pos, sign: 1, tenant: c.tenant, event: it.event, contentHash: it.contentHash, at: it.event.Time.Millis(), recordedAt: it.recordedAt, causation: it.event.CausationID}
	if m := it.event.Metered; m != nil {
		row.meter, row.quantity = m.Meter, m.Quantity
	}
	if it.event.Type != usage.TypeVoided {
		o.first[key] = &oracleRow{row: row}
		o.add(row)
		l.stored++
		if at, ok := o.waits[key]; ok {
			delete(o.waits, key)
			o.first[key].voided = true
			row.sign, row.recordedAt = -1, max(row.recordedAt, at)
			o.add(row)
			l.voided++
		}
		return
	}
	tkey := c.tenant + "/" + it.event.Target.ID
	f := o.first[tkey]
	switch {
	case f != nil && f.row.event.Type == usage.TypeVoided:
		l.quarantined++
		o.dead[fmt.Sprintf("%v void-of-void %s", pos, it.event.ID)]++
		return
	case f != nil && f.voided:
		row.voidEffect = "already_voided"
	case f != nil:
		row.voidEffect = "acted"
		f.voided = true
		n := f.row
		n.sign, n.pos, n.causation, n.recordedAt = -1, pos, row.causation, max(f.row.recordedAt, row.recordedAt)
		o.add(n)
		l.voided++
	default:
		row.voidEffect = "waiting"
		if _, ok := o.waits[tkey]; ok {
			row.voidEffect = "already_voided"
		} else {
			o.waits[tkey] = row.recordedAt
		}
	}
	o.first[key] = &oracleRow{row: row}
	o.add(row)
	l.stored++
}

// add books a row and its hours; the pieces of a cut event are taken from the domain's own Cut, whose
// sums are proven elsewhere.
func (o *oracle) add(r eventRow) {
	o.events[eventKey(&r)]++
	if r.event.Type == "account.created" {
		o.tree[eventKey(&r)]++
	}
	if r.event.Type == usage.TypeElastic {
		for i := range 2 {
			o.lines[fmt.Sprintf("%s line %d", eventKey(&r), i)]++
		}
	}
	if r.meter == "" {
		return
	}
	book := func(at int64, q usage.Quantity, trial bool, events int64) {
		day := time.UnixMilli(at).UTC()
		month := time.Date(day.Year(), day.Month(), 1, 0, 0, 0, 0, time.UTC)
		for i, cells := range []map[string]int64{o.cells, o.months} {
			from := []int64{at / 3_600_000 * 3600, month.Unix()}[i]
			k := fmt.Sprintf("%s %s %s %d %v", r.tenant, r.event.Subject, r.meter, from, trial)
			cells[k] += int64(r.sign) * q.Big().Int64()
			cells[k+" events"] += int64(r.sign) * events
			cells[k+" rows"]++
			if r.sign < 0 {
				cells[k+" voids"]++
			}
		}
	}
	m := r.event.Metered
	trial := m.TrialExpiry.Known() && r.at < m.TrialExpiry.Millis()
	switch pieces := m.Cut(); len(pieces) {
	case 0:
	case 1:
		trial = pieces[0].Trial // to the nanosecond
	default:
		for i, p := range pieces {
			book(p.Start.Millis(), p.Quantity, p.Trial, int64(max(0, 1-i)))
		}
		return
	}
	book(r.at, r.quantity, trial, 1)
}
