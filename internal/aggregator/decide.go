package aggregator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Evidence is a row of table events that shares its identity with an event being decided.
type Evidence struct {
	Tenant      string
	ID          usage.Identity
	Position    Position
	Sign        int8
	ContentHash uint64
	Type        string
}

// Key asks the warehouse about an identity.
type Key struct {
	Tenant string
	ID     usage.Identity
	Hash   uint64 // usage.IdentityHash
}

// Waiting is a stored event.voided whose target had not been seen when it was decided.
type Waiting struct {
	Tenant     string
	Target     usage.Identity
	Position   Position
	RecordedAt int64 // Unix ms
	Causation  string
}

// history answers what the warehouse holds at or below progress; rows above it are leftovers of an
// attempt that died and are told apart by their position.
type history interface {
	// Lookup returns every row, of either sign, of the given identities in this partition.
	Lookup(ctx context.Context, keys []Key) ([]Evidence, error)
	// Negatable returns the stored rows (sign 1) of the given originals, ready to be written again
	// with the other sign: row and pieces copied, never recomputed (architecture, 6).
	Negatable(ctx context.Context, originals []Evidence) ([]eventRow, error)
}

// decider turns chunks into rows. What it decides is a pure function of the log: the same chunks after
// the same progress give the same rows, whatever the cuts between batches and whatever died in between.
// Not safe for concurrent use.
type decider struct {
	history history
	filter  *filter
	memory  *memory
	waiting map[identityKey]Waiting // first void naming an unseen target
	keys    []Key
	counted func(reason string, n int) // metrics hook for duplicates, conflicts, dead letters
	spare   []eventRow                 // of a batch that was recycled
}

// known is what history says about the identities of one batch.
type known map[identityKey]*stored

type stored struct {
	original Evidence
	found    bool
	voidedAt Position // position of the earliest negation
	voided   bool
	row      *eventRow // of a void's target: what to negate
}

// decide decides the chunks in order. The caller must call retire with the batch after its ledger row is
// committed, in order, from the same goroutine.
func (d *decider) decide(ctx context.Context, chunks []*chunk) (*batch, error) {
	b := &batch{shard: chunks[0].shard, first: chunks[0].seq, last: chunks[len(chunks)-1].seq, oldest: chunks[0].loggedAt}
	d.memory.begin(b)
	seen, err := d.consult(ctx, chunks)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, c := range chunks {
		n += len(c.events)
	}
	if b.events, d.spare = d.spare, nil; cap(b.events) < n {
		b.events = make([]eventRow, 0, n+n/16)
	}
	b.ledger = make([]ledgerRow, 0, len(chunks))
	run := decision{decider: d, batch: b, known: seen, duplicates: map[identityKey]int{}}
	for _, c := range chunks {
		b.weight += c.weight
		if err := run.chunk(c); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// consult asks the warehouse, in one query, about every identity the filter has possibly seen and memory
// does not know, and about every target of a void.
func (d *decider) consult(ctx context.Context, chunks []*chunk) (known, error) {
	keys := d.keys[:0]
	var targets []identityKey
	for _, c := range chunks {
		for i := range c.events {
			it := &c.events[i]
			if d.filter.has(it.idHash) {
				id := usage.Identity{Source: it.event.Source, ID: it.event.ID}
				if !d.memory.has(keyOf(c.tenant, id)) {
					keys = append(keys, Key{Tenant: c.tenant, ID: id, Hash: it.idHash})
				}
			}
			if it.event.Type == usage.TypeVoided {
				t := it.event.Target
				keys = append(keys, Key{Tenant: c.tenant, ID: t, Hash: usage.IdentityHash(c.tenant, t)})
				targets = append(targets, keyOf(c.tenant, t))
			}
		}
	}
	d.keys = keys
	if len(keys) == 0 {
		return nil, nil
	}
	keys = distinct(keys)
	rows, err := d.history.Lookup(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("look up %d identities: %w", len(keys), err)
	}
	seen := make(known, len(rows))
	for _, r := range rows {
		k := keyOf(r.Tenant, r.ID)
		s := seen[k]
		if s == nil {
			s = &stored{}
			seen[k] = s
		}
		switch {
		case r.Sign > 0 && (!s.found || r.Position.Before(s.original.Position)):
			s.original, s.found = r, true
		case r.Sign < 0 && (!s.voided || r.Position.Before(s.voidedAt)):
			s.voidedAt, s.voided = r.Position, true
		}
	}
	return seen, d.fetchTargets(ctx, seen, targets, Position{Shard: chunks[0].shard, Seq: chunks[0].seq})
}

// fetchTargets reads, in one query, the rows that the voids of a batch will negate: targets that were
// stored before the batch and are in no batch in flight, whose rows may be half written.
func (d *decider) fetchTargets(ctx context.Context, seen known, targets []identityKey, first Position) error {
	var wanted []Evidence
	asked := make(map[identityKey]bool, len(targets)) // several voids may name one target
	for _, k := range targets {
		s := seen[k]
		switch {
		case asked[k]:
		case s == nil || !s.found || s.original.Type == usage.TypeVoided || !s.original.Position.Before(first):
		case s.voided && s.voidedAt.Before(first):
		default:
			if _, flying := d.memory.find(k, d.memory.hash(k)); flying == nil {
				asked[k] = true
				wanted = append(wanted, s.original)
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	rows, err := d.history.Negatable(ctx, wanted)
	if err != nil {
		return fmt.Errorf("fetch %d events to void them: %w", len(wanted), err)
	}
	for i := range rows {
		e := rows[i].event
		seen[keyOf(rows[i].tenant, usage.Identity{Source: e.Source, ID: e.ID})].row = &rows[i]
	}
	return nil
}

// distinct removes repeated keys: a flood of one id asks once.
func distinct(keys []Key) []Key {
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Hash, b.Hash), cmp.Compare(a.Tenant, b.Tenant),
			cmp.Compare(a.ID.Source, b.ID.Source), cmp.Compare(a.ID.ID, b.ID.ID))
	})
	return slices.Compact(keys)
}

// recycle takes back the rows of a retired batch, of which nobody holds any.
func (d *decider) recycle(b *batch) {
	if cap(d.spare) < cap(b.events) {
		clear(b.events) // pins no events
		d.spare = b.events[:0]
	}
	b.events = nil
}

// retire adds the identities of the oldest batch, now committed, to the filter.
func (d *decider) retire(b *batch) {
	for i := range b.events {
		if b.events[i].sign > 0 {
			d.filter.add(b.events[i].idHash)
		}
	}
	d.memory.retire()
}

// decision is the state of deciding one batch.
type decision struct {
	*decider
	batch      *batch
	known      known
	duplicates map[identityKey]int // index into batch.duplicates of the current chunk
}

// chunk decides one message and writes its ledger row.
func (d *decision) chunk(c *chunk) error {
	l := ledgerRow{shard: c.shard, seq: c.seq, tenant: c.tenant, loggedAt: c.loggedAt, hash: c.hash, missing: c.missing}
	l.accepted = uint32(c.accepted())
	clear(d.duplicates)
	next := 0 // rejects and events are each in order of idx; dead letters keep the log's order
	for i := range c.events {
		for ; next < len(c.rejects) && c.rejects[next].idx < c.events[i].idx; next++ {
			d.quarantine(c, &c.rejects[next], &l)
		}
		if err := d.event(c, &c.events[i], &l); err != nil {
			return err
		}
	}
	for ; next < len(c.rejects); next++ {
		d.quarantine(c, &c.rejects[next], &l)
	}
	if l.accepted != l.stored+l.duplicate+l.conflict+l.quarantined {
		return fmt.Errorf("%w: shard %d seq %d: accepted %d, stored %d, duplicate %d, conflict %d, quarantined %d",
			errBroken, l.shard, l.seq, l.accepted, l.stored, l.duplicate, l.conflict, l.quarantined)
	}
	d.batch.ledger = append(d.batch.ledger, l)
	return nil
}

// event decides one event: stored, duplicate, conflict or, for a void of a void, quarantined.
func (d *decision) event(c *chunk, it *item, l *ledgerRow) error {
	pos := Position{Shard: c.shard, Seq: c.seq, Idx: it.idx}
	id := usage.Identity{Source: it.event.Source, ID: it.event.ID}
	k := keyOf(c.tenant, id)
	h := d.memory.hash(k)
	if o, ok := d.original(k, h, pos); ok {
		if o.contentHash == it.contentHash {
			d.duplicate(c, it, id, k, pos, o.pos)
			l.duplicate++
			return nil
		}
		d.conflict(c, it, id, pos, o)
		l.conflict++
		return nil
	}
	if it.event.Type == usage.TypeVoided {
		var row eventRow
		d.row(&row, c, it, pos)
		return d.void(c, it, row, k, h, l)
	}
	w, pending := d.waiting[k]
	row := d.store(k, h, it, pos, pending, l)
	d.row(row, c, it, pos)
	if pending {
		delete(d.waiting, k)
		d.batch.events = append(d.batch.events, negation(row, pos, row.causation, max(row.recordedAt, w.RecordedAt)))
		l.voided++
	}
	return nil
}

// store makes room for a row, for the caller to fill, and remembers its identity until the batch is
// retired at least.
func (d *decision) store(k identityKey, h uint64, it *item, pos Position, voided bool, l *ledgerRow) *eventRow {
	l.stored++
	n := len(d.batch.events)
	d.memory.put(k, h, original{
		pos: pos, contentHash: it.contentHash, isVoid: it.event.Type == usage.TypeVoided, voided: voided, row: int32(n),
	})
	d.batch.events = append(d.batch.events, eventRow{})
	return &d.batch.events[n]
}

// found is an original and, where it was decided but not yet retired, the batch that has its row.
type found struct {
	original
	batch *batch
}

// original finds the first occurrence of an identity before pos: in memory, else in the warehouse.
func (d *decision) original(k identityKey, h uint64, pos Position) (found, bool) {
	if o, b := d.memory.find(k, h); o != nil {
		return found{original: *o, batch: b}, true
	}
	if len(d.known) == 0 {
		return found{}, false
	}
	s := d.known[k]
	if s == nil || !s.found || !s.original.Position.Before(pos) {
		return found{}, false
	}
	return found{original: original{
		pos:         s.original.Position,
		contentHash: s.original.ContentHash,
		isVoid:      s.original.Type == usage.TypeVoided,
		voided:      s.voided && s.voidedAt.Before(pos),
		row:         -1,
	}}, true
}

// void decides an event.voided whose own identity is new. The first void naming a target acts; a void of
// a void is quarantined and consumes no identity; a void before its target waits (architecture, 6).
func (d *decision) void(c *chunk, it *item, row eventRow, k identityKey, h uint64, l *ledgerRow) error {
	tk := keyOf(c.tenant, it.event.Target)
	th := d.memory.hash(tk)
	target, ok := d.original(tk, th, row.pos)
	if ok && target.isVoid {
		d.quarantine(c, &reject{
			idx: it.idx, id: usage.Identity{Source: it.event.Source, ID: it.event.ID}, typ: it.event.Type, account: it.event.Subject,
			reason: reasonVoidOfVoid, detail: "the target is itself an event.voided; send the original event again under a new id", raw: rawOf(it),
		}, l)
		return nil
	}
	var neg *eventRow
	switch {
	case ok && target.voided:
		row.voidEffect = voidAlready
	case ok:
		row.voidEffect = voidActed
		n, err := d.negate(tk, target, &row)
		if err != nil {
			return err
		}
		neg = &n
	default:
		row.voidEffect = voidWaiting
		if _, earlier := d.waiting[tk]; earlier {
			row.voidEffect = voidAlready
			break
		}
		d.wait(c, it, &row)
	}
	*d.store(k, h, it, row.pos, false, l) = row
	if neg != nil {
		d.batch.events = append(d.batch.events, *neg)
		l.voided++
	}
	return nil
}

// wait remembers a void until its target comes. That may be never, so it keeps nothing of its message.
func (d *decision) wait(c *chunk, it *item, row *eventRow) {
	w := Waiting{
		Tenant: strings.Clone(c.tenant), Position: row.pos, RecordedAt: row.recordedAt, Causation: strings.Clone(row.causation),
		Target: usage.Identity{Source: strings.Clone(it.event.Target.Source), ID: strings.Clone(it.event.Target.ID)},
	}
	d.waiting[keyOf(w.Tenant, w.Target)] = w
}

// negate copies the stored row of a target and marks the target as voided.
func (d *decision) negate(k identityKey, target found, void *eventRow) (eventRow, error) {
	h := d.memory.hash(k)
	d.memory.void(k, h, target.original)
	if target.batch != nil {
		row := &target.batch.events[target.row]
		return negation(row, void.pos, void.causation, max(row.recordedAt, void.recordedAt)), nil
	}
	row := d.known[k].row
	if row == nil {
		return eventRow{}, fmt.Errorf("%w: no stored row of %s/%s at seq %d to void", errBroken, k.source, k.id, target.pos.Seq)
	}
	return negation(row, void.pos, void.causation, max(row.recordedAt, void.recordedAt)), nil
}

// negation is row with sign -1 at the position of whichever came second of void and target.
func negation(row *eventRow, pos Position, causation string, recordedAt int64) eventRow {
	n := *row
	n.sign = -1
	n.pos = pos
	n.causation = causation
	n.recordedAt = recordedAt
	return n
}
