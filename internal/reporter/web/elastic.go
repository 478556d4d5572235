package web

import (
	"cmp"
	"math/big"
	"slices"
	"time"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
	sheets "github.com/countinghouse/countinghouse/internal/report/sheet"
)

func elasticPages() []page {
	return []page{
		{pattern: "GET /elastic", title: "Elastic Usage", entity: access.Elastic, verb: access.View, menu: menuReports, serve: (*Site).elastic},
		{pattern: "GET /elastic/live", title: "Elastic Usage, live", entity: access.Elastic, verb: access.View, serve: (*Site).elasticLive},
		{pattern: "GET /elastic/balances", title: "Line-item balances", entity: access.Elastic, verb: access.View, serve: (*Site).elasticBalances},
		{pattern: "GET /elastic/file", title: "Elastic Usage", entity: access.Elastic, verb: access.Add, serve: (*Site).elasticFile},
	}
}

// elasticFirst are the columns that are shown first; all 23 on demand.
func elasticFirst() []string {
	return []string{
		"USAGE_TIME", "CONSUMER_ID", "ACCOUNT_ID", "INSTANCE_ID", "ACTIVATION_ID", "ITEM", "ITEM_QUANTITY", "SESSION_STATE", "REQUEST_RESPONSE",
		"METER_COST", "METER_QUANTITY", "MAPPED_ENTITLED_COUNT", "USED",
	}
}

type elasticView struct {
	v       *visit
	f       *form
	account field
	table   table
	pager   templ.Component
	all     bool // columns
	live    bool
	seen    string // when the live rows were read
	may     bool
}

func elasticTabs(v *visit) []tab {
	all := v.tabs(option{"/elastic", "Usage"}, option{"/elastic/live", "Live"}, option{"/elastic/balances", "Line-item balances"})
	for i := range all {
		all[i].href = href(all[i].href, "account", v.query("account"))
	}
	return all
}

// elasticAsk reads the filter. Who does not reach every account asks for one.
func (s *Site) elasticAsk(v *visit, verb access.Verb) (elasticView, report.Query, error) {
	accounts, err := s.reach(v, access.Elastic, verb)
	if err != nil {
		return elasticView{}, report.Query{}, err
	}
	f := newForm(v.URL.Query())
	view := elasticView{v: v, f: f, all: v.query("columns") == "all", may: v.viewer.May(access.Elastic, access.Add)}
	none := "All accounts"
	if !v.viewer.ReachesAll(access.Elastic, verb) {
		none = ""
		one, err := pick(accounts, f.text("account"))
		if err != nil {
			return view, report.Query{}, err
		}
		f.values.Set("account", one.ID)
	}
	if _, asked := v.URL.Query()["from"]; !asked {
		f.values.Set("from", v.thisMonth().String()+"-01T00:00")
	}
	view.account = accountField(f, "account", "Account", none, accounts)
	q := s.question(v, "elastic-usage", "account", f.text("account"), "instance", f.text("instance"), "activation", f.text("activation"),
		"from", instantOf(f.text("from")), "to", instantOf(f.text("to")))
	return view, q, nil
}

// instantOf is what a field for a date and a time holds, as an instant, UTC; anything else stays and is refused later.
func instantOf(text string) string {
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.Format(time.RFC3339)
		}
	}
	return text
}

func (s *Site) elastic(v *visit) (templ.Component, error) {
	view, q, err := s.elasticAsk(v, access.View)
	if err != nil {
		return nil, err
	}
	v.lead = "One row per line of an operation: what was granted, charged, refunded or denied, in the order of use."
	page, err := s.pageOf(v, q)
	if err != nil {
		return elasticPage(view), v.refused(view.f, err)
	}
	view.pager = pagerOf(v, page)
	view.table = elasticTable(v, page, page.Rows, view.all)
	view.table.empty = empty{text: "Nothing was used in this time by this choice.", do: "Show everything there is", href: href("/elastic", "account", view.f.text("account")) + elasticSince(view.f)}
	if view.may {
		for _, o := range fileFormats() {
			v.actions = append(v.actions, action{title: o.title, file: true, href: address("/elastic/file", v.URL.Query(), "at", "", "columns", "", "from", view.f.text("from"), "format", o.value)})
		}
	}
	return elasticPage(view), nil
}

// elasticSince asks for everything since the beginning: without it the page begins with the current month.
func elasticSince(f *form) string {
	if f.text("account") == "" {
		return "?from="
	}
	return "&from="
}

func (s *Site) elasticFile(v *visit) (templ.Component, error) {
	_, q, err := s.elasticAsk(v, access.Add)
	if err != nil {
		return nil, err
	}
	return s.file(v, q, formatOf(v))
}

// elasticTable sets lines; of all columns or the first ones.
func elasticTable(v *visit, page *report.Page, rows []sheets.Row, all bool) table {
	columns := page.Columns
	t := v.reportTable("Elastic usage", columns, rows, func(r sheets.Row, column string) string {
		if !v.viewer.ReachesAll(access.Elastic, access.View) {
			return ""
		}
		return explainHref("elastic-usage", "activation", at(columns, r, "ACTIVATION_ID"), "correlation", at(columns, r, "CORRELATION_ID"), "item", at(columns, r, "ITEM"), "measure", column)
	})
	t.columns[0].kind = asShort // an id does not name the row
	for n, r := range rows {
		for i, c := range columns {
			switch {
			case c.Name == "REQUEST_RESPONSE":
				t.rows[n][i] = comp(responseBadge(r[i]))
			case c.Name == "USED" && page.Extra != nil:
				if extra := page.Extra(r); extra["used_differs"] == true {
					reported, _ := extra["used_reported"].(string)
					t.rows[n][i] = comp(usedDiffers(t.rows[n][i], reported))
				}
			}
		}
	}
	if all {
		return t
	}
	return t.only(elasticFirst())
}

// only keeps some columns, in that order.
func (t table) only(names []string) table {
	var places []int
	for _, name := range names {
		if i := slices.IndexFunc(t.columns, func(c column) bool { return cmp.Or(c.name, c.title) == name }); i >= 0 {
			places = append(places, i)
		}
	}
	take := func(from row) row {
		to := make(row, len(places))
		for i, p := range places {
			to[i] = from[p]
		}
		return to
	}
	columns := make([]column, len(places))
	for i, p := range places {
		columns[i] = t.columns[p]
	}
	t.columns = columns
	for i, r := range t.rows {
		t.rows[i] = take(r)
	}
	for i, r := range t.foot {
		t.foot[i] = take(r)
	}
	return t
}

func responseTone(code string) string {
	if code == "101" {
		return "good"
	}
	return "bad"
}

const liveRows = 50

// elasticLive is the newest lines, newest first; scripts read them again while the page is in sight.
func (s *Site) elasticLive(v *visit) (templ.Component, error) {
	view, q, err := s.elasticAsk(v, access.View)
	if err != nil {
		return nil, err
	}
	view.live, view.seen = true, v.now.UTC().Format("15:04:05")
	v.lead = "The newest lines first. The list goes on by itself while it is in sight."
	// The rows of the shortest of these times that has enough of them, or of the longest.
	for _, back := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour, 31 * 24 * time.Hour, 366 * 24 * time.Hour} {
		q.Values["from"] = v.now.Add(-back).UTC().Format(time.RFC3339)
		delete(q.Values, "to")
		const most = 5000 // read at most, for the last of them
		page, err := s.Reports.Page(v.Context(), q, nil, most)
		if err != nil {
			return elasticLivePage(view), v.refused(view.f, err)
		}
		if len(page.Rows) < liveRows && back < 366*24*time.Hour {
			continue
		}
		rows := page.Rows[max(0, len(page.Rows)-liveRows):]
		slices.Reverse(rows)
		view.table = elasticTable(v, page, rows, view.all)
		break
	}
	view.table.empty = empty{text: "Nothing was used yet. Lines appear here within seconds of their use."}
	if v.partial() {
		return elasticLiveRows(view), nil
	}
	return elasticLivePage(view), nil
}

type balancesView struct {
	v       *visit
	f       *form
	account field
	table   table
	pager   templ.Component
}

func (s *Site) elasticBalances(v *visit) (templ.Component, error) {
	ask, _, err := s.elasticAsk(v, access.View)
	if err != nil {
		return nil, err
	}
	v.lead = "What is left of each line item: quantity − used. What is used beyond the quantity is overage."
	all, err := s.Reports.Balances(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	view := balancesView{v: v, f: ask.f, account: ask.account}
	view.table = table{
		name: "Line-item balances",
		columns: []column{
			{title: "Line item", kind: asHead}, {title: "Account"}, {title: "Instance", kind: asShort}, {title: "State", kind: asShort}, {title: "Until", kind: asShort},
			{title: "Quantity", kind: asNumber}, {title: "Used", kind: asNumber}, {title: "Remaining", kind: asNumber}, {title: "Overage", kind: asNumber}, {title: "Used of it", kind: asShort},
		},
		empty: empty{text: "No line item of elastic tokens is known for this choice. One appears here once its mapping was counted."},
	}
	wanted := ask.f.text("account") // "": whoever asks reaches them all
	for i := range all {
		b := &all[i]
		if wanted != "" && b.Account != wanted {
			continue
		}
		view.table.rows = append(view.table.rows, balanceRow(v, b))
	}
	view.table.rows, view.pager = v.rows(view.table.rows)
	return elasticBalancesPage(view), nil
}

func balanceRow(v *visit, b *report.Balance) row {
	until := ""
	if b.End != 0 {
		until = b.End.String()[:len("2006-01-02")]
	}
	explain := ""
	if v.viewer.May(access.Usage, access.View) && v.viewer.ReachesAll(access.Elastic, access.View) { // a total is of the whole tenant
		explain = explainHref("elastic-usage", "activation", b.ActivationID, "measure", "USED")
	}
	return row{
		linked(b.ActivationID, href("/elastic", "activation", b.ActivationID)+"&from="), txt(b.AccountName), txt(b.InstanceID), comp(badge(lineItemTone(b.State), b.State)), txt(until),
		txt(b.Quantity), explained(b.Used, explain), txt(b.Remaining), txt(b.Overage),
		comp(bar("Used of "+b.ActivationID, share(b.UsedAmount, b.QuantityAmount), shareWhole)),
	}
}

// shareWhole is the whole of a bar, in thousandths.
const shareWhole = 1000

// share is used of quantity in thousandths, for a bar: 0 to shareWhole.
func share(used, quantity *big.Int) int64 {
	if quantity.Sign() <= 0 || used.Sign() <= 0 {
		return 0
	}
	if used.Cmp(quantity) >= 0 {
		return shareWhole
	}
	return new(big.Int).Div(new(big.Int).Mul(used, big.NewInt(shareWhole)), quantity).Int64()
}

func lineItemTone(state string) string {
	switch state {
	case "DEPLOYED":
		return "good"
	case "INACTIVE":
		return "warn"
	}
	return ""
}
