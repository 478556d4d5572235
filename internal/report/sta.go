package report

import (
	"context"
	"fmt"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// staService is the service whose plans and status these reports are about.
const staService = "sta"

// staMonthsMax bounds the range of one question: ten years.
const staMonthsMax = 120

// Data Status of an account in a month.
const (
	dataAvailable   = "Available"
	dataNonExistent = "Non existent"
	dataMissing     = "Not available"
)

// staReports are the usage reports of STA: users by plan, at the ends of completed months.
func staReports() []Definition {
	account := Parameter{Name: "account", Doc: "account id", Example: "northwind", Required: true}
	return []Definition{
		{
			Name: "sta-usage", Title: "STA usage report",
			Doc: "Users registered, with an active token and with activity, of completed months, as it was at each month's end. On screen: the account and its direct " +
				"children, a row per plan, with everything below them. As export: a row per account and month, own numbers and those of the account with everything " +
				"below it by plan. The default file name is usage-report_<account>_<from>_<to>.",
			Parameters: []Parameter{
				account,
				{Name: "month", Doc: "completed month as YYYY-MM", Example: "2026-03"},
				{Name: "from", Doc: "first completed month as YYYY-MM, with to instead of month; export only", Example: "2026-01"},
				{Name: "to", Doc: fmt.Sprintf("last completed month as YYYY-MM; at most %d months", staMonthsMax), Example: "2026-03"},
				{
					Name: "scope", Doc: "own: only this account; children: and its direct children, the default; tree: the entire tree, export only",
					Values: []string{"own", "children", "tree"},
				},
				{Name: "measure", Doc: "what the screen counts; activity is the default", Values: []string{"activity", "token", "registered"}},
				{Name: "view", Doc: "screen, the default of JSON, or export, that of files", Values: []string{"screen", "export"}},
			},
			Run: staUsage,
		},
		{
			Name: "sta-monthly-summary", Title: "STA monthly usage summary",
			Doc: "Users with an active token at the end of each completed month, of the account and its direct children, by plan, with everything below them. JSON is a " +
				"document {accountId, months: [{month, accounts: [{accountId, accountName, parentAccountId, status, dataStatus, plans: [{plan, usersWithToken}]}]}]}.",
			Parameters: []Parameter{
				account,
				{Name: "from", Doc: "first completed month as YYYY-MM", Example: "2026-01", Required: true},
				{Name: "to", Doc: fmt.Sprintf("last completed month as YYYY-MM; at most %d months", staMonthsMax), Example: "2026-03", Required: true},
			},
			Columns: staSummaryColumns(), Run: staSummary,
		},
	}
}

// staAsk is a settled question: an account, months in order, and the directory that answers it.
type staAsk struct {
	tenant, account string
	cut             Cut
	pinned          bool // the cut, by an earlier page of the same answer
	state           *directory.State
	directory       string // what it was folded from, "" if not known
	months          []usage.Month
}

func staQuestion(ctx context.Context, r *Reports, ask Ask) (*staAsk, error) {
	q := &staAsk{tenant: ask.Tenant, account: ask.Text("account"), cut: ask.Cut, pinned: ask.Pinned}
	var err error
	if q.months, err = ask.completedMonths(); err != nil {
		return nil, err
	}
	if q.state, q.directory, err = r.directoryNamed(ctx, ask.Tenant, ask.Cut); err != nil {
		return nil, err
	}
	if _, ok := q.state.Account(q.account, directory.Latest); !ok {
		return nil, unknownAccount("account", q.account)
	}
	return q, nil
}

// completedMonths are the months asked for, which must be over.
func (a Ask) completedMonths() ([]usage.Month, error) {
	months, first, last, err := a.months(staMonthsMax)
	if err != nil {
		return nil, err
	}
	current := usage.MonthOf(usage.AtTime(a.Now))
	done := func(m usage.Month) bool { return m.Compare(current) < 0 }
	switch {
	case !done(months[0]):
		return nil, wrong(first, "want a completed month: "+current.Prev().String()+" or earlier")
	case !done(months[len(months)-1]):
		return nil, wrong(last, "want a completed month: "+current.Prev().String()+" or earlier")
	}
	return months, nil
}

// months reads month, or from and to: at most so many, and the names of the parameters of the first and the last.
func (a Ask) months(most int) (all []usage.Month, first, last string, err error) {
	first, last = "from", "to"
	switch {
	case a.Text("month") != "" && (a.Text("from") != "" || a.Text("to") != ""):
		return nil, "", "", wrong("month", "give either month, or from and to")
	case a.Text("month") != "":
		first, last = "month", "month"
	case a.Text("from") == "" && a.Text("to") == "":
		return nil, "", "", wrong("month", "give a month as YYYY-MM, or from and to")
	}
	from, err := a.Month(first)
	if err != nil {
		return nil, "", "", err
	}
	to, err := a.Month(last)
	if err != nil {
		return nil, "", "", err
	}
	if from.Compare(to) > 0 {
		return nil, "", "", wrong(last, "the range ends before it begins: want "+first+" <= "+last)
	}
	for m := from; m.Compare(to) <= 0; m = m.Next() {
		if all = append(all, m); len(all) > most {
			return nil, "", "", wrong(last, fmt.Sprintf("want at most %d months", most))
		}
	}
	return all, first, last, nil
}

func staUsage(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	q, err := staQuestion(ctx, r, ask)
	if err != nil {
		return nil, err
	}
	view := ask.Text("view")
	if view == "" {
		view = "screen"
		if ask.Export || len(q.months) > 1 { // the screen shows one month
			view = "export"
		}
	}
	if view == "export" {
		return r.staExport(ctx, q, ask)
	}
	if len(q.months) > 1 {
		return nil, wrong("view", "the screen shows one month: give month, or view=export")
	}
	measure := ask.Text("measure")
	if measure == "" {
		measure = MeasureActivity
	}
	return r.staScreen(ctx, q, measure, ask.Text("scope") == "own")
}

// staMeasures are the measures in the order of the numbers of staCounts.
var staMeasures = [...]string{MeasureRegistered, MeasureToken, MeasureActivity}

// staHeadings are the names of the measures' columns.
var staHeadings = [...]string{"Users Registered", "Users with Token", "Users with Activity"}

func staMeasure(name string) int { return slices.Index(staMeasures[:], name) }

// staNumbers says which numbers a question needs: they cost a query of their own.
type staNumbers struct{ population, activity bool }

// staFileName is the suggested name of an export.
func (q *staAsk) staFileName() string {
	return "usage-report_" + q.account + "_" + q.months[0].String() + "_" + q.months[len(q.months)-1].String()
}

func staExportColumns() []sheet.Column {
	columns := []sheet.Column{
		{Name: "Account Name", Kind: sheet.Text, Doc: "as it was at the month's end"},
		{Name: "Account ID", Kind: sheet.Text},
		{Name: "Parent Account Name", Kind: sheet.Text, Doc: "blank for a root"},
		{Name: "Parent Account ID", Kind: sheet.Text},
		{Name: "Month", Kind: sheet.Month},
		{Name: "Status", Kind: sheet.Code, Doc: "Active or Disabled, as set at the month's end"},
		{Name: "Data Status", Kind: sheet.Code, Doc: dataAvailable + ", " + dataNonExistent + " or " + dataMissing},
		{Name: "Plan", Kind: sheet.Code, Doc: "at the month's end"},
	}
	for _, name := range staHeadings {
		columns = append(columns, sheet.Column{Name: name, Kind: sheet.Whole, Adds: true, Doc: "of the account alone"})
	}
	for _, plan := range directory.STAPlans() {
		for _, measure := range [...]string{"Registered", "Token", "Activity"} {
			columns = append(columns, sheet.Column{
				Name: "Tree " + plan + " " + measure, Kind: sheet.Whole, Doc: "of the account and all below it that have this plan",
			})
		}
	}
	return columns
}
