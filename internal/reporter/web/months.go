package web

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

func monthPages() []page {
	view := func(pattern, title string, serve func(*Site, *visit) (templ.Component, error)) page {
		return page{pattern: pattern, title: title, entity: access.Months, verb: access.View, serve: serve}
	}
	list := view("GET /months", "Months", (*Site).months)
	list.menu = menuProof
	ask := view("GET /months/{month}/close", "Close a month", (*Site).closeForm)
	ask.verb = access.Add
	do := view("POST /months/{month}/close", "Close a month", (*Site).closeMonth)
	do.verb, do.proof = access.Add, true
	return []page{
		list, view("GET /months/{month}", "Month", (*Site).month), ask, do,
		view("GET /months/{month}/changes", "What changed", (*Site).monthChanges),
		view("GET /months/{month}/adjustments", "Adjustments", (*Site).monthAdjustments),
	}
}

const (
	changeEvents = 200  // events behind a difference that are listed
	reasonMax    = 1000 // bytes of why a gap is accepted
)

// monthsTable is months with their states.
func monthsTable(all []report.MonthInfo) table {
	t := table{
		name:  "Months and their states",
		empty: empty{text: "No month has usage yet. The first event makes its month appear here."},
		columns: []column{
			{title: "Month", kind: asHead}, {title: "State"}, {title: "Events", kind: asNumber}, {title: "First event", kind: asShort},
			{title: "Last event", kind: asShort}, {title: "Closed at", kind: asShort}, {title: "SHA-256 of the newest version", kind: asCode},
		},
	}
	for _, m := range all {
		t.rows = append(t.rows, row{
			linked(monthTitle(m.Month), "/months/"+m.Month), comp(monthBadge(m.State, m.Version)), txt(whole(m.Events)), txt(moment(m.FirstAt)),
			txt(moment(m.LastAt)), txt(moment(m.ClosedAt)), txt(shortHash(m.SHA256)),
		})
	}
	return t
}

func shortHash(sum string) string {
	if len(sum) > 16 {
		return sum[:16] + "…"
	}
	return sum
}

func (s *Site) months(v *visit) (templ.Component, error) {
	v.lead = "A month is open while it lasts, provisional when it is over, and closed in versions that never change."
	all, err := s.Reports.Months(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	return sheet(monthsTable(all)), nil
}

// monthOf is the month that the address names.
func monthOf(v *visit) (usage.Month, error) {
	m, err := usage.ParseMonth(v.PathValue("month"))
	if err != nil {
		return m, ErrNotFound
	}
	return m, nil
}

// monthHead sets what stands above all pages of a month.
func (s *Site) monthHead(v *visit, m usage.Month, title string) {
	v.crumbs = []crumb{{"Months", "/months"}}
	v.title = monthTitle(m.String())
	if title != "" {
		v.crumbs = append(v.crumbs, crumb{v.title, "/months/" + m.String()})
		v.title = title + ", " + v.title
	}
}

// monthTabs are the views of a month.
func monthTabs(v *visit, m usage.Month) templ.Component {
	base := "/months/" + m.String()
	return tabs("The month", v.tabs(option{base, "Overview"}, option{base + "/changes", "What changed"}, option{base + "/adjustments", "Adjustments"}))
}

// monthView is a month with all that is known about it; a part that could not be made is a notice.
type monthView struct {
	info     report.MonthInfo
	facts    []fact
	checks   []months.Check
	checking templ.Component // trouble
	versions table
	blocked  bool
	ended    bool
}

func (s *Site) month(v *visit) (templ.Component, error) {
	m, err := monthOf(v)
	if err != nil {
		return nil, err
	}
	s.monthHead(v, m, "")
	view := monthView{ended: v.now.UnixMilli() >= m.End().Millis()}
	if view.info, err = s.Reports.Month(v.Context(), v.viewer.Tenant, m); err != nil {
		return nil, err
	}
	versions, err := s.Reports.Versions(v.Context(), v.viewer.Tenant, m)
	if err != nil {
		return nil, err
	}
	view.versions = versionsTable(m, versions)
	view.facts = monthFacts(view.info)
	if !view.info.Closed {
		if view.checks, err = s.Months.Checklist(v.Context(), v.viewer.Tenant, m); err != nil {
			view.checking = s.trouble(v, err)
		}
		for _, c := range view.checks {
			view.blocked = view.blocked || c.Status == months.Block
		}
	}
	if v.viewer.May(access.Months, access.Add) && view.ended {
		title := "Close the month"
		if view.info.Closed {
			title = "State it anew"
		}
		v.actions = []action{{title: title, href: "/months/" + m.String() + "/close", main: !view.info.Closed}}
	}
	return joined(monthTabs(v, m), monthBody(view)), nil
}

func monthFacts(m report.MonthInfo) []fact {
	all := []fact{{name: "Events that count", value: grouped(whole(m.Events))}}
	if m.Events > 0 {
		all = append(all, fact{name: "First to last event", value: moment(m.FirstAt) + " to " + moment(m.LastAt)})
	}
	if m.Closed {
		all = append(all,
			fact{name: "Closed at", value: moment(m.ClosedAt)}, fact{name: "Holds what was recorded up to", value: exactly(m.AsOf)},
			fact{name: "SHA-256 of the rows", value: m.SHA256, code: true})
	}
	return all
}

func versionsTable(m usage.Month, versions []report.Version) table {
	t := table{name: "Versions", columns: []column{
		{title: "Version", kind: asHead}, {title: "Closed at", kind: asShort}, {title: "By"}, {title: "Recorded up to", kind: asShort},
		{title: "Rows", kind: asNumber}, {title: "Changed figures", kind: asNumber}, {title: "SHA-256", kind: asCode}, {title: "Reason"},
	}, empty: empty{text: "The month was never closed. Its first version is made by a close."}}
	for i := len(versions) - 1; i >= 0; i-- {
		w := versions[i]
		changed := txt("")
		if w.Version > 1 {
			changed = cell{
				text: whole(w.Adjustments), label: "what changed",
				href: href("/months/"+m.String()+"/changes", "from", whole(w.Version-1), "to", whole(w.Version)),
			}
		}
		t.rows = append(t.rows, row{
			txt("v" + whole(w.Version)), txt(moment(w.ClosedAt)), txt(w.ClosedBy), txt(moment(w.AsOf)), txt(whole(w.Rows)), changed,
			txt(shortHash(w.SHA256)), txt(w.Reason),
		})
	}
	return t
}

func (s *Site) closeForm(v *visit) (templ.Component, error) { return s.closePage(v, newForm(nil), nil) }

// closePage asks once more. A refused close shows every reason on the same page.
func (s *Site) closePage(v *visit, f *form, refused *months.Refused) (templ.Component, error) {
	m, err := monthOf(v)
	if err != nil {
		return nil, err
	}
	info, err := s.Reports.Month(v.Context(), v.viewer.Tenant, m)
	if err != nil {
		return nil, err
	}
	s.monthHead(v, m, "Close")
	c := confirmation{
		action: v.URL.Path, back: "/months/" + m.String(), do: "Close " + monthTitle(m.String()),
		ask:    "Close " + monthTitle(m.String()) + " of tenant " + v.viewer.Tenant + "?",
		detail: "Its numbers are stored as version 1 and never change. What becomes known later makes a new version, with the difference as adjustments.",
	}
	if info.Closed {
		c.ask = "State " + monthTitle(m.String()) + " anew?"
		c.do = "State it anew"
		c.detail = "If something became known since version " + strconv.Itoa(info.Version) + " that changes its rows, a new version is made; else nothing happens."
	}
	reason := f.field("reason", "Reason")
	reason.hint, reason.most = "Needed where declared gaps are accepted; kept with the version.", reasonMax
	gaps := f.field("accept_gaps", "Close in spite of declared gaps that are open")
	gaps.kind, gaps.checked, gaps.value = "checkbox", f.text("accept_gaps") != "", ""
	c.fields = []field{gaps, reason}
	var checks []months.Check
	if refused != nil {
		c.problem, checks = sentence(refused.Error()), refused.Checks
		v.status = http.StatusConflict
	}
	return closeBody(v, c, checks), nil
}

func (s *Site) closeMonth(v *visit) (templ.Component, error) {
	m, err := monthOf(v)
	if err != nil {
		return nil, err
	}
	f := v.form()
	q := months.Request{Tenant: v.viewer.Tenant, Month: m, AcceptGaps: f.text("accept_gaps") != "", Reason: f.text("reason"), By: v.viewer.ID}
	if len(q.Reason) > reasonMax {
		f.refuse("reason", "Want at most 1,000 bytes.")
	}
	if q.AcceptGaps && q.Reason == "" {
		f.refuse("reason", "Say why the gaps are accepted.")
	}
	if !f.ok() {
		v.status = http.StatusUnprocessableEntity
		return s.closePage(v, f, nil)
	}
	version, err := s.Months.Close(v.Context(), q)
	var refused *months.Refused
	switch {
	case errors.As(err, &refused):
		return s.closePage(v, f, refused)
	case errors.Is(err, months.ErrAudit):
		return s.closePage(v, f, &months.Refused{Month: m.String(), Checks: []months.Check{{Check: months.CheckAudit, Status: months.Block, Detail: err.Error()}}})
	case err != nil:
		return nil, err
	}
	v.flash("good", monthTitle(m.String())+" is closed: version "+whole(version.Version)+", "+plural(version.Rows, "row")+".")
	return nil, redirect{"/months/" + m.String()}
}

// versionNumber reads a version from a query; 0 where there is none.
func versionNumber(q url.Values, name string) (int, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, &report.Error{Code: report.CodeParameter, Parameter: name, Detail: "want a version's number, from 1"}
	}
	return n, nil
}

func (s *Site) monthChanges(v *visit) (templ.Component, error) {
	m, err := monthOf(v)
	if err != nil {
		return nil, err
	}
	s.monthHead(v, m, "What changed")
	from, err := versionNumber(v.URL.Query(), "from")
	if err != nil {
		return nil, err
	}
	to, err := versionNumber(v.URL.Query(), "to")
	if err != nil {
		return nil, err
	}
	versions, err := s.Reports.Versions(v.Context(), v.viewer.Tenant, m)
	if err != nil {
		return nil, err
	}
	if len(versions) < 2 {
		return joined(monthTabs(v, m), nothing(empty{text: "There is nothing to compare yet: what becomes known after a close makes a second version, and here is what it changed."})), nil
	}
	d, err := s.Months.Diff(v.Context(), v.viewer.Tenant, m, from, to, changeEvents)
	if err != nil {
		return nil, err
	}
	var options []option
	for _, w := range versions {
		options = append(options, option{whole(w.Version), "v" + whole(w.Version) + ", " + moment(w.ClosedAt)})
	}
	f := newForm(url.Values{"from": {whole(d.From.Version)}, "to": {whole(d.To.Version)}})
	return joined(monthTabs(v, m), changesBody([]field{f.choice("from", "From version", options), f.choice("to", "To version", options)},
		changesTable(m, d), lateTable(d.Events))), nil
}

func changesTable(m usage.Month, d *months.Difference) table {
	t := table{name: "Figures that differ", empty: empty{text: "No figure differs."}, columns: []column{
		{title: "Account", kind: asHead}, {title: "Plan"}, {title: "Meter or measure"}, {title: "Region"}, {title: "Platform"}, {title: "Trial"},
		{title: "v" + whole(d.From.Version), kind: asNumber}, {title: "v" + whole(d.To.Version), kind: asNumber}, {title: "Difference", kind: asNumber},
		{title: "Cost difference", kind: asNumber},
	}}
	for _, c := range d.Changes {
		what := c.Measure
		explain := func(string, ...string) string { return "" }
		if c.Measure == report.MeasureQuantity {
			what = meterName(c.Meter)
			explain = func(value string, versions ...string) string {
				if value == "" {
					return ""
				}
				return explainHref(report.ReportUsage, append([]string{"month", m.String(), "account", c.Account, "meter", c.Meter, "plan", c.Plan, "region", c.Region,
					"platform", c.Platform, "trial", strconv.FormatBool(c.Trial), "measure", report.MeasureQuantity}, versions...)...)
			}
		}
		t.rows = append(t.rows, row{
			txt(c.Account), txt(c.Plan), linked(what, "/months/"+m.String()+"/adjustments"), txt(c.Region), txt(c.Platform), txt(yesNo(c.Trial)),
			explained(c.Value, explain(c.Value, "version", whole(d.From.Version))), explained(c.NewValue, explain(c.NewValue, "version", whole(d.To.Version))),
			explained(c.Delta, explain(c.Delta, "from_version", whole(d.From.Version), "to_version", whole(d.To.Version))), txt(c.CostDelta),
		})
	}
	return t
}

func lateTable(events []report.LateEvent) table {
	t := table{name: "Events behind the difference", columns: []column{
		{title: "Event", kind: asHead}, {title: "Type"}, {title: "Account"}, {title: "Happened", kind: asShort}, {title: "Recorded", kind: asShort},
		{title: "Meter"}, {title: "Quantity", kind: asNumber}, {title: ""}, {title: "Position in the log", kind: asCode},
	}, empty: empty{text: "None: the versions hold the same events."}}
	for _, e := range events {
		undone := cell{}
		if e.Sign < 0 {
			undone = comp(badge("warn", "voided"))
		}
		t.rows = append(t.rows, row{
			linked(e.ID, eventHref(e.Source, e.ID)), txt(e.Type), txt(e.Account), txt(moment(e.At)), txt(moment(e.RecordedAt)), txt(e.Meter), txt(e.Quantity),
			undone, txt(positionText(e.Position)),
		})
	}
	return t
}

func (s *Site) monthAdjustments(v *visit) (templ.Component, error) {
	m, err := monthOf(v)
	if err != nil {
		return nil, err
	}
	s.monthHead(v, m, "Adjustments")
	v.lead = "What later versions changed, by the month in which it became known. All rows of a figure add up to the difference between the newest version and the first."
	rows, err := s.Reports.Adjustments(v.Context(), report.AdjustmentsQuery{Tenant: v.viewer.Tenant, UsageMonth: m.String()})
	if err != nil {
		return nil, err
	}
	t := table{name: "Adjustments", empty: empty{text: "No version changed anything."}, columns: []column{
		{title: "Became known in", kind: asShort}, {title: "Type"}, {title: "Account", kind: asHead}, {title: "Plan"}, {title: "Meter or measure"}, {title: "Region"},
		{title: "Platform"}, {title: "Versions", kind: asShort}, {title: "Difference", kind: asNumber}, {title: "Cost difference", kind: asNumber},
	}}
	for _, a := range rows {
		what := a.Measure
		if a.Measure == report.MeasureQuantity {
			what = meterName(a.Meter)
		}
		t.rows = append(t.rows, row{
			txt(a.ProcessingMonth), txt(a.Type), txt(a.Account), txt(a.Plan), txt(what), txt(a.Region), txt(a.Platform),
			txt("v" + whole(a.FromVersion) + " to v" + whole(a.ToVersion)), explained(a.Delta, explainAdjustment(a, "delta")), explained(a.CostDelta, explainAdjustment(a, "cost_delta")),
		})
	}
	return joined(monthTabs(v, m), sheet(t)), nil
}

// explainAdjustment leads to the events behind what a version changed; measure is delta or cost_delta.
func explainAdjustment(a report.Adjustment, measure string) string {
	if measure == "cost_delta" && a.CostDelta == "" {
		return ""
	}
	return explainHref(report.ReportAdjustments, "month", a.UsageMonth, "processing_month", a.ProcessingMonth, "account", a.Account, "plan", a.Plan, "meter", a.Meter,
		"region", a.Region, "platform", a.Platform, "trial", strconv.FormatBool(a.Trial), "figure", a.Measure, "measure", measure,
		"from_version", whole(a.FromVersion), "to_version", whole(a.ToVersion))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// positionText is where the log has something: shard, sequence, index.
func positionText(p report.Position) string {
	return whole(p.Shard) + " / " + whole(p.Seq) + " / " + whole(p.Idx)
}

// eventHref leads to what became of an event.
func eventHref(source, id string) string { return href("/event", "source", source, "id", id) }

// checkTitle is what a check is called on a page.
func checkTitle(check string) string {
	switch check {
	case months.CheckEnded:
		return "The month is over."
	case months.CheckEarlier:
		return "Earlier months."
	case months.CheckAudit:
		return "Audit."
	case months.CheckGaps:
		return "Declared gaps."
	case months.CheckLag:
		return "Everything is counted."
	case months.CheckDead:
		return "Dead letters."
	case months.CheckUnresolved:
		return "Accounts nobody created."
	case months.CheckSilent:
		return "Silent producers."
	}
	return check
}
