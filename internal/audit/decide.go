package audit

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// doubt is a message whose events were not all simply stored, or whose rows do not fit. It is decided
// anew: what becomes of an event follows from the log and from the first row of its identity.
type doubt struct {
	*message
	ledger *ledgerRow // nil where there is none
	rows   found
}

// identity is an identity with its tenant.
type identity struct{ tenant, source, id string }

// original is the first row of an identity.
type original struct {
	warehouse.Position
	content uint64
	typ     string
}

// originals are the first rows of the identities asked for; identities without a row are not in it.
type originals map[identity]original

// before orders the positions of one partition.
func before(a, b warehouse.Position) bool {
	if x, y := a.Shard>>incarnationShift, b.Shard>>incarnationShift; x != y {
		return x < y
	}
	return a.Seq < b.Seq || a.Seq == b.Seq && a.Idx < b.Idx
}

// counted reports that a position is at or below the progress of its shard.
func (r *run) counted(p warehouse.Position) bool {
	for i := range r.shards {
		if r.shards[i].number == p.Shard {
			return p.Seq <= r.shards[i].progress
		}
	}
	return false
}

// find looks identities up, as many at a time as the warehouse takes.
func (r *run) find(ctx context.Context, partition int, ids map[identity]struct{}) (originals, error) {
	keys := make([]warehouse.Key, 0, len(ids))
	for k := range ids {
		keys = append(keys, warehouse.Key{
			Tenant: k.tenant, Source: k.source, ID: k.id, Hash: usage.IdentityHash(k.tenant, usage.Identity{Source: k.source, ID: k.id}),
		})
	}
	first := make(originals, len(keys))
	for part := range slices.Chunk(keys, warehouse.LookupMax) {
		ctx, cancel := context.WithTimeout(ctx, queryWait)
		rows, err := r.wh.Lookup(ctx, uint16(partition), part)
		cancel()
		if err != nil {
			return nil, err
		}
		for i := range rows {
			row := &rows[i]
			if row.Sign != 1 || !r.counted(row.Position) {
				continue
			}
			k := identity{row.Tenant, row.Source, row.ID}
			if o, ok := first[k]; !ok || before(row.Position, o.Position) {
				first[k] = original{row.Position, row.ContentHash, row.Type}
			}
		}
	}
	return first, nil
}

// resolve decides the doubts gathered so far and compares what must follow with what there is.
func (w *walk) resolve(ctx context.Context) error {
	if len(w.doubts) == 0 {
		return nil
	}
	ids := map[identity]struct{}{}
	for i := range w.doubts {
		d := &w.doubts[i]
		for j := range d.events {
			e := &d.events[j]
			ids[identity{d.tenant, e.Source, e.ID}] = struct{}{}
			if e.Type == usage.TypeVoided {
				ids[identity{d.tenant, e.Target.Source, e.Target.ID}] = struct{}{}
			}
		}
	}
	first, err := w.find(ctx, w.partition(), ids)
	if err != nil {
		return fmt.Errorf("look up %d identities: %w", len(ids), err)
	}
	var odd []oddity
	for i := range w.doubts {
		if o := w.decide(&w.doubts[i], first); o.any() {
			odd = append(odd, o)
		}
	}
	w.doubts, w.doubted = w.doubts[:0], 0
	return w.explain(ctx, odd)
}

// repeated is a row of `duplicates`: the repetitions of one identity within a chunk.
type repeated struct {
	identity
	idx, n   uint32
	original warehouse.Position
}

// verdict is what must be in the tables of one message.
type verdict struct {
	expectation
	stored, duplicate, conflict, quarantined uint32
	kept                                     []*event        // must be rows
	refused                                  map[uint32]bool // indexes of dead letters; true: a conflict
	repeats                                  []repeated
}

// decide settles a message and answers what does not fit and needs a closer look.
func (w *walk) decide(d *doubt, first originals) oddity {
	v := verdict{refused: map[uint32]bool{}}
	for _, idx := range d.rejects {
		v.quarantined++
		v.refuse(w.printer, idx, false)
	}
	w.rejected(d.message)
	said := map[content]saying{}
	for i := range d.events {
		w.event(d, &d.events[i], first, &v, said)
	}
	for i := range v.repeats {
		v.duplicates.add(w.printer.duplicate(&v.repeats[i]))
	}
	w.counts(d, &v)
	if w.wholeTime() && d.ledger != nil && d.rows.raw.minus != uint64(d.ledger.voided) {
		w.found.add(Difference{Check: CheckVoid, Tenant: d.tenant, Shard: w.number, Seq: d.seq, What: "voided of the ledger against rows of sign -1",
			Want: strconv.Itoa(int(d.ledger.voided)), Have: strconv.FormatUint(d.rows.raw.minus, 10)})
	}
	if !v.duplicates.same(d.rows.duplicates) {
		w.found.add(Difference{Check: CheckDuplicate, Tenant: d.tenant, Shard: w.number, Seq: d.seq, What: "rows of duplicates",
			Want: strconv.FormatUint(v.duplicates.rows, 10) + " as the log has them", Have: strconv.FormatUint(d.rows.duplicates.rows, 10)})
	}
	return oddity{
		message: d.message, verdict: v,
		raw: !v.raw.same(d.rows.raw), pieces: !v.pieces.same(d.rows.pieces), dead: !v.dead.same(d.rows.dead),
	}
}

// event decides one event (I8).
func (w *walk) event(d *doubt, e *event, first originals, v *verdict, said map[content]saying) {
	here := warehouse.Position{Shard: w.number, Seq: d.seq, Idx: e.idx}
	id := identity{d.tenant, e.Source, e.ID}
	o, ok := first[id]
	t := &TenantReport{}
	if w.inMonths(e.at) {
		t = w.months.of(d.tenant, e.at)
	}
	t.Accepted++
	switch {
	case ok && before(o.Position, here) && o.content == e.content:
		v.duplicate++
		t.Duplicate++
		v.repeat(said, content{id, e.content}, e.idx, o.Position)
	case ok && before(o.Position, here):
		if s, again := said[content{id, e.content}]; again { // of a conflict in this chunk
			v.duplicate++
			t.Duplicate++
			v.repeat(said, content{id, e.content}, e.idx, s.at)
			return
		}
		said[content{id, e.content}] = saying{at: here, repeats: -1}
		v.conflict++
		t.Conflict++
		v.refuse(w.printer, e.idx, true)
	case (!ok || o.Position != here) && w.voidOfVoid(d, e, first, here):
		v.quarantined++
		t.Quarantined++
		v.refuse(w.printer, e.idx, false)
	default: // the first of its identity: it must be a row
		v.stored++
		t.Stored++
		v.kept = append(v.kept, e)
		v.store(w.run, w.printer, d.tenant, e)
	}
}

// content is what an identity was said to be.
type content struct {
	identity
	hash uint64
}

// saying is that something was said before in a message: where it is recorded, and its place among the
// repeats, -1 for none.
type saying struct {
	at      warehouse.Position
	repeats int
}

// repeat expects a row of duplicates, or one more in it.
func (v *verdict) repeat(said map[content]saying, what content, idx uint32, original warehouse.Position) {
	if s, seen := said[what]; seen && s.repeats >= 0 {
		v.repeats[s.repeats].n++
		return
	}
	said[what] = saying{at: original, repeats: len(v.repeats)}
	v.repeats = append(v.repeats, repeated{identity: what.identity, idx: idx, n: 1, original: original})
}

// voidOfVoid reports that e voids an event.voided that came before.
func (w *walk) voidOfVoid(d *doubt, e *event, first originals, here warehouse.Position) bool {
	if e.Type != usage.TypeVoided {
		return false
	}
	target, ok := first[identity{d.tenant, e.Target.Source, e.Target.ID}]
	return ok && target.typ == usage.TypeVoided && before(target.Position, here)
}

// refuse expects a dead letter.
func (v *verdict) refuse(p *printer, idx uint32, conflict bool) {
	v.refused[idx] = conflict
	v.dead.add(p.dead(idx, conflict))
}

// counts compares the ledger's counts with the decision.
func (w *walk) counts(d *doubt, v *verdict) {
	if d.ledger == nil {
		return // said already
	}
	text := func(stored, duplicate, conflict, quarantined uint32) string {
		return fmt.Sprintf("stored %d, duplicate %d, conflict %d, quarantined %d", stored, duplicate, conflict, quarantined)
	}
	want := text(v.stored, v.duplicate, v.conflict, v.quarantined)
	have := text(d.ledger.stored, d.ledger.duplicate, d.ledger.conflict, d.ledger.quarantined)
	if want != have {
		w.found.add(Difference{Check: CheckLedger, Tenant: d.tenant, Shard: w.number, Seq: d.seq, What: "counts", Want: want, Have: have})
	}
}
