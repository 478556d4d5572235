package reporter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

type usageInput struct {
	Meter   string   `path:"meter" doc:"Name of the meter" example:"tokens"`
	Account []string `query:"account,explode" doc:"Only these accounts; may be given several times"`
	From    string   `query:"from" doc:"First instant, RFC 3339; default: the start of to's month"`
	To      string   `query:"to" doc:"First instant not included, RFC 3339; default: now"`
	Window  string   `query:"window" doc:"hour, day, month or total (default); UTC" example:"day"`
	GroupBy []string `query:"group_by,explode" doc:"Comma-separated: account, plan, region, platform, trial, consumer_id, item, dimensions.<key>"`
	AsOf    string   `query:"as_of" doc:"Only what was recorded at or before this instant, RFC 3339"`
	Format  string   `query:"format" doc:"json or csv; default: the header Accept"`
}

type usageOutput struct{ Body usageAnswer }

type usageAnswer struct {
	Meter       string           `json:"meter"`
	Unit        string           `json:"unit"`
	Aggregation string           `json:"aggregation" doc:"As meter.defined says; sum for a meter nobody defined"`
	From        report.Instant   `json:"from"`
	To          report.Instant   `json:"to"`
	Window      string           `json:"window"`
	GroupBy     []string         `json:"group_by"`
	AsOf        report.Instant   `json:"as_of"`
	Closed      bool             `json:"closed" doc:"Whether every month touched is closed: these numbers will never change"`
	Watermark   report.Watermark `json:"watermark"`
	Rows        []usageRow       `json:"rows"`
}

// usageRow is {start, end, <group_by…>, quantity, events}.
type usageRow struct {
	report.UsageRow
	groupBy []string
}

// MarshalJSON keeps the order of the contract.
func (r usageRow) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"start":%q,"end":%q`, r.Start, r.End)
	for i, name := range r.groupBy {
		value := r.Group[i]
		if name == "trial" {
			fmt.Fprintf(&b, `,"trial":%s`, value)
			continue
		}
		field, err := json.Marshal(map[string]string{name: value})
		if err != nil {
			return nil, err
		}
		b.WriteByte(',')
		b.Write(field[1 : len(field)-1])
	}
	fmt.Fprintf(&b, `,"quantity":%q,"events":%d}`, r.Quantity, r.Events)
	return b.Bytes(), nil
}

// Schema describes what MarshalJSON writes.
func (usageRow) Schema(huma.Registry) *huma.Schema {
	text := func(doc string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Description: doc} }
	return &huma.Schema{
		Type: huma.TypeObject,
		Properties: map[string]*huma.Schema{
			"start": text("Start of the window, or from"), "end": text("End of the window, or to"),
			"quantity": text("Exact decimal; empty where min, max, avg or latest of nothing is asked"),
			"events":   {Type: huma.TypeInteger, Format: "int64"},
		},
		Required:             []string{"start", "end", "quantity", "events"},
		AdditionalProperties: text("One per group_by"),
	}
}

func (a usageAnswer) columns() []string {
	return append(append([]string{"start", "end"}, a.GroupBy...), "quantity", "events")
}

func (a usageAnswer) cells(row func(...cell)) {
	for _, r := range a.Rows {
		cells := []cell{plain(r.Start.String()), plain(r.End.String())}
		for i, name := range r.groupBy {
			if name == "trial" {
				cells = append(cells, boolean(r.Group[i] == "true"))
				continue
			}
			cells = append(cells, text(r.Group[i]))
		}
		row(append(cells, plain(r.Quantity), whole(r.Events))...)
	}
}

// ContentType names the character set of CSV.
func (a usageAnswer) ContentType(ct string) string { return tableType(ct) }

func tableType(ct string) string {
	if ct == csvType {
		return "text/csv; charset=utf-8; header=present"
	}
	return ct
}

func (s *server) registerUsage() {
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "meter-usage", Method: http.MethodGet, Path: "/meters/{meter}/usage", Tags: []string{"usage"},
			Summary: "Usage of a meter",
			Description: "Quantities per window and group over [from, to). Windows without usage have no row, but for the total without group_by. " +
				"plan is the plan at the instant of use.",
		},
		rows: true, report: true,
	}, s.meterUsage)
}

func (s *server) meterUsage(ctx context.Context, who caller, in *usageInput) (*usageOutput, error) {
	q := report.UsageQuery{Tenant: who.Tenant, Meter: in.Meter, Accounts: in.Account, Window: in.Window, GroupBy: []string{}, RowsMax: rowsMax}
	if q.Window == "" {
		q.Window = "total"
	}
	for _, g := range in.GroupBy {
		for name := range strings.SplitSeq(g, ",") {
			if name = strings.TrimSpace(name); name != "" {
				q.GroupBy = append(q.GroupBy, name)
			}
		}
	}
	var err error
	if q.To, err = instantOf("to", in.To, s.now().UnixMilli()); err != nil {
		return nil, err
	}
	// The last instant included decides the default month: to = 1 March means February.
	if q.From, err = instantOf("from", in.From, usage.MonthOf(usage.At((q.To-1)*1_000_000)).Start().Millis()); err != nil {
		return nil, err
	}
	if q.AsOf, err = asOf(in.AsOf); err != nil {
		return nil, err
	}
	u, err := s.reports.MeterUsage(ctx, q)
	if err != nil {
		return nil, err
	}
	if len(u.Rows) > rowsMax {
		return nil, refuse(codeRows, fmt.Sprintf("%d rows; the limit is %d: ask for a shorter time, a longer window or fewer groups", len(u.Rows), rowsMax))
	}
	out := &usageOutput{Body: usageAnswer{
		Meter: in.Meter, Unit: u.Meter.Unit, Aggregation: u.Meter.Aggregation, From: report.Instant(q.From), To: report.Instant(q.To),
		Window: q.Window, GroupBy: q.GroupBy, AsOf: u.AsOf, Closed: u.Closed, Watermark: u.Watermark,
		Rows: make([]usageRow, len(u.Rows)),
	}}
	for i, r := range u.Rows {
		out.Body.Rows[i] = usageRow{r, q.GroupBy}
	}
	return out, nil
}
