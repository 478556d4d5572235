package aggregator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/eventlog"
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
	// with the other sign: row and pieces copied, never recomputed (I17).
	Negatable(ctx context.Context, originals []Evidence) ([]eventRow, error)
}

// decider turns chunks into rows. What it decides is a pure function of the log: the same chunks after
// the same progress give the same rows, whatever the cuts between batches and whatever died in between.
// Not safe for concurrent use.
type decider struct {
	history history
	filter  *filter
	memory  *memory
	router  *router
	waiting map[identityKey]Waiting    // first void naming an unseen target
	counted func(reason string, n int) // metrics hook for duplicates, conflicts, dead letters

	opener  opener
	again   opener           // for the chunk of a void's target
	scanner eventlog.Scanner // for the identities that are looked up
	keys    []Key
	spare   *batch // recycled
}

// known is what history says about the identities of one batch.
type known map[identityKey]*stored

// identityKey is an identity with its tenant.
type identityKey struct {
	tenant, source, id string
}

func keyOf(tenant string, id usage.Identity) identityKey {
	return identityKey{tenant: tenant, source: id.Source, id: id.ID}
}

type stored struct {
	original Evidence
	found    bool
	voidedAt Position // position of the earliest negation
	voided   bool
	row      *eventRow // of a void's target: what to negate
}

// decide decides the chunks in order and puts their rows into to. The caller must call retire with the
// batch after its ledger row is committed, in order, from the same goroutine.
func (d *decider) decide(ctx context.Context, chunks []*chunk, to rows) (*batch, error) {
	b := d.batch()
	last := chunks[len(chunks)-1]
	b.shard, b.first, b.last, b.hash, b.loggedAt = last.shard, chunks[0].seq, last.seq, last.hash, last.loggedAt
	b.oldest, b.rows, b.chunks = chunks[0].loggedAt, to, append(b.chunks, chunks...)
	d.memory.begin(b)
	d.router.begin(to, b.shard, b.first)
	seen, err := d.consult(ctx, chunks)
	if err != nil {
		return nil, err
	}
	run := decision{decider: d, batch: b, known: seen, repeats: map[saying]int{}, disputed: map[saying]Position{}}
	for _, c := range chunks {
		b.weight += c.weight
		b.accepted += c.accepted()
		if err := run.chunk(c); err != nil {
			return nil, err
		}
	}
	d.router.end()
	b.touched = d.router.touched
	return b, nil
}

func (d *decider) batch() *batch {
	b := d.spare
	if d.spare = nil; b == nil {
		return &batch{}
	}
	clear(b.chunks)
	*b = batch{chunks: b.chunks[:0], stored: b.stored[:0]}
	return b
}

// consult asks the warehouse, in one query, about every identity the filter has possibly seen and memory
// does not know, and about every target of a void.
func (d *decider) consult(ctx context.Context, chunks []*chunk) (known, error) {
	d.keys = d.keys[:0]
	var targets []identityKey
	for _, c := range chunks {
		if err := d.ask(c); err != nil {
			return nil, err
		}
		for t := range c.voids() {
			d.keys = append(d.keys, Key{Tenant: c.tenant, ID: t, Hash: usage.IdentityHash(c.tenant, t)})
			targets = append(targets, keyOf(c.tenant, t))
		}
	}
	if len(d.keys) == 0 {
		return nil, nil
	}
	keys := distinct(d.keys)
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

// ask adds to the keys those identities of c that the filter has possibly seen and memory does not know.
func (d *decider) ask(c *chunk) error {
	for i := range c.events {
		it := &c.events[i]
		id := usage.Identity{Source: it.event.Source, ID: it.event.ID}
		it.ident = d.memory.hash.of(c.tenant, id)
		if it.seen = d.filter.has(it.idHash); it.seen && !d.memory.recall(it.ident) {
			d.keys = append(d.keys, Key{Tenant: c.tenant, ID: id, Hash: it.idHash})
		}
	}
	unknown := 0
	for i := range c.ids {
		p := &c.ids[i]
		if p.seen = d.filter.has(p.hash); p.seen && !d.memory.recall(p.ident) {
			p.asked = true
			unknown++
		}
	}
	if unknown == 0 {
		return nil
	}
	i := 0
	err := d.scanner.Scan(c.packed, func(id, _ usage.Identity) {
		if c.ids[i].asked {
			id = usage.Identity{Source: strings.Clone(id.Source), ID: strings.Clone(id.ID)}
			d.keys = append(d.keys, Key{Tenant: c.tenant, ID: id, Hash: c.ids[i].hash})
		}
		i++
	})
	if err != nil {
		return fmt.Errorf("%w: shard %d seq %d was read and is now %w", errBroken, c.shard, c.seq, err)
	}
	return nil
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
			if o, _ := d.memory.inFlight(d.memory.hash.of(k.tenant, usage.Identity{Source: k.source, ID: k.id})); o == nil {
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

// retire adds the identities of the oldest batch, now committed, to the filter. The batch is used again.
func (d *decider) retire(b *batch) {
	for _, h := range b.stored {
		d.filter.add(h)
	}
	d.memory.retire()
	d.spare = b
}

// saying is what an event says of an identity.
type saying struct {
	ident
	contentHash uint64
}

// decision is the state of deciding one batch.
type decision struct {
	*decider
	batch      *batch
	known      known
	repeats    map[saying]int      // index into duplicates
	duplicates []duplicateRow      // of the current chunk
	disputed   map[saying]Position // its conflicts
	row        eventRow            // the one being made
}

// chunk decides one message and writes its ledger row.
func (d *decision) chunk(c *chunk) error {
	items, rejects, err := d.opener.open(c)
	if err != nil {
		return err
	}
	l := ledgerRow{shard: c.shard, seq: c.seq, tenant: c.tenant, loggedAt: c.loggedAt, hash: c.hash, missing: c.missing}
	l.accepted = uint32(len(items) + len(rejects))
	clear(d.repeats)
	clear(d.disputed)
	d.duplicates = d.duplicates[:0]
	next := 0 // rejects and events are each in order of idx; dead letters keep the log's order
	for i := range items {
		for ; next < len(rejects) && rejects[next].idx < items[i].idx; next++ {
			d.quarantine(c, &rejects[next], &l)
		}
		if err := d.event(c, &items[i], &l); err != nil {
			return err
		}
	}
	for ; next < len(rejects); next++ {
		d.quarantine(c, &rejects[next], &l)
	}
	for i := range d.duplicates {
		d.router.duplicate(&d.duplicates[i])
	}
	if d.router.broken != nil {
		return d.router.broken
	}
	if l.accepted != l.stored+l.duplicate+l.conflict+l.quarantined {
		return fmt.Errorf("%w: shard %d seq %d: accepted %d, stored %d, duplicate %d, conflict %d, quarantined %d",
			errBroken, l.shard, l.seq, l.accepted, l.stored, l.duplicate, l.conflict, l.quarantined)
	}
	d.router.ledger(&l)
	return nil
}

// event decides one event: stored, duplicate, conflict or, for a void of a void, quarantined.
func (d *decision) event(c *chunk, it *item, l *ledgerRow) error {
	pos := Position{Shard: c.shard, Seq: c.seq, Idx: it.idx}
	id := usage.Identity{Source: it.event.Source, ID: it.event.ID}
	if o, ok := d.original(it.ident, it.seen, c.tenant, id, pos); ok {
		says := saying{it.ident, it.contentHash}
		first, again := d.disputed[says]
		if o.contentHash == it.contentHash {
			first, again = o.pos, true
		}
		// A contradiction that comes again in this chunk is a duplicate of it: a flood of one is one dead letter a chunk.
		if again {
			d.duplicate(c, it, says, id, pos, first)
			l.duplicate++
			return nil
		}
		d.disputed[says] = pos
		d.conflict(c, it, id, pos, o)
		l.conflict++
		return nil
	}
	d.fill(&d.row, c, it, pos)
	if it.event.Type == usage.TypeVoided {
		return d.void(c, it, l)
	}
	w, pending := Waiting{}, false
	if len(d.waiting) > 0 {
		w, pending = d.waiting[keyOf(c.tenant, id)]
	}
	d.store(it, pos, pending, l)
	if pending {
		delete(d.waiting, keyOf(c.tenant, id))
		neg := negation(&d.row, pos, d.row.causation, max(d.row.recordedAt, w.RecordedAt))
		d.router.event(&neg)
		l.voided++
	}
	return nil
}

// store writes the row that was made, and remembers its identity until the batch is retired at least.
func (d *decision) store(it *item, pos Position, voided bool, l *ledgerRow) {
	l.stored++
	d.memory.put(newEntry(it.ident, it.contentHash, pos, it.event.Type == usage.TypeVoided, voided))
	d.batch.stored = append(d.batch.stored, it.idHash)
	d.router.event(&d.row)
}

// found is the first occurrence of an identity, and where it was decided but not yet retired, its batch.
type found struct {
	entry
	pos   Position
	batch *batch
}

// original finds the first occurrence of an identity before pos: in memory, else in the warehouse. What
// the filter has not seen is neither in the warehouse nor in what memory knows of it.
func (d *decision) original(k ident, seen bool, tenant string, id usage.Identity, pos Position) (found, bool) {
	if o, b := d.memory.inFlight(k); o != nil {
		return found{entry: *o, pos: o.pos(Partition(pos.Shard)), batch: b}, true
	}
	if !seen {
		return found{}, false
	}
	if o := d.memory.recent(k); o != nil {
		return found{entry: *o, pos: o.pos(Partition(pos.Shard))}, true
	}
	if len(d.known) == 0 {
		return found{}, false
	}
	s := d.known[keyOf(tenant, id)]
	if s == nil || !s.found || !s.original.Position.Before(pos) {
		return found{}, false
	}
	o := s.original
	return found{pos: o.Position, entry: newEntry(k, o.ContentHash, o.Position, o.Type == usage.TypeVoided, s.voided && s.voidedAt.Before(pos))}, true
}

// void decides an event.voided whose own identity is new and whose row is made. The first void naming a
// target acts; a void of a void is quarantined and consumes no identity; a void before its target waits
// (I17).
func (d *decision) void(c *chunk, it *item, l *ledgerRow) error {
	row, t := &d.row, it.event.Target
	target, ok := d.original(d.memory.hash.of(c.tenant, t), true, c.tenant, t, row.pos)
	if ok && target.isVoid() {
		d.quarantine(c, &reject{
			idx: it.idx, id: usage.Identity{Source: it.event.Source, ID: it.event.ID}, typ: it.event.Type, account: it.event.Subject,
			reason: reasonVoidOfVoid, detail: "the target is itself an event.voided; send the original event again under a new id", raw: rawOf(it),
		}, l)
		return nil
	}
	var neg *eventRow
	switch {
	case ok && target.voided():
		row.voidEffect = voidAlready
	case ok:
		row.voidEffect = voidActed
		n, err := d.negate(keyOf(c.tenant, t), target, row)
		if err != nil {
			return err
		}
		neg = &n
	default:
		row.voidEffect = voidWaiting
		if _, earlier := d.waiting[keyOf(c.tenant, t)]; earlier {
			row.voidEffect = voidAlready
			break
		}
		d.wait(c, it, row)
	}
	d.store(it, row.pos, false, l)
	if neg != nil {
		d.router.event(neg)
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

// negate copies the stored row of a target and marks the target as voided. The row of one that is not
// retired is made again from its message, which is still here: the warehouse may have it or not.
func (d *decision) negate(k identityKey, target found, void *eventRow) (eventRow, error) {
	d.memory.void(target.entry)
	if target.batch != nil {
		row, err := d.remake(target)
		if err != nil {
			return eventRow{}, err
		}
		return negation(&row, void.pos, void.causation, max(row.recordedAt, void.recordedAt)), nil
	}
	s := d.known[k]
	if s == nil || s.row == nil {
		return eventRow{}, fmt.Errorf("%w: no stored row of %s/%s at seq %d to void", errBroken, k.source, k.id, target.pos.Seq)
	}
	return negation(s.row, void.pos, void.causation, max(s.row.recordedAt, void.recordedAt)), nil
}

// remake makes the row of an original that is still in flight.
func (d *decision) remake(o found) (row eventRow, err error) {
	c := o.batch.chunkAt(o.pos.Seq)
	items, _, err := d.again.open(c)
	if err != nil {
		return row, err
	}
	i, ok := slices.BinarySearchFunc(items, o.pos.Idx, func(it item, idx uint32) int { return cmp.Compare(it.idx, idx) })
	if !ok {
		return row, fmt.Errorf("%w: shard %d seq %d has no event %d any more", errBroken, c.shard, c.seq, o.pos.Idx)
	}
	d.fill(&row, c, &items[i], o.pos)
	return row, nil
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
