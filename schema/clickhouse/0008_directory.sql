-- The directory, folded: what the rules of events.md 5 make of a tenant's accounts, plans and meters, for
-- everything that is asked in SQL. Rules need the order of the fold and are told in Go once (internal/directory);
-- internal/register folds a tenant when its directory changed and writes the result here as a whole, under a number
-- of its own (`data`). What is written is seen when its row of directory_generations is there, which comes last: a
-- crash leaves the old state or the new one, and two writers at once leave two whole ones, of which the views take
-- that of the higher position in the log. See docs/adr/0011.
--
-- These are caches: what is lost is folded again. Writer: internal/register in the aggregator that owns the tenant's
-- partition. Readers: the views below, and reports in SQL.

-- One row per fold of a tenant. The highest (shard, seq, at, data) is what holds.
CREATE TABLE IF NOT EXISTS {{db}}.directory_generations
(
    tenant   LowCardinality(String),
    data     UInt64,                      -- under which the rows below are; several generations may share one
    shard    UInt16,                      -- the fold has the tenant's events up to this position
    seq      UInt64,
    at       DateTime64(3, 'UTC'),        -- when it was made
    version  UInt16,                      -- of the fold: a later one folds again
    events   UInt64,                      -- rows of directory_events in it, and a fingerprint of them
    print    UInt64,
    content  UInt64,                      -- tells whether the rows below would differ
    contested UInt32,                     -- meters with several definitions, subscriptions made smaller: other events decide what holds
    accounts UInt64,
    rulings  UInt64,
    rows     UInt64                       -- in all tables below
)
ENGINE = MergeTree
ORDER BY (tenant, shard, seq, at, data)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Accounts as they are now. Deleted ones stay, under their last parent.
CREATE TABLE IF NOT EXISTS {{db}}.directory_accounts
(
    tenant         LowCardinality(String),
    data           UInt64,
    account        String,
    name           String,
    kind           LowCardinality(String),
    parent         String,                -- '' for a root, and where the parent does not exist (yet)
    path           String,                -- ids from the root down to the account, each after a slash
    depth          UInt32,                -- accounts above
    status         LowCardinality(String), -- Active, Disabled (every service that has a status is), Deleted
    plan           Map(LowCardinality(String), String), -- by service
    service_status Map(LowCardinality(String), String),
    contract_mode  LowCardinality(String),
    trial_ends_at  Nullable(DateTime64(3, 'UTC')),
    currency       LowCardinality(String),
    reseller       String,
    created_at     DateTime64(3, 'UTC'),
    deleted_at     Nullable(DateTime64(3, 'UTC'))
)
ENGINE = MergeTree
ORDER BY (tenant, data, account)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_bytes_for_wide_part = 536870912;

-- Accounts through time: a row per step, holding in [since, until).
CREATE TABLE IF NOT EXISTS {{db}}.directory_steps
(
    tenant        LowCardinality(String),
    data          UInt64,
    account       String,
    created_at    DateTime64(3, 'UTC'),
    since         DateTime64(3, 'UTC'),
    until         DateTime64(3, 'UTC'),   -- 2200-01-01 where there is no end
    name          String,
    kind          LowCardinality(String),
    parent        String,                 -- as named: it may not exist (yet)
    contract_mode LowCardinality(String),
    trial_ends_at Nullable(DateTime64(3, 'UTC')),
    deleted       Bool
)
ENGINE = MergeTree
ORDER BY (tenant, data, account, since)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_bytes_for_wide_part = 536870912;

-- Plans through time: a row per instant at which those of an account change.
CREATE TABLE IF NOT EXISTS {{db}}.directory_plans
(
    tenant   LowCardinality(String),
    data     UInt64,
    account  String,
    since    DateTime64(3, 'UTC'),
    services Array(LowCardinality(String)),
    plans    Array(String)
)
ENGINE = MergeTree
ORDER BY (tenant, data, account, since)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_bytes_for_wide_part = 536870912;

-- Who is above an account at the end of each month: a row for a stretch of months in which it stays the same.
-- Not by instant: reports know the tree of a month's end only, and whoever moves a large tree back and forth
-- within a month must not be able to make rows without end. At most 128 levels up.
CREATE TABLE IF NOT EXISTS {{db}}.directory_trees
(
    tenant  LowCardinality(String),
    data    UInt64,
    account String,
    since   DateTime64(3, 'UTC'),         -- first instant of the first month
    until   DateTime64(3, 'UTC'),         -- first instant of the month after the last; 2200-01-01 where there is no end
    above   Array(String)                 -- the nearest first
)
ENGINE = MergeTree
ORDER BY (tenant, data, account, since)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_bytes_for_wide_part = 536870912;

-- Meters as defined.
CREATE TABLE IF NOT EXISTS {{db}}.directory_meters
(
    tenant      LowCardinality(String),
    data        UInt64,
    meter       String,
    meter_id    String,
    element     String,
    kind        LowCardinality(String),
    plan        String,
    service     LowCardinality(String),
    aggregation LowCardinality(String),
    unit        String,
    scale       UInt8
)
ENGINE = MergeTree
ORDER BY (tenant, data, meter)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_bytes_for_wide_part = 536870912;

-- Events that break a rule, as of now.
CREATE TABLE IF NOT EXISTS {{db}}.directory_rulings
(
    tenant      LowCardinality(String),
    data        UInt64,
    shard       UInt16,
    seq         UInt64,
    idx         UInt32,
    source      String,
    id          String,
    type        LowCardinality(String),
    account     String,
    at          DateTime64(3, 'UTC'),
    recorded_at DateTime64(3, 'UTC'),
    rule        LowCardinality(String),   -- rule:<name>
    detail      String,
    raw         String                    -- the event as CloudEvents JSON
)
ENGINE = MergeTree
ORDER BY (tenant, data, recorded_at, shard, seq, idx)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_bytes_for_wide_part = 536870912;

-- The generation that holds, of each tenant.
CREATE OR REPLACE VIEW {{db}}.directory_newest SQL SECURITY INVOKER AS
SELECT tenant, tupleElement(newest, 4) AS data, tupleElement(newest, 1) AS shard, tupleElement(newest, 2) AS seq, tupleElement(newest, 3) AS at,
    tupleElement(rest, 1) AS version, tupleElement(rest, 2) AS events, tupleElement(rest, 3) AS print, tupleElement(rest, 4) AS content,
    tupleElement(rest, 5) AS contested, tupleElement(rest, 6) AS accounts, tupleElement(rest, 7) AS rulings, tupleElement(rest, 8) AS rows
FROM
(
    SELECT tenant, max((shard, seq, at, data)) AS newest,
        argMax((version, events, print, content, contested, accounts, rulings, rows), (shard, seq, at, data)) AS rest
    FROM {{db}}.directory_generations
    GROUP BY tenant
);

-- The plans of an account over time: one row per instant from which they hold. Nothing falls under a plan before
-- the account exists.
CREATE OR REPLACE VIEW {{db}}.plan_spans SQL SECURITY INVOKER AS
SELECT tenant, account, since, CAST(services, 'Array(String)') AS services, plans, if(length(plans) = 1, plans[1], '') AS only
FROM {{db}}.directory_plans
WHERE (tenant, data) IN (SELECT tenant, data FROM {{db}}.directory_newest);

-- Name and parent of an account over time, until the next step.
CREATE OR REPLACE VIEW {{db}}.account_steps SQL SECURITY INVOKER AS
SELECT tenant, account, created_at, since, until, name, parent, kind, contract_mode, trial_ends_at, deleted
FROM {{db}}.directory_steps
WHERE (tenant, data) IN (SELECT tenant, data FROM {{db}}.directory_newest);

-- Who is above whom at the end of a month, which is in [since, until).
CREATE OR REPLACE VIEW {{db}}.ancestors SQL SECURITY INVOKER AS
SELECT tenant, account, ancestor, since, until, depth
FROM {{db}}.directory_trees
ARRAY JOIN above AS ancestor, arrayEnumerate(above) AS depth
WHERE (tenant, data) IN (SELECT tenant, data FROM {{db}}.directory_newest);

-- Meters as defined. A meter that is not here is a sum.
CREATE OR REPLACE VIEW {{db}}.meters SQL SECURITY INVOKER AS
SELECT tenant, meter, CAST(aggregation, 'String') AS aggregation, unit, CAST(service, 'String') AS service, meter_id, element, kind, plan, scale
FROM {{db}}.directory_meters
WHERE (tenant, data) IN (SELECT tenant, data FROM {{db}}.directory_newest);

-- Accounts as they are now, as far as directory_v1 says. Deleted ones are here too: see status.
CREATE OR REPLACE VIEW {{api}}.accounts_v1 SQL SECURITY INVOKER AS
SELECT tenant, account, name, kind, parent, path, depth, plan, status, service_status, contract_mode, trial_ends_at, currency, reseller,
    created_at, deleted_at
FROM {{db}}.directory_accounts
WHERE (tenant, data) IN (SELECT tenant, data FROM {{db}}.directory_newest);

-- How far accounts_v1 and the rulings of dead_letters_v1 are: events beyond (shard, seq) are not in them yet.
CREATE OR REPLACE VIEW {{api}}.directory_v1 SQL SECURITY INVOKER AS
SELECT tenant, shard, seq, at, events, accounts, rulings
FROM {{db}}.directory_newest;

-- What is in the log and counts nowhere, with the bytes as received; and what the rules of the directory leave
-- without effect (reason rule:<name>), for as long as they do.
CREATE OR REPLACE VIEW {{api}}.dead_letters_v1 SQL SECURITY INVOKER AS
SELECT tenant, source, id, reason, detail, raw, recorded_at, shard, seq, idx, type, account, original_shard, original_seq, original_idx
FROM {{db}}.dead_letters
UNION ALL
SELECT tenant, source, id, rule AS reason, detail, raw, recorded_at, shard, seq, idx, type, account, toUInt16(0) AS original_shard,
    toUInt64(0) AS original_seq, toUInt32(0) AS original_idx
FROM {{db}}.directory_rulings
WHERE (tenant, data) IN (SELECT tenant, data FROM {{db}}.directory_newest);

-- What is new in the directory lies at the end of the log, but anywhere in the order of the table.
ALTER TABLE {{db}}.directory_events ADD INDEX IF NOT EXISTS by_seq seq TYPE minmax GRANULARITY 1;
ALTER TABLE {{db}}.directory_events ADD INDEX IF NOT EXISTS by_type type TYPE set(64) GRANULARITY 1;
ALTER TABLE {{db}}.directory_events MATERIALIZE INDEX by_seq;
ALTER TABLE {{db}}.directory_events MATERIALIZE INDEX by_type;
