-- What analysts read: the views of {{api}}, versioned by name; columns are added, never changed. All are
-- SQL SECURITY INVOKER, because row policies bind on tables only: an analyst's policy on the tables below
-- a view (warehouse.AnalystTables) is what confines every view to the analyst's tenant.
-- The views of {{db}} are building blocks; their columns may change.

-- Returned credits under the meter of the message they are for: that of the earliest charge of the same
-- message_id that is not voided, whenever it happened; without one they stay `credits_returned`. Both
-- branches of the join are empty for tenants that return nothing.
CREATE OR REPLACE VIEW {{db}}.credits_resolved SQL SECURITY INVOKER AS
SELECT r.tenant AS tenant, r.month_id AS month_id, r.shard AS shard, r.seq AS seq, r.idx AS idx, r.sign AS sign, r.source AS source,
    r.id AS id, r.account AS account, r.at AS at, r.recorded_at AS recorded_at, r.quantity AS quantity,
    if(c.meter = '', 'credits_returned', c.meter) AS meter
FROM
(
    SELECT tenant, _partition_id AS month_id, shard, seq, idx, sign, source, id, account, at, recorded_at, quantity,
        JSONExtractString(data, 'message_id') AS message_id
    FROM {{db}}.events
    WHERE meter = 'credits_returned'
) AS r
LEFT JOIN
(
    SELECT tenant, message_id, argMin(charged, first) AS meter
    FROM
    (
        SELECT tenant, JSONExtractString(data, 'message_id') AS message_id, any(CAST(meter, 'String')) AS charged, min((at, source, id)) AS first
        FROM {{db}}.events
        WHERE meter IN ('sms_credits', 'voice_credits') AND type = 'message.charged'
            AND tenant IN (SELECT tenant FROM {{db}}.events WHERE meter = 'credits_returned')
            AND (tenant, JSONExtractString(data, 'message_id')) IN
                (SELECT tenant, JSONExtractString(data, 'message_id') FROM {{db}}.events WHERE meter = 'credits_returned')
        GROUP BY tenant, source, id, message_id
        HAVING sum(sign) > 0
    )
    GROUP BY tenant, message_id
) AS c ON r.tenant = c.tenant AND r.message_id = c.message_id;

-- Meters as defined last, whatever the time (events.md 1 gives the order), voided definitions left out.
-- A meter that is not here is a sum.
CREATE OR REPLACE VIEW {{db}}.meters SQL SECURITY INVOKER AS
SELECT tenant, meter, if(tupleElement(def, 1) = '', 'sum', tupleElement(def, 1)) AS aggregation,
    tupleElement(def, 2) AS unit, tupleElement(def, 3) AS service
FROM
(
    SELECT tenant, meter, argMax((aggregation, unit, service), (at, source, source_seq, id)) AS def
    FROM
    (
        SELECT tenant, source, id, any(at) AS at, any(data) AS d, JSONExtractString(d, 'meter') AS meter,
            JSONExtractString(d, 'aggregation') AS aggregation, JSONExtractString(d, 'unit') AS unit,
            JSONExtractString(d, 'service') AS service, JSONExtractInt(d, 'source_seq') AS source_seq
        FROM {{db}}.directory_events
        WHERE type = 'meter.defined'
        GROUP BY tenant, source, id
        HAVING sum(sign) > 0
    )
    GROUP BY tenant, meter
);

-- Every row that counts, both signs: events, or their pieces where they were cut; a cut event is one
-- event (n), in its first piece. Without returned credits, which are read from credits_resolved.
CREATE OR REPLACE VIEW {{db}}.counting SQL SECURITY INVOKER AS
SELECT tenant, _partition_id AS month_id, account, meter, at, plan, region, platform, trial, consumer_id, quantity, sign, sign AS n,
    recorded_at, shard, seq, idx, source, id
FROM {{db}}.events
WHERE meter NOT IN ('', 'credits_returned') AND pieces <= 1
UNION ALL
SELECT tenant, _partition_id AS month_id, account, meter, at, plan, region, platform, trial, consumer_id, quantity, sign,
    CAST(if(piece = 0, sign, 0), 'Int8') AS n, recorded_at, shard, seq, idx, source, id
FROM {{db}}.pieces;

-- Counting rows that are not voided: what min, max, latest and unique read, because a negation cannot be
-- subtracted from them.
CREATE OR REPLACE VIEW {{db}}.counting_live SQL SECURITY INVOKER AS
SELECT tenant, month_id, account, meter, at, plan, region, platform, trial, consumer_id, quantity, n, recorded_at, shard, seq, idx
FROM {{db}}.counting
WHERE sign = 1 AND (tenant, source, id) NOT IN (SELECT tenant, source, id FROM {{db}}.events WHERE sign = -1);

-- Every accepted event once, and its negation where it was voided: sum(sign) counts, sum(quantity * sign) sums.
CREATE OR REPLACE VIEW {{api}}.events_v1 SQL SECURITY INVOKER AS
SELECT tenant, source, id, type, account, at, recorded_at, written_at, correlation_id, causation_id, meter, quantity, sign,
    consumer_type, consumer_id, item, asset_id, asset_name, asset_type, region, platform, dimensions, data, shard, seq, idx,
    reported_at, accepted_at, end_at, pieces, unit, trial_expiry, trial, item_version, plan, extensions, void_effect
FROM {{db}}.events
WHERE type != 'message.credit_returned'
UNION ALL
SELECT e.tenant, e.source, e.id, e.type, e.account, e.at, e.recorded_at, e.written_at, e.correlation_id, e.causation_id, c.meter AS meter, e.quantity, e.sign,
    e.consumer_type, e.consumer_id, e.item, e.asset_id, e.asset_name, e.asset_type, e.region, e.platform, e.dimensions, e.data, e.shard, e.seq, e.idx,
    e.reported_at, e.accepted_at, e.end_at, e.pieces, e.unit, e.trial_expiry, e.trial, e.item_version, e.plan, e.extensions, e.void_effect
FROM
(
    SELECT tenant, source, id, type, account, at, recorded_at, written_at, correlation_id, causation_id, quantity, sign,
        consumer_type, consumer_id, item, asset_id, asset_name, asset_type, region, platform, dimensions, data, shard, seq, idx,
        reported_at, accepted_at, end_at, pieces, unit, trial_expiry, trial, item_version, plan, extensions, void_effect
    FROM {{db}}.events
    WHERE meter = 'credits_returned'
) AS e
INNER JOIN (SELECT tenant, source, id, any(meter) AS meter FROM {{db}}.credits_resolved GROUP BY tenant, source, id) AS c
    ON e.tenant = c.tenant AND e.source = c.source AND e.id = c.id;

-- One row per cell and hour. quantity is signed and adds up for sums; for other meters it is the meter's own
-- aggregate of the hour and does not.
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
WHERE (tenant, meter) NOT IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique'))
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
        half_even(reinterpretAsInt256(total), toInt256(greatest(events, 1)))) AS quantity,
    events
FROM
(
    SELECT tenant, account, meter, toDateTime64(toStartOfHour(at), 3, 'UTC') AS hour, region, platform, trial, any(m.aggregation) AS aggregation,
        toDecimal256(min(l.quantity), 9) AS low, toDecimal256(max(l.quantity), 9) AS high,
        toDecimal256(argMax(l.quantity, (at, recorded_at, shard, seq, idx)), 9) AS latest,
        toDecimal256(uniqExactIf(consumer_id, consumer_id != ''), 9) AS consumers,
        sum(toDecimal256(l.quantity, 9)) AS total, toInt64(sum(n)) AS events
    FROM {{db}}.counting_live AS l
    INNER JOIN (SELECT tenant, meter, aggregation FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique')) AS m USING (tenant, meter)
    WHERE (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique'))
    GROUP BY tenant, account, meter, hour, region, platform, trial
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
WHERE (tenant, meter) NOT IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique'))
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
        half_even(reinterpretAsInt256(total), toInt256(greatest(events, 1)))) AS quantity,
    events
FROM
(
    SELECT tenant, account, meter, toDateTime64(toStartOfDay(at), 3, 'UTC') AS day, region, platform, trial, any(m.aggregation) AS aggregation,
        toDecimal256(min(l.quantity), 9) AS low, toDecimal256(max(l.quantity), 9) AS high,
        toDecimal256(argMax(l.quantity, (at, recorded_at, shard, seq, idx)), 9) AS latest,
        toDecimal256(uniqExactIf(consumer_id, consumer_id != ''), 9) AS consumers,
        sum(toDecimal256(l.quantity, 9)) AS total, toInt64(sum(n)) AS events
    FROM {{db}}.counting_live AS l
    INNER JOIN (SELECT tenant, meter, aggregation FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique')) AS m USING (tenant, meter)
    WHERE (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique'))
    GROUP BY tenant, account, meter, day, region, platform, trial
);

-- One row per message of the log: accepted = stored + duplicate + conflict + quarantined, for ever.
CREATE OR REPLACE VIEW {{api}}.ledger_v1 SQL SECURITY INVOKER AS
SELECT tenant, shard, seq, logged_at AS recorded_at, accepted, stored, duplicate, conflict, quarantined, voided, missing
FROM {{db}}.ledger;

-- What is in the log and counts nowhere, with the bytes as received.
CREATE OR REPLACE VIEW {{api}}.dead_letters_v1 SQL SECURITY INVOKER AS
SELECT tenant, source, id, reason, detail, raw, recorded_at, shard, seq, idx, type, account, original_shard, original_seq, original_idx
FROM {{db}}.dead_letters;

-- How far the warehouse is behind the log, per shard, as the aggregator last saw it. oldest_pending_at is
-- the epoch when nothing is pending.
CREATE OR REPLACE VIEW {{api}}.freshness_v1 SQL SECURITY INVOKER AS
SELECT shard, log_seq, warehouse_seq, lag_events, oldest_pending_at, watermark_at
FROM
(
    SELECT shard, tupleElement(last, 1) AS log_seq, tupleElement(last, 2) AS warehouse_seq, tupleElement(last, 3) AS lag_events,
        tupleElement(last, 4) AS oldest_pending_at, tupleElement(last, 5) AS watermark_at
    FROM
    (
        SELECT shard, argMax((log_seq, warehouse_seq, lag_events, oldest_pending_at, watermark_at), at) AS last
        FROM {{db}}.shard_status
        GROUP BY shard
    )
);
