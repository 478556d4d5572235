package warehouse_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestMonthlyIsFilled: a database from before there were monthly partials gets those of its hourly ones, with their
// watermarks, also when the migration dies before each of its statements in turn; never beside an aggregator.
func TestMonthlyIsFilled(t *testing.T) {
	t.Parallel()
	b := &bench{TB: t, ctx: t.Context()}
	whole := setUp(t)
	b.engine, b.db = whole.engine, whole.engine.Database(t)
	b.w = b.open(warehouse.Config{})
	t.Cleanup(func() { dropViews(t, b) })
	of := func(p warehouse.MigrationProgress) bool { return strings.HasPrefix(p.Name, "0009_") }
	if err := b.migrateUntil(of); !errors.Is(err, context.Canceled) {
		t.Fatalf("Migrate up to 0009: %v", err)
	}
	b.query(`INSERT INTO {{db}}.usage_hourly (shard, hi, tenant, account, meter, hour, region, trial, quantity, events, voids, rows, low, high, first_at, last_at)
SELECT number %% 2, 100 + number, 't', concat('a', toString(number %% 7)), 'm', toDateTime64('2026-01-30 00:00:00', 3, 'UTC') + toIntervalHour(number %% 100), 'eu', number %% 3 = 0,
    number, 1, number %% 5 = 0, 1, number, number, toDateTime64('2026-01-30 00:00:00', 3, 'UTC') + toIntervalHour(number %% 100) AS at, at FROM numbers(1000)`)
	const months = `SELECT shard, account, trial, toYYYYMM(%[1]s) AS m, max(hi), sum(quantity), sum(events), sum(voids), sum(rows), min(low), max(high), min(first_at), max(last_at) ` +
		`FROM {{db}}.%[2]s GROUP BY shard, account, trial, m ORDER BY ALL`
	want := b.query(months, "hour", "usage_hourly")

	b.query("INSERT INTO {{db}}.shard_status (shard, at) SELECT 0, now64(3, 'UTC')")
	if err := b.w.Migrate(b.ctx, nil); err == nil || !strings.Contains(err.Error(), "an aggregator is at work: stop it") {
		t.Errorf("Migrate beside an aggregator: %v", err)
	}
	b.query("TRUNCATE TABLE {{db}}.shard_status")
	for stop := 1; ; stop++ {
		err := b.migrateUntil(func(p warehouse.MigrationProgress) bool { return of(p) && p.Statement == stop })
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Migrate stopped before statement %d: %v", stop, err)
		}
	}
	if got := b.query(months, "month", "usage_monthly"); got != want {
		t.Errorf("monthly partials:\n%s\nwant\n%s", got, want)
	}
	b.want("0", "SELECT count() FROM system.tables WHERE database = '{{db}}' AND name = 'usage_monthly_next'")
	if marks := b.takeOver(1).Watermarks()[warehouse.Monthly]; marks[202601] == 0 || marks[202602] != 1099 {
		t.Errorf("watermarks of the monthly partials: %v", marks)
	}
}
