package report

import (
	"context"
	"slices"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Month states (architecture 7).
const (
	StateOpen        = "open"
	StateProvisional = "provisional"
	StateClosed      = "closed"
)

// MonthRow is one row of the per-plan, per-tenant monthly aggregates (events.md 6). A row whose own
// columns are 0 without first and last instant exists because accounts below this one have usage.
type MonthRow struct {
	Account      string  `json:"account"`
	AccountName  string  `json:"account_name"`
	Plan         string  `json:"plan"`
	Meter        string  `json:"meter"`
	Unit         string  `json:"unit"`
	Region       string  `json:"region"`
	Platform     string  `json:"platform"`
	Trial        bool    `json:"trial"`
	Resolved     bool    `json:"resolved" doc:"Whether the account had been created by the end of the month"`
	Quantity     string  `json:"quantity" doc:"The account's own usage, an exact decimal"`
	Events       int64   `json:"events"`
	QuantityTree string  `json:"quantity_tree" doc:"With all accounts below it in the tree at the month's end"`
	EventsTree   int64   `json:"events_tree"`
	FirstAt      Instant `json:"first_at"`
	LastAt       Instant `json:"last_at"`
}

// Month is the monthly aggregates of a tenant at a watermark.
type Month struct {
	ID        string `json:"-"`
	Month     string
	State     string
	Version   int // 0: computed, not a stored version
	AsOf      Instant
	Positions map[string]uint64 // of the cut that was answered
	Watermark Watermark
	Rows      []MonthRow // by account, plan, meter, unit, region, platform, trial
}

// MonthQuery asks for a month.
type MonthQuery struct {
	Tenant  string
	Month   usage.Month
	AsOf    int64  // Unix ms; directory.Latest for as known now
	Version int    // of a closed month; 0: none asked for
	Cut     *Cut   // instead of AsOf and Version
	Resume  string // Month.ID of the answer whose next page this is: the same rows, while they are kept
}

// MonthUsage computes the monthly aggregates.
func (r *Reports) MonthUsage(ctx context.Context, q MonthQuery) (*Month, error) {
	if m := r.pages.get(q.Resume); m != nil {
		return m, nil
	}
	if m, err := r.closedMonth(ctx, q); m != nil || err != nil {
		return m, err
	}
	w, err := r.Watermark(ctx)
	if err != nil {
		return nil, err
	}
	cut, err := r.cutOf(ctx, q, w)
	if err != nil {
		return nil, err
	}
	id := monthID(q, cut)
	if m := r.pages.get(id); m != nil && !cut.Now {
		return m, nil // nothing that is in a settled cut can change
	}
	m := &Month{ID: id, Month: q.Month.String(), AsOf: Instant(cut.AsOf), Positions: cut.positions(), Watermark: w}
	if m.State, err = r.stateOf(ctx, q.Tenant, q.Month); err != nil {
		return nil, err
	}
	if m.Rows, err = r.MonthRows(ctx, q.Tenant, q.Month, cut); err != nil {
		return nil, err
	}
	r.pages.put(id, m)
	return m, nil
}

// cutOf is what a question about a month is asked of.
func (r *Reports) cutOf(ctx context.Context, q MonthQuery, w Watermark) (Cut, error) {
	switch {
	case q.Cut != nil:
		return *q.Cut, nil
	case q.Version != 0:
		return r.versionCut(ctx, q.Tenant, q.Month, q.Version)
	}
	return w.cut(q.AsOf)
}

// monthState is what a month that was never closed is at the instant now.
func monthState(m usage.Month, now time.Time) string {
	if usage.AtTime(now).Before(m.End()) {
		return StateOpen
	}
	return StateProvisional
}

// MonthRows are the monthly aggregates of a tenant at a cut, in the order of CompareMonthRows: what a close
// stores. They are computed anew, and nothing of them is kept.
func (r *Reports) MonthRows(ctx context.Context, tenant string, month usage.Month, cut Cut) ([]MonthRow, error) {
	state, err := r.directoryAt(ctx, tenant, cut.held())
	if err != nil {
		return nil, err
	}
	return r.monthRows(ctx, tenant, month, cut, state)
}

// monthRows sums own usage, then lets it rise through the tree.
func (r *Reports) monthRows(ctx context.Context, tenant string, month usage.Month, cut Cut, state *directory.State) ([]MonthRow, error) {
	ask := question{
		tenant: tenant, from: month.Start().Millis(), to: month.End().Millis(), cut: cut, state: state,
		by: grouping{account: true, plan: true, region: true, platform: true, trial: true},
	}
	var other, unique []string
	for _, m := range state.Meters() {
		switch {
		case m.Aggregation == "unique":
			unique = append(unique, m.Name)
		case !summable(m.Aggregation) && m.Aggregation != "time_weighted":
			other = append(other, m.Name)
		}
	}
	ask.notMeters = append(slices.Clone(other), unique...)
	own, err := r.sums(ctx, ask)
	if err != nil {
		return nil, err
	}
	if err := r.mendInstants(ctx, ask, own.cells); err != nil {
		return nil, err
	}
	for _, meters := range [][]string{other, unique} {
		if len(meters) == 0 {
			continue
		}
		ask.meters, ask.notMeters, ask.unique = meters, nil, meters[0] == firstOf(unique)
		c, err := r.live(ctx, ask)
		if err != nil {
			return nil, err
		}
		for k, m := range c.cells {
			own.cells[k] = m
		}
	}
	return shapeMonth(own.cells, state, ask.to), nil
}

func firstOf(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// mendInstants reads first and last instant again where something was voided: a negation cannot be
// subtracted from a minimum.
func (r *Reports) mendInstants(ctx context.Context, ask question, cells map[key]*measure) error {
	var meters, accounts []string
	for k, m := range cells {
		if m.voids > 0 && m.live > 0 {
			meters, accounts = append(meters, k.meter), append(accounts, k.account)
		}
	}
	if len(meters) == 0 {
		return nil
	}
	slices.Sort(meters)
	slices.Sort(accounts)
	ask.meters, ask.accounts = slices.Compact(meters), slices.Compact(accounts)
	c, err := r.live(ctx, ask)
	if err != nil {
		return err
	}
	if err := r.returns(ctx, c); err != nil {
		return err
	}
	for k, m := range c.cells {
		if known := cells[k]; known != nil && known.voids > 0 {
			known.first, known.last = m.first, m.last
		}
	}
	return nil
}
