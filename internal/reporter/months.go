package reporter

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/report"
)

type monthsInput struct {
	Format string `query:"format" doc:"json or csv; default: the header Accept"`
}

type monthsOutput struct{ Body monthsAnswer }

type monthsAnswer struct {
	Rows      []report.MonthInfo `json:"rows" doc:"Months with usage, and closed ones, newest first"`
	Watermark report.Watermark   `json:"watermark"`
}

func (a monthsAnswer) columns() []string {
	return []string{"month", "state", "version", "closed", "events", "first_at", "last_at", "closed_at", "as_of", "sha256"}
}

func (a monthsAnswer) cells(row func(...cell)) {
	for _, m := range a.Rows {
		row(plain(m.Month), plain(m.State), whole(m.Version), boolean(m.Closed), whole(m.Events), plain(m.FirstAt.String()), plain(m.LastAt.String()),
			plain(m.ClosedAt.String()), plain(m.AsOf.String()), plain(m.SHA256))
	}
}

// ContentType names the character set of CSV.
func (a monthsAnswer) ContentType(ct string) string { return tableType(ct) }

type monthInput struct {
	Month     string `path:"month" doc:"YYYY-MM, UTC" example:"2026-03"`
	Checklist string `query:"checklist" doc:"false leaves the checklist out; default: true"`
}

type monthOutput struct{ Body monthAnswer }

type monthAnswer struct {
	report.MonthInfo
	Start     report.Instant   `json:"start"`
	End       report.Instant   `json:"end" doc:"First instant of the next month"`
	Watermark report.Watermark `json:"watermark"`
	Versions  []report.Version `json:"versions" doc:"Closed versions, oldest first"`
	Checklist []months.Check   `json:"checklist" doc:"What blocks the close, and what its closer should know; empty for a closed month"`
}

func (s *server) registerMonths() {
	register(s, endpoint{
		Operation: huma.Operation{OperationID: "months", Method: http.MethodGet, Path: "/months", Tags: []string{"months"}, Summary: "Months with usage and their states"},
		rows:      true, soon: true,
	}, s.listMonths)
	register(s, endpoint{
		Operation: huma.Operation{OperationID: "month", Method: http.MethodGet, Path: "/months/{month}", Tags: []string{"months"}, Summary: "One month's state, its versions, and what blocks its close"},
		whole:     true, soon: true,
	}, s.month)
	s.registerClose()
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "month-usage", Method: http.MethodGet, Path: "/months/{month}/usage", Tags: []string{"months"},
			Summary: "Monthly aggregates per account and plan",
			Description: "One row per account, plan, meter, region, platform and trial: the account's own usage, and with all accounts below it. " +
				"A row without usage of its own stands where accounts below have some.",
		},
		rows: true, report: true,
	}, s.monthUsage)
}

func (s *server) listMonths(ctx context.Context, who caller, _ *monthsInput) (*monthsOutput, error) {
	w, err := s.reports.Watermark(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.reports.Months(ctx, who.Tenant)
	return &monthsOutput{Body: monthsAnswer{Rows: rows, Watermark: w}}, err
}

func (s *server) month(ctx context.Context, who caller, in *monthInput) (*monthOutput, error) {
	m, err := monthOf("month", in.Month)
	if err != nil {
		return nil, err
	}
	w, err := s.reports.Watermark(ctx)
	if err != nil {
		return nil, err
	}
	out := &monthOutput{Body: monthAnswer{
		Start: report.Instant(m.Start().Millis()), End: report.Instant(m.End().Millis()), Watermark: w, Versions: []report.Version{}, Checklist: []months.Check{},
	}}
	if out.Body.MonthInfo, err = s.reports.Month(ctx, who.Tenant, m); err != nil {
		return nil, err
	}
	versions, err := s.reports.Versions(ctx, who.Tenant, m)
	if err != nil {
		return nil, err
	}
	out.Body.Versions = append(out.Body.Versions, versions...)
	switch in.Checklist {
	case "", "true":
		out.Body.Checklist, err = s.months.Checklist(ctx, who.Tenant, m)
	case "false":
	default:
		err = wrong("checklist", "want true or false")
	}
	return out, err
}
