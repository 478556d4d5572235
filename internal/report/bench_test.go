package report_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

// fillMany writes a month of a tenant with the given numbers of accounts, meters and events, straight
// into the tables: every account has a parent, a plan, and one in a hundred changes it within the month.
func (b bench) fillMany(t testing.TB, accounts, meters, events int) {
	t.Helper()
	exec := func(sql string, args ...any) {
		t.Helper()
		sql = strings.ReplaceAll(fmt.Sprintf(sql, args...), "{{db}}", b.W.Database())
		if _, err := b.engine.Query(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO {{db}}.directory_events (shard, seq, idx, sign, tenant, source, id, type, account, at, recorded_at, correlation_id, data)
SELECT 0, 1, number, 1, 'big', 'crm', concat(['c', 'p', 'q'][kind], toString(number)), ['account.created', 'service.plan_set', 'service.plan_set'][kind],
    concat('account-', toString(number)), toDateTime64(if(kind = 3, '2026-03-15 12:20:00', '2026-01-01 00:00:00'), 3, 'UTC'), toDateTime64('2026-04-01 00:00:00', 3, 'UTC'), '',
    [format('{{"name":"Account {0}","kind":"customer","parent_account_id":"{1}"}}', toString(number), if(number = 0, '', concat('account-', toString(intDiv(number - 1, 20))))),
     '{"service":"sta","plan":"STA Basic"}', '{"service":"sta","plan":"STA Premium"}'][kind]
FROM numbers(%d) ARRAY JOIN [1, 2, 3] AS kind
WHERE kind < 3 OR number %% 100 = 0`, accounts)
	exec(`INSERT INTO {{db}}.events (shard, seq, idx, sign, tenant, source, id, id_key, content_hash, type, account, at, recorded_at, meter, quantity, region)
SELECT 0, 1 + intDiv(number, 500), number %% 500, 1, 'big', 'bench', toString(number), 0, 0, 'usage.metered', concat('account-', toString(cityHash64(number, 1) %% %d)),
    toDateTime64('2026-03-01 00:00:00', 3, 'UTC') + toIntervalMillisecond(cityHash64(number, 2) %% (31 * 86400000)), toDateTime64('2026-04-01 00:00:00', 3, 'UTC'),
    concat('meter-', toString(cityHash64(number, 3) %% %d)), toDecimal128(number, 9) / 1000, 'eu'
FROM numbers(%d)`, accounts, meters, events)
	exec(`INSERT INTO {{db}}.usage_hourly (shard, hi, tenant, account, meter, hour, region, platform, trial, plan, quantity, events, voids, rows, low, high, first_at, last_at)
SELECT 0, max(seq), tenant, account, meter, toStartOfHour(at) AS hour, region, platform, trial, plan, sum(toDecimal256(quantity, 9)), count(), 0, count(), min(quantity), max(quantity), min(at), max(at)
FROM {{db}}.events
GROUP BY tenant, account, meter, hour, region, platform, trial, plan`)
	exec(`INSERT INTO {{db}}.usage_monthly (shard, hi, tenant, account, meter, month, region, platform, trial, plan, quantity, events, voids, rows, low, high, first_at, last_at)
SELECT shard, max(hi), tenant, account, meter, toStartOfMonth(hour) AS month, region, platform, trial, plan, sum(quantity), sum(events), sum(voids), sum(rows), min(low), max(high), min(first_at), max(last_at)
FROM {{db}}.usage_hourly
GROUP BY shard, tenant, account, meter, month, region, platform, trial, plan`)
	exec(`INSERT INTO {{db}}.ledger (shard, seq, tenant, logged_at, hash, missing, accepted, stored, duplicate, conflict, quarantined, voided)
SELECT 0, 1 + number, 'big', toDateTime64('2026-04-01 00:00:00', 3, 'UTC'), 0, 0, 500, 500, 0, 0, 0, 0 FROM numbers(%d)`, events/500)
}

// BenchmarkMonthUsage: 10,000 accounts, 5 meters, 2 M events.
func BenchmarkMonthUsage(b *testing.B) {
	d := setUp(b)
	d.fillMany(b, 10_000, 5, 2_000_000)
	ask := func(b *testing.B, asOf int64) {
		var rows int
		for b.Loop() {
			m, err := d.reports.MonthUsage(b.Context(), report.MonthQuery{Tenant: "big", Month: march(b), AsOf: asOf})
			if err != nil {
				b.Fatal(err)
			}
			rows = len(m.Rows)
		}
		b.ReportMetric(float64(rows), "rows")
	}
	b.Run("now", func(b *testing.B) { ask(b, directory.Latest) })
	b.Run("one meter by day", func(b *testing.B) {
		for b.Loop() {
			_, err := d.reports.MeterUsage(b.Context(), report.UsageQuery{
				Tenant: "big", Meter: "meter-1", From: month.UnixMilli(), To: next.UnixMilli(), Window: "day", AsOf: directory.Latest,
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one account by hour", func(b *testing.B) {
		for b.Loop() {
			_, err := d.reports.MeterUsage(b.Context(), report.UsageQuery{
				Tenant: "big", Meter: "meter-1", Accounts: []string{"account-17"}, From: month.UnixMilli(), To: next.UnixMilli(), Window: "hour", AsOf: directory.Latest,
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
