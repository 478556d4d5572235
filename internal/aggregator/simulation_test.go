package aggregator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// The simulation runs the real decider and the real commit against a model of ClickHouse that promises
// exactly what a plain MergeTree promises: a block is split by partition, each partition's part appears
// whole or not at all, in any order; a killed query stops between two parts; an answer can be lost after
// the effect. Two aggregators fight for one shard, each may die between any two parts or be frozen and
// wake up later. After every life the same oracle, which shares no code with the product, must agree.

// world is the log, the model warehouse and the fault plan of one seed.
type world struct {
	rnd    *rand.Rand
	log    []*chunk
	parts  map[warehouse.Target]map[warehouse.Partition][]simRow
	owner  uint64 // epoch of the newest owner row
	flight *flight
	faults int  // faults still to inject
	depth  int  // nesting of takeovers by the other aggregator
	bug    bugs // planted, to show that the oracle sees them
	lives  int
}

// bugs are known mistakes, planted to prove that the simulation notices them.
type bugs struct {
	noFilter       bool // rows are sent again without comparing them with the watermark
	progressAnyMax bool // progress is read from the events instead of the ledger
	noFence        bool // inserts do not check the owner
	staleMarks     bool // watermarks are read before the old owner's query is killed
	noMemory       bool // identities since progress are not remembered
}

type simRow struct {
	seq uint64
	key string
	row *eventRow // of table events
	sum int64     // of table usage_hourly: signed quantity in whole units
}

// flight is an insert that has begun: its fence was checked, its parts may still appear.
type flight struct {
	parts []pendingPart
	dead  bool
}

type pendingPart struct {
	target warehouse.Target
	part   warehouse.Partition
	rows   []simRow
}

var (
	errDied    = errors.New("simulated death")
	errLost    = errors.New("simulated loss of the answer")
	errKilled  = errors.New("simulated KILL QUERY")
	errNotMine = errors.New("simulated fence")
)

// simSession is an owner's session in the model.
type simSession struct {
	w     *world
	epoch uint64
}

func (s *simSession) Insert(ctx context.Context, t warehouse.Target, b *batch, k keeper) error {
	w := s.w
	if w.chance(20) {
		w.rival() // frozen between two inserts, woken up after somebody else took over
	}
	if s.epoch != w.owner && !w.bug.noFence {
		return errNotMine
	}
	if w.bug.noFilter {
		k = keeper{past: true}
	}
	f := &flight{parts: w.split(t, b, k)}
	outer := w.flight
	w.flight = f
	defer func() { w.flight = outer }()
	for len(f.parts) > 0 {
		if w.chance(14) {
			if w.rnd.IntN(2) == 0 {
				return errDied
			}
			w.rival()
			if f.dead {
				return errKilled
			}
		}
		w.land(f)
	}
	if w.chance(20) {
		return errLost
	}
	return nil
}

// land commits one pending part of a flight.
func (w *world) land(f *flight) {
	i := w.rnd.IntN(len(f.parts))
	p := f.parts[i]
	f.parts = slices.Delete(f.parts, i, i+1)
	if w.parts[p.target] == nil {
		w.parts[p.target] = map[warehouse.Partition][]simRow{}
	}
	w.parts[p.target][p.part] = append(w.parts[p.target][p.part], p.rows...)
}

// split renders the rows of one target by partition.
func (w *world) split(t warehouse.Target, b *batch, k keeper) []pendingPart {
	by := map[warehouse.Partition][]simRow{}
	put := func(at int64, r simRow) {
		p := partitionOf(t, at)
		by[p] = append(by[p], r)
	}
	switch t {
	case warehouse.Events:
		b.eachEvent(k, func(r *eventRow) { put(r.at, simRow{seq: r.pos.Seq, key: eventKey(r), row: r}) })
	case warehouse.Pieces:
		b.eachPiece(k, func(r *eventRow, n int, p *usage.Piece) {
			put(p.Start.Millis(), simRow{seq: r.pos.Seq, key: fmt.Sprintf("%s piece %d %s", eventKey(r), n, p.Quantity)})
		})
	case warehouse.Hourly:
		h := newHourly()
		b.eachHourly(k, h)
		for i, key := range h.keys {
			c := h.cells[i]
			put(key.hour*1000, simRow{
				seq: c.hi, sum: whole(c.quantity),
				key: fmt.Sprintf("%s %s %s %d", key.tenant, key.account, key.meter, key.hour),
			})
		}
	case warehouse.Directory:
		b.eachDirectory(k, func(r *eventRow) { put(r.at, simRow{seq: r.pos.Seq, key: eventKey(r)}) })
	case warehouse.DeadLetters:
		b.eachDead(k, func(r *deadRow) {
			put(r.recordedAt, simRow{seq: r.pos.Seq, key: fmt.Sprintf("%v %s %s", r.pos, r.reason, r.id.ID)})
		})
	case warehouse.Duplicates:
		b.eachDuplicate(k, func(r *duplicateRow) {
			put(r.recordedAt, simRow{seq: r.pos.Seq, key: fmt.Sprintf("%v %s x%d of %v", r.pos, r.id.ID, r.n, r.original)})
		})
	case warehouse.Ledger:
		b.eachLedger(k, func(r *ledgerRow) { put(r.loggedAt, simRow{seq: r.seq, key: ledgerKey(r)}) })
	}
	var parts []pendingPart
	for _, p := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, pendingPart{target: t, part: p, rows: by[p]})
	}
	return parts
}

func eventKey(r *eventRow) string {
	return fmt.Sprintf("%v %+d %s/%s %s %s rec=%d cause=%s %s", r.pos, r.sign, r.tenant, r.event.ID, r.meter, r.quantity, r.recordedAt, r.causation, r.voidEffect)
}

func ledgerKey(r *ledgerRow) string {
	return fmt.Sprintf("%d %s acc=%d st=%d dup=%d con=%d qua=%d void=%d miss=%v", r.seq, r.tenant, r.accepted, r.stored, r.duplicate, r.conflict, r.quarantined, r.voided, r.missing)
}

func whole(q usage.Quantity) int64 { return q.Big().Int64() }

// chance spends one of the remaining faults with probability 1/n.
func (w *world) chance(n int) bool {
	if w.faults == 0 || w.rnd.IntN(n) > 0 {
		return false
	}
	w.faults--
	return true
}

// rival lets the other aggregator take over and work for a while in the middle of an insert.
func (w *world) rival() {
	if w.depth > 2 {
		return
	}
	w.depth++
	defer func() { w.depth-- }()
	_ = w.life(1 + w.rnd.IntN(3))
}

// takeover is point 5: owner row, then KILL SYNC, then the watermarks.
func (w *world) takeover() (*simSession, watermarks, uint64) {
	w.owner++
	s := &simSession{w: w, epoch: w.owner}
	marks := w.marks()
	if f := w.flight; f != nil && !f.dead {
		for len(f.parts) > 0 && w.rnd.IntN(2) == 0 {
			w.land(f) // the commit under way finishes before KILL SYNC returns
		}
		f.dead, f.parts = true, nil
	}
	if !w.bug.staleMarks {
		marks = w.marks()
	}
	return s, marks, w.progress()
}

func (w *world) marks() watermarks {
	marks := watermarks{}
	for t, parts := range w.parts {
		marks[t] = map[warehouse.Partition]uint64{}
		for p, rows := range parts {
			for _, r := range rows {
				marks[t][p] = max(marks[t][p], r.seq)
			}
		}
	}
	return marks
}

func (w *world) progress() uint64 {
	var top uint64
	t := warehouse.Ledger
	if w.bug.progressAnyMax {
		t = warehouse.Events
	}
	for _, rows := range w.parts[t] {
		for _, r := range rows {
			top = max(top, r.seq)
		}
	}
	return top
}

// Lookup and Negatable are the model's history.
func (w *world) Lookup(_ context.Context, keys []Key) ([]Evidence, error) {
	want := map[identityKey]bool{}
	for _, k := range keys {
		want[keyOf(k.Tenant, k.ID)] = true
	}
	var out []Evidence
	for _, rows := range w.parts[warehouse.Events] {
		for _, r := range rows {
			id := usage.Identity{Source: r.row.event.Source, ID: r.row.event.ID}
			if want[keyOf(r.row.tenant, id)] {
				out = append(out, Evidence{Tenant: r.row.tenant, ID: id, Position: r.row.pos, Sign: r.row.sign, ContentHash: r.row.contentHash, Type: r.row.event.Type})
			}
		}
	}
	return out, nil
}

func (w *world) Negatable(_ context.Context, originals []Evidence) ([]eventRow, error) {
	var out []eventRow
	asked := map[Position]bool{}
	for _, o := range originals {
		if asked[o.Position] { // as the warehouse does: a repeat would be refused for ever
			return nil, fmt.Errorf("row at seq %d idx %d asked for twice", o.Position.Seq, o.Position.Idx)
		}
		asked[o.Position] = true
		for _, rows := range w.parts[warehouse.Events] {
			i := slices.IndexFunc(rows, func(r simRow) bool { return r.row.pos == o.Position && r.row.sign > 0 })
			if i >= 0 {
				out = append(out, *rows[i].row)
			}
		}
	}
	return out, nil
}

// life is one session of an aggregator: take over, rebuild what it keeps in memory, read from progress,
// commit up to n batches (0: to the end of the log).
func (w *world) life(n int) error {
	w.lives++
	s, marks, progress := w.takeover()
	d := &decider{history: w, filter: newFilter(64), memory: newMemory(), waiting: map[identityKey]Waiting{}}
	d.memory.keep = w.rnd.IntN(30) // identities: some are known from memory, some from the warehouse
	w.recall(d, progress)
	var pending []*batch // decided, not yet committed: the pipeline's depth
	for at := int(progress); at < len(w.log) || len(pending) > 0; {
		if at < len(w.log) && len(pending) < 2 {
			cut := min(len(w.log), at+1+w.rnd.IntN(6))
			b, err := d.decide(context.Background(), w.log[at:cut])
			if err != nil {
				return err
			}
			if w.bug.noMemory {
				d.memory.live[len(d.memory.live)-1] = newGeneration()
			}
			at = cut
			pending = append(pending, b)
			if len(pending) < 2 && w.rnd.IntN(2) == 0 {
				continue
			}
		}
		b := pending[0]
		pending = pending[1:]
		if err := commitInOrder(context.Background(), s, marks, b, w.rnd); err != nil {
			return err
		}
		d.retire(b)
		if n--; n == 0 {
			return nil
		}
	}
	return nil
}

// commitInOrder is commit with the targets one after the other, in an order of the seed's.
func commitInOrder(ctx context.Context, to inserter, w watermarks, b *batch, rnd *rand.Rand) error {
	return commitWith(ctx, to, w, b, func(ctx context.Context, inserts []func(context.Context) error) error {
		for _, i := range rnd.Perm(len(inserts)) {
			if err := inserts[i](ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// recall is what a session loads at its start: the filter and the waiting voids, up to progress.
func (w *world) recall(d *decider, progress uint64) {
	for _, rows := range w.parts[warehouse.Events] {
		for _, r := range rows {
			if r.row.pos.Seq > progress || r.row.sign < 0 {
				continue
			}
			d.filter.add(r.row.idHash)
			if r.row.voidEffect != voidWaiting {
				continue
			}
			k := keyOf(r.row.tenant, r.row.event.Target)
			d.waiting[k] = Waiting{Tenant: r.row.tenant, Target: r.row.event.Target, Position: r.row.pos, RecordedAt: r.row.recordedAt, Causation: r.row.causation}
		}
	}
}

func simulate(seed uint64, bug bugs) (w *world, err error) {
	rnd := rand.New(rand.NewPCG(seed, 42))
	w = &world{rnd: rnd, parts: map[warehouse.Target]map[warehouse.Partition][]simRow{}, bug: bug, faults: rnd.IntN(12)}
	w.log = simLog(rnd)
	for range 60 {
		err = w.life(0)
		if err == nil {
			break
		}
		if errors.Is(err, errBroken) {
			return w, err
		}
	}
	if err != nil {
		return w, fmt.Errorf("never finished: %w", err)
	}
	return w, w.check()
}

// TestSimulation kills, freezes and replays aggregators over thousands of seeds; each must end in exactly
// what the oracle computes from the log.
func TestSimulation(t *testing.T) {
	t.Parallel()
	const seeds = 4000
	lives := 0
	for seed := range uint64(seeds) {
		w, err := simulate(seed, bugs{})
		lives += w.lives
		if err != nil {
			t.Fatalf("seed %d after %d lives: %v", seed, w.lives, err)
		}
	}
	t.Logf("%d seeds, %d lives: nothing lost, nothing doubled", seeds, lives)
}

// TestSimulationSeesPlantedBugs shows that the oracle would notice: each known mistake must make some
// seed fail.
func TestSimulationSeesPlantedBugs(t *testing.T) {
	t.Parallel()
	tests := map[string]bugs{
		"watermark filter left out":           {noFilter: true},
		"progress from events, not ledger":    {progressAnyMax: true},
		"fence left out":                      {noFence: true},
		"watermarks read before KILL":         {staleMarks: true},
		"identities since progress forgotten": {noMemory: true},
	}
	for name, bug := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2000) {
				if _, err := simulate(seed, bug); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("2000 seeds did not notice")
		})
	}
}
