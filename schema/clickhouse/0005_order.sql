-- Merging is most of what an event costs ClickHouse, and what it costs is decided by how long the runs
-- are that a merge can take from one part. With the account in the key of `events` a part of one batch had
-- two rows in a row; ordered by tenant, meter and time it has hundreds, and a merge into a wide part copies
-- each column by itself, run by run: 2.2 times cheaper measured, inserts 1.2 times, and 7 bytes an event less
-- on disk, because times, positions and correlations of a tenant lie in their own order.
--
-- The rows are copied into a table of the new order, compared, and the tables change names in one step. The
-- statements can be repeated from any point. An aggregator that wrote meanwhile would lose rows: it must be
-- stopped, and a sign of life of the last ten seconds refuses the migration.
SELECT throwIf(count() > 0 AND (SELECT count() FROM {{db}}.events) > 0,
    'an aggregator is at work: stop it, wait ten seconds and run the migration again')
FROM {{db}}.shard_status
WHERE at > now64(3, 'UTC') - INTERVAL 10 SECOND;

-- Rows that only the copy has: nobody but a writer in the moment of the exchange can have made them.
SELECT throwIf(sumIf(total_rows, name = 'events_next') > sumIf(total_rows, name = 'events'),
    'events_next holds more rows than events: an aggregator wrote during the migration; call for help')
FROM system.tables
WHERE database = '{{db}}';

DROP TABLE IF EXISTS {{db}}.events_next SYNC SETTINGS max_table_size_to_drop = 0;

-- Every accepted event, once. Readers: views of usage_api, audit, reports, the aggregator's lookups.
-- It becomes `events` below.
CREATE TABLE {{db}}.events_next
(
    shard          UInt16,                                       -- partition of the log | incarnation << 10
    seq            UInt64 CODEC(Delta, ZSTD(1)),                 -- stream sequence of the chunk: the watermark
    idx            UInt32 CODEC(T64, ZSTD(1)),                   -- index in the chunk
    sign           Int8,
    tenant         LowCardinality(String),
    source         LowCardinality(String),
    id             String,
    id_key         UInt32 CODEC(NONE),                           -- upper half of usage.IdentityHash(tenant, source, id)
    content_hash   UInt64 CODEC(NONE),                           -- usage.ContentHash: tells a retry from a conflict
    type           LowCardinality(String),
    account        LowCardinality(String),
    at             DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),   -- when it happened; months are cut by this
    reported_lag   Int64,                                        -- milliseconds, reported_at - at: nearly always 0
    reported_at    DateTime64(3, 'UTC') ALIAS addMilliseconds(at, reported_lag),           -- CloudEvents time, or the receipt where absent
    recorded_at    DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),   -- when the log had it; as_of cuts by this
    accepted_lag   Int64,                                        -- milliseconds, accepted_at - recorded_at
    accepted_at    DateTime64(3, 'UTC') ALIAS addMilliseconds(recorded_at, accepted_lag),  -- ingest's own stamp; the log's where sent to NATS directly
    written_at     DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),   -- physically inserted; in no report and no hash
    correlation_id String,
    causation_own  String,                                       -- '' where it equals correlation_id, its default
    causation_id   String ALIAS if(causation_own = '', correlation_id, causation_own),
    meter          LowCardinality(String),                       -- '' for events that count nothing
    quantity       Decimal(38, 9),                               -- unsigned by `sign`: sum(quantity * sign) sums
    unit           LowCardinality(String),
    asset_id       String,
    asset_name     String,
    asset_type     LowCardinality(String),
    duration       Int64,                                        -- milliseconds, end_at - at: 0 without start/end
    end_at         DateTime64(3, 'UTC') ALIAS addMilliseconds(at, duration),
    pieces         UInt16,                                       -- 0: no start/end; 1: counts at `at`; n: in table pieces
    trial_expiry   DateTime64(3, 'UTC'),                         -- the epoch where the event names none
    trial          Bool,                                         -- at < trial_expiry: the event's own word only
    region         LowCardinality(String),
    platform       LowCardinality(String),
    consumer_type  LowCardinality(String),
    consumer_id    String,
    item           LowCardinality(String),
    item_version   LowCardinality(String),
    plan           LowCardinality(String),                       -- data.plan only; the account's plan is computed when read
    dimensions     Map(LowCardinality(String), String),
    data           String,                                       -- canonical JSON of the rest of data, '' if none
    extensions     String,                                       -- other CloudEvents attributes as JSON, '' if none
    void_effect    LowCardinality(String),                       -- of an event.voided: acted, waiting, already_voided

    -- Few granules hold the meters that views ask for across tenants (credits_returned, '' of waiting voids).
    INDEX by_meter meter TYPE set(32) GRANULARITY 1,

    -- Where rows with an id_key are: 7 bytes an event, against 45 for a copy of the columns a lookup
    -- returns. A key is half a hash, so the reader compares tenant, source and id of what it finds.
    PROJECTION by_identity (SELECT _part_offset ORDER BY id_key) WITH SETTINGS (index_granularity = 512)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)                                        -- one block into one partition = one part = atomic
ORDER BY (tenant, meter, at)                                     -- questions start with a tenant and a meter
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'ZSTD(1)',
    min_bytes_for_wide_part = 67108864, min_parts_to_merge_at_once = 16;

INSERT INTO {{db}}.events_next
(
    shard, seq, idx, sign, tenant, source, id, id_key, content_hash, type, account, at, reported_lag, recorded_at,
    accepted_lag, written_at, correlation_id, causation_own, meter, quantity, unit, asset_id, asset_name,
    asset_type, duration, pieces, trial_expiry, trial, region, platform, consumer_type, consumer_id, item,
    item_version, plan, dimensions, data, extensions, void_effect
)
SELECT
    shard, seq, idx, sign, tenant, source, id, id_key, content_hash, type, account, at, reported_lag, recorded_at,
    accepted_lag, written_at, correlation_id, causation_own, meter, quantity, unit, asset_id, asset_name,
    asset_type, duration, pieces, trial_expiry, trial, region, platform, consumer_type, consumer_id, item,
    item_version, plan, dimensions, data, extensions, void_effect
FROM {{db}}.events
SETTINGS max_partitions_per_insert_block = 0, async_insert = 0;

SELECT throwIf((SELECT (count(), groupBitXor(cityHash64(shard, seq, idx, sign, id_key, content_hash))) FROM {{db}}.events)
        != (SELECT (count(), groupBitXor(cityHash64(shard, seq, idx, sign, id_key, content_hash))) FROM {{db}}.events_next),
    'the copy of events differs from events: an aggregator is at work; stop it and run the migration again');

EXCHANGE TABLES {{db}}.events AND {{db}}.events_next;

SELECT throwIf((SELECT count() FROM {{db}}.events_next) > (SELECT count() FROM {{db}}.events),
    'rows were written during the migration: an aggregator is at work; call for help');

DROP TABLE {{db}}.events_next SETTINGS max_table_size_to_drop = 0;

-- A merge of 16 parts rewrites a row once where merges of 5 rewrite it nearly twice; unmerged are at most
-- 15 parts of a size. The rollup shrinks when merged, so that its readers want it earlier.
ALTER TABLE {{db}}.pieces MODIFY SETTING min_bytes_for_wide_part = 67108864, min_parts_to_merge_at_once = 16;
ALTER TABLE {{db}}.usage_hourly MODIFY SETTING min_parts_to_merge_at_once = 8;
ALTER TABLE {{db}}.directory_events MODIFY SETTING min_parts_to_merge_at_once = 8;
ALTER TABLE {{db}}.dead_letters MODIFY SETTING min_parts_to_merge_at_once = 16;
ALTER TABLE {{db}}.duplicates MODIFY SETTING min_parts_to_merge_at_once = 16;
ALTER TABLE {{db}}.ledger MODIFY SETTING min_parts_to_merge_at_once = 16;
