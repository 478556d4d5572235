-- Tables that are projections of the log. One writer: the aggregator; one rule: every row carries the
-- log position it came from (shard, seq, and in rollups hi), so each part says itself how far it got
-- (architecture, 3). Never: TTL, DELETE, DROP PARTITION, SummingMergeTree, materialized views here.
-- A statement ends with a semicolon at a line's end; each is idempotent, so a migration killed after
-- any statement is simply run again. {{db}} and {{api}} are the databases of tables and of views.

-- Every accepted event, once. Readers: views of usage_api, audit, reports, the aggregator's lookups.
-- Identity is (tenant, source, id); duplicates never get here, so no reader needs FINAL.
-- sign = -1 is the negation of a voided event, at the position of whichever of void and target came second.
CREATE TABLE IF NOT EXISTS {{db}}.events
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
ORDER BY (tenant, meter, account, at)                            -- questions start with a tenant and a meter
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'ZSTD(1)';

-- Usage with start and end that crosses a UTC midnight or its trial's end, cut there (reports.md 2.6,
-- 13 and 14); events that are one piece are not here (events.pieces = 1). Partitioned by piece start.
CREATE TABLE IF NOT EXISTS {{db}}.pieces
(
    shard         UInt16,
    seq           UInt64 CODEC(Delta, ZSTD(1)),
    idx           UInt32 CODEC(Delta, ZSTD(1)),
    piece         UInt16,                                        -- 0-based number of the piece within its event
    sign          Int8,
    tenant        LowCardinality(String),
    source        LowCardinality(String),
    id            String,
    account       LowCardinality(String),
    at            DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),    -- start of the piece
    end_at        DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    recorded_at   DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    meter         LowCardinality(String),
    quantity      Decimal(38, 9),
    asset_id      String,
    asset_name    String,
    asset_type    LowCardinality(String),
    trial_expiry  DateTime64(3, 'UTC'),
    trial         Bool,                                          -- piece start < trial_expiry
    region        LowCardinality(String),
    platform      LowCardinality(String),
    consumer_type LowCardinality(String),
    consumer_id   String,
    item          LowCardinality(String),
    plan          LowCardinality(String),
    dimensions    Map(LowCardinality(String), String)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant, meter, account, at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'ZSTD(1)';

-- Hourly partials, built by the aggregator from the same rows as `events` and `pieces` and healed by the
-- same watermark. Keys hold only the event's own fields. AggregatingMergeTree, never SummingMergeTree
-- (it drops zero rows). Readers always GROUP BY and sum; min and max count only where voids = 0.
CREATE TABLE IF NOT EXISTS {{db}}.usage_hourly
(
    shard    UInt16,
    hi       SimpleAggregateFunction(max, UInt64),               -- highest seq in the cell: the watermark
    tenant   LowCardinality(String),
    account  LowCardinality(String),
    meter    LowCardinality(String),
    hour     DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),        -- not DateTime: that ends in 2106
    region   LowCardinality(String),
    platform LowCardinality(String),
    trial    Bool,
    plan     LowCardinality(String),
    quantity SimpleAggregateFunction(sum, Decimal(76, 9)),       -- signed; Decimal256 because Decimal128 sums wrap silently
    events   SimpleAggregateFunction(sum, Int64),                -- signed; a cut event counts once, in the hour it starts
    voids    SimpleAggregateFunction(sum, UInt64),               -- negated rows or pieces in the cell
    rows     SimpleAggregateFunction(sum, UInt64),               -- rows or pieces behind the cell, both signs: audit
    low      SimpleAggregateFunction(min, Decimal(38, 9)),
    high     SimpleAggregateFunction(max, Decimal(38, 9)),
    first_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_at  SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (tenant, meter, account, hour, region, platform, trial, plan, shard)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'ZSTD(1)';

-- Events about accounts, services, meters …: a small copy of those rows of `events` (both signs), so that
-- the fold never scans usage. Order of the fold is decided by the reader (events.md 1), not by this key.
CREATE TABLE IF NOT EXISTS {{db}}.directory_events
(
    shard          UInt16,
    seq            UInt64,
    idx            UInt32,
    sign           Int8,
    tenant         LowCardinality(String),
    source         LowCardinality(String),
    id             String,
    type           LowCardinality(String),
    account        String,
    at             DateTime64(3, 'UTC'),
    recorded_at    DateTime64(3, 'UTC'),
    correlation_id String,
    data           String
)
ENGINE = MergeTree
ORDER BY (tenant, at, shard, seq, idx)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'ZSTD(1)';

-- What is in the log but counts nowhere: undecodable, out of limits, conflicts, voids of voids. With the
-- raw bytes as received. Readers: dlq, GET /events, usage_api.dead_letters_v1.
CREATE TABLE IF NOT EXISTS {{db}}.dead_letters
(
    shard          UInt16,
    seq            UInt64,
    idx            UInt32,
    tenant         LowCardinality(String),
    source         String,                                       -- '' where undecodable
    id             String,
    type           LowCardinality(String),
    account        String,
    reason         LowCardinality(String),                       -- a code of the error reference
    detail         String,
    raw            String CODEC(ZSTD(3)),
    recorded_at    DateTime64(3, 'UTC'),
    content_hash   UInt64,
    original_shard UInt16,                                       -- conflict: position and hash of the first one
    original_seq   UInt64,
    original_idx   UInt32,
    original_hash  UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(recorded_at)
ORDER BY (tenant, recorded_at, shard, seq, idx)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'ZSTD(1)';

-- Repeated deliveries, one row per chunk and identity: what GET /events answers "duplicate of" from.
-- Evidence of nothing: whether an event counts is decided by `events` alone.
CREATE TABLE IF NOT EXISTS {{db}}.duplicates
(
    shard          UInt16,
    seq            UInt64,
    idx            UInt32,                                       -- of the first repetition in the chunk
    n              UInt32,                                       -- repetitions in the chunk
    tenant         LowCardinality(String),
    source         LowCardinality(String),
    id             String,
    id_hash        UInt64,
    recorded_at    DateTime64(3, 'UTC'),
    original_shard UInt16,
    original_seq   UInt64,
    original_idx   UInt32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(recorded_at)
ORDER BY (id_hash, shard, seq, idx)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'ZSTD(1)';

-- One row per message of the log, inserted last: max(seq) of a shard is its progress and nothing else is.
-- For ever accepted = stored + duplicate + conflict + quarantined. A missing sequence has missing = 1.
CREATE TABLE IF NOT EXISTS {{db}}.ledger
(
    shard       UInt16,
    seq         UInt64,
    tenant      LowCardinality(String),
    logged_at   DateTime64(3, 'UTC'),                            -- never decreasing per shard
    hash        UInt128,                                         -- XXH3-128 of the message: detects a recreated stream
    missing     UInt8,
    accepted    UInt32,
    stored      UInt32,
    duplicate   UInt32,
    conflict    UInt32,
    quarantined UInt32,
    voided      UInt32                                           -- voids taking effect here; outside the identity
)
ENGINE = MergeTree
ORDER BY (shard, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'ZSTD(1)';

-- Who may write a shard. The highest (epoch, nonce) is the owner; every insert is fenced by it.
CREATE TABLE IF NOT EXISTS {{db}}.owner
(
    shard  UInt16,
    epoch  UInt64,
    nonce  UInt64,
    holder String,
    at     DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (shard, epoch, nonce)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, default_compression_codec = 'ZSTD(1)';

-- What the aggregator last saw of a shard: for freshness_v1 and nothing that counts.
CREATE TABLE IF NOT EXISTS {{db}}.shard_status
(
    shard             UInt16,
    at                DateTime64(3, 'UTC'),
    log_seq           UInt64,
    warehouse_seq     UInt64,
    lag_events        UInt64,
    oldest_pending_at DateTime64(3, 'UTC'),                      -- the epoch when nothing is pending
    watermark_at      DateTime64(3, 'UTC')                       -- logged_at of warehouse_seq
)
ENGINE = ReplacingMergeTree(at)
ORDER BY shard;
