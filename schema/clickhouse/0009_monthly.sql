-- Monthly partials: a month of a large tenant is 50,000 cells where the hourly ones are 24 million, and nobody reads
-- half a month. What an account has in a month in which its plan does not change is read from here.
--
-- The table is filled from usage_hourly, whose cells it sums up, with their watermarks: what the aggregator
-- sends next is what both lack. Statements can be repeated from any point. An aggregator that wrote meanwhile would
-- leave rows that only one of the two has: it must be stopped, and a sign of life of the last ten seconds
-- refuses the migration.
SELECT throwIf(count() > 0 AND (SELECT count() FROM {{db}}.usage_hourly) > 0,
    'an aggregator is at work: stop it, wait ten seconds and run the migration again')
FROM {{db}}.shard_status
WHERE at > now64(3, 'UTC') - INTERVAL 10 SECOND;

DROP TABLE IF EXISTS {{db}}.usage_monthly_next SYNC SETTINGS max_table_size_to_drop = 0;

-- Monthly partials, built by the aggregator from the same rows as `events`, `pieces` and usage_hourly, a target of its
-- own with its own watermark. Keys hold only the event's own fields; the month is the partition. Readers
-- always GROUP BY and sum; min, max, first and last count only where voids = 0.
CREATE TABLE IF NOT EXISTS {{db}}.usage_monthly
(
    shard    UInt16,
    hi       SimpleAggregateFunction(max, UInt64),               -- highest seq in the cell: the watermark
    tenant   LowCardinality(String),
    account  LowCardinality(String),
    meter    LowCardinality(String),
    month    DateTime64(3, 'UTC') CODEC(Delta, LZ4),             -- its first instant
    region   LowCardinality(String),
    platform LowCardinality(String),
    trial    Bool,
    plan     LowCardinality(String),
    quantity SimpleAggregateFunction(sum, Decimal(76, 9)),       -- signed
    events   SimpleAggregateFunction(sum, Int64),                -- signed; a cut event counts once, in the month it starts
    voids    SimpleAggregateFunction(sum, UInt64),               -- negated rows or pieces in the cell
    rows     SimpleAggregateFunction(sum, UInt64),               -- rows or pieces behind the cell, both signs
    low      SimpleAggregateFunction(min, Decimal(38, 9)),
    high     SimpleAggregateFunction(max, Decimal(38, 9)),
    first_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_at  SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(month)                                     -- one block into one partition = one part = atomic
ORDER BY (tenant, meter, account, region, platform, trial, plan, shard)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'LZ4',
    min_bytes_for_wide_part = 536870912, min_parts_to_merge_at_once = 8;

CREATE TABLE {{db}}.usage_monthly_next AS {{db}}.usage_monthly;

INSERT INTO {{db}}.usage_monthly_next
(
    shard, hi, tenant, account, meter, month, region, platform, trial, plan, quantity, events, voids, rows, low, high, first_at, last_at
)
SELECT
    shard, max(hi), tenant, account, meter, makeDateTime64(toYear(hour), toMonth(hour), 1, 0, 0, 0, 0, 3, 'UTC') AS first_instant, region, platform, trial, plan,
    sum(quantity), sum(events), sum(voids), sum(rows), min(low), max(high), min(first_at), max(last_at)
FROM {{db}}.usage_hourly
GROUP BY tenant, meter, account, first_instant, region, platform, trial, plan, shard
SETTINGS max_partitions_per_insert_block = 0, async_insert = 0, max_bytes_before_external_group_by = 2000000000;

SELECT throwIf(
    (SELECT groupArray(cell) FROM (SELECT (shard, toYYYYMM(hour), max(hi), sum(quantity), sum(events), sum(voids), sum(rows)) AS cell FROM {{db}}.usage_hourly GROUP BY shard, toYYYYMM(hour) ORDER BY shard, toYYYYMM(hour)))
    != (SELECT groupArray(cell) FROM (SELECT (shard, toYYYYMM(month), max(hi), sum(quantity), sum(events), sum(voids), sum(rows)) AS cell FROM {{db}}.usage_monthly_next GROUP BY shard, toYYYYMM(month) ORDER BY shard, toYYYYMM(month))),
    'the monthly partials differ from the hourly ones: an aggregator is at work; stop it and run the migration again');

EXCHANGE TABLES {{db}}.usage_monthly AND {{db}}.usage_monthly_next;

SELECT throwIf((SELECT sum(rows) FROM {{db}}.usage_monthly) != (SELECT sum(rows) FROM {{db}}.usage_hourly),
    'rows were written during the migration: an aggregator is at work; stop it and run the migration again');

DROP TABLE {{db}}.usage_monthly_next SETTINGS max_table_size_to_drop = 0;

-- Views. What the directory knows comes from 0008; what a month says of its own, before it is closed, is monthly_open.

-- What is known for certain: everything recorded at or before this instant has been counted. An analyst sees his own
-- messages and how far the shards are.
CREATE OR REPLACE VIEW {{db}}.settled SQL SECURITY INVOKER AS
SELECT min(at) AS at
FROM
(
    SELECT argMax(settled_at, shard) AS at
    FROM
    (
        SELECT shard, max(settled_at) AS settled_at
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
        GROUP BY shard
    )
    GROUP BY shard % 1024
);

-- Every row that counts, both signs: events, or their pieces where they were cut; a cut event is one
-- event (n), in its first piece. Without returned credits, which are read from credits_resolved.
CREATE OR REPLACE VIEW {{db}}.counting SQL SECURITY INVOKER AS
SELECT tenant, _partition_id AS month_id, account, meter, at, plan, region, platform, trial, consumer_id, quantity, sign, sign AS n,
    recorded_at, shard, seq, idx, source, id, JSONExtractInt(data, 'source_seq') AS source_seq, toUInt16(0) AS piece
FROM {{db}}.events
WHERE meter NOT IN ('', 'credits_returned') AND pieces <= 1
UNION ALL
SELECT tenant, _partition_id AS month_id, account, meter, at, plan, region, platform, trial, consumer_id, quantity, sign,
    CAST(if(piece = 0, sign, 0), 'Int8') AS n, recorded_at, shard, seq, idx, source, id, toInt64(0) AS source_seq, piece
FROM {{db}}.pieces;

-- Counting rows that are not voided: what min, max, latest and unique read, because a negation cannot be
-- subtracted from them. place is the order of events.md 1, which decides what is latest.
CREATE OR REPLACE VIEW {{db}}.counting_live SQL SECURITY INVOKER AS
SELECT tenant, month_id, account, meter, at, plan, region, platform, trial, consumer_id, quantity, n, recorded_at, shard, seq, idx,
    (at, CAST(source, 'String'), source_seq, id, piece) AS place
FROM {{db}}.counting
WHERE sign = 1 AND (tenant, source, id) NOT IN (SELECT tenant, source, id FROM {{db}}.events WHERE sign = -1);

-- Samples of time-weighted meters, and until when each holds: the next one of its series (account, region, platform,
-- asset), or what is known for certain. A sample counts at its start, whole.
CREATE OR REPLACE VIEW {{db}}.gauge_spans SQL SECURITY INVOKER AS
SELECT tenant, account, meter, region, platform, plan, quantity, trial_expiry, shard, seq, at,
    assumeNotNull((SELECT at FROM {{db}}.settled)) AS known, greatest(at, least(if(following = toDateTime64(0, 3, 'UTC'), known, following), known)) AS until
FROM
(
    SELECT tenant, account, meter, region, platform, plan, quantity, trial_expiry, shard, seq, at,
        leadInFrame(at) OVER (PARTITION BY tenant, meter, account, region, platform, asset_id ORDER BY at, source, source_seq, id
            ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS following
    FROM
    (
        SELECT CAST(tenant, 'String') AS tenant, CAST(account, 'String') AS account, CAST(meter, 'String') AS meter, CAST(region, 'String') AS region,
            CAST(platform, 'String') AS platform, CAST(plan, 'String') AS plan, asset_id, quantity, trial_expiry, shard, seq, at,
            CAST(source, 'String') AS source, JSONExtractInt(data, 'source_seq') AS source_seq, id
        FROM {{db}}.events
        WHERE sign = 1 AND meter NOT IN ('', 'credits_returned')
            AND (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation = 'time_weighted')
            AND (tenant, source, id) NOT IN (SELECT tenant, source, id FROM {{db}}.events WHERE sign = -1)
    )
);

-- One row per cell and hour. quantity is signed and adds up for sums; for other meters it is the meter's own
-- aggregate of the hour and does not (a time-weighted one does, but for rounding).
CREATE OR REPLACE VIEW {{api}}.usage_hourly_v1 SQL SECURITY INVOKER AS
SELECT tenant, account, meter, hour, region, platform, trial,
    if((tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation = 'count'), toDecimal256(sum(n), 9), sum(q)) AS quantity,
    sum(n) AS events
FROM
(
    SELECT tenant, account, meter, hour, region, platform, trial,
        sum(quantity) AS q, sum(events) AS n, toInt64(sum(rows)) - 2 * toInt64(sum(voids)) AS live
    FROM {{db}}.usage_hourly
    WHERE meter != 'credits_returned'
    GROUP BY tenant, account, meter, hour, region, platform, trial
    UNION ALL
    SELECT tenant, account, meter, toDateTime64(toStartOfHour(at), 3, 'UTC') AS hour, '' AS region, '' AS platform, false AS trial,
        sum(toDecimal256(quantity, 9) * sign) AS q, toInt64(sum(sign)) AS n, n AS live
    FROM {{db}}.credits_resolved
    GROUP BY tenant, account, meter, hour
)
WHERE (tenant, meter) NOT IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique', 'time_weighted'))
GROUP BY tenant, account, meter, hour, region, platform, trial
HAVING sum(live) > 0
UNION ALL
WITH
    -- sum / n to nine digits, halves to the even digit, in billionths.
    (s, n) -> intDiv(if(s < 0, -s, s), n) AS whole,
    (s, n) -> if(s < 0, -s, s) - whole(s, n) * n AS rest,
    (s, n) -> whole(s, n) + (2 * rest(s, n) > n OR 2 * rest(s, n) = n AND whole(s, n) % 2 = 1) AS rounded,
    (s, n) -> reinterpret(if(s < 0, -rounded(s, n), rounded(s, n)), 'Decimal(76, 9)') AS half_even
SELECT tenant, account, meter, hour, region, platform, trial,
    multiIf(aggregation = 'min', low, aggregation = 'max', high, aggregation = 'latest', latest, aggregation = 'unique', consumers,
        half_even(reinterpretAsInt256(total), if(aggregation = 'time_weighted', toInt256(3600000), toInt256(greatest(events, 1))))) AS quantity,
    events
FROM
(
    SELECT tenant, account, meter, toDateTime64(toStartOfHour(at), 3, 'UTC') AS hour, region, platform, trial, any(m.aggregation) AS aggregation,
        toDecimal256(min(l.quantity), 9) AS low, toDecimal256(max(l.quantity), 9) AS high,
        toDecimal256(argMax(l.quantity, l.place), 9) AS latest,
        toDecimal256(uniqExactIf(consumer_id, consumer_id != ''), 9) AS consumers,
        sum(toDecimal256(l.quantity, 9)) AS total, toInt64(sum(n)) AS events
    FROM {{db}}.counting_live AS l
    INNER JOIN (SELECT tenant, meter, aggregation FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique')) AS m USING (tenant, meter)
    WHERE (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique'))
    GROUP BY tenant, account, meter, hour, region, platform, trial
    UNION ALL
    SELECT tenant, account, meter, toDateTime64(toStartOfHour(since), 3, 'UTC') AS hour, region, platform, since < trial_expiry AS trial, 'time_weighted' AS aggregation,
        toDecimal256(0, 9) AS low, toDecimal256(0, 9) AS high, toDecimal256(0, 9) AS latest, toDecimal256(0, 9) AS consumers,
        sum(toDecimal256(quantity, 9) * (toUnixTimestamp64Milli(ends) - toUnixTimestamp64Milli(since))) AS total, sum(n) AS events
    FROM
    (
        SELECT tenant, account, meter, region, platform, quantity, trial_expiry, tupleElement(part, 1) AS since, tupleElement(part, 2) AS ends, toInt64(tupleElement(part, 3) = 1) AS n
        FROM
        (
            SELECT tenant, account, meter, region, platform, quantity, trial_expiry, at, until,
                arrayConcat([at], arrayFilter(t -> t > at AND t < until, arraySort(arrayDistinct(arrayPushBack(
                    arrayMap(i -> addHours(toDateTime64(toStartOfHour(at), 3, 'UTC'), i), range(1, toUInt64(1 + dateDiff('hour', at, until)))), trial_expiry))))) AS starts
            FROM {{db}}.gauge_spans
        )
        ARRAY JOIN arrayZip(starts, arrayPushBack(arrayPopFront(starts), until), arrayEnumerate(starts)) AS part
    )
    GROUP BY tenant, account, meter, hour, region, platform, trial
    HAVING sum(toInt64(n = 1 OR quantity != 0)) > 0
);

-- The same by UTC day.
CREATE OR REPLACE VIEW {{api}}.usage_daily_v1 SQL SECURITY INVOKER AS
SELECT tenant, account, meter, day, region, platform, trial,
    if((tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation = 'count'), toDecimal256(sum(n), 9), sum(q)) AS quantity,
    sum(n) AS events
FROM
(
    SELECT tenant, account, meter, toDateTime64(toStartOfDay(hour), 3, 'UTC') AS day, region, platform, trial,
        sum(quantity) AS q, sum(events) AS n, toInt64(sum(rows)) - 2 * toInt64(sum(voids)) AS live
    FROM {{db}}.usage_hourly
    WHERE meter != 'credits_returned'
    GROUP BY tenant, account, meter, day, region, platform, trial
    UNION ALL
    SELECT tenant, account, meter, toDateTime64(toStartOfDay(at), 3, 'UTC') AS day, '' AS region, '' AS platform, false AS trial,
        sum(toDecimal256(quantity, 9) * sign) AS q, toInt64(sum(sign)) AS n, n AS live
    FROM {{db}}.credits_resolved
    GROUP BY tenant, account, meter, day
)
WHERE (tenant, meter) NOT IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique', 'time_weighted'))
GROUP BY tenant, account, meter, day, region, platform, trial
HAVING sum(live) > 0
UNION ALL
WITH
    -- sum / n to nine digits, halves to the even digit, in billionths.
    (s, n) -> intDiv(if(s < 0, -s, s), n) AS whole,
    (s, n) -> if(s < 0, -s, s) - whole(s, n) * n AS rest,
    (s, n) -> whole(s, n) + (2 * rest(s, n) > n OR 2 * rest(s, n) = n AND whole(s, n) % 2 = 1) AS rounded,
    (s, n) -> reinterpret(if(s < 0, -rounded(s, n), rounded(s, n)), 'Decimal(76, 9)') AS half_even
SELECT tenant, account, meter, day, region, platform, trial,
    multiIf(aggregation = 'min', low, aggregation = 'max', high, aggregation = 'latest', latest, aggregation = 'unique', consumers,
        half_even(reinterpretAsInt256(total), if(aggregation = 'time_weighted', toInt256(3600000), toInt256(greatest(events, 1))))) AS quantity,
    events
FROM
(
    SELECT tenant, account, meter, toDateTime64(toStartOfDay(at), 3, 'UTC') AS day, region, platform, trial, any(m.aggregation) AS aggregation,
        toDecimal256(min(l.quantity), 9) AS low, toDecimal256(max(l.quantity), 9) AS high,
        toDecimal256(argMax(l.quantity, l.place), 9) AS latest,
        toDecimal256(uniqExactIf(consumer_id, consumer_id != ''), 9) AS consumers,
        sum(toDecimal256(l.quantity, 9)) AS total, toInt64(sum(n)) AS events
    FROM {{db}}.counting_live AS l
    INNER JOIN (SELECT tenant, meter, aggregation FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique')) AS m USING (tenant, meter)
    WHERE (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique'))
    GROUP BY tenant, account, meter, day, region, platform, trial
    UNION ALL
    SELECT tenant, account, meter, toDateTime64(toStartOfDay(since), 3, 'UTC') AS day, region, platform, since < trial_expiry AS trial, 'time_weighted' AS aggregation,
        toDecimal256(0, 9) AS low, toDecimal256(0, 9) AS high, toDecimal256(0, 9) AS latest, toDecimal256(0, 9) AS consumers,
        sum(toDecimal256(quantity, 9) * (toUnixTimestamp64Milli(ends) - toUnixTimestamp64Milli(since))) AS total, sum(n) AS events
    FROM
    (
        SELECT tenant, account, meter, region, platform, quantity, trial_expiry, tupleElement(part, 1) AS since, tupleElement(part, 2) AS ends, toInt64(tupleElement(part, 3) = 1) AS n
        FROM
        (
            SELECT tenant, account, meter, region, platform, quantity, trial_expiry, at, until,
                arrayConcat([at], arrayFilter(t -> t > at AND t < until, arraySort(arrayDistinct(arrayPushBack(
                    arrayMap(i -> addDays(toDateTime64(toStartOfDay(at), 3, 'UTC'), i), range(1, toUInt64(1 + dateDiff('day', at, until)))), trial_expiry))))) AS starts
            FROM {{db}}.gauge_spans
        )
        ARRAY JOIN arrayZip(starts, arrayPushBack(arrayPopFront(starts), until), arrayEnumerate(starts)) AS part
    )
    GROUP BY tenant, account, meter, day, region, platform, trial
    HAVING sum(toInt64(n = 1 OR quantity != 0)) > 0
);

-- What counts in a month, with the instant that decides its plan, from roads that exclude each other: monthly
-- partials of accounts whose plans do not change in the month; of the others whole hours of the hourly ones, and raw
-- rows of hours in which a plan changes; returned credits; rows that are not voided, for meters that are no
-- sums and for cells with voids, whose first and last instant no partial knows; and what gauges hold.
CREATE OR REPLACE VIEW {{db}}.monthly_facts SQL SECURITY INVOKER AS
WITH
    nonsum AS (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique')),
    special AS (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique', 'time_weighted')),
    voided AS (SELECT DISTINCT tenant, meter, account, _partition_id AS month_id FROM {{db}}.usage_monthly WHERE voids > 0),
    changes AS
    (
        SELECT DISTINCT tenant, account, since, toString(toYYYYMM(since)) AS month_id
        FROM {{db}}.plan_spans
        WHERE since != toDateTime64(toStartOfMonth(since), 3, 'UTC')
    ),
    split AS (SELECT tenant, account, toDateTime64(toStartOfHour(since), 3, 'UTC') AS hour FROM changes WHERE since != hour),
    toDateTime64(0, 3, 'UTC') AS never
SELECT tenant, _partition_id AS month_id, account, meter, max(last_at) AS instant, plan, region, platform, trial,
    sum(quantity) AS q, sum(events) AS n, toInt64(sum(rows)) - 2 * toInt64(sum(voids)) AS live, min(first_at) AS first, max(last_at) AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, max((shard, hi)) AS position
FROM {{db}}.usage_monthly
WHERE meter != 'credits_returned' AND (tenant, account, _partition_id) NOT IN (SELECT tenant, account, month_id FROM changes)
    AND (tenant, meter) NOT IN (SELECT tenant, meter FROM special)
    AND (tenant, meter, account, _partition_id) NOT IN (SELECT tenant, meter, account, month_id FROM voided)
GROUP BY tenant, month_id, account, meter, plan, region, platform, trial
UNION ALL
SELECT tenant, _partition_id AS month_id, account, meter, hour AS instant, plan, region, platform, trial,
    sum(quantity) AS q, sum(events) AS n, toInt64(sum(rows)) - 2 * toInt64(sum(voids)) AS live, min(first_at) AS first, max(last_at) AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, max((shard, hi)) AS position
FROM {{db}}.usage_hourly
WHERE meter != 'credits_returned' AND (tenant, account, _partition_id) IN (SELECT tenant, account, month_id FROM changes)
    AND (tenant, account, hour) NOT IN (SELECT tenant, account, hour FROM split)
    AND (tenant, meter) NOT IN (SELECT tenant, meter FROM special)
    AND (tenant, meter, account, _partition_id) NOT IN (SELECT tenant, meter, account, month_id FROM voided)
GROUP BY tenant, month_id, account, meter, instant, plan, region, platform, trial
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, plan, region, platform, trial,
    toDecimal256(quantity, 9) * sign AS q, toInt64(n) AS n, toInt64(sign) AS live, at AS first, at AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, (shard, seq) AS position
FROM {{db}}.counting
WHERE (tenant, account) IN (SELECT tenant, account FROM split)
    AND toStartOfHour(at) IN (SELECT toStartOfHour(hour) FROM split)
    AND (tenant, account, toDateTime64(toStartOfHour(at), 3, 'UTC')) IN (SELECT tenant, account, hour FROM split)
    AND (tenant, meter) NOT IN (SELECT tenant, meter FROM special)
    AND (tenant, meter, account, month_id) NOT IN (SELECT tenant, meter, account, month_id FROM voided)
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, '' AS plan, '' AS region, '' AS platform, false AS trial,
    toDecimal256(quantity, 9) AS q, toInt64(1) AS n, toInt64(1) AS live, at AS first, at AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, (shard, seq) AS position
FROM {{db}}.credits_resolved
WHERE sign = 1 AND (tenant, meter) NOT IN (SELECT tenant, meter FROM special)
    AND (tenant, source, id) NOT IN (SELECT tenant, source, id FROM {{db}}.events WHERE meter = 'credits_returned' AND sign = -1)
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, plan, region, platform, trial,
    toDecimal256(quantity, 9) AS q, toInt64(n) AS n, toInt64(1) AS live, at AS first, at AS last,
    quantity AS low, quantity AS high, (place, quantity) AS latest,
    consumer_id AS consumer, (shard, seq) AS position
FROM {{db}}.counting_live
WHERE (tenant, meter) IN (SELECT tenant, meter FROM nonsum)
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, plan, region, platform, trial,
    toDecimal256(quantity, 9) AS q, toInt64(n) AS n, toInt64(1) AS live, at AS first, at AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, '', toInt64(0), '', toUInt16(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, (shard, seq) AS position
FROM {{db}}.counting_live
WHERE (tenant, meter, account) IN (SELECT tenant, meter, account FROM voided)
    AND (tenant, meter, account, month_id) IN (SELECT tenant, meter, account, month_id FROM voided)
    AND (tenant, meter) NOT IN (SELECT tenant, meter FROM special)
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
        FROM {{db}}.gauge_spans AS g
        LEFT JOIN (SELECT CAST(tenant, 'String') AS tenant, account, groupArray(since) AS changes FROM {{db}}.plan_spans GROUP BY tenant, account) AS p
            ON g.tenant = p.tenant AND g.account = p.account
    )
    ARRAY JOIN arrayZip(starts, arrayPushBack(arrayPopFront(starts), until), arrayEnumerate(starts)) AS part
);

-- Own values per key: the plan is the event's own, else the account's in the meter's service at the instant
-- of use, else its plan if exactly one service has one, else ''.
CREATE OR REPLACE VIEW {{db}}.monthly_own SQL SECURITY INVOKER AS
SELECT tenant, month_id, account, plan, meter, region, platform, trial, any(aggregation) AS aggregation, any(unit) AS unit,
    sum(q) AS q, sum(n) AS n, min(first) AS first, max(last) AS last, min(low) AS low, max(high) AS high, max(latest) AS latest,
    groupUniqArrayIf(consumer, consumer != '') AS consumers, max(position) AS position
FROM
(
    SELECT f.tenant AS tenant, f.month_id AS month_id, f.account AS account, f.meter AS meter, f.region AS region, f.platform AS platform,
        f.trial AS trial, m.aggregation AS aggregation, m.unit AS unit, if(m.service = '', 0, indexOf(s.services, m.service)) AS place,
        multiIf(f.plan != '', f.plan, place > 0 AND s.plans[place] != '', s.plans[place], s.only) AS plan,
        f.q AS q, f.n AS n, f.live AS live, f.first AS first, f.last AS last, f.low AS low, f.high AS high, f.latest AS latest,
        f.consumer AS consumer, f.position AS position
    FROM
    (
        SELECT CAST(tenant, 'String') AS tenant, month_id, CAST(account, 'String') AS account, CAST(meter, 'String') AS meter, instant,
            CAST(plan, 'String') AS plan, CAST(region, 'String') AS region, CAST(platform, 'String') AS platform, trial,
            q, n, live, first, last, low, high, latest, consumer, position
        FROM {{db}}.monthly_facts
    ) AS f
    LEFT JOIN (SELECT CAST(tenant, 'String') AS tenant, meter, aggregation, unit, service FROM {{db}}.meters) AS m
        ON f.tenant = m.tenant AND f.meter = m.meter
    ASOF LEFT JOIN (SELECT CAST(tenant, 'String') AS tenant, account, since, services, plans, only FROM {{db}}.plan_spans) AS s
        ON f.tenant = s.tenant AND f.account = s.account AND f.instant >= s.since
)
GROUP BY tenant, month_id, account, plan, meter, region, platform, trial
HAVING sum(live) > 0;

-- Own and sub-tree values per month (tree at the month's end) as the rows say now, also for accounts that have usage
-- only below them: their own quantity is 0 and first_at and last_at are NULL. quantity_tree of all roots together
-- is the sum of all quantities. first_at and last_at are NULL too where a gauge only goes on holding.
CREATE OR REPLACE VIEW {{db}}.monthly_open SQL SECURITY INVOKER AS
WITH
    -- s / n to nine digits, halves to the even digit, in billionths.
    (s, n) -> intDiv(if(s < 0, -s, s), n) AS whole,
    (s, n) -> if(s < 0, -s, s) - whole(s, n) * n AS rest,
    (s, n) -> whole(s, n) + (2 * rest(s, n) > n OR 2 * rest(s, n) = n AND whole(s, n) % 2 = 1) AS rounded,
    (s, n) -> reinterpret(if(s < 0, -rounded(s, n), rounded(s, n)), 'Decimal(76, 9)') AS half_even,
    (kind, q, n, low, high, latest, consumers) -> multiIf(kind = 'count', toDecimal256(n, 9), kind = 'min', toDecimal256(low, 9),
        kind = 'max', toDecimal256(high, 9), kind = 'latest', toDecimal256(tupleElement(latest, 2), 9),
        kind = 'unique', toDecimal256(length(consumers), 9),
        kind = 'avg', half_even(reinterpretAsInt256(q), toInt256(greatest(n, 1))),
        kind = 'time_weighted', half_even(reinterpretAsInt256(q), toInt256(3600000)), q) AS value
SELECT r.tenant AS tenant, concat(substring(r.month_id, 1, 4), '-', substring(r.month_id, 5, 2)) AS month, toUInt32(0) AS version,
    r.account AS account, a.name AS account_name, r.plan AS plan, r.meter AS meter, r.unit AS unit, r.region AS region, r.platform AS platform,
    r.trial AS trial, CAST(a.account != '', 'Bool') AS resolved,
    if(r.here, value(r.aggregation, r.q, r.n, r.low, r.high, r.latest, r.consumers), toDecimal256(0, 9)) AS quantity,
    if(r.here, r.n, 0) AS events,
    value(r.aggregation, r.q_tree, r.n_tree, r.low_tree, r.high_tree, r.latest_tree, r.consumers_tree) AS quantity_tree,
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

-- The monthly aggregates. A later migration puts closed versions in front.
CREATE OR REPLACE VIEW {{api}}.usage_monthly_v1 SQL SECURITY INVOKER AS
SELECT tenant, month, version, account, account_name, plan, meter, unit, region, platform, trial, resolved, quantity, events, quantity_tree, events_tree,
    first_at, last_at, closed, log_shard, log_seq
FROM {{db}}.monthly_open;
