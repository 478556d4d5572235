-- The same rows, planned in three fifths of the CPU time. A question about one meter of a small tenant read for 4 ms and
-- was planned for 80: each SELECT of a plan costs about a millisecond whether it reads anything or not, a view inside of
-- a view two more, and so does each expression, once for every level that it is carried through. So the views of usage
-- name tables and not views over views, meters are looked up by one SELECT less, sums are grouped once, and a quotient
-- is rounded with names and not with lambdas, which are written out wherever they are called.
--
-- A quotient: intDiv and % cut towards zero, so that the rest has the sign of the dividend; where
-- 2 * rest + (the quotient is odd) > divisor, one more is nearer, or as near and even.

-- The generation that holds, of each tenant.
CREATE OR REPLACE VIEW {{db}}.directory_newest SQL SECURITY INVOKER AS
SELECT g.tenant AS tenant, tupleElement(max((g.shard, g.seq, g.at, g.data)) AS newest, 4) AS data, tupleElement(newest, 1) AS shard,
    tupleElement(newest, 2) AS seq, tupleElement(newest, 3) AS at,
    tupleElement(argMax((g.version, g.events, g.print, g.content, g.contested, g.accounts, g.rulings, g.rows), (g.shard, g.seq, g.at, g.data)) AS rest, 1) AS version,
    tupleElement(rest, 2) AS events, tupleElement(rest, 3) AS print, tupleElement(rest, 4) AS content,
    tupleElement(rest, 5) AS contested, tupleElement(rest, 6) AS accounts, tupleElement(rest, 7) AS rulings, tupleElement(rest, 8) AS rows
FROM {{db}}.directory_generations AS g
GROUP BY g.tenant;

-- The plans of an account over time: one row per instant from which they hold. Nothing falls under a plan before
-- the account exists.
CREATE OR REPLACE VIEW {{db}}.plan_spans SQL SECURITY INVOKER AS
SELECT tenant, account, since, CAST(services, 'Array(String)') AS services, plans, if(length(plans) = 1, plans[1], '') AS only
FROM {{db}}.directory_plans
WHERE (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant);

-- Name and parent of an account over time, until the next step.
CREATE OR REPLACE VIEW {{db}}.account_steps SQL SECURITY INVOKER AS
SELECT tenant, account, created_at, since, until, name, parent, kind, contract_mode, trial_ends_at, deleted
FROM {{db}}.directory_steps
WHERE (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant);

-- Who is above whom at the end of a month, which is in [since, until).
CREATE OR REPLACE VIEW {{db}}.ancestors SQL SECURITY INVOKER AS
SELECT tenant, account, ancestor, since, until, depth
FROM {{db}}.directory_trees
ARRAY JOIN above AS ancestor, arrayEnumerate(above) AS depth
WHERE (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant);

-- Meters as defined. A meter that is not here is a sum.
CREATE OR REPLACE VIEW {{db}}.meters SQL SECURITY INVOKER AS
SELECT tenant, meter, CAST(aggregation, 'String') AS aggregation, unit, CAST(service, 'String') AS service, meter_id, element, kind, plan, scale
FROM {{db}}.directory_meters
WHERE (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant);

-- Accounts as they are now, as far as directory_v1 says. Deleted ones are here too: see status.
CREATE OR REPLACE VIEW {{api}}.accounts_v1 SQL SECURITY INVOKER AS
SELECT tenant, account, name, kind, parent, path, depth, plan, status, service_status, contract_mode, trial_ends_at, currency, reseller,
    created_at, deleted_at
FROM {{db}}.directory_accounts
WHERE (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant);

-- What is known for certain: everything recorded at or before this instant has been counted. An analyst sees his own
-- messages and how far the shards are.
CREATE OR REPLACE VIEW {{db}}.settled SQL SECURITY INVOKER AS
SELECT min(tupleElement(newest, 2)) AS at
FROM
(
    SELECT max((shard, settled_at)) AS newest
    FROM
    (
        SELECT shard, subtractMilliseconds(max(logged_at), 1) AS settled_at
        FROM {{db}}.ledger
        GROUP BY shard
        UNION ALL
        SELECT shard, subtractMilliseconds(if(argMax(warehouse_seq, at) >= argMax(log_seq, at), max(at), argMax(watermark_at, at)), 1) AS settled_at
        FROM {{db}}.shard_status
        GROUP BY shard
    )
    GROUP BY shard % 1024
);

-- Returned credits under the meter of the message they are for: that of the earliest charge of the same
-- message_id that is not voided, whenever it happened; without one they stay `credits_returned`. Both
-- branches of the join are empty for tenants that return nothing.
CREATE OR REPLACE VIEW {{db}}.credits_resolved SQL SECURITY INVOKER AS
SELECT r.tenant AS tenant, r._partition_id AS month_id, r.shard AS shard, r.seq AS seq, r.idx AS idx, r.sign AS sign, r.source AS source,
    r.id AS id, r.account AS account, r.at AS at, r.recorded_at AS recorded_at, r.quantity AS quantity,
    if(c.meter = '', 'credits_returned', c.meter) AS meter
FROM {{db}}.events AS r
LEFT JOIN
(
    SELECT tenant, message_id, argMin(charged, first) AS meter
    FROM
    (
        SELECT tenant, JSONExtractString(data, 'message_id') AS message_id, any(CAST(meter, 'String')) AS charged, min((at, source, id)) AS first
        FROM {{db}}.events
        WHERE meter IN ('sms_credits', 'voice_credits') AND type = 'message.charged'
            AND (tenant, JSONExtractString(data, 'message_id')) IN
                (SELECT tenant, JSONExtractString(data, 'message_id') FROM {{db}}.events WHERE meter = 'credits_returned')
        GROUP BY tenant, source, id, message_id
        HAVING sum(sign) > 0
    )
    GROUP BY tenant, message_id
) AS c ON r.tenant = c.tenant AND JSONExtractString(r.data, 'message_id') = c.message_id
WHERE r.meter = 'credits_returned';

-- One row per cell and hour. quantity is signed and adds up for sums; for other meters it is the meter's own
-- aggregate of the hour and does not (a time-weighted one does, but for rounding). From three roads: cells of sums, with
-- returned credits; rows that are not voided, of meters that are no sums; and what gauges hold.
CREATE OR REPLACE VIEW {{api}}.usage_hourly_v1 SQL SECURITY INVOKER AS
WITH
    defined AS
    (
        SELECT tenant, meter, aggregation
        FROM {{db}}.directory_meters
        WHERE (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant)
    ),
    -- Of each message of which credits were returned, under which meter it was charged: see credits_resolved.
    charges AS
    (
        SELECT tenant, message_id, argMin(charged, first) AS meter
        FROM
        (
            SELECT tenant, JSONExtractString(data, 'message_id') AS message_id, any(CAST(meter, 'String')) AS charged, min((at, source, id)) AS first
            FROM {{db}}.events
            WHERE meter IN ('sms_credits', 'voice_credits') AND type = 'message.charged'
                AND (tenant, JSONExtractString(data, 'message_id')) IN
                    (SELECT tenant, JSONExtractString(data, 'message_id') FROM {{db}}.events WHERE meter = 'credits_returned')
            GROUP BY tenant, source, id, message_id
            HAVING sum(sign) > 0
        )
        GROUP BY tenant, message_id
    ),
    voids AS (SELECT tenant, source, id FROM {{db}}.events WHERE sign = -1)
SELECT u.tenant AS tenant, u.account AS account, u.meter AS meter, u.hour AS hour, u.region AS region, u.platform AS platform, u.trial AS trial,
    if(any(m.aggregation) = 'count', toDecimal256(sum(u.n), 9), sum(u.q)) AS quantity, sum(u.n) AS events
FROM
(
    SELECT tenant, account, meter, hour AS hour, region, platform, trial,
        quantity AS q, events AS n, toInt64(rows) - 2 * toInt64(voids) AS live
    FROM {{db}}.usage_hourly
    WHERE meter != 'credits_returned'
    UNION ALL
    SELECT r.tenant AS tenant, r.account AS account, if(c.meter = '', 'credits_returned', c.meter) AS meter,
        toDateTime64(toStartOfHour(r.at), 3, 'UTC') AS hour, '' AS region, '' AS platform, false AS trial,
        toDecimal256(r.quantity, 9) * r.sign AS q, toInt64(r.sign) AS n, n AS live
    FROM {{db}}.events AS r
    LEFT JOIN charges AS c ON r.tenant = c.tenant AND JSONExtractString(r.data, 'message_id') = c.message_id
    WHERE r.meter = 'credits_returned'
) AS u
LEFT JOIN defined AS m ON u.tenant = m.tenant AND u.meter = m.meter
WHERE m.aggregation NOT IN ('min', 'max', 'avg', 'latest', 'unique', 'time_weighted')
GROUP BY tenant, account, meter, hour, region, platform, trial
HAVING sum(u.live) > 0
UNION ALL
SELECT l.tenant AS tenant, l.account AS account, l.meter AS meter, toDateTime64(toStartOfHour(l.at), 3, 'UTC') AS hour, l.region AS region,
    l.platform AS platform, l.trial AS trial,
    multiIf((any(m.aggregation) AS aggregation) = 'min', toDecimal256(min(l.quantity), 9), aggregation = 'max', toDecimal256(max(l.quantity), 9),
        aggregation = 'latest', toDecimal256(argMax(l.quantity, (l.at, CAST(l.source, 'String'), l.source_seq, l.id, l.piece)), 9),
        aggregation = 'unique', toDecimal256(uniqExactIf(l.consumer_id, l.consumer_id != ''), 9),
        reinterpret((intDiv(reinterpretAsInt256(sum(toDecimal256(l.quantity, 9))) AS total, toInt256(greatest(events, 1)) AS divisor) AS whole)
            + if(2 * abs(total % divisor) + abs(whole % 2) > divisor, sign(total), 0), 'Decimal(76, 9)')) AS quantity,
    toInt64(sum(l.n)) AS events
FROM
(
    SELECT tenant, account, meter, at, region, platform, trial, consumer_id, quantity, source, id, JSONExtractInt(data, 'source_seq') AS source_seq,
        toUInt16(0) AS piece, toUInt8(1) AS n
    FROM {{db}}.events
    WHERE sign = 1 AND meter NOT IN ('', 'credits_returned') AND pieces <= 1
    UNION ALL
    SELECT tenant, account, meter, at, region, platform, trial, consumer_id, quantity, source, id, toInt64(0) AS source_seq, piece, toUInt8(piece = 0) AS n
    FROM {{db}}.pieces
    WHERE sign = 1
) AS l
INNER JOIN defined AS m ON l.tenant = m.tenant AND l.meter = m.meter
WHERE (l.tenant, l.meter) IN (SELECT tenant, meter FROM defined WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique'))
    AND (l.tenant, l.source, l.id) NOT IN voids
GROUP BY tenant, account, meter, hour, region, platform, trial
UNION ALL
SELECT tenant, account, meter, toDateTime64(toStartOfHour(tupleElement(part, 1)), 3, 'UTC') AS hour, region, platform,
    tupleElement(part, 1) < trial_expiry AS trial,
    reinterpret((intDiv(reinterpretAsInt256(sum(toDecimal256(quantity_, 9)
            * (toUnixTimestamp64Milli(tupleElement(part, 2)) - toUnixTimestamp64Milli(tupleElement(part, 1))))) AS total, toInt256(3600000)) AS whole)
        + if(2 * abs(total % 3600000) + abs(whole % 2) > 3600000, sign(total), 0), 'Decimal(76, 9)') AS quantity,
    toInt64(countIf(tupleElement(part, 3) = 1)) AS events
FROM
(
    SELECT CAST(tenant, 'String') AS tenant, CAST(account, 'String') AS account, CAST(meter, 'String') AS meter, CAST(region, 'String') AS region,
        CAST(platform, 'String') AS platform, quantity AS quantity_, trial_expiry, at,
        least(leadInFrame(at, 1, toDateTime64('2200-01-01 00:00:00', 3, 'UTC')) OVER (PARTITION BY tenant, meter, account, region, platform, asset_id
            ORDER BY at, CAST(source, 'String'), JSONExtractInt(data, 'source_seq'), id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING),
            greatest(at, assumeNotNull((SELECT at FROM {{db}}.settled)))) AS until,
        arrayConcat([at], arrayFilter(t -> t > at AND t < until, arraySort(arrayDistinct(arrayPushBack(
            arrayMap(i -> addHours(toDateTime64(toStartOfHour(at), 3, 'UTC'), i), range(1, toUInt64(1 + dateDiff('hour', at, until)))), trial_expiry))))) AS starts
    FROM {{db}}.events
    WHERE sign = 1 AND (tenant, meter) IN (SELECT tenant, meter FROM defined WHERE aggregation = 'time_weighted') AND (tenant, source, id) NOT IN voids
)
ARRAY JOIN arrayZip(starts, arrayPushBack(arrayPopFront(starts), until), arrayEnumerate(starts)) AS part
GROUP BY tenant, account, meter, hour, region, platform, trial
HAVING max(tupleElement(part, 3) = 1 OR quantity_ != 0);

-- The same by UTC day.
CREATE OR REPLACE VIEW {{api}}.usage_daily_v1 SQL SECURITY INVOKER AS
WITH
    defined AS
    (
        SELECT tenant, meter, aggregation
        FROM {{db}}.directory_meters
        WHERE (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant)
    ),
    -- Of each message of which credits were returned, under which meter it was charged: see credits_resolved.
    charges AS
    (
        SELECT tenant, message_id, argMin(charged, first) AS meter
        FROM
        (
            SELECT tenant, JSONExtractString(data, 'message_id') AS message_id, any(CAST(meter, 'String')) AS charged, min((at, source, id)) AS first
            FROM {{db}}.events
            WHERE meter IN ('sms_credits', 'voice_credits') AND type = 'message.charged'
                AND (tenant, JSONExtractString(data, 'message_id')) IN
                    (SELECT tenant, JSONExtractString(data, 'message_id') FROM {{db}}.events WHERE meter = 'credits_returned')
            GROUP BY tenant, source, id, message_id
            HAVING sum(sign) > 0
        )
        GROUP BY tenant, message_id
    ),
    voids AS (SELECT tenant, source, id FROM {{db}}.events WHERE sign = -1)
SELECT u.tenant AS tenant, u.account AS account, u.meter AS meter, u.day AS day, u.region AS region, u.platform AS platform, u.trial AS trial,
    if(any(m.aggregation) = 'count', toDecimal256(sum(u.n), 9), sum(u.q)) AS quantity, sum(u.n) AS events
FROM
(
    SELECT tenant, account, meter, toDateTime64(toStartOfDay(hour), 3, 'UTC') AS day, region, platform, trial,
        quantity AS q, events AS n, toInt64(rows) - 2 * toInt64(voids) AS live
    FROM {{db}}.usage_hourly
    WHERE meter != 'credits_returned'
    UNION ALL
    SELECT r.tenant AS tenant, r.account AS account, if(c.meter = '', 'credits_returned', c.meter) AS meter,
        toDateTime64(toStartOfDay(r.at), 3, 'UTC') AS day, '' AS region, '' AS platform, false AS trial,
        toDecimal256(r.quantity, 9) * r.sign AS q, toInt64(r.sign) AS n, n AS live
    FROM {{db}}.events AS r
    LEFT JOIN charges AS c ON r.tenant = c.tenant AND JSONExtractString(r.data, 'message_id') = c.message_id
    WHERE r.meter = 'credits_returned'
) AS u
LEFT JOIN defined AS m ON u.tenant = m.tenant AND u.meter = m.meter
WHERE m.aggregation NOT IN ('min', 'max', 'avg', 'latest', 'unique', 'time_weighted')
GROUP BY tenant, account, meter, day, region, platform, trial
HAVING sum(u.live) > 0
UNION ALL
SELECT l.tenant AS tenant, l.account AS account, l.meter AS meter, toDateTime64(toStartOfDay(l.at), 3, 'UTC') AS day, l.region AS region,
    l.platform AS platform, l.trial AS trial,
    multiIf((any(m.aggregation) AS aggregation) = 'min', toDecimal256(min(l.quantity), 9), aggregation = 'max', toDecimal256(max(l.quantity), 9),
        aggregation = 'latest', toDecimal256(argMax(l.quantity, (l.at, CAST(l.source, 'String'), l.source_seq, l.id, l.piece)), 9),
        aggregation = 'unique', toDecimal256(uniqExactIf(l.consumer_id, l.consumer_id != ''), 9),
        reinterpret((intDiv(reinterpretAsInt256(sum(toDecimal256(l.quantity, 9))) AS total, toInt256(greatest(events, 1)) AS divisor) AS whole)
            + if(2 * abs(total % divisor) + abs(whole % 2) > divisor, sign(total), 0), 'Decimal(76, 9)')) AS quantity,
    toInt64(sum(l.n)) AS events
FROM
(
    SELECT tenant, account, meter, at, region, platform, trial, consumer_id, quantity, source, id, JSONExtractInt(data, 'source_seq') AS source_seq,
        toUInt16(0) AS piece, toUInt8(1) AS n
    FROM {{db}}.events
    WHERE sign = 1 AND meter NOT IN ('', 'credits_returned') AND pieces <= 1
    UNION ALL
    SELECT tenant, account, meter, at, region, platform, trial, consumer_id, quantity, source, id, toInt64(0) AS source_seq, piece, toUInt8(piece = 0) AS n
    FROM {{db}}.pieces
    WHERE sign = 1
) AS l
INNER JOIN defined AS m ON l.tenant = m.tenant AND l.meter = m.meter
WHERE (l.tenant, l.meter) IN (SELECT tenant, meter FROM defined WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique'))
    AND (l.tenant, l.source, l.id) NOT IN voids
GROUP BY tenant, account, meter, day, region, platform, trial
UNION ALL
SELECT tenant, account, meter, toDateTime64(toStartOfDay(tupleElement(part, 1)), 3, 'UTC') AS day, region, platform,
    tupleElement(part, 1) < trial_expiry AS trial,
    reinterpret((intDiv(reinterpretAsInt256(sum(toDecimal256(quantity_, 9)
            * (toUnixTimestamp64Milli(tupleElement(part, 2)) - toUnixTimestamp64Milli(tupleElement(part, 1))))) AS total, toInt256(3600000)) AS whole)
        + if(2 * abs(total % 3600000) + abs(whole % 2) > 3600000, sign(total), 0), 'Decimal(76, 9)') AS quantity,
    toInt64(countIf(tupleElement(part, 3) = 1)) AS events
FROM
(
    SELECT CAST(tenant, 'String') AS tenant, CAST(account, 'String') AS account, CAST(meter, 'String') AS meter, CAST(region, 'String') AS region,
        CAST(platform, 'String') AS platform, quantity AS quantity_, trial_expiry, at,
        least(leadInFrame(at, 1, toDateTime64('2200-01-01 00:00:00', 3, 'UTC')) OVER (PARTITION BY tenant, meter, account, region, platform, asset_id
            ORDER BY at, CAST(source, 'String'), JSONExtractInt(data, 'source_seq'), id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING),
            greatest(at, assumeNotNull((SELECT at FROM {{db}}.settled)))) AS until,
        arrayConcat([at], arrayFilter(t -> t > at AND t < until, arraySort(arrayDistinct(arrayPushBack(
            arrayMap(i -> addDays(toDateTime64(toStartOfDay(at), 3, 'UTC'), i), range(1, toUInt64(1 + dateDiff('day', at, until)))), trial_expiry))))) AS starts
    FROM {{db}}.events
    WHERE sign = 1 AND (tenant, meter) IN (SELECT tenant, meter FROM defined WHERE aggregation = 'time_weighted') AND (tenant, source, id) NOT IN voids
)
ARRAY JOIN arrayZip(starts, arrayPushBack(arrayPopFront(starts), until), arrayEnumerate(starts)) AS part
GROUP BY tenant, account, meter, day, region, platform, trial
HAVING max(tupleElement(part, 3) = 1 OR quantity_ != 0);

-- What counts in a month, with the instant that decides its plan, from roads that exclude each other: monthly
-- partials of accounts whose plans do not change in the month; of the others whole hours of the hourly ones, and raw
-- rows of hours in which a plan changes; returned credits; rows that are not voided, for meters that are no
-- sums and for cells with voids, whose first and last instant no partial knows; and what gauges hold.
CREATE OR REPLACE VIEW {{db}}.monthly_facts SQL SECURITY INVOKER AS
WITH
    nonsum AS
    (
        SELECT tenant, meter
        FROM {{db}}.directory_meters
        WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique')
            AND (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant)
    ),
    special AS
    (
        SELECT tenant, meter
        FROM {{db}}.directory_meters
        WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique', 'time_weighted')
            AND (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant)
    ),
    gauge AS
    (
        SELECT tenant, meter
        FROM {{db}}.directory_meters
        WHERE aggregation = 'time_weighted'
            AND (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant)
    ),
    voids AS (SELECT tenant, source, id FROM {{db}}.events WHERE sign = -1),
    voided AS (SELECT DISTINCT tenant, meter, account, _partition_id AS month_id FROM {{db}}.usage_monthly WHERE voids > 0),
    changes AS
    (
        SELECT tenant, account, toString(toYYYYMM(since)) AS month_id
        FROM {{db}}.directory_plans
        WHERE since != toDateTime64(toStartOfMonth(since), 3, 'UTC')
            AND (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant)
    ),
    split AS
    (
        SELECT tenant, account, toDateTime64(toStartOfHour(since), 3, 'UTC') AS hour
        FROM {{db}}.directory_plans
        WHERE since != hour AND (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant)
    ),
    -- Of each message of which credits were returned, under which meter it was charged: see credits_resolved.
    charges AS
    (
        SELECT tenant, message_id, argMin(charged, first) AS meter
        FROM
        (
            SELECT tenant, JSONExtractString(data, 'message_id') AS message_id, any(CAST(meter, 'String')) AS charged, min((at, source, id)) AS first
            FROM {{db}}.events
            WHERE meter IN ('sms_credits', 'voice_credits') AND type = 'message.charged'
                AND (tenant, JSONExtractString(data, 'message_id')) IN
                    (SELECT tenant, JSONExtractString(data, 'message_id') FROM {{db}}.events WHERE meter = 'credits_returned')
            GROUP BY tenant, source, id, message_id
            HAVING sum(sign) > 0
        )
        GROUP BY tenant, message_id
    ),
    toDateTime64(0, 3, 'UTC') AS never
SELECT tenant, _partition_id AS month_id, account, meter, max(last_at) AS instant, plan, region, platform, trial,
    sum(quantity) AS q, sum(events) AS n, toInt64(sum(rows)) - 2 * toInt64(sum(voids)) AS live, min(first_at) AS first, max(last_at) AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, max((shard, hi)) AS position
FROM {{db}}.usage_monthly
WHERE meter != 'credits_returned' AND (tenant, account, _partition_id) NOT IN changes
    AND (tenant, meter) NOT IN special
    AND (tenant, meter, account, _partition_id) NOT IN voided
GROUP BY tenant, month_id, account, meter, plan, region, platform, trial
UNION ALL
SELECT tenant, _partition_id AS month_id, account, meter, hour AS instant, plan, region, platform, trial,
    sum(quantity) AS q, sum(events) AS n, toInt64(sum(rows)) - 2 * toInt64(sum(voids)) AS live, min(first_at) AS first, max(last_at) AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, max((shard, hi)) AS position
FROM {{db}}.usage_hourly
WHERE meter != 'credits_returned' AND (tenant, account, _partition_id) IN changes
    AND (tenant, account, hour) NOT IN split
    AND (tenant, meter) NOT IN special
    AND (tenant, meter, account, _partition_id) NOT IN voided
GROUP BY tenant, month_id, account, meter, instant, plan, region, platform, trial
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, plan, region, platform, trial,
    toDecimal256(quantity, 9) * sign AS q, toInt64(n) AS n, toInt64(sign) AS live, at AS first, at AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, (shard, seq) AS position
FROM
(
    SELECT tenant, _partition_id AS month_id, account, meter, at, plan, region, platform, trial, quantity, sign, sign AS n, shard, seq
    FROM {{db}}.events
    WHERE meter NOT IN ('', 'credits_returned') AND pieces <= 1
    UNION ALL
    SELECT tenant, _partition_id AS month_id, account, meter, at, plan, region, platform, trial, quantity, sign, CAST(if(piece = 0, sign, 0), 'Int8') AS n, shard, seq
    FROM {{db}}.pieces
)
WHERE (tenant, account) IN (SELECT tenant, account FROM split)
    AND toStartOfHour(at) IN (SELECT toStartOfHour(hour) FROM split)
    AND (tenant, account, toDateTime64(toStartOfHour(at), 3, 'UTC')) IN split
    AND (tenant, meter) NOT IN special
    AND (tenant, meter, account, month_id) NOT IN voided
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, '' AS plan, '' AS region, '' AS platform, false AS trial,
    toDecimal256(quantity, 9) AS q, toInt64(1) AS n, toInt64(1) AS live, at AS first, at AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, (shard, seq) AS position
FROM
(
    SELECT r.tenant AS tenant, r._partition_id AS month_id, r.account AS account, r.at AS at, r.quantity AS quantity, r.shard AS shard, r.seq AS seq,
        if(c.meter = '', 'credits_returned', c.meter) AS meter
    FROM {{db}}.events AS r
    LEFT JOIN charges AS c ON r.tenant = c.tenant AND JSONExtractString(r.data, 'message_id') = c.message_id
    WHERE r.meter = 'credits_returned' AND r.sign = 1
        AND (r.tenant, r.source, r.id) NOT IN (SELECT tenant, source, id FROM {{db}}.events WHERE meter = 'credits_returned' AND sign = -1)
)
WHERE (tenant, meter) NOT IN special
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, plan, region, platform, trial,
    toDecimal256(quantity, 9) AS q, toInt64(n) AS n, toInt64(1) AS live, at AS first, at AS last,
    quantity AS low, quantity AS high, (place, quantity) AS latest,
    consumer_id AS consumer, (shard, seq) AS position
FROM
(
    SELECT tenant, _partition_id AS month_id, account, meter, at, plan, region, platform, trial, consumer_id, quantity, toUInt8(1) AS n, shard, seq, source, id,
        (at, CAST(source, 'String'), JSONExtractInt(data, 'source_seq'), id, toUInt16(0)) AS place
    FROM {{db}}.events
    WHERE sign = 1 AND meter NOT IN ('', 'credits_returned') AND pieces <= 1
    UNION ALL
    SELECT tenant, _partition_id AS month_id, account, meter, at, plan, region, platform, trial, consumer_id, quantity, toUInt8(piece = 0) AS n, shard, seq, source, id,
        (at, CAST(source, 'String'), toInt64(0), id, piece) AS place
    FROM {{db}}.pieces
    WHERE sign = 1
)
WHERE (tenant, meter) IN nonsum AND (tenant, source, id) NOT IN voids
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, plan, region, platform, trial,
    toDecimal256(quantity, 9) AS q, toInt64(n) AS n, toInt64(1) AS live, at AS first, at AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, (shard, seq) AS position
FROM
(
    SELECT tenant, _partition_id AS month_id, account, meter, at, plan, region, platform, trial, quantity, toUInt8(1) AS n, shard, seq, source, id
    FROM {{db}}.events
    WHERE sign = 1 AND meter NOT IN ('', 'credits_returned') AND pieces <= 1
    UNION ALL
    SELECT tenant, _partition_id AS month_id, account, meter, at, plan, region, platform, trial, quantity, toUInt8(piece = 0) AS n, shard, seq, source, id
    FROM {{db}}.pieces
    WHERE sign = 1
)
WHERE (tenant, meter, account) IN (SELECT tenant, meter, account FROM voided)
    AND (tenant, meter, account, month_id) IN voided
    AND (tenant, meter) NOT IN special AND (tenant, source, id) NOT IN voids
UNION ALL
SELECT tenant, toString(toYYYYMM(since)) AS month_id, account, meter, since AS instant, plan, region, platform, since < trial_expiry AS trial,
    toDecimal256(quantity, 9) * (toUnixTimestamp64Milli(ends) - toUnixTimestamp64Milli(since)) AS q, n, toInt64(n = 1 OR quantity != 0) AS live,
    if(n = 1, since, toDateTime64('2200-01-01 00:00:00', 3, 'UTC')) AS first, if(n = 1, since, never) AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, (shard, seq) AS position
FROM
(
    SELECT tenant, account, meter, region, platform, plan, quantity, trial_expiry, shard, seq, tupleElement(part, 1) AS since, tupleElement(part, 2) AS ends,
        toInt64(tupleElement(part, 3) = 1) AS n
    FROM
    (
        SELECT g.tenant AS tenant, g.account AS account, g.meter AS meter, g.region AS region, g.platform AS platform, g.plan AS plan, g.quantity AS quantity,
            g.trial_expiry AS trial_expiry, g.shard AS shard, g.seq AS seq, g.at AS at, g.until AS until,
            arrayConcat([at], arrayFilter(t -> t > at AND t < until, arraySort(arrayDistinct(arrayConcat([trial_expiry], p.changes,
                arrayMap(i -> addMonths(makeDateTime64(toYear(at), toMonth(at), 1, 0, 0, 0, 0, 3, 'UTC'), i), range(1, toUInt64(1 + dateDiff('month', at, until))))))))) AS starts
        FROM
        (
            SELECT CAST(tenant, 'String') AS tenant, CAST(account, 'String') AS account, CAST(meter, 'String') AS meter, CAST(region, 'String') AS region,
                CAST(platform, 'String') AS platform, CAST(plan, 'String') AS plan, quantity, trial_expiry, shard, seq, at,
                least(leadInFrame(at, 1, toDateTime64('2200-01-01 00:00:00', 3, 'UTC')) OVER (PARTITION BY tenant, meter, account, region, platform, asset_id
                    ORDER BY at, CAST(source, 'String'), JSONExtractInt(data, 'source_seq'), id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING),
                    greatest(at, assumeNotNull((SELECT at FROM {{db}}.settled)))) AS until
            FROM {{db}}.events
            WHERE sign = 1 AND (tenant, meter) IN gauge AND (tenant, source, id) NOT IN voids
        ) AS g
        LEFT JOIN
        (
            SELECT CAST(tenant, 'String') AS tenant, account, groupArray(since) AS changes
            FROM {{db}}.directory_plans
            WHERE (tenant, data) IN (SELECT tenant, argMax(data, (shard, seq, at, data)) FROM {{db}}.directory_generations GROUP BY tenant)
            GROUP BY tenant, account
        ) AS p ON g.tenant = p.tenant AND g.account = p.account
    )
    ARRAY JOIN arrayZip(starts, arrayPushBack(arrayPopFront(starts), until), arrayEnumerate(starts)) AS part
);

-- Own and sub-tree values per month (tree at the month's end) as the rows say now, also for accounts that have usage
-- only below them: their own quantity is 0 and first_at and last_at are NULL. quantity_tree of all roots together
-- is the sum of all quantities. first_at and last_at are NULL too where a gauge only goes on holding.
CREATE OR REPLACE VIEW {{db}}.monthly_open SQL SECURITY INVOKER AS
SELECT r.tenant AS tenant, concat(substring(r.month_id, 1, 4), '-', substring(r.month_id, 5, 2)) AS month, toUInt32(0) AS version,
    r.account AS account, a.name AS account_name, r.plan AS plan, r.meter AS meter, r.unit AS unit, r.region AS region, r.platform AS platform,
    r.trial AS trial, CAST(a.account != '', 'Bool') AS resolved,
    if(r.here, multiIf(r.aggregation = 'count', toDecimal256(r.n, 9), r.aggregation = 'min', toDecimal256(r.low, 9), r.aggregation = 'max', toDecimal256(r.high, 9),
        r.aggregation = 'latest', toDecimal256(tupleElement(r.latest, 2), 9), r.aggregation = 'unique', toDecimal256(length(r.consumers), 9),
        r.aggregation IN ('avg', 'time_weighted'),
        reinterpret((intDiv(reinterpretAsInt256(r.q) AS total, toInt256(if(r.aggregation = 'avg', greatest(r.n, 1), 3600000)) AS divisor) AS whole)
            + if(2 * abs(total % divisor) + abs(whole % 2) > divisor, sign(total), 0), 'Decimal(76, 9)'),
        r.q), toDecimal256(0, 9)) AS quantity,
    if(r.here, r.n, 0) AS events,
    multiIf(r.aggregation = 'count', toDecimal256(r.n_tree, 9), r.aggregation = 'min', toDecimal256(r.low_tree, 9), r.aggregation = 'max', toDecimal256(r.high_tree, 9),
        r.aggregation = 'latest', toDecimal256(tupleElement(r.latest_tree, 2), 9), r.aggregation = 'unique', toDecimal256(length(r.consumers_tree), 9),
        r.aggregation IN ('avg', 'time_weighted'),
        reinterpret((intDiv(reinterpretAsInt256(r.q_tree) AS total_tree, toInt256(if(r.aggregation = 'avg', greatest(r.n_tree, 1), 3600000)) AS divisor_tree) AS whole_tree)
            + if(2 * abs(total_tree % divisor_tree) + abs(whole_tree % 2) > divisor_tree, sign(total_tree), 0), 'Decimal(76, 9)'),
        r.q_tree) AS quantity_tree,
    r.n_tree AS events_tree,
    CAST(if(r.here AND r.first <= r.last, r.first, NULL), 'Nullable(DateTime64(3, \'UTC\'))') AS first_at,
    CAST(if(r.here AND r.first <= r.last, r.last, NULL), 'Nullable(DateTime64(3, \'UTC\'))') AS last_at, false AS closed,
    tupleElement(r.position, 1) AS log_shard, CAST(tupleElement(r.position, 2), 'UInt64') AS log_seq
FROM
(
    SELECT o.tenant AS tenant, o.month_id AS month_id, arrayJoin(arrayConcat([o.account], arrayDistinct(arrayMap(x -> tupleElement(x, 1),
            arrayFilter(x -> tupleElement(x, 2) < ends AND tupleElement(x, 3) >= ends, t.above))))) AS account,
        addMonths(toDateTime64(concat(substring(o.month_id, 1, 4), '-', substring(o.month_id, 5, 2), '-01 00:00:00'), 3, 'UTC'), 1) AS ends,
        o.plan AS plan, o.meter AS meter, any(o.unit) AS unit, o.region AS region, o.platform AS platform, o.trial AS trial,
        any(o.aggregation) AS aggregation, max(o.account = account) AS here,
        sumIf(o.q, o.account = account) AS q, sumIf(o.n, o.account = account) AS n,
        minIf(o.low, o.account = account) AS low, maxIf(o.high, o.account = account) AS high, maxIf(o.latest, o.account = account) AS latest,
        groupUniqArrayArrayIf(o.consumers, o.account = account) AS consumers,
        minIf(o.first, o.account = account) AS first, maxIf(o.last, o.account = account) AS last,
        sum(o.q) AS q_tree, sum(o.n) AS n_tree, min(o.low) AS low_tree, max(o.high) AS high_tree, max(o.latest) AS latest_tree,
        groupUniqArrayArray(o.consumers) AS consumers_tree, max(o.position) AS position
    FROM {{db}}.monthly_own AS o
    LEFT JOIN
    (
        SELECT CAST(tenant, 'String') AS tenant, account, groupArray((ancestor, since, until)) AS above
        FROM {{db}}.ancestors
        GROUP BY tenant, account
    ) AS t ON o.tenant = t.tenant AND o.account = t.account
    GROUP BY tenant, month_id, account, ends, plan, meter, region, platform, trial
) AS r
ASOF LEFT JOIN
(
    SELECT CAST(tenant, 'String') AS tenant, account, since, name
    FROM {{db}}.account_steps
    WHERE since < until
) AS a ON r.tenant = a.tenant AND r.account = a.account AND r.ends > a.since;
