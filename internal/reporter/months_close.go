package reporter

import (
	"bytes"
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/report"
)

const (
	closeBodyMax = 64 << 10
	reasonMax    = 1000 // bytes
	diffEvents   = 1000 // late events that a comparison lists
)

type closeInput struct {
	Month   string `path:"month" doc:"YYYY-MM, UTC" example:"2026-03"`
	RawBody []byte
}

// closeBody is the body of POST /months/{month}/close; none at all is the same as {}.
type closeBody struct {
	AsOf       string `json:"as_of,omitempty" required:"false" doc:"Only what was recorded at or before this instant, RFC 3339; default: the watermark"`
	AcceptGaps bool   `json:"accept_gaps,omitempty" required:"false" doc:"Close in spite of an open declared gap; needs a reason"`
	Reason     string `json:"reason,omitempty" required:"false" doc:"Why; kept with the version"`
}

type closeOutput struct{ Body closeAnswer }

type closeAnswer struct {
	Month       string            `json:"month"`
	State       string            `json:"state" enum:"closed"`
	Version     int               `json:"version" doc:"The newest: a month that nothing was added to answers the version it has"`
	ClosedAt    report.Instant    `json:"closed_at"`
	AsOf        report.Instant    `json:"as_of"`
	Positions   map[string]uint64 `json:"positions"`
	Rows        int               `json:"rows"`
	SHA256      string            `json:"sha256"`
	Adjustments int               `json:"adjustments" doc:"Figures that the version changed against the one before it"`
}

type adjustmentsInput struct {
	Month      string `path:"month" doc:"The usage month, YYYY-MM" example:"2026-03"`
	Processing string `query:"processing_month" doc:"Only what became known in this month, YYYY-MM"`
	Format     string `query:"format" doc:"json or csv; default: the header Accept"`
}

type adjustmentsOutput struct{ Body adjustmentsAnswer }

type adjustmentsAnswer struct {
	Month string              `json:"month"`
	Rows  []report.Adjustment `json:"rows" doc:"By version, then in a fixed order"`
}

func (a adjustmentsAnswer) columns() []string {
	return []string{
		"processing_month", "usage_month", "type", "account", "plan", "meter", "region", "platform", "trial", "measure",
		"from_version", "to_version", "delta", "cost_delta",
	}
}

func (a adjustmentsAnswer) cells(row func(...cell)) {
	for _, r := range a.Rows {
		row(plain(r.ProcessingMonth), plain(r.UsageMonth), plain(r.Type), text(r.Account), text(r.Plan), text(r.Meter), text(r.Region), text(r.Platform),
			boolean(r.Trial), plain(r.Measure), whole(r.FromVersion), whole(r.ToVersion), plain(r.Delta), plain(r.CostDelta))
	}
}

// ContentType names the character set of CSV.
func (a adjustmentsAnswer) ContentType(ct string) string { return tableType(ct) }

type diffInput struct {
	Month  string `path:"month" doc:"YYYY-MM, UTC" example:"2026-03"`
	From   string `query:"from" doc:"A version; default: the one before to"`
	To     string `query:"to" doc:"A version; default: the newest"`
	Format string `query:"format" doc:"json or csv (the rows); default: the header Accept"`
}

type diffOutput struct{ Body diffAnswer }

type diffAnswer struct {
	Month  string             `json:"month"`
	From   report.Version     `json:"from"`
	To     report.Version     `json:"to"`
	Rows   []diffRow          `json:"rows" doc:"Figures that differ; one that a version does not have is empty there"`
	Events []report.LateEvent `json:"events" doc:"Events that the later version has and the earlier one has not, oldest recorded first; at most 1000"`
}

type diffRow struct {
	Account   string `json:"account"`
	Plan      string `json:"plan"`
	Meter     string `json:"meter"`
	Region    string `json:"region"`
	Platform  string `json:"platform"`
	Trial     bool   `json:"trial"`
	Measure   string `json:"measure"`
	Old       string `json:"old"`
	New       string `json:"new"`
	Delta     string `json:"delta"`
	OldCost   string `json:"old_cost"`
	NewCost   string `json:"new_cost"`
	CostDelta string `json:"cost_delta"`
}

func (a diffAnswer) columns() []string {
	return []string{"account", "plan", "meter", "region", "platform", "trial", "measure", "old", "new", "delta", "old_cost", "new_cost", "cost_delta"}
}

func (a diffAnswer) cells(row func(...cell)) {
	for _, r := range a.Rows {
		row(text(r.Account), text(r.Plan), text(r.Meter), text(r.Region), text(r.Platform), boolean(r.Trial), plain(r.Measure),
			plain(r.Old), plain(r.New), plain(r.Delta), plain(r.OldCost), plain(r.NewCost), plain(r.CostDelta))
	}
}

// ContentType names the character set of CSV.
func (a diffAnswer) ContentType(ct string) string { return tableType(ct) }

func (s *server) registerClose() {
	body := jsonBody[closeBody](s, "CloseMonth")
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "close-month", Method: http.MethodPost, Path: "/months/{month}/close", Tags: []string{"months"}, Summary: "Close a month, or state a closed one anew",
			Description: "Refused with 409 and every reason while an earlier month with usage is open, the audit finds a difference, or a declared gap is open. " +
				"A closed month gets a new version if something became known that changes it; else the answer is the version it has.",
			MaxBodyBytes: -1, RequestBody: body, // checked by ourselves, to refuse in our shape
		},
		whole: true,
	}, s.closeMonth)
	body.Required = false // a raw body makes it so
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "month-adjustments", Method: http.MethodGet, Path: "/months/{month}/adjustments", Tags: []string{"months"}, Summary: "What later versions of a month changed",
			Description: "One row per figure, version and month in which the late events were recorded. Deltas of all rows of a figure add up to the difference between the newest version and the first.",
		},
		rows: true,
	}, s.adjustments)
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "month-diff", Method: http.MethodGet, Path: "/months/{month}/diff", Tags: []string{"months"}, Summary: "Two versions of a month compared, down to the events",
		},
		rows: true,
	}, s.diffMonth)
}

func (s *server) closeMonth(ctx context.Context, who caller, in *closeInput) (*closeOutput, error) {
	m, err := monthOf("month", in.Month)
	if err != nil {
		return nil, err
	}
	body, err := readClose(in.RawBody)
	if err != nil {
		return nil, err
	}
	q := months.Request{Tenant: who.Tenant, Month: m, AcceptGaps: body.AcceptGaps, Reason: body.Reason, By: who.actor().By}
	if q.AsOf, err = instantOf("as_of", body.AsOf, 0); err != nil {
		return nil, err
	}
	v, err := s.months.Close(ctx, q)
	if err != nil {
		return nil, err
	}
	return &closeOutput{closeAnswer{
		Month: m.String(), State: report.StateClosed, Version: v.Version, ClosedAt: v.ClosedAt, AsOf: v.AsOf, Positions: v.Positions,
		Rows: v.Rows, SHA256: v.SHA256, Adjustments: v.Adjustments,
	}}, nil
}

func readClose(raw []byte) (closeBody, error) {
	var body closeBody
	if len(raw) > closeBodyMax {
		return body, refuse(codeBodySize, "a close is described in less than 64 KiB")
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return body, nil
	}
	if err := readBody(raw, &body); err != nil {
		return body, err
	}
	if len(body.Reason) > reasonMax {
		return body, wrong("reason", "want at most "+strconv.Itoa(reasonMax)+" bytes")
	}
	return body, nil
}

func (s *server) adjustments(ctx context.Context, who caller, in *adjustmentsInput) (*adjustmentsOutput, error) {
	m, err := monthOf("month", in.Month)
	if err != nil {
		return nil, err
	}
	q := report.AdjustmentsQuery{Tenant: who.Tenant, UsageMonth: m.String()}
	if in.Processing != "" {
		processing, err := monthOf("processing_month", in.Processing)
		if err != nil {
			return nil, err
		}
		q.ProcessingMonth = processing.String()
	}
	rows, err := s.reports.Adjustments(ctx, q)
	return &adjustmentsOutput{adjustmentsAnswer{Month: m.String(), Rows: rows}}, err
}

func (s *server) diffMonth(ctx context.Context, who caller, in *diffInput) (*diffOutput, error) {
	m, err := monthOf("month", in.Month)
	if err != nil {
		return nil, err
	}
	from, err := versionNumber("from", in.From)
	if err != nil {
		return nil, err
	}
	to, err := versionNumber("to", in.To)
	if err != nil {
		return nil, err
	}
	d, err := s.months.Diff(ctx, who.Tenant, m, from, to, diffEvents)
	if err != nil {
		return nil, err
	}
	out := &diffOutput{diffAnswer{Month: m.String(), From: d.From, To: d.To, Rows: []diffRow{}, Events: d.Events}}
	for _, c := range d.Changes {
		out.Body.Rows = append(out.Body.Rows, diffRow{
			c.Account, c.Plan, c.Meter, c.Region, c.Platform, c.Trial, c.Measure, c.Value, c.NewValue, c.Delta, c.Cost, c.NewCost, c.CostDelta,
		})
	}
	return out, nil
}

// versionNumber reads a version; "" is 0, which leaves the choice.
func versionNumber(name, value string) (int, error) {
	if value == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, wrong(name, "want a version's number, from 1")
	}
	return n, nil
}

// closeProblem is what the client sees of a close that may not be: every reason, and what blocks first.
func closeProblem(r *months.Refused) *problem.Problem {
	var items []problem.Item
	for _, c := range r.Checks {
		if c.Status == months.Block {
			items = append(items, problem.Item{Parameter: c.Check, Code: codeClose, Detail: c.Detail})
		}
	}
	return refuse(codeClose, r.Error()).With(items...)
}
