package aggregator

import (
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// rows are the tables' worth of one batch: what Insert sends. Nothing of a row that is given to it may be
// kept but copies: rows are made, given, and forgotten, one at a time.
type rows interface {
	begin(shard uint16) // empties it
	event(*eventRow)
	piece(r *eventRow, n int, p *usage.Piece)
	cell(*words, *hourlyCell)
	directory(*eventRow)
	dead(*deadRow)
	duplicate(*duplicateRow)
	ledger(*ledgerRow)
}

// router sends what is decided to the targets that lack it: rows at or below the watermark of their
// target and partition, as read at takeover, are there already.
type router struct {
	marks  watermarks
	hourly *hourly
	gate   [warehouse.Targets]keeper
	rows   rows
}

func newRouter(marks watermarks) *router { return &router{marks: marks, hourly: newHourly()} }

// begin points the router at the rows of a batch that starts with sequence first.
func (r *router) begin(to rows, shard uint16, first uint64) {
	for t := range warehouse.Targets {
		r.gate[t] = r.marks.keeper(t, first)
	}
	to.begin(shard)
	r.rows = to
	r.hourly.reset()
}

// end completes the batch: the partials of its hours.
func (r *router) end() {
	for i := range r.hourly.cells {
		r.rows.cell(r.hourly.words, &r.hourly.cells[i])
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
	if usage.Directory(row.event.Type) && r.gate[warehouse.Directory].keep(warehouse.Directory, row.at, row.pos.Seq) {
		r.rows.directory(row)
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
