package report

import (
	"context"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// messageRows are the events that the reports of tenants count: of one account, within [from, to), under trial or not.
const messageRows = `
FROM {{db}}.events
WHERE tenant = {tenant:String} AND meter IN {meters:Array(String)} AND type IN {types:Array(String)} AND account = {account:String}
    AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + `
    AND ({any_trial:Bool} OR {trial:Bool} = arrayExists((began, ended) -> toUnixTimestamp64Milli(at) >= began AND toUnixTimestamp64Milli(at) < ended,
        {trial_from:Array(Int64)}, {trial_to:Array(Int64)}))`

const messageSum = `
SELECT toInt64(count()), toString(sum(toDecimal256(quantity, 9) * sign))` + messageRows

const messageList = `
SELECT CAST(source, 'String') AS source_, id, CAST(type, 'String'), CAST(account, 'String'), toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), toString(quantity),
    sign, toString(toDecimal256(quantity, 9) * sign),
    if((source, id) IN (SELECT source, id FROM {{db}}.events WHERE tenant = {tenant:String} AND meter IN {meters:Array(String)} AND sign = -1 AND ` + inCut + `), 'voided', 'stored'),
    CAST(consumer_id, 'String'), shard, seq, idx` + messageRows + `
ORDER BY at, source_, id, sign DESC
LIMIT {limit:UInt64} OFFSET {skip:UInt64}`

// listMessages lists what a tenant's events count and adds it up.
func (e *explanation) listMessages(ctx context.Context, account string, from, to int64, meters, types []string, trial *bool) error {
	params := e.cut.params(map[string]any{
		"tenant": e.q.Tenant, "account": account, "meters": meters, "types": types, "from": from, "to": to, "limit": e.limit(), "skip": e.q.Skip,
		"any_trial": trial == nil, "trial": trial != nil && *trial, "trial_from": []int64{}, "trial_to": []int64{},
	})
	if trial != nil {
		params["trial_from"], params["trial_to"] = trials(e.state, account)
	}
	var sum string
	err := e.query(ctx, "sum the evidence", messageSum, params, func(row warehouse.Rows) error { return row.Scan(&e.out.Total, &sum) })
	if err != nil {
		return err
	}
	e.out.Evidence = trimDecimal(sum)
	return e.query(ctx, "list the evidence", messageList, params, e.scanEvidence)
}

// ofCredits lists the messages behind credits used. Of a tenant that was deleted it is what was used until then.
func (e *explanation) ofCredits(ctx context.Context, rows *fitting) error {
	from, to, err := daysOf(rows)
	if err != nil {
		return err
	}
	tenant := rows.cell("Tenant ID")
	if a, ok := e.state.Account(tenant, to-1); ok && a.Deleted {
		to = a.DeletedAt
	}
	e.out.How = "credits charged less credits returned in the period: the sum of quantity × sign of the rows"
	return e.listMessages(ctx, tenant, from, to, creditNames(), []string{usage.TypeCharged, usage.TypeCreditReturned}, nil)
}

// daysOf is the period of a row of tenant-usage.
func daysOf(rows *fitting) (from, to int64, err error) {
	ask := Ask{values: map[string]string{"from": rows.cell("Period Start"), "to": rows.cell("Period End")}}
	if from, err = ask.Date("from"); err != nil {
		return 0, 0, err
	}
	to, err = ask.Date("to")
	return from, to + dayMillis, err
}

// activeList is the last registration of each user who is active just before an instant: registered, and not
// said to be INACTIVE since last removed.
const activeList = `
(
    SELECT account, user, arrayLast(s -> tupleElement(s, 5) = 'user.registered', steps) AS registration,
        tuple('user.registered', tupleElement(registration, 2), tupleElement(registration, 4), tupleElement(registration, 1), tupleElement(registration, 7),
            tupleElement(registration, 8), tupleElement(registration, 9), tupleElement(registration, 10)) AS event
    FROM
    (
        SELECT account, JSONExtractString(data, 'user_id') AS user, arraySort(groupArray((toUnixTimestamp64Milli(at), CAST(source, 'String'), JSONExtractInt(data, 'source_seq'), id,
            CAST(type, 'String'), JSONExtractString(data, 'status'), toUnixTimestamp64Milli(recorded_at), shard, seq, idx))) AS steps
        FROM {{db}}.directory_events
        WHERE type IN ('user.registered', 'user.removed', 'user.status_set') AND ` + liveUsers + `
        GROUP BY account, user
        HAVING tupleElement(arrayLast(s -> tupleElement(s, 5) != 'user.status_set', steps), 5) = 'user.registered'
            AND tupleElement(arrayLast(s -> tupleElement(s, 5) != 'user.registered', steps), 6) != 'INACTIVE'
    )
)`

// ofActiveUsers lists the users that an entitlement is used up by.
func (e *explanation) ofActiveUsers(ctx context.Context, rows *fitting) error {
	_, until, err := daysOf(rows)
	if err != nil {
		return err
	}
	account := rows.cell("Tenant ID")
	if a, ok := e.state.Account(account, until-1); ok && a.Deleted {
		until = a.DeletedAt
	}
	return e.listActive(ctx, account, until)
}

func (e *explanation) listActive(ctx context.Context, account string, until int64) error {
	e.out.How = "the number of users that are registered and not inactive at the period's end; the events are their registrations"
	params := e.cut.params(map[string]any{"tenant": e.q.Tenant, "accounts": []string{account}, "to": until, "limit": e.limit(), "skip": e.q.Skip})
	if err := e.query(ctx, "count the evidence", "SELECT toInt64(count()) FROM "+activeList, params, func(row warehouse.Rows) error { return row.Scan(&e.out.Total) }); err != nil {
		return err
	}
	e.out.Evidence = usage.Int(e.out.Total).String()
	return e.query(ctx, "list the evidence", userList+activeList+userOrder, params, e.scanUser)
}

// ofBucket lists what is counted in a day, week or month of a tenant.
func (e *explanation) ofBucket(ctx context.Context, rows *fitting) error {
	ask := Ask{values: map[string]string{"start": rows.cell("startTime"), "end": rows.cell("endTime")}}
	from, err := ask.Instant("start", 0)
	if err != nil {
		return err
	}
	to, err := ask.Instant("end", 0)
	if err != nil {
		return err
	}
	account, trial := rows.cell("tenantId"), rows.cell("trial") == "TRUE"
	switch rows.cell("usageType") {
	case typeUsers:
		return e.listActive(ctx, account, to)
	case typeAuthentications:
		e.out.How = "the number of successful activities in the bucket: the sum of the signs of the rows"
		return e.listMessages(ctx, account, from, to, []string{usage.MeterActivity}, []string{usage.TypeActivity}, &trial)
	}
	e.out.How = "credits charged less credits returned in the bucket: the sum of quantity × sign of the rows"
	return e.listMessages(ctx, account, from, to, creditNames(), []string{usage.TypeCharged, usage.TypeCreditReturned}, &trial)
}
