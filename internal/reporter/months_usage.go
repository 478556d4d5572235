package reporter

import (
	"context"
	"fmt"
	"slices"

	"github.com/countinghouse/countinghouse/internal/report"
)

type monthUsageInput struct {
	Month   string   `path:"month" doc:"YYYY-MM, UTC" example:"2026-03"`
	AsOf    string   `query:"as_of" doc:"Only what was recorded at or before this instant, RFC 3339: computed, also of a closed month; 409 not-settled beyond the watermark"`
	Version string   `query:"version" doc:"A version of a closed month, from 1, as it was stored; by default, or as current, the newest, where the month is closed"`
	Account []string `query:"account,explode" doc:"Only these accounts; may be given several times"`
	Plan    string   `query:"plan" doc:"Only this plan"`
	Meter   string   `query:"meter" doc:"Only this meter"`
	Limit   string   `query:"limit" doc:"Rows of a page, 1 to 1000 (default); CSV without limit has every row"`
	Cursor  string   `query:"cursor" doc:"next of the page before"`
	Format  string   `query:"format" doc:"json or csv; default: the header Accept"`
}

type monthUsageOutput struct {
	Next string `header:"X-Next-Cursor" doc:"next, where the answer is CSV"`
	Body monthUsageAnswer
}

type monthUsageAnswer struct {
	Month     string            `json:"month"`
	State     string            `json:"state" enum:"open,provisional,closed"`
	Version   int               `json:"version" doc:"0: computed now, not a stored version"`
	Closed    bool              `json:"closed" doc:"The rows are a closed version, as it was stored"`
	AsOf      report.Instant    `json:"as_of"`
	Positions map[string]uint64 `json:"positions" doc:"Per shard of the log the sequence up to which everything is in the answer"`
	Watermark report.Watermark  `json:"watermark"`
	Rows      []report.MonthRow `json:"rows"`
	Next      *string           `json:"next" doc:"Cursor of the next page; null on the last"`
}

func (a monthUsageAnswer) columns() []string {
	return []string{
		"account", "account_name", "plan", "meter", "unit", "region", "platform", "trial", "resolved", "quantity", "events",
		"quantity_tree", "events_tree", "first_at", "last_at",
	}
}

func (a monthUsageAnswer) cells(row func(...cell)) {
	for _, r := range a.Rows {
		row(text(r.Account), text(r.AccountName), text(r.Plan), text(r.Meter), text(r.Unit), text(r.Region), text(r.Platform),
			boolean(r.Trial), boolean(r.Resolved), plain(r.Quantity), whole(r.Events), plain(r.QuantityTree), whole(r.EventsTree),
			plain(r.FirstAt.String()), plain(r.LastAt.String()))
	}
}

// ContentType names the character set of CSV.
func (a monthUsageAnswer) ContentType(ct string) string { return tableType(ct) }

// monthPlace is a page's end: the answer it belongs to and the last row given.
type monthPlace struct {
	ID   string   `json:"id"`
	Row  []string `json:"row"` // account, plan, meter, unit, region, platform
	Free bool     `json:"trial"`
	Ask  string   `json:"ask"` // the question, which must be the same on every page
}

func (in *monthUsageInput) question() string {
	return fmt.Sprintf("%q", append([]string{in.Month, in.AsOf, in.Version, in.Plan, in.Meter}, in.Account...))
}

func (s *server) monthUsage(ctx context.Context, who caller, in *monthUsageInput) (*monthUsageOutput, error) {
	m, err := monthOf("month", in.Month)
	if err != nil {
		return nil, err
	}
	q := report.MonthQuery{Tenant: who.Tenant, Month: m, MonthFilter: report.MonthFilter{Accounts: in.Account, Plan: in.Plan, Meter: in.Meter}}
	if q.AsOf, q.Version, err = stateOf(in.AsOf, in.Version); err != nil {
		return nil, err
	}
	fallback := limitDefault
	if wantsCSV(ctx) {
		fallback = 0
	}
	limit, err := limitOf(in.Limit, fallback)
	if err != nil {
		return nil, err
	}
	var place monthPlace
	if in.Cursor != "" {
		if err := s.cursors.take(who.Tenant, "month-usage", in.Cursor, &place); err != nil {
			return nil, err
		}
		if place.Ask != in.question() || len(place.Row) != 6 {
			return nil, refuse(codeCursor, "the cursor belongs to another question; start again without it")
		}
		q.Resume = place.ID
	}
	answer, err := s.reports.MonthUsage(ctx, q)
	if err != nil {
		return nil, err
	}
	rows := filterMonth(answer.Rows, in)
	if in.Cursor != "" {
		rows = rows[afterPlace(rows, place):]
	}
	out := &monthUsageOutput{Body: monthUsageAnswer{
		Month: answer.Month, State: answer.State, Version: answer.Version, Closed: answer.Version > 0, AsOf: answer.AsOf, Positions: answer.Positions, Watermark: answer.Watermark, Rows: rows,
	}}
	if limit == 0 || len(rows) <= limit {
		return out, nil
	}
	out.Body.Rows = rows[:limit]
	last := rows[limit-1]
	next, err := s.cursors.give(who.Tenant, "month-usage", monthPlace{
		ID: answer.ID, Row: []string{last.Account, last.Plan, last.Meter, last.Unit, last.Region, last.Platform}, Free: last.Trial, Ask: in.question(),
	})
	out.Body.Next, out.Next = &next, next
	return out, err
}

func filterMonth(rows []report.MonthRow, in *monthUsageInput) []report.MonthRow {
	if len(in.Account) == 0 && in.Plan == "" && in.Meter == "" {
		return rows
	}
	kept := []report.MonthRow{}
	for _, r := range rows {
		if (len(in.Account) == 0 || slices.Contains(in.Account, r.Account)) && (in.Plan == "" || r.Plan == in.Plan) && (in.Meter == "" || r.Meter == in.Meter) {
			kept = append(kept, r)
		}
	}
	return kept
}

// afterPlace is the index of the first row after the place; the row itself may be gone.
func afterPlace(rows []report.MonthRow, p monthPlace) int {
	last := report.MonthRow{
		Account: p.Row[0], Plan: p.Row[1], Meter: p.Row[2], Unit: p.Row[3], Region: p.Row[4], Platform: p.Row[5], Trial: p.Free,
	}
	i, found := slices.BinarySearchFunc(rows, last, report.CompareMonthRows)
	if found {
		i++
	}
	return i
}
