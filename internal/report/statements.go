package report

// The statements behind every sum. Constants only: values are bound, variants are chosen by bound
// conditions, which the server folds before it reads. All return the columns scanned by (*cells).scan.
//
// Four roads lead to the same cells:
//   - monthly and hourly: the rollups, for whole months or hours in which the account's plan does not change;
//   - raw: events and pieces with their signs, for everything else;
//   - live: events and pieces that are not voided, where a negation cannot be subtracted (min, max,
//     latest, unique, first and last instant).
// Returned credits are always read from raw, because rollups do not know which message they are for.
//
// segment counts the account's plan changes at or before a row; the caller turns it into the plan.

// keys are the grouping columns of the rollups; those not asked for are constants, which cost nothing.
const keys = `
    multiIf({window:String} = 'hour', toUnixTimestamp(toStartOfHour(at)),
            {window:String} = 'day', toUnixTimestamp(toStartOfDay(at)),
            {window:String} = 'month', toUnixTimestamp(toDateTime(toStartOfMonth(at), 'UTC')), 0) AS k_window,
    meter AS k_meter,
    if({by_account:Bool}, account, '') AS k_account,
    if({by_plan:Bool}, plan, '') AS k_plan,
    if({by_region:Bool}, region, '') AS k_region,
    if({by_platform:Bool}, platform, '') AS k_platform,
    CAST({by_trial:Bool} AND trial, 'Bool') AS k_trial,`

// rollupKeys and rawKeys end them. Values of dimensions are one text: each with its length before it.
const rollupKeys = keys + `
    '' AS k_consumer, '' AS k_item, '' AS k_dimensions,`

const rawKeys = keys + `
    if({by_consumer:Bool}, consumer_id, '') AS k_consumer,
    if({by_item:Bool}, item, '') AS k_item,
    arrayStringConcat(arrayMap(d -> concat(toString(length(dimensions[d])), ':', dimensions[d]), {dimensions:Array(String)})) AS k_dimensions,`

const groups = `
GROUP BY k_window, k_meter, k_account, k_plan, k_region, k_platform, k_trial, k_consumer, k_item, k_dimensions, k_segment`

const noSegment = `
    toUInt32(0) AS k_segment,`

const withSegment = `
    toUInt32(arrayCount(c -> c <= toUnixTimestamp64Milli(toDateTime64(at, 3, 'UTC')), changes)) AS k_segment,`

// joinChanges brings each account's plan changes to its rows; accounts without any get [].
const joinChanges = `
LEFT JOIN
(
    SELECT tupleElement(pair, 1) AS account, tupleElement(pair, 2) AS changes
    FROM (SELECT arrayJoin(arrayZip({changed:Array(String)}, {changes:Array(Array(Int64))})) AS pair)
) AS p USING (account)`

// splitHour is whether the plan changes strictly inside the row's hour.
const splitHour = `arrayExists(c -> c > 1000 * toInt64(toUnixTimestamp(toStartOfHour(at)))
    AND c < 1000 * toInt64(toUnixTimestamp(toStartOfHour(at))) + 3600000, changes)`

// chosen are the conditions of every source; meter first, because it leads the sorting keys.
const chosen = `tenant = {tenant:String}
    AND ({any_meter:Bool} OR meter IN (SELECT arrayJoin({meters:Array(String)})))
    AND meter NOT IN (SELECT arrayJoin({not_meters:Array(String)}))
    AND ({any_account:Bool} OR account IN (SELECT arrayJoin({accounts:Array(String)})))`

const hourlySource = `
FROM
(
    SELECT account, meter, hour AS at, plan, region, platform, trial, quantity, events, rows, voids, first_at, last_at
    FROM {{db}}.usage_hourly
    WHERE ` + chosen + `
    AND meter != 'credits_returned'
    AND hour >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND hour < fromUnixTimestamp64Milli({to:Int64}, 'UTC')`

const monthlySource = `
FROM
(
    SELECT account, meter, month AS at, plan, region, platform, trial, quantity, events, rows, voids, first_at, last_at
    FROM {{db}}.usage_monthly
    WHERE ` + chosen + `
    AND meter != 'credits_returned'
    AND month >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND month < fromUnixTimestamp64Milli({to:Int64}, 'UTC')`

const rollupSums = `
    toString(sum(quantity)), sum(events), toInt64(sum(rows)) - 2 * toInt64(sum(voids)), sum(voids),
    toUnixTimestamp64Milli(min(first_at)), toUnixTimestamp64Milli(max(last_at))`

// monthlySteady and hourlySteady read accounts whose plan does not change in the period; hourlyChanging the others, but
// for the hours that contain a change.
const (
	monthlySteady = `
SELECT` + rollupKeys + noSegment + rollupSums + monthlySource + `
    AND account NOT IN (SELECT arrayJoin({changed:Array(String)}))
)` + groups
	hourlySteady = `
SELECT` + rollupKeys + noSegment + rollupSums + hourlySource + `
    AND account NOT IN (SELECT arrayJoin({changed:Array(String)}))
)` + groups
	hourlyChanging = `
SELECT` + rollupKeys + withSegment + rollupSums + hourlySource + `
    AND account IN (SELECT arrayJoin({changed:Array(String)}))
) AS u` + joinChanges + `
WHERE NOT ` + splitHour + groups
)

// rawSource are the counting rows: an event that was cut counts with its pieces, and once as an event.
const rawSource = `
FROM
(
    SELECT account, meter, at, plan, region, platform, trial, consumer_id, item, dimensions, quantity,
        sign, sign AS n, recorded_at, shard, seq, CAST(source, 'String') AS source, id,
        if({latest:Bool}, JSONExtractInt(data, 'source_seq'), 0) AS source_seq, toUInt16(0) AS piece
    FROM {{db}}.events
    WHERE ` + chosen + `
    AND meter NOT IN ('', 'credits_returned') AND pieces <= 1
    AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND ` + inCut + `
    UNION ALL
    SELECT account, meter, at, plan, region, platform, trial, consumer_id, item, dimensions, quantity,
        sign, if(piece = 0, sign, 0) AS n, recorded_at, shard, seq, CAST(source, 'String') AS source, id, 0 AS source_seq, piece
    FROM {{db}}.pieces
    WHERE ` + chosen + `
    AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND ` + inCut + `
) AS u`

const rawSums = `
    toString(sum(toDecimal256(quantity, 9) * sign)), toInt64(sum(n)), toInt64(sum(sign)), countIf(sign < 0),
    toUnixTimestamp64Milli(min(at)), toUnixTimestamp64Milli(max(at))`

const (
	// rawSteady reads accounts whose plan does not change in the period: no join for most rows.
	rawSteady = `SELECT` + rawKeys + noSegment + rawSums + rawSource + `
WHERE account NOT IN (SELECT arrayJoin({changed:Array(String)}))` + groups
	// rawChanging reads the others.
	rawChanging = `SELECT` + rawKeys + withSegment + rawSums + rawSource + joinChanges + groups
	// rawSplit reads only the hours that contain a plan change of the account.
	rawSplit = `SELECT` + rawKeys + withSegment + rawSums + rawSource + joinChanges + `
WHERE ` + splitHour + groups
)

// notVoided keeps what is not voided at the cut.
const notVoided = `(source, id) NOT IN
(
    SELECT source, id FROM {{db}}.events
    WHERE ` + chosen + `
    AND sign = -1 AND ` + inCut + `
)`

const liveRows = `
WHERE sign = 1 AND ` + notVoided

const liveSums = `
    toString(sum(toDecimal256(quantity, 9))), toInt64(sum(n)), toInt64(count()), toUInt64(0),
    toUnixTimestamp64Milli(min(at)), toUnixTimestamp64Milli(max(at)),
    toString(min(quantity)), toString(max(quantity)),
    toString(argMax(quantity, (at, source, source_seq, id, piece))),
    toUnixTimestamp64Milli(tupleElement(max((at, source, source_seq, id, piece)) AS newest, 1)), tupleElement(newest, 2), tupleElement(newest, 3),
    tupleElement(newest, 4), tupleElement(newest, 5),
    groupUniqArrayIf(consumer_id, {unique:Bool} AND consumer_id != '')`

const live = `
SELECT` + rawKeys + withSegment + liveSums + rawSource + joinChanges + liveRows + groups

// anyReturned has a row where the tenant returned credits at any time.
const anyReturned = `SELECT toUInt8(1) FROM {{db}}.events WHERE tenant = {tenant:String} AND meter = 'credits_returned' LIMIT 1`

// returned resolves returned credits to the meter of the message they are for: the earliest live charge
// of the same message_id, whenever it happened. Without one they stay on the meter credits_returned.
// Only live rows are read, so that nothing need be subtracted.
const returned = `
SELECT` + rawKeys + withSegment + rawSums + `
FROM
(
    SELECT r.account AS account, if(charged.meter = '', 'credits_returned', charged.meter) AS meter, r.at AS at,
        '' AS plan, '' AS region, '' AS platform, false AS trial, '' AS consumer_id, '' AS item,
        CAST(map(), 'Map(String, String)') AS dimensions, r.quantity AS quantity, r.sign AS sign, r.sign AS n
    FROM
    (
        SELECT account, at, quantity, sign, JSONExtractString(data, 'message_id') AS message_id
        FROM {{db}}.events
        WHERE tenant = {tenant:String} AND meter = 'credits_returned' AND sign = 1
        AND ({any_account:Bool} OR account IN (SELECT arrayJoin({accounts:Array(String)})))
        AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
        AND ` + inCut + `
        AND (source, id) NOT IN
        (
            SELECT source, id
            FROM {{db}}.events
            WHERE tenant = {tenant:String} AND meter = 'credits_returned' AND sign = -1
            AND ` + inCut + `
        )
    ) AS r
    LEFT JOIN
    (
        SELECT message_id, argMin(charge_meter, first) AS meter
        FROM
        (
            SELECT JSONExtractString(data, 'message_id') AS message_id, any(meter) AS charge_meter,
                min((at, source, id)) AS first
            FROM {{db}}.events
            WHERE tenant = {tenant:String} AND meter IN (` + chargedMeters + `) AND type = 'message.charged'
            AND ` + inCut + `
            AND JSONExtractString(data, 'message_id') IN
            (
                SELECT JSONExtractString(data, 'message_id')
                FROM {{db}}.events
                WHERE tenant = {tenant:String} AND meter = 'credits_returned'
                AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
            )
            GROUP BY source, id, message_id
            HAVING sum(sign) > 0
        )
        GROUP BY message_id
    ) AS charged USING (message_id)
) AS u` + joinChanges + `
WHERE ({any_meter:Bool} OR meter IN (SELECT arrayJoin({meters:Array(String)})))
    AND meter NOT IN (SELECT arrayJoin({not_meters:Array(String)}))` + groups

// held are the samples of time-weighted meters, series by series in their own order: those in the period, and the
// last one before it. A sample counts at its start, whole; rows of pieces are not looked at.
const held = `
SELECT meter, account, region, platform, asset_id, toUnixTimestamp64Milli(at), toString(quantity), toUnixTimestamp64Milli(trial_expiry), plan,
    if({by_consumer:Bool}, consumer_id, ''), if({by_item:Bool}, item, ''),
    arrayStringConcat(arrayMap(d -> concat(toString(length(dimensions[d])), ':', dimensions[d]), {dimensions:Array(String)}))
FROM
(
    SELECT ` + sampleColumns + ` FROM {{db}}.events
    WHERE at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + sampleRows + `
    UNION ALL
    SELECT ` + sampleColumns + ` FROM {{db}}.events
    WHERE at < fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ` + sampleRows + `
    ORDER BY meter, account, region, platform, asset_id, at DESC, source DESC, source_seq DESC, id DESC
    LIMIT 1 BY meter, account, region, platform, asset_id
)
ORDER BY meter, account, region, platform, asset_id, at, source, source_seq, id`

const sampleColumns = `CAST(meter, 'String') AS meter, CAST(account, 'String') AS account, CAST(region, 'String') AS region, CAST(platform, 'String') AS platform,
        asset_id, at, CAST(source, 'String') AS source, JSONExtractInt(data, 'source_seq') AS source_seq, id, quantity, trial_expiry,
        CAST(plan, 'String') AS plan, consumer_id, CAST(item, 'String') AS item, dimensions`

const sampleRows = chosen + `
    AND meter NOT IN ('', 'credits_returned') AND sign = 1 AND ` + inCut + ` AND ` + notVoided
