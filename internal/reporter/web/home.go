package web

import (
	"cmp"
	"slices"
	"sync"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

func homePages() []page {
	return []page{
		{pattern: "GET /{$}", title: "Home", entity: access.Usage, verb: access.View, menu: menuUsage, serve: (*Site).home},
	}
}

const (
	homeMeters = 6 // the most used, as tiles
	homeMonths = 5
	hourMillis = 3_600_000
	dayMillis  = 24 * hourMillis
)

// homeView is what the first page shows. Each part is there or its trouble is.
type homeView struct {
	month   string
	until   report.Instant
	tiles   []tile
	chart   *chart
	usage   templ.Component // trouble
	months  templ.Component
	caution []caution
}

// caution is something that needs attention.
type caution struct{ tone, title, text, href, do string }

func (s *Site) home(v *visit) (templ.Component, error) {
	view := homeView{month: v.thisMonth().String(), until: report.Instant(v.now.UnixMilli() / hourMillis * hourMillis)}
	v.lead = monthTitle(view.month) + " so far, against the same point of " + monthTitle(v.thisMonth().Prev().String()) + "."
	months := sync.OnceValues(func() ([]report.MonthInfo, error) { return s.Reports.Months(v.Context(), v.viewer.Tenant) })
	var making sync.WaitGroup
	making.Go(func() {
		if err := s.homeUsage(v, &view); err != nil {
			view.usage = s.trouble(v, err)
		}
	})
	making.Go(func() { view.caution = s.cautions(v, months) })
	if v.viewer.May(access.Months, access.View) {
		view.months = s.homeMonths(v, months)
	}
	making.Wait()
	return homeBody(view), nil
}

// within is the accounts for which the viewer may look at usage; nil: all of the tenant, which need not be read for that.
func (s *Site) within(v *visit) ([]string, error) {
	if v.viewer.ReachesAll(access.Usage, access.View) {
		return nil, nil
	}
	inside, err := s.reach(v, access.Usage, access.View)
	if err != nil {
		return nil, err
	}
	return idsOf(inside)
}

// idsOf are the accounts to ask for; ErrForbidden if there are none, for then the question would be about all.
func idsOf(accounts []report.AccountInfo) ([]string, error) {
	if len(accounts) == 0 {
		return nil, ErrForbidden
	}
	return texts(slices.Values(accounts), func(a report.AccountInfo) string { return a.ID }), nil
}

func (s *Site) homeUsage(v *visit, view *homeView) error {
	accounts, err := s.within(v)
	if err != nil {
		return err
	}
	m := v.thisMonth()
	meters, err := s.Reports.Meters(v.Context(), v.viewer.Tenant, m, accounts)
	if err != nil {
		return err
	}
	meters = slices.DeleteFunc(meters, func(one report.MeterInfo) bool { return one.Events == 0 })
	meters = meters[:min(len(meters), homeMeters)]
	days, err := s.courses(v, meters, m, accounts, int64(view.until))
	if err != nil {
		return err
	}
	for i, c := range days {
		one := c.tile(meters[i].Meter, m)
		if accounts == nil { // a number of some accounts has no explanation of its own, each of them has
			one.from, one.href = one.href, explainHref(report.ReportUsage, "meter", meters[i].Name, "from", report.Instant(m.Start().Millis()).String(), "to", max(view.until, report.Instant(m.Start().Millis()+hourMillis)).String(), "measure", report.MeasureQuantity)
		}
		view.tiles = append(view.tiles, one)
		if view.chart == nil && len(c.now) > 0 {
			view.chart, v.charts = c.chart(meters[i].Meter, m), true
		}
	}
	return nil
}

// course is a meter's way through a month and the one before it.
type course struct {
	now, past []string // by day; empty where days do not add up
	sum, then string   // this month so far, and the last at the same point
}

// courses asks for both months of meters. The last day of this month ends at the hour, and so does the same day of the
// month before, so that equal stretches are compared. All meters whose days add up are one question a month; each of
// the others is one of its own.
func (s *Site) courses(v *visit, meters []report.MeterInfo, m usage.Month, accounts []string, until int64) ([]course, error) {
	q := report.UsageQuery{
		Tenant: v.viewer.Tenant, Accounts: accounts, AsOf: directory.Latest, Window: "day",
		From: m.Start().Millis(), To: max(until, m.Start().Millis()+hourMillis),
	}
	before := q
	before.From, before.To = m.Prev().Start().Millis(), min(m.Prev().Start().Millis()+q.To-q.From, m.Start().Millis())
	all := make([]course, len(meters))
	var adding []string
	var asking sync.WaitGroup
	failed := make([]error, 2*len(meters)+2)
	for i, one := range meters {
		if adds(one.Meter) {
			adding = append(adding, one.Name)
			continue
		}
		asking.Go(func() { all[i].sum, failed[2*i] = s.total(v, one.Name, q) })
		asking.Go(func() { all[i].then, failed[2*i+1] = s.total(v, one.Name, before) })
	}
	var now, past map[string]*report.Usage
	asking.Go(func() { now, failed[2*len(meters)] = s.Reports.SumsUsage(v.Context(), q, adding) })
	asking.Go(func() { past, failed[2*len(meters)+1] = s.Reports.SumsUsage(v.Context(), before, adding) })
	asking.Wait()
	if err := cmp.Or(failed...); err != nil {
		return nil, err
	}
	for i, one := range meters {
		if c := &all[i]; adds(one.Meter) {
			c.now, c.past = daysOf(q, now[one.Name]), daysOf(before, past[one.Name])
			c.sum, c.then = sumOf(c.now), sumOf(c.past)
		}
	}
	return all, nil
}

// daysOf are a meter's quantities by day.
func daysOf(q report.UsageQuery, u *report.Usage) []string {
	days := slices.Repeat([]string{"0"}, int((q.To-q.From+dayMillis-1)/dayMillis))
	for _, r := range u.Rows {
		days[(int64(r.Start)-q.From)/dayMillis] = r.Quantity
	}
	return days
}

func (s *Site) total(v *visit, meter string, q report.UsageQuery) (string, error) {
	q.Meter, q.Window = meter, "total"
	u, err := s.Reports.MeterUsage(v.Context(), q)
	if err != nil || len(u.Rows) == 0 {
		return "0", err
	}
	return u.Rows[0].Quantity, nil
}

func (c course) tile(meter directory.Meter, m usage.Month) tile {
	t := tile{label: meterTitle(meter), value: c.sum, unit: meter.Unit, delta: change(c.sum, c.then), href: href("/usage", "meter", meter.Name, "month", m.String())}
	t.note = "against " + grouped(c.then)
	if t.delta == "" {
		t.note = "nothing at this point last month"
	}
	return t
}

// chart shows the running totals: the question of the first page is where this month is heading.
func (c course) chart(meter directory.Meter, m usage.Month) *chart {
	one := chart{title: meterTitle(meter) + ", running total of the month", unit: meter.Unit, now: monthTitle(m.String()), before: monthTitle(m.Prev().String()) + " to the same point"}
	day := m.Start().Time()
	for i := range max(len(c.now), len(c.past)) {
		one.labels, one.names, one.starts = append(one.labels, whole(i+1)), append(one.names, day.Format("Mon 2 Jan 2006")), append(one.starts, report.Instant(day.UnixMilli()))
		day = day.AddDate(0, 0, 1)
	}
	one.starts = append(one.starts, report.Instant(day.UnixMilli()))
	one.narrow = href("/usage", "meter", meter.Name, "month", chosenPeriod)
	one.values, one.past = running(c.now), running(c.past)
	return &one
}

func (s *Site) homeMonths(v *visit, ask func() ([]report.MonthInfo, error)) templ.Component {
	months, err := ask()
	if err != nil {
		return s.trouble(v, err)
	}
	t := monthsTable(months[:min(len(months), homeMonths)])
	return sheet(t.without("SHA-256 of the newest version"))
}
