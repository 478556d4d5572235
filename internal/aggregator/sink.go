package aggregator

import (
	"context"
	"time"

	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// sink writes batches through a fenced warehouse.Writer: one native block per target. Different targets
// may be inserted at once, one target only once at a time.
type sink struct {
	writer  *warehouse.Writer
	metrics *telemetry.Aggregator
}

// Insert stores the rows of b that belong to t.
func (s *sink) Insert(ctx context.Context, t warehouse.Target, b *batch) error {
	block := b.rows.(*blocks).of[t]
	if block.Rows() == 0 {
		return nil
	}
	ctx, span := telemetry.Child(ctx, "insert")
	span.Text("db.collection.name", t.String())
	span.Int("countinghouse.rows", block.Rows())
	started := time.Now()
	err := s.writer.Insert(ctx, block)
	span.End(err)
	if err != nil {
		return err
	}
	s.metrics.Insert.WithLabelValues(t.String()).Observe(time.Since(started).Seconds())
	s.metrics.Rows.WithLabelValues(t.String()).Add(float64(block.Rows()))
	return nil
}

// blocks are the rows of a batch, column by column. They are used again, batch after batch.
type blocks struct {
	of      [warehouse.Targets]warehouse.Block
	shard   uint16
	now     usage.Instant // written_at
	scratch warehouse.EventRow
	part    warehouse.PieceRow

	events     *warehouse.EventBlock
	pieces     *warehouse.PieceBlock
	cells      *warehouse.RollupBlock
	months     *warehouse.RollupBlock
	tree       *warehouse.DirectoryBlock
	letters    *warehouse.DeadLetterBlock
	duplicates *warehouse.DuplicateBlock
	elastics   *warehouse.ElasticBlock
	chunks     *warehouse.LedgerBlock
}

func newBlocks() *blocks {
	b := &blocks{
		events: warehouse.NewEventBlock(), pieces: warehouse.NewPieceBlock(), cells: warehouse.NewHourlyBlock(),
		months: warehouse.NewMonthlyBlock(),
		tree:   warehouse.NewDirectoryBlock(), letters: warehouse.NewDeadLetterBlock(),
		duplicates: warehouse.NewDuplicateBlock(), elastics: warehouse.NewElasticBlock(), chunks: warehouse.NewLedgerBlock(),
	}
	for _, block := range []warehouse.Block{b.events, b.pieces, b.cells, b.months, b.tree, b.letters, b.duplicates, b.elastics, b.chunks} {
		b.of[block.Target()] = block
	}
	return b
}

func (b *blocks) begin(shard uint16) {
	for _, block := range b.of {
		block.Reset()
	}
	b.shard, b.now = shard, usage.AtTime(time.Now())
}

func (b *blocks) event(r *eventRow) {
	r.fill(&b.scratch, b.now)
	b.events.Append(&b.scratch)
}

func (b *blocks) piece(r *eventRow, n int, p *usage.Piece) {
	r.fillPiece(&b.part, n, p)
	b.pieces.Append(&b.part)
}

func (b *blocks) cell(t warehouse.Target, w *words, c *rollupCell) {
	row := c.row(w, b.shard)
	if t == warehouse.Monthly {
		b.months.Append(&row)
		return
	}
	b.cells.Append(&row)
}

func (b *blocks) directory(r *eventRow)     { b.tree.Append(r.directory()) }
func (b *blocks) dead(r *deadRow)           { b.letters.Append(r.warehouse()) }
func (b *blocks) duplicate(r *duplicateRow) { b.duplicates.Append(r.warehouse()) }
func (b *blocks) elastic(r *eventRow, op *usage.ElasticOperation) {
	for i := range op.Lines {
		b.elastics.Append(r.elastic(op, i))
	}
}
func (b *blocks) ledger(r *ledgerRow) { b.chunks.Append(r.warehouse()) }

func millis(ms int64) usage.Instant { return usage.At(ms * 1e6) }

func place(p Position) warehouse.Position {
	return warehouse.Position{Shard: p.Shard, Seq: p.Seq, Idx: p.Idx}
}

// fill sets every field of a row of events.
func (r *eventRow) fill(row *warehouse.EventRow, now usage.Instant) {
	e := r.event
	*row = warehouse.EventRow{
		Position: place(r.pos), Sign: r.sign, Tenant: r.tenant, Source: e.Source, ID: e.ID,
		IDHash: r.idHash, ContentHash: r.contentHash, Type: e.Type, Account: e.Subject,
		At: millis(r.at), ReportedAt: millis(r.reportedAt), RecordedAt: millis(r.recordedAt),
		AcceptedAt: millis(r.acceptedAt), WrittenAt: now,
		CorrelationID: r.correlation, CausationID: r.causation, Meter: r.meter, Quantity: r.quantity,
		EndAt: millis(r.at), Pieces: uint16(len(r.pieces)), Data: e.Data, Extensions: e.Extensions, VoidEffect: r.voidEffect,
	}
	m := e.Metered
	if m == nil {
		return
	}
	row.Unit, row.AssetID, row.AssetName, row.AssetType = m.Unit, m.AssetID, m.AssetName, m.AssetType
	if m.End.Known() {
		row.EndAt = m.End
	}
	row.TrialExpiry, row.Trial = m.TrialExpiry, trialOf(r)
	row.Region, row.Platform, row.Plan = m.Region, m.Platform, m.Plan
	row.ConsumerType, row.ConsumerID = m.ConsumerType, m.ConsumerID
	row.Item, row.ItemVersion, row.Dimensions = m.Item, m.ItemVersion, m.Dimensions
}

func (r *eventRow) fillPiece(row *warehouse.PieceRow, n int, p *usage.Piece) {
	e, m := r.event, r.event.Metered
	*row = warehouse.PieceRow{
		Position: place(r.pos), Piece: uint16(n), Sign: r.sign, Tenant: r.tenant, Source: e.Source, ID: e.ID,
		Account: e.Subject, At: p.Start, EndAt: p.End, RecordedAt: millis(r.recordedAt), Meter: r.meter, Quantity: p.Quantity,
		AssetID: m.AssetID, AssetName: m.AssetName, AssetType: m.AssetType, TrialExpiry: m.TrialExpiry, Trial: p.Trial,
		Region: m.Region, Platform: m.Platform, ConsumerType: m.ConsumerType, ConsumerID: m.ConsumerID,
		Item: m.Item, Plan: m.Plan, Dimensions: m.Dimensions,
	}
}

func (r *eventRow) directory() *warehouse.DirectoryRow {
	e := r.event
	return &warehouse.DirectoryRow{
		Position: place(r.pos), Sign: r.sign, Tenant: r.tenant, Source: e.Source, ID: e.ID, Type: e.Type, Account: e.Subject,
		At: millis(r.at), RecordedAt: millis(r.recordedAt), CorrelationID: r.correlation, Data: e.Data,
	}
}

// elastic is a line as a row of elastic_lines. A line that was not granted was charged to nobody.
func (r *eventRow) elastic(op *usage.ElasticOperation, i int) *warehouse.ElasticRow {
	e := r.event
	row := &warehouse.ElasticRow{
		Position: place(r.pos), Line: uint32(i), Sign: r.sign, Tenant: r.tenant, Source: e.Source, ID: e.ID, Account: e.Subject,
		At: millis(r.at), RecordedAt: millis(r.recordedAt), CorrelationID: r.correlation, Operation: *op, ElasticLine: op.Lines[i],
	}
	if !row.Granted() {
		row.ActivationID, row.Mapped, row.Used = "", usage.OptionalQuantity{}, usage.OptionalQuantity{}
	}
	return row
}

func (r *deadRow) warehouse() *warehouse.DeadLetterRow {
	return &warehouse.DeadLetterRow{
		Position: place(r.pos), Tenant: r.tenant, Source: r.id.Source, ID: r.id.ID, Type: r.typ, Account: r.account,
		Reason: r.reason, Detail: r.detail, Raw: r.raw, RecordedAt: millis(r.recordedAt),
		ContentHash: r.contentHash, Original: place(r.original), OriginalHash: r.originalHash,
	}
}

func (r *duplicateRow) warehouse() *warehouse.DuplicateRow {
	return &warehouse.DuplicateRow{
		Position: place(r.pos), N: r.n, Tenant: r.tenant, Source: r.id.Source, ID: r.id.ID, IDHash: r.idHash,
		RecordedAt: millis(r.recordedAt), Original: place(r.original),
	}
}

func (r *ledgerRow) warehouse() *warehouse.LedgerRow {
	return &warehouse.LedgerRow{
		Shard: r.shard, Seq: r.seq, Tenant: r.tenant, LoggedAt: millis(r.loggedAt), Hash: r.hash, Missing: r.missing,
		Accepted: r.accepted, Stored: r.stored, Duplicate: r.duplicate, Conflict: r.conflict, Quarantined: r.quarantined,
		Voided: r.voided,
	}
}

// row is a cell as a row of its table.
func (c *rollupCell) row(w *words, shard uint16) warehouse.RollupRow {
	t := w.texts
	return warehouse.RollupRow{
		Shard: shard, Hi: c.hi, Tenant: t[c.tenant], Account: t[c.account], Meter: t[c.meter], At: usage.At(c.at * 1e9),
		Region: t[c.region], Platform: t[c.platform], Trial: c.trial, Plan: t[c.plan], Quantity: c.quantity, Events: c.events,
		Voids: c.voids, Rows: c.rows, Low: c.low, High: c.high, FirstAt: millis(c.firstAt), LastAt: millis(c.lastAt),
	}
}

// restore turns a stored row and its stored pieces back into a row that can be written with the other
// sign. Nothing is computed anew: a later version of Cut must not be able to leave a remainder.
func restore(row *warehouse.EventRow, pieces []warehouse.PieceRow) eventRow {
	e := &usage.Event{Source: row.Source, ID: row.ID, Type: row.Type, Subject: row.Account, Data: row.Data, Extensions: row.Extensions}
	r := eventRow{
		pos:  Position{Shard: row.Shard, Seq: row.Seq, Idx: row.Idx},
		sign: 1, tenant: row.Tenant, event: e, idHash: row.IDHash, contentHash: row.ContentHash,
		at: row.At.Millis(), reportedAt: row.ReportedAt.Millis(), recordedAt: row.RecordedAt.Millis(), acceptedAt: row.AcceptedAt.Millis(),
		correlation: row.CorrelationID, causation: row.CausationID, meter: row.Meter, quantity: row.Quantity, voidEffect: row.VoidEffect,
	}
	if row.Type != usage.TypeMetered {
		return r
	}
	m := &usage.Metered{
		Meter: row.Meter, Quantity: row.Quantity, Unit: row.Unit, AssetID: row.AssetID, AssetName: row.AssetName, AssetType: row.AssetType,
		Region: row.Region, Platform: row.Platform, ConsumerID: row.ConsumerID, ConsumerType: row.ConsumerType,
		Item: row.Item, ItemVersion: row.ItemVersion, Plan: row.Plan, Dimensions: row.Dimensions,
	}
	e.Metered = m
	if row.TrialExpiry.Nanos() != 0 {
		m.TrialExpiry = row.TrialExpiry
	}
	switch row.Pieces {
	case 0:
	case 1:
		m.Start, m.End = row.At, row.EndAt
		r.pieces = []usage.Piece{{Start: row.At, End: row.EndAt, Quantity: row.Quantity, Trial: row.Trial}}
	default:
		m.Start, m.End = row.At, row.EndAt
		for i := range pieces {
			p := &pieces[i]
			r.pieces = append(r.pieces, usage.Piece{Start: p.At, End: p.EndAt, Quantity: p.Quantity, Trial: p.Trial})
		}
	}
	return r
}
