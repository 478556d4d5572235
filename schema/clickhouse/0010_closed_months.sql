-- Months that close (architecture 7, ADR 0013). What a closed version says is stored, never recomputed. Writer: the
-- reporter's package months; nothing here comes from the aggregator, and a rebuild of the projections keeps all of it.
-- Rows are stored under a close_id of their own before anybody has decided that they count. The winner is named in
-- CONTROL by compare-and-set, and only then its row of month_versions is written: readers begin there, so they see
-- a version whole or not at all. A row of month_versions may be written again and again; it is the same row.

-- One row per closed version.
CREATE TABLE IF NOT EXISTS {{db}}.month_versions
(
    tenant       LowCardinality(String),
    month        LowCardinality(String),                         -- 2026-03
    version      UInt32,                                         -- from 1
    close_id     String,                                         -- under which its rows are stored
    closed_at    DateTime64(3, 'UTC'),
    as_of        DateTime64(3, 'UTC'),                           -- the cut: recorded at or before,
    shards       Array(UInt16),                                  -- and at or below the position of its shard
    seqs         Array(UInt64),
    rows         UInt64,                                         -- in month_rows, month_figures, month_adjustments
    figures      UInt64,
    adjustments  UInt64,
    sha256       String,                                         -- of the canonical rows
    closed_by    String,                                         -- id of an API key, or automatic
    reason       String,                                         -- why open gaps were accepted, '' where there were none
    written_at   DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY (tenant, month, version)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- The monthly aggregates of a close, in the order of their number. Readers: reports, usage_api.
CREATE TABLE IF NOT EXISTS {{db}}.month_rows
(
    tenant        LowCardinality(String),
    month         LowCardinality(String),
    close_id      String,
    number        UInt32,
    account       String,
    account_name  String,
    plan          LowCardinality(String),
    meter         LowCardinality(String),
    unit          LowCardinality(String),
    region        LowCardinality(String),
    platform      LowCardinality(String),
    trial         Bool,
    resolved      Bool,
    quantity      Nullable(Decimal(76, 9)),                      -- NULL: the aggregation has no value
    events        Int64,
    quantity_tree Nullable(Decimal(76, 9)),
    events_tree   Int64,
    first_at      Nullable(DateTime64(3, 'UTC')),
    last_at       Nullable(DateTime64(3, 'UTC')),
    stored_at     DateTime64(3, 'UTC')                           -- rows of a close that lost are removed an hour later
)
ENGINE = MergeTree
ORDER BY (tenant, month, close_id, number)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- The figures of a close that are no sums of a meter: users of STA, costs of Secure Connect. Values are the exact text.
CREATE TABLE IF NOT EXISTS {{db}}.month_figures
(
    tenant    LowCardinality(String),
    month     LowCardinality(String),
    close_id  String,
    number    UInt32,
    account   String,
    plan      LowCardinality(String),
    meter     LowCardinality(String),
    region    LowCardinality(String),
    platform  LowCardinality(String),
    trial     Bool,
    measure   LowCardinality(String),
    value     String,
    cost      String,
    currency  LowCardinality(String),
    stored_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (tenant, month, close_id, number)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- What a version changed against the one before it, by the month in which that became known.
CREATE TABLE IF NOT EXISTS {{db}}.month_adjustments
(
    tenant           LowCardinality(String),
    usage_month      LowCardinality(String),
    close_id         String,
    number           UInt32,
    processing_month LowCardinality(String),
    type             LowCardinality(String),                     -- SYSTEM; MANUAL is reserved
    account          String,
    plan             LowCardinality(String),
    meter            LowCardinality(String),
    region           LowCardinality(String),
    platform         LowCardinality(String),
    trial            Bool,
    measure          LowCardinality(String),
    from_version     UInt32,
    to_version       UInt32,
    delta            String,                                     -- the exact text
    cost_delta       String,                                     -- '' where the figure has no cost
    currency         LowCardinality(String),
    stored_at        DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (tenant, usage_month, close_id, number)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Versions, each once.
CREATE OR REPLACE VIEW {{db}}.month_published SQL SECURITY INVOKER AS
SELECT tenant, month, version, any(close_id) AS close_id, any(closed_at) AS closed_at, any(as_of) AS as_of, any(shards) AS shards, any(seqs) AS seqs,
    any(rows) AS rows, any(figures) AS figures, any(adjustments) AS adjustments, any(sha256) AS sha256, any(closed_by) AS closed_by, any(reason) AS reason
FROM {{db}}.month_versions
GROUP BY tenant, month, version;

-- Every closed version of every month, as it was stored. Add a condition on version: two versions of a month do not add up.
CREATE OR REPLACE VIEW {{api}}.usage_monthly_versions_v1 SQL SECURITY INVOKER AS
SELECT r.tenant AS tenant, r.month AS month, v.version AS version, r.account AS account, r.account_name AS account_name, r.plan AS plan,
    r.meter AS meter, r.unit AS unit, r.region AS region, r.platform AS platform, r.trial AS trial, r.resolved AS resolved,
    ifNull(r.quantity, toDecimal256(0, 9)) AS quantity, r.events AS events, ifNull(r.quantity_tree, toDecimal256(0, 9)) AS quantity_tree, r.events_tree AS events_tree,
    r.first_at AS first_at, r.last_at AS last_at, true AS closed,
    arrayMax(v.shards) AS log_shard, v.seqs[indexOf(v.shards, log_shard)] AS log_seq
FROM {{db}}.month_rows AS r
INNER JOIN {{db}}.month_published AS v ON r.tenant = v.tenant AND r.month = v.month AND r.close_id = v.close_id;

-- The monthly aggregates: one version of each month, so that sums are right without a condition. A closed month is its
-- newest version, as it was stored; any other month is computed from rows as they are now (version 0, not closed).
CREATE OR REPLACE VIEW {{api}}.usage_monthly_v1 SQL SECURITY INVOKER AS
SELECT CAST(tenant, 'String') AS tenant, month, version, CAST(account, 'String') AS account, account_name, CAST(plan, 'String') AS plan,
    CAST(meter, 'String') AS meter, CAST(unit, 'String') AS unit, CAST(region, 'String') AS region, CAST(platform, 'String') AS platform,
    trial, resolved, ifNull(quantity, toDecimal256(0, 9)) AS quantity, events, ifNull(quantity_tree, toDecimal256(0, 9)) AS quantity_tree, events_tree,
    first_at, last_at, closed, log_shard, log_seq
FROM {{db}}.monthly_open
WHERE (tenant, month) NOT IN (SELECT tenant, month FROM {{db}}.month_versions)
UNION ALL
SELECT CAST(tenant, 'String') AS tenant, CAST(month, 'String') AS month, version, account, account_name, CAST(plan, 'String') AS plan,
    CAST(meter, 'String') AS meter, CAST(unit, 'String') AS unit, CAST(region, 'String') AS region, CAST(platform, 'String') AS platform,
    trial, resolved, quantity, events, quantity_tree, events_tree, first_at, last_at, closed, log_shard, log_seq
FROM {{api}}.usage_monthly_versions_v1
WHERE (tenant, month, version) IN (SELECT tenant, month, max(version) FROM {{db}}.month_versions GROUP BY tenant, month);

-- The closed versions themselves: which cut of the log each is, and its hash.
CREATE OR REPLACE VIEW {{api}}.months_v1 SQL SECURITY INVOKER AS
SELECT tenant, month, version, closed_at, as_of, shards, seqs, rows, figures, adjustments, sha256, closed_by, reason, close_id
FROM {{db}}.month_published;

-- What later versions changed (reports.md 2.5), money in the currency of the price.
CREATE OR REPLACE VIEW {{api}}.month_adjustments_v1 SQL SECURITY INVOKER AS
SELECT tenant, processing_month, usage_month, type, account, plan, meter, region, platform, trial, measure, from_version, to_version,
    toDecimal256(delta, 9) AS delta, toDecimal256OrNull(cost_delta, 9) AS cost_delta, currency
FROM {{db}}.month_adjustments
WHERE (tenant, usage_month, close_id) IN (SELECT tenant, month, close_id FROM {{db}}.month_versions);
