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

-- BEGIN OPEN
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
        kind = 'avg', half_even(reinterpretAsInt256(q), toInt256(greatest(n, 1))), q) AS value
SELECT r.tenant AS tenant, concat(substring(r.month_id, 1, 4), '-', substring(r.month_id, 5, 2)) AS month, toUInt32(0) AS version,
    r.account AS account, a.name AS account_name, r.plan AS plan, r.meter AS meter, r.unit AS unit, r.region AS region, r.platform AS platform,
    r.trial AS trial, CAST(a.account != '', 'Bool') AS resolved,
    if(r.here, value(r.aggregation, r.q, r.n, r.low, r.high, r.latest, r.consumers), toDecimal256(0, 9)) AS quantity,
    if(r.here, r.n, 0) AS events,
    value(r.aggregation, r.q_tree, r.n_tree, r.low_tree, r.high_tree, r.latest_tree, r.consumers_tree) AS quantity_tree,
    r.n_tree AS events_tree,
    CAST(if(r.here, r.first, NULL), 'Nullable(DateTime64(3, \'UTC\'))') AS first_at,
    CAST(if(r.here, r.last, NULL), 'Nullable(DateTime64(3, \'UTC\'))') AS last_at, false AS closed,
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
-- END OPEN
-- The monthly aggregates: one version of each month, so that sums are right without a condition. A closed month is its
-- newest version, as it was stored; any other month is computed from rows as they are now (version 0, not closed).
CREATE OR REPLACE VIEW {{api}}.usage_monthly_v1 SQL SECURITY INVOKER AS
SELECT CAST(tenant, 'String') AS tenant, month, version, CAST(account, 'String') AS account, account_name, CAST(plan, 'String') AS plan,
    CAST(meter, 'String') AS meter, CAST(unit, 'String') AS unit, CAST(region, 'String') AS region, CAST(platform, 'String') AS platform,
    trial, resolved, quantity, events, quantity_tree, events_tree, first_at, last_at, closed, log_shard, log_seq
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
