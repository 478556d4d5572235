package aggregator

import (
	"fmt"

	"github.com/countinghouse/countinghouse/internal/register"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// rows are the tables' worth of one batch: what Insert sends. Nothing of a row that is given to it may be
// kept but copies: rows are made, given, and forgotten, one at a time.
type rows interface {
	begin(shard uint16) // empties it
	event(*eventRow)
	piece(r *eventRow, n int, p *usage.Piece)
	cell(warehouse.Target, *words, *rollupCell) // of Hourly or of Monthly
	directory(*eventRow)
	dead(*deadRow)
	duplicate(*duplicateRow)
	elastic(*eventRow, *usage.ElasticOperation)
	ledger(*ledgerRow)
}

// router sends what is decided to the targets that lack it: rows at or below the watermark of their
// target and partition, as read at takeover, are there already.
type router struct {
	marks   watermarks
	hourly  *rollup
	monthly *rollup
	derived bool // the monthly partials are sums of the hourly ones, because both lack the whole batch
	gate    [warehouse.Targets]keeper
	rows    rows
	folded  map[string]bool // types of events that the fold of the directory reads
	touched map[string]bool // tenants whose directory the batch changes
	broken  error           // a row that cannot be what was accepted: the batch may not be stored
}

func newRouter(marks watermarks) *router {
	w := newWords()
	return &router{marks: marks, hourly: newRollup(warehouse.Hourly, w), monthly: newRollup(warehouse.Monthly, w), folded: register.Types()}
}

// begin points the router at the rows of a batch that starts with sequence first.
func (r *router) begin(to rows, shard uint16, first uint64) {
	for t := range warehouse.Targets {
		r.gate[t] = r.marks.keeper(t, first)
	}
	to.begin(shard)
	r.rows, r.touched, r.broken = to, map[string]bool{}, nil
	r.derived = r.gate[warehouse.Hourly].past && r.gate[warehouse.Monthly].past
	r.hourly.reset()
	r.monthly.reset()
}

// end completes the batch: the partials of its hours and of its months.
func (r *router) end() {
	if r.derived {
		for i := range r.hourly.cells {
			r.monthly.merge(&r.hourly.cells[i])
		}
	}
	for _, u := range []*rollup{r.hourly, r.monthly} {
		for i := range u.cells {
			r.rows.cell(u.target, u.words, &u.cells[i])
		}
	}
}

func (r *router) event(row *eventRow) {
	if r.gate[warehouse.Events].keep(warehouse.Events, row.at, row.pos.Seq) {
		r.rows.event(row)
	}
	if len(row.pieces) > 1 {
		for n := range row.pieces {
			if p := &row.pieces[n]; r.gate[warehouse.Pieces].keep(warehouse.Pieces, p.Start.Millis(), row.pos.Seq) {
				r.rows.piece(row, n, p)
			}
		}
	}
	r.hourly.add(row, r.gate[warehouse.Hourly])
	if !r.derived {
		r.monthly.add(row, r.gate[warehouse.Monthly])
	}
	if usage.Directory(row.event.Type) {
		if r.folded[row.event.Type] { // whether or not the row is there already: it is counted only now
			r.touched[row.tenant] = true
		}
		if r.gate[warehouse.Directory].keep(warehouse.Directory, row.at, row.pos.Seq) {
			r.rows.directory(row)
		}
	}
	if row.event.Type == usage.TypeElastic && r.gate[warehouse.Elastic].keep(warehouse.Elastic, row.at, row.pos.Seq) {
		op, err := usage.ReadElastic(row.event.Data)
		if err != nil { // what was accepted can be read (usage, FuzzRoundTrip)
			r.broken = fmt.Errorf("%w: shard %d seq %d event %d: %w", errBroken, row.pos.Shard, row.pos.Seq, row.pos.Idx, err)
			return
		}
		r.rows.elastic(row, &op)
	}
}

func (r *router) dead(row *deadRow) {
	if r.gate[warehouse.DeadLetters].keep(warehouse.DeadLetters, row.recordedAt, row.pos.Seq) {
		r.rows.dead(row)
	}
}

func (r *router) duplicate(row *duplicateRow) {
	if r.gate[warehouse.Duplicates].keep(warehouse.Duplicates, row.recordedAt, row.pos.Seq) {
		r.rows.duplicate(row)
	}
}

func (r *router) ledger(row *ledgerRow) {
	if r.gate[warehouse.Ledger].keep(warehouse.Ledger, row.loggedAt, row.seq) {
		r.rows.ledger(row)
	}
}
