package audit

import (
	"context"
	"strings"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// directory compares directory_events with the rows of events it is a copy of, tenant by tenant: whatever
// is on one side only is named.
func (r *run) directory(ctx context.Context) error {
	var types []string
	for _, t := range usage.Types() {
		if usage.Directory(t) {
			types = append(types, t)
		}
	}
	const sql = `
SELECT shard, seq, idx, CAST(tenant, 'String'), CAST(source, 'String'), id, countIf(raw), countIf(NOT raw)
FROM
(
    SELECT shard, seq, idx, sign, tenant, source, id, type, CAST(account, 'String') AS account_, at, recorded_at, correlation_id, data, 1 AS raw
    FROM {{db}}.events WHERE meter = '' AND type IN (@types) AND {{upto}} AND {{scope}}
    UNION ALL
    SELECT shard, seq, idx, sign, tenant, source, id, type, account AS account_, at, recorded_at, correlation_id, data, 0 AS raw
    FROM {{db}}.directory_events WHERE {{upto}} AND {{scope}}
)
GROUP BY shard, seq, idx, sign, tenant, source, id, type, account_, at, recorded_at, correlation_id, data
HAVING countIf(raw) != countIf(NOT raw)
ORDER BY shard, seq, idx, sign
LIMIT 1000`
	text := strings.NewReplacer("{{upto}}", upTo(r.shards), "{{scope}}", r.scope("at")).Replace(sql)
	return r.query(ctx, text, append(r.args(), warehouse.Named("types", types)), func(row warehouse.Rows) error {
		d := Difference{Check: CheckDirectory, What: "row of events without the same row of directory_events", Want: "1", Have: "0"}
		var raw, copies uint64
		if err := row.Scan(&d.Shard, &d.Seq, &d.Idx, &d.Tenant, &d.Source, &d.ID, &raw, &copies); err != nil {
			return err
		}
		if copies > raw {
			d.What, d.Want, d.Have = "row of directory_events without the same row of events", "0", "1"
		}
		r.found.add(d)
		return nil
	})
}

// detached names parts that ClickHouse has put aside: rows that were stored and are no longer read.
func (r *run) detached(ctx context.Context) error {
	parts, err := r.wh.Detached(ctx)
	for _, p := range parts {
		r.found.add(Difference{Check: CheckStorage, What: "detached part of " + p.Table, Want: "none", Have: strings.TrimSpace(p.Name + " " + p.Reason)})
	}
	return err
}
