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
