package web

import (
	"cmp"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

func usagePages() []page {
	return []page{
		{pattern: "GET /usage", title: "Usage", entity: access.Usage, verb: access.View, menu: menuUsage, serve: (*Site).usage},
	}
}

const (
	usageRows   = 20_000 // rows of an answer that a page adds up
	belowMost   = 200    // accounts of a drill-down that are listed
	groupsMost  = 200
	windowsMost = 800 // hours of a month and a few
)

// usageView is the page of a meter.
type usageView struct {
	fields []field
	keep   []option // values that the form sends along
	path   []crumb  // of accounts, from the root down to the one looked at
	tiles  []tile
	chart  chart
	below  *table // accounts under the one looked at
	groups *table // by what was chosen
	series table
	notice templ.Component
	export string
	cut    string // says that not everything is listed

	unexplained string // says which numbers lead nowhere, and why
}

// usageAsk is what the address asks for.
type usageAsk struct {
	report.UsageQuery
	meter   report.MeterInfo
	month   string // "" for a period of several
	period  string
	group   string
	account string
	inside  []report.AccountInfo // the account looked at and all below it, or all within reach
	whole   bool                 // of the whole tenant
	now     int64                // Unix ms
}

func (s *Site) usage(v *visit) (templ.Component, error) {
	ask, view, err := s.usageAsk(v)
	var missing *meterMissing
	if errors.As(err, &missing) {
		v.status, v.title, v.crumbs = http.StatusNotFound, "No such meter", []crumb{{"Usage", "/usage"}}
		return noMeter(missing, func(name string) string { return v.with("meter", name) }), nil
	}
	if err != nil {
		return nil, err
	}
	if ask.meter.Name == "" {
		return nothing(empty{text: "No meter was used or defined yet. A meter appears with its first event.", do: "How to send events", href: "/api/v1/docs"}), nil
	}
	v.title = meterTitle(ask.meter.Meter)
	v.crumbs, v.charts = []crumb{{"Usage", "/usage"}}, true
	if v.title != ask.meter.Name {
		v.lead = "Meter " + ask.meter.Name + ". "
	}
	if ask.period == chosenPeriod {
		v.lead += spanTitle(ask.From, ask.To) + ", UTC."
	}
	series, err := s.Reports.MeterUsage(v.Context(), ask.UsageQuery)
	if err != nil {
		view.notice = s.trouble(v, err)
		return usageBody(view), nil
	}
	view.show(v, ask, series)
	view.chart.narrow = v.with("month", chosenPeriod, "window", "", "from", "", "to", "")
	if err := s.usageBelow(v, ask, view); err != nil {
		view.notice = s.trouble(v, err)
	}
	if ask.group != "" {
		if err := s.usageGroups(v, ask, view); err != nil {
			view.notice = s.trouble(v, err)
		}
	}
	return usageBody(view), nil
}

// usageAsk reads the address, and fills the form with what it says.
func (s *Site) usageAsk(v *visit) (*usageAsk, *usageView, error) {
	inside, err := s.reach(v, access.Usage, access.View)
	if err != nil {
		return nil, nil, err
	}
	var within []string // nil: the whole tenant
	if !v.viewer.ReachesAll(access.Usage, access.View) {
		if within, err = idsOf(inside); err != nil {
			return nil, nil, err
		}
	}
	ask := &usageAsk{account: v.query("account"), period: v.query("month"), group: v.query("group"), inside: inside, whole: within == nil, now: v.now.UnixMilli()}
	ask.UsageQuery = report.UsageQuery{Tenant: v.viewer.Tenant, Accounts: within, AsOf: directory.Latest, RowsMax: usageRows}
	m, err := ask.span(v)
	if err != nil {
		return nil, nil, err
	}
	meters, err := s.Reports.Meters(v.Context(), v.viewer.Tenant, m, within)
	if err != nil {
		return nil, nil, err
	}
	if err := ask.narrow(); err != nil {
		return nil, nil, err
	}
	name := v.query("meter")
	for i, one := range meters {
		if one.Name == name || name == "" && i == 0 {
			ask.meter, ask.Meter = one, one.Name
		}
	}
	if name != "" && ask.Meter == "" { // one that was used earlier only, or never
		ask.meter.Name, ask.Meter = name, name
		if err := s.knownMeter(v, ask.UsageQuery, meters); err != nil {
			return nil, nil, err
		}
	}
	view := usageForm(v, ask, meters)
	if err := oneOfOptions("group", ask.group, view.fields[3].options); err != nil {
		return nil, nil, err
	}
	return ask, view, report.CheckUsage(ask.UsageQuery)
}

// meterMissing is a meter that nobody used or defined, and those that somebody did.
type meterMissing struct {
	name   string
	meters []report.MeterInfo
}

func (m *meterMissing) Error() string { return "no meter " + m.name }

// knownMeter is a *meterMissing where the meter of a question was never used within the viewer's reach.
func (s *Site) knownMeter(v *visit, q report.UsageQuery, meters []report.MeterInfo) error {
	q.From, q.To, q.Window, q.GroupBy = 0, v.thisMonth().End().Millis(), "total", nil
	u, err := s.Reports.MeterUsage(v.Context(), q)
	if err != nil {
		return err
	}
	if len(u.Rows) == 0 || u.Rows[0].Events == 0 {
		return &meterMissing{q.Meter, meters}
	}
	return nil
}

// oneOfOptions is a refusal that names the allowed values, where the value of a parameter is none of them.
func oneOfOptions(name, value string, options []option) error {
	if value == "" || slices.ContainsFunc(options, func(o option) bool { return o.value == value }) {
		return nil
	}
	var allowed []string
	for _, o := range options {
		if o.value != "" {
			allowed = append(allowed, o.value)
		}
	}
	return &report.Error{Code: report.CodeParameter, Parameter: name, Detail: "want one of " + strings.Join(allowed, ", ")}
}

// narrow narrows the question to the subtree of the account looked at.
func (ask *usageAsk) narrow() error {
	if ask.account == "" {
		return nil
	}
	root, err := pick(ask.inside, ask.account)
	if err != nil {
		return err
	}
	ask.whole, ask.Accounts = false, nil
	ask.inside = some(ask.inside, func(a report.AccountInfo) bool { return strings.HasPrefix(a.Path, root.Path) })
	for _, a := range ask.inside {
		ask.Accounts = append(ask.Accounts, a.ID)
	}
	return nil
}

func usageForm(v *visit, ask *usageAsk, meters []report.MeterInfo) *usageView {
	f := newForm(url.Values{"meter": {ask.Meter}, "month": {ask.period}, "window": {ask.Window}, "group": {ask.group}})
	var names []option
	known := false
	for _, one := range meters {
		names = append(names, option{one.Name, meterChoice(one.Meter)})
		known = known || one.Name == ask.Meter
	}
	if !known && ask.Meter != "" {
		names = append(names, option{ask.Meter, ask.Meter})
	}
	months := append(recentMonths(v, ask.inside), option{yearPeriod, "The last 12 months"})
	if ask.month != "" && !slices.ContainsFunc(months, func(o option) bool { return o.value == ask.month }) {
		months = append(months, option{ask.month, monthTitle(ask.month)})
	}
	if ask.period == chosenPeriod {
		months = append(months, option{chosenPeriod, spanTitle(ask.From, ask.To)})
	}
	by := []option{{"", "Accounts only"}, {"plan", "Plan"}, {"region", "Region"}, {"platform", "Platform"}, {"trial", "Trial"}, {"consumer_id", "Consumer"}, {"item", "Item"}}
	view := &usageView{fields: []field{
		f.choice("meter", "Meter", names), f.choice("month", "Period", months),
		f.choice("window", "Each row is", []option{{"day", "a day"}, {"hour", "an hour"}, {"month", "a month"}}), f.choice("group", "Also by", by),
	}}
	if ask.account != "" {
		view.keep = []option{{"account", ask.account}}
	}
	if ask.period == chosenPeriod {
		view.keep = append(view.keep, option{"from", report.Instant(ask.From).String()}, option{"to", report.Instant(ask.To).String()})
	}
	view.path = accountCrumbs(v, ask)
	query := url.Values{"from": {report.Instant(ask.From).String()}, "to": {report.Instant(ask.To).String()}, "window": {ask.Window}, "format": {"csv"}}
	query["account"] = ask.Accounts
	if len(ask.Accounts) > 100 { // longer addresses are refused on the way
		query["account"] = nil
	}
	if ask.group != "" {
		query.Set("group_by", ask.group)
	}
	if ask.account == "" && ask.whole || len(ask.Accounts) > 0 && len(ask.Accounts) <= 100 {
		view.export = "/api/v1/meters/" + url.PathEscape(ask.Meter) + "/usage?" + query.Encode()
	}
	return view
}

// accountCrumbs are the accounts from the root down to the one looked at, as far as they are within reach.
func accountCrumbs(v *visit, ask *usageAsk) []crumb {
	if ask.account == "" {
		return nil
	}
	path := []crumb{{"All accounts", v.with("account", "")}}
	root := ask.inside[0]
	for _, id := range strings.Split(strings.Trim(root.Path, "/"), "/") {
		if id == root.ID {
			path = append(path, crumb{root.Name, ""})
		} else if v.viewer.ReachesAll(access.Usage, access.View) {
			path = append(path, crumb{id, v.with("account", id)})
		}
	}
	return path
}

// show fills in the series.
func (view *usageView) show(v *visit, ask *usageAsk, u *report.Usage) {
	unit := u.Meter.Unit
	quantities, events := quantitiesOf(u), int64(0)
	view.chart = chart{title: meterTitle(ask.meter.Meter) + " by " + ask.Window, unit: unit}
	view.series = table{name: "Over time", columns: []column{
		{title: titled(ask.Window), kind: asHead}, {title: "Quantity" + inUnit(unit), kind: asNumber}, {title: "Events", kind: asNumber},
	}, empty: empty{text: "Nothing was used in this period."}}
	byStart := map[report.Instant]report.UsageRow{}
	for _, r := range u.Rows {
		byStart[r.Start] = r
		events += r.Events
	}
	for start := range windowsOf(ask) {
		r, ok := byStart[start]
		label, name := windowLabel(ask.Window, start), windowName(ask.Window, start)
		value := "0"
		if int64(start) > ask.now { // nobody knows yet
			value = ""
		}
		if ok {
			value = r.Quantity
			view.series.rows = append(view.series.rows, row{
				linked(name, finer(v, ask, r)), explained(r.Quantity, ask.ofAll(int64(r.Start), int64(r.End), report.MeasureQuantity)),
				explained(whole(r.Events), ask.ofAll(int64(r.Start), int64(r.End), "events")),
			})
		}
		view.chart.labels, view.chart.values = append(view.chart.labels, label), append(view.chart.values, value)
		view.chart.names, view.chart.starts = append(view.chart.names, name), append(view.chart.starts, start)
	}
	view.chart.starts = append(view.chart.starts, report.Instant(ask.To))
	if adds(u.Meter) {
		total := sumOf(quantities)
		ofTotal := ask.ofAll(ask.From, ask.To, report.MeasureQuantity)
		view.series.foot = []row{{txt("Total"), explained(total, ofTotal), explained(whole(events), ask.ofAll(ask.From, ask.To, "events"))}}
		view.tiles = append(view.tiles, tile{label: "Total of the period", value: total, unit: unit, href: ofTotal})
		if len(u.Rows) > 0 {
			i := mostOf(quantities)
			r := u.Rows[i]
			view.tiles = append(view.tiles, tile{
				label: "Most in one " + ask.Window, value: r.Quantity, unit: unit, note: windowName(ask.Window, r.Start), href: ask.ofAll(int64(r.Start), int64(r.End), report.MeasureQuantity),
			})
		}
	}
	view.tiles = append(view.tiles, tile{label: "Events", value: whole(events), href: ask.ofAll(ask.From, ask.To, "events")})
	view.unexplained = ask.unexplained()
	aggregation := cmp.Or(u.Meter.Aggregation, "sum")
	view.tiles = append(view.tiles, tile{label: "How the meter counts", value: aggregation, note: u.Meter.Kind})
}

// adds reports whether a meter's quantities of parts add up to that of the whole.
func adds(m directory.Meter) bool {
	return m.Aggregation == "" || m.Aggregation == "sum" || m.Aggregation == "count"
}

func quantitiesOf(u *report.Usage) []string {
	return texts(slices.Values(u.Rows), func(r report.UsageRow) string { return r.Quantity })
}

// mostOf is where the largest is.
func mostOf(quantities []string) int {
	all, _ := scaled(quantities)
	most := 0
	for i, n := range all[0] {
		if n.Cmp(all[0][most]) > 0 {
			most = i
		}
	}
	return most
}

func windowLabel(window string, start report.Instant) string {
	layout := map[string]string{"hour": "2 15h", "day": "2", "month": "Jan"}[window]
	return time.UnixMilli(int64(start)).UTC().Format(cmp.Or(layout, "2 Jan"))
}

func windowName(window string, start report.Instant) string {
	layout := map[string]string{"hour": "2006-01-02 15:04", "day": "Mon 2 Jan 2006", "month": "January 2006"}[window]
	return time.UnixMilli(int64(start)).UTC().Format(cmp.Or(layout, "2006-01-02"))
}

func titled(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func inUnit(unit string) string {
	if unit == "" {
		return ""
	}
	return ", " + unit
}

// usageBelow adds the accounts under the one looked at, each with all that is below it.
func (s *Site) usageBelow(v *visit, ask *usageAsk, view *usageView) error {
	q := ask.UsageQuery
	q.Window, q.GroupBy = "total", []string{"account"}
	u, err := s.Reports.MeterUsage(v.Context(), q)
	if err != nil {
		return err
	}
	t := branches(ask, u, func(id string) string { return v.with("account", id) })
	if len(t.rows) > belowMost {
		view.cut = "The " + whole(belowMost) + " largest of " + grouped(whole(len(t.rows))) + " accounts."
		t.rows = t.rows[:belowMost]
	}
	view.below = &t
	return nil
}

// branch is an account with what is below it.
type branch struct {
	id, name  string
	own, tree *big.Int
	events    int64
	parent    bool
}

// branches are the accounts directly below the one looked at, and itself, the largest first.
func branches(ask *usageAsk, u *report.Usage, to func(id string) string) table {
	numbers, scale := scaled(quantitiesOf(u))
	top := map[string]*branch{} // by id of the account that stands for the row
	var list []*branch
	place := map[string]*branch{}
	depth := -1
	for _, a := range ask.inside {
		if depth < 0 || a.Depth < depth {
			depth = a.Depth
		}
	}
	if ask.account != "" {
		depth++
	}
	for _, a := range ask.inside { // parents first
		b := place[a.Parent]
		if a.Depth <= depth || b == nil {
			b = &branch{id: a.ID, name: a.Name, own: new(big.Int), tree: new(big.Int)}
			top[a.ID], list = b, append(list, b)
		} else {
			b.parent = true
		}
		place[a.ID] = b
		if ask.account == a.ID { // the rest is below it, not part of it
			delete(place, a.ID)
		}
	}
	for i, r := range u.Rows {
		id := r.Group[0]
		b := place[id]
		if b == nil {
			b = top[id]
		}
		if b == nil { // nobody created it
			b = &branch{id: id, name: id + " (nobody created it)", own: new(big.Int), tree: new(big.Int)}
			top[id], list = b, append(list, b)
		}
		if b.id == id {
			b.own.Add(b.own, numbers[0][i])
		}
		b.tree.Add(b.tree, numbers[0][i])
		b.events += r.Events
	}
	list = slices.DeleteFunc(list, func(b *branch) bool { return b.events == 0 })
	slices.SortStableFunc(list, func(a, b *branch) int { return cmp.Or(b.tree.Cmp(a.tree), cmp.Compare(a.name, b.name)) })
	return branchTable(ask, u, list, scale, to)
}

func branchTable(ask *usageAsk, u *report.Usage, list []*branch, scale int, to func(id string) string) table {
	sums := adds(u.Meter)
	t := table{name: "Accounts", columns: []column{{title: "Account", kind: asHead}, {title: "Own" + inUnit(u.Meter.Unit), kind: asNumber}}, empty: empty{text: "No account used this meter in this period."}}
	if sums {
		t.columns = append(t.columns, column{title: "With accounts below" + inUnit(u.Meter.Unit), kind: asNumber})
	}
	t.columns = append(t.columns, column{title: "Events", kind: asNumber})
	for _, b := range list {
		name := txt(b.name)
		if b.parent && b.id != ask.account {
			name = linked(b.name, to(b.id))
		}
		explain := func(measure string) string { return ask.explain(b.id, ask.From, ask.To, measure) }
		events := "events_tree"
		if b.id == ask.account { // the rest is below it
			events = "events"
		}
		cells := row{name, explained(plainDecimal(b.own, scale), explain("quantity"))}
		if sums {
			tree := explained(plainDecimal(b.tree, scale), explain("quantity_tree"))
			if b.id == ask.account {
				tree = txt("")
			}
			cells = append(cells, tree)
		}
		t.rows = append(t.rows, append(cells, explained(whole(b.events), explain(events))))
	}
	return t
}

// usageGroups adds the same by plan, region and so on.
func (s *Site) usageGroups(v *visit, ask *usageAsk, view *usageView) error {
	q := ask.UsageQuery
	q.Window, q.GroupBy = "total", []string{ask.group}
	u, err := s.Reports.MeterUsage(v.Context(), q)
	if err != nil {
		return err
	}
	t := table{name: "By " + strings.ReplaceAll(ask.group, "_", " "), columns: []column{
		{title: parameterTitle(ask.group), kind: asHead}, {title: "Quantity" + inUnit(u.Meter.Unit), kind: asNumber}, {title: "Events", kind: asNumber},
	}, empty: empty{text: "Nothing was used in this period."}}
	numbers, _ := scaled(quantitiesOf(u))
	order := make([]int, len(u.Rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return numbers[0][b].Cmp(numbers[0][a]) })
	for _, i := range order[:min(len(order), groupsMost)] {
		r := u.Rows[i]
		explain := func(measure string) string {
			if !ask.grouped() {
				return ""
			}
			return ask.ofAll(ask.From, ask.To, measure, ask.group, r.Group[0])
		}
		t.rows = append(t.rows, row{txt(cmp.Or(r.Group[0], "(none)")), explained(r.Quantity, explain(report.MeasureQuantity)), explained(whole(r.Events), explain("events"))})
	}
	view.groups = &t
	return nil
}
