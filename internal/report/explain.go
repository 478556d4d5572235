package report

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Names of what can be explained beside the reports: the monthly aggregates (/months/{month}/usage), and what later
// versions changed of them (/months/{month}/adjustments).
const (
	ReportUsage       = "month-usage"
	ReportAdjustments = "month-adjustments"
)

// ExplainQuery asks where a number comes from.
type ExplainQuery struct {
	Tenant string
	Report string            // "": ReportUsage
	Values map[string]string // what tells the number apart; a name that is not here is any, "" is blank
	AsOf   int64             // Unix ms; directory.Latest: as the report answers now
	Since  int64             // Unix ms; what changed since what was known then is asked for. 0: it is not
	// Version is of the month. From and To are versions whose difference is asked for, instead.
	Version, From, To int
	Skip, Limit       int  // of the events listed
	Cut               *Cut // pinned, by an earlier page: instead of AsOf; Version says what it is of
}

// Explanation is a number, and the events that it is made of.
type Explanation struct {
	Report    string            `json:"report"`
	Key       map[string]string `json:"key" doc:"What tells the number apart"`
	Measure   string            `json:"measure"`
	Number    string            `json:"number" doc:"What the report says"`
	Evidence  string            `json:"evidence" doc:"The same number computed again from the events below, all of them"`
	Explained bool              `json:"explained" doc:"The two are equal to the last digit"`
	How       string            `json:"how" doc:"How the events make the number"`
	Version   int               `json:"version" doc:"Of the closed month, 0: none"`
	AsOf      Instant           `json:"as_of"`
	Since     *Instant          `json:"from_as_of,omitempty" doc:"Of a difference between two instants: the earlier one"`
	Positions map[string]uint64 `json:"positions" doc:"Per shard of the log the sequence up to which events are in the number"`
	Versions  []VersionNumber   `json:"versions" doc:"What the closed versions of the month say of it"`
	Rollup    []RollupCell      `json:"rollup" doc:"Of metered usage: the hourly cells, the first of them"`
	Cells     int64             `json:"rollup_cells" doc:"How many there are"`
	Tiers     []TierCost        `json:"tiers,omitempty" doc:"Of a cost: what each tier of the price takes"`
	Total     int64             `json:"events_total" doc:"How many rows of events there are"`
	Events    []Evidence        `json:"events"`
	Cut       Cut               `json:"-"`
	Late      []LateEvent       `json:"late,omitempty" doc:"Of a difference that usage alone does not explain: what else became known between the versions"`
}

// VersionNumber is a number as a closed version has it.
type VersionNumber struct {
	Version int     `json:"version"`
	AsOf    Instant `json:"as_of"`
	SHA256  string  `json:"sha256"`
	Number  string  `json:"number" doc:"Empty where the version has no such row"`
}

// RollupCell is an hour of a meter as the rollup has it.
type RollupCell struct {
	Hour     Instant `json:"hour"`
	Account  string  `json:"account"`
	Meter    string  `json:"meter"`
	Plan     string  `json:"plan" doc:"Only where the events themselves name it"`
	Region   string  `json:"region"`
	Platform string  `json:"platform"`
	Trial    bool    `json:"trial"`
	Quantity string  `json:"quantity"`
	Events   int64   `json:"events"`
}

// Evidence is a row of an event behind a number.
type Evidence struct {
	Source     string  `json:"source"`
	ID         string  `json:"id"`
	Type       string  `json:"type"`
	Account    string  `json:"account"`
	At         Instant `json:"at" doc:"When it counts: of usage with start and end, the start of its piece"`
	RecordedAt Instant `json:"recorded_at"`
	Quantity   string  `json:"quantity" doc:"Of the event or its piece, as it was sent"`
	Sign       int8    `json:"sign" doc:"-1: the negation of a voided event"`
	Counts     string  `json:"counts" doc:"What it adds to the number"`
	Status     string  `json:"status" enum:"stored,voided"`
	About      string  `json:"about,omitempty" doc:"The user, line item or token it is about"`
	Position
}

// explainer finds what is behind the numbers of a report.
type explainer func(*explanation, context.Context) error

// explanation is one in the making.
type explanation struct {
	*Reports
	q      ExplainQuery
	out    *Explanation
	cut    Cut
	older  *Cut // of a difference: rows that are in it are left out
	state  *directory.State
	month  usage.Month
	monthy bool // the question names a month

	versions []Version  // closed ones of the month, oldest first
	all      []Evidence // that list was given
}

// explainers by report.
func explainers() map[string]explainer {
	all := map[string]explainer{
		ReportUsage: (*explanation).usage, "monthly-usage": (*explanation).usage,
		"sta-usage": (*explanation).users, "sta-monthly-summary": (*explanation).users,
		"elastic-usage": (*explanation).elastic, ReportAdjustments: (*explanation).adjustment, "asset-adjustments": (*explanation).adjustment,
	}
	for name := range rowReports() {
		all[name] = (*explanation).rows
	}
	return all
}

// ExplainedReports are the names that Explain takes, sorted.
func ExplainedReports() []string {
	return slices.Sorted(maps.Keys(explainers()))
}

// Explain finds the events behind a number of a report and computes it again from them.
func (r *Reports) Explain(ctx context.Context, q ExplainQuery) (*Explanation, error) {
	if q.Report == "" {
		q.Report = ReportUsage
	}
	explain := explainers()[q.Report]
	if explain == nil {
		return nil, wrong("report", "want one of "+strings.Join(ExplainedReports(), ", "))
	}
	if q.Since != 0 {
		return r.explainSince(ctx, q)
	}
	return r.explain(ctx, q, explain)
}

func (r *Reports) explain(ctx context.Context, q ExplainQuery, explain explainer) (*Explanation, error) {
	if err := guarded(ctx, q.guarded()); err != nil {
		return nil, err
	}
	e := &explanation{Reports: r, q: q, out: &Explanation{
		Report: q.Report, Key: q.Values, Measure: q.Values["measure"], Versions: []VersionNumber{}, Rollup: []RollupCell{}, Events: []Evidence{},
	}}
	if err := e.settle(ctx); err != nil {
		return nil, err
	}
	var err error
	if e.state, err = r.directoryAt(ctx, q.Tenant, e.cut); err != nil {
		return nil, err
	}
	e.out.Cut = e.cut
	e.out.AsOf, e.out.Positions = Instant(e.cut.AsOf), e.cut.positions()
	if err := explain(e, ctx); err != nil {
		return nil, err
	}
	e.out.Explained = e.out.Number == e.out.Evidence
	return e.out, nil
}

// settle finds the state of the log that the number is of.
func (e *explanation) settle(ctx context.Context) error {
	q := e.q
	if text, ok := q.Values["month"]; ok {
		m, err := usage.ParseMonth(text)
		if err != nil {
			return wrong("month", "want a month as YYYY-MM")
		}
		e.month, e.monthy = m, true
	}
	if (q.Version != 0 || q.From != 0 || q.To != 0) && !e.monthy {
		return wrong("month", "a version is of a month: give month, as YYYY-MM")
	}
	if e.monthy {
		var err error
		if e.versions, err = e.Versions(ctx, q.Tenant, e.month); err != nil {
			return err
		}
	}
	if e.adjusts() { // the row says which versions; where it stands is asked for as of now
		return e.settleAt(ctx)
	}
	last, closed := newest(e.versions)
	version := q.Version
	switch {
	case q.From != 0 || q.To != 0:
		from, err := pick(e.versions, e.month, q.From)
		if err != nil {
			return err
		}
		cut := from.Cut()
		e.older, version = &cut, q.To
		if version == 0 {
			version = last.Version
		}
		if version < q.From {
			return wrong("to_version", fmt.Sprintf("want a version after %d", q.From))
		}
	case version == 0 && q.AsOf == directory.Latest && q.Cut == nil && closed && e.stored():
		version = last.Version
	}
	e.out.Version = version
	if q.Cut == nil && version != 0 {
		v, err := pick(e.versions, e.month, version)
		e.cut = v.cut
		return err
	}
	return e.settleAt(ctx)
}

// settleAt takes the state that was pinned by an earlier page, else that of as_of.
func (e *explanation) settleAt(ctx context.Context) error {
	if e.q.Cut != nil {
		e.cut = *e.q.Cut
		return nil
	}
	var err error
	e.cut, err = e.CutAt(ctx, e.q.AsOf)
	return err
}

// stored reports whether the report answers a closed month with what was stored of it.
func (e *explanation) stored() bool {
	return e.q.Report == ReportUsage || e.q.Report == "monthly-usage"
}

// list shows the page of the evidence that was asked for, of all of it.
func (e *explanation) list(all []Evidence) {
	e.out.Total, e.all = int64(len(all)), all
	all = all[min(e.q.Skip, len(all)):]
	e.out.Events = all[:min(e.limit(), len(all))]
}

// need is a value of the question, a refusal where it must be there and is not.
func (e *explanation) need(name, doc string) (string, error) {
	value, ok := e.q.Values[name]
	if !ok {
		return "", wrong(name, "must be given: "+doc)
	}
	return value, nil
}

// limit is how many events are listed.
func (e *explanation) limit() int {
	if e.q.Limit == 0 {
		return 100
	}
	return e.q.Limit
}

// oldParams are the parameters of sinceOlder.
func (e *explanation) oldParams(into map[string]any) map[string]any {
	older := Cut{}
	if e.older != nil {
		older = *e.older
	}
	into["since_older"], into["old_as_of"] = e.older != nil, min(older.AsOf, Forever)
	into["old_shards"], into["old_seqs"] = warehouse.Positions(older.Shards)
	base := Cut{AsOf: older.AsOf}
	if older.Base != nil {
		base = *older.Base
	}
	into["old_base_as_of"] = min(max(older.AsOf, base.AsOf), Forever)
	into["old_base_shards"], into["old_base_seqs"] = warehouse.Positions(base.Shards)
	return e.cut.params(into)
}

// sinceOlder leaves out rows of the older cut, where a difference is asked for.
const sinceOlder = `(NOT {since_older:Bool} OR NOT (recorded_at <= fromUnixTimestamp64Milli(if(seq <= transform(shard, {old_base_shards:Array(UInt16)},
            {old_base_seqs:Array(UInt64)}, toUInt64(0)), {old_base_as_of:Int64}, {old_as_of:Int64}), 'UTC')
        AND seq <= transform(shard, {old_shards:Array(UInt16)}, {old_seqs:Array(UInt64)}, toUInt64(0))))`

// minus is a - b of two decimals, in their shortest form.
func minus(a, b string) (string, error) {
	x, err := ParseNumber(a)
	if err != nil {
		return "", err
	}
	y, err := ParseNumber(b)
	if err != nil {
		return "", err
	}
	return x.Minus(y).Text(0), nil
}
