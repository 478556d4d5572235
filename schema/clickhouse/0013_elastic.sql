-- The lines of elastic operations: one row per line, both signs, beside the row of `events` they come from, so
-- that the usage table and the running totals read columns and not JSON. Writer: aggregator, as a target of its
-- own (architecture, 3). Readers: elastic-usage, elastic_usage_v1, explain, audit. A line that was not granted has no
-- activation_id: it was charged to nobody. Order: the canonical one (events.md 1), then by line.
CREATE TABLE IF NOT EXISTS {{db}}.elastic_lines
(
    shard                 UInt16,
    seq                   UInt64 CODEC(Delta, LZ4),
    idx                   UInt32,
    line                  UInt32,                                -- 0-based index in the event
    sign                  Int8,
    tenant                LowCardinality(String),
    source                LowCardinality(String),
    id                    String CODEC(ZSTD(1)),
    source_seq            Int64,                                 -- 0 where the producer sent none
    account               String,                                -- subject of the event
    at                    DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    recorded_at           DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    correlation_id        String CODEC(ZSTD(1)),
    operation             LowCardinality(String),
    consumer_type         LowCardinality(String),
    consumer_id           String,
    instance_id           String,
    session_id            String,
    session_state         LowCardinality(String),
    line_no               Int64,
    item                  LowCardinality(String),
    item_version          LowCardinality(String),
    item_quantity         Decimal(38, 9),
    response              LowCardinality(String),                -- 101: granted
    activation_id         String,
    series                LowCardinality(String),
    version               LowCardinality(String),
    meter_cost            Decimal(38, 9),
    meter_quantity        Decimal(38, 9),                        -- unsigned by `sign`; a refund's is negative
    mapped_entitled_count Decimal(38, 9),
    used                  Decimal(38, 9),                        -- as the producer said: shown, never trusted
    given                 UInt8,                                 -- which decimals were sent: 1 meter_cost, 2 mapped_entitled_count, 4 used
    refund_correlation_id String,
    refund_line_no        Int64,
    meta_data             String,                                -- JSON object, '' if none
    INDEX by_sign sign TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant, at, source, source_seq, id, line_no)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'LZ4', min_bytes_for_wide_part = 67108864;

-- Operations that were stored before there was this table. An aggregator that wrote meanwhile would lose rows.
SELECT throwIf(count() > 0 AND (SELECT count() FROM {{db}}.events WHERE type = 'elastic.operation') > 0,
    'an aggregator is at work: stop it, wait ten seconds and run the migration again')
FROM {{db}}.shard_status
WHERE at > now64(3, 'UTC') - INTERVAL 10 SECOND;

INSERT INTO {{db}}.elastic_lines
(
    shard, seq, idx, line, sign, tenant, source, id, source_seq, account, at, recorded_at, correlation_id, operation, consumer_type,
    consumer_id, instance_id, session_id, session_state, line_no, item, item_version, item_quantity, response, activation_id, series,
    version, meter_cost, meter_quantity, mapped_entitled_count, used, given, refund_correlation_id, refund_line_no, meta_data
)
WITH
    name -> replaceAll(JSONExtractRaw(l, name), '"', '') AS text,
    name -> toDecimal128OrZero(text(name), 9) AS decimal,
    JSONExtractString(l, 'response') = '101' AS granted
SELECT shard, seq, idx, toUInt32(n - 1) AS line, sign, tenant, source, id, JSONExtractInt(data, 'source_seq'), account, at, recorded_at, correlation_id,
    JSONExtractString(data, 'operation'), JSONExtractString(data, 'consumer', 'type'), JSONExtractString(data, 'consumer', 'value'),
    JSONExtractString(data, 'instance_id'), JSONExtractString(data, 'session_id'), JSONExtractString(data, 'session_state'),
    toInt64OrZero(text('line_no')), JSONExtractString(l, 'item'), JSONExtractString(l, 'item_version'), decimal('item_quantity'),
    JSONExtractString(l, 'response'), if(granted, JSONExtractString(l, 'activation_id'), ''), JSONExtractString(l, 'series'),
    JSONExtractString(l, 'version'), decimal('meter_cost'), decimal('meter_quantity'),
    if(granted, decimal('mapped_entitled_count'), toDecimal128(0, 9)), if(granted, decimal('used'), toDecimal128(0, 9)),
    toUInt8((text('meter_cost') != '') + 2 * (granted AND text('mapped_entitled_count') != '') + 4 * (granted AND text('used') != '')),
    JSONExtractString(l, 'refund_of', 'correlation_id'), toInt64OrZero(replaceAll(JSONExtractRaw(l, 'refund_of', 'line_no'), '"', '')),
    JSONExtractRaw(l, 'meta_data')
FROM {{db}}.events
ARRAY JOIN JSONExtractArrayRaw(data, 'lines') AS l, arrayEnumerate(JSONExtractArrayRaw(data, 'lines')) AS n
WHERE type = 'elastic.operation' AND (shard, seq, idx, sign, n - 1) NOT IN (SELECT shard, seq, idx, sign, line FROM {{db}}.elastic_lines)
SETTINGS max_partitions_per_insert_block = 0, async_insert = 0;

-- Line items as they were mapped and changed: one row per step that has an effect. Before its first mapping an item is
-- unknown; an OBSOLETE one stays so. Order within an instant: source, source_seq, id.
CREATE OR REPLACE VIEW {{db}}.line_item_steps SQL SECURITY INVOKER AS
SELECT tenant, activation_id, tupleElement(step, 1) AS since, tupleElement(step, 2) AS source, tupleElement(step, 3) AS source_seq, tupleElement(step, 4) AS id,
    tupleElement(step, 5) AS state, tupleElement(step, 6) AS quantity, tupleElement(step, 7) AS instance_id, tupleElement(step, 8) AS series,
    tupleElement(step, 9) AS starts, tupleElement(step, 10) AS ends
FROM
(
    SELECT tenant, activation_id, arraySort(groupArray((at_, source_, source_seq_, id, state_, quantity_, instance_, series_, starts_, ends_))) AS all,
        arrayFirstIndex(s -> tupleElement(s, 7) != '', all) AS mapped,
        if(mapped = 0, [], arraySlice(all, mapped)) AS known,
        arrayFirstIndex(s -> tupleElement(s, 5) = 'OBSOLETE', known) AS obsolete,
        arrayJoin(arrayFilter((s, i) -> obsolete = 0 OR i <= obsolete OR tupleElement(s, 5) IN ('', 'OBSOLETE'), known, arrayEnumerate(known))) AS step
    FROM
    (
        SELECT CAST(tenant, 'String') AS tenant, CAST(source, 'String') AS source_, id, any(at) AS at_, any(data) AS d,
            JSONExtractInt(d, 'source_seq') AS source_seq_, JSONExtractString(d, 'activation_id') AS activation_id,
            JSONExtractString(d, 'state') AS state_, replaceAll(JSONExtractRaw(d, 'quantity'), '"', '') AS quantity_,
            if(any(type) = 'lineitem.mapped', JSONExtractString(d, 'instance_id'), '') AS instance_, JSONExtractString(d, 'series') AS series_,
            JSONExtractString(d, 'start') AS starts_, JSONExtractString(d, 'end') AS ends_
        FROM {{db}}.directory_events
        WHERE type IN ('lineitem.mapped', 'lineitem.changed')
        GROUP BY tenant, source, id
        HAVING sum(sign) > 0
    )
    GROUP BY tenant, activation_id
);

-- Instances: known from their creation or from the first line item mapped to them, whichever happened first; the
-- account is that of the first creation, '' without one.
CREATE OR REPLACE VIEW {{db}}.elastic_instances SQL SECURITY INVOKER AS
SELECT tenant, instance_id, min(since) AS since, argMinIf(account, key, created) AS account
FROM
(
    SELECT CAST(tenant, 'String') AS tenant, JSONExtractString(any(data), 'instance_id') AS instance_id, any(at) AS since, any(account) AS account, true AS created,
        (since, CAST(source, 'String'), JSONExtractInt(any(data), 'source_seq'), id) AS key
    FROM {{db}}.directory_events
    WHERE type = 'instance.created'
    GROUP BY tenant, source, id
    HAVING sum(sign) > 0
    UNION ALL
    SELECT tenant, instance_id, since, '' AS account, false AS created, (since, source, source_seq, id) AS key
    FROM {{db}}.line_item_steps
    WHERE instance_id != ''
)
GROUP BY tenant, instance_id;

-- Lines that count: not voided, their instance, account and line item known when they happened. With the quantity
-- of the line item at that moment.
CREATE OR REPLACE VIEW {{db}}.elastic_resolved SQL SECURITY INVOKER AS
SELECT l.tenant AS tenant, l.source AS source, l.source_seq AS source_seq, l.id AS id, l.account_id AS account_id, l.at AS at, l.recorded_at AS recorded_at,
    l.correlation_id AS correlation_id, l.consumer_type AS consumer_type, l.consumer_id AS consumer_id, l.instance_id AS instance_id,
    l.session_id AS session_id, l.session_state AS session_state, l.line_no AS line_no, l.item AS item, l.item_version AS item_version,
    l.item_quantity AS item_quantity, l.response AS response, l.activation_id AS activation_id, l.series AS series, l.version AS version,
    l.meter_cost AS meter_cost, l.meter_quantity AS meter_quantity, l.mapped_entitled_count AS mapped_entitled_count, l.used AS used, l.given AS given,
    l.meta_data AS meta_data, toDecimal128OrNull(s.amount, 9) AS entitled
FROM
(
    SELECT CAST(e.tenant, 'String') AS tenant, e.source AS source, e.source_seq AS source_seq, e.id AS id, if(i.account = '', e.account, i.account) AS account_id,
        e.at AS at, e.recorded_at AS recorded_at, e.correlation_id AS correlation_id, e.consumer_type AS consumer_type, e.consumer_id AS consumer_id,
        e.instance_id AS instance_id, e.session_id AS session_id, e.session_state AS session_state, e.line_no AS line_no, e.item AS item,
        e.item_version AS item_version, e.item_quantity AS item_quantity, e.response AS response, e.activation_id AS activation_id, e.series AS series,
        e.version AS version, e.meter_cost AS meter_cost, e.meter_quantity AS meter_quantity, e.mapped_entitled_count AS mapped_entitled_count,
        e.used AS used, e.given AS given, e.meta_data AS meta_data
    FROM {{db}}.elastic_lines AS e
    INNER JOIN {{db}}.elastic_instances AS i ON i.tenant = e.tenant AND i.instance_id = e.instance_id
    WHERE e.sign = 1 AND e.at >= i.since AND (e.tenant, e.source, e.id) NOT IN (SELECT tenant, source, id FROM {{db}}.elastic_lines WHERE sign = -1)
) AS l
INNER JOIN
(
    SELECT CAST(tenant, 'String') AS tenant, account, min(created) AS since
    FROM (SELECT tenant, source, id, any(account) AS account, any(at) AS created FROM {{db}}.directory_events WHERE type = 'account.created'
        GROUP BY tenant, source, id HAVING sum(sign) > 0)
    WHERE (tenant, source, id) NOT IN -- what a rule leaves without effect
    (
        SELECT tenant, source, id FROM {{db}}.directory_rulings
        WHERE type = 'account.created' AND (tenant, data) IN (SELECT tenant, data FROM {{db}}.directory_newest)
    )
    GROUP BY tenant, account
) AS a ON a.tenant = l.tenant AND a.account = l.account_id
ASOF LEFT JOIN
(
    SELECT tenant, activation_id, since, argMax(quantity, (source, source_seq, id)) AS amount
    FROM {{db}}.line_item_steps
    WHERE quantity != ''
    GROUP BY tenant, activation_id, since
) AS s ON s.tenant = l.tenant AND s.activation_id = l.activation_id AND l.at >= s.since
WHERE l.at >= a.since AND (l.activation_id = '' OR s.activation_id != '');

-- The Elastic usage table: one row per line that counts (reports.md 1D). USED is the running total of the line's
-- ACTIVATION_ID, in usage-time order, net of refunds; a late line changes the rows after it. The report
-- elastic-usage says the same, and takes as_of.
CREATE OR REPLACE VIEW {{api}}.elastic_usage_v1 SQL SECURITY INVOKER AS
SELECT correlation_id AS CORRELATION_ID, tenant AS TENANT_ID, at AS USAGE_TIME, greatest(recorded_at, at) AS WRITE_TIME, consumer_id AS CONSUMER_ID,
    CAST(consumer_type, 'String') AS CONSUMER_TYPE, account_id AS ACCOUNT_ID, instance_id AS INSTANCE_ID, activation_id AS ACTIVATION_ID,
    if(activation_id = '', NULL, if(bitAnd(given, 2) > 0, mapped_entitled_count, entitled)) AS MAPPED_ENTITLED_COUNT,
    if(activation_id = '', NULL, sum(toDecimal256(meter_quantity, 9)) OVER (PARTITION BY tenant, activation_id
        ORDER BY at, source, source_seq, id, line_no ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) AS USED,
    CAST(item, 'String') AS ITEM, CAST(item_version, 'String') AS ITEM_VERSION, item_quantity AS ITEM_QUANTITY, session_id AS SESSION_ID,
    CAST(session_state, 'String') AS SESSION_STATE, CAST(response, 'String') AS REQUEST_RESPONSE, 'elastic' AS METER_TYPE, 'elastic token' AS METER,
    if(series = '' AND version = '', '', concat('{"series":', replaceAll(toJSONString(CAST(series, 'String')), '\\/', '/'), ',"version":', replaceAll(toJSONString(CAST(version, 'String')), '\\/', '/'), '}')) AS METER_COST_LIST,
    if(bitAnd(given, 1) > 0, meter_cost, NULL) AS METER_COST, meter_quantity AS METER_QUANTITY, meta_data AS META_DATA
FROM {{db}}.elastic_resolved;

-- What is left of each line item, as of now (reports.md 2.5, D balance).
CREATE OR REPLACE VIEW {{api}}.elastic_balance_v1 SQL SECURITY INVOKER AS
SELECT i.tenant AS tenant, i.activation_id AS activation_id, i.instance_ AS instance_id, i.series_ AS series, i.state_ AS state,
    toDecimal128OrZero(i.entitled, 9) AS quantity, ifNull(u.total, toDecimal256(0, 9)) AS used,
    toDecimal256(quantity, 9) - used AS remaining, greatest(toDecimal256(0, 9), used - toDecimal256(quantity, 9)) AS overage
FROM
(
    SELECT tenant, activation_id, argMaxIf(instance_id, (since, source, source_seq, id), instance_id != '') AS instance_,
        argMaxIf(series, (since, source, source_seq, id), series != '') AS series_, argMaxIf(state, (since, source, source_seq, id), state != '') AS state_,
        argMaxIf(quantity, (since, source, source_seq, id), quantity != '') AS entitled
    FROM {{db}}.line_item_steps
    GROUP BY tenant, activation_id
) AS i
LEFT JOIN
(
    SELECT tenant, activation_id, sum(toDecimal256(meter_quantity, 9)) AS total
    FROM {{db}}.elastic_resolved
    WHERE activation_id != ''
    GROUP BY tenant, activation_id
) AS u ON u.tenant = i.tenant AND u.activation_id = i.activation_id;
