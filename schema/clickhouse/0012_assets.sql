-- Usage of assets (Secure Connect), a row per asset, meter, region, platform, trial and UTC day: what the report
-- asset-usage-detail says of every tenant and month, as of now. The statements of internal/report/asset_rows.go
-- tell the same at a cut; a test compares the two row by row.

-- Assets that were ever registered, with their histories. Steps are (when, source, source_seq, id, value) in Unix ms;
-- the last one at an instant holds. ends are the instants at which a trial in force ended.
CREATE OR REPLACE VIEW {{db}}.asset_history SQL SECURITY INVOKER AS
SELECT tenant, owner AS account, asset,
    minIf(happened, kind = 'asset.registered') AS known,
    arraySort(groupArrayIf((happened, source, source_seq, id, name), kind != 'asset.trial_set')) AS names,
    arraySort(groupArrayIf((happened, source, source_seq, id, asset_type), kind = 'asset.registered')) AS types,
    arraySort(groupArrayIf((happened, source, source_seq, id, expiry), kind = 'asset.trial_set')) AS trials,
    arrayMap(i -> tupleElement(trials[i], 5), arrayFilter(i -> tupleElement(trials[i], 5) > tupleElement(trials[i], 1)
        AND (i = length(trials) OR tupleElement(trials[i + 1], 1) > tupleElement(trials[i], 5)), arrayEnumerate(trials))) AS ends
FROM
(
    SELECT CAST(tenant, 'String') AS tenant, CAST(any(account), 'String') AS owner, source, id, CAST(any(type), 'String') AS kind,
        toUnixTimestamp64Milli(any(at)) AS happened, any(data) AS d, JSONExtractString(d, 'asset_id') AS asset, JSONExtractInt(d, 'source_seq') AS source_seq,
        JSONExtractString(d, 'asset_name') AS name, JSONExtractString(d, 'asset_type') AS asset_type,
        if(kind = 'asset.trial_set', toUnixTimestamp64Milli(parseDateTime64BestEffortOrZero(JSONExtractString(d, 'trial_expiry'), 3, 'UTC')), 0) AS expiry
    FROM {{db}}.directory_events
    WHERE type IN ('asset.registered', 'asset.renamed', 'asset.trial_set')
    GROUP BY tenant, source, id
    HAVING sum(sign) > 0
)
GROUP BY tenant, owner, asset
HAVING countIf(kind = 'asset.registered') > 0;

-- Records of meters of assets, and their pieces: cut at midnights and at the trial's end where the event names one;
-- whole where it does not and is more than one piece, to be cut at the end of the asset's own trial as well.
CREATE OR REPLACE VIEW {{db}}.asset_records SQL SECURITY INVOKER AS
SELECT tenant, account, meter, asset_id AS asset, region, platform, toUnixTimestamp64Milli(at) AS begins, begins + duration AS stops,
    quantity, sign, trial AS said, toUnixTimestamp64Milli(trial_expiry) AS own
FROM {{db}}.events
WHERE (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE kind = 'secure_connect') AND pieces <= 1
UNION ALL
SELECT tenant, account, meter, asset_id AS asset, region, platform, toUnixTimestamp64Milli(at) AS begins, begins AS stops,
    quantity, sign, trial AS said, toUnixTimestamp64Milli(trial_expiry) AS own
FROM {{db}}.pieces
WHERE (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE kind = 'secure_connect') AND toUnixTimestamp64Milli(trial_expiry) != 0
UNION ALL
SELECT tenant, account, meter, asset_id AS asset, any(region) AS region, any(platform) AS platform,
    toUnixTimestamp64Milli(min(at)) AS begins, toUnixTimestamp64Milli(max(end_at)) AS stops,
    CAST(sum(toDecimal256(quantity, 9)), 'Decimal(38, 9)') AS quantity, sign, false AS said, toInt64(0) AS own
FROM {{db}}.pieces
WHERE (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE kind = 'secure_connect') AND toUnixTimestamp64Milli(trial_expiry) = 0
GROUP BY tenant, shard, seq, idx, sign, account, meter, asset_id;

-- Pieces that count: of known assets and accounts, breaking no rule. amount is in billionths; a share is
-- amount × part/whole in millionths, halves to the even one, and the last piece takes the remainder.
CREATE OR REPLACE VIEW {{db}}.asset_pieces SQL SECURITY INVOKER AS
WITH (steps, instant) -> tupleElement(arrayLast(s -> tupleElement(s, 1) <= instant, steps), 5) AS last_of
SELECT tenant, account, meter, asset, region, platform, tupleElement(piece, 1) AS start, tupleElement(piece, 2) AS amount, sign,
    if(own != 0, own, last_of(trials, start)) AS expiry, if(own != 0, said, start < expiry) AS trial, names, types
FROM
(
    SELECT tenant, account, meter, asset, region, platform, sign, said, own, known, names, types, trials, negative,
        arrayMap(p -> intDiv(p, unit), products) AS floors,
        arrayMap((p, f) -> 2 * (p - f * unit), products, floors) AS rests,
        arrayMap((f, r) -> (f + (r > unit OR r = unit AND f % 2 = 1)) * 1000, floors, rests) AS shares,
        arrayJoin(arrayZip(starts, arrayPushBack(shares, n - arraySum(shares)))) AS piece
    FROM
    (
        SELECT CAST(r.tenant, 'String') AS tenant, CAST(r.account, 'String') AS account, CAST(r.meter, 'String') AS meter, r.asset AS asset,
            CAST(r.region, 'String') AS region, CAST(r.platform, 'String') AS platform, r.sign AS sign, r.said AS said, r.own AS own,
            greatest(a.known, c.known) AS known, a.names AS names, a.types AS types, a.trials AS trials, r.quantity < 0 AS negative,
            toInt256(reinterpretAsInt128(r.quantity)) AS n, toInt256(r.stops - r.begins) * 1000 AS unit,
            if(r.own != 0 OR r.stops <= r.begins, [], arraySort(arrayDistinct(arrayConcat(
                arrayFilter(x -> x > r.begins AND x < r.stops, a.ends),
                arrayMap(day -> (intDiv(r.begins, 86400000) + 1 + toInt64(day)) * 86400000,
                    range(toUInt64(intDiv(r.stops - 1, 86400000) - intDiv(r.begins, 86400000)))))))) AS borders,
            arrayPushFront(borders, r.begins) AS starts,
            arrayMap((x, y) -> n * (y - x), arrayPopBack(starts), borders) AS products
        FROM {{db}}.asset_records AS r
        INNER JOIN {{db}}.asset_history AS a ON CAST(r.tenant, 'String') = a.tenant AND CAST(r.account, 'String') = a.account AND r.asset = a.asset
        INNER JOIN
        (
            SELECT CAST(tenant, 'String') AS tenant, account, toUnixTimestamp64Milli(min(created_at)) AS known
            FROM {{db}}.account_steps
            GROUP BY tenant, account
        ) AS c ON CAST(r.tenant, 'String') = c.tenant AND CAST(r.account, 'String') = c.account
    )
)
WHERE known <= start AND NOT negative AND region IN ('', 'AF', 'AP', 'EU', 'NA') AND platform IN ('', 'mcp', 'azure')
    AND NOT (platform != '' AND last_of(types, start) = 'USER');

-- The 14 columns of the report, and whose they are. organizationId is the account above the tenant at the month's
-- end; quantity is exact.
CREATE OR REPLACE VIEW {{api}}.asset_usage_v1 SQL SECURITY INVOKER AS
SELECT u.tenant AS tenant, if(u.month < o.until, o.ancestor, '') AS organizationId, u.account AS tenantId, u.name AS assetName, u.asset AS assetId, u.asset_type AS assetType,
    u.meter AS meterName, m.meter_id AS meterId, fromUnixTimestamp64Milli(u.day, 'UTC') AS start, fromUnixTimestamp64Milli(u.day + 86400000, 'UTC') AS end,
    reinterpret(u.total, 'Decimal(76, 9)') AS quantity, u.region AS billingRegion, u.platform AS platform, CAST(u.trial, 'Bool') AS trial,
    if(u.last_expiry = 0, NULL, fromUnixTimestamp64Milli(u.last_expiry, 'UTC')) AS trialExpiry
FROM
(
    SELECT tenant, account, asset, meter, region, platform, trial, day, sum(q) AS total, max(expiry_of) AS last_expiry,
        tupleElement(arrayLast(s -> tupleElement(s, 1) < day + 86400000, any(n)), 5) AS name,
        tupleElement(arrayLast(s -> tupleElement(s, 1) < day + 86400000, any(t)), 5) AS asset_type,
        toDateTime64(toStartOfMonth(fromUnixTimestamp64Milli(day, 'UTC')), 3, 'UTC') AS month
    FROM
    (
        SELECT tenant, account, asset, meter, region, platform, trial, intDiv(start, 86400000) * 86400000 AS day, expiry AS expiry_of, sum(amount * sign) AS q,
            any(names) AS n, any(types) AS t
        FROM {{db}}.asset_pieces
        GROUP BY tenant, account, asset, meter, region, platform, trial, day, expiry_of
        HAVING sum(sign) > 0
    )
    GROUP BY tenant, account, asset, meter, region, platform, trial, day
) AS u
INNER JOIN (SELECT CAST(tenant, 'String') AS tenant, meter, meter_id FROM {{db}}.meters) AS m ON u.tenant = m.tenant AND u.meter = m.meter
ASOF LEFT JOIN
(
    SELECT CAST(tenant, 'String') AS tenant, account, ancestor, since, until
    FROM {{db}}.ancestors
    WHERE depth = 1
) AS o ON u.tenant = o.tenant AND u.account = o.account AND u.month >= o.since;
