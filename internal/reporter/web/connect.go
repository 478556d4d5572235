package web

import (
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
	sheets "github.com/countinghouse/countinghouse/internal/report/sheet"
)

func connectPages() []page {
	view := func(pattern, title, menu string, serve func(*Site, *visit) (templ.Component, error)) page {
		return page{pattern: pattern, title: title, entity: access.SecureConnect, verb: access.View, menu: menu, serve: serve}
	}
	file := func(pattern string, serve func(*Site, *visit) (templ.Component, error)) page {
		return page{pattern: pattern, title: "Secure Connect", entity: access.SecureConnect, verb: access.Add, serve: serve}
	}
	return []page{
		view("GET /connect", "Secure Connect", menuReports, (*Site).connectDetail),
		view("GET /connect/costs", "Secure Connect Monthly Costs", "", (*Site).connectCosts),
		view("GET /connect/adjustments", "Secure Connect Adjustments", "", (*Site).connectAdjustments),
		view("GET /connect/organizations", "Organizations", "", (*Site).connectOrganizations),
		view("GET /connect/organizations/{id}", "Manage Secure Connect", "", (*Site).connectManage),
		file("GET /connect/detail/file", (*Site).connectDetailFile),
		file("GET /connect/costs/file", (*Site).connectCostsFile),
		file("GET /connect/adjustments/file", (*Site).connectAdjustmentsFile),
	}
}

func connectTabs(v *visit) []tab {
	return v.tabs(option{"/connect", "Detailed Usage"}, option{"/connect/costs", "Monthly Costs"}, option{"/connect/adjustments", "Adjustments"},
		option{"/connect/organizations", "Organizations"})
}

// organizations are the accounts that have Secure Connect tenants.
func organizations(accounts []report.AccountInfo) []report.AccountInfo {
	has := map[string]bool{}
	for _, a := range accounts {
		if a.Kind == "tenant" {
			has[a.Parent] = true
		}
	}
	return some(accounts, func(a report.AccountInfo) bool { return a.Kind == "organization" || has[a.ID] })
}

// networks are the Secure Connect tenants: of all organizations, or of one.
func networks(accounts []report.AccountInfo, organization string) []report.AccountInfo {
	kinds := map[string]string{}
	for _, a := range accounts {
		kinds[a.ID] = a.Kind
	}
	return some(accounts, func(a report.AccountInfo) bool {
		return (a.Kind == "tenant" || kinds[a.Parent] == "organization") && (organization == "" || a.Parent == organization)
	})
}

type connectView struct {
	v            *visit
	f            *form
	organization field
	months       []option
	years        []option
	found        []option // tenants that fit the search
	table        table
	pager        templ.Component
	state        string
	version      int
	file         string // address of the download that has begun
	name         string // of that file
	asked        bool   // the table is to be shown
	may          bool
}

// all reports whether all columns are shown, those too that say the same in every row.
func (view connectView) all() bool { return view.v.query("columns") == "all" }

// monthsOfYear are the months of the calendar, as choices.
func monthsOfYear() []option {
	var all []option
	for m := time.January; m <= time.December; m++ {
		all = append(all, option{fmt.Sprintf("%02d", m), m.String()})
	}
	return all
}

// connectDetail is the dialog of the detailed usage report: year, month, one tenant, Download.
func (s *Site) connectDetail(v *visit) (templ.Component, error) {
	accounts, err := s.reach(v, access.SecureConnect, access.View)
	if err != nil {
		return nil, err
	}
	v.title, v.lead = "Secure Connect Tenant's Detailed Usage Report", "Usage of every asset of one tenant, by day. Updated daily: of the running day it has what is there."
	tenants := networks(accounts, "")
	if len(tenants) == 0 {
		return joined(tabs("Secure Connect", connectTabs(v)), nothing(empty{text: "No account within your reach is a Secure Connect tenant yet."})), nil
	}
	f := newForm(v.URL.Query())
	view := connectView{v: v, f: f, may: v.viewer.May(access.SecureConnect, access.Add)}
	for _, m := range recentMonths(v, accounts) {
		if year := m.value[:4]; !slices.Contains(view.years, option{year, year}) {
			view.years = append(view.years, option{year, year})
		}
	}
	last := v.thisMonth().Prev().String()
	if f.text("year") == "" {
		f.values.Set("year", last[:4])
		f.values.Set("month", last[5:])
	}
	search := strings.ToLower(f.text("search"))
	for _, t := range tenants {
		if strings.Contains(strings.ToLower(t.Name+" "+t.ID), search) {
			view.found = append(view.found, option{t.ID, t.Name + " (" + t.ID + ")"})
		}
	}
	if len(view.found) == 1 && f.text("tenant") == "" {
		f.values.Set("tenant", view.found[0].value)
	}
	do := f.text("do")
	if do == "" || do == "search" {
		return connectDetailPage(view), nil
	}
	if f.text("tenant") == "" {
		f.refuse("tenant", "Choose one tenant.")
		return connectDetailPage(view), nil
	}
	if _, err := pick(tenants, f.text("tenant")); err != nil {
		return nil, err
	}
	return s.connectDetailShown(v, view, do)
}

func (s *Site) connectDetailShown(v *visit, view connectView, do string) (templ.Component, error) {
	f := view.f
	month := f.text("year") + "-" + f.text("month")
	q := s.question(v, "asset-usage-detail", "tenant", f.text("tenant"), "month", month)
	page, err := s.pageOf(v, q)
	if err != nil {
		return connectDetailPage(view), v.refused(f, err)
	}
	info, err := s.monthOf(v, month)
	if err != nil {
		return nil, err
	}
	view.state, view.version = info.State, info.Version
	if do == "download" {
		if !view.may {
			return nil, ErrForbidden
		}
		view.name = sheets.FileName(page.FileName, sheets.FormatCSV)
		view.file = href("/connect/detail/file", "tenant", f.text("tenant"), "month", month)
		downloads(v, view.file)
		return connectDetailPage(view), nil
	}
	view.asked, view.pager = true, pagerOf(v, page)
	columns := page.Columns
	view.table = v.reportTable("Detailed usage", columns, page.Rows, func(r sheets.Row, column string) string {
		start := at(columns, r, "start")
		return explainHref("asset-usage-detail", "tenant", f.text("tenant"), "month", month, "asset", at(columns, r, "assetId"), "meter", at(columns, r, "meterName"),
			"day", start[:min(len(start), len("2006-01-02"))], "region", at(columns, r, "billingRegion"), "platform", at(columns, r, "platform"), "measure", column)
	})
	if !view.all() {
		view.table = view.table.only([]string{"assetName", "assetId", "assetType", "meterName", "start", "quantity", "billingRegion", "platform", "trial", "trialExpiry"})
	}
	view.table.empty = empty{text: "The tenant has no usage in " + monthTitle(month) + ". Choose another month."}
	return connectDetailPage(view), nil
}

func (s *Site) connectDetailFile(v *visit) (templ.Component, error) {
	return s.file(v, s.question(v, "asset-usage-detail", "tenant", v.query("tenant"), "month", v.query("month")), formatOf(v))
}

// connectOrganization reads the organization that is asked for, and the months to choose from.
func (s *Site) connectOrganization(v *visit) (view connectView, one report.AccountInfo, err error) {
	accounts, err := s.reach(v, access.SecureConnect, access.View)
	if err != nil {
		return view, one, err
	}
	choice := organizations(accounts)
	f := newForm(v.URL.Query())
	view = connectView{v: v, f: f, may: v.viewer.May(access.SecureConnect, access.Add), months: recentMonths(v, accounts)}
	if len(choice) == 0 {
		return view, one, nil
	}
	one, err = pick(choice, f.text("organization"))
	f.values.Set("organization", one.ID)
	view.organization = accountField(f, "organization", "Organization", "", choice)
	return view, one, err
}

func noOrganizations(v *visit) templ.Component {
	return joined(tabs("Secure Connect", connectTabs(v)), nothing(empty{text: "No account within your reach is an organization with Secure Connect tenants yet."}))
}

func (s *Site) connectCosts(v *visit) (templ.Component, error) {
	view, one, err := s.connectOrganization(v)
	if err != nil {
		return nil, err
	}
	v.lead = "What an organization's tenants used in a month, and what it costs. Each row is the sum of the detailed usage, rounded once."
	if one.ID == "" {
		return noOrganizations(v), nil
	}
	f := view.f
	for _, name := range []string{"from", "to"} {
		if f.text(name) == "" {
			f.values.Set(name, v.thisMonth().Prev().String())
		}
	}
	result, err := s.Reports.Run(v.Context(), s.costsQuestion(v, f))
	if err != nil {
		return connectCostsPage(view), v.refused(f, err)
	}
	rows, err := rowsOf(result)
	if err != nil {
		return nil, err
	}
	columns := result.Columns
	view.table = v.reportTable("Monthly costs", columns, rows, func(r sheets.Row, column string) string {
		key := []string{"organization", one.ID, "month", at(columns, r, "month"), "tenant", at(columns, r, "tenantId"), "meter", at(columns, r, "meterName"), "region", at(columns, r, "billingRegion"), "measure", column}
		if column == "cost" { // a cost is of one row; usage is explained under trial and not, and of all plans, together
			key = append(key, "plan", at(columns, r, "plan"), "trial", strings.ToLower(at(columns, r, "trial")))
		}
		return explainHref("asset-monthly-costs", key...)
	})
	view.table.foot = costTotals(columns, rows)
	if !view.all() {
		view.table = view.table.only([]string{"tenantName", "plan", "month", "meterName", "billingRegion", "trial", "quantity", "currency", "cost"})
	}
	view.table.rows, view.pager = v.rows(view.table.rows)
	view.table.empty = empty{text: one.Name + " has no usage in this time. Choose other months."}
	if view.may {
		for _, format := range fileFormats() {
			v.actions = append(v.actions, action{
				title: format.title, file: true, href: href("/connect/costs/file", "organization", one.ID, "from", f.text("from"), "to", f.text("to"), "format", format.value),
			})
		}
	}
	return connectCostsPage(view), nil
}

func (s *Site) costsQuestion(v *visit, f *form) report.Query {
	from, to := f.text("from"), f.text("to")
	if from == to { // one month has a state of its own
		return s.question(v, "asset-monthly-costs", "organization", f.text("organization"), "month", from)
	}
	return s.question(v, "asset-monthly-costs", "organization", f.text("organization"), "from", from, "to", to)
}

func (s *Site) connectCostsFile(v *visit) (templ.Component, error) {
	return s.file(v, s.costsQuestion(v, newForm(v.URL.Query())), formatOf(v))
}

// costTotals are the sums of the costs, a row per currency: currencies are never added up.
func costTotals(columns []sheets.Column, rows []sheets.Row) []row {
	sums := map[string]*big.Rat{}
	for _, r := range rows {
		cost, ok := new(big.Rat).SetString(at(columns, r, "cost"))
		if !ok {
			continue // without a price there is no cost
		}
		currency := at(columns, r, "currency")
		if sums[currency] == nil {
			sums[currency] = new(big.Rat)
		}
		sums[currency].Add(sums[currency], cost)
	}
	var foot []row
	for _, currency := range slices.Sorted(maps.Keys(sums)) {
		line := make(row, len(columns))
		for i, c := range columns {
			switch c.Name {
			case columns[0].Name, "tenantName":
				line[i] = txt("Total " + currency)
			case "currency":
				line[i] = txt(currency)
			case "cost":
				line[i] = txt(sums[currency].FloatString(2))
			}
		}
		foot = append(foot, line)
	}
	return foot
}

func (s *Site) connectAdjustments(v *visit) (templ.Component, error) {
	view, one, err := s.connectOrganization(v)
	if err != nil {
		return nil, err
	}
	v.lead = "What became known later of months that were closed, in the month in which it became known."
	if one.ID == "" {
		return noOrganizations(v), nil
	}
	if view.f.text("month") == "" {
		view.f.values.Set("month", v.thisMonth().String())
	}
	month := view.f.text("month")
	result, err := s.Reports.Run(v.Context(), s.question(v, "asset-adjustments", "organization", one.ID, "processing_month", month))
	if err != nil {
		return connectAdjustmentsPage(view), v.refused(view.f, err, "processing_month", "month")
	}
	rows, err := rowsOf(result)
	if err != nil {
		return nil, err
	}
	columns := result.Columns
	view.table = v.reportTable("Adjustments", columns, rows, func(r sheets.Row, column string) string {
		key := []string{"organization", one.ID, "measure", column, "month", at(columns, r, "usage_month"), "figure", at(columns, r, "measure"), "trial", strings.ToLower(at(columns, r, "trial"))}
		for _, name := range []string{"processing_month", "account", "plan", "meter", "region", "platform", "from_version", "to_version"} {
			key = append(key, name, at(columns, r, name))
		}
		return explainHref("asset-adjustments", key...)
	})
	view.table.rows, view.pager = v.rows(view.table.rows)
	view.table.empty = empty{text: "Nothing became known in " + monthTitle(month) + " that changes a closed month of " + one.Name + "."}
	if view.may {
		v.actions = []action{{title: "CSV", file: true, href: href("/connect/adjustments/file", "organization", one.ID, "month", month)}}
	}
	return connectAdjustmentsPage(view), nil
}

func (s *Site) connectAdjustmentsFile(v *visit) (templ.Component, error) {
	return s.file(v, s.question(v, "asset-adjustments", "organization", v.query("organization"), "processing_month", v.query("month")), formatOf(v))
}

func (s *Site) connectOrganizations(v *visit) (templ.Component, error) {
	accounts, err := s.reach(v, access.SecureConnect, access.View)
	if err != nil {
		return nil, err
	}
	t := table{
		name:    "Organizations",
		columns: []column{{title: "Organization", kind: asHead}, {title: "ID", kind: asShort}, {title: "Currency", kind: asShort}, {title: "Tenants", kind: asNumber}, {title: "Status", kind: asShort}, {title: "Secure Connect"}},
		empty:   empty{text: "No account within your reach is an organization with Secure Connect tenants yet."},
	}
	for _, a := range organizations(accounts) {
		t.rows = append(t.rows, row{
			txt(a.Name), txt(a.ID), txt(a.Currency), txt(strconv.Itoa(len(networks(accounts, a.ID)))), comp(statusBadge(a.Status)),
			linked("Manage Secure Connect", "/connect/organizations/"+url.PathEscape(a.ID)),
		})
	}
	return joined(tabs("Secure Connect", connectTabs(v)), v.paged(t)), nil
}

func (s *Site) connectManage(v *visit) (templ.Component, error) {
	accounts, err := s.reach(v, access.SecureConnect, access.View)
	if err != nil {
		return nil, err
	}
	one, err := pick(organizations(accounts), v.PathValue("id"))
	if err != nil {
		return nil, err
	}
	v.crumbs = []crumb{{"Secure Connect", "/connect"}, {"Organizations", "/connect/organizations"}}
	v.lead = "Secure Connect tenants of " + one.Name + "."
	v.actions = []action{{title: "Monthly Costs", href: href("/connect/costs", "organization", one.ID)}}
	t := table{
		name:    "Tenants of " + one.Name,
		columns: []column{{title: "Tenant", kind: asHead}, {title: "ID", kind: asShort}, {title: "Plans"}, {title: "Status", kind: asShort}, {title: "Usage"}},
		empty:   empty{text: one.Name + " has no tenants yet."},
	}
	for _, a := range networks(accounts, one.ID) {
		t.rows = append(t.rows, row{
			txt(a.Name), txt(a.ID), txt(strings.Join(a.Plans, ", ")), comp(statusBadge(a.Status)), linked("Get Detailed Usage Report", href("/connect", "tenant", a.ID)),
		})
	}
	return v.paged(t), nil
}
