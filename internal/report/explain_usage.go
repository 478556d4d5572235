package report

import (
	"context"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Measures of metered usage that can be explained.
const (
	measureEvents       = "events"
	measureQuantityTree = "quantity_tree"
	measureEventsTree   = "events_tree"
)

// metered is a question about rows of metered usage: whose, of what, when.
type metered struct {
	from, to int64 // Unix ms, [from, to)
	meter    string
	asset    string            // "": any
	accounts []string          // none: all of the tenant
	root     string            // "": accounts are given; else they are all at or below this one, as the state has it
	filters  map[string]string // of plan, region, platform, trial: those asked for
}

func (m *metered) fits(k key) bool {
	for name, want := range m.filters {
		have := map[string]string{"plan": k.plan, "region": k.region, "platform": k.platform, "trial": boolText(k.trial)}[name]
		if have != want {
			return false
		}
	}
	return true
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// has reports whether an account is asked about.
func (m *metered) has(account string) bool {
	return len(m.accounts) == 0 || slices.Contains(m.accounts, account)
}

// span is the time asked about: a month, or full hours.
func (e *explanation) span() (from, to int64, err error) {
	if e.monthy {
		return e.month.Start().Millis(), e.month.End().Millis(), nil
	}
	if e.q.Values["from"] == "" && e.q.Values["to"] == "" {
		return 0, 0, wrong("month", "must be given: a month as YYYY-MM; or from and to")
	}
	for name, into := range map[string]*int64{"from": &from, "to": &to} {
		at, err := time.Parse(time.RFC3339, e.q.Values[name])
		if err != nil || at.UnixMilli()%hourMillis != 0 {
			return 0, 0, wrong(name, "want a full hour as 2006-01-02T15:00:00Z")
		}
		*into = at.UnixMilli()
	}
	if from >= to {
		return 0, 0, wrong("from", "from must be before to")
	}
	return from, to, nil
}

// usage explains a number of metered usage: of the monthly aggregates, or of other hours.
func (e *explanation) usage(ctx context.Context) error {
	from, to, err := e.span()
	if err != nil {
		return err
	}
	account, ofOne := e.q.Values["account"]
	meter, err := e.need("meter", "the row's meter")
	if err != nil {
		return err
	}
	if e.out.Measure == "" {
		e.out.Measure = MeasureQuantity
	}
	measures := []string{MeasureQuantity, measureEvents, measureQuantityTree, measureEventsTree}
	if !slices.Contains(measures, e.out.Measure) {
		return wrong("measure", "want one of "+strings.Join(measures, ", "))
	}
	if e.monthy && !ofOne && (e.older != nil || e.out.Version != 0) {
		return wrong("account", "must be given: versions have numbers of accounts")
	}
	m := &metered{from: from, to: to, meter: meter, filters: map[string]string{}}
	if ofOne {
		m.accounts = []string{account}
	}
	for _, name := range []string{"plan", "region", "platform", "trial"} {
		if value, ok := e.q.Values[name]; ok {
			m.filters[name] = strings.ToLower(value)
			if name != "trial" {
				m.filters[name] = value
			}
		}
	}
	if strings.HasSuffix(e.out.Measure, "_tree") {
		m.root = account
	}
	if err := e.measure(ctx, m); err != nil || !e.monthy || !ofOne {
		return err
	}
	if e.out.Measure == MeasureQuantity && e.out.Number == "" && e.out.Evidence == "" {
		e.out.Number, e.out.Evidence = "0", "0" // only accounts below have usage: so the row says, whatever the meter's aggregation
	}
	return e.storedNumbers(ctx, account, m)
}

// measure computes a number as reports do, and again from the rows it lists.
func (e *explanation) measure(ctx context.Context, m *metered) error {
	aggregation := e.state.Meter(m.meter).Aggregation
	m = m.in(e.state)
	number, accounts, err := e.reported(ctx, m, e.cut, e.state, aggregation)
	if err != nil {
		return err
	}
	if e.older != nil {
		state, err := e.directoryAt(ctx, e.q.Tenant, *e.older)
		if err != nil {
			return err
		}
		before, others, err := e.reported(ctx, m.in(state), *e.older, state, aggregation)
		if err != nil {
			return err
		}
		if number, err = minus(number, before); err != nil {
			return err
		}
		if !summable(aggregation) {
			return e.measureTwice(ctx, m, number)
		}
		accounts = slices.Compact(slices.Sorted(slices.Values(slices.Concat(accounts, others))))
	}
	e.out.Number = number
	e.out.How = hows[aggregation]
	if strings.HasPrefix(e.out.Measure, "events") {
		e.out.How = hows["count"]
	}
	params := e.rowParams(m, accounts)
	if aggregation == timeWeighted {
		err = e.listSamples(ctx, m, accounts)
	} else {
		err = e.listRows(ctx, params, aggregation)
	}
	if err != nil {
		return err
	}
	if e.older != nil {
		if e.out.Number != e.out.Evidence {
			return e.measureTwice(ctx, m, number)
		}
		return nil
	}
	return e.listCells(ctx, params)
}

// in is the question with the accounts that a state has at or below its root.
func (m *metered) in(state *directory.State) *metered {
	if m.root == "" {
		return m
	}
	asked := *m
	asked.accounts = append([]string{m.root}, state.Tree(m.to).Below(m.root)...)
	return &asked
}

// comparedMax bounds the rows of each of two versions that are compared one by one.
const comparedMax = 100_000

// measureTwice explains a difference that is not the sum of the rows that came since: it is computed from all rows at
// both versions. So it is with meters that do not add up, and where what came since says under which plan or meter the
// rows count that were there.
func (e *explanation) measureTwice(ctx context.Context, m *metered, number string) error {
	older, err := e.directoryAt(ctx, e.q.Tenant, *e.older)
	if err != nil {
		return err
	}
	before, now := *e, *e
	before.cut, before.state = *e.older, older
	for _, side := range []*explanation{&before, &now} {
		side.out, side.older = &Explanation{Measure: e.out.Measure}, nil
		side.q.Skip, side.q.Limit = 0, comparedMax
		if err := side.measure(ctx, m); err != nil {
			return err
		}
	}
	e.out.Number = number
	if e.out.Evidence, err = minus(now.out.Evidence, before.out.Evidence); err != nil {
		return err
	}
	all := now.out.Events
	e.out.How = now.out.How + "; the difference of the two versions, and the rows of the newer one"
	if max(before.out.Total, now.out.Total) <= comparedMax {
		e.out.How = now.out.How + "; the difference of the two versions, and the rows that count in only one of them"
		if all, err = changed(before.out.Events, all); err != nil {
			return err
		}
	}
	e.list(all)
	e.out.Late, err = e.LateEvents(ctx, e.q.Tenant, e.month, *e.older, e.cut, e.limit())
	return err
}

// hows say how rows of an aggregation make its number.
var hows = map[string]string{ //nolint:gochecknoglobals // a table of constants
	"sum":        "the sum of quantity × sign of the rows",
	"count":      "the number of events: the sum of their signs, an event that was cut counting with its first piece",
	"min":        "the smallest quantity of the rows that are not voided",
	"max":        "the largest quantity of the rows that are not voided",
	"latest":     "the quantity of the last row that is not voided",
	"unique":     "the number of different consumers of the rows that are not voided",
	timeWeighted: "each sample's quantity times the hours until the next one of its series, in the month; the last holds until what is known ends",
	"avg":        "the sum of the quantities that are not voided, divided by the number of events, half-even to nine digits",
}

// reported is the number on the road of the reports, and the accounts that have a part in it.
func (e *explanation) reported(ctx context.Context, m *metered, cut Cut, state *directory.State, aggregation string) (number string, accounts []string, err error) {
	ask := question{
		tenant: e.q.Tenant, from: m.from, to: m.to, cut: cut, accounts: m.accounts, state: state,
		by: grouping{account: true, plan: true, region: true, platform: true, trial: true},
	}
	if len(m.accounts) > filterMax {
		ask.accounts = nil
	}
	c, err := e.monthCells(ctx, ask, m.meter)
	if err != nil {
		return "", nil, err
	}
	total := &measure{sum: new(big.Int)}
	for at, one := range c.cells {
		if k := c.key(at); k.meter == m.meter && m.has(k.account) && m.fits(k) && one.live != 0 {
			if !slices.Contains(accounts, k.account) {
				accounts = append(accounts, k.account)
			}
			total.merge(one)
		}
	}
	slices.Sort(accounts)
	if strings.HasPrefix(e.out.Measure, measureEvents) {
		aggregation = "count"
	}
	return total.quantity(aggregation), accounts, nil
}

// meteredRows are the rows that count, both signs, with the plan of the account at their instant where they
// name none. A returned credit counts on the meter of its message.
const meteredRows = `
FROM
(
    SELECT source, id, type, account, at, recorded_at, quantity, sign, n, shard, seq, idx, region, platform, trial, consumer_id, source_seq, piece,
        if(plan != '', plan, plans[1 + arrayCount(c -> c <= toUnixTimestamp64Milli(at), changes)]) AS effective
    FROM
    (
        SELECT source, id, type, account, meter, at, recorded_at, quantity, sign, sign AS n, shard, seq, idx, region, platform, trial, consumer_id, plan,
            JSONExtractInt(data, 'source_seq') AS source_seq, toUInt16(0) AS piece
        FROM {{db}}.events
        WHERE tenant = {tenant:String} AND meter IN {meters:Array(String)} AND meter != 'credits_returned' AND pieces <= 1 AND account IN {accounts:Array(String)}
            AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + ` AND ` + sinceOlder + `
        UNION ALL
        SELECT source, id, 'usage.metered' AS type, account, meter, at, recorded_at, quantity, sign, if(piece = 0, sign, 0) AS n, shard, seq, idx, region, platform,
            trial, consumer_id, plan, 0 AS source_seq, piece
        FROM {{db}}.pieces
        WHERE tenant = {tenant:String} AND meter IN {meters:Array(String)} AND account IN {accounts:Array(String)}
            AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + ` AND ` + sinceOlder + `
        UNION ALL
        SELECT source, id, 'message.credit_returned' AS type, account, if(charged.meter = '', 'credits_returned', charged.meter) AS meter, at, recorded_at, quantity,
            sign, sign AS n, shard, seq, idx, '' AS region, '' AS platform, false AS trial, '' AS consumer_id, '' AS plan, 0 AS source_seq, toUInt16(0) AS piece
        FROM
        (
            SELECT source, id, account, at, recorded_at, quantity, sign, shard, seq, idx, JSONExtractString(data, 'message_id') AS message_id
            FROM {{db}}.events
            WHERE tenant = {tenant:String} AND meter = 'credits_returned' AND {credits:Bool} AND account IN {accounts:Array(String)}
                AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + ` AND ` + sinceOlder + `
        ) AS r
        LEFT JOIN
        (
            SELECT message_id, argMin(charge_meter, first) AS meter
            FROM
            (
                SELECT JSONExtractString(data, 'message_id') AS message_id, CAST(any(meter), 'String') AS charge_meter, min((at, source, id)) AS first
                FROM {{db}}.events
                WHERE tenant = {tenant:String} AND {credits:Bool} AND meter IN (` + chargedMeters + `) AND type = 'message.charged' AND ` + inCut + `
                GROUP BY source, id, message_id
                HAVING sum(sign) > 0
            )
            GROUP BY message_id
        ) AS charged USING (message_id)
        WHERE meter IN {meters:Array(String)}
    ) AS u
    LEFT JOIN
    (
        SELECT tupleElement(triple, 1) AS account, tupleElement(triple, 2) AS changes, tupleElement(triple, 3) AS plans
        FROM (SELECT arrayJoin(arrayZip({accounts:Array(String)}, {changes:Array(Array(Int64))}, {plans:Array(Array(String))})) AS triple)
    ) AS p USING (account)
)
WHERE ({any_plan:Bool} OR effective = {plan:String}) AND ({any_region:Bool} OR region = {region:String})
    AND ({any_platform:Bool} OR platform = {platform:String}) AND ({any_trial:Bool} OR trial = {trial:Bool})`

// voidedRows are the events that a void in the cut takes back.
const voidedRows = `(source, id) IN
    (
        SELECT source, id FROM {{db}}.events WHERE tenant = {tenant:String} AND (meter IN {meters:Array(String)} OR meter = 'credits_returned') AND sign = -1 AND ` + inCut + `
    )`

const meteredList = `
SELECT CAST(source, 'String'), id, CAST(type, 'String'), CAST(account, 'String'), toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), toString(quantity),
    toInt8(sign), if({counts_events:Bool}, toString(n), toString(toDecimal256(quantity, 9) * sign)), if(` + voidedRows + `, 'voided', 'stored'), CAST(consumer_id, 'String'), shard, seq, idx` +
	meteredRows + `
ORDER BY at, source, id, sign DESC
LIMIT {limit:UInt64} OFFSET {skip:UInt64}`

const meteredSums = `
SELECT toInt64(count()), toString(sum(toDecimal256(quantity, 9) * sign)), toInt64(sum(n))` + meteredRows

const meteredLive = `
SELECT toString(min(quantity)), toString(max(quantity)), toString(argMax(quantity, (at, CAST(source, 'String'), source_seq, id, piece))), toString(sum(toDecimal256(quantity, 9))), toInt64(sum(n)),
    toInt64(uniqExactIf(consumer_id, consumer_id != '')), toInt64(count())` + meteredRows + `
    AND sign = 1 AND NOT ` + voidedRows

// rowParams are the parameters of meteredRows, for the accounts that have a part in the number.
func (e *explanation) rowParams(m *metered, accounts []string) map[string]any {
	all := e.state.PlanChanges(m.from, m.to)
	changes, plans := make([][]int64, len(accounts)), make([][]string, len(accounts))
	for i, account := range accounts {
		changes[i] = append([]int64{}, all[account]...)
		for _, at := range append([]int64{m.from}, changes[i]...) {
			plans[i] = append(plans[i], e.state.UsagePlan(account, m.meter, at))
		}
	}
	credits := slices.Contains(creditNames(), m.meter)
	params := map[string]any{
		"tenant": e.q.Tenant, "meter": m.meter, "meters": []string{m.meter}, "from": m.from, "to": m.to, "accounts": append([]string{}, accounts...), "changes": changes, "plans": plans, "credits": credits,
		"limit": e.limit(), "skip": e.q.Skip, "counts_events": strings.HasPrefix(e.out.Measure, measureEvents) || e.state.Meter(m.meter).Aggregation == "count",
	}
	for _, name := range []string{"plan", "region", "platform", "trial"} {
		value, ok := m.filters[name]
		params["any_"+name], params[name] = !ok, value
	}
	params["trial"] = m.filters["trial"] == "true"
	return e.oldParams(params)
}

// listRows lists the rows and computes the number from all of them.
func (e *explanation) listRows(ctx context.Context, params map[string]any, aggregation string) error {
	var sum string
	var events int64
	err := e.query(ctx, "sum the evidence", meteredSums, params, func(row warehouse.Rows) error { return row.Scan(&e.out.Total, &sum, &events) })
	if err != nil {
		return err
	}
	total := &measure{events: events, live: e.out.Total}
	if !summable(aggregation) {
		var low, high, latest string
		var consumers int64
		err := e.query(ctx, "sum the evidence", meteredLive, params, func(row warehouse.Rows) error {
			return row.Scan(&low, &high, &latest, &sum, &total.events, &consumers, &total.live)
		})
		if err != nil {
			return err
		}
		if err := total.parse(sum, low, high, latest, nil); err != nil {
			return err
		}
		for range consumers {
			total.consumers[fmt36(len(total.consumers))] = struct{}{}
		}
	} else if err := total.parse(sum, "", "", "", nil); err != nil {
		return err
	}
	if strings.HasPrefix(e.out.Measure, measureEvents) {
		aggregation = "count"
	}
	e.out.Evidence = total.quantity(aggregation)
	return e.query(ctx, "list the evidence", meteredList, params, e.scanEvidence)
}

// scanEvidence reads a row of usage.
func (e *explanation) scanEvidence(row warehouse.Rows) error {
	var v Evidence
	err := row.Scan(&v.Source, &v.ID, &v.Type, &v.Account, (*int64)(&v.At), (*int64)(&v.RecordedAt), &v.Quantity, &v.Sign, &v.Counts, &v.Status, &v.About,
		&v.Shard, &v.Seq, &v.Idx)
	e.out.Events = append(e.out.Events, v)
	return err
}

// fmt36 makes n different texts of n numbers.
func fmt36(n int) string { return big.NewInt(int64(n)).Text(36) }

// rollupCells are the first hundred cells, and how many there are.
const rollupCells = `
SELECT toUnixTimestamp64Milli(hour), CAST(account, 'String'), CAST(meter, 'String'), CAST(plan, 'String'), CAST(region, 'String'), CAST(platform, 'String'), trial,
    toString(sum(quantity)), sum(events), toInt64(count() OVER ())
FROM {{db}}.usage_hourly
WHERE tenant = {tenant:String} AND meter = {meter:String} AND account IN {accounts:Array(String)}
    AND hour >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND hour < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND ({any_region:Bool} OR region = {region:String}) AND ({any_platform:Bool} OR platform = {platform:String}) AND ({any_trial:Bool} OR trial = {trial:Bool})
GROUP BY hour, account, meter, plan, region, platform, trial
ORDER BY hour, account, meter, plan, region, platform, trial
LIMIT 100`

// listCells shows the rollup of the same accounts and hours. Rollups hold what is counted now and know no plans.
func (e *explanation) listCells(ctx context.Context, params map[string]any) error {
	return e.query(ctx, "list the rollup", rollupCells, params, func(row warehouse.Rows) error {
		var c RollupCell
		err := row.Scan((*int64)(&c.Hour), &c.Account, &c.Meter, &c.Plan, &c.Region, &c.Platform, &c.Trial, &c.Quantity, &c.Events, &e.out.Cells)
		e.out.Rollup = append(e.out.Rollup, c)
		return err
	})
}

const storedUsage = `
SELECT close_id, ifNull(toString(quantity), ''), events, ifNull(toString(quantity_tree), ''), events_tree
FROM {{db}}.month_rows
WHERE tenant = {tenant:String} AND month = {month:String} AND close_id IN {closes:Array(String)} AND account = {account:String} AND meter = {meter:String}
    AND ({any_plan:Bool} OR plan = {plan:String}) AND ({any_region:Bool} OR region = {region:String})
    AND ({any_platform:Bool} OR platform = {platform:String}) AND ({any_trial:Bool} OR trial = {trial:Bool})`

// storedNumbers are what closed versions stored of the same row.
func (e *explanation) storedNumbers(ctx context.Context, account string, m *metered) error {
	params := e.rowParams(m, nil)
	params["account"] = account
	numbers, sums := map[string]string{}, map[string]*big.Int{}
	err := e.ofVersions(ctx, storedUsage, params, func(row warehouse.Rows) error {
		var of, quantity, tree string
		var events, eventsTree int64
		if err := row.Scan(&of, &quantity, &events, &tree, &eventsTree); err != nil {
			return err
		}
		number := map[string]string{
			MeasureQuantity: quantity, measureEvents: big.NewInt(events).String(), measureQuantityTree: tree, measureEventsTree: big.NewInt(eventsTree).String(),
		}[e.out.Measure]
		a, err := parseAmount(number)
		if sums[of] == nil {
			sums[of], numbers[of] = a, trimDecimal(number)
			return err
		}
		sums[of].Add(sums[of], a)
		numbers[of] = formatAmount(sums[of])
		return err
	})
	e.listVersions(numbers)
	return err
}

// ofVersions asks the closed versions of the month, all at once.
func (e *explanation) ofVersions(ctx context.Context, sql string, params map[string]any, scan func(warehouse.Rows) error) error {
	if len(e.versions) == 0 {
		return nil
	}
	closes := make([]string, len(e.versions))
	for i, v := range e.versions {
		closes[i] = v.CloseID
	}
	params["tenant"], params["month"], params["closes"] = e.q.Tenant, e.month.String(), closes
	return e.query(ctx, "read the versions' numbers", sql, params, scan)
}

// listVersions shows what versions say, by the id of their close.
func (e *explanation) listVersions(numbers map[string]string) {
	for _, v := range e.versions {
		e.out.Versions = append(e.out.Versions, VersionNumber{v.Version, v.AsOf, v.SHA256, numbers[v.CloseID]})
	}
}
