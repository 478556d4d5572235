package report

import (
	"context"
	"maps"
	"slices"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// The questions behind the checklist of a close. Each is about one tenant and one month; what their answers
// mean for the close is decided elsewhere (package months).

const unclosedMonths = `
SELECT formatDateTime(month, '%Y-%m') AS name
FROM {{db}}.usage_monthly
WHERE tenant = {tenant:String} AND month < fromUnixTimestamp64Milli({before:Int64}, 'UTC')
    AND formatDateTime(month, '%Y-%m') NOT IN (SELECT CAST(month, 'String') FROM {{db}}.month_versions WHERE tenant = {tenant:String})
GROUP BY name
HAVING sum(rows) > 2 * sum(voids)
ORDER BY name`

// UnclosedBefore are the months before m that have usage and no version.
func (r *Reports) UnclosedBefore(ctx context.Context, tenant string, m usage.Month) ([]string, error) {
	var months []string
	err := r.query(ctx, "look for earlier months", unclosedMonths, map[string]any{"tenant": tenant, "before": m.Start().Millis()}, func(row warehouse.Rows) error {
		var month string
		err := row.Scan(&month)
		months = append(months, month)
		return err
	})
	return months, err
}

// Count is how often something is there.
type Count struct {
	What string `json:"what"`
	N    uint64 `json:"n"`
}

// A dead letter belongs to the month in which it was recorded, and to the one it says it happened in.
const deadLettersIn = `
SELECT CAST(reason, 'String') AS reason_, count() AS n
FROM {{db}}.dead_letters
WHERE tenant = {tenant:String}
    AND (recorded_at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND recorded_at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
        OR parseDateTime64BestEffortOrZero(JSONExtractString(raw, 'time'), 3, 'UTC') >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
        AND parseDateTime64BestEffortOrZero(JSONExtractString(raw, 'time'), 3, 'UTC') < fromUnixTimestamp64Milli({to:Int64}, 'UTC'))
GROUP BY reason_
ORDER BY reason_`

// DeadLettersIn counts the dead letters of a month by reason: recorded in it, or about it. Events that
// break a rule of the directory are among them.
func (r *Reports) DeadLettersIn(ctx context.Context, tenant string, m usage.Month, cut Cut) ([]Count, error) {
	counts := map[string]uint64{}
	from, to := m.Start().Millis(), m.End().Millis()
	params := map[string]any{"tenant": tenant, "from": from, "to": to}
	err := r.query(ctx, "count dead letters", deadLettersIn, params, func(row warehouse.Rows) error {
		var reason string
		var n uint64
		err := row.Scan(&reason, &n)
		counts[reason] = n
		return err
	})
	if err != nil {
		return nil, err
	}
	state, err := r.directoryAt(ctx, tenant, cut.held())
	if err != nil {
		return nil, err
	}
	for _, ruling := range state.Rulings() {
		if ruling.At >= from && ruling.At < to || ruling.RecordedAt >= from && ruling.RecordedAt < to {
			counts[ruling.Rule]++
		}
	}
	var all []Count
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, Count{reason, counts[reason]})
	}
	return all, nil
}

const monthAccounts = `
SELECT CAST(account, 'String') AS account_
FROM {{db}}.usage_monthly
WHERE tenant = {tenant:String} AND month = fromUnixTimestamp64Milli({from:Int64}, 'UTC')
GROUP BY account_
HAVING sum(rows) > 2 * sum(voids)
ORDER BY account_`

// Unresolved are the accounts that have usage in a month and had not been created by its end.
func (r *Reports) Unresolved(ctx context.Context, tenant string, m usage.Month, cut Cut) ([]string, error) {
	state, err := r.directoryAt(ctx, tenant, cut.held())
	if err != nil {
		return nil, err
	}
	var accounts []string
	params := map[string]any{"tenant": tenant, "from": m.Start().Millis()}
	err = r.query(ctx, "list the accounts of a month", monthAccounts, params, func(row warehouse.Rows) error {
		var account string
		if err := row.Scan(&account); err != nil {
			return err
		}
		if _, ok := state.Account(account, m.End().Millis()-1); !ok {
			accounts = append(accounts, account)
		}
		return nil
	})
	return accounts, err
}

const silentSources = `
SELECT CAST(source, 'String') AS source_, toUnixTimestamp64Milli(max(at)) AS last
FROM {{db}}.events
WHERE tenant = {tenant:String} AND sign = 1 AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
GROUP BY source_
HAVING uniqExactIf(toDate(at), at < fromUnixTimestamp64Milli({start:Int64}, 'UTC')) = {days:UInt32} AND last < {quiet:Int64}
ORDER BY source_`

// Silent is a producer that stopped.
type Silent struct {
	Source string
	Last   Instant // its newest event before the month's end
}

// SilentSources are the sources that have an event on every day of the month before m, and none on the last
// day of m; where m is not over, on the last whole day of it.
func (r *Reports) SilentSources(ctx context.Context, tenant string, m usage.Month, now int64) ([]Silent, error) {
	const day = 86_400_000
	before, start, end := m.Prev().Start().Millis(), m.Start().Millis(), min(m.End().Millis(), now/day*day)
	if end-day < start {
		return nil, nil
	}
	var silent []Silent
	params := map[string]any{
		"tenant": tenant, "from": before, "start": start, "to": end, "days": (start - before) / day, "quiet": end - day,
	}
	err := r.query(ctx, "look for silent producers", silentSources, params, func(row warehouse.Rows) error {
		var s Silent
		err := row.Scan(&s.Source, (*int64)(&s.Last))
		silent = append(silent, s)
		return err
	})
	return silent, err
}

// OpenGaps describes the declared gaps that overlap a month and are open at the cut.
func (r *Reports) OpenGaps(ctx context.Context, tenant string, m usage.Month, cut Cut) ([]string, error) {
	state, err := r.directoryAt(ctx, tenant, cut.held())
	if err != nil {
		return nil, err
	}
	var open []string
	for _, g := range state.Gaps(m.Start().Millis(), m.End().Millis()) {
		whose := "account " + g.Account
		if g.Account == "" {
			whose = "all accounts of source " + g.Source
		}
		open = append(open, whose+", "+Instant(g.From).String()+" to "+Instant(g.To).String())
	}
	return open, nil
}

// Lag is how many events of the log are not counted yet, as the aggregators last said.
func (r *Reports) Lag(ctx context.Context) (uint64, error) {
	rows, err := r.Freshness(ctx)
	var lag uint64
	for _, f := range rows {
		lag += f.LagEvents
	}
	return lag, err
}
