package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
	sheets "github.com/countinghouse/countinghouse/internal/report/sheet"
)

func tenantPages() []page {
	return []page{
		{pattern: "GET /tenants", title: "Tenants", entity: access.ExportReports, verb: access.View, menu: menuReports, serve: (*Site).tenants},
		{pattern: "GET /tenants/usage", title: "Usage of tenants", entity: access.ExportReports, verb: access.View, serve: (*Site).tenantUsage},
		{pattern: "GET /tenants/generate", title: "Generate Usage Report", entity: access.ExportReports, verb: access.Add, serve: (*Site).tenantGenerate},
		{pattern: "POST /tenants/generate", title: "Generate Usage Report", entity: access.ExportReports, verb: access.Add, serve: (*Site).tenantSubmit},
	}
}

// tenantFilter is which tenants of a provider are meant.
type tenantFilter struct {
	provider                   report.AccountInfo
	one                        string // exactly this one
	name, mode, bundle, status string
}

func filterOf(f *form, provider report.AccountInfo) tenantFilter {
	return tenantFilter{
		provider: provider, one: f.text("tenant"), name: f.text("name"), mode: f.text("mode"), bundle: f.text("bundle"), status: f.text("status"),
	}
}

func (f tenantFilter) all() bool { return f.one == "" && !f.narrow() }

func (f tenantFilter) narrow() bool {
	return f.name != "" || f.mode != "" || f.bundle != "" || f.status != ""
}

// pairs are the filter as parameters of an address.
func (f tenantFilter) pairs() []string {
	return []string{"account", f.provider.ID, "tenant", f.one, "name", f.name, "mode", f.mode, "bundle", f.bundle, "status", f.status}
}

// of are the accounts below the provider that pass.
func (f tenantFilter) of(accounts []report.AccountInfo) []report.AccountInfo {
	name := strings.ToLower(f.name)
	return some(accounts, func(a report.AccountInfo) bool {
		switch {
		case a.ID == f.provider.ID || !strings.HasPrefix(a.Path, f.provider.Path), f.one != "" && a.ID != f.one:
			return false
		case name != "" && !strings.Contains(strings.ToLower(a.Name), name) && !strings.Contains(strings.ToLower(a.ID), name):
			return false
		}
		return (f.mode == "" || a.ContractMode == f.mode) && (f.bundle == "" || slices.Contains(a.Bundles, f.bundle)) && (f.status == "" || a.Status == f.status)
	})
}

// asked is the filter as parameter tenants of the report: all, or ids.
func (f tenantFilter) asked(accounts []report.AccountInfo) string {
	if f.all() {
		return "all"
	}
	var ids []string
	for _, a := range f.of(accounts) {
		ids = append(ids, a.ID)
	}
	return strings.Join(ids, ",")
}

// title says whose report it is.
func (f tenantFilter) title(accounts []report.AccountInfo) string {
	list := f.of(accounts)
	switch {
	case f.all():
		return fmt.Sprintf("all %s of %s", plural(len(list), "tenant"), f.provider.Name)
	case f.one != "" && len(list) == 1:
		return list[0].Name
	}
	return fmt.Sprintf("the %s of the filtered list", plural(len(list), "tenant"))
}

// tenantsView is the list.
type tenantsView struct {
	v        *visit
	f        *form
	filter   tenantFilter
	provider field
	bundles  []option
	table    table
	pager    templ.Component
	found    int
	may      bool // generate
}

// provider is the account whose tenants are shown, of those the viewer may choose.
func (s *Site) tenantsOf(v *visit, f *form, verb access.Verb) (accounts, choice []report.AccountInfo, one report.AccountInfo, err error) {
	if accounts, err = s.reach(v, access.ExportReports, verb); err != nil {
		return nil, nil, one, err
	}
	choice = providers(accounts)
	if len(choice) == 0 {
		return accounts, nil, one, nil
	}
	one, err = pick(choice, f.text("account"))
	f.values.Set("account", one.ID)
	return accounts, choice, one, err
}

func (v *visit) mayGenerate() bool {
	return v.viewer.MayAll(access.ReportNeeds()["tenant-usage"].All(true)) && v.viewer.May(access.Archive, access.Add)
}

func (s *Site) tenants(v *visit) (templ.Component, error) {
	f := newForm(v.URL.Query())
	accounts, choice, provider, err := s.tenantsOf(v, f, access.View)
	if err != nil {
		return nil, err
	}
	if len(choice) == 0 {
		return nothing(empty{text: "No account within your reach has tenants. A tenant is an account below another one; it appears here as soon as its creation was counted."}), nil
	}
	view := tenantsView{v: v, f: f, filter: filterOf(f, provider), provider: accountField(f, "account", "Service provider", "", choice), may: v.mayGenerate()}
	below := tenantFilter{provider: provider}.of(accounts)
	for _, a := range below {
		for _, b := range a.Bundles {
			if !slices.Contains(view.bundles, option{b, b}) {
				view.bundles = append(view.bundles, option{b, b})
			}
		}
	}
	list := view.filter.of(accounts)
	view.found = len(list)
	view.table = tenantTable(list, provider, view.may)
	view.table.rows, view.pager = v.rows(view.table.rows)
	v.lead = "Accounts below a service provider: what they are entitled to, and their usage reports."
	if view.may {
		v.actions = []action{{title: "Generate for all", href: href("/tenants/generate", "account", provider.ID), main: !view.filter.narrow()}}
	}
	return tenantsPage(view), nil
}

func tenantTable(list []report.AccountInfo, provider report.AccountInfo, may bool) table {
	t := table{
		name: "Tenants of " + provider.Name,
		columns: []column{
			{title: "Tenant", kind: asHead}, {title: "ID", kind: asShort}, {title: "Under", kind: asShort}, {title: "Contract mode", kind: asShort}, {title: "Bundles"},
			{title: "Users entitled", kind: asNumber}, {title: "Status", kind: asShort}, {title: "Actions"},
		},
		empty: empty{text: "No tenant fits the filter.", do: "Show all tenants", href: href("/tenants", "account", provider.ID)},
	}
	for _, a := range list {
		t.rows = append(t.rows, row{
			txt(a.Name), txt(a.ID), txt(a.Parent), txt(a.ContractMode), txt(strings.Join(a.Bundles, ", ")), txt(a.Users), comp(statusBadge(a.Status)),
			comp(tenantActions(a, provider.ID, may)),
		})
	}
	return t
}

func statusTone(status string) string {
	switch status {
	case "Active":
		return "good"
	case "Disabled":
		return "warn"
	}
	return ""
}

// rows are the rows of the page that parameter page names, and what leads to the others.
func (v *visit) rows(all []row) ([]row, templ.Component) {
	const most = 100
	n := v.number("page", 1, 1_000_000)
	if len(all) <= most {
		return all, nil
	}
	from := min((n-1)*most, len(all))
	to := min(from+most, len(all))
	prev, next := "", ""
	if n > 1 {
		prev = v.with("page", "")
	}
	if to < len(all) {
		next = v.with("page", whole(n+1))
	}
	return all[from:to], pager(prev, next, fmt.Sprintf("%s to %s of %s", grouped(whole(from+1)), grouped(whole(to)), grouped(whole(len(all)))))
}

// paged is a long table by pages.
func (v *visit) paged(t table) templ.Component {
	rows, pager := v.rows(t.rows)
	t.rows = rows
	return joined(sheet(t), pager)
}

// periods are the presets of a usage report.
func periods() []option {
	return []option{{"last_month", "Last Month"}, {"current_month", "Current Month"}, {"last_7_days", "Last 7 Days"}, {"last_30_days", "Last 30 Days"}, {"custom", "Custom"}}
}

// periodOf are the parameters of the report for a period chosen in a form.
func periodOf(f *form) []string {
	if p := f.text("period"); p != "custom" {
		return []string{"period", p}
	}
	for _, name := range []string{"from", "to"} {
		if _, err := time.Parse(time.DateOnly, f.text(name)); err != nil {
			f.refuse(name, "Choose a day: both are needed for a custom period.")
		}
	}
	return []string{"from", f.text("from"), "to", f.text("to")}
}

type tenantUsageView struct {
	v      *visit
	f      *form
	filter tenantFilter
	title  string
	table  table
	may    bool
}

// tenantUsage is the report on screen.
func (s *Site) tenantUsage(v *visit) (templ.Component, error) {
	f := newForm(v.URL.Query())
	accounts, choice, provider, err := s.tenantsOf(v, f, access.View)
	if err != nil {
		return nil, err
	}
	if len(choice) == 0 {
		return nil, ErrNotFound
	}
	if f.text("period") == "" {
		f.values.Set("period", "last_month")
	}
	filter := filterOf(f, provider)
	view := tenantUsageView{v: v, f: f, filter: filter, title: filter.title(accounts), may: v.mayGenerate()}
	v.crumbs, v.lead = []crumb{{"Tenants", href("/tenants", "account", provider.ID)}}, "Usage of "+view.title+"."
	if filter.one != "" && len(filter.of(accounts)) == 0 {
		return nil, ErrNotFound
	}
	if view.may {
		v.actions = []action{{title: "Generate Usage Report", href: href("/tenants/generate", filter.pairs()...), main: true}}
	}
	pairs := append([]string{"account", provider.ID, "tenants", filter.asked(accounts)}, periodOf(f)...)
	if !f.ok() {
		return tenantUsagePage(view), nil
	}
	result, err := s.Reports.Run(v.Context(), s.question(v, "tenant-usage", pairs...))
	if err != nil {
		return tenantUsagePage(view), v.refused(f, err)
	}
	rows, err := rowsOf(result)
	if err != nil {
		return nil, err
	}
	view.table = v.reportTable("Usage of tenants", result.Columns, rows, func(r sheets.Row, column string) string {
		return explainHref("tenant-usage", "account", provider.ID, "tenant", r[0], "from", r[5], "to", r[6], "measure", column)
	})
	view.table.empty = empty{text: "No tenant of this choice existed in the period. Choose another period."}
	return tenantUsagePage(view), nil
}

// rowsOf reads all rows of a report that is a list for a screen.
func rowsOf(result *report.Result) ([]sheets.Row, error) {
	var rows []sheets.Row
	for row, err := range result.Rows {
		if err != nil {
			return nil, err
		}
		rows = append(rows, slices.Clone(row))
	}
	return rows, nil
}

func dayField(f field) field {
	f.kind, f.placeholder = "date", "YYYY-MM-DD"
	return f
}
