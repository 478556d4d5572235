package reporter

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// reportInput has no fields: the parameters of a report are in its definition.
type reportInput struct{}

type reportOutput struct{ Body reportAnswer }

// reportAnswer is {report, parameters, as_of, version, state, columns, rows, next} (interfaces.md 3).
type reportAnswer struct {
	*report.Result
	rows []sheet.Row
	next *string
}

// MarshalJSON keeps the order of the contract; keys of a row are the CSV header's names.
func (a reportAnswer) MarshalJSON() ([]byte, error) {
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
	var b bytes.Buffer
	b.Write(head[:len(head)-1])
	b.WriteString(`,"rows":[`)
	for i, row := range a.rows {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := a.row(&b, row); err != nil {
			return nil, err
		}
	}
	b.WriteString(`],"next":`)
	next, err := json.Marshal(a.next)
	b.Write(next)
	b.WriteByte('}')
	return b.Bytes(), err
}

func (a reportAnswer) row(b *bytes.Buffer, row sheet.Row) error {
	member := func(name string, value any) error {
		k, err := json.Marshal(name)
		if err != nil {
			return err
		}
		v, err := json.Marshal(value)
		if b.Bytes()[b.Len()-1] != '{' {
			b.WriteByte(',')
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(v)
		return err
	}
	b.WriteByte('{')
	for i, c := range a.Columns {
		if err := member(c.Name, jsonCell(c.Kind, row[i])); err != nil {
			return err
		}
	}
	if a.Extra != nil {
		extra := a.Extra(row)
		for _, name := range sortedKeys(extra) {
			if err := member(name, extra[name]); err != nil {
				return err
			}
		}
	}
	b.WriteByte('}')
	return nil
}

func jsonCell(kind sheet.Kind, cell string) any {
	switch {
	case cell == "" && kind != sheet.Text && kind != sheet.Code:
		return nil
	case kind == sheet.Whole || kind == sheet.JSON:
		return json.RawMessage(cell)
	case kind == sheet.Bool:
		return cell == "TRUE"
	}
	return cell
}

// writeReport writes the CSV of a report.
func (a reportAnswer) writeCSV(w io.Writer) error {
	return sheet.CSV{Delimiter: a.Delimiter}.Write(w, a.Table)
}

// ContentType names the character set of CSV.
func (a reportAnswer) ContentType(ct string) string { return tableType(ct) }

func (s *server) registerReports() {
	for _, d := range report.Definitions() {
		op := huma.Operation{
			OperationID: d.Name, Method: http.MethodGet, Path: "/reports/" + d.Name, Tags: []string{"reports"}, Summary: d.Title, Description: d.Doc,
		}
		for _, p := range d.Parameters {
			schema := &huma.Schema{Type: huma.TypeString}
			for _, v := range p.Values {
				schema.Enum = append(schema.Enum, v)
			}
			op.Parameters = append(op.Parameters, &huma.Param{Name: p.Name, In: "query", Description: p.Doc, Required: p.Required, Schema: schema, Example: p.Example})
		}
		for name, doc := range map[string]string{
			"as_of":   "Only what was recorded at or before this instant, RFC 3339; 409 not-settled beyond the watermark",
			"version": "A version of the closed month that month names",
			"format":  "json or csv; default: the header Accept",
		} {
			op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "query", Description: doc, Schema: &huma.Schema{Type: huma.TypeString}})
		}
		register(s, endpoint{Operation: op, scopes: []string{scopeReports}, rows: true, report: true},
			func(ctx context.Context, who caller, _ *reportInput) (*reportOutput, error) {
				return s.report(ctx, who, d.Name)
			})
	}
}

func (s *server) report(ctx context.Context, who caller, name string) (*reportOutput, error) {
	q := report.Query{Tenant: who.Tenant, Report: name, Values: map[string]string{}, Export: wantsCSV(ctx)}
	values, _ := ctx.Value(queryKey).(map[string][]string)
	var err error
	for parameter, value := range values {
		switch parameter {
		case "as_of", "version", "format":
		default:
			q.Values[parameter] = value[0]
		}
	}
	if q.AsOf, err = asOf(first(values["as_of"])); err != nil {
		return nil, err
	}
	if q.Version, err = versionOf(first(values["version"])); err != nil {
		return nil, err
	}
	result, err := s.reports.Run(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &reportOutput{Body: reportAnswer{Result: result, rows: []sheet.Row{}}}
	if wantsCSV(ctx) {
		return out, nil
	}
	for row, err := range result.Rows {
		if err != nil {
			return nil, err
		}
		out.Body.rows = append(out.Body.rows, row)
	}
	return out, nil
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
