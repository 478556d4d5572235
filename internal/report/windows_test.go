package report_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// windowed is a view of the analysts by hour or by day, and the stretches of time in which it is compared with the
// oracle: around the month's ends, where plans change, and for days from before the oldest sample of a gauge on.
type windowed struct {
	window, sql string
	spans       [][2]time.Time
}

func windows() []windowed {
	day := month.AddDate(0, 0, 1)
	return []windowed{
		{"hour", `
SELECT tenant, toUnixTimestamp64Milli(hour), account, meter, region, platform, trial, toString(quantity), events
FROM {{api}}.usage_hourly_v1
WHERE hour >= fromUnixTimestamp64Milli(@from) AND hour < fromUnixTimestamp64Milli(@to)`,
			[][2]time.Time{{month.Add(-3 * time.Hour), day}, {month.AddDate(0, 0, 20), month.AddDate(0, 0, 21)}, {next.Add(-4 * time.Hour), next.Add(4 * time.Hour)}}},
		{"day", `
SELECT tenant, toUnixTimestamp64Milli(day), account, meter, region, platform, trial, toString(quantity), events
FROM {{api}}.usage_daily_v1
WHERE day >= fromUnixTimestamp64Milli(@from) AND day < fromUnixTimestamp64Milli(@to)`,
			[][2]time.Time{{month.AddDate(0, 0, -62), next.AddDate(0, 0, 3)}}},
	}
}

// windowLines are the rows of a view in one stretch, by tenant and meter, in the words of history.usage.
func (b bench) windowLines(t testing.TB, v windowed, span [2]time.Time) map[[2]string][]string {
	t.Helper()
	lines := map[[2]string][]string{}
	args := []any{warehouse.Named("from", span[0].UnixMilli()), warehouse.Named("to", span[1].UnixMilli())}
	err := b.W.Query(t.Context(), v.sql, args, func(row warehouse.Rows) error {
		var tenant, account, meter, region, platform, quantity string
		var start, events int64
		var trial bool
		if err := row.Scan(&tenant, &start, &account, &meter, &region, &platform, &trial, &quantity, &events); err != nil {
			return err
		}
		end := time.UnixMilli(start).UTC().Add(time.Hour)
		if v.window == "day" {
			end = time.UnixMilli(start).UTC().AddDate(0, 0, 1)
		}
		key := [2]string{tenant, meter}
		lines[key] = append(lines[key], fmt.Sprintf("%s %s %q %q %q %q = %s (%d)", rfc(start), rfc(end.UnixMilli()), account, region, platform,
			fmt.Sprint(trial), quantity, events))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		slices.Sort(l)
	}
	return lines
}

// checkWindows compares the views by hour and by day with the oracle, meter by meter.
func checkWindows(t *testing.T, b bench, histories map[string]*history) {
	t.Helper()
	meters := []string{"calls", "sms_credits", "voice_credits", "credits_returned"}
	for meter := range units {
		meters = append(meters, meter)
	}
	for _, v := range windows() {
		for _, span := range v.spans {
			got := b.windowLines(t, v, span)
			for tenant, h := range histories {
				for _, meter := range meters {
					want := h.usage(report.UsageQuery{
						Tenant: tenant, Meter: meter, From: span[0].UnixMilli(), To: span[1].UnixMilli(), Window: v.window, AsOf: directory.Latest,
						GroupBy: []string{"account", "region", "platform", "trial"},
					})
					if have := got[[2]string{tenant, meter}]; !slices.Equal(have, want) {
						t.Errorf("%s of %s by %s from %s:\n got %q\nwant %q", meter, tenant, v.window, span[0], have, want)
					}
				}
			}
		}
	}
}
