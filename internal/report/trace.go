package report

import (
	"context"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Position is where the log holds a delivery.
type Position struct {
	Shard uint16 `json:"shard" doc:"Partition of the log, incarnation folded in"`
	Seq   uint64 `json:"seq" doc:"Stream sequence of the chunk"`
	Idx   uint32 `json:"idx" doc:"Index in the chunk"`
}

// Results of a delivery.
const (
	Stored      = "stored"
	Duplicate   = "duplicate"
	Conflict    = "conflict"
	Quarantined = "quarantined"
)

// Statuses of an event that are not results of a delivery.
const (
	Voided      = "voided"
	VoidWaiting = "void-waiting" // not seen, but a void for it is
)

// Delivery is one time an event was sent.
type Delivery struct {
	Result     string    `json:"result" enum:"stored,duplicate,conflict,quarantined"`
	Position   Position  `json:"position"`
	RecordedAt Instant   `json:"recorded_at"`
	Times      uint32    `json:"times" doc:"How often it stood in that chunk"`
	Original   *Position `json:"original,omitempty" doc:"Of a duplicate or conflict: the first delivery"`
	Reason     string    `json:"reason,omitempty" doc:"Of a dead letter: code of the error reference"`
	Detail     string    `json:"detail,omitempty"`
}

// Void is an event.voided that names the event.
type Void struct {
	Source        string   `json:"source"`
	ID            string   `json:"id"`
	Effect        string   `json:"effect" enum:"acted,waiting,already_voided"`
	Position      Position `json:"position"`
	RecordedAt    Instant  `json:"recorded_at"`
	CorrelationID string   `json:"correlation_id"`
}

// Trace is what became of an event.
type Trace struct {
	Source        string     `json:"source"`
	ID            string     `json:"id"`
	Status        string     `json:"status" doc:"What counts now: stored, voided, conflict, quarantined, void-waiting, or rule:<name> of an event that is stored and has no effect"`
	Detail        string     `json:"detail,omitempty" doc:"Why a rule leaves it without effect"`
	Type          string     `json:"type,omitempty"`
	Account       string     `json:"account,omitempty"`
	At            Instant    `json:"at" doc:"When it happened"`
	RecordedAt    Instant    `json:"recorded_at" doc:"When the log had it"`
	CorrelationID string     `json:"correlation_id,omitempty"`
	CausationID   string     `json:"causation_id,omitempty"`
	Meter         string     `json:"meter,omitempty"`
	Quantity      string     `json:"quantity,omitempty" doc:"What it counts on the meter, as sent"`
	VoidEffect    string     `json:"void_effect,omitempty" enum:"acted,waiting,already_voided" doc:"Of an event.voided"`
	Position      *Position  `json:"position,omitempty" doc:"Of the delivery that counts"`
	Deliveries    []Delivery `json:"deliveries" doc:"Every delivery, oldest first"`
	Voids         []Void     `json:"voids"`
}

// The projection by_identity finds the rows by half the identity's hash. Rows beyond the watermark are left out: who
// is told that an event is stored finds it in every report.
const traceRows = `
SELECT type, account, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), correlation_id, causation_id, meter,
    toString(quantity), void_effect, shard, seq, idx, sign
FROM {{db}}.events
WHERE id_key = {key:UInt32} AND tenant = {tenant:String} AND source = {source:String} AND id = {id:String}
    AND ` + inCut + `
ORDER BY sign DESC, shard, seq, idx`

const traceDuplicates = `
SELECT shard, seq, idx, n, toUnixTimestamp64Milli(recorded_at), original_shard, original_seq, original_idx
FROM {{db}}.duplicates
WHERE id_hash = {hash:UInt64} AND tenant = {tenant:String} AND source = {source:String} AND id = {id:String}
ORDER BY shard, seq, idx
LIMIT 1000`

const traceDead = `
SELECT shard, seq, idx, type, account, toUnixTimestamp64Milli(recorded_at), reason, detail, original_shard, original_seq, original_idx
FROM {{db}}.dead_letters
WHERE tenant = {tenant:String} AND source = {source:String} AND id = {id:String}
ORDER BY shard, seq, idx
LIMIT 1000`

const traceVoids = `
SELECT source, id, void_effect, shard, seq, idx, toUnixTimestamp64Milli(recorded_at), correlation_id
FROM {{db}}.events
WHERE tenant = {tenant:String} AND meter = '' AND type = 'event.voided' AND sign = 1
    AND JSONExtractString(data, 'target', 'source') = {source:String} AND JSONExtractString(data, 'target', 'id') = {id:String}
ORDER BY shard, seq, idx
LIMIT 1000`

// Trace tells what became of an event; CodeNotFound if the log never had it.
func (r *Reports) Trace(ctx context.Context, tenant, source, id string) (*Trace, error) {
	if err := guarded(ctx, Question{Tenant: tenant, Report: ReportEvents}); err != nil {
		return nil, err
	}
	t := &Trace{Source: source, ID: id, Deliveries: []Delivery{}, Voids: []Void{}}
	hash := usage.IdentityHash(tenant, usage.Identity{Source: source, ID: id})
	now, err := r.CutNow(ctx)
	if err != nil {
		return nil, err
	}
	params := now.params(map[string]any{"tenant": tenant, "source": source, "id": id, "hash": hash, "key": uint32(hash >> 32)})
	for _, step := range []func(context.Context, *Trace, map[string]any) error{
		r.traceStored, r.traceDuplicates, r.traceDead, r.traceVoids, r.traceRuling,
	} {
		if err := step(ctx, t, params); err != nil {
			return nil, err
		}
	}
	if t.Status == "" && len(t.Voids) > 0 {
		t.Status = VoidWaiting
	}
	if t.Status == "" {
		return nil, &Error{Code: CodeNotFound, Detail: "no event with this source and id has been recorded; an event just accepted appears within seconds"}
	}
	return t, nil
}

func (r *Reports) traceStored(ctx context.Context, t *Trace, params map[string]any) error {
	return r.query(ctx, "trace an event", traceRows, params, func(row warehouse.Rows) error {
		var e Trace
		var p Position
		var sign int8
		err := row.Scan(&e.Type, &e.Account, (*int64)(&e.At), (*int64)(&e.RecordedAt), &e.CorrelationID, &e.CausationID, &e.Meter, &e.Quantity,
			&e.VoidEffect, &p.Shard, &p.Seq, &p.Idx, &sign)
		switch {
		case err != nil:
			return err
		case sign < 0: // the original came before: it sorts first
			t.Status = Voided
			return nil
		case e.Meter == "":
			e.Quantity = ""
		}
		e.Source, e.ID, e.Voids, e.Position, e.Status = t.Source, t.ID, t.Voids, &p, Stored
		e.Deliveries = []Delivery{{Result: Stored, Position: p, RecordedAt: e.RecordedAt, Times: 1}}
		*t = e
		return nil
	})
}

func (r *Reports) traceDuplicates(ctx context.Context, t *Trace, params map[string]any) error {
	return r.query(ctx, "trace an event", traceDuplicates, params, func(row warehouse.Rows) error {
		d := Delivery{Result: Duplicate, Original: &Position{}}
		err := row.Scan(&d.Position.Shard, &d.Position.Seq, &d.Position.Idx, &d.Times, (*int64)(&d.RecordedAt),
			&d.Original.Shard, &d.Original.Seq, &d.Original.Idx)
		t.Deliveries = append(t.Deliveries, d)
		return err
	})
}

func (r *Reports) traceDead(ctx context.Context, t *Trace, params map[string]any) error {
	return r.query(ctx, "trace an event", traceDead, params, func(row warehouse.Rows) error {
		d := Delivery{Result: Quarantined, Times: 1}
		var original Position
		var typ, account string
		err := row.Scan(&d.Position.Shard, &d.Position.Seq, &d.Position.Idx, &typ, &account, (*int64)(&d.RecordedAt), &d.Reason, &d.Detail,
			&original.Shard, &original.Seq, &original.Idx)
		if d.Reason == Conflict {
			d.Result, d.Original = Conflict, &original
		}
		if t.Position == nil { // nothing under this identity counts: the latest refusal is its status
			t.Status, t.Type, t.Account, t.RecordedAt = d.Result, typ, account, d.RecordedAt
		}
		t.Deliveries = append(t.Deliveries, d)
		return err
	})
}

func (r *Reports) traceVoids(ctx context.Context, t *Trace, params map[string]any) error {
	return r.query(ctx, "trace an event", traceVoids, params, func(row warehouse.Rows) error {
		var v Void
		err := row.Scan(&v.Source, &v.ID, &v.Effect, &v.Position.Shard, &v.Position.Seq, &v.Position.Idx, (*int64)(&v.RecordedAt), &v.CorrelationID)
		t.Voids = append(t.Voids, v)
		return err
	})
}
