package report

import (
	"context"
	"slices"
	"strings"
)

// populationMonths is how many months' ends one statement counts: a bit each of 64, and one to spare.
const populationMonths = 60

// spill is from how many bytes of a statement on its groups go to disk: half of what a question may take of the server
// (limit.query_memory), and what a million users need. With the disk, the same count took half as much CPU again.
const spill = `
SETTINGS max_bytes_before_external_group_by = 1000000000`

// filterMax is the number of accounts up to which a statement is told them by name; beyond, all are counted. A
// page and the row after it is less.
const filterMax = 2000

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
// account and user_id, a token by account and token_id; what holds is what was said last, in
// canonical order. Whatever is true at the end of month i is bit i: bits from the month of a change on flip with it.
// simpleJSONExtractString finds members by their text, which in canonical data is a member and nothing else.
//
// Comparing sources and ids of millions of events costs more than all the rest, and only two things said of one user or
// token in one instant need it. So the instants alone are compared first, and where that leaves a doubt (tied), or
// where a token has passed from user to user, all is read again and compared in full.
const (
	population      = populationHead + usersByInstant + `        UNION ALL` + tokensByInstant + populationTail
	populationExact = populationHead + usersInOrder + `        UNION ALL` + tokensInOrder + populationTail
)

// populationAt is the same at one end, where no more need be known of a user or token than when was last said that it
// is so, and when that it is not. Both in one instant is a doubt. Numbers are what a million users are grouped by: a user is
// the hash of the account and 128 bits of the id, as in uniqExact, which takes two thirds of what the texts take, and two
// thirds of the memory. Two accounts of one hash are a doubt as well.
const populationAt = `
SELECT names.account, of.registered_users, of.token_users, of.doubts + if(names.several, 1, 0)
FROM
(
    SELECT of_account, sum(registered) AS registered_users, sum(registered AND token) AS token_users, sum(tied) AS doubts
    FROM
    (
        SELECT of_account, user, max(registered) AS registered, max(token) AS token, max(tied) AS tied
        FROM
        (
            SELECT of_account, user, maxIf(instant, so) AS yes, maxIf(instant, NOT so) AS no,
                yes > no AS registered, toUInt8(0) AS token, yes = no AS tied
            FROM
            (
                SELECT cityHash64(account) AS of_account, ` + userHash + ` AS user,
                    toUnixTimestamp64Milli(at) + 1 AS instant, type = 'user.registered' AS so
                FROM {{db}}.directory_events
                WHERE type IN ('user.registered', 'user.removed') AND at < fromUnixTimestamp64Milli({last:Int64}, 'UTC') AND ` + directoryLive + `
            )
            GROUP BY of_account, user
            UNION ALL
            SELECT of_account, min(user_of_token) AS user, maxIf(instant, so) AS yes, maxIf(instant, NOT so) AS no,
                toUInt8(0) AS registered, yes > no AS token, yes = no OR user != max(user_of_token) AS tied
            FROM
            (
                SELECT cityHash64(account) AS of_account, ` + userHash + ` AS user_of_token,
                    reinterpretAsUInt128(sipHash128(simpleJSONExtractString(data, 'token_id'))) AS id_of_token,
                    toUnixTimestamp64Milli(at) + 1 AS instant, simpleJSONExtractRaw(data, 'state') = '"active"' AS so
                FROM {{db}}.directory_events
                WHERE type = 'token.state_set' AND at < fromUnixTimestamp64Milli({last:Int64}, 'UTC') AND ` + directoryLive + `
            )
            GROUP BY of_account, id_of_token
        )
        GROUP BY of_account, user
    )
    WHERE registered OR tied
    GROUP BY of_account
) AS of
LEFT JOIN
(
    SELECT cityHash64(known) AS of_account, min(known) AS account, count() > 1 AS several
    FROM
    (
        SELECT account AS known
        FROM {{db}}.directory_events
        WHERE tenant = {tenant:String} AND type IN ('user.registered', 'user.removed') AND at < fromUnixTimestamp64Milli({last:Int64}, 'UTC')
        GROUP BY account
    )
    GROUP BY of_account
) AS names ON of.of_account = names.of_account` + spill

const userHash = `reinterpretAsUInt128(sipHash128(simpleJSONExtractString(data, 'user_id')))`

const populationHead = `
WITH
    {ends:Array(Int64)} AS ends,
    at -> bitShiftLeft(toUInt64(-1), arrayCount(e -> e <= at, ends)) AS since,
    (s, t) -> arrayReduce('groupBitXor', arrayMap((now, before, at) -> if(now != before, since(at), toUInt64(0)), s, arrayPushFront(arrayPopBack(s), toUInt8(0)), t)) AS flips
SELECT account, sumForEach(arrayMap(i -> bitTest(registered, i), range(length(ends)))),
    sumForEach(arrayMap(i -> bitTest(bitAnd(registered, token), i), range(length(ends)))), sum(tied)
FROM
(
    SELECT account, user, groupBitOr(registered) AS registered, groupBitOr(token) AS token, max(tied) AS tied
    FROM
    (`

const populationTail = `
    )
    GROUP BY account, user
)
WHERE registered != 0 OR tied
GROUP BY account` + spill

// A step is the instant, doubled, and whether the user is registered from then on.
const usersByInstant = `
        SELECT account, user, flips(arrayMap(s -> toUInt8(bitAnd(s, 1)), steps), arrayMap(s -> bitShiftRight(s, 1), steps)) AS registered, toUInt64(0) AS token,
            arrayExists((s, next) -> bitXor(s, next) = 1, arrayPopBack(steps), arrayPopFront(steps)) AS tied
        FROM
        (
            SELECT account, simpleJSONExtractString(data, 'user_id') AS user,
                arraySort(groupArray(toUnixTimestamp64Milli(at) * 2 + (type = 'user.registered'))) AS steps
            FROM {{db}}.directory_events
            WHERE type IN ('user.registered', 'user.removed') AND at < fromUnixTimestamp64Milli({last:Int64}, 'UTC') AND ` + directoryLive + `
            GROUP BY account, user
        )
`

const tokensByInstant = `
        SELECT account, user, toUInt64(0) AS registered, flips(arrayMap(s -> toUInt8(bitAnd(s, 1)), steps), arrayMap(s -> bitShiftRight(s, 1), steps)) AS token,
            user != other OR arrayExists((s, next) -> bitXor(s, next) = 1, arrayPopBack(steps), arrayPopFront(steps)) AS tied
        FROM
        (
            SELECT account, simpleJSONExtractString(data, 'token_id') AS id_of_token, min(simpleJSONExtractString(data, 'user_id')) AS user,
                max(simpleJSONExtractString(data, 'user_id')) AS other,
                arraySort(groupArray(toUnixTimestamp64Milli(at) * 2 + (simpleJSONExtractRaw(data, 'state') = '"active"'))) AS steps
            FROM {{db}}.directory_events
            WHERE type = 'token.state_set' AND at < fromUnixTimestamp64Milli({last:Int64}, 'UTC') AND ` + directoryLive + `
            GROUP BY account, id_of_token
        )`

// A step is the instant, source, source_seq, id, and what was said.
const usersInOrder = `
        SELECT account, user, flips(tupleElement(steps, 5), tupleElement(steps, 1)) AS registered, toUInt64(0) AS token, toUInt8(0) AS tied
        FROM
        (
            SELECT account, simpleJSONExtractString(data, 'user_id') AS user,
                arraySort(groupArray((toUnixTimestamp64Milli(at), source, JSONExtractInt(data, 'source_seq'), id, toUInt8(type = 'user.registered')))) AS steps
            FROM {{db}}.directory_events
            WHERE type IN ('user.registered', 'user.removed') AND at < fromUnixTimestamp64Milli({last:Int64}, 'UTC') AND ` + directoryLive + `
            GROUP BY account, user
        )
`

const tokensInOrder = `
        SELECT account, tupleElement(step, 1) AS user, toUInt64(0) AS registered,
            bitAnd(since(tupleElement(step, 2)), bitNot(since(tupleElement(step, 3)))) AS token, toUInt8(0) AS tied
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
            arrayFilter((until, s) -> tupleElement(s, 6), arrayPushBack(arrayPopFront(tupleElement(steps, 1)), {last:Int64}), steps)) AS step`

// Distinct users with a success within a month, per account; users removed since count too.
const activeInMonth = `
SELECT account, count()
FROM
(
    SELECT account, simpleJSONExtractString(data, 'user_id') AS user
    FROM {{db}}.events
    WHERE tenant = {tenant:String} AND meter = 'activity' AND type = 'user.activity' AND sign = 1
        AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + `
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

// staUsers are the numbers of months, of all accounts; nil where they were not asked for.
type staUsers struct{ population, activity *counting }

// countUsers reads the numbers of a question's months.
func (r *Reports) countUsers(ctx context.Context, q *staAsk, need staNumbers) (u staUsers, err error) {
	if need.population {
		ends := make([]int64, len(q.months))
		for i, m := range q.months {
			ends[i] = m.End().Millis()
		}
		if u.population, err = r.populations(ctx, q.tenant, q.cut, ends); err != nil {
			return u, err
		}
	}
	if need.activity {
		u.activity, err = r.activities(ctx, q.tenant, q.cut, q.months)
	}
	return u, err
}

// name tells from which rows the numbers were counted; false where more of them may come.
func (u staUsers) name() (string, bool) {
	var names []string
	for _, c := range []*counting{u.population, u.activity} {
		if c != nil {
			names = append(names, c.names...)
		}
	}
	return strings.Join(names, ";"), !slices.Contains(names, "")
}

// each calls take with the index of a month and of a measure.
func (u staUsers) each(take func(account string, month, measure int, n uint64)) {
	if u.population != nil {
		for i, all := range u.population.have {
			for _, t := range *all {
				take(t.account, i, staMeasure(MeasureRegistered), t.n[0])
				take(t.account, i, staMeasure(MeasureToken), t.n[1])
			}
		}
	}
	if u.activity != nil {
		for i, all := range u.activity.have {
			for _, t := range *all {
				take(t.account, i, staMeasure(MeasureActivity), t.n[0])
			}
		}
	}
}
