package reporter

import (
	"context"
	"strings"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

type reportsOutput struct{ Body reportsAnswer }

type reportsAnswer struct {
	Rows []reportEntry `json:"rows"`
}

// reportEntry is a report as the list has it.
type reportEntry struct {
	Report     string            `json:"report"`
	Title      string            `json:"title"`
	Doc        string            `json:"doc"`
	Parameters []reportParameter `json:"parameters" doc:"Its own; as_of, version, format, limit, cursor and raw belong to every report"`
	Columns    []reportColumn    `json:"columns"`
	Formats    []sheet.Format    `json:"formats"`
}

type reportParameter struct {
	Name     string   `json:"name"`
	Doc      string   `json:"doc"`
	Required bool     `json:"required"`
	Values   []string `json:"values,omitempty" doc:"The allowed ones; absent: any"`
	Example  string   `json:"example,omitempty"`
}

type reportColumn struct {
	Name string `json:"name"`
	Kind string `json:"kind" doc:"text, code, whole, decimal, instant, date, month, boolean or json"`
	Doc  string `json:"doc"`
}

func (a reportsAnswer) columns() []string {
	return []string{"report", "title", "parameters", "columns", "formats"}
}

func (a reportsAnswer) cells(row func(...cell)) {
	for _, r := range a.Rows {
		var parameters, columns, formats []string
		for _, p := range r.Parameters {
			parameters = append(parameters, p.Name)
		}
		for _, c := range r.Columns {
			columns = append(columns, c.Name)
		}
		for _, f := range r.Formats {
			formats = append(formats, string(f))
		}
		row(plain(r.Report), plain(r.Title), plain(strings.Join(parameters, " ")), plain(strings.Join(columns, "; ")), plain(strings.Join(formats, " ")))
	}
}

// ContentType names the character set of CSV.
func (a reportsAnswer) ContentType(ct string) string { return tableType(ct) }

func listReports() reportsAnswer {
	answer := reportsAnswer{Rows: []reportEntry{}}
	for _, d := range report.Definitions() {
		e := reportEntry{Report: d.Name, Title: d.Title, Doc: d.Doc, Parameters: []reportParameter{}, Columns: columnsOf(d.Columns), Formats: sheet.Formats()}
		for _, p := range d.Parameters {
			e.Parameters = append(e.Parameters, reportParameter{p.Name, p.Doc, p.Required, p.Values, p.Example})
		}
		answer.Rows = append(answer.Rows, e)
	}
	return answer
}

func columnsOf(columns []sheet.Column) []reportColumn {
	all := []reportColumn{}
	for _, c := range columns {
		all = append(all, reportColumn{c.Name, c.Kind.String(), c.Doc})
	}
	return all
}

type columnsOutput struct{ Body columnsAnswer }

// columnsAnswer is what a dialog shows before an export.
type columnsAnswer struct {
	Report     string            `json:"report"`
	Parameters map[string]string `json:"parameters"`
	AsOf       report.Instant    `json:"as_of"`
	FileName   string            `json:"file_name" doc:"Suggested; its extension is that of format, csv by default"`
	Columns    []reportColumn    `json:"columns" doc:"In the order of the file"`
	Formats    []sheet.Format    `json:"formats"`
}

// reportColumns says what an export would hold. The parameters are checked as the export would check them.
func (s *server) reportColumns(ctx context.Context, who caller, name string) (*columnsOutput, error) {
	q, values, err := s.ask(ctx, who, name)
	if err != nil {
		return nil, err
	}
	f := sheet.FormatCSV
	if values["format"] != nil {
		f, _ = ctx.Value(formatKey).(sheet.Format)
	}
	q.Export, q.Limit = true, 1 // no row is read
	result, err := s.reports.Run(ctx, q)
	if err != nil {
		return nil, err
	}
	return &columnsOutput{columnsAnswer{
		Report: name, Parameters: q.Values, AsOf: result.AsOf, FileName: sheet.FileName(result.FileName, f), Columns: columnsOf(result.Columns), Formats: sheet.Formats(),
	}}, nil
}
