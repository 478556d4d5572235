package report

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// tenantLinesKept bounds the tenants of reports that are kept for the next page and question, over all who ask: about 600
// bytes each.
const tenantLinesKept = 100_000

// tenantMonthsMax bounds the period of a usage report.
const tenantMonthsMax = 18

// Contract modes. One that nobody set, or that says UNKNOWN, is treated as production.
const (
	modeTrial      = "TRIAL"
	modeProduction = "PRODUCTION"
	modeUnknown    = "UNKNOWN"
)

// tenantReports are the usage reports for service providers.
func tenantReports() []Definition {
	return []Definition{
		{
			Name: "tenant-usage", Title: "Usage of a service provider's tenants",
			Doc: "Users and message credits of the accounts below a provider that existed in the period, by name: what they are entitled to and what they used. " +
				"Users are those active at the period's end; of a tenant deleted in the period all numbers are as at its deletion.",
			Parameters: []Parameter{
				{Name: "account", Doc: "account id of the provider", Example: "northwind", Required: true},
				{Name: "tenants", Doc: "all, the default, or ids separated by commas", Example: "acme,globex"},
				{Name: "contract_mode", Doc: "only tenants in this mode at the end; PRODUCTION includes UNKNOWN", Values: []string{modeTrial, modeProduction, modeUnknown}},
				{Name: "from", Doc: "first day as YYYY-MM-DD, with to", Example: "2026-03-01"},
				{Name: "to", Doc: "last day as YYYY-MM-DD; at most 18 months, not in the future", Example: "2026-03-15"},
				{
					Name: "period", Doc: "instead of from and to, in whole UTC days; the last days are those before today; last_month is the default",
					Values: []string{"last_month", "current_month", "last_7_days", "last_30_days"},
				},
				{Name: "delimiter", Doc: "of CSV; comma is the default", Values: []string{"comma", "pipe"}},
			},
			Columns: tenantColumns(), Run: tenantUsage,
		},
		tenantBucketsReport(),
	}
}

func tenantColumns() []sheet.Column {
	return []sheet.Column{
		{Name: "Tenant ID", Kind: sheet.Text},
		{Name: "Tenant Name", Kind: sheet.Text},
		{Name: "Parent ID", Kind: sheet.Text},
		{Name: "Contract Mode", Kind: sheet.Code, Doc: "TRIAL, PRODUCTION or UNKNOWN"},
		{Name: "Bundle", Kind: sheet.Text, Doc: "bundles of the entitlements in force, joined by ;"},
		{Name: "Period Start", Kind: sheet.Date},
		{Name: "Period End", Kind: sheet.Date},
		{Name: "Users Entitled", Kind: sheet.Whole, Adds: true, Doc: "sum of the entitlements in force at the end"},
		{Name: "Users Used", Kind: sheet.Whole, Adds: true, Doc: "active users at the end"},
		{Name: "Users Remaining", Kind: sheet.Whole, Adds: true, Doc: "negative where more are used"},
		{Name: "SMS/Voice Credits Entitled", Kind: sheet.Decimal, Adds: true},
		{Name: "SMS/Voice Credits Used", Kind: sheet.Decimal, Adds: true, Doc: "charged in the period less returned in the period"},
		{Name: "SMS/Voice Credits Remaining", Kind: sheet.Decimal, Adds: true, Doc: "entitled less used since the entitlement's start"},
	}
}

// period settles the days of a question: [from, until) in Unix ms, whole UTC days.
func (a Ask) period() (from, until int64, err error) {
	today := a.Now.UTC().Truncate(24 * time.Hour)
	month := time.Date(today.Year(), today.Month(), 1, 0, 0, 0, 0, time.UTC)
	custom := a.Text("from") != "" || a.Text("to") != ""
	if preset := a.Text("period"); !custom {
		switch preset {
		case "current_month":
			return month.UnixMilli(), today.AddDate(0, 0, 1).UnixMilli(), nil
		case "last_7_days":
			return today.AddDate(0, 0, -7).UnixMilli(), today.UnixMilli(), nil
		case "last_30_days":
			return today.AddDate(0, 0, -30).UnixMilli(), today.UnixMilli(), nil
		}
		return month.AddDate(0, -1, 0).UnixMilli(), month.UnixMilli(), nil
	} else if preset != "" {
		return 0, 0, wrong("period", "give either period, or from and to")
	}
	if from, err = a.Date("from"); err != nil {
		return 0, 0, err
	}
	to, err := a.Date("to")
	switch {
	case err != nil:
		return 0, 0, err
	case to < from:
		return 0, 0, wrong("to", "the period ends before it begins: want from <= to")
	case to > today.UnixMilli():
		return 0, 0, wrong("to", "want a day that is not in the future: "+today.Format(time.DateOnly)+" or earlier")
	case to >= time.UnixMilli(from).UTC().AddDate(0, tenantMonthsMax, 0).UnixMilli():
		return 0, 0, wrong("to", "want a period of at most 18 months")
	}
	return from, to + dayMillis, nil
}

// tenantLine is a tenant of a usage report.
type tenantLine struct {
	account             directory.Account
	until               int64 // the numbers are as they were just before: the period's end, or its deletion
	bundles             string
	users, used         *big.Int // whole users
	credits, spent, all *big.Int // billionths: entitled, used in the period, used since the entitlement's start
	since               int64    // that start
}

func tenantUsage(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	from, until, err := ask.period()
	if err != nil {
		return nil, err
	}
	provider := ask.Text("account")
	all, err := r.tenantsKept(ctx, ask, provider, from, until)
	if err != nil {
		return nil, err
	}
	// Of a page, only its tenants are counted. What is kept is not written to.
	lines := slices.Clone(pageOf(all, ask))
	if err := r.tenantNumbers(ctx, ask, lines, from, until); err != nil {
		return nil, err
	}
	first, last := time.UnixMilli(from).UTC().Format(time.DateOnly), time.UnixMilli(until-dayMillis).UTC().Format(time.DateOnly)
	a := &Answer{FileName: "usage-report_" + provider + "_" + first + "_" + last, Delimiter: ','}
	if ask.Text("delimiter") == "pipe" {
		a.Delimiter = '|'
	}
	a.Columns, a.Seeks = tenantColumns(), true
	a.Rows = func(yield func(sheet.Row, error) bool) {
		for i := range lines {
			if !yield(lines[i].row(first, last), nil) {
				return
			}
		}
	}
	return a, nil
}

func (l *tenantLine) row(first, last string) sheet.Row {
	less := func(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }
	return sheet.Row{
		l.account.ID, l.account.Name, l.account.Parent, contractMode(l.account), l.bundles, first, last,
		l.users.String(), l.used.String(), less(l.users, l.used).String(),
		formatAmount(l.credits), formatAmount(l.spent), formatAmount(less(l.credits, l.all)),
	}
}

func contractMode(a directory.Account) string {
	if a.ContractMode == "" {
		return modeUnknown
	}
	return a.ContractMode
}

// tenantsKept are tenantLines, perhaps as they were kept: by the directory that they follow from.
func (r *Reports) tenantsKept(ctx context.Context, ask Ask, provider string, from, until int64) ([]tenantLine, error) {
	state, named, err := r.directoryNamed(ctx, ask.Tenant, ask.Cut)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s %s %q %q %q %d %d", ask.Tenant, named, provider, ask.List("tenants"), ask.Text("contract_mode"), from, until)
	if kept := r.tenants.get(name); kept != nil && named != "" {
		return *kept, nil
	}
	if _, ok := state.Account(provider, directory.Latest); !ok {
		return nil, unknownAccount("account", provider)
	}
	lines, err := tenantLines(state, ask, provider, from, until)
	if err != nil || named == "" {
		return lines, err
	}
	return *r.tenants.put(name, &lines, 1+len(lines)), nil
}

// tenantLines are the tenants that a question is about, by name, with what they are entitled to.
func tenantLines(state *directory.State, ask Ask, provider string, from, until int64) ([]tenantLine, error) {
	asked := ask.List("tenants")
	if len(asked) == 1 && asked[0] == "all" {
		asked = nil
	}
	below := state.Tree(until).Below(provider)
	ever := map[string]bool{}
	var lines []tenantLine
	for _, id := range below {
		ever[id] = true
		lived := slices.ContainsFunc(state.Lives(id), func(s directory.Span) bool { return s.From < until && from < s.To })
		if !lived || asked != nil && !slices.Contains(asked, id) {
			continue
		}
		l := tenantLine{until: until}
		if a, _ := state.Account(id, until-1); a.Deleted {
			l.until = a.DeletedAt
		}
		l.account = nearest(state, id, l.until-1)
		if mode, want := contractMode(l.account), ask.Text("contract_mode"); want != "" && mode != want && (want != modeProduction || mode != modeUnknown) {
			continue
		}
		l.entitle(state, from)
		lines = append(lines, l)
	}
	asked = slices.DeleteFunc(asked, func(id string) bool { return ever[id] })
	if len(asked) > 0 { // they may be below the provider at another time
		later := state.Tree(directory.Latest).Below(provider)
		for _, id := range asked {
			if !slices.Contains(later, id) {
				return nil, unknownAccount("tenants", id)
			}
		}
	}
	slices.SortFunc(lines, func(a, b tenantLine) int {
		if c := strings.Compare(a.account.Name, b.account.Name); c != 0 {
			return c
		}
		return strings.Compare(a.account.ID, b.account.ID)
	})
	return lines, nil
}

// entitle sums the entitlements in force at the end. Credits are used up since the earliest of those that grant
// any; without one, since the period's start.
func (l *tenantLine) entitle(state *directory.State, from int64) {
	users := new(big.Int)
	l.credits, l.since = new(big.Int), directory.Latest
	for _, e := range state.Entitlements(l.account.ID, l.until-1) {
		if !e.InForce(l.until - 1) {
			continue
		}
		if e.Users {
			users.Add(users, e.Quantity)
		}
		if e.Credits.Sign() > 0 {
			l.credits.Add(l.credits, e.Credits)
			l.since = min(l.since, e.Start)
		}
	}
	if l.since == directory.Latest {
		l.since = from
	}
	l.users = users.Quo(users, unit()) // there is no part of a user
	l.bundles = bundlesAt(state, l.account.ID, l.until-1)
}

// bundlesAt are the bundles of the entitlements in force, each once, in the order in which they are named.
func bundlesAt(state *directory.State, account string, at int64) string {
	var bundles []string
	for _, e := range state.Entitlements(account, at) {
		for _, b := range e.Bundles {
			if e.InForce(at) && !slices.Contains(bundles, b) {
				bundles = append(bundles, b)
			}
		}
	}
	return strings.Join(bundles, ";")
}

// Message credits, charged less returned: those since each account's own start, and of these those of the period.
const creditsUsed = `
SELECT account, toString(sumIf(toDecimal256(quantity, 9) * sign, toUnixTimestamp64Milli(at) >= {from:Int64})),
    toString(sumIf(toDecimal256(quantity, 9) * sign, toUnixTimestamp64Milli(at) >= transform(account, {began:Array(String)}, {starts:Array(Int64)}, {from:Int64})))
FROM {{db}}.events
WHERE tenant = {tenant:String} AND meter IN (` + creditMeters + `) AND type IN ('message.charged', 'message.credit_returned')
    AND at >= fromUnixTimestamp64Milli({earliest:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
    AND toUnixTimestamp64Milli(at) < transform(account, {ended:Array(String)}, {ends:Array(Int64)}, {until:Int64})
    AND (empty({accounts:Array(String)}) OR account IN {accounts:Array(String)}) AND ` + inCut + `
GROUP BY account`

// tenantNumbers reads users and credits of all lines.
func (r *Reports) tenantNumbers(ctx context.Context, ask Ask, lines []tenantLine, from, until int64) error {
	if len(lines) == 0 {
		return nil
	}
	of := map[string]*tenantLine{}
	accounts, began, starts, ended, ends := []string{}, []string{}, []int64{}, []string{}, []int64{}
	earliest := from
	for i := range lines {
		l := &lines[i]
		l.used, l.spent, l.all = new(big.Int), new(big.Int), new(big.Int)
		of[l.account.ID] = l
		accounts = append(accounts, l.account.ID)
		earliest = min(earliest, l.since)
		if l.until != until {
			ended, ends = append(ended, l.account.ID), append(ends, l.until)
		}
		if l.since != from {
			began, starts = append(began, l.account.ID), append(starts, l.since)
		}
	}
	if len(accounts) > filterMax {
		accounts = []string{}
	}
	params := func() map[string]any {
		return ask.Cut.params(map[string]any{
			"tenant": ask.Tenant, "accounts": accounts, "ended": ended, "ends": ends, "until": until, "began": began, "starts": starts, "from": from,
			"earliest": earliest,
		})
	}
	var earlier []tally // of accounts that ended before the others
	all, err := r.activeUsers(ctx, ask.Tenant, ask.Cut, until)
	if err == nil && len(ended) > 0 {
		earlier, err = r.activeExactly(ctx, ask.Tenant, ask.Cut, ended, ends, until)
	}
	if err != nil {
		return err
	}
	for _, t := range all {
		if l := of[t.account]; l != nil && l.until == until {
			l.used.SetUint64(t.n[0])
		}
	}
	for _, t := range earlier {
		if l := of[t.account]; l != nil && l.until != until {
			l.used.SetUint64(t.n[0])
		}
	}
	return r.query(ctx, "sum message credits", creditsUsed, params(), func(row warehouse.Rows) error {
		var account, spent, all string
		if err := row.Scan(&account, &spent, &all); err != nil {
			return err
		}
		l := of[account]
		if l == nil {
			return nil
		}
		var err error
		if l.spent, err = parseAmount(spent); err != nil {
			return err
		}
		l.all, err = parseAmount(all)
		return err
	})
}

// dayOf is the UTC day of an instant, counted from 1970.
func dayOf(ms int64) int64 { return usage.At(ms*1_000_000).Time().Unix() / 86_400 }
