package report

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// rowKey says which value of a question names which column of a report's row.
type rowKey struct{ value, column string }

// rowReport is a report whose cells are explained: how a row is told apart, and what is behind its columns.
type rowReport struct {
	keys     []rowKey
	measures map[string]func(e *explanation, ctx context.Context, row sheet.Row, column func(string) string) error
	first    string // the measure where none is asked for
}

func rowReports() map[string]rowReport {
	type behind = func(e *explanation, ctx context.Context, row sheet.Row, column func(string) string) error
	subscription := map[string]behind{"Cost": (*explanation).ofSubscription, "Items Quantity": (*explanation).ofSubscription}
	transaction := map[string]behind{"Cost": (*explanation).ofSubscription, "Total": (*explanation).ofSubscription}
	return map[string]rowReport{
		"subscriptions": {keys: []rowKey{{"subscription", "Subscription ID"}}, first: "Cost", measures: subscription},
		"transactions":  {keys: []rowKey{{"transaction", "Transaction ID"}}, first: "Cost", measures: transaction},
		"asset-usage-detail": {
			keys: []rowKey{{"asset", "assetId"}, {"meter", "meterName"}, {"day", "start"}, {"region", "billingRegion"}, {"platform", "platform"}}, first: "quantity",
			measures: map[string]behind{"quantity": (*explanation).ofAssets},
		},
		"asset-monthly-costs": {
			keys:  []rowKey{{"tenant", "tenantId"}, {"meter", "meterName"}, {"region", "billingRegion"}, {"plan", "plan"}, {"trial", "trial"}},
			first: "quantity", measures: map[string]behind{"quantity": (*explanation).ofAssets, measureCost: (*explanation).ofCost},
		},
		"tenant-usage": {
			keys: []rowKey{{"tenant", "Tenant ID"}}, first: "SMS/Voice Credits Used",
			measures: map[string]behind{"SMS/Voice Credits Used": (*explanation).ofCredits, "Users Used": (*explanation).ofActiveUsers},
		},
	}
}

// measureCost is what a row of asset-monthly-costs costs. Only a row has tiers, not a sum of several.
const measureCost = "cost"

// rows explains a cell of a report, or the sum of a column over the rows that fit.
func (e *explanation) rows(ctx context.Context) error {
	spec := rowReports()[e.q.Report]
	if e.older != nil || e.q.Version != 0 {
		return wrong("version", e.q.Report+" is explained by as_of")
	}
	if e.out.Measure == "" {
		e.out.Measure = spec.first
	}
	behind := spec.measures[e.out.Measure]
	if behind == nil {
		return wrong("measure", "want one of "+strings.Join(slices.Sorted(maps.Keys(spec.measures)), ", "))
	}
	fits, column, err := e.fitting(ctx)
	if err != nil {
		return err
	}
	if len(fits) == 0 {
		return &Error{Code: CodeNotFound, Detail: "no row of " + e.q.Report + " fits"}
	}
	if e.out.Measure == measureCost && len(fits) > 1 {
		return wrong("trial", "several rows fit: name tenant, meter, region, plan and trial of one")
	}
	if e.out.Measure != measureCost || fits[0][column(measureCost)] != "" { // blank: there is no price
		if e.out.Number, err = sumOf(fits, column(e.out.Measure)); err != nil {
			return err
		}
	}
	return behind(e, ctx, fits[0], func(name string) string { return fits[0][column(name)] })
}

// fitting are the rows of the report that the question is about, and where its columns are.
func (e *explanation) fitting(ctx context.Context) (fits []sheet.Row, column func(string) int, err error) {
	d, _ := Define(e.q.Report)
	values := map[string]string{}
	for _, p := range d.Parameters {
		if value, ok := e.q.Values[p.Name]; ok {
			values[p.Name] = value
		}
	}
	if tenant := e.q.Values["tenant"]; e.q.Report == "tenant-usage" && tenant != "" {
		values["tenants"] = tenant
	}
	answer, err := e.RunAt(ctx, Query{Tenant: e.q.Tenant, Report: e.q.Report, Values: values}, e.cut)
	if err != nil {
		return nil, nil, err
	}
	column = func(name string) int {
		return slices.IndexFunc(answer.Columns, func(c sheet.Column) bool { return c.Name == name })
	}
	for row, err := range answer.Rows {
		if err != nil {
			return nil, nil, err
		}
		other := slices.ContainsFunc(rowReports()[e.q.Report].keys, func(k rowKey) bool {
			want, asked := e.q.Values[k.value]
			have := row[column(k.column)]
			if k.value == "trial" {
				want = strings.ToUpper(want)
			}
			return asked && want != have && (k.value != "day" || !strings.HasPrefix(have, want+"T"))
		})
		if !other {
			fits = append(fits, slices.Clone(row))
		}
	}
	return fits, column, nil
}

// sumOf is the sum of a column, in its shortest form; of one row its cell.
func sumOf(rows []sheet.Row, column int) (string, error) {
	total := "0"
	for _, row := range rows {
		negative, err := minus("0", row[column])
		if err == nil {
			total, err = minus(total, negative)
		}
		if err != nil {
			return "", err
		}
	}
	return total, nil
}

// ofSubscription lists what was said of a subscription, and makes the report again in a world where of all
// subscriptions there is only this one.
func (e *explanation) ofSubscription(ctx context.Context, _ sheet.Row, column func(string) string) error {
	subscription := column("Subscription ID")
	e.out.How = "the same report of a world that has these events and no others of any subscription"
	refused := map[Position]bool{}
	for _, u := range e.state.Rulings() {
		refused[Position(u.Position)] = true
	}
	voided := map[[2]string]bool{}
	var about []directory.Event
	within := context.WithValue(ctx, onlyEvents{}, func(v *directory.Event) bool {
		domain, _, _ := strings.Cut(v.Type, ".")
		if domain != "subscription" && domain != "inventory" && domain != "renewal_inventory" {
			return true
		}
		var data struct {
			SubscriptionID string `json:"subscription_id"`
		}
		if json.Unmarshal([]byte(v.Data), &data) != nil || data.SubscriptionID != subscription || refused[Position(v.Position)] {
			return false
		}
		about = append(about, *v)
		voided[[2]string{v.Source, v.ID}] = voided[[2]string{v.Source, v.ID}] || v.Void
		return true
	})
	fits, index, err := e.fitting(within)
	if err != nil {
		return err
	}
	if e.out.Evidence, err = sumOf(fits, index(e.out.Measure)); err != nil {
		return err
	}
	slices.SortFunc(about, func(a, b directory.Event) int {
		if a.At != b.At {
			return int(a.At - b.At)
		}
		return strings.Compare(a.Source+"\x00"+a.ID, b.Source+"\x00"+b.ID)
	})
	all, seen := []Evidence{}, map[Position]bool{}
	for i := range about {
		v := &about[i]
		at := Position(v.Position)
		if seen[at] && !v.Void {
			continue // the world was folded more than once
		}
		seen[at] = true
		row := Evidence{Source: v.Source, ID: v.ID, Type: v.Type, Account: v.Account, At: Instant(v.At), RecordedAt: Instant(v.RecordedAt), Sign: 1, Status: Stored, About: subscription, Position: at}
		if v.Void {
			row.Sign = -1
		}
		if voided[[2]string{v.Source, v.ID}] {
			row.Status = Voided
		}
		all = append(all, row)
	}
	e.list(all)
	return nil
}

// ofAssets lists the usage behind a quantity of Secure Connect.
func (e *explanation) ofAssets(ctx context.Context, _ sheet.Row, column func(string) string) error {
	for _, name := range []string{"trial", "plan"} {
		if _, ok := e.q.Values[name]; ok {
			return wrong(name, "quantities of assets are explained with and without trial, and of all plans, together")
		}
	}
	return e.assetUsage(ctx, column, "the sum of quantity × sign of the rows, in trial and out of it")
}

// assetUsage lists the usage of a tenant's assets that the question is about, and adds it up.
func (e *explanation) assetUsage(ctx context.Context, column func(string) string, how string) error {
	meter, err := e.need("meter", "the row's meterName")
	if err != nil {
		return err
	}
	m := &metered{meter: meter, asset: e.q.Values["asset"], accounts: []string{column("tenantId")}, filters: map[string]string{}}
	m.from, m.to = e.month.Start().Millis(), e.month.End().Millis()
	if day := e.q.Values["day"]; day != "" {
		at, err := Ask{values: map[string]string{"day": day}}.Date("day")
		if err != nil {
			return err
		}
		m.from, m.to = at, at+dayMillis
	}
	for _, name := range []string{"region", "platform"} {
		if value, ok := e.q.Values[name]; ok {
			m.filters[name] = value
		}
	}
	e.out.How = how
	return e.listSum(ctx, m)
}

// ofCredits lists the messages behind credits used.
func (e *explanation) ofCredits(ctx context.Context, _ sheet.Row, column func(string) string) error {
	from, to, err := daysOf(column)
	if err != nil {
		return err
	}
	e.out.How = "credits charged less credits returned in the period: the sum of quantity × sign of the rows"
	m := &metered{
		from: from, to: to, meter: "sms_credits", others: []string{"voice_credits", "credits_returned"}, accounts: []string{column("Tenant ID")}, filters: map[string]string{},
	}
	return e.listSum(ctx, m)
}

func daysOf(column func(string) string) (from, to int64, err error) {
	ask := Ask{values: map[string]string{"from": column("Period Start"), "to": column("Period End")}}
	if from, err = ask.Date("from"); err != nil {
		return 0, 0, err
	}
	to, err = ask.Date("to")
	return from, to + dayMillis, err
}

// listSum lists rows of usage and adds them up; the number has been found already.
func (e *explanation) listSum(ctx context.Context, m *metered) error {
	params := e.rowParams(m, m.accounts)
	if err := e.listRows(ctx, params, "sum"); err != nil {
		return err
	}
	return e.listCells(ctx, params)
}

// activeList is the last registration of each user who is active just before an instant: registered, and not
// said to be INACTIVE since last removed.
const activeList = `
(
    SELECT account, user, arrayLast(s -> tupleElement(s, 5) = 'user.registered', steps) AS registration,
        tuple('user.registered', tupleElement(registration, 2), tupleElement(registration, 4), tupleElement(registration, 1), tupleElement(registration, 7),
            tupleElement(registration, 8), tupleElement(registration, 9), tupleElement(registration, 10)) AS event
    FROM
    (
        SELECT account, JSONExtractString(data, 'user_id') AS user, arraySort(groupArray((toUnixTimestamp64Milli(at), CAST(source, 'String'), JSONExtractInt(data, 'source_seq'), id,
            CAST(type, 'String'), JSONExtractString(data, 'status'), toUnixTimestamp64Milli(recorded_at), shard, seq, idx))) AS steps
        FROM {{db}}.directory_events
        WHERE type IN ('user.registered', 'user.removed', 'user.status_set') AND ` + liveUsers + `
        GROUP BY account, user
        HAVING tupleElement(arrayLast(s -> tupleElement(s, 5) != 'user.status_set', steps), 5) = 'user.registered'
            AND tupleElement(arrayLast(s -> tupleElement(s, 5) != 'user.registered', steps), 6) != 'INACTIVE'
    )
)`

// ofActiveUsers lists the users that an entitlement is used up by.
func (e *explanation) ofActiveUsers(ctx context.Context, _ sheet.Row, column func(string) string) error {
	_, until, err := daysOf(column)
	if err != nil {
		return err
	}
	account := column("Tenant ID")
	if a, ok := e.state.Account(account, until-1); ok && a.Deleted {
		until = a.DeletedAt
	}
	e.out.How = "the number of users that are registered and not inactive at the period's end; the events are their registrations"
	params := e.cut.params(map[string]any{"tenant": e.q.Tenant, "accounts": []string{account}, "to": until, "limit": e.limit(), "skip": e.q.Skip})
	if err := e.query(ctx, "count the evidence", "SELECT toInt64(count()) FROM "+activeList, params, func(row warehouse.Rows) error { return row.Scan(&e.out.Total) }); err != nil {
		return err
	}
	e.out.Evidence = usage.Int(e.out.Total).String()
	return e.query(ctx, "list the evidence", userList+activeList+userOrder, params, e.scanUser)
}
