package report

import (
	"context"
	"math/big"
	"slices"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// gaugeRows are the samples of a gauge before the period's end, by series and in canonical order. Of what was
// before the period only the last of each series says anything about it.
const gaugeRows = `
SELECT CAST(source, 'String') AS source_, id, CAST(type, 'String'), CAST(account, 'String') AS account_, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at),
    toString(quantity), CAST(region, 'String') AS region_, CAST(platform, 'String') AS platform_, asset_id, toUnixTimestamp64Milli(trial_expiry), CAST(plan, 'String'),
    shard, seq, idx
FROM {{db}}.events
WHERE tenant = {tenant:String} AND meter = {meter:String} AND sign = 1 AND account IN {accounts:Array(String)}
    AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + `
    AND (source, id) NOT IN (SELECT source, id FROM {{db}}.events WHERE tenant = {tenant:String} AND meter = {meter:String} AND sign = -1 AND ` + inCut + `)
ORDER BY account_, region_, platform_, asset_id, at, source_, JSONExtractInt(data, 'source_seq'), id`

// gaugeSample is a sample and the event that it came with.
type gaugeSample struct {
	series
	Evidence
	value       amount
	trialExpiry int64
	plan        string
}

// listSamples explains a gauge: each sample counts its value times the hours until the next one of its series, as
// far as these lie in the period and under what was asked for.
func (e *explanation) listSamples(ctx context.Context, m *metered, accounts []string) error {
	var samples []*gaugeSample
	params := e.cut.params(map[string]any{"tenant": e.q.Tenant, "meter": m.meter, "accounts": append([]string{}, accounts...), "to": m.to})
	err := e.query(ctx, "list the samples", gaugeRows, params, func(row warehouse.Rows) error {
		s := &gaugeSample{Evidence: Evidence{Sign: 1, Status: Stored}}
		err := row.Scan(&s.Source, &s.ID, &s.Type, &s.Account, (*int64)(&s.At), (*int64)(&s.RecordedAt), &s.Quantity, &s.region, &s.platform, &s.asset, &s.trialExpiry,
			&s.plan, &s.Shard, &s.Seq, &s.Idx)
		if err != nil {
			return err
		}
		s.meter, s.account, s.About = m.meter, s.Account, s.asset
		s.value, err = parseAmount(s.Quantity)
		if n := len(samples); n > 0 && samples[n-1].series == s.series && int64(s.At) <= m.from {
			samples[n-1] = s // what was before says nothing any more
			return err
		}
		samples = append(samples, s)
		return err
	})
	if err != nil {
		return err
	}
	end := min(m.to, max(e.cut.AsOf, m.from))
	total, events, all := new(big.Int), int64(0), make([]Evidence, 0, len(samples))
	for i, s := range samples {
		until := end
		if i+1 < len(samples) && samples[i+1].series == s.series {
			until = min(end, int64(samples[i+1].At))
		}
		worth := e.worth(m, s, until)
		total.Add(total, worth)
		s.Counts = formatAmount(divide(worth, hourMillis))
		if int64(s.At) >= m.from && m.fits(e.keyAt(m, s, int64(s.At))) {
			events++
		}
		all = append(all, s.Evidence)
	}
	e.list(all)
	e.out.Evidence = formatAmount(divide(total, hourMillis))
	if e.out.Measure == measureEvents || e.out.Measure == measureEventsTree {
		e.out.Evidence = big.NewInt(events).String()
	}
	return nil
}

// keyAt is what a sample's value falls under at an instant.
func (e *explanation) keyAt(m *metered, s *gaugeSample, at int64) key {
	k := key{meter: m.meter, account: s.account, plan: s.plan, region: s.region, platform: s.platform, trial: at < s.trialExpiry}
	if k.plan == "" {
		k.plan = e.state.UsagePlan(s.account, m.meter, at)
	}
	return k
}

// worth is a sample's value times the milliseconds until an instant that fit the question.
func (e *explanation) worth(m *metered, s *gaugeSample, until int64) *big.Int {
	from := max(int64(s.At), m.from)
	cuts := []int64{until}
	for _, at := range append([]int64{s.trialExpiry}, e.state.PlanChanges(m.from, m.to)[s.account]...) {
		if at > from && at < until {
			cuts = append(cuts, at)
		}
	}
	slices.Sort(cuts)
	worth := new(big.Int)
	for _, end := range cuts {
		if from < end && m.fits(e.keyAt(m, s, from)) {
			worth.Add(worth, new(big.Int).Mul(s.value, big.NewInt(end-from)))
		}
		from = max(from, end)
	}
	return worth
}
