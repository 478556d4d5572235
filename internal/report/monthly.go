package report

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Groupings of monthly-usage; meters are always told apart, because their quantities do not add up.
var monthGroupings = []string{"account", "plan", "region", "platform", "trial"} //nolint:gochecknoglobals // a table of constants

// monthlyReports are the monthly aggregates as a report.
func monthlyReports() []Definition {
	return []Definition{{
		Name: "monthly-usage", Title: "Monthly usage",
		Doc: "Usage of a month per account, plan, meter, region, platform and trial, as /months/{month}/usage: the account's own, and with all accounts below it in the tree at " +
			"the month's end (_tree). A closed month is its newest version, unless as_of or version say otherwise. Rows are in the order of their first columns.",
		Parameters: []Parameter{
			{Name: "month", Doc: "month as YYYY-MM", Example: "2026-03", Required: true},
			{Name: "account", Doc: "account id; all accounts where it is not given", Example: "acme"},
			{Name: "scope", Doc: "with account. own: only it, the default; children: and its direct children; tree: and all accounts below it", Values: []string{"own", "children", "tree"}},
			{Name: "plan", Doc: "only usage under this plan", Example: "Gold"},
			{Name: "meter", Doc: "only this meter", Example: "api_calls"},
			{Name: "layout", Doc: "focus: the column names of FOCUS 1, for programs of FinOps; without group_by", Values: []string{"plain", layoutFocus}},
			{
				Name: "group_by", Example: "account,plan",
				Doc: "some of " + strings.Join(monthGroupings, ", ") + ", separated by commas: what rows are told apart by, beside the meter; all of it where it is not given. " +
					"Columns that are left out are blank; without account there are no _tree columns either.",
			},
		},
		Columns: monthColumns(), Run: monthlyUsage,
	}}
}

func monthColumns() []sheet.Column {
	return []sheet.Column{
		{Name: "month", Kind: sheet.Month},
		{Name: "version", Kind: sheet.Whole, Doc: "of a closed month, from 1; 0: computed from the rows of the cut, as it always is with as_of"},
		{Name: "closed", Kind: sheet.Bool},
		{Name: "account", Kind: sheet.Code},
		{Name: "account_name", Kind: sheet.Text},
		{Name: "plan", Kind: sheet.Text, Doc: "at the instant of use"},
		{Name: "meter", Kind: sheet.Code},
		{Name: "unit", Kind: sheet.Text},
		{Name: "region", Kind: sheet.Code},
		{Name: "platform", Kind: sheet.Code},
		{Name: "trial", Kind: sheet.Bool},
		{Name: "resolved", Kind: sheet.Bool, Doc: "whether the account had been created by the end of the month"},
		{Name: "quantity", Kind: sheet.Decimal, Adds: true, Doc: "the account's own; blank where the meter has no value"},
		{Name: "events", Kind: sheet.Whole, Adds: true},
		{Name: "quantity_tree", Kind: sheet.Decimal, Doc: "with all accounts below it"},
		{Name: "events_tree", Kind: sheet.Whole},
		{Name: "first_at", Kind: sheet.Instant},
		{Name: "last_at", Kind: sheet.Instant},
		{Name: "log_position", Kind: sheet.Code, Doc: "of a closed version: how much of the log it counts, shard/sequence for every shard; blank until then, where the answer's positions say it"},
	}
}

// monthAsk is a question for monthly-usage.
type monthAsk struct {
	tenant   string
	month    usage.Month
	cut      Cut
	version  int      // the closed version whose cut it is; 0: none
	accounts []string // in scope, sorted; nil: all
	filter   MonthFilter
	by       grouping
	all      bool // told apart by everything
}

func monthlyUsage(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	q := monthAsk{tenant: ask.Tenant, cut: ask.Cut, version: ask.Version, filter: MonthFilter{Plan: ask.Text("plan"), Meter: ask.Text("meter")}}
	var err error
	if q.month, err = ask.Month("month"); err != nil {
		return nil, err
	}
	if q.by, q.all, err = monthGrouping(ask); err != nil {
		return nil, err
	}
	if ask.Text("layout") == layoutFocus && !q.all {
		return nil, wrong("group_by", "layout=focus tells rows apart by everything: leave group_by out")
	}
	if q.filter.Plan != "" {
		q.by.plan = true // one plan is left: no row more
	}
	state, name, err := r.directoryNamed(ctx, q.tenant, q.cut.held())
	if err != nil {
		return nil, err
	}
	if q.accounts, err = monthScope(ask, state.Tree(q.month.End().Millis())); err != nil {
		return nil, err
	}
	rows, err := r.monthAnswer(ctx, q, named{state, name})
	if err != nil {
		return nil, err
	}
	file := "monthly-usage_" + q.month.String()
	if account := ask.Text("account"); account != "" {
		file = "monthly-usage_" + account + "_" + q.month.String()
	}
	if ask.Text("layout") == layoutFocus {
		return &Answer{Table: sheet.Table{Columns: focusColumns(), Rows: q.focus(rows)}, FileName: "focus_" + file}, nil
	}
	return &Answer{Table: sheet.Table{Columns: monthColumns(), Rows: q.table(rows)}, FileName: file}, nil
}

// monthGrouping reads group_by; all where it is not given.
func monthGrouping(ask Ask) (by grouping, all bool, err error) {
	names := ask.List("group_by")
	if names == nil {
		return wholeGrouping(), true, nil
	}
	for i, name := range names {
		if !slices.Contains(monthGroupings, name) || slices.Contains(names[:i], name) {
			return by, false, wrong("group_by", "want each at most once of "+strings.Join(monthGroupings, ", "))
		}
	}
	return groupingOf(names), false, nil
}

// monthScope are the accounts a report is about, sorted; nil: all.
func monthScope(ask Ask, tree *directory.Tree) ([]string, error) {
	account, scope := ask.Text("account"), ask.Text("scope")
	if account == "" {
		if scope != "" {
			return nil, wrong("account", "must be given with scope")
		}
		return nil, nil
	}
	accounts := []string{account}
	switch scope {
	case "children":
		accounts = append(accounts, tree.Children(account)...)
	case "tree":
		accounts = append(accounts, tree.Below(account)...)
	}
	slices.Sort(accounts)
	return accounts, nil
}

// monthAnswer is the rows, stored ones where they can answer.
func (r *Reports) monthAnswer(ctx context.Context, q monthAsk, state named) ([]MonthRow, error) {
	if !q.all {
		return r.monthGrouped(ctx, q, state)
	}
	ask := MonthQuery{Tenant: q.tenant, Month: q.month, Version: q.version, MonthFilter: q.filter}
	if q.version == 0 {
		ask.Cut = &q.cut
	}
	if len(q.accounts) <= belowMax {
		ask.Accounts = q.accounts
	}
	m, err := r.MonthUsage(ctx, ask)
	if err != nil {
		return nil, err
	}
	rows := q.filter.Rows(m.Rows) // of a stored version
	if q.accounts == nil {
		return rows, nil
	}
	kept := []MonthRow{}
	for i := range rows {
		if _, ok := slices.BinarySearch(q.accounts, rows[i].Account); ok {
			kept = append(kept, rows[i])
		}
	}
	return kept, nil
}

// monthGrouped computes rows that are told apart by less: what is not a sum cannot be put together from rows that
// are told apart by more.
func (r *Reports) monthGrouped(ctx context.Context, q monthAsk, state named) ([]MonthRow, error) {
	if q.by.account {
		f := q.filter
		if f.Accounts = q.accounts; len(f.Accounts) > belowMax {
			f.Accounts = nil
		}
		rows, err := r.monthRows(ctx, q.tenant, q.month, q.cut, state, f, q.by)
		if err != nil || q.accounts == nil {
			return rows, err
		}
		return slices.DeleteFunc(rows, func(row MonthRow) bool { _, ok := slices.BinarySearch(q.accounts, row.Account); return !ok }), nil
	}
	ask := question{
		tenant: q.tenant, from: q.month.Start().Millis(), to: q.month.End().Millis(), cut: q.cut, state: state.State, directory: state.name, by: q.by, accounts: q.accounts,
	}
	own, err := r.monthCells(ctx, ask, q.filter.Meter)
	if err != nil {
		return nil, err
	}
	rows := []MonthRow{}
	for k, m := range own.all() {
		if m.live != 0 {
			row := kind{k, state.Meter(k.meter)}.row("", "", false, &monthCell{own: m})
			row.QuantityTree, row.EventsTree = "", -1
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, CompareMonthRows)
	return MonthFilter{Plan: q.filter.Plan}.Rows(rows), nil
}

// table is rows as cells; what they are not told apart by is blank.
func (q monthAsk) table(rows []MonthRow) func(yield func(sheet.Row, error) bool) {
	month, version, closed := q.month.String(), strconv.Itoa(q.version), sheet.Boolean(q.version != 0)
	position := make([]string, 0, len(q.cut.Shards))
	for _, shard := range slices.Sorted(maps.Keys(q.cut.Shards)) {
		position = append(position, strconv.Itoa(int(shard))+"/"+strconv.FormatUint(q.cut.Shards[shard], 10))
	}
	at := strings.Join(position, " ")
	if q.version == 0 { // positions move on while others send: the same as_of must give the same bytes
		at = ""
	}
	only := func(by bool, cell string) string {
		if by {
			return cell
		}
		return ""
	}
	return func(yield func(sheet.Row, error) bool) {
		for i := range rows {
			m := &rows[i]
			events := strconv.FormatInt(m.EventsTree, 10)
			row := sheet.Row{
				month, version, closed, m.Account, m.AccountName, only(q.by.plan, m.Plan), m.Meter, m.Unit, only(q.by.region, m.Region),
				only(q.by.platform, m.Platform), only(q.by.trial, sheet.Boolean(m.Trial)), only(q.by.account, sheet.Boolean(m.Resolved)),
				m.Quantity, strconv.FormatInt(m.Events, 10), m.QuantityTree, only(m.EventsTree >= 0, events), m.FirstAt.String(), m.LastAt.String(), at,
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}
