package web

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
)

// explainPages need no more than a view of usage: what the report itself asks for is judged where it is explained.
func explainPages() []page {
	return []page{
		{pattern: "GET /explain", title: "Explain", entity: access.Usage, verb: access.View, menu: menuProof, serve: (*Site).explain},
		{pattern: "GET /event", title: "Event", entity: access.Usage, verb: access.View, serve: (*Site).event},
	}
}

const (
	explainRows = 100 // events of a page
	suggestMost = 500 // accounts suggested while typing
)

func (s *Site) explain(v *visit) (templ.Component, error) {
	values := v.URL.Query()
	if values.Get("report") == "" && values.Get("measure") == "" {
		return s.explainAsk(v)
	}
	q, skip, err := explainQuestion(v, values)
	if err != nil {
		return nil, err
	}
	e, err := s.Reports.Explain(v.Context(), q)
	if err != nil {
		return nil, err
	}
	v.lead = "Where one number comes from: what the report says, and the same computed again from the events behind it."
	view := explainView{e: e, facts: explainFacts(e), versions: versionNumbers(e), rollup: rollupTable(e), events: evidenceTable(e), late: lateTable(e.Late)}
	last := skip + len(e.Events)
	prev, next := "", ""
	if skip > 0 {
		prev = v.with("skip", "")
	}
	if int64(last) < e.Total && len(e.Events) > 0 {
		next = v.with("skip", whole(last))
	}
	if e.Total > 0 {
		view.pager = pager(prev, next, "Events "+grouped(whole(min(skip+1, last)))+" to "+grouped(whole(last))+" of "+grouped(whole(e.Total)))
	}
	return explainBody(view), nil
}

// explainQuestion reads what tells the number apart: all that is not about the page itself.
func explainQuestion(v *visit, values url.Values) (q report.ExplainQuery, skip int, err error) {
	q = report.ExplainQuery{Tenant: v.viewer.Tenant, Report: values.Get("report"), Values: map[string]string{}, AsOf: latest, Limit: explainRows}
	for name, all := range values {
		switch name {
		case "report", "version", "from_version", "to_version", "skip":
		default:
			q.Values[name] = all[0]
		}
	}
	for name, into := range map[string]*int{"version": &q.Version, "from_version": &q.From, "to_version": &q.To} {
		if *into, err = versionNumber(values, name); err != nil {
			return q, 0, err
		}
	}
	q.Skip = v.number("skip", 0, 1<<30)
	return q, q.Skip, nil
}

// explainView is the page of a number.
type explainView struct {
	e                *report.Explanation
	facts            []fact
	versions, rollup table
	events, late     table
	pager            templ.Component
}

func explainFacts(e *report.Explanation) []fact {
	all := []fact{{name: "Report", value: e.Report}}
	for _, name := range slices.Sorted(maps.Keys(e.Key)) {
		all = append(all, fact{name: parameterTitle(name), value: cmp.Or(e.Key[name], "(none)")})
	}
	positions := make([]string, 0, len(e.Positions))
	for _, shard := range slices.Sorted(maps.Keys(e.Positions)) {
		positions = append(positions, shard+" up to "+whole(e.Positions[shard]))
	}
	if e.Version > 0 {
		all = append(all, fact{name: "Closed version", value: "v" + whole(e.Version)})
	}
	if e.AsOf != 0 && int64(e.AsOf) < report.Forever {
		all = append(all, fact{name: "As of", value: exactly(e.AsOf)})
	}
	return append(all, fact{name: "Shards of the log", value: strings.Join(positions, ", "), code: true})
}

func versionNumbers(e *report.Explanation) table {
	t := table{name: "What the closed versions say", columns: []column{
		{title: "Version", kind: asHead}, {title: "Recorded up to", kind: asShort}, {title: "Number", kind: asNumber}, {title: "SHA-256", kind: asCode},
	}, empty: empty{text: "No closed version has this number."}}
	for _, w := range e.Versions {
		t.rows = append(t.rows, row{txt("v" + whole(w.Version)), txt(exactly(w.AsOf)), txt(w.Number), txt(shortHash(w.SHA256))})
	}
	return t
}

func rollupTable(e *report.Explanation) table {
	t := table{name: "Hourly cells", columns: []column{
		{title: "Hour", kind: asShort}, {title: "Account", kind: asHead}, {title: "Meter"}, {title: "Plan"}, {title: "Region"}, {title: "Platform"},
		{title: "Trial"}, {title: "Quantity", kind: asNumber}, {title: "Events", kind: asNumber},
	}}
	for _, c := range e.Rollup {
		t.rows = append(t.rows, row{
			txt(moment(c.Hour)), txt(c.Account), txt(c.Meter), txt(c.Plan), txt(c.Region), txt(c.Platform), txt(yesNo(c.Trial)), txt(c.Quantity), txt(whole(c.Events)),
		})
	}
	return t
}

func evidenceTable(e *report.Explanation) table {
	t := table{name: "Events behind the number", empty: empty{text: "No event is behind it: the number is zero because nothing happened."}, columns: []column{
		{title: "Happened", kind: asShort}, {title: "Event", kind: asHead}, {title: "Type"}, {title: "Account"}, {title: "About"}, {title: "Sent", kind: asNumber},
		{title: "Counts", kind: asNumber}, {title: "State"}, {title: "Recorded", kind: asShort}, {title: "Position in the log", kind: asCode, hint: "shard / sequence / index"},
	}}
	for i := range e.Events {
		one := &e.Events[i]
		tone := "good"
		if one.Status == report.Voided || one.Sign < 0 {
			tone = "warn"
		}
		t.rows = append(t.rows, row{
			txt(moment(one.At)), linked(one.ID, eventHref(one.Source, one.ID)), txt(one.Type), txt(one.Account), txt(one.About), txt(one.Quantity), txt(one.Counts),
			comp(badge(tone, one.Status)), txt(moment(one.RecordedAt)), txt(positionText(one.Position)),
		})
	}
	return t
}

// explainAsk is the page without a number: it says how to get to one, and looks up events by id.
func (s *Site) explainAsk(v *visit) (templ.Component, error) {
	v.lead = "Every number of a report leads here: click it to see the events it is made of, with their places in the log."
	f := newForm(v.URL.Query())
	source, id := f.field("source", "Source"), f.field("id", "Event id")
	source.required, id.required = true, true
	f.values.Set("report", report.ReportUsage)
	month := f.choice("month", "Month", monthOptionsOf(v))
	account, meter, err := s.explainChoices(v, f)
	if err != nil {
		return nil, err
	}
	measure := f.choice("measure", "Number", []option{{"quantity", "its own quantity"}, {"quantity_tree", "with accounts below"}, {"events", "its own events"}, {"events_tree", "events with accounts below"}})
	return explainAskBody([]field{month, account, meter, measure}, []field{source, id}), nil
}

// explainChoices are the accounts within reach and the meters, to choose from while typing; anything else may be typed,
// for usage of accounts that nobody created is explained as well.
func (s *Site) explainChoices(v *visit, f *form) (account, meter field, err error) {
	account, meter = f.field("account", "Account"), f.field("meter", "Meter")
	account.required, meter.required = true, true
	accounts, err := s.reach(v, access.Usage, access.View)
	if err != nil {
		return account, meter, err
	}
	for _, a := range accounts[:min(len(accounts), suggestMost)] {
		account.suggest = append(account.suggest, option{a.ID, a.Name})
	}
	account.hint = "Its id; type a part of its name or id to choose."
	var within []string // nil: the whole tenant
	if !v.viewer.ReachesAll(access.Usage, access.View) {
		if within, err = idsOf(accounts); err != nil {
			return account, meter, err
		}
	}
	meters, err := s.Reports.Meters(v.Context(), v.viewer.Tenant, v.thisMonth(), within)
	for _, one := range meters {
		meter.suggest = append(meter.suggest, option{one.Name, meterChoice(one.Meter)})
	}
	return account, meter, err
}

// monthOptionsOf are the last two years.
func monthOptionsOf(v *visit) []option {
	var all []option
	for m, n := v.thisMonth(), 0; n < 24; m, n = m.Prev(), n+1 {
		all = append(all, option{m.String(), monthTitle(m.String())})
	}
	return all
}

// event shows what became of one event.
func (s *Site) event(v *visit) (templ.Component, error) {
	source, id := v.URL.Query().Get("source"), v.URL.Query().Get("id")
	if source == "" || id == "" {
		return nil, redirect{"/explain"}
	}
	t, err := s.Reports.Trace(v.Context(), v.viewer.Tenant, source, id)
	if err != nil {
		return nil, err
	}
	if t.Account != "" || !v.viewer.ReachesAll(access.Usage, access.View) {
		if err := s.reaches(v, t.Account); err != nil {
			return nil, err
		}
	}
	v.crumbs = []crumb{{"Explain", "/explain"}}
	v.title = "Event " + t.ID
	return eventBody(t, eventFacts(t), deliveriesTable(t), voidsTable(t)), nil
}

// reaches is ErrNotFound where the account is not within the viewer's reach of usage.
func (s *Site) reaches(v *visit, account string) error {
	if v.viewer.ReachesAll(access.Usage, access.View) {
		return nil
	}
	above, known, err := s.Reports.Path(v.Context(), v.viewer.Tenant, account)
	switch {
	case err != nil:
		return err
	case !known || !v.viewer.Allows(access.Usage, access.View, above...):
		return ErrNotFound
	}
	return nil
}

func eventFacts(t *report.Trace) []fact {
	all := []fact{
		{name: "Source", value: t.Source}, {name: "Id", value: t.ID, code: true}, {name: "Type", value: t.Type}, {name: "Account", value: t.Account},
		{name: "Happened", value: exactly(t.At)}, {name: "Recorded", value: exactly(t.RecordedAt)}, {name: "Meter", value: t.Meter}, {name: "Quantity", value: grouped(t.Quantity)},
		{name: "Correlation", value: t.CorrelationID, code: true}, {name: "Causation", value: t.CausationID, code: true}, {name: "Void", value: t.VoidEffect},
	}
	if t.Position != nil {
		all = append(all, fact{name: "Position that counts", value: positionText(*t.Position), code: true})
	}
	return slices.DeleteFunc(all, func(f fact) bool { return f.value == "" })
}

func deliveriesTable(t *report.Trace) table {
	list := table{name: "Deliveries", columns: []column{
		{title: "Recorded", kind: asHead}, {title: "Result"}, {title: "Position in the log", kind: asCode, hint: "shard / sequence / index"}, {title: "Times", kind: asNumber},
		{title: "Reason"}, {title: "Detail"},
	}}
	for _, d := range t.Deliveries {
		tone := ""
		switch d.Result {
		case report.Stored:
			tone = "good"
		case report.Conflict, report.Quarantined:
			tone = "bad"
		}
		list.rows = append(list.rows, row{txt(exactly(d.RecordedAt)), comp(badge(tone, d.Result)), txt(positionText(d.Position)), txt(whole(d.Times)), txt(d.Reason), txt(d.Detail)})
	}
	return list
}

func voidsTable(t *report.Trace) table {
	list := table{name: "Voids", columns: []column{
		{title: "Recorded", kind: asShort}, {title: "Event", kind: asHead}, {title: "Effect"}, {title: "Position in the log", kind: asCode},
	}}
	for _, d := range t.Voids {
		list.rows = append(list.rows, row{txt(exactly(d.RecordedAt)), linked(d.ID, eventHref(d.Source, d.ID)), txt(d.Effect), txt(positionText(d.Position))})
	}
	return list
}
