package report

import (
	"context"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Active users at an instant of each account, or what changes in their number by day (by_day). A user is
// active while registered, unless what was said last of his status since he was last removed is INACTIVE.
const activeHistories = `
SELECT account, if({by_day:UInt8} = 1, intDiv(tupleElement(change, 1), 86400000), 0) AS day, sum(tupleElement(change, 2))
FROM
(
    SELECT account, arrayPushFront(tupleElement(steps, 5), toUInt8(0)) AS kinds,
        arrayMap((registered, status) -> toInt64(registered = 1 AND status != 3), arrayFill(k -> k <= 1, kinds), arrayFill(k -> k != 1, kinds)) AS active,
        arrayZip(tupleElement(steps, 1), arrayMap((now, before) -> now - before, arrayPopFront(active), arrayPopBack(active))) AS changes
    FROM
    (
        SELECT account, simpleJSONExtractString(data, 'user_id') AS user,
            arraySort(groupArray((toUnixTimestamp64Milli(at), source, JSONExtractInt(data, 'source_seq'), id,
                toUInt8(multiIf(type = 'user.removed', 0, type = 'user.registered', 1, simpleJSONExtractString(data, 'status') = 'ACTIVE', 2, 3))))) AS steps
        FROM {{db}}.directory_events
        WHERE type IN ('user.registered', 'user.removed', 'user.status_set')
            AND toUnixTimestamp64Milli(at) < transform(account, {ended:Array(String)}, {ends:Array(Int64)}, {until:Int64}) AND ` + directoryLive + `
        GROUP BY account, user
    )
)
ARRAY JOIN arrayFilter(c -> tupleElement(c, 2) != 0, changes) AS change
GROUP BY account, day`

// activeAt is active users at one instant, which need no more than when was last said what of a user: 0 for never. Two of
// these in one instant are a doubt.
const activeAt = `
SELECT account, countIf(registered > removed AND NOT (inactive > removed AND inactive > active)),
    countIf(registered > 0 AND registered = removed OR inactive > 0 AND (inactive = active OR inactive = removed))
FROM
(
    SELECT account, maxIf(instant, type = 'user.registered') AS registered, maxIf(instant, type = 'user.removed') AS removed,
        maxIf(instant, type = 'user.status_set' AND status = 'ACTIVE') AS active,
        maxIf(instant, type = 'user.status_set' AND status != 'ACTIVE') AS inactive
    FROM
    (
        SELECT account, type, toUnixTimestamp64Milli(at) + 1 AS instant, simpleJSONExtractString(data, 'user_id') AS user,
            if(type = 'user.status_set', simpleJSONExtractString(data, 'status'), '') AS status
        FROM {{db}}.directory_events
        WHERE type IN ('user.registered', 'user.removed', 'user.status_set') AND at < fromUnixTimestamp64Milli({until:Int64}, 'UTC') AND ` + directoryLive + `
    )
    GROUP BY account, user
)
GROUP BY account` + spill

// activeUsers are active users of all accounts at an instant.
func (r *Reports) activeUsers(ctx context.Context, tenant string, cut Cut, until int64) ([]tally, error) {
	of, err := r.prints(ctx, userPrints, tenant, cut, []string{"user.registered", "user.removed", "user.status_set"}, 0, []int64{until})
	if err != nil {
		return nil, err
	}
	c := r.lookUp("active", tenant, cut, []int64{until}, of)
	if c.have[0] != nil {
		return *c.have[0], nil
	}
	var all []tally
	var doubts uint64
	params := cut.params(map[string]any{"tenant": tenant, "accounts": []string{}, "until": until})
	err = r.query(ctx, "count active users", activeAt, params, func(row warehouse.Rows) error {
		var t tally
		var tied uint64
		err := row.Scan(&t.account, &t.n[0], &tied)
		all, doubts = append(all, t), doubts+tied
		return err
	})
	if err == nil && doubts > 0 {
		all, err = r.activeExactly(ctx, tenant, cut, nil, nil, until)
	}
	if err != nil {
		return nil, err
	}
	c.set(0, all)
	return all, nil
}

// activeExactly counts from what was said of every user, in order: of the accounts that ended, as they were then; where
// none are named, of all at an instant.
func (r *Reports) activeExactly(ctx context.Context, tenant string, cut Cut, ended []string, ends []int64, until int64) ([]tally, error) {
	accounts := append([]string{}, ended...)
	if len(accounts) > filterMax {
		accounts = []string{}
	}
	var all []tally
	params := cut.params(map[string]any{
		"tenant": tenant, "accounts": accounts, "ended": append([]string{}, ended...), "ends": append([]int64{}, ends...), "until": until, "by_day": uint8(0),
	})
	err := r.query(ctx, "count active users", activeHistories, params, func(row warehouse.Rows) error {
		var t tally
		var day, n int64
		err := row.Scan(&t.account, &day, &n)
		t.n[0] = uint64(n)
		all = append(all, t)
		return err
	})
	return all, err
}
