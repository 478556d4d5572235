package report

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Month states.
const (
	StateOpen        = "open"
	StateProvisional = "provisional"
	StateClosed      = "closed"
)

// MonthRow is one row of the per-plan, per-tenant monthly aggregates. A row whose own
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
	AsOf    int64 // Unix ms; directory.Latest for as known now
	Version int   // of a closed month; 0: none asked for
	Cut     *Cut  // instead of AsOf and Version
	MonthFilter
	Resume string // Month.ID of the answer whose next page this is: the same rows, while they are kept
}

// MonthFilter leaves rows out, and what only they need is not computed.
type MonthFilter struct {
	Accounts []string // none: all
	Plan     string   // "": any, as is Meter
	Meter    string
}

func (f MonthFilter) all() bool { return len(f.Accounts) == 0 && f.Plan == "" && f.Meter == "" }

// Rows are those of rows that the filter lets through.
func (f MonthFilter) Rows(rows []MonthRow) []MonthRow {
	if f.all() {
		return rows
	}
	kept := []MonthRow{}
	for i := range rows {
		if r := &rows[i]; (len(f.Accounts) == 0 || slices.Contains(f.Accounts, r.Account)) && (f.Plan == "" || r.Plan == f.Plan) && (f.Meter == "" || r.Meter == f.Meter) {
			kept = append(kept, *r)
		}
	}
	return kept
}

// MonthUsage computes the monthly aggregates.
func (r *Reports) MonthUsage(ctx context.Context, q MonthQuery) (*Month, error) {
	if err := guarded(ctx, Question{Tenant: q.Tenant, Report: ReportUsage, Accounts: q.Accounts}); err != nil {
		return nil, err
	}
	if m := r.pages.get(q.Resume); m != nil {
		return m, nil
	}
	versions, err := r.Versions(ctx, q.Tenant, q.Month)
	if err != nil {
		return nil, err
	}
	if m, err := r.closedMonth(ctx, q, versions); m != nil || err != nil {
		return m, err
	}
	w, err := r.Watermark(ctx)
	if err != nil {
		return nil, err
	}
	cut, err := w.cutOr(q.Cut, q.AsOf)
	if err != nil {
		return nil, err
	}
	mark, err := r.monthMark(ctx, q.Tenant, cut)
	if err != nil {
		return nil, err
	}
	state, name, err := r.directoryNamed(ctx, q.Tenant, cut.held())
	if err != nil {
		return nil, err
	}
	// What a gauge holds goes on with the clock, until the month is over.
	if moving(state) && cut.AsOf < q.Month.End().Millis() {
		mark += fmt.Sprint(" until ", cut.AsOf)
	}
	m := &Month{Month: q.Month.String(), State: monthState(q.Month, r.now()), AsOf: Instant(cut.AsOf), Positions: cut.positions(), Watermark: w}
	if len(versions) > 0 {
		m.State = StateClosed
	}
	for _, f := range []MonthFilter{{}, q.MonthFilter} {
		m.ID = monthID(q.Tenant, q.Month, f, mark)
		if known := r.pages.get(m.ID); known != nil {
			m.ID, m.Rows = monthID(q.Tenant, q.Month, q.MonthFilter, mark), q.MonthFilter.Rows(known.Rows)
			return m, nil // nothing of the tenant's has been counted since
		}
	}
	if m.Rows, err = r.monthRows(ctx, q.Tenant, q.Month, cut, named{state, name}, q.MonthFilter, wholeGrouping()); err != nil {
		return nil, err
	}
	r.pages.put(m.ID, m, len(m.Rows))
	return m, nil
}

// moving reports whether what is known of a month can change without an event.
func moving(state *directory.State) bool {
	return slices.ContainsFunc(state.Meters(), func(m directory.Meter) bool { return m.Aggregation == timeWeighted })
}

// Every row of a tenant's comes with one of its ledger: as long as there is none of a higher position, nothing
// that counts for it has changed.
const tenantProgress = `
SELECT shard, max(seq) FROM {{db}}.ledger WHERE tenant = {tenant:String} GROUP BY shard ORDER BY shard`

// monthMark names what is known of a tenant at a cut: the same mark, the same rows.
func (r *Reports) monthMark(ctx context.Context, tenant string, cut Cut) (string, error) {
	if !cut.Now {
		return fmt.Sprint("as of ", cut.AsOf, cut.positions()), nil
	}
	mark := "now"
	err := r.query(ctx, "read the tenant's progress", tenantProgress, map[string]any{"tenant": tenant}, func(row warehouse.Rows) error {
		var shard uint16
		var seq uint64
		err := row.Scan(&shard, &seq)
		mark += fmt.Sprintf(" %d/%d", shard, seq)
		return err
	})
	return mark, err
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
	return r.monthRows(ctx, tenant, month, cut, named{state, ""}, MonthFilter{}, wholeGrouping())
}

// wholeGrouping is what rows of a month are told apart by.
func wholeGrouping() grouping {
	return grouping{account: true, plan: true, region: true, platform: true, trial: true}
}

// belowMax bounds the accounts a question names one by one; of more, all are read.
const belowMax = 1000

// monthRows sums own usage, then lets it rise through the tree.
func (r *Reports) monthRows(ctx context.Context, tenant string, month usage.Month, cut Cut, state named, f MonthFilter, by grouping) ([]MonthRow, error) {
	ask := question{
		tenant: tenant, from: month.Start().Millis(), to: month.End().Millis(), cut: cut, state: state.State, directory: state.name, by: by,
	}
	tree := state.Tree(ask.to)
	for _, account := range f.Accounts {
		if ask.accounts = append(append(ask.accounts, account), tree.Below(account)...); len(ask.accounts) > belowMax {
			ask.accounts = nil
			break
		}
	}
	own, err := r.monthCells(ctx, ask, f.Meter)
	if err != nil {
		return nil, err
	}
	rows := shapeMonth(own, state.State, tree, ask.to, func(account string) bool {
		return len(f.Accounts) == 0 || slices.Contains(f.Accounts, account)
	})
	return f.Rows(rows), nil
}

// monthCells sums all meters, or one, each by its aggregation.
func (r *Reports) monthCells(ctx context.Context, ask question, only string) (*cells, error) {
	roads := map[string][]string{} // meters by how they are read; those nobody defined are sums
	var special []string
	for _, m := range ask.state.Meters() {
		road := m.Aggregation
		switch road {
		case "unique", timeWeighted:
		default:
			if road = "live"; summable(m.Aggregation) {
				continue
			}
		}
		special = append(special, m.Name)
		if only == "" || only == m.Name {
			roads[road] = append(roads[road], m.Name)
		}
	}
	own := newCells(ask)
	if only == "" || !slices.Contains(special, only) {
		sums := ask
		if sums.notMeters = special; only != "" {
			sums.meters, sums.notMeters = []string{only}, nil
		}
		var err error
		if own, err = r.sums(ctx, sums); err != nil {
			return nil, err
		}
		if err := r.mendInstants(ctx, sums, own); err != nil {
			return nil, err
		}
	}
	for road, meters := range roads {
		ask.meters, ask.unique, ask.latest = meters, road == "unique", road == "live"
		var c *cells
		var err error
		if road == timeWeighted {
			c, err = r.held(ctx, ask, ask.cut.AsOf)
		} else {
			c, err = r.live(ctx, ask)
		}
		if err != nil {
			return nil, err
		}
		own.take(c)
	}
	return own, nil
}

// mendInstants reads first and last instant again where something was voided: a negation cannot be
// subtracted from a minimum.
func (r *Reports) mendInstants(ctx context.Context, ask question, own *cells) error {
	var meters, accounts []string
	for at, m := range own.cells {
		if m.voids > 0 && m.live > 0 {
			meters, accounts = append(meters, own.kinds[at.kind].meter), append(accounts, at.account)
		}
	}
	if len(meters) == 0 {
		return nil
	}
	slices.Sort(meters)
	slices.Sort(accounts)
	if ask.meters = slices.Compact(meters); ask.by.account {
		ask.accounts = slices.Compact(accounts)
	}
	c, err := r.live(ctx, ask)
	if err != nil {
		return err
	}
	if err := r.returns(ctx, c); err != nil {
		return err
	}
	for at, m := range c.cells {
		if known := own.cells[own.cell(c.key(at))]; known != nil && known.voids > 0 {
			known.first, known.last = m.first, m.last
		}
	}
	return nil
}
