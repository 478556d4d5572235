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
	shard  uint16   // of the incarnation being written
	prefix uint64   // of the log that it has in common with the incarnation before
	ended  endings  // incarnations before, and how far each was counted
	truth  []*chunk // what they counted: the oracle counts it too
	parts  map[warehouse.Target]map[warehouse.Partition][]simRow
	owner  uint64 // epoch of the newest owner row
	flight *flight
	faults int  // faults still to inject
	depth  int  // nesting of takeovers by the other aggregator
	bug    bugs // planted, to show that the oracle sees them
	lives  int
	dir    string // of identities that are on disk; "" where memory forgets
	spills int    // lives that had some there
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
	shard uint16
	seq   uint64
	key   string
	row   *eventRow // of table events
	piece *warehouse.PieceRow
	cell  *rollupCell
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

func (s *simSession) Insert(_ context.Context, t warehouse.Target, b *batch) error {
	w := s.w
	if w.chance(20) {
		w.rival() // frozen between two inserts, woken up after somebody else took over
	}
	if s.epoch != w.owner && !w.bug.noFence {
		return errNotMine
	}
	f := &flight{parts: b.rows.(*simRows).parts(t)}
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

// simRows are the rows of a batch, by target and partition.
type simRows struct {
	shard uint16
	by    [warehouse.Targets]map[warehouse.Partition][]simRow
}

func (s *simRows) begin(shard uint16) { s.shard = shard }

func (s *simRows) put(t warehouse.Target, at int64, r simRow) {
	p := partitionOf(t, at)
	r.shard = s.shard
	if s.by[t] == nil {
		s.by[t] = map[warehouse.Partition][]simRow{}
	}
	s.by[t][p] = append(s.by[t][p], r)
}

func (s *simRows) event(r *eventRow) {
	own, e := *r, *r.event // the decider uses its own again
	if e.Metered != nil {
		m := *e.Metered
		e.Metered = &m
	}
	own.event = &e
	s.put(warehouse.Events, r.at, simRow{seq: r.pos.Seq, key: eventKey(r), row: &own})
}

func (s *simRows) piece(r *eventRow, n int, p *usage.Piece) {
	var row warehouse.PieceRow
	r.fillPiece(&row, n, p)
	row.At, row.EndAt, row.TrialExpiry = wholeMillis(row.At), wholeMillis(row.EndAt), wholeMillis(row.TrialExpiry)
	s.put(warehouse.Pieces, p.Start.Millis(), simRow{seq: r.pos.Seq, piece: &row, key: fmt.Sprintf("%s piece %d %s %v", eventKey(r), n, p.Quantity, p.Trial)})
}

func (s *simRows) cell(t warehouse.Target, w *words, c *rollupCell) {
	own := *c
	s.put(t, c.at*1000, simRow{
		seq: c.hi, cell: &own,
		key: fmt.Sprintf("%s %s %s %d %v", w.texts[c.tenant], w.texts[c.account], w.texts[c.meter], c.at, c.trial),
	})
}

func (s *simRows) directory(r *eventRow) {
	s.put(warehouse.Directory, r.at, simRow{seq: r.pos.Seq, key: eventKey(r)})
}

func (s *simRows) dead(r *deadRow) {
	s.put(warehouse.DeadLetters, r.recordedAt, simRow{seq: r.pos.Seq, key: fmt.Sprintf("%v %s %s", r.pos, r.reason, r.id.ID)})
}

func (s *simRows) duplicate(r *duplicateRow) {
	s.put(warehouse.Duplicates, r.recordedAt, simRow{seq: r.pos.Seq, key: fmt.Sprintf("%v %s x%d of %v", r.pos, r.id.ID, r.n, r.original)})
}

func (s *simRows) elastic(r *eventRow, op *usage.ElasticOperation) {
	for i := range op.Lines {
		s.put(warehouse.Elastic, r.at, simRow{seq: r.pos.Seq, key: fmt.Sprintf("%s line %d", eventKey(r), i)})
	}
}

func (s *simRows) ledger(r *ledgerRow) {
	s.put(warehouse.Ledger, r.loggedAt, simRow{seq: r.seq, key: ledgerKey(r)})
}

func (s *simRows) parts(t warehouse.Target) (parts []pendingPart) {
	for _, p := range slices.Sorted(maps.Keys(s.by[t])) {
		parts = append(parts, pendingPart{target: t, part: p, rows: s.by[t][p]})
	}
	return parts
}

func eventKey(r *eventRow) string {
	return fmt.Sprintf("%v %+d %s/%s %s %s rec=%d cause=%s %s", r.pos, r.sign, r.tenant, r.event.ID, r.meter, r.quantity, r.recordedAt, r.causation, r.voidEffect)
}

func ledgerKey(r *ledgerRow) string {
	return fmt.Sprintf("%d/%d %s acc=%d st=%d dup=%d con=%d qua=%d void=%d miss=%v", r.shard, r.seq, r.tenant, r.accepted, r.stored, r.duplicate, r.conflict, r.quarantined, r.voided, r.missing)
}

// wholeMillis is an instant as the warehouse keeps it.
func wholeMillis(i usage.Instant) usage.Instant {
	if !i.Known() {
		return i
	}
	return millis(i.Millis())
}

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
				if r.shard == w.shard {
					marks[t][p] = max(marks[t][p], r.seq)
				}
			}
		}
	}
	return marks
}

func (w *world) progress() uint64 {
	top := w.prefix
	t := warehouse.Ledger
	if w.bug.progressAnyMax {
		t = warehouse.Events
	}
	for _, rows := range w.parts[t] {
		for _, r := range rows {
			if r.shard == w.shard {
				top = max(top, r.seq)
			}
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
			if want[keyOf(r.row.tenant, id)] && w.ended.holds(place(r.row.pos)) {
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
				out = append(out, w.restored(rows[i].row))
			}
		}
	}
	return out, nil
}

// restored is a row as it comes back from the warehouse: instants cut to milliseconds, pieces from their
// own table.
func (w *world) restored(r *eventRow) eventRow {
	var row warehouse.EventRow
	r.fill(&row, usage.Instant{})
	row.At, row.EndAt, row.TrialExpiry = wholeMillis(row.At), wholeMillis(row.EndAt), wholeMillis(row.TrialExpiry)
	var pieces []warehouse.PieceRow
	for _, rows := range w.parts[warehouse.Pieces] {
		for _, p := range rows {
			if p.piece.Position == row.Position && p.piece.ID == row.ID && p.piece.Sign > 0 {
				pieces = append(pieces, *p.piece)
			}
		}
	}
	slices.SortFunc(pieces, func(a, b warehouse.PieceRow) int { return int(a.Piece) - int(b.Piece) })
	return restore(&row, pieces)
}

// life is one session of an aggregator: take over, rebuild what it keeps in memory, read from progress,
// commit up to n batches (0: to the end of the log).
func (w *world) life(n int) error {
	w.lives++
	s, marks, progress := w.takeover()
	if w.bug.noFilter {
		marks = nil
	}
	d := &decider{history: w, filter: newFilter(64), memory: newMemory(), router: newRouter(marks), waiting: map[identityKey]Waiting{}}
	d.memory.keep = w.rnd.IntN(30) // identities: some are known from memory, some from the warehouse
	if w.dir != "" {
		d.memory.spill = &spill{dir: w.dir, keep: 3 * d.memory.keep, fan: 2} // and some from disk
		defer func() {
			if len(d.memory.spill.runs) > 0 {
				w.spills++
			}
			d.memory.close()
		}()
	}
	w.recall(d, progress)
	w.arrived(d, progress)
	depth := 1 + w.rnd.IntN(4)
	var pending, committed []*batch // decided, not yet committed; committed, not yet retired
	for at := int(progress); at < len(w.log) || len(pending) > 0; {
		if at < len(w.log) && len(pending) < depth {
			for len(committed) > 0 && w.rnd.IntN(2) == 0 {
				d.retire(committed[0])
				committed = committed[1:]
			}
			cut := min(len(w.log), at+1+w.rnd.IntN(6))
			b, err := d.decide(context.Background(), w.log[at:cut], &simRows{})
			if err != nil {
				return err
			}
			if w.bug.noMemory {
				forgotten := newGeneration()
				forgotten.batch = b
				d.memory.live[len(d.memory.live)-1] = forgotten
			}
			at = cut
			pending = append(pending, b)
			if len(pending) < depth && w.rnd.IntN(2) == 0 {
				continue
			}
		}
		b := pending[0]
		pending = pending[1:]
		if err := commitInOrder(context.Background(), s, b, w.rnd); err != nil {
			return err
		}
		committed = append(committed, b)
		if n--; n == 0 {
			return nil
		}
	}
	return nil
}

// commitInOrder is commit with the targets one after the other, in an order of the seed's.
func commitInOrder(ctx context.Context, to inserter, b *batch, rnd *rand.Rand) error {
	return commitWith(ctx, to, b, func(ctx context.Context, inserts []func(context.Context) error) error {
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
			if r.shard == w.shard && r.seq > progress || r.row.sign < 0 {
				continue
			}
			d.filter.add(r.row.idHash)
			if !w.ended.holds(place(r.row.pos)) {
				continue
			}
			if r.row.voidEffect != voidWaiting {
				continue
			}
			k := keyOf(r.row.tenant, r.row.event.Target)
			d.waiting[k] = Waiting{Tenant: r.row.tenant, Target: r.row.event.Target, Position: r.row.pos, RecordedAt: r.row.recordedAt, Causation: r.row.causation}
		}
	}
}

// arrived drops waiting voids whose target is stored, as a session does.
func (w *world) arrived(d *decider, progress uint64) {
	for _, rows := range w.parts[warehouse.Events] {
		for _, r := range rows {
			if r.row.sign > 0 && w.ended.holds(place(r.row.pos)) && (r.shard != w.shard || r.seq <= progress) {
				delete(d.waiting, keyOf(r.row.tenant, usage.Identity{Source: r.row.event.Source, ID: r.row.event.ID}))
			}
		}
	}
}

// simulate runs the life of a log. Every second seed has a memory that goes on on disk.
func simulate(dir string, seed uint64, bug bugs) (w *world, err error) {
	rnd := rand.New(rand.NewPCG(seed, 42))
	if seed%2 == 0 {
		dir = ""
	}
	w = &world{rnd: rnd, dir: dir, parts: map[warehouse.Target]map[warehouse.Partition][]simRow{}, ended: endings{}, bug: bug, faults: rnd.IntN(12)}
	w.log = simLog(rnd)
	for range rnd.IntN(2) * rnd.IntN(4) { // some lives, and then the stream is made anew
		if err = w.life(1 + rnd.IntN(4)); errors.Is(err, errBroken) {
			return w, err
		}
		if w.progress() > w.prefix && !w.leftovers() {
			w.recreate()
		}
	}
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

// leftovers reports whether something above progress is stored. A rollup's cells cannot be divided, so what
// is left of a stream that is gone can only be named (audit), not undone; the oracle knows no better.
func (w *world) leftovers() bool {
	progress := w.progress()
	for _, parts := range w.marks() {
		for _, mark := range parts {
			if mark > progress {
				return true
			}
		}
	}
	return false
}

// recreate replaces the log by one that agrees with it up to some sequence and then goes on otherwise:
// producers send some of what was lost again, and other things. What was counted stays counted.
func (w *world) recreate() {
	counted := w.progress()
	w.ended[w.shard] = counted
	w.truth = append(w.truth, w.log[w.prefix:counted]...)
	w.shard += 1 << incarnationShift
	w.prefix = uint64(w.rnd.IntN(int(counted) + 1))
	old := w.log
	w.log = append([]*chunk(nil), old[:w.prefix]...)
	for _, c := range simLog(w.rnd) {
		if w.rnd.IntN(2) == 0 {
			again := *old[w.rnd.IntN(len(old))]
			c = &again
		}
		own := *c
		own.shard, own.seq = w.shard, uint64(len(w.log)+1)
		w.log = append(w.log, &own)
	}
}

// TestSimulation kills, freezes and replays aggregators over thousands of seeds; each must end in exactly
// what the oracle computes from the log.
func TestSimulation(t *testing.T) {
	t.Parallel()
	const seeds = 4000
	lives, spills := 0, 0
	dir := t.TempDir()
	for seed := range uint64(seeds) {
		w, err := simulate(dir, seed, bugs{})
		lives, spills = lives+w.lives, spills+w.spills
		if err != nil {
			t.Fatalf("seed %d after %d lives: %v", seed, w.lives, err)
		}
	}
	if spills < seeds/100 {
		t.Errorf("%d lives had identities on disk", spills)
	}
	t.Logf("%d seeds, %d lives, %d with identities on disk: nothing lost, nothing doubled", seeds, lives, spills)
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
			dir := t.TempDir()
			for seed := range uint64(2000) {
				if _, err := simulate(dir, seed, bug); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("2000 seeds did not notice")
		})
	}
}
