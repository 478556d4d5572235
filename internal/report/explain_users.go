package report

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// ownSuffix makes a measure of STA one of the account alone.
const ownSuffix = "_own"

// users explains a number of the STA reports: users of accounts at a month's end.
func (e *explanation) users(ctx context.Context) error {
	if !e.monthy {
		return wrong("month", "must be given: a completed month as YYYY-MM")
	}
	account, err := e.need("account", "the row's account")
	if err != nil {
		return err
	}
	if e.out.Measure == "" {
		e.out.Measure = MeasureActivity
		if e.q.Report == "sta-monthly-summary" {
			e.out.Measure = MeasureToken
		}
	}
	measure, own := strings.CutSuffix(e.out.Measure, ownSuffix)
	if staMeasure(measure) < 0 {
		return wrong("measure", "want one of "+strings.Join(staMeasures[:], ", ")+", each also with "+ownSuffix)
	}
	plan := ""
	if !own {
		if plan, err = e.need("plan", "the row's plan; a measure of the account alone ends in "+ownSuffix); err != nil {
			return err
		}
		if !slices.Contains(directory.STAPlans(), plan) {
			return wrong("plan", "want one of "+strings.Join(directory.STAPlans(), ", "))
		}
	}
	if err := e.usersOf(ctx, account, plan, measure); err != nil {
		return err
	}
	return e.storedUsers(ctx, account, plan, measure)
}

// usersOf counts users as the reports do, and again by the events that make them count; plan "" is of the account alone.
func (e *explanation) usersOf(ctx context.Context, account, plan, measure string) error {
	number, accounts, err := e.countedUsers(ctx, account, plan, staMeasure(measure), e.cut, e.state)
	if err != nil {
		return err
	}
	e.out.Number = number
	e.out.How = userHows[measure]
	if e.out.Evidence, err = e.listUsers(ctx, measure, accounts, e.cut, number == ""); err != nil || e.older == nil {
		return err
	}
	return e.usersSince(ctx, account, plan, measure)
}

// usersSince turns the number into its difference from the older version, and lists what became known since.
func (e *explanation) usersSince(ctx context.Context, account, plan, measure string) error {
	total, events := e.out.Total, e.out.Events
	state, err := e.directoryAt(ctx, e.q.Tenant, *e.older)
	if err != nil {
		return err
	}
	before, accounts, err := e.countedUsers(ctx, account, plan, staMeasure(measure), *e.older, state)
	if err != nil {
		return err
	}
	counted, err := e.listUsers(ctx, measure, accounts, *e.older, before == "")
	if err != nil {
		return err
	}
	e.out.Total, e.out.Events = total, events
	if e.out.Number, err = minus(e.out.Number, before); err != nil {
		return err
	}
	if e.out.Evidence, err = minus(e.out.Evidence, counted); err != nil {
		return err
	}
	e.out.Late, err = e.LateEvents(ctx, e.q.Tenant, e.month, *e.older, e.cut, e.limit())
	return err
}

var userHows = map[string]string{ //nolint:gochecknoglobals // a table of constants
	MeasureRegistered: "the number of users whose last registration or removal before the month's end is a registration; the events are these registrations",
	MeasureToken:      "the number of registered users with at least one token that is active at the month's end; the events are a token of each",
	MeasureActivity:   "the number of users with a successful activity in the month; the events are the first of each",
}

// countedUsers is the number as the reports have it, and the accounts whose users are in it.
func (e *explanation) countedUsers(
	ctx context.Context, account, plan string, which int, cut Cut, state *directory.State,
) (number string, accounts []string, err error) {
	q := &staAsk{tenant: e.q.Tenant, account: account, cut: cut, state: state, months: []usage.Month{e.month}}
	if _, ok := state.Account(account, directory.Latest); !ok {
		return "", nil, unknownAccount("account", account)
	}
	b, err := e.staRead(ctx, q, staNeed{staNumbers: staNumbers{population: staMeasures[which] != MeasureActivity, activity: staMeasures[which] == MeasureActivity}})
	if err != nil {
		return "", nil, err
	}
	m := &b.months[0]
	x, ok := b.index[account]
	switch {
	case !ok || !m.exists[x] || m.missing[x]:
		return "", []string{}, nil // the report shows no number
	case plan == "":
		return strconv.FormatUint(uint64(m.own[x][which]), 10), []string{account}, nil
	}
	accounts = []string{}
	wanted := slices.Index(directory.STAPlans(), plan)
	for i, id := range b.ids {
		if m.exists[i] && m.below[i] && !m.missing[i] && int(m.plan[i]) == wanted {
			accounts = append(accounts, id)
		}
	}
	return strconv.FormatUint(uint64(m.tree[x][wanted][which]), 10), accounts, nil
}

// liveUsers are the directory events of accounts that are in the cut, not voided and before the month's end.
const liveUsers = `tenant = {tenant:String} AND sign = 1 AND account IN {accounts:Array(String)} AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + `
        AND (source, id) NOT IN (SELECT source, id FROM {{db}}.directory_events WHERE tenant = {tenant:String} AND sign = -1 AND ` + inCut + `)`

// lastSaid is what was said last of each user, and where.
const lastSaid = `
    SELECT account, JSONExtractString(data, 'user_id') AS user,
        argMax((CAST(type, 'String'), CAST(source, 'String'), id, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), shard, seq, idx), (at, source, JSONExtractInt(data, 'source_seq'), id)) AS event
    FROM {{db}}.directory_events
    WHERE type IN ('user.registered', 'user.removed') AND ` + liveUsers + `
    GROUP BY account, user
    HAVING tupleElement(event, 1) = 'user.registered'`

const registeredList = `
(` + lastSaid + `
)`

const tokenList = `
(
    SELECT account, user, argMin(event, token) AS event
    FROM
    (
        SELECT account, JSONExtractString(data, 'token_id') AS token, argMax(JSONExtractString(data, 'user_id'), (at, source, JSONExtractInt(data, 'source_seq'), id)) AS user,
            argMax(JSONExtractString(data, 'state'), (at, source, JSONExtractInt(data, 'source_seq'), id)) AS state,
            argMax((CAST(type, 'String'), CAST(source, 'String'), id, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), shard, seq, idx), (at, source, JSONExtractInt(data, 'source_seq'), id)) AS event
        FROM {{db}}.directory_events
        WHERE type = 'token.state_set' AND ` + liveUsers + `
        GROUP BY account, token
        HAVING state = 'active'
    )
    WHERE (account, user) IN (SELECT account, user FROM (` + lastSaid + `))
    GROUP BY account, user
)`

const activityList = `
(
    SELECT CAST(account, 'String') AS account, JSONExtractString(data, 'user_id') AS user,
        argMin((CAST(type, 'String'), CAST(source, 'String'), id, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), shard, seq, idx), (at, source, JSONExtractInt(data, 'source_seq'), id)) AS event
    FROM {{db}}.events
    WHERE tenant = {tenant:String} AND meter = 'activity' AND type = 'user.activity' AND sign = 1 AND account IN {accounts:Array(String)}
        AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + `
        AND (source, id) NOT IN (SELECT source, id FROM {{db}}.events WHERE tenant = {tenant:String} AND meter = 'activity' AND sign = -1 AND ` + inCut + `)
    GROUP BY account, user
)`

const userList = `
SELECT account, user, tupleElement(event, 1), tupleElement(event, 2), tupleElement(event, 3), tupleElement(event, 4), tupleElement(event, 5),
    tupleElement(event, 6), tupleElement(event, 7), tupleElement(event, 8), toInt64(count() OVER ())
FROM `

const userOrder = `
ORDER BY account, user
LIMIT {limit:UInt64} OFFSET {skip:UInt64}`

// userStatements list users by measure, each with the event that makes it count, and count them.
var userStatements = map[string][2]string{ //nolint:gochecknoglobals // a table of constants
	MeasureRegistered: {userList + registeredList + userOrder, "SELECT toInt64(count()) FROM " + registeredList},
	MeasureToken:      {userList + tokenList + userOrder, "SELECT toInt64(count()) FROM " + tokenList},
	MeasureActivity:   {userList + activityList + userOrder, "SELECT toInt64(count()) FROM " + activityList},
}

// listUsers lists users with the event that makes each count, and says how many there are: blank where the report
// shows no number.
func (e *explanation) listUsers(ctx context.Context, measure string, accounts []string, cut Cut, blank bool) (string, error) {
	params := cut.params(map[string]any{
		"tenant": e.q.Tenant, "accounts": accounts, "from": e.month.Start().Millis(), "to": e.month.End().Millis(), "limit": e.limit(), "skip": e.q.Skip,
	})
	err := e.query(ctx, "count the evidence", userStatements[measure][1], params, func(row warehouse.Rows) error { return row.Scan(&e.out.Total) })
	if err != nil {
		return "", err
	}
	err = e.query(ctx, "list the evidence", userStatements[measure][0], params, e.scanUser)
	if blank { // the account is not there, or its data are missing: no number, and none is made up
		return "", err
	}
	return strconv.FormatInt(e.out.Total, 10), err
}

// scanUser reads a row of userList.
func (e *explanation) scanUser(row warehouse.Rows) error {
	v := Evidence{Sign: 1, Counts: "1", Status: Stored}
	var total int64
	err := row.Scan(&v.Account, &v.About, &v.Type, &v.Source, &v.ID, (*int64)(&v.At), (*int64)(&v.RecordedAt), &v.Shard, &v.Seq, &v.Idx, &total)
	e.out.Events = append(e.out.Events, v)
	return err
}

const storedFigure = `
SELECT close_id, value
FROM {{db}}.month_figures
WHERE tenant = {tenant:String} AND month = {month:String} AND close_id IN {closes:Array(String)} AND account = {account:String} AND plan = {plan:String} AND measure = {measure:String}`

// storedUsers are what closed versions stored of the same number.
func (e *explanation) storedUsers(ctx context.Context, account, plan, measure string) error {
	if plan == "" {
		return nil
	}
	params := map[string]any{"account": account, "plan": plan, "measure": measure}
	numbers := map[string]string{}
	err := e.ofVersions(ctx, storedFigure, params, func(row warehouse.Rows) error {
		var of, number string
		err := row.Scan(&of, &number)
		numbers[of] = number
		return err
	})
	e.listVersions(numbers)
	return err
}
