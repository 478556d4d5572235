package report

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const (
	// booksMax bounds the tenants whose directory is kept.
	booksMax = 64
	// booksBytes bounds what they take together, roughly; the one being asked may be larger. A tenant of
	// 10,000 accounts with three events each takes about 20 MB.
	booksBytes = 384 << 20
	// foldsMax bounds the earlier states kept of a tenant, each about as large as its events.
	foldsMax = 4
)

// books keeps each tenant's directory folded, now and at some earlier cuts, until its events change.
type books struct {
	mu      sync.Mutex
	tenants map[string]*book
	clock   uint64 // counts uses: the book used longest ago goes first
}

// book is the directory of a tenant. Its events are read once: rows of a shard come in the order of the
// log, each batch at once, so that only what is beyond the last known position need be read again. Should
// rows at or below it ever differ (a repair, a rebuild), their fingerprint does too, and all is read anew.
type book struct {
	turn   chan struct{} // taken by who reads or changes what is below
	used   uint64        // guarded by books.mu, as is bytes
	bytes  int
	prints fingerprint // of the rows behind events
	known  map[uint16]uint64
	events []directory.Event
	weight int    // of events, in bytes, roughly
	folds  []fold // most recently used first
}

// fingerprint tells sets of rows apart.
type fingerprint struct{ rows, hash uint64 }

type fold struct {
	of    fingerprint // of the events in it
	state *directory.State
}

const directoryRead = `
FROM {{db}}.directory_events
WHERE tenant = {tenant:String} AND type IN {types:Array(String)}`

// What is at or below the known positions, and how many rows there are beyond.
const directoryFingerprint = `
SELECT countIf(known), groupBitXorIf(cityHash64(shard, seq, idx, sign), known), countIf(NOT known)
FROM
(
    SELECT shard, seq, idx, sign, seq <= transform(shard, {shards:Array(UInt16)}, {seqs:Array(UInt64)}, toUInt64(0)) AS known` + directoryRead + `
)`

const directoryEvents = `
SELECT type, source, id, account, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), sign, data, shard, seq, idx,
    cityHash64(shard, seq, idx, sign)` + directoryRead + `
    AND seq > transform(shard, {shards:Array(UInt16)}, {seqs:Array(UInt64)}, toUInt64(0))`

// directoryAt is the tenant's directory as the events of the cut tell it. A state is shared: it is read, never
// changed.
func (r *Reports) directoryAt(ctx context.Context, tenant string, cut Cut) (*directory.State, error) {
	state, _, err := r.directoryNamed(ctx, tenant, cut)
	return state, err
}

// directoryNamed also names what the directory was folded from: under the same name everything is the same in it but
// perhaps its meters, on which usage has a say. The name is "" where it is not the whole directory.
func (r *Reports) directoryNamed(ctx context.Context, tenant string, cut Cut) (*directory.State, string, error) {
	return r.foldOnce(ctx, tenant, cut)
}

func (r *Reports) foldNamed(ctx context.Context, tenant string, cut Cut) (*directory.State, string, error) {
	b := r.books.of(tenant)
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, "", ctx.Err()
	case <-warehouse.Silence(ctx).Done():
		return nil, "", context.Cause(warehouse.Silence(ctx))
	}
	defer func() { <-b.turn }()
	if err := r.refreshOnce(ctx, tenant, b); err != nil {
		return nil, "", err
	}
	if only, ok := ctx.Value(onlyEvents{}).(func(*directory.Event) bool); ok {
		return directory.Fold(b.some(cut, only), directory.Latest), "", nil
	}
	state := b.at(cut, nil)
	if smaller := state.Shrunk(); len(smaller) > 0 {
		certificates, err := r.certificatesOf(ctx, tenant, cut, smaller)
		if err != nil {
			return nil, "", err
		}
		state = b.at(cut, certificates)
	}
	of := b.folds[0].of
	r.books.keep(tenant, b)
	state, err := r.judged(ctx, tenant, cut, state)
	return state, fmt.Sprintf("%d %x", of.rows, of.hash), err
}

// named is a directory with the name of what it was folded from, as directoryNamed has it.
type named struct {
	*directory.State
	name string
}

// onlyEvents is the key of a context in which the directory is folded from some of its events: what an explanation
// shows is all that its number needs.
type onlyEvents struct{}

// some are the events of a cut that a test lets through.
func (b *book) some(cut Cut, only func(*directory.Event) bool) []directory.Event {
	var events []directory.Event
	for i := range b.events {
		if e := &b.events[i]; cut.has(e) && only(e) {
			events = append(events, *e)
		}
	}
	return events
}

// of is the tenant's book, an empty one if there is none.
func (b *books) of(tenant string) *book {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.tenants[tenant]
	if one == nil {
		one = &book{turn: make(chan struct{}, 1), known: map[uint16]uint64{}}
		b.tenants[tenant] = one
	}
	b.clock++
	one.used = b.clock
	return one
}

// keep says how large a book has become and lets go of others, those used longest ago first.
func (b *books) keep(tenant string, one *book) {
	b.mu.Lock()
	defer b.mu.Unlock()
	one.bytes = one.weight * (1 + len(one.folds)) // a fold is as large as what it was made from
	for {
		total, oldest := 0, ""
		for name, other := range b.tenants {
			total += other.bytes
			if name != tenant && (oldest == "" || other.used < b.tenants[oldest].used) {
				oldest = name
			}
		}
		if oldest == "" || total <= booksBytes && len(b.tenants) <= booksMax {
			return
		}
		delete(b.tenants, oldest) // who is reading it keeps it until then
	}
}

// weigh is roughly what an event takes.
func weigh(e *directory.Event) int {
	const overhead = 160 // the row itself and the headers of its texts
	return overhead + len(e.Source) + len(e.ID) + len(e.Account) + len(e.Data)
}

// refresh reads what the warehouse has and the book has not.
func (r *Reports) refresh(ctx context.Context, tenant string, b *book) error {
	params := func() map[string]any {
		shards, seqs := warehouse.Positions(b.known)
		return map[string]any{"tenant": tenant, "types": directory.Types(), "shards": shards, "seqs": seqs}
	}
	var now fingerprint
	var beyond uint64
	err := r.query(ctx, "read the directory", directoryFingerprint, params(), func(row warehouse.Rows) error {
		return row.Scan(&now.rows, &now.hash, &beyond)
	})
	if err != nil {
		return err
	}
	if now != b.prints {
		b.prints, b.known, b.events, b.weight, b.folds = fingerprint{}, map[uint16]uint64{}, nil, 0, nil
		beyond += now.rows
	}
	if beyond == 0 {
		return nil
	}
	prints, events, weight, known := b.prints, b.events[:len(b.events):len(b.events)], b.weight, map[uint16]uint64{}
	err = r.query(ctx, "read the directory", directoryEvents, params(), func(row warehouse.Rows) error {
		var e directory.Event
		var sign int8
		var hash uint64
		err := row.Scan(&e.Type, &e.Source, &e.ID, &e.Account, &e.At, &e.RecordedAt, &sign, &e.Data, &e.Shard, &e.Seq, &e.Idx, &hash)
		e.Void = sign < 0
		events, weight, prints.rows, prints.hash = append(events, e), weight+weigh(&e), prints.rows+1, prints.hash^hash
		known[e.Shard] = max(known[e.Shard], e.Seq)
		return err
	})
	if err != nil {
		return err // what was read is left out whole
	}
	for shard, seq := range b.known {
		known[shard] = max(known[shard], seq)
	}
	b.prints, b.events, b.weight, b.known = prints, events, weight, known
	return nil
}

// at is the fold of the events in a cut, and of others in it that the book does not keep. Cuts that hold the same
// events share a state.
func (b *book) at(cut Cut, others []directory.Event) *directory.State {
	of := fingerprint{}
	for i := range others {
		of.rows++
		of.hash ^= mix(&others[i])
	}
	for i := range b.events {
		if e := &b.events[i]; cut.has(e) {
			of.rows++
			of.hash ^= mix(e)
		}
	}
	for i, f := range b.folds {
		if f.of == of {
			copy(b.folds[1:i+1], b.folds[:i])
			b.folds[0] = f
			return f.state
		}
	}
	events := b.events
	if of.rows != uint64(len(events)) || len(others) > 0 {
		events = slices.Grow(slices.Clone(others), len(b.events))
		for i := range b.events {
			if cut.has(&b.events[i]) {
				events = append(events, b.events[i])
			}
		}
	}
	f := fold{of, directory.Fold(events, directory.Latest)}
	b.folds = append([]fold{f}, b.folds[:min(len(b.folds), foldsMax)]...)
	return f.state
}

// has reports whether an event is in the cut: what inCut says in SQL.
func (c Cut) has(e *directory.Event) bool {
	asOf := c.AsOf
	if c.Base != nil && e.Seq <= c.Base.Shards[e.Shard] {
		asOf = max(asOf, c.Base.AsOf)
	}
	return e.RecordedAt <= asOf && (c.Shards == nil || e.Seq <= c.Shards[e.Shard])
}

// mix is a hash of an event's row by its position: splitmix64, whose bits do not cancel under XOR.
func mix(e *directory.Event) uint64 {
	x := e.Seq*0x9e3779b97f4a7c15 + uint64(e.Shard)<<48 + uint64(e.Idx)<<1
	if e.Void {
		x++
	}
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
