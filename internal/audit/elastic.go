package audit

import (
	"context"
	"strings"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// elastic compares the lines of elastic operations with the events they are a copy of, line by line and column by
// column: whatever is on one side only is named. What is compared is read from the events' JSON by ClickHouse, not by
// the code that wrote the lines. It reads a JSON number as a double, so of one with more than fifteen digits only what
// a double keeps is compared; what lines are charged adds up to the quantity of their event in full.
func (r *run) elastic(ctx context.Context) error {
	const sql = `
WITH
    name -> replaceAll(JSONExtractRaw(l, name), '"', '') AS text,
    name -> toDecimal128OrZero(text(name), 9) AS decimal,
    n -> if(length(replaceAll(replaceAll(toString(n), '.', ''), '-', '')) > 15, toString(toFloat64(n)), toString(n)) AS spelled,
    JSONExtractString(l, 'response') = '101' AS granted
SELECT shard, seq, idx, tenant_, source_, id, countIf(raw), countIf(NOT raw)
FROM
(
    SELECT shard, seq, idx, sign, CAST(tenant, 'String') AS tenant_, CAST(source, 'String') AS source_, id, CAST(account, 'String') AS account_, at, recorded_at, correlation_id,
        toUInt32(n - 1) AS line,
        (JSONExtractInt(data, 'source_seq'), JSONExtractString(data, 'operation'), JSONExtractString(data, 'consumer', 'type'), JSONExtractString(data, 'consumer', 'value'),
            JSONExtractString(data, 'instance_id'), JSONExtractString(data, 'session_id'), JSONExtractString(data, 'session_state')) AS operation_,
        (toInt64OrZero(text('line_no')), JSONExtractString(l, 'item'), JSONExtractString(l, 'item_version'), JSONExtractString(l, 'response'),
            if(granted, JSONExtractString(l, 'activation_id'), ''), JSONExtractString(l, 'series'), JSONExtractString(l, 'version'),
            JSONExtractString(l, 'refund_of', 'correlation_id'), toInt64OrZero(replaceAll(JSONExtractRaw(l, 'refund_of', 'line_no'), '"', '')),
            replaceRegexpOne(JSONExtractRaw(l, 'meta_data'), '^null$', '')) AS words,
        (spelled(decimal('item_quantity')), spelled(decimal('meter_cost')), spelled(decimal('meter_quantity')),
            if(granted, spelled(decimal('mapped_entitled_count')), '0'), if(granted, spelled(decimal('used')), '0'),
            toUInt8((text('meter_cost') NOT IN ('', 'null')) + 2 * (granted AND text('mapped_entitled_count') NOT IN ('', 'null')) + 4 * (granted AND text('used') NOT IN ('', 'null')))) AS numbers,
        1 AS raw
    FROM {{db}}.events
    ARRAY JOIN JSONExtractArrayRaw(data, 'lines') AS l, arrayEnumerate(JSONExtractArrayRaw(data, 'lines')) AS n
    WHERE type = 'elastic.operation' AND meter IN ('', 'elastic token') AND {{upto}} AND {{scope}}
    UNION ALL
    SELECT shard, seq, idx, sign, CAST(tenant, 'String') AS tenant_, CAST(source, 'String') AS source_, id, account AS account_, at, recorded_at, correlation_id,
        line,
        (source_seq, CAST(operation, 'String'), CAST(consumer_type, 'String'), consumer_id, instance_id, session_id, CAST(session_state, 'String')) AS operation_,
        (line_no, CAST(item, 'String'), CAST(item_version, 'String'), CAST(response, 'String'), activation_id, CAST(series, 'String'), CAST(version, 'String'),
            refund_correlation_id, refund_line_no, replaceRegexpOne(JSONExtractRaw(meta_data), '^null$', '')) AS words,
        (spelled(item_quantity), spelled(meter_cost), spelled(meter_quantity), spelled(mapped_entitled_count), spelled(used), given) AS numbers,
        0 AS raw
    FROM {{db}}.elastic_lines
    WHERE {{upto}} AND {{scope}}
    UNION ALL
    SELECT shard, seq, idx, sign, CAST(tenant, 'String') AS tenant_, CAST(source, 'String') AS source_, id, '', at, toDateTime64(0, 3, 'UTC'), '', toUInt32(4294967295),
        (toInt64(0), '', '', '', '', '', ''), (toInt64(0), '', '', '', '', '', '', '', toInt64(0), ''), (toString(quantity), '', '', '', '', toUInt8(0)), 1
    FROM {{db}}.events
    WHERE type = 'elastic.operation' AND meter IN ('', 'elastic token') AND {{upto}} AND {{scope}}
    UNION ALL
    SELECT shard, seq, idx, sign, CAST(tenant, 'String') AS tenant_, CAST(source, 'String') AS source_, id, '', at, toDateTime64(0, 3, 'UTC'), '', toUInt32(4294967295),
        (toInt64(0), '', '', '', '', '', ''), (toInt64(0), '', '', '', '', '', '', '', toInt64(0), ''),
        (toString(sum(toDecimal256(meter_quantity, 9))), '', '', '', '', toUInt8(0)), 0
    FROM {{db}}.elastic_lines
    WHERE {{upto}} AND {{scope}}
    GROUP BY shard, seq, idx, sign, tenant, source, id, at
)
GROUP BY shard, seq, idx, sign, tenant_, source_, id, account_, at, recorded_at, correlation_id, line, operation_, words, numbers
HAVING countIf(raw) != countIf(NOT raw)
ORDER BY shard, seq, idx, sign, line
LIMIT 1000`
	text := strings.NewReplacer("{{upto}}", upTo(r.shards), "{{scope}}", r.scope("at")).Replace(sql)
	return r.query(ctx, text, r.args(), func(row warehouse.Rows) error {
		d := Difference{Check: CheckElastic, What: "line of an elastic operation without its row of elastic_lines", Want: "1", Have: "0"}
		var raw, copies uint64
		if err := row.Scan(&d.Shard, &d.Seq, &d.Idx, &d.Tenant, &d.Source, &d.ID, &raw, &copies); err != nil {
			return err
		}
		if copies > raw {
			d.What, d.Want, d.Have = "row of elastic_lines without the line of its event", "0", "1"
		}
		r.found.add(d)
		return nil
	})
}
