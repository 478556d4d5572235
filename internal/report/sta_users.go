package report

import (
	"context"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// populationMonths is how many months' ends one statement counts: a bit each of 64, and one to spare.
const populationMonths = 60

// filterMax is the number of accounts up to which a statement is told them by name; beyond, all are counted.
const filterMax = 1000

// directoryLive is the condition of events about users that are in the cut and not voided.
const directoryLive = `tenant = {tenant:String} AND sign = 1 AND ` + inCut + `
            AND (empty({accounts:Array(String)}) OR account IN {accounts:Array(String)})
            AND (source, id) NOT IN
            (
                SELECT source, id
                FROM {{db}}.directory_events
                WHERE tenant = {tenant:String} AND sign = -1 AND type IN ('user.registered', 'user.removed', 'user.status_set', 'token.state_set') AND ` + inCut + `
            )`

// Users registered and users with an active token, per account, at each of the ends. A user is known by
// account and user_id, a token by account and token_id; what holds is what was said last, in the order of
// events.md 1. Whatever is true at the end of month i is bit i: bits from the month of a change on flip with it. simpleJSONExtractString
// finds members by their text, which in canonical data is a member and nothing else.
const population = `
WITH
    {ends:Array(Int64)} AS ends,
    at -> bitShiftLeft(toUInt64(-1), arrayCount(e -> e <= at, ends)) AS since
SELECT account, sumForEach(arrayMap(i -> bitTest(registered, i), range(length(ends)))),
    sumForEach(arrayMap(i -> bitTest(bitAnd(registered, token), i), range(length(ends))))
FROM
(
    SELECT account, user, groupBitOr(registered) AS registered, groupBitOr(token) AS token
    FROM
    (
        SELECT account, user, arrayReduce('groupBitXor', arrayMap((step, before) -> if(tupleElement(step, 5) != before, since(tupleElement(step, 1)), toUInt64(0)),
                steps, arrayPushFront(arrayPopBack(tupleElement(steps, 5)), toUInt8(0)))) AS registered, toUInt64(0) AS token
        FROM
        (
            SELECT account, simpleJSONExtractString(data, 'user_id') AS user,
                arraySort(groupArray((toUnixTimestamp64Milli(at), source, JSONExtractInt(data, 'source_seq'), id, toUInt8(type = 'user.registered')))) AS steps
            FROM {{db}}.directory_events
            WHERE type IN ('user.registered', 'user.removed') AND at < fromUnixTimestamp64Milli({last:Int64}, 'UTC') AND ` + directoryLive + `
            GROUP BY account, user
        )
        UNION ALL
        SELECT account, tupleElement(step, 1) AS user, toUInt64(0) AS registered,
            bitAnd(since(tupleElement(step, 2)), bitNot(since(tupleElement(step, 3)))) AS token
        FROM
        (
            SELECT account, simpleJSONExtractString(data, 'token_id') AS id_of_token,
                arraySort(groupArray((toUnixTimestamp64Milli(at), source, JSONExtractInt(data, 'source_seq'), id,
                    simpleJSONExtractString(data, 'user_id'), simpleJSONExtractRaw(data, 'state') = '"active"'))) AS steps
            FROM {{db}}.directory_events
            WHERE type = 'token.state_set' AND at < fromUnixTimestamp64Milli({last:Int64}, 'UTC') AND ` + directoryLive + `
            GROUP BY account, id_of_token
        )
        ARRAY JOIN arrayMap((s, until) -> (tupleElement(s, 5), tupleElement(s, 1), until), arrayFilter(s -> tupleElement(s, 6), steps),
            arrayFilter((until, s) -> tupleElement(s, 6), arrayPushBack(arrayPopFront(tupleElement(steps, 1)), {last:Int64}), steps)) AS step
    )
    GROUP BY account, user
)
WHERE registered != 0
GROUP BY account`

// Distinct users with a success within a month, per account; users removed since count too.
const activeInMonth = `
SELECT account, count()
FROM
(
    SELECT account, simpleJSONExtractString(data, 'user_id') AS user
    FROM {{db}}.events
    WHERE tenant = {tenant:String} AND meter = 'activity' AND type = 'user.activity' AND sign = 1
        AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + `
        AND (empty({accounts:Array(String)}) OR account IN {accounts:Array(String)})
        AND (source, id) NOT IN
        (
            SELECT source, id
            FROM {{db}}.events
            WHERE tenant = {tenant:String} AND meter = 'activity' AND sign = -1
                AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + `
        )
    GROUP BY account, user
)
GROUP BY account`

// countUsers reads the numbers of months, per account: take is called with the index of a month and of a measure.
func (r *Reports) countUsers(ctx context.Context, q *staAsk, accounts []string, need staNumbers, take func(account string, month, measure int, n uint64)) error {
	if len(accounts) > filterMax {
		accounts = []string{}
	}
	if need.population {
		for first := 0; first < len(q.months); first += populationMonths {
			if err := r.countPopulation(ctx, q, accounts, first, take); err != nil {
				return err
			}
		}
	}
	if !need.activity {
		return nil
	}
	for i, m := range q.months {
		if err := r.countActivity(ctx, q, accounts, m, func(account string, n uint64) { take(account, i, staMeasure(MeasureActivity), n) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reports) countPopulation(ctx context.Context, q *staAsk, accounts []string, first int, take func(account string, month, measure int, n uint64)) error {
	var ends []int64
	for _, m := range q.months[first:min(first+populationMonths, len(q.months))] {
		ends = append(ends, m.End().Millis())
	}
	params := q.cut.params(map[string]any{"tenant": q.tenant, "accounts": accounts, "ends": ends, "last": ends[len(ends)-1]})
	return r.query(ctx, "count users and tokens", population, params, func(row warehouse.Rows) error {
		var account string
		var registered, token []uint64
		err := row.Scan(&account, &registered, &token)
		for i := range registered {
			take(account, first+i, staMeasure(MeasureRegistered), registered[i])
			take(account, first+i, staMeasure(MeasureToken), token[i])
		}
		return err
	})
}

func (r *Reports) countActivity(ctx context.Context, q *staAsk, accounts []string, m usage.Month, take func(account string, n uint64)) error {
	params := q.cut.params(map[string]any{"tenant": q.tenant, "accounts": accounts, "from": m.Start().Millis(), "to": m.End().Millis()})
	return r.query(ctx, "count active users", activeInMonth, params, func(row warehouse.Rows) error {
		var account string
		var n uint64
		err := row.Scan(&account, &n)
		take(account, n)
		return err
	})
}
