package web

import (
	"errors"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
	sheets "github.com/countinghouse/countinghouse/internal/report/sheet"
)

func monthlyPages() []page {
	return []page{
		{pattern: "GET /monthly", title: "Monthly Usage", entity: access.Reports, verb: access.View, menu: menuReports, serve: (*Site).monthly},
		{pattern: "GET /monthly/file", title: "Monthly Usage", entity: access.Reports, verb: access.Add, serve: (*Site).monthlyFile},
	}
}

type monthlyView struct {
	v       *visit
	f       *form
	account field
	months  []option
	by      []string
	state   string
	version int
	table   table
	pager   templ.Component
	whole   bool   // of the whole tenant
	plain   string // says why numbers lead nowhere, where they do not
}

func monthlyGroups() []option {
	return []option{{"account", "Account"}, {"plan", "Plan"}, {"region", "Region"}, {"platform", "Platform"}, {"trial", "Trial"}}
}

func (s *Site) monthlyAsk(v *visit, verb access.Verb) (monthlyView, report.Query, error) {
	accounts, err := s.reach(v, access.Reports, verb)
	if err != nil {
		return monthlyView{}, report.Query{}, err
	}
	f := newForm(v.URL.Query())
	view := monthlyView{v: v, f: f, months: recentMonths(v, accounts), by: v.URL.Query()["by"]}
	none := "All accounts"
	if !v.viewer.ReachesAll(access.Reports, verb) {
		none = ""
		one, err := pick(accounts, f.text("account"))
		if err != nil {
			return view, report.Query{}, err
		}
		f.values.Set("account", one.ID)
	}
	if f.text("month") == "" {
		f.values.Set("month", v.thisMonth().String())
	}
	if len(view.by) == 0 {
		view.by = []string{"account", "plan"}
	}
	view.account = accountField(f, "account", "Account", none, accounts)
	pairs := []string{"month", f.text("month"), "account", f.text("account"), "plan", f.text("plan"), "meter", f.text("meter"), "group_by", strings.Join(view.by, ",")}
	if f.text("account") != "" {
		pairs = append(pairs, "scope", f.text("scope"))
	}
	return view, s.question(v, "monthly-usage", pairs...), nil
}

func (s *Site) monthly(v *visit) (templ.Component, error) {
	view, q, err := s.monthlyAsk(v, access.View)
	if err != nil {
		return nil, err
	}
	v.lead = "Usage of a month by account, plan and meter: the account's own, and with everything below it."
	info, err := s.monthOf(v, view.f.text("month"))
	if err != nil {
		return monthlyPage(view), v.refused(view.f, err)
	}
	view.state, view.version = info.State, info.Version
	view.whole = view.f.text("account") == "" && v.viewer.ReachesAll(access.Usage, access.View)
	if !slices.Contains(view.by, "account") && (view.version > 0 || !view.whole) {
		view.plain = "Sums over several accounts lead to no explanation of their own. Group by account as well: each of those numbers leads to its events."
	}
	page, err := s.pageOf(v, q)
	if err != nil {
		return monthlyPage(view), v.refused(view.f, err, "group_by", "by")
	}
	if meter := view.f.text("meter"); meter != "" && len(page.Rows) == 0 {
		if err := s.meterFilter(v, view.f, meter); err != nil {
			return nil, err
		}
	}
	columns := page.Columns
	view.pager = pagerOf(v, page)
	view.table = v.reportTable("Monthly usage", columns, page.Rows, func(r sheets.Row, column string) string { return s.monthlyExplain(view, columns, r, column) }).only(view.columns())
	view.quietZeros()
	view.table.empty = empty{text: "No metered usage in " + monthTitle(view.f.text("month")) + " for this choice. Choose another month, or all accounts."}
	if len(view.table.columns) > 0 {
		view.table.columns[0].kind = asHead
	}
	if v.viewer.May(access.Reports, access.Add) {
		for _, o := range fileFormats() {
			v.actions = append(v.actions, action{title: o.title, file: true, href: address("/monthly/file", v.URL.Query(), "at", "", "month", view.f.text("month"), "format", o.value)})
		}
	}
	return monthlyPage(view), nil
}

// meterFilter refuses a meter that nobody used or defined, and names those that there are.
func (s *Site) meterFilter(v *visit, f *form, meter string) error {
	m, err := parseMonth(f.text("month"))
	if err != nil {
		return err
	}
	accounts, err := s.within(v)
	if err != nil {
		return err
	}
	meters, err := s.Reports.Meters(v.Context(), v.viewer.Tenant, m, accounts)
	if err != nil || slices.ContainsFunc(meters, func(one report.MeterInfo) bool { return one.Name == meter }) {
		return err
	}
	err = s.knownMeter(v, report.UsageQuery{Tenant: v.viewer.Tenant, Accounts: accounts, AsOf: latest, Meter: meter}, meters)
	var missing *meterMissing
	if !errors.As(err, &missing) {
		return err
	}
	names := texts(slices.Values(meters[:min(len(meters), groupsMost)]), func(one report.MeterInfo) string { return one.Name })
	return v.refused(f, &report.Error{Code: report.CodeParameter, Parameter: "meter", Detail: "no such meter; there are " + strings.Join(names, ", ")})
}

// quietZeros sets a dash where an account has no usage of its own: it is listed for what is below it.
func (view *monthlyView) quietZeros() {
	own := slices.IndexFunc(view.table.columns, func(c column) bool { return c.name == "events" })
	quantity := slices.IndexFunc(view.table.columns, func(c column) bool { return c.name == "quantity" })
	for _, r := range view.table.rows {
		if own >= 0 && quantity >= 0 && r[own].text == "0" && r[quantity].text == "0" {
			r[own], r[quantity] = txt("\u2013"), txt("\u2013")
		}
	}
}

// columns are those that the grouping fills.
func (view monthlyView) columns() []string {
	var list []string
	by := func(name string) bool { return slices.Contains(view.by, name) }
	if by("account") {
		list = append(list, "account_name")
	}
	list = append(list, "meter")
	for _, name := range []string{"plan", "region", "platform", "trial"} {
		if by(name) || name == "plan" && view.f.text("plan") != "" {
			list = append(list, name)
		}
	}
	list = append(list, "unit", "quantity", "events")
	if by("account") { // the instants of first and last use are in the file: with them the table is wider than a screen
		return append(list, "quantity_tree", "events_tree")
	}
	return append(list, "first_at", "last_at")
}

// monthlyExplain leads to where a number comes from: one that is of an account.
func (s *Site) monthlyExplain(view monthlyView, columns []sheets.Column, r sheets.Row, column string) string {
	if !slices.Contains([]string{"quantity", "events", "quantity_tree", "events_tree"}, column) {
		return ""
	}
	name, pairs := "monthly-usage", []string{"meter", at(columns, r, "meter"), "measure", column}
	switch {
	case slices.Contains(view.by, "account"):
		pairs = append(pairs, "account", at(columns, r, "account"), "month", view.f.text("month"))
	case view.version > 0 || !view.whole:
		return ""
	default: // of all accounts
		m, _ := parseMonth(view.f.text("month")) // it has an answer
		name, pairs = report.ReportUsage, append(pairs, "from", report.Instant(m.Start().Millis()).String(), "to", report.Instant(m.End().Millis()).String())
	}
	for _, name := range []string{"plan", "region", "platform"} {
		if slices.Contains(view.by, name) {
			pairs = append(pairs, name, at(columns, r, name))
		}
	}
	if slices.Contains(view.by, "trial") {
		pairs = append(pairs, "trial", strings.ToLower(at(columns, r, "trial")))
	}
	return explainHref(name, pairs...)
}

func (s *Site) monthlyFile(v *visit) (templ.Component, error) {
	_, q, err := s.monthlyAsk(v, access.Add)
	if err != nil {
		return nil, err
	}
	return s.file(v, q, formatOf(v))
}
