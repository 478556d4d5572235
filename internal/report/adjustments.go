package report

import (
	"context"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// AdjustmentSystem is the type of adjustments that come from events; MANUAL is reserved.
const AdjustmentSystem = "SYSTEM"

// Adjustment is what a version of a month changed of one figure, by the month in which that became known.
type Adjustment struct {
	ProcessingMonth string `json:"processing_month" doc:"Month in which the late events were recorded"`
	UsageMonth      string `json:"usage_month" doc:"Month the usage belongs to"`
	Type            string `json:"type" doc:"SYSTEM; MANUAL is reserved"`
	Account         string `json:"account"`
	Plan            string `json:"plan"`
	Meter           string `json:"meter"`
	Region          string `json:"region"`
	Platform        string `json:"platform"`
	Trial           bool   `json:"trial"`
	Measure         string `json:"measure" doc:"quantity of a meter; registered, token, activity of STA"`
	FromVersion     int    `json:"from_version"`
	ToVersion       int    `json:"to_version"`
	Delta           string `json:"delta" doc:"New minus published, an exact decimal"`
	CostDelta       string `json:"cost_delta" doc:"The same of the cost; empty where the figure has none"`
	Currency        string `json:"-"`
}

// AdjustmentsQuery asks for adjustments; "" of a month is any.
type AdjustmentsQuery struct {
	Tenant, UsageMonth, ProcessingMonth string
	Accounts                            []string // none: all
}

const adjustments = `
SELECT CAST(processing_month, 'String') AS processing, CAST(usage_month, 'String') AS usage, CAST(type, 'String') AS type_, account,
    CAST(plan, 'String') AS plan_, CAST(meter, 'String') AS meter_, CAST(region, 'String') AS region_, CAST(platform, 'String') AS platform_, trial,
    CAST(measure, 'String') AS measure_, from_version, to_version, delta, cost_delta, CAST(currency, 'String') AS currency_
FROM {{db}}.month_adjustments
WHERE tenant = {tenant:String} AND ({month:String} = '' OR usage_month = {month:String})
    AND ({processing:String} = '' OR processing_month = {processing:String})
    AND ({any_account:Bool} OR account IN (SELECT arrayJoin({accounts:Array(String)})))
    AND (usage_month, close_id) IN (SELECT month, close_id FROM {{db}}.month_versions WHERE tenant = {tenant:String})
ORDER BY usage, to_version, number`

// Adjustments are what closed versions changed of earlier ones: by usage month, version, and then in the
// order in which they were stored.
func (r *Reports) Adjustments(ctx context.Context, q AdjustmentsQuery) ([]Adjustment, error) {
	rows := []Adjustment{}
	params := map[string]any{
		"tenant": q.Tenant, "month": q.UsageMonth, "processing": q.ProcessingMonth,
		"any_account": len(q.Accounts) == 0, "accounts": append([]string{}, q.Accounts...),
	}
	err := r.query(ctx, "read the adjustments", adjustments, params, func(row warehouse.Rows) error {
		var a Adjustment
		var from, to uint32
		err := row.Scan(&a.ProcessingMonth, &a.UsageMonth, &a.Type, &a.Account, &a.Plan, &a.Meter, &a.Region, &a.Platform, &a.Trial,
			&a.Measure, &from, &to, &a.Delta, &a.CostDelta, &a.Currency)
		a.FromVersion, a.ToVersion = int(from), int(to)
		rows = append(rows, a)
		return err
	})
	return rows, err
}

// timeless are types whose events are about months that were over when they happened: a price from some date on,
// a gap, a meter.
const timeless = `'price.set', 'ingest.gap_declared', 'ingest.gap_closed', 'meter.defined'`

// resolving are charges of messages of which credits were returned in the month: they say under which meter
// those count, whenever they happened themselves, after the month as well.
const resolving = `type = 'message.charged' AND meter IN (` + chargedMeters + `) AND JSONExtractString(data, 'message_id') IN
        (
            SELECT JSONExtractString(data, 'message_id')
            FROM {{db}}.events
            WHERE tenant = {tenant:String} AND meter = 'credits_returned'
            AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
        )`

// lateRows are rows of the tenant that are in the newer cut and not in the older one, and may change a figure
// of a month: what happened in it, and whatever is about accounts, prices and users and happened before its
// end. Some meters look further: a gauge is carried over the border, and a returned credit asks for its charge.
// What is asked first follows from it, and keeps `data` from being read of all rows that came since.
const lateRows = `
FROM {{db}}.events
PREWHERE tenant = {tenant:String}
    AND (at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') OR type IN (` + timeless + `) OR meter IN (` + chargedMeters + `))
    AND (meter != '' OR type NOT IN ('event.voided', 'user.activity'))
    AND ` + inCut + `
    AND NOT (recorded_at <= fromUnixTimestamp64Milli({old_as_of:Int64}, 'UTC')
        AND seq <= transform(shard, {old_shards:Array(UInt16)}, {old_seqs:Array(UInt64)}, toUInt64(0)))
WHERE type IN (` + timeless + `)
    OR at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND
        (at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
        OR pieces > 1
        OR meter = '' AND type NOT IN ('event.voided', 'user.activity')
        OR (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE tenant = {tenant:String} AND aggregation = 'time_weighted'))
    OR ` + resolving

const lateMonths = `SELECT formatDateTime(toStartOfMonth(recorded_at), '%Y-%m') AS recorded` + lateRows + `
GROUP BY recorded
ORDER BY recorded`

// late are the parameters of lateRows.
func late(tenant string, m usage.Month, older, newer Cut) map[string]any {
	shards, seqs := warehouse.Positions(older.Shards)
	return newer.params(map[string]any{
		"tenant": tenant, "from": m.Start().Millis(), "to": m.End().Millis(), "old_as_of": min(older.AsOf, Forever), "old_shards": shards, "old_seqs": seqs,
	})
}

// LateMonths are the months in which events were recorded that are in the newer cut, not in the older one,
// and may change a figure of m. None: no figure can have changed.
func (r *Reports) LateMonths(ctx context.Context, tenant string, m usage.Month, older, newer Cut) ([]usage.Month, error) {
	var months []usage.Month
	err := r.query(ctx, "look for late events", lateMonths, late(tenant, m, older, newer), func(row warehouse.Rows) error {
		var text string
		if err := row.Scan(&text); err != nil {
			return err
		}
		recorded, err := usage.ParseMonth(text)
		months = append(months, recorded)
		return err
	})
	return months, err
}

// processingMax is into how many months what became known is split; what is older is put to the oldest of them.
const processingMax = 36

// Processing is how what changed between a version of a month and a later state of the log is split by the month in
// which it became known: these months, oldest first, and the states before the first of them, between them, and after
// the last, which are one more. A border has the rows of the version and the late ones up to it.
func (r *Reports) Processing(ctx context.Context, tenant string, m usage.Month, base, cut Cut) ([]usage.Month, []Cut, error) {
	late, err := r.LateMonths(ctx, tenant, m, base, cut)
	if err != nil {
		return nil, nil, err
	}
	late = late[max(0, len(late)-processingMax):]
	if len(late) == 0 { // nothing is late: the program computes something else than it did
		late = append(late, usage.MonthOf(usage.At(cut.AsOf*1e6)))
	}
	states := []Cut{base}
	for _, processing := range late[:len(late)-1] {
		border := cut
		border.AsOf, border.Base = min(processing.End().Millis()-1, cut.AsOf), &base
		states = append(states, border)
	}
	return late, append(states, cut), nil
}

// LateEvent is an event that a later version has and an earlier one has not, or that it has no more.
type LateEvent struct {
	Source     string  `json:"source"`
	ID         string  `json:"id"`
	Type       string  `json:"type"`
	Account    string  `json:"account"`
	At         Instant `json:"at"`
	RecordedAt Instant `json:"recorded_at"`
	Meter      string  `json:"meter"`
	Quantity   string  `json:"quantity"`
	Sign       int8    `json:"sign" doc:"-1: it was voided"`
	Position
}

const lateEvents = `
SELECT CAST(source, 'String') AS source_, id, CAST(type, 'String') AS type_, CAST(account, 'String') AS account_, toUnixTimestamp64Milli(at),
    toUnixTimestamp64Milli(recorded_at), CAST(meter, 'String') AS meter_, if(meter = '', '', toString(quantity)), sign, shard, seq, idx` + lateRows + `
ORDER BY recorded_at, shard, seq, idx, sign
LIMIT {limit:UInt32}`

// LateEvents are the events behind LateMonths, in the order in which they were recorded.
func (r *Reports) LateEvents(ctx context.Context, tenant string, m usage.Month, older, newer Cut, limit int) ([]LateEvent, error) {
	rows := []LateEvent{}
	params := late(tenant, m, older, newer)
	params["limit"] = limit
	err := r.query(ctx, "list late events", lateEvents, params, func(row warehouse.Rows) error {
		var e LateEvent
		err := row.Scan(&e.Source, &e.ID, &e.Type, &e.Account, (*int64)(&e.At), (*int64)(&e.RecordedAt), &e.Meter, &e.Quantity, &e.Sign, &e.Shard, &e.Seq, &e.Idx)
		rows = append(rows, e)
		return err
	})
	return rows, err
}
