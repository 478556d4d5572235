-- The monthly aggregates (events.md 6) computed from rows as they are now: version 0, not closed. Closed
-- versions are stored and served by a later migration. GET /months/{month}/usage says the same, row for row.

-- The plans of an account over time: one row per instant from which they hold, the first its creation.
-- Nothing falls under a plan before the account exists. Order within an instant: source, source_seq, id.
CREATE OR REPLACE VIEW {{db}}.plan_spans SQL SECURITY INVOKER AS
SELECT tenant, account, since, services, plans, if(length(arrayFilter(p -> p != '', plans) AS named) = 1, named[1], '') AS only
FROM
(
    SELECT tenant, account, since, arrayReverse(arrayFilter(s -> tupleElement(s, 1) <= since, sets)) AS newest,
        arrayDistinct(arrayMap(s -> tupleElement(s, 5), newest)) AS services,
        arrayMap(v -> tupleElement(arrayFirst(s -> tupleElement(s, 5) = v, newest), 6), services) AS plans
    FROM
    (
        SELECT tenant, account, minIf(happened, kind = 'account.created') AS created_at,
            arraySort(groupArrayIf((happened, source, source_seq, id, service, plan), kind = 'service.plan_set')) AS sets,
            arrayJoin(arrayDistinct(arrayMap(s -> greatest(tupleElement(s, 1), created_at), sets))) AS since
        FROM
        (
            SELECT tenant, any(account) AS account, source, id, CAST(any(type), 'String') AS kind, any(at) AS happened, any(data) AS d,
                JSONExtractInt(d, 'source_seq') AS source_seq, JSONExtractString(d, 'service') AS service, JSONExtractString(d, 'plan') AS plan
            FROM {{db}}.directory_events
            WHERE type IN ('account.created', 'service.plan_set')
            GROUP BY tenant, source, id
            HAVING sum(sign) > 0
        )
        GROUP BY tenant, account
        HAVING countIf(kind = 'account.created') > 0
    )
);

-- Name and parent of an account over time, until the next step: one row per step. Before its creation an
-- account has no steps; a second creation of a living account and an edge to itself have no effect.
CREATE OR REPLACE VIEW {{db}}.account_steps SQL SECURITY INVOKER AS
SELECT tenant, account, tupleElement(steps[1], 1) AS created_at, tupleElement(steps[i], 1) AS since,
    if(i < length(steps), tupleElement(steps[i + 1], 1), toDateTime64('2200-01-01 00:00:00', 3, 'UTC')) AS until,
    tupleElement(steps[i], 2) AS name, tupleElement(steps[i], 3) AS parent
FROM
(
    SELECT tenant, account,
        tupleElement(arrayFold((acc, e) -> multiIf(
            tupleElement(e, 6) = 'account.created' AND (NOT tupleElement(acc, 1) OR tupleElement(acc, 2)),
                (true, false, tupleElement(e, 7), if(tupleElement(e, 8) = account, '', tupleElement(e, 8)),
                    arrayPushBack(tupleElement(acc, 5), (tupleElement(e, 1), tupleElement(e, 7), if(tupleElement(e, 8) = account, '', tupleElement(e, 8))))),
            NOT tupleElement(acc, 1), acc,
            tupleElement(e, 6) = 'account.renamed',
                (true, tupleElement(acc, 2), tupleElement(e, 7), tupleElement(acc, 4),
                    arrayPushBack(tupleElement(acc, 5), (tupleElement(e, 1), tupleElement(e, 7), tupleElement(acc, 4)))),
            tupleElement(e, 6) = 'account.reparented' AND tupleElement(e, 8) != account,
                (true, tupleElement(acc, 2), tupleElement(acc, 3), tupleElement(e, 8),
                    arrayPushBack(tupleElement(acc, 5), (tupleElement(e, 1), tupleElement(acc, 3), tupleElement(e, 8)))),
            tupleElement(e, 6) = 'account.deleted',
                (true, true, tupleElement(acc, 3), tupleElement(acc, 4), tupleElement(acc, 5)),
            acc),
        events,
        CAST((false, false, '', '', []), 'Tuple(Bool, Bool, String, String, Array(Tuple(DateTime64(3, \'UTC\'), String, String)))')), 5) AS steps
    FROM
    (
        SELECT tenant, account, arraySort(groupArray((happened, if(kind = 'account.created', 2, 3), source, source_seq, id, kind, name, parent))) AS events
        FROM
        (
            SELECT tenant, any(account) AS account, source, id, CAST(any(type), 'String') AS kind, any(at) AS happened, any(data) AS d,
                JSONExtractInt(d, 'source_seq') AS source_seq, JSONExtractString(d, 'name') AS name,
                if(kind = 'account.created', JSONExtractString(d, 'parent_account_id'), JSONExtractString(d, 'new_parent_account_id')) AS parent
            FROM {{db}}.directory_events
            WHERE type IN ('account.created', 'account.renamed', 'account.reparented', 'account.deleted')
            GROUP BY tenant, source, id
            HAVING sum(sign) > 0
        )
        GROUP BY tenant, account
    )
)
ARRAY JOIN arrayEnumerate(steps) AS i;

-- Who is above whom, and when: one row per ancestor and period. A parent that does not exist yet is none.
-- Periods of several steps overlap their own kind nowhere, so an instant meets an ancestor once.
CREATE OR REPLACE VIEW {{db}}.ancestors SQL SECURITY INVOKER AS
WITH RECURSIVE
    edges AS
    (
        SELECT s.tenant AS tenant, s.account AS account, s.parent AS parent, greatest(s.since, p.created_at) AS since, s.until AS until
        FROM {{db}}.account_steps AS s
        INNER JOIN (SELECT DISTINCT tenant, account, created_at FROM {{db}}.account_steps) AS p ON s.tenant = p.tenant AND s.parent = p.account
        WHERE s.parent != '' AND s.until > p.created_at
    ),
    climb AS
    (
        SELECT tenant, account, parent AS ancestor, since, until, 1 AS depth
        FROM edges
        UNION ALL
        SELECT c.tenant AS tenant, c.account AS account, e.parent AS ancestor, greatest(c.since, e.since) AS since, least(c.until, e.until) AS until, c.depth + 1 AS depth
        FROM climb AS c
        INNER JOIN edges AS e ON c.tenant = e.tenant AND c.ancestor = e.account
        WHERE e.since < c.until AND c.since < e.until AND e.parent != c.account AND c.depth < 64
    )
SELECT tenant, account, ancestor, since, until, depth
FROM climb;

-- Counting rows of the monthly aggregates with the instant that decides their plan, from five roads that
-- exclude each other: months of accounts whose plans do not change in them, summed from the rollup; other
-- whole hours of the rollup; raw rows of hours in which a plan changes; returned credits; and rows that are
-- not voided, for meters that are no sums and for cells with voids, whose first and last instant the rollup
-- cannot know.
CREATE OR REPLACE VIEW {{db}}.monthly_facts SQL SECURITY INVOKER AS
WITH
    nonsum AS (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation IN ('min', 'max', 'avg', 'latest', 'unique')),
    voided AS (SELECT DISTINCT tenant, meter, account, _partition_id AS month_id FROM {{db}}.usage_hourly WHERE voids > 0),
    -- More than the instants at which plans change, which costs some speed and no exactness.
    changes AS
    (
        SELECT DISTINCT tenant, account, at AS since, toString(toYYYYMM(at)) AS month_id
        FROM {{db}}.directory_events
        WHERE type IN ('account.created', 'service.plan_set') AND at != toDateTime64(toStartOfMonth(at), 3, 'UTC')
    ),
    split AS (SELECT tenant, account, toDateTime64(toStartOfHour(since), 3, 'UTC') AS hour FROM changes WHERE since != hour),
    toDateTime64(0, 3, 'UTC') AS never
SELECT tenant, _partition_id AS month_id, account, meter, max(hour) AS instant, plan, region, platform, trial,
    sum(quantity) AS q, sum(events) AS n, toInt64(sum(rows)) - 2 * toInt64(sum(voids)) AS live, min(first_at) AS first, max(last_at) AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, never, toUInt16(0), toUInt64(0), toUInt32(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, max((shard, hi)) AS position
FROM {{db}}.usage_hourly
WHERE meter != 'credits_returned' AND (tenant, account, _partition_id) NOT IN (SELECT tenant, account, month_id FROM changes)
    AND (tenant, meter) NOT IN (SELECT tenant, meter FROM nonsum)
    AND (tenant, meter, account, _partition_id) NOT IN (SELECT tenant, meter, account, month_id FROM voided)
GROUP BY tenant, month_id, account, meter, plan, region, platform, trial
UNION ALL
SELECT tenant, _partition_id AS month_id, account, meter, hour AS instant, plan, region, platform, trial,
    sum(quantity) AS q, sum(events) AS n, toInt64(sum(rows)) - 2 * toInt64(sum(voids)) AS live, min(first_at) AS first, max(last_at) AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, never, toUInt16(0), toUInt64(0), toUInt32(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, max((shard, hi)) AS position
FROM {{db}}.usage_hourly
WHERE meter != 'credits_returned' AND (tenant, account, _partition_id) IN (SELECT tenant, account, month_id FROM changes)
    AND (tenant, account, hour) NOT IN (SELECT tenant, account, hour FROM split)
    AND (tenant, meter) NOT IN (SELECT tenant, meter FROM nonsum)
    AND (tenant, meter, account, _partition_id) NOT IN (SELECT tenant, meter, account, month_id FROM voided)
GROUP BY tenant, month_id, account, meter, instant, plan, region, platform, trial
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, plan, region, platform, trial,
    toDecimal256(quantity, 9) * sign AS q, toInt64(n) AS n, toInt64(sign) AS live, at AS first, at AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, never, toUInt16(0), toUInt64(0), toUInt32(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, (shard, seq) AS position
FROM {{db}}.counting
WHERE (tenant, account) IN (SELECT tenant, account FROM split)
    AND (tenant, account, toDateTime64(toStartOfHour(at), 3, 'UTC')) IN (SELECT tenant, account, hour FROM split)
    AND (tenant, meter) NOT IN (SELECT tenant, meter FROM nonsum)
    AND (tenant, meter, account, month_id) NOT IN (SELECT tenant, meter, account, month_id FROM voided)
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, '' AS plan, '' AS region, '' AS platform, false AS trial,
    toDecimal256(quantity, 9) AS q, toInt64(1) AS n, toInt64(1) AS live, at AS first, at AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, never, toUInt16(0), toUInt64(0), toUInt32(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, (shard, seq) AS position
FROM {{db}}.credits_resolved
WHERE sign = 1 AND (tenant, meter) NOT IN (SELECT tenant, meter FROM nonsum)
    AND (tenant, source, id) NOT IN (SELECT tenant, source, id FROM {{db}}.events WHERE meter = 'credits_returned' AND sign = -1)
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, plan, region, platform, trial,
    toDecimal256(quantity, 9) AS q, toInt64(n) AS n, toInt64(1) AS live, at AS first, at AS last,
    quantity AS low, quantity AS high, ((at, recorded_at, shard, seq, idx), quantity) AS latest,
    consumer_id AS consumer, (shard, seq) AS position
FROM {{db}}.counting_live
WHERE (tenant, meter) IN (SELECT tenant, meter FROM nonsum)
UNION ALL
SELECT tenant, month_id, account, meter, at AS instant, plan, region, platform, trial,
    toDecimal256(quantity, 9) AS q, toInt64(n) AS n, toInt64(1) AS live, at AS first, at AS last,
    toDecimal128(0, 9) AS low, toDecimal128(0, 9) AS high, ((never, never, toUInt16(0), toUInt64(0), toUInt32(0)), toDecimal128(0, 9)) AS latest,
    '' AS consumer, (shard, seq) AS position
FROM {{db}}.counting_live
WHERE (tenant, meter, account) IN (SELECT tenant, meter, account FROM voided)
    AND (tenant, meter, account, month_id) IN (SELECT tenant, meter, account, month_id FROM voided)
    AND (tenant, meter) NOT IN (SELECT tenant, meter FROM nonsum);

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

-- Own and sub-tree values per month (tree at the month's end), also for accounts that have usage only below
-- them: their own quantity is 0 and first_at and last_at are NULL. quantity_tree of all roots together is the
-- sum of all quantities. A time_weighted meter shows its plain sum.
CREATE OR REPLACE VIEW {{api}}.usage_monthly_v1 SQL SECURITY INVOKER AS
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
