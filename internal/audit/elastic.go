package audit

import (
	"context"
	"strings"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// elastic compares the lines of elastic operations with the events they are a copy of, line by line: whatever is
// on one side only is named. What is compared is read from the events' JSON by ClickHouse, not by the code that
// wrote the lines.
func (r *run) elastic(ctx context.Context) error {
	const sql = `
WITH
    name -> replaceAll(JSONExtractRaw(l, name), '"', '') AS text,
    name -> toDecimal128OrZero(text(name), 9) AS decimal,
    JSONExtractString(l, 'response') = '101' AS granted
SELECT shard, seq, idx, tenant_, source_, id, countIf(raw), countIf(NOT raw)
FROM
(
    SELECT shard, seq, idx, sign, CAST(tenant, 'String') AS tenant_, CAST(source, 'String') AS source_, id, CAST(account, 'String') AS account_, at, recorded_at, correlation_id,
        JSONExtractString(data, 'instance_id') AS instance, JSONExtractString(data, 'session_id') AS session, JSONExtractString(data, 'session_state') AS state,
        toUInt32(n - 1) AS line, toInt64OrZero(text('line_no')) AS line_no, JSONExtractString(l, 'item') AS item_, JSONExtractString(l, 'response') AS response_,
        if(granted, JSONExtractString(l, 'activation_id'), '') AS activation, decimal('item_quantity') AS item_quantity_, decimal('meter_cost') AS cost,
        decimal('meter_quantity') AS charged, JSONExtractString(l, 'series') AS series_, JSONExtractString(l, 'version') AS version_, 1 AS raw
    FROM {{db}}.events
    ARRAY JOIN JSONExtractArrayRaw(data, 'lines') AS l, arrayEnumerate(JSONExtractArrayRaw(data, 'lines')) AS n
    WHERE type = 'elastic.operation' AND meter IN ('', 'elastic token') AND {{upto}} AND {{scope}}
    UNION ALL
    SELECT shard, seq, idx, sign, CAST(tenant, 'String') AS tenant_, CAST(source, 'String') AS source_, id, account AS account_, at, recorded_at, correlation_id,
        instance_id AS instance, session_id AS session, CAST(session_state, 'String') AS state, line, line_no, CAST(item, 'String') AS item_,
        CAST(response, 'String') AS response_, activation_id AS activation, item_quantity AS item_quantity_, meter_cost AS cost, meter_quantity AS charged,
        CAST(series, 'String') AS series_, CAST(version, 'String') AS version_, 0 AS raw
    FROM {{db}}.elastic_lines
    WHERE {{upto}} AND {{scope}}
)
GROUP BY shard, seq, idx, sign, tenant_, source_, id, account_, at, recorded_at, correlation_id, instance, session, state, line, line_no, item_, response_, activation,
    item_quantity_, cost, charged, series_, version_
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
