package report

import (
	"cmp"
	"context"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// MeterInfo is a meter as lists show it.
type MeterInfo struct {
	directory.Meter
	Events int64   // that count in the month asked about and the one before it
	LastAt Instant // newest of them
}

// Both months, because a list of what is used should not be empty on the first of a month.
const usedMeters = `
SELECT CAST(meter, 'String') AS meter_, sum(events) AS n, toUnixTimestamp64Milli(max(last_at))
FROM {{db}}.usage_monthly
WHERE tenant = {tenant:String} AND month >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND month <= fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND (empty({accounts:Array(String)}) OR account IN {accounts:Array(String)})
GROUP BY meter_
HAVING sum(rows) > 2 * sum(voids)`

// Meters lists the meters that are defined or were used in month m or the one before it, the most used first;
// accounts: used by them, none: by any.
func (r *Reports) Meters(ctx context.Context, tenant string, m usage.Month, accounts []string) ([]MeterInfo, error) {
	if err := guarded(ctx, Question{Tenant: tenant, Report: ReportMeter, Accounts: accounts}); err != nil {
		return nil, err
	}
	cut, err := r.cut(ctx, Query{AsOf: directory.Latest})
	if err != nil {
		return nil, err
	}
	state, err := r.directoryAt(ctx, tenant, cut.held())
	if err != nil {
		return nil, err
	}
	all := map[string]MeterInfo{}
	for _, meter := range state.Meters() {
		all[meter.Name] = MeterInfo{Meter: meter}
	}
	if accounts == nil {
		accounts = []string{}
	}
	params := map[string]any{"tenant": tenant, "from": m.Prev().Start().Millis(), "to": m.Start().Millis(), "accounts": accounts}
	err = r.query(ctx, "list the meters", usedMeters, params, func(row warehouse.Rows) error {
		var name string
		var one MeterInfo
		if err := row.Scan(&name, &one.Events, (*int64)(&one.LastAt)); err != nil {
			return err
		}
		one.Meter = state.Meter(name)
		one.Name = name
		all[name] = one
		return nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]MeterInfo, 0, len(all))
	for _, one := range all {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b MeterInfo) int { return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Name, b.Name)) })
	return list, nil
}

// Letters are how many dead letters a tenant has of a reason, and the newest of them.
type Letters struct {
	Reason string
	N      uint64
	Last   Instant
}

const letterReasons = `
SELECT CAST(reason, 'String') AS reason_, count() AS n, toUnixTimestamp64Milli(max(recorded_at))
FROM {{db}}.dead_letters
WHERE tenant = {tenant:String} AND recorded_at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
GROUP BY reason_
ORDER BY n DESC, reason_`

// DeadLetterReasons counts the dead letters recorded since an instant, by reason, the most frequent first. Events
// that the rules of the directory leave without effect are not among them: those may heal.
func (r *Reports) DeadLetterReasons(ctx context.Context, tenant string, from int64) ([]Letters, error) {
	var all []Letters
	err := r.query(ctx, "count the dead letters", letterReasons, map[string]any{"tenant": tenant, "from": from}, func(row warehouse.Rows) error {
		var l Letters
		err := row.Scan(&l.Reason, &l.N, (*int64)(&l.Last))
		all = append(all, l)
		return err
	})
	return all, err
}
