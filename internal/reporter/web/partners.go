package web

import (
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
	sheets "github.com/countinghouse/countinghouse/internal/report/sheet"
)

func partnerPages() []page {
	return []page{
		{pattern: "GET /partners", title: "Partner Reports", entity: access.PartnerReports, verb: access.View, menu: menuReports, serve: (*Site).partners},
		{pattern: "GET /partners/view", title: "Partner Reports", entity: access.PartnerReports, verb: access.View, serve: (*Site).partnerView},
		{pattern: "GET /partners/file", title: "Partner Reports", entity: access.PartnerReports, verb: access.Add, serve: (*Site).partnerFile},
	}
}

func partnerTypes() []option {
	return []option{{"subscriptions", "Customer Subscriptions"}, {"transactions", "Customer Transactions"}, {"certificate-usage", "Customer Usage"}}
}

func titleOf(options []option, value string) string {
	for _, o := range options {
		if o.value == value {
			return o.title
		}
	}
	return value
}

type partnersView struct {
	f                 *form
	partner, customer field
}

func (s *Site) partners(v *visit) (templ.Component, error) {
	f := newForm(v.URL.Query())
	accounts, err := s.reach(v, access.PartnerReports, access.View)
	if err != nil {
		return nil, err
	}
	choice := partnersOf(accounts)
	if len(choice) == 0 {
		return nothing(empty{text: "No account within your reach has customers. A distributor or reseller appears here with its first customer."}), nil
	}
	v.lead = "Subscriptions, transactions and certificates of customers. The report opens in a new tab."
	if f.text("type") == "" {
		f.values.Set("type", "subscriptions")
	}
	if f.text("partner") == "" {
		f.values.Set("partner", choice[0].ID)
	}
	return partnersPage(partnersView{
		f: f, partner: accountField(f, "partner", "Partner", "", choice), customer: accountField(f, "customer", "Customer", "All customers", customersOf(accounts)),
	}), nil
}

// partnersOf are the accounts that can have customers: distributors and resellers first in line, then whoever has
// accounts below.
func partnersOf(accounts []report.AccountInfo) []report.AccountInfo {
	if known := some(accounts, func(a report.AccountInfo) bool { return a.Kind == "distributor" || a.Kind == "reseller" }); len(known) > 0 {
		slices.SortStableFunc(known, func(a, b report.AccountInfo) int { return strings.Compare(rank(a.Kind), rank(b.Kind)) })
		return known
	}
	return providers(accounts)
}

func rank(kind string) string {
	if kind == "distributor" {
		return "0"
	}
	return "1"
}

func customersOf(accounts []report.AccountInfo) []report.AccountInfo {
	return some(accounts, func(a report.AccountInfo) bool { return a.Kind == "customer" })
}

// partnerReport is a report as it is shown: the columns there are and those on display, in their order.
type partnerReport struct {
	v       *visit
	f       *form
	name    string
	partner report.AccountInfo
	all     []string
	shown   []string
	open    []string // customers, or customers and types, whose rows are unfolded
	table   table
	pager   templ.Component
	may     bool
}

func (s *Site) partnerView(v *visit) (templ.Component, error) {
	p, q, err := s.partnerAsk(v, access.View)
	if err != nil {
		return nil, err
	}
	v.title, v.crumbs = titleOf(partnerTypes(), p.name), []crumb{{"Partner Reports", href("/partners", "type", p.name, "partner", p.partner.ID)}}
	p.may = v.viewer.May(access.PartnerReports, access.Add)
	page, err := s.pageOf(v, q)
	if err != nil {
		return partnerPage(p), v.refused(p.f, err)
	}
	for _, c := range page.Columns {
		p.all = append(p.all, c.Name)
	}
	if v.query("choose") != "" {
		return nil, redirect{p.chosen()}
	}
	p.shown = slices.DeleteFunc(listOf(v.query("columns")), func(name string) bool { return !slices.Contains(p.all, name) })
	if len(p.shown) == 0 {
		p.shown = p.all
	}
	p.table, p.pager = p.project(page.Columns, page.Rows), pagerOf(v, page)
	if err := s.unfold(v, &p, q, page); err != nil {
		return nil, err
	}
	if p.may {
		v.actions = []action{{title: "Export CSV", href: p.file("csv"), main: true, file: true}, {title: "Excel", href: p.file("xlsx"), file: true}}
	}
	return partnerPage(p), nil
}

// partnerAsk reads the question, for all columns.
func (s *Site) partnerAsk(v *visit, verb access.Verb) (p partnerReport, q report.Query, err error) {
	p = partnerReport{v: v, f: newForm(v.URL.Query()), name: v.queryOr("type", "subscriptions"), open: v.URL.Query()["open"]}
	if !slices.ContainsFunc(partnerTypes(), func(o option) bool { return o.value == p.name }) {
		return p, q, ErrNotFound
	}
	accounts, err := s.reach(v, access.PartnerReports, verb)
	if err != nil {
		return p, q, err
	}
	if p.partner, err = pick(partnersOf(accounts), v.query("partner")); err != nil {
		if p.partner, err = pick(accounts, v.query("partner")); err != nil { // whoever is within reach may be named
			return p, q, err
		}
	}
	pairs := []string{"partner", p.partner.ID, "customer", v.query("customer")}
	switch p.name {
	case "transactions":
		pairs = append(pairs, "from", v.query("from"), "to", v.query("to"))
	case "certificate-usage":
		pairs = append(pairs, "expand", v.query("expand"))
	}
	return p, s.question(v, p.name, pairs...), nil
}

func (s *Site) partnerFile(v *visit) (templ.Component, error) {
	_, q, err := s.partnerAsk(v, access.Add)
	if err != nil {
		return nil, err
	}
	if columns := v.query("columns"); columns != "" {
		q.Values["columns"] = columns
	}
	return s.file(v, q, formatOf(v))
}

// file is where exactly the columns on display are exported.
func (p *partnerReport) file(format string) string {
	pairs := []string{"choose", "", "at", "", "open", "", "format", format, "columns", strings.Join(p.shown, ",")}
	return address("/partners/file", p.v.URL.Query(), pairs...)
}

// chosen is the address of the page with the columns that the chooser sent: in its order, with the moves it asks for.
func (p *partnerReport) chosen() string {
	q := p.v.URL.Query()
	order, show := q["order"], q["show"]
	if i := slices.Index(order, q.Get("up")); i > 0 {
		order[i-1], order[i] = order[i], order[i-1]
	}
	if i := slices.Index(order, q.Get("down")); i >= 0 && i+1 < len(order) {
		order[i+1], order[i] = order[i], order[i+1]
	}
	var columns []string
	for _, name := range order {
		if slices.Contains(show, name) && slices.Contains(p.all, name) {
			columns = append(columns, name)
		}
	}
	for _, name := range []string{"order", "show", "up", "down", "choose"} {
		q.Del(name)
	}
	to := address("/partners/view", q, "columns", strings.Join(columns, ","))
	if p.v.query("up")+p.v.query("down") != "" {
		to += "#columns" // the chooser stays open
	}
	return to
}

// chooser is all columns: those on display in their order, then the others.
func (p *partnerReport) chooser() []tickedColumn {
	var list []tickedColumn
	for _, name := range p.shown {
		list = append(list, tickedColumn{name, true})
	}
	for _, name := range p.all {
		if !slices.Contains(p.shown, name) {
			list = append(list, tickedColumn{name, false})
		}
	}
	return list
}

type tickedColumn struct {
	name  string
	shown bool
}

// project sets rows with all columns as a table of those on display.
func (p *partnerReport) project(columns []sheets.Column, rows []sheets.Row) table {
	t := p.v.reportTable(titleOf(partnerTypes(), p.name), columns, rows, func(r sheets.Row, column string) string {
		return p.explain(columns, r, column)
	}).only(p.shown)
	var shown []sheets.Column
	for _, name := range p.shown {
		i := slices.IndexFunc(columns, func(c sheets.Column) bool { return c.Name == name })
		shown = append(shown, columns[i])
	}
	t.columns = headings(shown) // as for a report that has no others
	t.empty = empty{text: "There is nothing to show for this choice.", do: "Choose again", href: href("/partners", "type", p.name, "partner", p.partner.ID)}
	return t
}

func (p *partnerReport) explain(columns []sheets.Column, r sheets.Row, column string) string {
	base := []string{"partner", p.partner.ID, "measure", column}
	switch p.name {
	case "subscriptions":
		return explainHref(p.name, append(base, "subscription", at(columns, r, "Subscription ID"))...)
	case "transactions":
		return explainHref(p.name, append(base, "transaction", at(columns, r, "Transaction ID"))...)
	}
	base = append(base, "customer", at(columns, r, "Customer ID"))
	if kind := at(columns, r, "Certificate Type"); kind != "" {
		base = append(base, "type", kind)
	}
	if product := at(columns, r, "Product"); product != "" {
		base = append(base, "product", product)
	}
	if !slices.Contains(report.ExplainedReports(), p.name) {
		return ""
	}
	return explainHref(p.name, base...)
}

// unfold puts the rows of certificate types, and of products, under the customers that are open.
func (s *Site) unfold(v *visit, p *partnerReport, q report.Query, page *report.Page) error {
	if p.name != "certificate-usage" || v.query("expand") != "" || len(p.table.rows) == 0 {
		return nil
	}
	var rows []row
	for i, r := range page.Rows {
		id := at(page.Columns, r, "Customer ID")
		rows = append(rows, p.table.rows[i])
		first := &rows[len(rows)-1][0]
		label := *first
		*first = comp(unfolder(p, id, label.text))
		if !slices.ContainsFunc(p.open, func(o string) bool { return o == id || strings.HasPrefix(o, id+"\x1f") }) {
			continue
		}
		below, err := s.unfolded(v, p, q, id)
		if err != nil {
			return err
		}
		rows = append(rows, below...)
	}
	p.table.rows = rows
	return nil
}

// unfolded are the rows below a customer.
func (s *Site) unfolded(v *visit, p *partnerReport, q report.Query, customer string) ([]row, error) {
	read := func(expand string) (columns []sheets.Column, rows []sheets.Row, err error) {
		result, err := s.Reports.Run(v.Context(), s.question(v, q.Report, "partner", p.partner.ID, "customer", customer, "expand", expand))
		if err != nil {
			return nil, nil, err
		}
		rows, err = rowsOf(result)
		return result.Columns, rows, err
	}
	types, byType, err := read("customer")
	if err != nil {
		return nil, err
	}
	var products []sheets.Column
	var byProduct []sheets.Row
	if slices.ContainsFunc(p.open, func(o string) bool { return strings.HasPrefix(o, customer+"\x1f") }) {
		if products, byProduct, err = read("type"); err != nil {
			return nil, err
		}
	}
	var out []row
	for _, r := range byType {
		kind := at(types, r, "Certificate Type")
		key := customer + "\x1f" + kind
		out = append(out, p.below(types, r, comp(unfolder(p, key, "\u2003"+kind))))
		if !slices.Contains(p.open, key) {
			continue
		}
		for _, one := range byProduct {
			if at(products, one, "Certificate Type") == kind {
				out = append(out, p.below(products, one, txt("\u2003\u2003"+at(products, one, "Product"))))
			}
		}
	}
	return out, nil
}

// below is a row under a customer's: its name where the customer's is, and the numbers under theirs.
func (p *partnerReport) below(columns []sheets.Column, r sheets.Row, name cell) row {
	out := row{name}
	for _, c := range p.shown[1:] {
		switch c {
		case "Current Inventory", "Available", "Used":
			to := ""
			if p.v.viewer.May(access.Usage, access.View) {
				to = p.explain(columns, r, c)
			}
			out = append(out, explained(at(columns, r, c), to))
		default:
			out = append(out, txt(""))
		}
	}
	return out
}

// folded is the address with one row folded or unfolded.
func (p *partnerReport) folded(key string) string {
	q := p.v.URL.Query()
	open := slices.Clone(p.open)
	if i := slices.Index(open, key); i >= 0 {
		open = slices.Delete(open, i, i+1)
	} else {
		open = append(open, key)
	}
	q["open"] = open
	if len(open) == 0 {
		q.Del("open")
	}
	return address("/partners/view", q)
}

// listOf are the parts of a list with commas.
func listOf(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}
