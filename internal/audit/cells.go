package audit

import (
	"context"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// total is an exact sum of decimals, in billionths.
type total struct{ n big.Int }

func (t *total) add(text string) {
	whole, frac, _ := strings.Cut(text, ".")
	frac = (frac + "000000000")[:9]
	var v big.Int
	if _, ok := v.SetString(whole+frac, 10); ok {
		t.n.Add(&t.n, &v)
	}
}

// String is the shortest exact decimal.
func (t *total) String() string {
	digits := new(big.Int).Abs(&t.n).String()
	for len(digits) < 10 {
		digits = "0" + digits
	}
	text := digits[:len(digits)-9]
	if frac := strings.TrimRight(digits[len(digits)-9:], "0"); frac != "" {
		text += "." + frac
	}
	if t.n.Sign() < 0 {
		return "-" + text
	}
	return text
}

// Both sides of one tenant, month, meter and shard, cell by cell; what differs is left. Cells that were
// reached by a later batch since the sums were read are not judged.
const cellRows = `
SELECT CAST(account, 'String') AS account_, slot_, CAST(region, 'String') AS region_, CAST(platform, 'String') AS platform_, trial,
    CAST(plan, 'String') AS plan_, [toString(sum(raw_quantity)), toString(sum(raw_events)), toString(sum(raw_voids)), toString(sum(raw_rows))] AS a,
    [toString(sum(cell_quantity)), toString(sum(cell_events)), toString(sum(cell_voids)), toString(sum(cell_rows))] AS b
FROM
(
    SELECT account, slot_, region, platform, trial, plan, toDecimal256(quantity, 9) * toInt256(sign) AS raw_quantity, events AS raw_events,
        toUInt64(sign = -1) AS raw_voids, toUInt64(1) AS raw_rows,
        toDecimal256(0, 9) AS cell_quantity, toInt64(0) AS cell_events, toUInt64(0) AS cell_voids, toUInt64(0) AS cell_rows, toUInt64(0) AS hi
    FROM (` + contributions + `) WHERE {{settled}}
    UNION ALL
    SELECT account, slot_, region, platform, trial, plan, toDecimal256(0, 9), toInt64(0), toUInt64(0), toUInt64(0), quantity, events, voids, rows, hi
    FROM
    (
        SELECT tenant, meter, shard, account, {{slot}} AS slot_, region, platform, trial, plan, quantity,
            events, voids, rows, hi
        FROM {{db}}.{{rollup}} WHERE {{rollup_scope}}
    )
    WHERE {{settled}}
)
GROUP BY account, slot_, region, platform, trial, plan
HAVING a != b AND max(hi) <= {{hi}}
ORDER BY slot_, account_, region_, platform_, trial, plan_
LIMIT 101`

var cellCounts = [...]string{"quantity", "events", "voids", "rows"}

// cells names the cells of a rollup that differ.
func (c *comparison) cells(ctx context.Context, k rollupKey, raw, sums *rollupSum) error {
	d := Difference{Check: CheckRollup, Tenant: k.tenant, Month: monthText(k.month), Shard: k.shard}
	if c.found.full(CheckRollup) {
		d.Cell, d.What = "meter "+k.meter, c.table+" differs from raw rows"
		c.found.add(d)
		return nil
	}
	month := " AND toYYYYMM({{time}}) = " + strconv.FormatUint(uint64(k.month), 10)
	keyed := " AND tenant = @cell_tenant AND meter = @cell_meter AND shard = " + strconv.Itoa(int(k.shard)) + month
	hi := c.progress(k.shard)
	for _, m := range c.cuts {
		if m.month == k.month && m.shard == k.shard {
			hi = max(hi, m.hi)
		}
	}
	sql := strings.NewReplacer("{{hi}}", strconv.FormatUint(hi, 10),
		"{{raw_scope}}", "{{raw_scope}}"+strings.ReplaceAll(keyed, "{{time}}", "at"),
		"{{rollup_scope}}", "{{rollup_scope}}"+strings.ReplaceAll(keyed, "{{time}}", c.at)).Replace(cellRows)
	args := append(c.args(), warehouse.Named("cell_tenant", k.tenant), warehouse.Named("cell_meter", k.meter))
	named := false
	err := c.query(ctx, c.complete(sql), args, func(row warehouse.Rows) error {
		var account, region, platform, plan string
		var slot int64
		var trial bool
		var want, have []string
		if err := row.Scan(&account, &slot, &region, &platform, &trial, &plan, &want, &have); err != nil {
			return err
		}
		named = true
		d.Cell = c.cellText(k.meter, account, slot, region, platform, trial, plan)
		for i, name := range cellCounts {
			if want[i] != have[i] {
				d.What, d.Want, d.Have = name+" of "+c.table+" against raw rows", want[i], have[i]
				break
			}
		}
		c.found.add(d)
		return nil
	})
	if err != nil || named {
		return err
	}
	d.Cell, d.What, d.Want, d.Have = "meter "+k.meter, "sums of "+c.table+" against raw rows", sumText(raw), sumText(sums)
	c.found.add(d)
	return nil
}

func sumText(s *rollupSum) string {
	if s == nil {
		return "no rows"
	}
	return fmt.Sprintf("quantity %s, events %d, voids %d, rows %d", s.quantity, s.events, s.voids, s.rows)
}

func (r rollup) cellText(meter, account string, slot int64, region, platform string, trial bool, plan string) string {
	return fmt.Sprintf("meter %s, account %s, %s, region %s, platform %s, trial %t, plan %s",
		meter, account, r.text(slot), region, platform, trial, plan)
}

// Minima and maxima hold where nothing of the cell was voided. Cells that a batch in flight has reached are
// not judged.
const extremeRows = `
SELECT CAST(tenant, 'String') AS tenant_, shard, CAST(meter, 'String') AS meter_, CAST(account, 'String') AS account_, slot_,
    CAST(region, 'String') AS region_, CAST(platform, 'String') AS platform_, trial, CAST(plan, 'String') AS plan_,
    [toString(minIf(low, raw)), toString(maxIf(high, raw)), toString(minIf(first_at, raw)), toString(maxIf(last_at, raw))] AS a,
    [toString(minIf(low, NOT raw)), toString(maxIf(high, NOT raw)), toString(minIf(first_at, NOT raw)), toString(maxIf(last_at, NOT raw))] AS b
FROM
(
    SELECT tenant, shard, meter, account, slot_, region, platform, trial, plan, quantity AS low, quantity AS high, at AS first_at, at AS last_at,
        toUInt64(sign = -1) AS voids, toUInt64(0) AS hi, 1 AS raw
    FROM (` + contributions + `) WHERE {{settled}}
    UNION ALL
    SELECT tenant, shard, meter, account, slot_, region, platform, trial, plan, low, high, first_at, last_at, voids, hi, 0 AS raw
    FROM
    (
        SELECT tenant, shard, meter, account, {{slot}} AS slot_, region, platform, trial, plan, low, high,
            first_at, last_at, voids, hi
        FROM {{db}}.{{rollup}} WHERE {{rollup_scope}}
    )
    WHERE {{settled}}
)
GROUP BY tenant, shard, meter, account, slot_, region, platform, trial, plan
HAVING sum(voids) = 0 AND countIf(raw) > 0 AND countIf(NOT raw) > 0 AND a != b AND max(hi) <= {{progress}}
ORDER BY tenant_, meter_, slot_, account_
LIMIT 1000`

// extremes compares low, high, first_at and last_at of every cell, a month at a time.
func (c *comparison) extremes(ctx context.Context) error {
	seen := map[string]bool{}
	for _, t := range c.months.reports() {
		if seen[t.Month] {
			continue
		}
		seen[t.Month] = true
		n := strings.Replace(t.Month, "-", "", 1)
		sql := strings.NewReplacer("{{raw_scope}}", "{{raw_scope}} AND toYYYYMM(at) = "+n,
			"{{rollup_scope}}", "{{rollup_scope}} AND toYYYYMM({{rollup_at}}) = "+n, "{{progress}}", progressOf(c.shards)).Replace(extremeRows)
		err := c.query(ctx, c.complete(sql), c.args(), func(row warehouse.Rows) error {
			d := Difference{Check: CheckRollup, Month: t.Month}
			var meter, account, region, platform, plan string
			var slot int64
			var trial bool
			var want, have []string
			if err := row.Scan(&d.Tenant, &d.Shard, &meter, &account, &slot, &region, &platform, &trial, &plan, &want, &have); err != nil {
				return err
			}
			d.Cell, d.What = c.cellText(meter, account, slot, region, platform, trial, plan), "low, high, first_at, last_at of "+c.table
			d.Want, d.Have = strings.Join(want, ", "), strings.Join(have, ", ")
			c.found.add(d)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
