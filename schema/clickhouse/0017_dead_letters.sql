-- What is in the log and counts nowhere, with the bytes as received; what the rules of the directory leave without
-- effect (reason rule:<name>), for as long as they do; and usage of assets that breaks a rule of assets: only the kind
-- of its meter, or the registration of its asset, says that the rule is there, so it is judged when read.
-- internal/report/asset_rulings.go says the same to GET /dead-letters; a test compares the two.
CREATE OR REPLACE VIEW {{api}}.dead_letters_v1 SQL SECURITY INVOKER AS
SELECT tenant, source, id, reason, detail, raw, recorded_at, shard, seq, idx, type, account, original_shard, original_seq, original_idx
FROM {{db}}.dead_letters
UNION ALL
SELECT tenant, source, id, rule AS reason, detail, raw, recorded_at, shard, seq, idx, type, account, toUInt16(0) AS original_shard,
    toUInt64(0) AS original_seq, toUInt32(0) AS original_idx
FROM {{db}}.directory_rulings
WHERE (tenant, data) IN (SELECT tenant, data FROM {{db}}.directory_newest)
UNION ALL
SELECT tenant, source, id, rule AS reason,
    transform(rule, ['rule:asset-quantity', 'rule:asset-region', 'rule:asset-platform'],
        ['the quantity of a meter of kind secure_connect must not be negative; void the wrong event instead',
         'the region of a meter of kind secure_connect must be one of AF, AP, EU, NA',
         'the platform of a meter of kind secure_connect must be mcp or azure'],
        'the asset is a USER, and platform is for bandwidth only') AS detail,
    replaceAll(concat('{"specversion":"1.0","id":', toJSONString(id), ',"source":', toJSONString(source), ',"type":"usage.metered"',
        if(account = '', '', concat(',"subject":', toJSONString(account))),
        ',"time":"', formatDateTime(at, '%FT%T', 'UTC'), '.', leftPad(toString(toUnixTimestamp64Milli(at) % 1000), 3, '0'), 'Z"',
        ',"data":{"meter":', toJSONString(meter), ',"quantity":"', toString(quantity), '"', if(region = '', '', concat(',"region":', toJSONString(region))),
        if(platform = '', '', concat(',"platform":', toJSONString(platform))), ',"asset":{"id":', toJSONString(asset_id), '}}}'), '\\/', '/') AS raw,
    recorded_at, shard, seq, idx, 'usage.metered' AS type, account, toUInt16(0) AS original_shard, toUInt64(0) AS original_seq, toUInt32(0) AS original_idx
FROM
(
    SELECT u.tenant AS tenant, u.source AS source, u.id AS id, u.account AS account, u.at AS at, u.recorded_at AS recorded_at, u.shard AS shard, u.seq AS seq,
        u.idx AS idx, u.meter AS meter, u.quantity AS quantity, u.region AS region, u.platform AS platform, u.asset_id AS asset_id,
        multiIf(u.quantity < 0, 'rule:asset-quantity', u.region NOT IN ('', 'AF', 'AP', 'EU', 'NA'), 'rule:asset-region',
            u.platform NOT IN ('', 'mcp', 'azure'), 'rule:asset-platform', 'rule:user-platform') AS rule,
        tupleElement(arrayLast(s -> tupleElement(s, 1) <= toUnixTimestamp64Milli(u.at), a.types), 5) AS asset_type
    FROM
    (
        SELECT CAST(tenant, 'String') AS tenant, CAST(source, 'String') AS source, id, CAST(account, 'String') AS account, at, recorded_at, shard, seq, idx,
            CAST(meter, 'String') AS meter, quantity, CAST(region, 'String') AS region, CAST(platform, 'String') AS platform, asset_id
        FROM {{db}}.events
        WHERE (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE kind = 'secure_connect') AND sign = 1
            AND (quantity < 0 OR region NOT IN ('', 'AF', 'AP', 'EU', 'NA') OR platform NOT IN ('', 'mcp', 'azure') OR platform != ''
                AND (CAST(tenant, 'String'), CAST(account, 'String'), asset_id) IN
                (
                    SELECT tenant, account, asset FROM {{db}}.asset_history WHERE arrayExists(t -> tupleElement(t, 5) = 'USER', types)
                ))
            AND (tenant, source, id) NOT IN
            (
                SELECT tenant, source, id
                FROM {{db}}.events
                WHERE (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE kind = 'secure_connect') AND sign = -1
            )
    ) AS u
    LEFT JOIN {{db}}.asset_history AS a ON u.tenant = a.tenant AND u.account = a.account AND u.asset_id = a.asset
)
WHERE rule != 'rule:user-platform' OR asset_type = 'USER';

-- Line items as they were mapped and changed: one row per step that has an effect. Before its first mapping an item is
-- unknown; an OBSOLETE one stays so. The quantity is read as it is spelled: JSONExtractRaw makes a double of a number. Order within an instant: source, source_seq, id.
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
            JSONExtractString(d, 'state') AS state_, replaceAll(simpleJSONExtractRaw(d, 'quantity'), '"', '') AS quantity_,
            if(any(type) = 'lineitem.mapped', JSONExtractString(d, 'instance_id'), '') AS instance_, JSONExtractString(d, 'series') AS series_,
            JSONExtractString(d, 'start') AS starts_, JSONExtractString(d, 'end') AS ends_
        FROM {{db}}.directory_events
        WHERE type IN ('lineitem.mapped', 'lineitem.changed')
        GROUP BY tenant, source, id
        HAVING sum(sign) > 0
    )
    GROUP BY tenant, activation_id
);
