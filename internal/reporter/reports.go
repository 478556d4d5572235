package reporter

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// reportInput has no fields: the parameters of a report are in its definition.
type reportInput struct{}

// reportAnswer is {report, parameters, as_of, version, state, columns, rows, next}, or a file.
type reportAnswer struct {
	*report.Result
	rows  []sheet.Row
	paged bool // the rows are a page; else all that Table has
	raw   bool // names are not guarded against spreadsheets
	next  *string
}

// json is the answer for programs; keys of a row are the CSV header's names.
func (a *reportAnswer) json() ([]byte, error) {
	if a.Document != nil {
		return json.Marshal(a.Document)
	}
	columns := make([]string, len(a.Columns))
	for i, c := range a.Columns {
		columns[i] = c.Name
	}
	head, err := json.Marshal(struct {
		Report     string            `json:"report"`
		Parameters map[string]string `json:"parameters"`
		AsOf       report.Instant    `json:"as_of"`
		Version    int               `json:"version"`
		State      string            `json:"state,omitempty"`
		Positions  map[string]uint64 `json:"positions"`
		Columns    []string          `json:"columns"`
	}{a.Report, a.Values, a.AsOf, a.Version, a.State, a.Positions, columns})
	if err != nil {
		return nil, err
	}
	b := append(head[:len(head)-1], `,"rows":[`...)
	keys := sheet.Keys(a.Columns)
	for i, row := range a.rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = keys.Append(append(b, '{'), row)
		if a.Extra != nil {
			extra, err := json.Marshal(a.Extra(row))
			if err != nil {
				return nil, err
			}
			if members := bytes.Trim(extra, "{}"); len(members) > 0 {
				b = append(append(b, ','), members...)
			}
		}
		b = append(b, '}')
	}
	b = append(b, `],"next":`...)
	next, err := json.Marshal(a.next)
	return append(append(b, next...), '}'), err
}

// commonParameters are those of every report.
func commonParameters() []*huma.Param {
	format := queryParam("format", sheet.FormatNames()+"; default: the header Accept. JSON comes in pages, files are whole")
	for _, f := range sheet.Formats() {
		format.Schema.Enum = append(format.Schema.Enum, string(f))
	}
	return []*huma.Param{
		queryParam("as_of", "Only what was recorded at or before this instant, RFC 3339; 409 not-settled beyond the watermark"),
		queryParam("version", "A version, from 1, of the closed month that month names; default, or current: as the report answers"),
		format,
		queryParam("limit", "Rows of a page, 1 to 1000; default 1000. A file with limit is a page as well, its cursor in X-Next-Cursor"),
		queryParam("cursor", "next of the page before: the same question, the same state of the log"),
		queryParam("raw", "true: names in CSV are not guarded against spreadsheets that run them as formulas"),
	}
}

// registerReports adds every report, what it consists of, and the list of them.
func (s *server) registerReports() {
	common := commonParameters()
	isCommon := func(name string) bool {
		return slices.ContainsFunc(common, func(p *huma.Param) bool { return p.Name == name })
	}
	for _, d := range report.Definitions() {
		var own []*huma.Param
		for _, p := range d.Parameters {
			if isCommon(p.Name) {
				continue
			}
			schema := &huma.Schema{Type: huma.TypeString}
			for _, v := range p.Values {
				schema.Enum = append(schema.Enum, v)
			}
			own = append(own, &huma.Param{Name: p.Name, In: "query", Description: p.Doc, Required: p.Required, Schema: schema, Example: p.Example})
		}
		register(s, endpoint{Operation: huma.Operation{
			OperationID: d.Name, Method: http.MethodGet, Path: "/reports/" + d.Name, Tags: []string{"reports"}, Summary: d.Title, Description: d.Doc,
			Parameters: append(slices.Clone(own), common...),
		}, files: true},
			func(ctx context.Context, who caller, _ *reportInput) (*huma.StreamResponse, error) {
				return s.report(ctx, who, d.Name)
			})
		s.describeReport(d)
		register(s, endpoint{Operation: huma.Operation{
			OperationID: d.Name + "-columns", Method: http.MethodGet, Path: "/reports/" + d.Name + "/columns", Tags: []string{"reports"},
			Summary:     "What an export of " + d.Name + " would hold",
			Description: "The suggested file name and the columns, for the same parameters, before anything is exported.",
			Parameters:  append(slices.Clone(own), common[:3]...),
		}, files: true},
			func(ctx context.Context, who caller, _ *reportInput) (*columnsOutput, error) {
				return s.reportColumns(ctx, who, d.Name)
			})
	}
	register(s, endpoint{Operation: huma.Operation{
		OperationID: "reports", Method: http.MethodGet, Path: "/reports", Tags: []string{"reports"}, Summary: "The reports there are",
		Description: "With their parameters and columns. Columns are empty where they depend on the parameters: see the report's own columns.",
	}, rows: true},
		func(context.Context, caller, *tableInput) (*reportsOutput, error) {
			return &reportsOutput{listReports()}, nil
		})
}

// describeReport says in the API's description what a report answers.
func (s *server) describeReport(d report.Definition) {
	ok := s.api.OpenAPI().Paths["/reports/"+d.Name].Get.Responses["200"]
	text := &huma.Schema{Type: huma.TypeString}
	row := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Properties: map[string]*huma.Schema{}}
	for _, c := range d.Columns {
		row.Properties[c.Name] = jsonSchema(c)
	}
	ok.Description = "The report; a file is named in Content-Disposition, with its state in X-As-Of, X-Version and X-Positions"
	ok.Content = map[string]*huma.MediaType{}
	for _, f := range sheet.Formats() {
		ok.Content[f.MediaType()] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	ok.Content[csvType].Schema = text
	ok.Content[sheet.FormatJSON.MediaType()].Schema = &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Properties: map[string]*huma.Schema{
			"report": text, "parameters": {Type: huma.TypeObject, AdditionalProperties: text}, "as_of": text,
			"version": {Type: huma.TypeInteger}, "state": text, "positions": {Type: huma.TypeObject, AdditionalProperties: &huma.Schema{Type: huma.TypeInteger}},
			"columns": {Type: huma.TypeArray, Items: text}, "rows": {Type: huma.TypeArray, Items: row},
			"next": {Type: huma.TypeString, Nullable: true, Description: "Cursor of the next page; null on the last"},
		},
	}
}

// jsonSchema is a column as it is in JSON.
func jsonSchema(c sheet.Column) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString, Description: c.Doc, Nullable: c.Kind != sheet.Text && c.Kind != sheet.Code}
	switch c.Kind {
	case sheet.Whole:
		s.Type = huma.TypeInteger
	case sheet.Bool:
		s.Type = huma.TypeBoolean
	case sheet.JSON:
		return &huma.Schema{Description: c.Doc} // any value
	}
	return s
}

// ask turns a request for a report into a question.
func (s *server) ask(ctx context.Context, who caller, name string) (q report.Query, values map[string][]string, err error) {
	q = report.Query{Tenant: who.Tenant, Report: name, Values: map[string]string{}}
	values, _ = ctx.Value(queryKey).(map[string][]string)
	for parameter, value := range values {
		switch parameter {
		case "as_of", "version", "format", "limit", "cursor", "raw":
		default:
			q.Values[parameter] = value[0]
		}
	}
	q.AsOf, q.Version, err = stateOf(first(values["as_of"]), first(values["version"]))
	return q, values, err
}

// report answers a report: what is wrong with the question is refused here, rows come with the body.
func (s *server) report(ctx context.Context, who caller, name string) (*huma.StreamResponse, error) {
	f, _ := ctx.Value(formatKey).(sheet.Format)
	ctx, cancel := context.WithTimeout(ctx, s.wait.AnswerWait) // rows are read while they are written
	a, err := s.runReport(ctx, who, name, f)
	if err != nil {
		cancel()
		s.runs.WithLabelValues(resultOf(s.answer(ctx, err))).Inc()
		return nil, err
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		defer cancel()
		_, w := humago.Unwrap(h)
		s.stream(ctx, w, a, f)
	}}, nil
}

func (s *server) runReport(ctx context.Context, who caller, name string, f sheet.Format) (*reportAnswer, error) {
	q, values, err := s.ask(ctx, who, name)
	if err != nil {
		return nil, err
	}
	q.Export = f != sheet.FormatJSON
	raw, err := rawOf(first(values["raw"]), f)
	if err != nil {
		return nil, err
	}
	if f == sheet.FormatPipe && q.Values["delimiter"] == "comma" {
		return nil, wrong("delimiter", "format=csv-pipe has the pipe; leave one of them out")
	}
	if q.Export && values["limit"] == nil && values["cursor"] == nil {
		ctx = warehouse.Bounded(ctx, warehouse.Bounds{Time: s.wait.AnswerWait})
		result, err := s.reports.Run(ctx, q)
		return &reportAnswer{Result: result, raw: raw}, err
	}
	limit, err := limitOf(first(values["limit"]), limitDefault)
	if err != nil {
		return nil, err
	}
	var at *report.Place
	if cursor := first(values["cursor"]); cursor != "" {
		at = &report.Place{}
		if err := s.cursors.take(who.Tenant, "report "+name, cursor, at); err != nil {
			return nil, err
		}
	}
	page, err := s.reports.Page(ctx, q, at, limit)
	if err != nil {
		return nil, err
	}
	a := &reportAnswer{Result: page.Result, rows: page.Rows, paged: true, raw: raw}
	if page.Next != nil {
		next, err := s.cursors.give(who.Tenant, "report "+name, page.Next)
		if err != nil {
			return nil, err
		}
		a.next = &next
	}
	return a, nil
}

// rawOf reads the parameter raw.
func rawOf(value string, f sheet.Format) (bool, error) {
	switch {
	case value == "", value == "false":
		return false, nil
	case value != "true":
		return false, wrong("raw", "want true or false")
	case f != sheet.FormatCSV && f != sheet.FormatPipe:
		return false, wrong("raw", "is for csv and csv-pipe; other formats have no formulas to guard against")
	}
	return true, nil
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
