package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Raw rows against rollups. Both sides are summed by tenant, month, meter and shard; beside the plain sums
// each has a sketch: the sum of every count times the hash of its cell (account, hour, region, platform,
// trial, plan). Sketches are linear, so they can be computed over rows and over partial sums alike, and
// they differ, up to a chance of 2^-64, as soon as one cell does. Only then cells are grouped and named.

// rollup is a table of partials: how long its cells are, and the number that names a cell's time.
type rollup struct {
	table, at string // its name, and the column of a cell's first instant
	slot      string // the number of the instant {{at}}: hours since the epoch, or YYYYMM
	sketch    int    // which of the sketches of raw rows is of its cells
	text      func(slot int64) string
}

func rollups() [sketches]rollup {
	return [...]rollup{
		{table: "usage_hourly", at: "hour", slot: "intDiv(toUnixTimestamp64Milli({{at}}), 3600000)", sketch: 0,
			text: func(slot int64) string { return "hour " + instantText(slot*3_600_000) }},
		{table: "usage_monthly", at: "month", slot: "toInt64(toYYYYMM({{at}}))", sketch: 1,
			text: func(slot int64) string { return "month " + monthText(uint32(slot)) }},
	}
}

// sketches of raw rows: one for the cells of each rollup, read at once.
const sketches = 2

// rollupKey is a row of the comparison.
type rollupKey struct {
	tenant string
	month  uint32 // YYYYMM
	meter  string
	shard  uint16
}

// rollupSum is one side of it.
type rollupSum struct {
	hi                           uint64 // of the rollup: highest sequence in it
	quantity                     string // exact, signed
	events                       int64
	voids, rows                  uint64
	quantitySketch, countsSketch [sketches]string
}

// same compares raw rows with a rollup, by the sketch of its cells.
func (s *rollupSum) same(o *rollupSum, sketch int) bool {
	return s.quantity == o.quantity && s.events == o.events && s.voids == o.voids && s.rows == o.rows &&
		s.quantitySketch[sketch] == o.quantitySketch[sketch] && s.countsSketch[sketch] == o.countsSketch[sketch]
}

// cellHash is the hash of a cell within tenant and meter.
const cellHash = `cityHash64(account, region, platform, plan, trial, {{cell_slot}})`

// contributions is what raw rows and pieces add to the rollups.
const contributions = `
    SELECT tenant, toYYYYMM(at) AS month, meter, shard, account, region, platform, plan, trial, at, quantity,
        {{slot_of_at}} AS slot_, sign, toInt64(sign) AS events
    FROM {{db}}.events WHERE meter != '' AND pieces < 2 AND {{raw_scope}} AND seq <= {{raw_cut}}
    UNION ALL
    SELECT tenant, toYYYYMM(at) AS month, meter, shard, account, region, platform, plan, trial, at, quantity,
        {{slot_of_at}} AS slot_, sign, if(piece = 0, toInt64(sign), toInt64(0)) AS events
    FROM {{db}}.pieces WHERE {{raw_scope}} AND seq <= {{raw_cut}}`

const rawSums = `
SELECT CAST(tenant, 'String') AS tenant_, month, CAST(meter, 'String') AS meter_, shard, toUInt64(0),
    toString(sum(toDecimal256(quantity, 9) * toInt256(sign))), sum(events), countIf(sign = -1), count(),
    {{raw_sketches}}
FROM (SELECT tenant, month, meter, shard, quantity, sign, events{{raw_cells}} FROM (` + contributions + `) WHERE {{settled}})
GROUP BY tenant, month, meter, shard`

const rawSketch = `toString(sum(toInt256(cell_{{n}}) * toInt256(reinterpretAsInt128(quantity)) * toInt256(sign))),
    toString(sum(toInt256(cell_{{n}}) * (toInt256(events) + 1000003 * toInt256(sign = -1) + 1000000007)))`

const rollupSums = `
SELECT CAST(tenant, 'String') AS tenant_, month_, CAST(meter, 'String') AS meter_, shard, max(hi),
    toString(sum(quantity)), sum(events), sum(voids), sum(rows), {{rollup_sketch}}
FROM
(
    SELECT tenant, toYYYYMM({{rollup_at}}) AS month_, meter, shard, hi, quantity, events, voids, rows, {{rollup_cell}} AS cell
    FROM (SELECT tenant, {{rollup_at}}, meter, shard, hi, quantity, events, voids, rows, account, region, platform, plan, trial,
        {{slot}} AS slot_ FROM {{db}}.{{rollup}} WHERE {{rollup_scope}})
    WHERE {{settled}}
)
GROUP BY tenant, month_, meter, shard`

const rollupSketch = `toString(sum(toInt256(cell) * reinterpretAsInt256(quantity))),
    toString(sum(toInt256(cell) * (toInt256(events) + 1000003 * toInt256(voids) + 1000000007 * toInt256(rows))))`

// inFlightCells are the cells that a batch has reached and not committed.
const inFlightCells = `(tenant, meter, shard, account, region, platform, plan, trial, slot_) NOT IN
    (SELECT tenant, meter, shard, account, region, platform, plan, trial, {{slot}}
    FROM {{db}}.{{rollup}} WHERE hi > {{progress}})`

// comparison is one reading of both sides.
type comparison struct {
	*run
	rollup
	shards    []shard           // as they were when this reading began
	cuts      []monthCut        // where the rollup of a month is ahead of its shard's progress
	unsettled map[uint16]uint64 // shards whose cells in flight are left out
	sketches  bool
}

// monthCut says that the rollup of a month holds a shard's rows up to hi: parts are whole batches, so it
// holds all of them.
type monthCut struct {
	month uint32
	shard uint16
	hi    uint64
}

func (r *run) rollups(ctx context.Context) error {
	if err := r.rawRows(ctx); err != nil {
		return err
	}
	for _, table := range rollups() {
		if err := r.compare(ctx, table); err != nil {
			return fmt.Errorf("%s: %w", table.table, err)
		}
	}
	return nil
}

func (r *run) compare(ctx context.Context, table rollup) error {
	c := comparison{run: r, rollup: table, sketches: true}
	raw, sums, err := c.read(ctx)
	if err != nil {
		return err
	}
	if table.sketch == 0 {
		r.quantities(raw, sums)
	}
	keys := map[rollupKey]struct{}{}
	for k := range raw {
		keys[k] = struct{}{}
	}
	for k := range sums {
		keys[k] = struct{}{}
	}
	for _, k := range sortedRollups(keys) {
		a, b := raw[k], sums[k]
		if a != nil && b != nil && a.same(b, table.sketch) {
			continue
		}
		if err := c.cells(ctx, k, a, b); err != nil {
			return err
		}
	}
	if r.Full {
		return c.extremes(ctx)
	}
	return nil
}

// settleTries bounds how often a reading is begun anew because a batch moved while it was made.
const settleTries = 10

// read sums both sides at the same position. A rollup may already hold rows of a batch whose ledger row is
// still to come, merged with older ones: then the raw side is read at the position the rollup has reached,
// as soon as progress covers it. A batch that does not arrive leaves out the cells it touched.
func (c *comparison) read(ctx context.Context) (raw, sums map[rollupKey]*rollupSum, err error) {
	for range settleTries {
		c.cuts, c.unsettled = nil, nil
		if c.shards, err = c.readShards(ctx); err != nil {
			return nil, nil, err
		}
		if sums, err = c.sums(ctx, rollupSums); err != nil {
			return nil, nil, err
		}
		ahead := c.ahead(sums)
		settled, err := c.await(ctx, ahead)
		if err != nil {
			return nil, nil, err
		}
		if settled {
			raw, err = c.raw(ctx)
			return raw, sums, err
		}
		raw, sums, settled, err = c.aside(ctx, ahead)
		if err != nil || settled {
			return raw, sums, err
		}
	}
	return nil, nil, fmt.Errorf("rollups did not settle in %d tries; audit again", settleTries)
}

// ahead notes the months whose rollup is ahead of progress, and answers how far by shard.
func (c *comparison) ahead(sums map[rollupKey]*rollupSum) map[uint16]uint64 {
	reached := map[uint16]uint64{}
	byMonth := map[[2]uint32]uint64{}
	for k, s := range sums {
		if s.hi <= c.progress(k.shard) {
			continue
		}
		reached[k.shard] = max(reached[k.shard], s.hi)
		m := [2]uint32{k.month, uint32(k.shard)}
		byMonth[m] = max(byMonth[m], s.hi)
	}
	for m, hi := range byMonth {
		c.cuts = append(c.cuts, monthCut{m[0], uint16(m[1]), hi})
	}
	slices.SortFunc(c.cuts, func(a, b monthCut) int { return cmp.Or(cmp.Compare(a.shard, b.shard), cmp.Compare(a.month, b.month)) })
	return reached
}

// progress is a shard's when this reading began; 0 for one without a ledger.
func (c *comparison) progress(number uint16) uint64 {
	for i := range c.shards {
		if c.shards[i].number == number {
			return c.shards[i].progress
		}
	}
	return 0
}

// aside reads both sides without the cells that a batch in flight has reached. It does not hold if
// anything of the rollups in flight moved meanwhile.
func (c *comparison) aside(ctx context.Context, ahead map[uint16]uint64) (raw, sums map[rollupKey]*rollupSum, held bool, err error) {
	c.cuts, c.unsettled = nil, ahead
	before, err := c.inFlight(ctx)
	if err != nil {
		return nil, nil, false, err
	}
	if sums, err = c.sums(ctx, rollupSums); err != nil {
		return nil, nil, false, err
	}
	if raw, err = c.raw(ctx); err != nil {
		return nil, nil, false, err
	}
	after, err := c.inFlight(ctx)
	if err != nil || before != after {
		return nil, nil, false, err
	}
	for i := range c.reports {
		if _, ok := ahead[c.reports[i].Shard]; ok {
			c.reports[i].InFlight = true
		}
	}
	return raw, sums, true, nil
}

// inFlight tells one state of the rollup cells above progress from another.
func (c *comparison) inFlight(ctx context.Context) (state string, err error) {
	sql := `SELECT toString((count(), sum(rows), max(hi))) FROM {{db}}.` + c.table + ` WHERE hi > ` + progressOf(c.shards)
	err = c.query(ctx, sql, nil, func(row warehouse.Rows) error { return row.Scan(&state) })
	return state, err
}

// await waits until progress covers every shard's position; shards that ended move no more.
func (c *comparison) await(ctx context.Context, ahead map[uint16]uint64) (bool, error) {
	deadline := time.Now().Add(c.Settle)
	for {
		now, err := c.readShards(ctx)
		if err != nil {
			return false, err
		}
		behind := false
		for s, hi := range ahead {
			i := slices.IndexFunc(now, func(x shard) bool { return x.number == s })
			behind = behind || i < 0 || !now[i].ended && now[i].progress < hi
		}
		if !behind {
			return true, nil
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		if err := pause(ctx, settlePoll); err != nil {
			return false, err
		}
	}
}

// raw reads the side of raw rows. Both rollups are compared with the same reading of them where they have
// reached the same position, as they mostly have.
func (c *comparison) raw(ctx context.Context) (map[rollupKey]*rollupSum, error) {
	sql := c.complete(rawSums)
	if sql == c.rawRead {
		return c.rawSums, nil
	}
	sums, err := c.sums(ctx, rawSums)
	if err != nil {
		return nil, err
	}
	c.rawRead, c.rawSums = sql, sums
	return sums, nil
}

// sums reads one side.
func (c *comparison) sums(ctx context.Context, sql string) (map[rollupKey]*rollupSum, error) {
	all := map[rollupKey]*rollupSum{}
	err := c.query(ctx, c.complete(sql), c.args(), func(row warehouse.Rows) error {
		var k rollupKey
		var s rollupSum
		into := []any{&k.tenant, &k.month, &k.meter, &k.shard, &s.hi, &s.quantity, &s.events, &s.voids, &s.rows}
		for n := range sketches {
			if sql == rawSums || n == c.sketch {
				into = append(into, &s.quantitySketch[n], &s.countsSketch[n])
			}
		}
		if err := row.Scan(into...); err != nil {
			return err
		}
		all[k] = &s
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sum: %w", err)
	}
	return all, nil
}

// complete fills in what a statement leaves open.
func (c *comparison) complete(sql string) string {
	var cells string
	var raw []string
	sketch, none := rollupSketch, "'', ''"
	for n, table := range rollups() {
		if !c.sketches {
			raw, sketch = append(raw, none), none
			continue
		}
		number := strconv.Itoa(n)
		cells += ", " + strings.ReplaceAll(cellHash, "{{cell_slot}}", strings.ReplaceAll(table.slot, "{{at}}", "at")) + " AS cell_" + number
		raw = append(raw, strings.ReplaceAll(rawSketch, "{{n}}", number))
	}
	settled := "1"
	if len(c.unsettled) > 0 {
		settled = strings.ReplaceAll(inFlightCells, "{{progress}}", progressOf(c.shards))
	}
	slot := strings.ReplaceAll(c.slot, "{{at}}", "at")
	if sql == rawSums && len(c.unsettled) == 0 {
		slot = "0" // not looked at, and then the statement is the same for both rollups
	}
	sql = strings.NewReplacer("{{raw_sketches}}", strings.Join(raw, ", "), "{{raw_cells}}", cells, "{{rollup_sketch}}", sketch,
		"{{rollup_cell}}", strings.ReplaceAll(cellHash, "{{cell_slot}}", "slot_"), "{{settled}}", settled).Replace(sql)
	return strings.NewReplacer("{{raw_scope}}", c.scope("at"), "{{rollup_scope}}", c.scope(c.at), "{{raw_cut}}", c.cut(),
		"{{slot_of_at}}", slot, "{{slot}}", strings.ReplaceAll(c.slot, "{{at}}", c.at),
		"{{rollup}}", c.table, "{{rollup_at}}", c.at).Replace(sql)
}

// cut is the position up to which a raw row is in the rollups, as an expression over shard and at.
func (c *comparison) cut() string {
	progress := progressOf(c.shards)
	if len(c.cuts) == 0 {
		return progress
	}
	var keys, marks []string
	for _, m := range c.cuts {
		keys = append(keys, strconv.FormatUint(uint64(m.month)<<16|uint64(m.shard), 10))
		marks = append(marks, strconv.FormatUint(m.hi, 10))
	}
	return "transform(toUInt64(toYYYYMM(at)) * 65536 + shard, [" + strings.Join(keys, ", ") + "], [" + strings.Join(marks, ", ") + "], " + progress + ")"
}

// rawRows counts rows by tenant and month for the certificate.
func (r *run) rawRows(ctx context.Context) error {
	sql := `SELECT CAST(tenant, 'String') AS tenant_, toYYYYMM(at), countIf(sign = 1), countIf(sign = -1) FROM {{db}}.events WHERE ` +
		r.scope("at") + " AND " + upTo(r.shards) + ` GROUP BY tenant, toYYYYMM(at)`
	return r.query(ctx, sql, r.args(), func(row warehouse.Rows) error {
		var tenant string
		var month uint32
		var plus, minus uint64
		if err := row.Scan(&tenant, &month, &plus, &minus); err != nil {
			return err
		}
		m, err := monthOf(month)
		if err != nil {
			return err
		}
		t := r.months.get(tenantMonth{tenant, m})
		t.RawRows, t.Voided = plus, minus
		return nil
	})
}

// quantities puts the sums of meters into the certificate.
func (r *run) quantities(raw, hourly map[rollupKey]*rollupSum) {
	type key struct {
		tenant, meter string
		month         uint32
	}
	type both struct{ raw, hourly total }
	sums := map[key]*both{}
	at := func(k rollupKey) *both {
		b := sums[key{k.tenant, k.meter, k.month}]
		if b == nil {
			b = &both{}
			sums[key{k.tenant, k.meter, k.month}] = b
		}
		return b
	}
	for k, s := range raw {
		at(k).raw.add(s.quantity)
	}
	for k, s := range hourly {
		at(k).hourly.add(s.quantity)
	}
	for k, b := range sums {
		m, err := monthOf(k.month)
		if err != nil {
			continue // of a partition that no event can be in; the comparison names it
		}
		t := r.months.get(tenantMonth{k.tenant, m})
		t.Meters = append(t.Meters, MeterQuantity{Meter: k.meter, Raw: b.raw.String(), Rollup: b.hourly.String()})
	}
}

// monthOf reads ClickHouse's YYYYMM.
func monthOf(n uint32) (usage.Month, error) {
	return usage.ParseMonth(fmt.Sprintf("%04d-%02d", n/100, n%100))
}

func monthText(n uint32) string { return fmt.Sprintf("%04d-%02d", n/100, n%100) }

func sortedRollups(m map[rollupKey]struct{}) []rollupKey {
	all := make([]rollupKey, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b rollupKey) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.month, b.month), cmp.Compare(a.meter, b.meter), cmp.Compare(a.shard, b.shard))
	})
	return all
}
