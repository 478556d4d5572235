package web

import (
	"slices"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
	sheets "github.com/countinghouse/countinghouse/internal/report/sheet"
)

// latest is the watermark as an instant.
const latest = directory.Latest

func staPages() []page {
	return []page{
		{pattern: "GET /sta", title: "Usage Report (STA)", entity: access.UsageReport, verb: access.View, menu: menuReports, serve: (*Site).sta},
		{pattern: "GET /sta/export", title: "Export the usage report", entity: access.UsageReport, verb: access.Add, serve: (*Site).staExport},
		{pattern: "GET /sta/file", title: "Export the usage report", entity: access.UsageReport, verb: access.Add, serve: (*Site).staFile},
	}
}

// staMeasures are what the screen counts, in the asked order.
func staMeasures() []option {
	return []option{{"activity", "Users with Activity"}, {"token", "Users with Token"}, {"registered", "Registered Users"}}
}

func staScopes() []option {
	return []option{{"own", "Only this account"}, {"children", "Include direct child accounts"}, {"tree", "Entire account tree"}}
}

// staView is what the page shows.
type staView struct {
	v       *visit
	filter  *form
	account field
	months  []option
	state   string
	version int
	table   table
	partial []string // accounts in whose tree data is missing
	export  staExportView
	may     bool // export
}

// staExportView is the dialog of the export.
type staExportView struct {
	form     *form
	account  field
	months   []option
	name     string // of the file; "" until the choices are sent and right
	href     string
	included []sheets.Column
	where    string // names the fields of the dialog apart from those of the page
}

func (s *Site) sta(v *visit) (templ.Component, error) {
	accounts, err := s.reach(v, access.UsageReport, access.View)
	if err != nil {
		return nil, err
	}
	months := completedMonths(v, accounts)
	if len(accounts) == 0 || len(months) == 0 {
		return nothing(empty{text: "There is nothing to report yet: no account within your reach has a completed month. A month can be chosen from its end on."}), nil
	}
	f := newForm(v.URL.Query())
	own, err := pick(accounts, f.text("account"))
	if err != nil {
		return nil, err
	}
	f.values.Set("account", own.ID)
	if f.text("month") == "" {
		f.values.Set("month", months[0].value)
	}
	if f.text("measure") == "" {
		f.values.Set("measure", "activity")
	}
	view := staView{
		v: v, filter: f, account: accountField(f, "account", "Account", "", accounts), months: months,
		may: v.viewer.May(access.UsageReport, access.Add), export: staDialog(newForm(nil), own.ID, accounts, months),
	}
	v.lead = "Users at the end of a completed month, by plan: the account and its direct children, each with everything below it."
	if view.may {
		v.actions = []action{{title: "Export…", href: href("/sta/export", "account", own.ID), dialog: "sta-export"}}
	}
	q := s.question(v, "sta-usage", "account", own.ID, "month", f.text("month"), "measure", f.text("measure"), "view", "screen")
	result, err := s.Reports.Run(v.Context(), q)
	if err != nil {
		return staPage(view), v.refused(f, err)
	}
	info, err := s.monthOf(v, f.text("month"))
	if err != nil {
		return nil, err
	}
	view.state, view.version = info.State, info.Version
	var rows []sheets.Row
	for row, err := range result.Rows {
		if err != nil {
			return nil, err
		}
		rows = append(rows, slices.Clone(row))
		if complete, ok := result.Extra(row)["tree_complete"].(bool); ok && !complete && !slices.Contains(view.partial, row[0]) {
			view.partial = append(view.partial, row[0])
		}
	}
	view.table = v.reportTable("Users at the end of "+monthTitle(f.text("month")), result.Columns, rows, func(row sheets.Row, _ string) string {
		id, _ := result.Extra(row)["account_id"].(string)
		return explainHref("sta-usage", "account", id, "plan", row[1], "month", f.text("month"), "measure", f.text("measure"))
	})
	view.table.empty = empty{text: own.Name + " did not exist at the end of " + monthTitle(f.text("month")) + ", or neither it nor an account below it had a plan. Choose another month."}
	return staPage(view), nil
}

// monthOf is the state of a month by its name.
func (s *Site) monthOf(v *visit, name string) (report.MonthInfo, error) {
	m, err := parseMonth(name)
	if err != nil {
		return report.MonthInfo{}, err
	}
	return s.Reports.Month(v.Context(), v.viewer.Tenant, m)
}

// staDialog is the dialog before anything was chosen.
func staDialog(f *form, account string, accounts []report.AccountInfo, months []option) staExportView {
	set := func(name, value string) {
		if f.text(name) == "" {
			f.values.Set(name, value)
		}
	}
	set("account", account)
	set("scope", "children")
	set("from", months[0].value)
	set("to", months[0].value)
	return staExportView{form: f, account: accountField(f, "account", "Account", "", accounts), months: months, where: "x-"}
}

func (s *Site) staExport(v *visit) (templ.Component, error) {
	accounts, err := s.reach(v, access.UsageReport, access.Add)
	if err != nil {
		return nil, err
	}
	months := completedMonths(v, accounts)
	f := newForm(v.URL.Query())
	own, err := pick(accounts, f.text("account"))
	if err != nil {
		return nil, err
	}
	if len(months) == 0 {
		return nothing(empty{text: "No month is completed yet. A month can be exported from its end on."}), nil
	}
	v.crumbs = []crumb{{"Usage Report (STA)", href("/sta", "account", own.ID)}}
	asked := f.text("scope") != ""
	view := staDialog(f, own.ID, accounts, months)
	if !asked {
		return staExportPage(view), nil
	}
	q := s.staQuestion(v, own.ID)
	q.Export = true
	result, err := s.Reports.Run(v.Context(), q)
	if err != nil {
		return staExportPage(view), v.refused(f, err, "month", "from")
	}
	view.name, view.included = sheets.FileName(result.FileName, sheets.FormatCSV), result.Columns
	view.href = href("/sta/file", "account", own.ID, "scope", f.text("scope"), "from", f.text("from"), "to", f.text("to"))
	return staExportPage(view), nil
}

func (s *Site) staQuestion(v *visit, account string) report.Query {
	q := v.URL.Query()
	return s.question(v, "sta-usage", "account", account, "scope", q.Get("scope"), "from", q.Get("from"), "to", q.Get("to"), "view", "export")
}

func (s *Site) staFile(v *visit) (templ.Component, error) {
	accounts, err := s.reach(v, access.UsageReport, access.Add)
	if err != nil {
		return nil, err
	}
	own, err := pick(accounts, v.URL.Query().Get("account"))
	if err != nil {
		return nil, err
	}
	return s.file(v, s.staQuestion(v, own.ID), sheets.FormatCSV)
}
