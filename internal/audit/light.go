package audit

import (
	"context"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Light compares the tables with each other without reading the log: the ledger's identity and its holes,
// raw rows with the ledger's stored and voided, rollup rows with raw rows. It answers how many events the
// tables cannot account for, by tenant; "" are holes, which nobody can be named for. Every tenant that has
// a ledger row is in the answer. It reads a few narrow columns: 0.36 s of CPU for
// 1.6 million rows, and in proportion.
func (a *Auditor) Light(ctx context.Context) (map[string]uint64, error) {
	r := &run{Auditor: a, Options: Options{Settle: settleWait}, found: newFindings(""), months: newMonths()}
	var err error
	if r.shards, err = r.readShards(ctx); err != nil {
		return nil, fmt.Errorf("light audit: %w", err)
	}
	off := map[string]uint64{}
	if err := r.lightLedger(ctx, off); err != nil {
		return nil, fmt.Errorf("light audit: ledger: %w", err)
	}
	if err := r.lightRollups(ctx, func(k rollupKey, _ string, n uint64) { off[k.tenant] += n }); err != nil {
		return nil, fmt.Errorf("light audit: %w", err)
	}
	return off, nil
}

// lightRollups compares the sums of both rollups with those of raw rows, and gives off what differs, and by how
// many rows: one at least.
func (r *run) lightRollups(ctx context.Context, off func(k rollupKey, what string, n uint64)) error {
	for _, table := range rollups() {
		c := comparison{run: r, rollup: table}
		raw, sums, err := c.read(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", table.table, err)
		}
		for k, s := range raw {
			if h := sums[k]; h == nil || s.rows != h.rows || s.events != h.events || s.voids != h.voids || s.quantity != h.quantity {
				off(k, "raw rows and "+table.table+" differ", max(1, s.apart(h)))
			}
		}
		for k, h := range sums {
			if raw[k] == nil {
				off(k, table.table+" without raw rows", max(1, h.rows))
			}
		}
	}
	return nil
}

// apart is by how many rows two sums differ.
func (s *rollupSum) apart(o *rollupSum) uint64 {
	if o == nil {
		return s.rows
	}
	return distance(s.rows, o.rows)
}

func distance(a, b uint64) uint64 {
	if a > b {
		return a - b
	}
	return b - a
}

// holes counts the messages that the ledger has not, has twice, or knows to be missing.
func (r *run) holes(ctx context.Context) (n uint64, err error) {
	const sql = `
SELECT sum(n) FROM
(
    SELECT toUInt64(max(seq) - if(shard < 1024, 0, min(seq) - 1) + count() - 2 * uniqExact(seq) + countIf(missing > 0)) AS n
    FROM {{db}}.ledger GROUP BY shard
)`
	err = r.query(ctx, sql, nil, func(row warehouse.Rows) error { return row.Scan(&n) })
	return n, err
}

// lightLedger checks the ledger against itself and against the number of raw rows.
func (r *run) lightLedger(ctx context.Context, off map[string]uint64) error {
	type counts struct{ stored, voided uint64 }
	ledger := map[string]counts{}
	const sums = `
SELECT CAST(tenant, 'String') AS tenant_, sum(stored), sum(voided),
    toUInt64(sum(abs(toInt64(accepted) - toInt64(stored) - toInt64(duplicate) - toInt64(conflict) - toInt64(quarantined))))
FROM {{db}}.ledger WHERE `
	err := r.query(ctx, sums+upTo(r.shards)+` GROUP BY tenant`, nil, func(row warehouse.Rows) error {
		var tenant string
		var c counts
		var wrong uint64
		if err := row.Scan(&tenant, &c.stored, &c.voided, &wrong); err != nil {
			return err
		}
		ledger[tenant] = c
		off[tenant] += wrong
		return nil
	})
	if err != nil {
		return err
	}
	n, err := r.holes(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		off[""] += n
	}
	raw := map[string]counts{}
	err = r.query(ctx, `SELECT CAST(tenant, 'String') AS tenant_, countIf(sign = 1), countIf(sign = -1) FROM {{db}}.events WHERE `+
		upTo(r.shards)+` GROUP BY tenant`, nil, func(row warehouse.Rows) error {
		var tenant string
		var c counts
		if err := row.Scan(&tenant, &c.stored, &c.voided); err != nil {
			return err
		}
		raw[tenant] = c
		return nil
	})
	if err != nil {
		return err
	}
	for tenant, l := range ledger {
		off[tenant] += distance(l.stored, raw[tenant].stored) + distance(l.voided, raw[tenant].voided)
		delete(raw, tenant)
	}
	for tenant, c := range raw {
		off[tenant] += c.stored + c.voided
	}
	detached, err := r.wh.Detached(ctx)
	if n := len(detached); n > 0 {
		off[""] += uint64(n)
	}
	return err
}
