// Package reporttest fills the tables as the aggregator does, without a log: for tests of what reads them.
//
// Guarantee: what it writes is what the aggregator would have written of the same events in the same
// order, one event a chunk, without the decisions that need no test here (duplicates, conflicts).
package reporttest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/register"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Shard is the shard that World writes.
const Shard = 0

// World is the writer of a database.
type World struct {
	W      *warehouse.Warehouse
	writer *warehouse.Writer
	parser *usage.Parser
	seq    uint64
	stored map[stored]warehouse.EventRow
	batch  *batch

	touched map[string]bool // tenants whose directory changed since the last Flush
}

type stored struct{ tenant, source, id string }

// patience is for machines that are busy elsewhere: no statement of a test is to run out of time.
const patience = 5 * time.Minute

// Open migrates the database of the DSN and takes it over.
func Open(ctx context.Context, dsn string) (*World, error) {
	w, err := warehouse.Open(ctx, warehouse.Config{DSN: dsn, InsertTimeout: patience, QueryTimeout: patience}, zap.NewNop())
	if err != nil {
		return nil, err
	}
	if err := w.Migrate(ctx, nil); err != nil {
		return nil, err
	}
	writer, err := w.TakeOver(ctx, Shard, 0, "test")
	if err != nil {
		return nil, err
	}
	return &World{
		W: w, writer: writer, parser: usage.NewParser(usage.DefaultLimits()),
		stored: map[stored]warehouse.EventRow{}, batch: newBatch(), touched: map[string]bool{},
	}, nil
}

// Close ends the connections.
func (w *World) Close() {
	w.writer.Close()
	_ = w.W.Close()
}

// Seq is the sequence of the newest chunk.
func (w *World) Seq() uint64 { return w.seq }

// Add appends an event, recorded at the given Unix millisecond, to the batch of the next Flush. The
// document is one CloudEvent in JSON.
func (w *World) Add(tenant string, recorded int64, doc string) error {
	e, faults := w.parser.Event([]byte(doc))
	if len(faults) > 0 {
		return fmt.Errorf("%s: %w", doc, &faults[0])
	}
	w.seq++
	row := w.row(tenant, recorded, &e)
	pieces := 0
	var cut []usage.Piece
	if e.Metered != nil {
		cut = e.Metered.Cut()
		pieces = len(cut)
	}
	row.Pieces = uint16(pieces)
	w.put(row, cut)
	w.stored[stored{tenant, e.Source, e.ID}] = row
	if usage.Directory(e.Type) {
		w.batch.directory.Append(directoryRow(row))
		w.touched[tenant] = true
	}
	l := w.ledger(tenant, recorded)
	l.Stored = 1
	w.batch.ledger.Append(&l)
	return nil
}

// Void appends an event.voided that acts on a stored event.
func (w *World) Void(tenant string, recorded int64, source, id string) error {
	key := stored{tenant, source, id}
	row, ok := w.stored[key]
	if !ok {
		return fmt.Errorf("%s %s of %s is not stored", source, id, tenant)
	}
	delete(w.stored, key)
	w.seq++
	void := warehouse.EventRow{
		Position: w.position(), Sign: 1, Tenant: tenant, Source: "test/void", ID: fmt.Sprint("void-", w.seq),
		Type: usage.TypeVoided, At: millis(recorded), ReportedAt: millis(recorded), RecordedAt: millis(recorded),
		AcceptedAt: millis(recorded), WrittenAt: millis(recorded), CorrelationID: "c", CausationID: "c",
		Data: fmt.Sprintf(`{"reason":"test","target":{"id":%q,"source":%q}}`, id, source), VoidEffect: "acted",
	}
	void.IDHash = usage.IdentityHash(tenant, usage.Identity{Source: void.Source, ID: void.ID})
	w.batch.events.Append(&void)
	row.Position, row.Sign = w.position(), -1
	row.RecordedAt = millis(max(recorded, row.RecordedAt.Millis()))
	w.put(row, w.batch.cuts[key])
	if usage.Directory(row.Type) {
		w.batch.directory.Append(directoryRow(row))
		w.touched[tenant] = true
	}
	l := w.ledger(tenant, recorded)
	l.Stored, l.Voided = 1, 1
	w.batch.ledger.Append(&l)
	return nil
}

// Flush inserts what was added, and folds the directory into its tables.
func (w *World) Flush(ctx context.Context) error {
	if err := w.Store(ctx); err != nil {
		return err
	}
	if err := register.Project(ctx, w.W, slices.Sorted(maps.Keys(w.touched)), nil); err != nil {
		return err
	}
	clear(w.touched)
	return nil
}

// Store inserts what was added; the ledger is last.
func (w *World) Store(ctx context.Context) error {
	b := w.batch
	for _, block := range []warehouse.Block{b.events, b.pieces, b.hourly, b.monthly, b.directory, b.elastic, b.dead, b.duplicates, b.ledger} {
		if err := w.writer.Insert(ctx, block); err != nil {
			return err
		}
		block.Reset()
	}
	return nil
}

// Dead appends a dead letter.
func (w *World) Dead(row warehouse.DeadLetterRow) {
	w.seq++
	row.Position = w.position()
	w.batch.dead.Append(&row)
	l := w.ledger(row.Tenant, row.RecordedAt.Millis())
	l.Quarantined = 1
	if row.Reason == "conflict" {
		l.Quarantined, l.Conflict = 0, 1
	}
	w.batch.ledger.Append(&l)
}

// Duplicate appends a repeated delivery of a stored event.
func (w *World) Duplicate(tenant string, recorded int64, source, id string) {
	w.seq++
	row := w.stored[stored{tenant, source, id}]
	w.batch.duplicates.Append(&warehouse.DuplicateRow{
		Position: w.position(), N: 1, Tenant: tenant, Source: source, ID: id, IDHash: row.IDHash,
		RecordedAt: millis(recorded), Original: row.Position,
	})
	l := w.ledger(tenant, recorded)
	l.Duplicate = 1
	w.batch.ledger.Append(&l)
}

func (w *World) position() warehouse.Position { return warehouse.Position{Shard: Shard, Seq: w.seq} }

func (w *World) ledger(tenant string, recorded int64) warehouse.LedgerRow {
	return warehouse.LedgerRow{
		Shard: Shard, Seq: w.seq, Tenant: tenant, LoggedAt: millis(recorded), Hash: [16]byte{15: byte(w.seq)}, Accepted: 1,
	}
}

func millis(ms int64) usage.Instant { return usage.At(ms * 1_000_000) }

// row is the stored row of an event.
func (w *World) row(tenant string, recorded int64, e *usage.Event) warehouse.EventRow {
	at := millis(e.Occurred(millis(recorded)).Millis())
	row := warehouse.EventRow{
		Position: w.position(), Sign: 1, Tenant: tenant, Source: e.Source, ID: e.ID,
		IDHash: usage.IdentityHash(tenant, usage.Identity{Source: e.Source, ID: e.ID}), ContentHash: usage.ContentHash(e),
		Type: e.Type, Account: e.Subject, At: at, ReportedAt: at, RecordedAt: millis(recorded),
		AcceptedAt: millis(recorded), WrittenAt: millis(recorded), CorrelationID: "corr-" + e.ID, CausationID: "corr-" + e.ID,
		Data: e.Data, Extensions: e.Extensions,
	}
	row.Meter, row.Quantity = e.Count()
	if m := e.Metered; m != nil {
		row.Unit, row.AssetID, row.AssetName, row.AssetType = m.Unit, m.AssetID, m.AssetName, m.AssetType
		row.EndAt, row.TrialExpiry, row.Trial = m.End, m.TrialExpiry, m.Trial(at)
		row.Region, row.Platform, row.Plan = m.Region, m.Platform, m.Plan
		row.ConsumerType, row.ConsumerID, row.Item, row.ItemVersion = m.ConsumerType, m.ConsumerID, m.Item, m.ItemVersion
		row.Dimensions = m.Dimensions
	}
	return row
}

func directoryRow(r warehouse.EventRow) *warehouse.DirectoryRow {
	return &warehouse.DirectoryRow{
		Position: r.Position, Sign: r.Sign, Tenant: r.Tenant, Source: r.Source, ID: r.ID, Type: r.Type, Account: r.Account,
		At: r.At, RecordedAt: r.RecordedAt, CorrelationID: r.CorrelationID, Data: r.Data,
	}
}

// put appends a row to events and what it counts to pieces and the rollup.
func (w *World) put(row warehouse.EventRow, cut []usage.Piece) {
	w.batch.events.Append(&row)
	w.putElastic(row)
	w.batch.cuts[stored{row.Tenant, row.Source, row.ID}] = cut
	switch {
	case row.Meter == "":
	case len(cut) < 2:
		w.count(row, row.At, row.Trial, row.Quantity, int64(row.Sign))
	default:
		for i, p := range cut {
			w.batch.pieces.Append(&warehouse.PieceRow{
				Position: row.Position, Piece: uint16(i), Sign: row.Sign, Tenant: row.Tenant, Source: row.Source, ID: row.ID,
				Account: row.Account, At: p.Start, EndAt: p.End, RecordedAt: row.RecordedAt, Meter: row.Meter, Quantity: p.Quantity,
				AssetID: row.AssetID, AssetName: row.AssetName, AssetType: row.AssetType, TrialExpiry: row.TrialExpiry, Trial: p.Trial, Region: row.Region, Platform: row.Platform,
				ConsumerType: row.ConsumerType, ConsumerID: row.ConsumerID, Item: row.Item, Plan: row.Plan, Dimensions: row.Dimensions,
			})
			events := int64(0)
			if i == 0 {
				events = int64(row.Sign)
			}
			w.count(row, p.Start, p.Trial, p.Quantity, events)
		}
	}
}

// putElastic appends the lines of an elastic operation.
func (w *World) putElastic(row warehouse.EventRow) {
	if row.Type != usage.TypeElastic {
		return
	}
	op, err := usage.ReadElastic(row.Data)
	if err != nil {
		panic(err) // the parser accepted it
	}
	for i, line := range op.Lines {
		if !line.Granted() {
			line.ActivationID, line.Mapped, line.Used = "", usage.OptionalQuantity{}, usage.OptionalQuantity{}
		}
		w.batch.elastic.Append(&warehouse.ElasticRow{
			Position: row.Position, Line: uint32(i), Sign: row.Sign, Tenant: row.Tenant, Source: row.Source, ID: row.ID, Account: row.Account,
			At: row.At, RecordedAt: row.RecordedAt, CorrelationID: row.CorrelationID, Operation: op, ElasticLine: line,
		})
	}
}

// count appends a cell of one row: cells add up when read.
func (w *World) count(row warehouse.EventRow, at usage.Instant, trial bool, q usage.Quantity, events int64) {
	const hour = 3_600_000
	cell := warehouse.RollupRow{
		Shard: Shard, Hi: row.Seq, Tenant: row.Tenant, Account: row.Account, Meter: row.Meter,
		At: millis(at.Millis() / hour * hour), Region: row.Region, Platform: row.Platform, Trial: trial, Plan: row.Plan,
		Quantity: q, Events: events, Rows: 1, Low: q, High: q, FirstAt: at, LastAt: at,
	}
	if row.Sign < 0 {
		cell.Voids, cell.Quantity = 1, q.Neg()
	}
	w.batch.hourly.Append(&cell)
	cell.At = usage.MonthOf(at).Start()
	w.batch.monthly.Append(&cell)
}

// batch is the blocks of the next Flush.
type batch struct {
	events     *warehouse.EventBlock
	pieces     *warehouse.PieceBlock
	hourly     *warehouse.RollupBlock
	monthly    *warehouse.RollupBlock
	directory  *warehouse.DirectoryBlock
	dead       *warehouse.DeadLetterBlock
	duplicates *warehouse.DuplicateBlock
	elastic    *warehouse.ElasticBlock
	ledger     *warehouse.LedgerBlock
	cuts       map[stored][]usage.Piece
}

func newBatch() *batch {
	return &batch{
		events: warehouse.NewEventBlock(), pieces: warehouse.NewPieceBlock(), hourly: warehouse.NewHourlyBlock(), monthly: warehouse.NewMonthlyBlock(),
		directory: warehouse.NewDirectoryBlock(), dead: warehouse.NewDeadLetterBlock(),
		duplicates: warehouse.NewDuplicateBlock(), elastic: warehouse.NewElasticBlock(), ledger: warehouse.NewLedgerBlock(), cuts: map[stored][]usage.Piece{},
	}
}
