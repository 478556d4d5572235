package warehouse

import (
	"context"
	"fmt"
	"time"
)

// checkWait is how long Check waits for the ledger to pass what it saw in the rollup. A batch takes about
// a second; a month that is still not settled then is named in Pending.
const checkWait = 5 * time.Second

// Difference is a place where the warehouse disagrees with itself: a part was lost, or a row was touched.
type Difference struct {
	What      string // e.g. "events stored"
	Partition string // of the table, where the difference is in one; "" where it is in the whole shard
	Got, Want string
}

// String is one line for a log or a terminal.
func (d Difference) String() string {
	if d.Partition == "" {
		return fmt.Sprintf("%s: %s, want %s", d.What, d.Got, d.Want)
	}
	return fmt.Sprintf("%s in %s: %s, want %s", d.What, d.Partition, d.Got, d.Want)
}

// CheckReport is what Check found.
type CheckReport struct {
	Shard       uint16
	UpTo        uint64
	Differences []Difference
	Pending     []Partition // months whose rollup was ahead of the ledger for all of checkWait: not compared
}

// Check compares the targets of a shard with each other (architecture 3, point 9): loss below the
// watermark, such as a part that ClickHouse detached as broken, cannot heal by itself and must be seen.
// Rows at or below upTo, which must not exceed the shard's progress, are held against the ledger; each
// month of the rollup, whenever it was written, against the rows it was made of. Safe beside a writer.
func (w *Warehouse) Check(ctx context.Context, shard uint16, upTo uint64) (CheckReport, error) {
	report := CheckReport{Shard: shard, UpTo: upTo}
	for _, check := range []func(context.Context, *CheckReport) error{w.checkLedger, w.checkRollup, w.checkParts} {
		if err := check(ctx, &report); err != nil {
			return report, fmt.Errorf("check shard %d up to %d: %w", shard, upTo, err)
		}
	}
	return report, nil
}

// checkLedger holds the rows of the other targets against what the ledger says of their messages.
func (w *Warehouse) checkLedger(ctx context.Context, report *CheckReport) error {
	const sql = `
SELECT what, toString(got), toString(want)
FROM
(
    WITH
        (
            SELECT (count(), sum(stored), sum(voided), sum(toUInt64(conflict) + quarantined), sum(duplicate),
                countIf(accepted != toUInt64(stored) + duplicate + conflict + quarantined), if(count() = 0, 0, max(seq) - min(seq) + 1), uniqExact(seq))
            FROM {{db}}.ledger WHERE shard = @shard AND seq <= @upto
        ) AS l,
        (SELECT (countIf(sign = 1), countIf(sign = -1)) FROM {{db}}.events WHERE shard = @shard AND seq <= @upto) AS e,
        (SELECT count() FROM {{db}}.dead_letters WHERE shard = @shard AND seq <= @upto) AS d,
        (SELECT sum(n) FROM {{db}}.duplicates WHERE shard = @shard AND seq <= @upto) AS r
    SELECT arrayJoin([
        ('messages in the ledger without gaps', tupleElement(l, 1), toUInt64(tupleElement(l, 7))),
        ('messages in the ledger, each once', tupleElement(l, 1), tupleElement(l, 8)),
        ('messages whose accounting does not add up', tupleElement(l, 6), toUInt64(0)),
        ('events stored', tupleElement(e, 1), tupleElement(l, 2)),
        ('events voided', tupleElement(e, 2), tupleElement(l, 3)),
        ('dead letters', d, tupleElement(l, 4)),
        ('duplicates', r, tupleElement(l, 5))]) AS pair,
        tupleElement(pair, 1) AS what, tupleElement(pair, 2) AS got, tupleElement(pair, 3) AS want
)
WHERE got != want`
	return w.Query(ctx, sql, []any{named("shard", report.Shard), named("upto", report.UpTo)}, func(r Rows) error {
		var d Difference
		if err := r.Scan(&d.What, &d.Got, &d.Want); err != nil {
			return err
		}
		report.Differences = append(report.Differences, d)
		return nil
	})
}

// month is one partition of the rollup, or of the rows behind it.
type month struct {
	partition Partition
	high      uint64 // of the rollup: highest seq in it
	rows      uint64
	events    int64
	quantity  string
}

// checkRollup compares month by month. One query sees one state of the rollup's partition, and its
// highest position says which messages are in it, because a block enters a partition at once; when the
// ledger has passed that position, all raw rows up to it are there too.
func (w *Warehouse) checkRollup(ctx context.Context, report *CheckReport) error {
	const rollup = `
SELECT _partition_id, max(hi), sum(rows), sum(events), toString(sum(quantity))
FROM {{db}}.usage_hourly
WHERE shard = @shard
GROUP BY _partition_id
ORDER BY _partition_id`
	months, err := Collect(ctx, w, rollup, []any{named("shard", report.Shard)}, func(r Rows, m *month) (err error) {
		var id string
		if err = r.Scan(&id, &m.high, &m.rows, &m.events, &m.quantity); err != nil {
			return err
		}
		m.partition, err = ParsePartition(id)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.settled(ctx, report, &months); err != nil {
		return err
	}
	raw, err := w.rawMonths(ctx, report.Shard, months)
	if err != nil {
		return err
	}
	for _, m := range months {
		behind := raw[m.partition]
		for _, pair := range [][3]string{
			{"rollup rows", fmt.Sprint(m.rows), fmt.Sprint(behind.rows)},
			{"rollup events", fmt.Sprint(m.events), fmt.Sprint(behind.events)},
			{"rollup quantity", m.quantity, behind.quantity},
		} {
			if pair[1] != pair[2] {
				report.Differences = append(report.Differences, Difference{What: pair[0], Partition: m.partition.String(), Got: pair[1], Want: pair[2]})
			}
		}
		delete(raw, m.partition)
	}
	return nil
}

// settled waits until the ledger has passed every month's highest position; what stays ahead is left out.
func (w *Warehouse) settled(ctx context.Context, report *CheckReport, months *[]month) error {
	deadline := time.Now().Add(checkWait)
	for {
		progress, err := w.Progress(ctx, report.Shard)
		if err != nil {
			return err
		}
		var done []month
		var ahead []Partition
		for _, m := range *months {
			if m.high <= progress.Seq {
				done = append(done, m)
			} else {
				ahead = append(ahead, m.partition)
			}
		}
		if len(ahead) == 0 || time.Now().After(deadline) {
			*months, report.Pending = done, ahead
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// rawMonths sums, for each month, the rows that its rollup must have been made of.
func (w *Warehouse) rawMonths(ctx context.Context, shard uint16, months []month) (map[Partition]month, error) {
	raw := make(map[Partition]month)
	ids, highs := make([]string, 0, len(months)), make([]uint64, 0, len(months))
	for _, m := range months {
		raw[m.partition] = month{quantity: "0"}
		ids, highs = append(ids, m.partition.String()), append(highs, m.high)
	}
	if len(months) == 0 {
		return raw, nil
	}
	const sql = `
SELECT month_id, count(), toInt64(sum(n)), toString(sum(toDecimal256(quantity, 9) * sign))
FROM
(
    SELECT _partition_id AS month_id, seq, sign, quantity, sign AS n
    FROM {{db}}.events
    WHERE shard = @shard AND meter != '' AND pieces <= 1
    UNION ALL
    SELECT _partition_id AS month_id, seq, sign, quantity, CAST(if(piece = 0, sign, 0), 'Int8') AS n
    FROM {{db}}.pieces
    WHERE shard = @shard
)
WHERE has(@ids, month_id) AND seq <= arrayElement(@highs, indexOf(@ids, month_id))
GROUP BY month_id`
	args := []any{named("shard", shard), named("ids", ids), named("highs", highs)}
	err := w.Query(ctx, sql, args, func(r Rows) error {
		var id string
		var m month
		if err := r.Scan(&id, &m.rows, &m.events, &m.quantity); err != nil {
			return err
		}
		p, err := ParsePartition(id)
		raw[p] = m
		return err
	})
	return raw, err
}

// checkParts lists parts that ClickHouse has put aside, of any shard: a part does not say whose it was.
func (w *Warehouse) checkParts(ctx context.Context, report *CheckReport) error {
	const sql = `
SELECT concat('part ', name, ' of ', table, ' was detached'), ifNull(reason, '')
FROM system.detached_parts
WHERE database = @db
ORDER BY table, name`
	return w.Query(ctx, sql, []any{named("db", w.db)}, func(r Rows) error {
		d := Difference{Want: "none detached"}
		if err := r.Scan(&d.What, &d.Got); err != nil {
			return err
		}
		report.Differences = append(report.Differences, d)
		return nil
	})
}
