package report

import (
	"context"
	"math/big"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Usage types of tenant-usage-api. Nothing counts identity proofing and issuance yet.
const (
	typeUsers           = "USERS"
	typeAuthentications = "AUTHENTICATIONS"
	typeMessages        = "SMS_VOICE"
)

// bucketsMax bounds the buckets of one question: three years of days.
const bucketsMax = 1100

func tenantBucketsReport() Definition {
	return Definition{
		Name: "tenant-usage-api", Title: "Usage of a tenant by day, week or month",
		Doc: "USERS: active users at the end of each bucket; AUTHENTICATIONS: successful activities; SMS_VOICE: credits charged less returned. Buckets are those that begin in " +
			"the range; weeks begin on Monday, UTC; empty ones are left out, but for USERS. What happened under TRIAL and what did not are rows of their own.",
		Parameters: []Parameter{
			{Name: "tenant", Doc: "account id of the tenant", Example: "acme", Required: true},
			{Name: "usage_type", Doc: "what is counted", Example: "USERS", Required: true, Values: []string{typeUsers, typeAuthentications, typeMessages, "IDPROOFING", "ISSUANCE"}},
			{Name: "aggregation", Doc: "length of a bucket", Example: "MONTHLY", Required: true, Values: []string{"DAILY", "WEEKLY", "MONTHLY"}},
			{Name: "from", Doc: "first day as YYYY-MM-DD, or an instant (RFC 3339)", Example: "2026-03-01", Required: true},
			{Name: "to", Doc: "last day as YYYY-MM-DD, or an instant (RFC 3339) before which buckets begin", Example: "2026-03-31", Required: true},
			{Name: "trial", Doc: "only what happened under trial, or only what did not", Values: []string{"true", "false", "TRUE", "FALSE"}},
		},
		Columns: bucketColumns(typeMessages), Run: tenantBuckets,
	}
}

func bucketColumns(usageType string) []sheet.Column {
	count := sheet.Whole
	if usageType == typeMessages {
		count = sheet.Decimal
	}
	return []sheet.Column{
		{Name: "id", Kind: sheet.Text},
		{Name: "tenantId", Kind: sheet.Text},
		{Name: "usageType", Kind: sheet.Code},
		{Name: "aggregationPeriod", Kind: sheet.Code},
		{Name: "startTime", Kind: sheet.Instant},
		{Name: "endTime", Kind: sheet.Instant, Doc: "first instant of the next bucket"},
		{Name: "count", Kind: count, Adds: usageType != typeUsers, Doc: "a whole number; of SMS_VOICE an exact decimal"},
		{Name: "trial", Kind: sheet.Bool, Doc: "the tenant was in TRIAL when it happened; of USERS, at the bucket's end"},
		{Name: "bundleType", Kind: sheet.Text, Doc: "bundles of the entitlements in force at the bucket's end, joined by ;"},
	}
}

// bucket is a stretch of whole UTC days with what was counted, under trial and not.
type bucket struct {
	from, to int64
	events   [2]int64 // by trial: 0 false, 1 true
	sum      [2]*big.Int
}

// bound reads a day or an instant; a day as upper bound includes itself.
func (a Ask) bound(name string, upper bool) (int64, error) {
	if len(a.Text(name)) != len(time.DateOnly) {
		at, err := a.Instant(name, 0)
		if err != nil {
			return 0, wrong(name, "want a day as YYYY-MM-DD or an RFC 3339 time with offset")
		}
		return at, nil
	}
	day, err := a.Date(name)
	if upper {
		day += dayMillis
	}
	return day, err
}

// buckets are those that begin in [from, to) and have begun as of the cut.
func buckets(aggregation string, from, to, asOf int64) ([]bucket, error) {
	at := time.UnixMilli(from).UTC().Truncate(24 * time.Hour)
	step := func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }
	switch aggregation {
	case "WEEKLY":
		at = at.AddDate(0, 0, -(int(at.Weekday())+6)%7)
		step = func(t time.Time) time.Time { return t.AddDate(0, 0, 7) }
	case "MONTHLY":
		at = at.AddDate(0, 0, 1-at.Day())
		step = func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }
	}
	var all []bucket
	for ; at.UnixMilli() < to && at.UnixMilli() <= asOf; at = step(at) {
		if at.UnixMilli() < from {
			continue
		}
		b := bucket{from: at.UnixMilli(), to: step(at).UnixMilli(), sum: [2]*big.Int{{}, {}}}
		if all = append(all, b); len(all) > bucketsMax {
			return nil, wrong("to", "want fewer buckets: a shorter range, or a longer aggregation")
		}
	}
	return all, nil
}

func tenantBuckets(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	from, err := ask.bound("from", false)
	if err != nil {
		return nil, err
	}
	to, err := ask.bound("to", true)
	if err != nil {
		return nil, err
	}
	if to <= from {
		return nil, wrong("to", "the range ends before it begins: want from <= to")
	}
	state, err := r.directoryAt(ctx, ask.Tenant, ask.Cut)
	if err != nil {
		return nil, err
	}
	tenant := ask.Text("tenant")
	if _, ok := state.Account(tenant, directory.Latest); !ok {
		return nil, unknownAccount("tenant", tenant)
	}
	all, err := buckets(ask.Text("aggregation"), from, to, ask.Cut.AsOf)
	if err != nil {
		return nil, err
	}
	kind := ask.Text("usage_type")
	if len(all) > 0 {
		if err := r.fillBuckets(ctx, ask, state, all); err != nil {
			return nil, err
		}
	}
	a := &Answer{FileName: "usage_" + tenant + "_" + kind}
	a.Columns, a.Rows = bucketColumns(kind), sheet.Of(bucketRows(ask, state, all))
	return a, nil
}

func bucketRows(ask Ask, state *directory.State, all []bucket) []sheet.Row {
	tenant, kind, aggregation := ask.Text("tenant"), ask.Text("usage_type"), ask.Text("aggregation")
	var rows []sheet.Row
	for _, b := range all {
		start := Instant(b.from).String()
		for _, trial := range []int{1, 0} {
			word := sheet.Boolean(trial == 1)
			want := ask.Text("trial")
			if b.events[trial] == 0 || want != "" && (want == "true" || want == "TRUE") != (trial == 1) {
				continue
			}
			rows = append(rows, sheet.Row{
				tenant + ":" + kind + ":" + aggregation + ":" + start[:len(time.DateOnly)] + ":" + word, tenant, kind, aggregation,
				start, Instant(b.to).String(), formatAmount(b.sum[trial]), word, bundlesAt(state, tenant, b.to-1),
			})
		}
	}
	return rows
}

func (r *Reports) fillBuckets(ctx context.Context, ask Ask, state *directory.State, all []bucket) error {
	switch ask.Text("usage_type") {
	case typeUsers:
		return r.fillUsers(ctx, ask, state, all)
	case typeAuthentications:
		return r.fillEvents(ctx, ask, state, all, []string{usage.MeterActivity}, []string{usage.TypeActivity})
	case typeMessages:
		return r.fillEvents(ctx, ask, state, all, creditNames(), []string{usage.TypeCharged, usage.TypeCreditReturned})
	}
	return nil
}

// fillUsers counts active users at the ends of the buckets at which the tenant exists.
func (r *Reports) fillUsers(ctx context.Context, ask Ask, state *directory.State, all []bucket) error {
	tenant := ask.Text("tenant")
	changes := map[int64]int64{}
	params := ask.Cut.params(map[string]any{
		"tenant": ask.Tenant, "accounts": []string{tenant}, "ended": []string{}, "ends": []int64{}, "until": all[len(all)-1].to, "by_day": uint8(1),
	})
	err := r.query(ctx, "count active users", activeHistories, params, func(row warehouse.Rows) error {
		var account string
		var day, n int64
		err := row.Scan(&account, &day, &n)
		// What was so before the first bucket is a change of its first day.
		changes[max(day, dayOf(all[0].from))] += n
		return err
	})
	if err != nil {
		return err
	}
	active := int64(0)
	day := dayOf(all[0].from)
	for i := range all {
		b := &all[i]
		for ; day < dayOf(b.to); day++ {
			active += changes[day]
		}
		a, ok := state.Account(tenant, b.to-1)
		if !ok || a.Deleted {
			continue
		}
		trial := 0
		if a.ContractMode == modeTrial {
			trial = 1
		}
		b.events[trial] = 1 // a row of its own, even if nobody is active
		b.sum[trial].Mul(big.NewInt(active), unit())
	}
	return nil
}

// Events of a tenant by day, and by whether they happened in one of the stretches of trial.
const bucketEvents = `
SELECT intDiv(toUnixTimestamp64Milli(at), 86400000) AS day,
    arrayExists((began, ended) -> toUnixTimestamp64Milli(at) >= began AND toUnixTimestamp64Milli(at) < ended, {trial_from:Array(Int64)}, {trial_to:Array(Int64)}) AS trial,
    sum(toInt64(sign)) AS n, toString(sum(toDecimal256(quantity, 9) * sign))
FROM {{db}}.events
WHERE tenant = {tenant:String} AND meter IN {meters:Array(String)} AND type IN {types:Array(String)} AND account = {account:String}
    AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + `
GROUP BY day, trial
HAVING n > 0`

func (r *Reports) fillEvents(ctx context.Context, ask Ask, state *directory.State, all []bucket, meters, types []string) error {
	tenant := ask.Text("tenant")
	of := map[int64]*bucket{} // by day
	for i := range all {
		for day := dayOf(all[i].from); day < dayOf(all[i].to); day++ {
			of[day] = &all[i]
		}
	}
	trialFrom, trialTo := trials(state, tenant)
	params := ask.Cut.params(map[string]any{
		"tenant": ask.Tenant, "account": tenant, "meters": meters, "types": types, "from": all[0].from, "to": all[len(all)-1].to,
		"trial_from": trialFrom, "trial_to": trialTo,
	})
	return r.query(ctx, "sum events of a tenant", bucketEvents, params, func(row warehouse.Rows) error {
		var day, n int64
		var under uint8
		var sum string
		if err := row.Scan(&day, &under, &n, &sum); err != nil {
			return err
		}
		q, err := parseAmount(sum)
		if err != nil {
			return err
		}
		b := of[day]
		b.events[under] += n
		b.sum[under].Add(b.sum[under], q)
		return nil
	})
}

// trials are the stretches in which an account was in TRIAL.
func trials(state *directory.State, account string) (from, to []int64) {
	from, to = []int64{}, []int64{}
	within := false
	for _, step := range state.Steps(account) {
		a, _ := state.Account(account, step)
		switch now := a.ContractMode == modeTrial; {
		case now && !within:
			from, to, within = append(from, step), append(to, directory.Latest), true
		case !now && within:
			to[len(to)-1], within = step, false
		}
	}
	return from, to
}
