package web

import (
	"slices"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Periods of the usage page that are not one month.
const (
	yearPeriod   = "12-months"
	chosenPeriod = "chosen" // from and to say which hours: what a selection on a chart leads to
)

// Rows of a chosen period, where the address does not say: as fine as can still be read.
const (
	hoursUpTo = 7   // days shown by the hour
	daysUpTo  = 100 // days shown by the day; beyond it months
)

// span sets the period of the question, and answers the month whose meters are offered.
func (ask *usageAsk) span(v *visit) (usage.Month, error) {
	m, window := v.thisMonth(), v.query("window")
	if ask.period == "" {
		ask.period = m.String()
		if v.query("from") != "" {
			ask.period = chosenPeriod
		}
	}
	ask.Window = "day"
	switch ask.period {
	case yearPeriod:
		ask.To = m.End().Millis()
		first := m
		for range 11 {
			first = first.Prev()
		}
		ask.From, window = first.Start().Millis(), "month"
	case chosenPeriod:
		if err := ask.stretch(v); err != nil {
			return m, err
		}
		m = usage.MonthOf(usage.AtTime(time.UnixMilli(ask.To - 1).UTC()))
		if ask.From == m.Start().Millis() && ask.To == m.End().Millis() {
			ask.period, ask.month = m.String(), m.String()
		}
	default:
		var err error
		if m, err = parseMonth(ask.period); err != nil {
			return m, &report.Error{Code: report.CodeParameter, Parameter: "month", Detail: "want a month as YYYY-MM, " + yearPeriod + ", or " + chosenPeriod + " with from and to"}
		}
		ask.month, ask.From, ask.To = m.String(), m.Start().Millis(), m.End().Millis()
	}
	if window != "" {
		ask.Window = window
	}
	return m, nil
}

// stretch reads from and to: whole hours, so that the rows of a chart are whole, and no more of them than a chart has.
func (ask *usageAsk) stretch(v *visit) error {
	for name, into := range map[string]*int64{"from": &ask.From, "to": &ask.To} {
		at, err := time.Parse(time.RFC3339, v.query(name))
		if err != nil || at.UnixMilli()%hourMillis != 0 {
			return &report.Error{Code: report.CodeParameter, Parameter: name, Detail: "want a full hour as 2006-01-02T15:00:00Z"}
		}
		*into = at.UnixMilli()
	}
	days := (ask.To - ask.From) / dayMillis
	if days >= windowsMost {
		return &report.Error{Code: report.CodeParameter, Parameter: "from", Detail: "want less than " + whole(windowsMost) + " days before to"}
	}
	switch {
	case days <= hoursUpTo:
		ask.Window = "hour"
	case days > daysUpTo:
		ask.Window = "month"
	}
	if v.query("window") == "hour" && days*24 >= windowsMost {
		return &report.Error{Code: report.CodeParameter, Parameter: "window", Detail: "want day, month: the period has too many hours"}
	}
	return nil
}

// spanTitle is a period in words: days where it is of whole days, the last one meant to be included.
func spanTitle(from, to int64) string {
	first, end := time.UnixMilli(from).UTC(), time.UnixMilli(to).UTC()
	if from%dayMillis != 0 || to%dayMillis != 0 {
		return first.Format("2 Jan 2006 15:04") + " to " + end.Format("2 Jan 2006 15:04")
	}
	last := end.AddDate(0, 0, -1)
	if !last.After(first) {
		return first.Format("Mon 2 Jan 2006")
	}
	return first.Format("2 Jan 2006") + " to " + last.Format("2 Jan 2006")
}

// windowsOf are the starts of the windows asked for, those without usage too.
func windowsOf(ask *usageAsk) func(yield func(report.Instant) bool) {
	return func(yield func(report.Instant) bool) {
		at := time.UnixMilli(ask.From).UTC()
		for range windowsMost {
			if at.UnixMilli() >= ask.To || !yield(report.Instant(at.UnixMilli())) {
				return
			}
			switch ask.Window {
			case "hour":
				at = at.Add(time.Hour)
			case "month":
				at = usage.MonthOf(usage.AtTime(at)).End().Time()
			default:
				at = at.Truncate(24*time.Hour).AddDate(0, 0, 1)
			}
		}
	}
}

// finer leads to a row of the series alone, by its parts; "" for what has no smaller ones.
func finer(v *visit, ask *usageAsk, r report.UsageRow) string {
	if ask.Window == "hour" {
		return ""
	}
	return v.with("month", chosenPeriod, "window", "", "from", r.Start.String(), "to", r.End.String())
}

// explain leads to where a number comes from: of an account, or of the whole tenant where account is ""; of a month, or of
// other hours. more is what else tells it apart. What is of some accounts of a tenant has no explanation of its own: each
// of them has.
func (ask *usageAsk) explain(account string, from, to int64, measure string, more ...string) string {
	pairs := []string{"meter", ask.Meter, "measure", measure}
	switch {
	case account != "":
		pairs = append(pairs, "account", account)
	case !ask.whole:
		return ""
	}
	if ask.month != "" && account != "" && from == ask.From && to == ask.To { // with what its closed versions say
		pairs = append(pairs, "month", ask.month)
	} else {
		pairs = append(pairs, "from", report.Instant(from).String(), "to", report.Instant(to).String())
	}
	return explainHref(report.ReportUsage, append(pairs, more...)...)
}

// ofAll is explain for numbers of all that the page is about: the account looked at with all below it, or the tenant.
func (ask *usageAsk) ofAll(from, to int64, measure string, more ...string) string {
	if ask.account != "" {
		measure += "_tree"
	}
	return ask.explain(ask.account, from, to, measure, more...)
}

// grouped are the groups of which events know nothing else: what is in one is explained.
func (ask *usageAsk) grouped() bool {
	return slices.Contains([]string{"plan", "region", "platform", "trial"}, ask.group)
}

// unexplained says which numbers of the page lead nowhere, and why; "" where all do.
func (ask *usageAsk) unexplained() string {
	var all []string
	if !ask.whole && ask.account == "" {
		all = append(all, "Numbers of several accounts lead to no explanation of their own: each account has one, below.")
	}
	if ask.group != "" && !ask.grouped() {
		all = append(all, "Groups by "+strings.ReplaceAll(ask.group, "_", " ")+" lead nowhere: the events of an account or a day, which name it, do.")
	}
	return strings.Join(all, " ")
}
