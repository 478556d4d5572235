package oracle

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ClickHouse is the HTTP address of a server, asked as its default user.
type ClickHouse string

// Stream answers a query as the server sends it.
func (c ClickHouse) Stream(ctx context.Context, sql string) (io.ReadCloser, error) {
	// The whole answer is made before the first byte leaves, so that an error is one.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(c)+"/?wait_end_of_query=1", strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	req.Close = true // none must linger into a kill
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask ClickHouse: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		why, _ := io.ReadAll(io.LimitReader(res.Body, 4096)) // the status is the error
		return nil, fmt.Errorf("ask ClickHouse: %s: %s", sql, strings.TrimSpace(string(why)))
	}
	return res.Body, nil
}

// Rows answers a query as rows of text.
func (c ClickHouse) Rows(ctx context.Context, sql string) ([][]string, error) {
	body, err := c.Stream(ctx, sql+" FORMAT TSV")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("ask ClickHouse: %w", err)
	}
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows, nil
}

// Numbers answers a query of one row of whole numbers.
func (c ClickHouse) Numbers(ctx context.Context, sql string) ([]int64, error) {
	rows, err := c.Rows(ctx, sql)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("%s: %d rows, want 1", sql, len(rows))
	}
	numbers := make([]int64, len(rows[0]))
	for i, text := range rows[0] {
		if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, fmt.Errorf("%s: %w", sql, err)
		}
	}
	return numbers, nil
}

// checkRaw compares the sums over raw rows with the oracle's (X).
func checkRaw(ctx context.Context, ch ClickHouse, db string, want map[cell]total, r *Result) error {
	return compare(ctx, ch, "raw rows", `SELECT tenant, meter, if(pieces > 0, -1, toInt64(toStartOfHour(at))) AS hour,
		toString(sum(toDecimal256(quantity, 9) * sign)), sum(toInt64(sign)) FROM `+db+`.events WHERE meter != '' GROUP BY tenant, meter, hour`, want, r)
}

// checkRollup compares the rollups with the oracle's sums (X). All usage of a meter that spans hours is
// compared as one total: see cell. Months are sums of the hours in them.
func checkRollup(ctx context.Context, ch ClickHouse, db string, want map[cell]total, r *Result) error {
	spans := map[string]bool{}
	for c := range want {
		if c.hour == spread {
			spans["'"+c.meter+"'"] = true
		}
	}
	list := strings.Join(append(sortedKeys(spans), "''"), ", ")
	months := map[cell]total{}
	for c, t := range want {
		if c.hour != spread {
			at := time.Unix(c.hour, 0).UTC()
			c.hour = time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC).Unix()
		}
		m, known := months[c]
		if !known {
			m.nanos = new(big.Int)
		}
		m.nanos.Add(m.nanos, t.nanos)
		m.events += t.events
		months[c] = m
	}
	if err := compare(ctx, ch, "monthly rollup", `SELECT tenant, meter, if(meter IN (`+list+`), -1, toInt64(toUnixTimestamp64Milli(month) / 1000)) AS m,
		toString(sum(quantity)), sum(events) FROM `+db+`.usage_monthly GROUP BY tenant, meter, m`, months, r); err != nil {
		return err
	}
	return compare(ctx, ch, "rollup", `SELECT tenant, meter, if(meter IN (`+list+`), -1, toInt64(toUnixTimestamp64Milli(hour) / 1000)) AS h,
		toString(sum(quantity)), sum(events) FROM `+db+`.usage_hourly GROUP BY tenant, meter, h`, want, r)
}

func compare(ctx context.Context, ch ClickHouse, what, sql string, want map[cell]total, r *Result) error {
	rows, err := ch.Rows(ctx, sql)
	if err != nil {
		return err
	}
	left := maps.Clone(want)
	for _, f := range rows {
		hour, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: hour: %w", what, err)
		}
		c := cell{f[0], f[1], hour}
		w, known := left[c]
		if !known {
			w.nanos = new(big.Int)
		}
		delete(left, c)
		if nanos(f[3]).Cmp(w.nanos) != 0 || f[4] != strconv.FormatInt(w.events, 10) {
			r.violate("X: %s of %s %s at %d: %s of %s events, want %s of %d", what, c.tenant, c.meter, c.hour, nanos(f[3]), f[4], w.nanos, w.events)
		}
	}
	for c, w := range left {
		r.violate("X: %s of %s %s at %d is missing, want %s of %d events", what, c.tenant, c.meter, c.hour, w.nanos, w.events)
	}
	return nil
}

// checkLedger is A, and that the ledger, the raw rows, the dead letters and the duplicates tell one story.
func (o *Oracle) checkLedger(ctx context.Context, ch ClickHouse, db string, r *Result) error {
	n, err := ch.Numbers(ctx, `SELECT count(), uniqExact(shard, seq), sum(missing), sum(accepted), sum(stored),
		sum(duplicate), sum(conflict), sum(quarantined), sum(voided), countIf(accepted != stored + duplicate + conflict + quarantined) FROM `+db+`.ledger`)
	if err != nil {
		return err
	}
	count, unique, missing := n[0], n[1], n[2]
	accepted, stored, duplicate, conflict, quarantined, voided, unbalanced := n[3], n[4], n[5], n[6], n[7], n[8], n[9]
	r.Duplicate, r.Conflict = int(duplicate), int(conflict)
	must := func(ok bool, format string, args ...any) {
		if !ok {
			r.violate(format, args...)
		}
	}
	must(unbalanced == 0 && accepted == stored+duplicate+conflict+quarantined, "A: accepted %d, stored %d, duplicate %d, conflict %d, quarantined %d; %d rows do not add up",
		accepted, stored, duplicate, conflict, quarantined, unbalanced)
	must(count == unique && missing == 0, "A: ledger of %d rows, %d sequences, %d missing", count, unique, missing)
	holes, err := ch.Numbers(ctx, `SELECT countIf(shard < 1024 AND (low != 1 OR high != rows)) FROM (SELECT shard, min(seq) AS low, max(seq) AS high, count() AS rows FROM `+db+`.ledger GROUP BY shard)`)
	if err != nil {
		return err
	}
	must(holes[0] == 0, "A: the ledgers of %d partitions do not go from 1 to their end", holes[0])
	must(stored == int64(r.Stored), "A: ledger stored %d, raw rows %d", stored, r.Stored)
	must(voided == int64(r.Voided), "A: ledger voided %d, negated rows %d", voided, r.Voided)
	must(accepted >= int64(o.acked), "D: %d events were acknowledged, the ledger accepted %d", o.acked, accepted)
	must(conflict >= int64(len(o.conflictsAcked)) && (conflict == 0 || o.conflictsSent > 0), "A: %d conflicts, sent %d, different ones acknowledged %d", conflict, o.conflictsSent, len(o.conflictsAcked))
	must(quarantined >= int64(o.poisonAcked) && (quarantined == 0 || o.poisonSent > 0), "A: %d quarantined, sent %d, acknowledged %d", quarantined, o.poisonSent, o.poisonAcked)

	if n, err = ch.Numbers(ctx, `SELECT countIf(reason = 'conflict'), countIf(reason != 'conflict'), count() - uniqExact(shard, seq, idx) FROM `+db+`.dead_letters`); err != nil {
		return err
	}
	must(n[0] == conflict && n[1] == quarantined && n[2] == 0, "A: dead letters: %d conflicts, %d others, %d doubled; the ledger says %d and %d", n[0], n[1], n[2], conflict, quarantined)
	if n, err = ch.Numbers(ctx, `SELECT sum(n), count() - uniqExact(shard, seq, idx) FROM `+db+`.duplicates`); err != nil {
		return err
	}
	must(n[0] == duplicate && n[1] == 0, "A: duplicates: %d, %d rows doubled; the ledger says %d", n[0], n[1], duplicate)
	if n, err = ch.Numbers(ctx, `SELECT (SELECT sum(rows) FROM `+db+`.usage_hourly), (SELECT sum(rows) FROM `+db+`.usage_monthly), (SELECT count() FROM `+db+`.pieces) + (SELECT countIf(pieces < 2) FROM `+db+`.events WHERE meter != ''),
		(SELECT uniqExact(tenant, source, id, piece, sign) FROM `+db+`.pieces) - (SELECT count() FROM `+db+`.pieces)`); err != nil {
		return err
	}
	must(n[0] == n[2] && n[1] == n[2] && n[3] == 0, "X: the rollups were made of %d and %d rows, there are %d; pieces doubled: %d", n[0], n[1], n[2], -n[3])
	if n, err = ch.Numbers(ctx, `SELECT count() FROM system.detached_parts WHERE database = '`+db+`'`); err != nil {
		return err
	}
	must(n[0] == 0, "D: %d parts are detached: damaged", n[0])
	return nil
}

func sortedKeys(m map[string]bool) []string {
	return slices.Sorted(maps.Keys(m))
}
