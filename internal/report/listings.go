package report

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Mark is a place in a listing: the row it names has been given.
type Mark struct {
	RecordedAt int64
	Position
}

// EventRow is a stored event, as listings show it.
type EventRow struct {
	Source        string  `json:"source"`
	ID            string  `json:"id"`
	Type          string  `json:"type"`
	Account       string  `json:"account"`
	At            Instant `json:"at"`
	RecordedAt    Instant `json:"recorded_at"`
	Meter         string  `json:"meter"`
	Quantity      string  `json:"quantity"`
	CorrelationID string  `json:"correlation_id"`
	CausationID   string  `json:"causation_id"`
	Position
}

// Mark is the row's place in a listing.
func (e EventRow) Mark() Mark { return Mark{int64(e.RecordedAt), e.Position} }

// EventsQuery asks for stored events, newest first.
type EventsQuery struct {
	Tenant, Type, Account, Meter string // "" is any
	Limit                        int
	Before                       *Mark // only older ones
	After                        *Mark // only newer ones, oldest first: for following
}

// The window bounds what is sorted; it is widened until the page is full.
const eventsBackward = `
SELECT source, id, type, account, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), meter, toString(quantity),
    correlation_id, causation_id, shard, seq, idx
FROM {{db}}.events
WHERE tenant = {tenant:String} AND sign = 1
    AND ({meter:String} = '' OR meter = {meter:String}) AND ({account:String} = '' OR account = {account:String})
    AND ({type:String} = '' OR type = {type:String})
    AND recorded_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND (toUnixTimestamp64Milli(recorded_at), shard, seq, idx) < ({recorded:Int64}, {shard:UInt16}, {seq:UInt64}, {idx:UInt32})
ORDER BY recorded_at DESC, shard DESC, seq DESC, idx DESC
LIMIT {limit:UInt32}`

const eventsForward = `
SELECT source, id, type, account, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), meter, toString(quantity),
    correlation_id, causation_id, shard, seq, idx
FROM {{db}}.events
WHERE tenant = {tenant:String} AND sign = 1
    AND ({meter:String} = '' OR meter = {meter:String}) AND ({account:String} = '' OR account = {account:String})
    AND ({type:String} = '' OR type = {type:String})
    AND recorded_at >= fromUnixTimestamp64Milli({recorded:Int64}, 'UTC')
    AND (toUnixTimestamp64Milli(recorded_at), shard, seq, idx) > ({recorded:Int64}, {shard:UInt16}, {seq:UInt64}, {idx:UInt32})
ORDER BY recorded_at, shard, seq, idx
LIMIT {limit:UInt32}`

// eventWindows are how far back a page looks, in milliseconds; the last is for ever.
var eventWindows = [...]int64{60_000, 3_600_000, 32 * 86_400_000, Forever}

// Events lists stored events.
func (r *Reports) Events(ctx context.Context, q EventsQuery) ([]EventRow, error) {
	judged := Question{Tenant: q.Tenant, Report: ReportEvents}
	if q.Account != "" {
		judged.Accounts = []string{q.Account}
	}
	if err := guarded(ctx, judged); err != nil {
		return nil, err
	}
	mark := Mark{RecordedAt: Forever}
	statement := eventsBackward
	switch {
	case q.After != nil:
		mark, statement = *q.After, eventsForward
	case q.Before != nil:
		mark = *q.Before
	}
	var rows []EventRow
	for _, window := range eventWindows {
		rows = []EventRow{}
		err := r.query(ctx, "list events", statement, map[string]any{
			"tenant": q.Tenant, "meter": q.Meter, "account": q.Account, "type": q.Type, "limit": q.Limit,
			"since":    max(0, min(mark.RecordedAt, r.now().UnixMilli())-window),
			"recorded": mark.RecordedAt, "shard": mark.Shard, "seq": mark.Seq, "idx": mark.Idx,
		}, func(row warehouse.Rows) error {
			var e EventRow
			err := row.Scan(&e.Source, &e.ID, &e.Type, &e.Account, (*int64)(&e.At), (*int64)(&e.RecordedAt), &e.Meter, &e.Quantity,
				&e.CorrelationID, &e.CausationID, &e.Shard, &e.Seq, &e.Idx)
			if e.Meter == "" {
				e.Quantity = ""
			}
			rows = append(rows, e)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(rows) == q.Limit || q.After != nil {
			break
		}
	}
	return rows, nil
}

// DeadLetter is what the log has but counts nowhere.
type DeadLetter struct {
	Position
	Source     string    `json:"source"`
	ID         string    `json:"id"`
	Type       string    `json:"type"`
	Account    string    `json:"account"`
	Reason     string    `json:"reason" doc:"Code of the error reference, or rule:<name>: stored, without effect for as long as it breaks the rule"`
	Detail     string    `json:"detail"`
	RecordedAt Instant   `json:"recorded_at"`
	Original   *Position `json:"original,omitempty" doc:"Of a conflict: the first delivery"`
	Bytes      int64     `json:"bytes" doc:"Size of what was received"`
	Raw        []byte    `json:"-"`
}

// Mark is the letter's place in a listing.
func (d DeadLetter) Mark() Mark { return Mark{int64(d.RecordedAt), d.Position} }

// DeadLettersQuery asks for dead letters, newest first.
type DeadLettersQuery struct {
	Tenant, Reason string // Reason "" is any, as are the next two
	Source, ID     string
	From, To       int64 // recorded, Unix ms, [From, To)
	Limit          int
	Before         *Mark
	At             *Position // exactly this one
	Raw            bool      // with the bytes as received
}

const deadLetters = `
SELECT shard, seq, idx, source, id, type, account, reason, detail, toUnixTimestamp64Milli(recorded_at),
    original_shard, original_seq, original_idx, toInt64(length(raw)), if({raw:Bool}, raw, '')
FROM {{db}}.dead_letters
WHERE tenant = {tenant:String} AND ({reason:String} = '' OR reason = {reason:String})
    AND ({source:String} = '' OR source = {source:String}) AND ({id:String} = '' OR id = {id:String})
    AND recorded_at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND recorded_at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND (toUnixTimestamp64Milli(recorded_at), shard, seq, idx) < ({recorded:Int64}, {shard:UInt16}, {seq:UInt64}, {idx:UInt32})
    AND (NOT {one:Bool} OR (shard, seq, idx) = ({at_shard:UInt16}, {at_seq:UInt64}, {at_idx:UInt32}))
ORDER BY recorded_at DESC, shard DESC, seq DESC, idx DESC
LIMIT {limit:UInt32}`

// knownReason refuses what is no reason of a dead letter: the list of none of them would look like good news.
func knownReason(reason string) error {
	if reason == "" {
		return nil
	}
	var allowed []string
	for _, c := range usage.Codes() {
		allowed = append(allowed, c.Name)
	}
	for _, r := range directory.Rules() {
		allowed = append(allowed, directory.RulePrefix+r.Name)
	}
	if slices.Contains(allowed, reason) {
		return nil
	}
	return &Error{Code: CodeParameter, Parameter: "reason", Detail: strconv.Quote(reason) + " is none; want one of " + strings.Join(allowed, ", ")}
}

// DeadLetters lists them, and what the rules of the directory leave without effect. A reason that there is not is an error.
func (r *Reports) DeadLetters(ctx context.Context, q DeadLettersQuery) ([]DeadLetter, error) {
	if err := knownReason(q.Reason); err != nil {
		return nil, err
	}
	mark, at := Mark{RecordedAt: Forever}, Position{}
	if q.Before != nil {
		mark = *q.Before
	}
	if q.At != nil {
		at = *q.At
	}
	rows := []DeadLetter{}
	err := r.query(ctx, "list dead letters", deadLetters, map[string]any{
		"tenant": q.Tenant, "reason": q.Reason, "source": q.Source, "id": q.ID, "from": q.From, "to": q.To, "limit": q.Limit, "raw": q.Raw,
		"recorded": mark.RecordedAt, "shard": mark.Shard, "seq": mark.Seq, "idx": mark.Idx,
		"one": q.At != nil, "at_shard": at.Shard, "at_seq": at.Seq, "at_idx": at.Idx,
	}, func(row warehouse.Rows) error {
		var d DeadLetter
		var original Position
		err := row.Scan(&d.Shard, &d.Seq, &d.Idx, &d.Source, &d.ID, &d.Type, &d.Account, &d.Reason,
			&d.Detail, (*int64)(&d.RecordedAt), &original.Shard, &original.Seq, &original.Idx, &d.Bytes, &d.Raw)
		if d.Reason == Conflict {
			d.Original = &original
		}
		rows = append(rows, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.withRulings(ctx, q, rows)
}

// LedgerRow is what became of the events recorded in a month.
type LedgerRow struct {
	Month       string `json:"month" doc:"Month in which the log had them"`
	Chunks      uint64 `json:"chunks"`
	Accepted    uint64 `json:"accepted"`
	Stored      uint64 `json:"stored"`
	Duplicate   uint64 `json:"duplicate"`
	Conflict    uint64 `json:"conflict"`
	Quarantined uint64 `json:"quarantined"`
	Voided      uint64 `json:"voided"`
	Balanced    bool   `json:"balanced" doc:"accepted = stored + duplicate + conflict + quarantined"`
}

const ledgerMonths = `
SELECT formatDateTime(toStartOfMonth(logged_at), '%Y-%m') AS month, count(), sum(accepted), sum(stored), sum(duplicate),
    sum(conflict), sum(quarantined), sum(voided)
FROM {{db}}.ledger
WHERE tenant = {tenant:String} AND missing = 0
GROUP BY month
ORDER BY month`

// Ledger sums a tenant's ledger by month.
func (r *Reports) Ledger(ctx context.Context, tenant string) ([]LedgerRow, error) {
	rows := []LedgerRow{}
	err := r.query(ctx, "sum the ledger", ledgerMonths, map[string]any{"tenant": tenant}, func(row warehouse.Rows) error {
		var l LedgerRow
		err := row.Scan(&l.Month, &l.Chunks, &l.Accepted, &l.Stored, &l.Duplicate, &l.Conflict, &l.Quarantined, &l.Voided)
		l.Balanced = l.Accepted == l.Stored+l.Duplicate+l.Conflict+l.Quarantined
		rows = append(rows, l)
		return err
	})
	return rows, err
}

// Freshness is how far the warehouse is behind the log.
type Freshness struct {
	Shard           uint16  `json:"shard"`
	LogSeq          uint64  `json:"log_seq" doc:"Newest sequence of the log, as last seen"`
	WarehouseSeq    uint64  `json:"warehouse_seq" doc:"Sequence up to which everything is counted"`
	LagEvents       uint64  `json:"lag_events"`
	OldestPendingAt Instant `json:"oldest_pending_at"`
	WatermarkAt     Instant `json:"watermark_at" doc:"When the log had the newest counted event"`
	SeenAt          Instant `json:"seen_at" doc:"When the aggregator said so"`
}

const freshness = `
SELECT shard, argMax(log_seq, at), argMax(warehouse_seq, at), argMax(lag_events, at),
    toUnixTimestamp64Milli(argMax(oldest_pending_at, at)), toUnixTimestamp64Milli(argMax(watermark_at, at)), toUnixTimestamp64Milli(max(at))
FROM {{db}}.shard_status
GROUP BY shard
ORDER BY shard`

// Freshness lists the shards. It is about the log, not about a tenant.
func (r *Reports) Freshness(ctx context.Context) ([]Freshness, error) {
	rows := []Freshness{}
	err := r.query(ctx, "read the freshness", freshness, nil, func(row warehouse.Rows) error {
		var f Freshness
		err := row.Scan(&f.Shard, &f.LogSeq, &f.WarehouseSeq, &f.LagEvents, (*int64)(&f.OldestPendingAt), (*int64)(&f.WatermarkAt), (*int64)(&f.SeenAt))
		rows = append(rows, f)
		return err
	})
	return rows, err
}
