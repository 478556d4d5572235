package web

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
	sheets "github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
)

const (
	pageRows   = 200 // rows of a page of a report
	selectMost = 400 // accounts in a list to choose from; beyond it an id is typed
)

// reach is the accounts for which the viewer's roles allow a verb: each after the one above it.
func (s *Site) reach(v *visit, e access.Entity, verb access.Verb) ([]report.AccountInfo, error) {
	all, err := s.Reports.Accounts(v.Context(), v.viewer.Tenant)
	if err != nil || v.viewer.ReachesAll(e, verb) {
		return all, err
	}
	roots, inside := v.viewer.Roots(e, verb), map[string]bool{}
	within := all[:0]
	for _, a := range all {
		if inside[a.Parent] || slices.Contains(roots, a.ID) {
			inside[a.ID] = true
			within = append(within, a)
		}
	}
	return within, nil
}

// pick is the account of a list that was asked for by id: the first where none was, ErrNotFound where it is not there.
func pick(accounts []report.AccountInfo, id string) (report.AccountInfo, error) {
	if id == "" && len(accounts) > 0 {
		return accounts[0], nil
	}
	i := slices.IndexFunc(accounts, func(a report.AccountInfo) bool { return a.ID == id })
	if i < 0 {
		return report.AccountInfo{}, ErrNotFound
	}
	return accounts[i], nil
}

// some are the accounts that a test lets through.
func some(accounts []report.AccountInfo, test func(report.AccountInfo) bool) []report.AccountInfo {
	var kept []report.AccountInfo
	for _, a := range accounts {
		if test(a) {
			kept = append(kept, a)
		}
	}
	return kept
}

// providers are the accounts with others below them.
func providers(accounts []report.AccountInfo) []report.AccountInfo {
	above := map[string]bool{}
	for _, a := range accounts {
		above[a.Parent] = true
	}
	return some(accounts, func(a report.AccountInfo) bool { return above[a.ID] && a.Status != "Deleted" })
}

// accountField is a list to choose an account from; none, if not "", is the first choice, for no account. A very long
// list becomes a field for the id.
func accountField(f *form, name, label, none string, accounts []report.AccountInfo) field {
	one := f.field(name, label)
	if len(accounts) > selectMost {
		one.hint = "The account's id."
		return one
	}
	if none != "" {
		one.options = append(one.options, option{"", none})
	}
	least := 0
	for i, a := range accounts {
		if i == 0 || a.Depth < least {
			least = a.Depth
		}
	}
	for _, a := range accounts {
		title := strings.Repeat("\u2002", a.Depth-least) + a.Name
		if a.Name != a.ID {
			title += " (" + a.ID + ")"
		}
		one.options = append(one.options, option{a.ID, title})
	}
	return one
}

// completedMonths are the months that are over, newest first, since the first account was created; ten years at most.
func completedMonths(v *visit, accounts []report.AccountInfo) []option {
	const most = 120
	first := report.Instant(v.now.UnixMilli())
	for _, a := range accounts {
		first = min(first, a.CreatedAt)
	}
	var months []option
	for m := usage.MonthOf(usage.AtTime(v.now)).Prev(); len(months) < most && m.End().Millis() > int64(first); m = m.Prev() {
		months = append(months, option{m.String(), monthTitle(m.String())})
	}
	return months
}

// recentMonths are the current month and those before it.
func recentMonths(v *visit, accounts []report.AccountInfo) []option {
	current := usage.MonthOf(usage.AtTime(v.now)).String()
	return append([]option{{current, monthTitle(current) + " (so far)"}}, completedMonths(v, accounts)...)
}

// question is a report asked for by a page: the values that are not empty.
func (s *Site) question(v *visit, name string, pairs ...string) report.Query {
	q := report.Query{Tenant: v.viewer.Tenant, Report: name, Values: map[string]string{}, AsOf: latest}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Values[pairs[i]] = pairs[i+1]
		}
	}
	return q
}

// refused notes at the form what a report refused, where that is one of its fields; else the error stays one.
// fields are pairs: the report's parameter, the form's field.
func refused(f *form, err error, fields ...string) error {
	var bad *report.Error
	if !errors.As(err, &bad) {
		return err
	}
	name := bad.Parameter
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == name {
			name = fields[i+1]
		}
	}
	if name == "" {
		return err
	}
	f.refuse(name, sentence(bad.Detail))
	return nil
}

// refused is the same for a page that is asked for by its address: its status says, too, that this was no success.
func (v *visit) refused(f *form, err error, fields ...string) error {
	if err = refused(f, err, fields...); err == nil {
		v.status = http.StatusBadRequest
	}
	return err
}

// pageOf is some rows of a report, from the place that parameter "at" names.
func (s *Site) pageOf(v *visit, q report.Query) (*report.Page, error) {
	place, err := placeOf(v)
	if err != nil {
		return nil, err
	}
	return s.Reports.Page(v.Context(), q, place, pageRows)
}

// placeOf is what parameter "at" names; nil is the beginning.
func placeOf(v *visit) (*report.Place, error) {
	text := v.URL.Query().Get("at")
	if text == "" {
		return nil, nil //nolint:nilnil // no place is no fault
	}
	place := &report.Place{}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(b, place) != nil || place.Skip < 0 {
		return nil, badPlace()
	}
	return place, nil
}

// pagerOf leads to the next page of a report and back to the first.
func pagerOf(v *visit, p *report.Page) templ.Component {
	prev, next, first := "", "", 0
	if place, err := placeOf(v); err == nil && place != nil {
		prev, first = v.with("at", ""), place.Skip
	}
	if p.Next != nil {
		b, _ := json.Marshal(p.Next) // numbers and text: never fails
		next = v.with("at", base64.RawURLEncoding.EncodeToString(b))
	}
	if len(p.Rows) == 0 || prev == "" && next == "" {
		return nil
	}
	return pager(prev, next, fmt.Sprintf("Rows %s to %s", grouped(whole(first+1)), grouped(whole(first+len(p.Rows)))))
}

// href is an address with a query of the pairs whose value is not empty.
func href(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Add(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// explainHref leads to where a number comes from. Unlike in href, blank values stay: they are part of the number's key.
func explainHref(name string, pairs ...string) string {
	q := url.Values{"report": {name}}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return "/explain?" + q.Encode()
}

// kindOfColumn is how a column of a report is set on a page.
func kindOfColumn(c sheets.Column) kind {
	switch c.Kind {
	case sheets.Whole, sheets.Decimal:
		return asNumber
	case sheets.Instant, sheets.Date, sheets.Month, sheets.Bool:
		return asShort
	}
	return asText
}

// headings are the columns of a report as those of a table.
func headings(columns []sheets.Column) []column {
	all := make([]column, len(columns))
	for i, c := range columns {
		k := kindOfColumn(c)
		switch {
		case k != asText:
		case i == 0:
			k = asHead
		case len(columns) > 8 && c.Kind != sheets.JSON: // it is scrolled to the side: words are not broken to avoid that
			k = asShort
		}
		all[i] = column{title: columnTitle(c.Name), name: c.Name, kind: k, hint: c.Doc}
		if all[i].title != c.Name {
			all[i].hint = strings.TrimSuffix(c.Name+": "+c.Doc, ": ")
		}
	}
	return all
}

// columnTitle is a column's name for people, where files have one for programs: account_name and tenantName are words.
func columnTitle(name string) string {
	switch name {
	case "quantity_tree":
		return "With accounts below"
	case "events_tree":
		return "Events of all of them"
	}
	if name == "" || name[0] < 'a' || name[0] > 'z' || strings.Contains(name, " ") {
		return name
	}
	var b strings.Builder
	for i, c := range strings.ReplaceAll(name, "_", " ") {
		if i > 0 && c >= 'A' && c <= 'Z' {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return titled(strings.ToLower(b.String()))
}

// reportTable sets rows of a report as a table; explain is where a number leads, "" nowhere. Whoever may not open the
// page that explains has plain numbers.
func (v *visit) reportTable(name string, columns []sheets.Column, rows []sheets.Row, explain func(row sheets.Row, column string) string) table {
	t := table{name: name, columns: headings(columns)}
	if !v.viewer.May(access.Usage, access.View) {
		explain = nil
	}
	for _, r := range rows {
		cells := make(row, len(r))
		for i, text := range r {
			cells[i] = txt(text)
			if columns[i].Name == "meter" || columns[i].Name == "meterName" {
				cells[i] = metered(text)
			}
			if explain != nil && text != "" && kindOfColumn(columns[i]) == asNumber {
				if to := explain(r, columns[i].Name); to != "" {
					cells[i] = explained(text, to)
				}
			}
		}
		t.rows = append(t.rows, cells)
	}
	return t
}

// at finds a column's cell in a row; "" where the row has no such column.
func at(columns []sheets.Column, row sheets.Row, name string) string {
	for i, c := range columns {
		if c.Name == name {
			return row[i]
		}
	}
	return ""
}

// sending is a file on its way: its head is written with its first byte, until then the answer can still be a page.
type sending struct {
	http.ResponseWriter
	head  func(http.Header)
	begun bool
}

func (s *sending) Write(b []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.head(s.Header())
	}
	return s.ResponseWriter.Write(b)
}

// file answers a report as a file: the same bytes as the API's.
func (s *Site) file(v *visit, q report.Query, f sheets.Format) (templ.Component, error) {
	q.Export = true
	result, err := s.Reports.Run(v.Context(), q)
	if err != nil {
		return nil, err
	}
	return nil, s.send(v, sheets.FileName(result.FileName, f), f, func(w *sending) error {
		if result.Version > 0 {
			w.Header().Set("X-Version", strconv.Itoa(result.Version))
		}
		w.Header().Set("X-As-Of", result.AsOf.String())
		return result.Writer(f, false).Write(w, result.Table)
	})
}

// send sends a file. What fails after its first byte breaks the connection: half a file must not pass for a whole one.
func (s *Site) send(v *visit, name string, f sheets.Format, write func(*sending) error) error {
	w := &sending{ResponseWriter: v.w, head: func(h http.Header) {
		media := f.MediaType()
		if strings.HasPrefix(media, "text/") {
			media += "; charset=utf-8"
		}
		h.Set("Content-Type", media)
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	}}
	err := write(w)
	if err != nil && w.begun {
		panic(http.ErrAbortHandler)
	}
	return err
}

// downloads says that a file is on its way, and starts it: without scripts as well.
func downloads(v *visit, href string) { v.w.Header().Set("Refresh", "0; url="+href) }

// formats are the files a report can be saved as, as choices.
func formats() []option {
	return []option{{"csv", "CSV, comma (,)"}, {"csv-pipe", "CSV, pipe (|)"}, {"xlsx", "Excel workbook (XLSX)"}, {"parquet", "Parquet"}}
}

// fileFormats are the usual ones, as buttons.
func fileFormats() []option {
	return []option{{"csv", "CSV"}, {"xlsx", "Excel"}, {"parquet", "Parquet"}}
}

// formatOf is the format that parameter format names; CSV without one.
func formatOf(v *visit) sheets.Format {
	if f, ok := sheets.Parse(v.URL.Query().Get("format")); ok && f != sheets.FormatJSON {
		return f
	}
	return sheets.FormatCSV
}

// texts are what is shown of a sequence of values.
func texts[T any](all iter.Seq[T], text func(T) string) []string {
	var list []string
	for one := range all {
		list = append(list, text(one))
	}
	return list
}

// apart gives a field another id: a page may have two fields of a name.
func apart(f field, where string) field {
	f.id = where + f.name
	return f
}

// parseMonth reads a month that is part of an address.
func parseMonth(name string) (usage.Month, error) {
	m, err := usage.ParseMonth(name)
	if err != nil {
		return m, &report.Error{Code: report.CodeParameter, Parameter: "month", Detail: "want a month as YYYY-MM"}
	}
	return m, nil
}
