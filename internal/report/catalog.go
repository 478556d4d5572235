package report

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Definition is a report people ask for by name: its parameters and how it is made.
type Definition struct {
	Name, Title, Doc string
	Parameters       []Parameter
	// Columns of every row, in order; nil where they depend on the parameters.
	Columns []sheet.Column
	// Run makes the report. A parameter that is missing or not allowed is an *Error that names it.
	Run func(ctx context.Context, r *Reports, ask Ask) (*Answer, error)
}

// Parameter of a report. as_of and version belong to every report and are not listed.
type Parameter struct {
	Name, Doc, Example string
	Required           bool
	Values             []string // the allowed ones; nil: any
}

// Ask is a question for a report, its common parts settled.
type Ask struct {
	Tenant  string
	Cut     Cut
	Version int  // the closed version whose cut it is, where the question is about one; 0: none
	Export  bool // for a file rather than a screen: where the two differ (sta-usage)
	Now     time.Time
	// Skip and Limit (0: none) say that only some of the rows will be looked at. A report may use them to
	// compute less, and then says so in Answer.Seeks; others leave them alone.
	Skip, Limit int
	// Pinned says that an earlier page, or a job, settled the cut: the same one is asked for again.
	Pinned bool
	values map[string]string
}

// Text is a parameter's value, "" where it was not given.
func (a Ask) Text(name string) string { return a.values[name] }

// List is a comma-separated parameter; nil where it was not given.
func (a Ask) List(name string) []string {
	var list []string
	for part := range strings.SplitSeq(a.values[name], ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// Month reads a parameter as YYYY-MM.
func (a Ask) Month(name string) (usage.Month, error) {
	m, err := usage.ParseMonth(a.values[name])
	if err != nil {
		return m, wrong(name, "want a month as YYYY-MM")
	}
	return m, nil
}

// Date reads a parameter as YYYY-MM-DD: the Unix ms of its first instant, UTC.
func (a Ask) Date(name string) (int64, error) {
	t, err := time.Parse(time.DateOnly, a.values[name])
	if err != nil {
		return 0, wrong(name, "want a date as YYYY-MM-DD")
	}
	return t.UnixMilli(), nil
}

// Instant reads a parameter as RFC 3339; fallback stands where it was not given.
func (a Ask) Instant(name string, fallback int64) (int64, error) {
	if a.values[name] == "" {
		return fallback, nil
	}
	at, err := usage.ParseInstant(a.values[name])
	if err != nil || !at.Storable() {
		return 0, wrong(name, "want an RFC 3339 time with offset, such as 2026-03-01T00:00:00Z")
	}
	return at.Millis(), nil
}

// wrong is a parameter with a value that is not allowed.
func wrong(parameter, detail string) *Error {
	return &Error{Code: CodeParameter, Parameter: parameter, Detail: detail}
}

// Answer is what a report says.
type Answer struct {
	sheet.Table
	FileName  string // suggested, without extension
	Delimiter byte   // of CSV, where the report has a parameter for it; 0: the caller's choice
	Document  any    // the JSON answer where it is no table (sta-monthly-summary); Table has the same as rows
	// Seeks says that Rows begin with row Ask.Skip and that there are at most Ask.Limit of them. Such rows are
	// exactly those of the cut, whatever Cut.Now allows: nothing is kept for the pages that follow.
	Seeks bool
	// Extra are fields of JSON rows that are no columns (tree_complete of sta-usage), by row; nil: none.
	Extra func(row sheet.Row) map[string]any
}

// Query asks for a report.
type Query struct {
	Tenant, Report string
	Values         map[string]string // parameters, but for as_of and version
	AsOf           int64             // Unix ms; directory.Latest: the watermark
	Version        int               // of the month named by parameter month; 0: none asked for
	Export         bool
	Cut            *Cut // pinned, by an earlier page of the same answer: instead of AsOf and Version
	Skip, Limit    int  // as in Ask
}

// Result is an answer and what it is an answer to.
type Result struct {
	*Answer
	Report    string
	Values    map[string]string
	AsOf      Instant
	Version   int
	State     string // of the month, where the question is about one
	Positions map[string]uint64
	Cut       Cut
}

// Definitions are all reports, in the order in which they are listed.
func Definitions() []Definition {
	return slices.Concat(staReports(), tenantReports(), assetReports(), elasticReports(), subscriptionReports(), monthlyReports())
}

// Define is the definition of a report; false if there is none of that name.
func Define(name string) (Definition, bool) {
	all := Definitions()
	i := slices.IndexFunc(all, func(d Definition) bool { return d.Name == name })
	if i < 0 {
		return Definition{}, false
	}
	return all[i], true
}

// Run makes a report at a cut: the one of as_of, of a closed version, or the watermark.
func (r *Reports) Run(ctx context.Context, q Query) (*Result, error) {
	d, ok := Define(q.Report)
	if !ok {
		return nil, &Error{Code: CodeNotFound, Detail: "no report " + q.Report}
	}
	if err := d.check(q.Values); err != nil {
		return nil, err
	}
	if err := guarded(ctx, q.guarded()); err != nil {
		return nil, err
	}
	s, err := r.settle(ctx, q)
	if err != nil {
		return nil, err
	}
	result := &Result{Report: d.Name, Values: q.Values, AsOf: Instant(s.Cut.AsOf), Version: s.Version, State: s.State, Positions: s.Cut.positions(), Cut: s.Cut}
	ask := Ask{
		Tenant: q.Tenant, Cut: s.Cut, Version: s.Version, Export: q.Export, Now: r.now(), Skip: q.Skip, Limit: q.Limit, Pinned: q.Cut != nil, values: q.Values,
	}
	if result.Answer, err = d.Run(ctx, r, ask); err != nil {
		return nil, err
	}
	return result, nil
}

// check finds unknown parameters, missing ones, and values that are not allowed.
func (d Definition) check(values map[string]string) error {
	known := make([]string, len(d.Parameters))
	for i, p := range d.Parameters {
		known[i] = p.Name
		value := values[p.Name]
		switch {
		case value == "" && p.Required:
			return wrong(p.Name, "must be given: "+p.Doc)
		case value != "" && p.Values != nil && !slices.Contains(p.Values, value):
			return wrong(p.Name, "want one of "+strings.Join(p.Values, ", "))
		}
	}
	for name := range values {
		if !slices.Contains(known, name) {
			return wrong(name, fmt.Sprintf("no such parameter of %s; known: %s", d.Name, strings.Join(known, ", ")))
		}
	}
	return nil
}

// Cut is a state of the log (ADR 0013): what was recorded at or before AsOf and stands at or below
// the position of its shard.
type Cut struct {
	AsOf   int64             // Unix ms
	Shards map[uint16]uint64 // a shard that is not here is left out whole; nil: no bound
	// Now says that the cut is the watermark of this moment, so that rollups may answer: they hold that and
	// perhaps a little more.
	Now bool
	// Base, if set, is an earlier cut whose rows are in this one as well, whatever AsOf says: what a closed
	// version had, with what came after it up to AsOf.
	Base *Cut

	tables uint64 // of the watermark, where Now says that it is one; no caller can say so
}

// params are the parameters of inCut.
func (c Cut) params(into map[string]any) map[string]any {
	into["as_of"] = min(c.AsOf, Forever)
	into["cut_shards"], into["cut_seqs"] = warehouse.Positions(c.Shards)
	into["cut_rest"] = uint64(0)
	if c.Shards == nil {
		into["cut_rest"] = uint64(1<<64 - 1)
	}
	base := Cut{AsOf: c.AsOf}
	if c.Base != nil {
		base = *c.Base
	}
	into["base_as_of"] = min(max(c.AsOf, base.AsOf), Forever)
	into["base_shards"], into["base_seqs"] = warehouse.Positions(base.Shards)
	return into
}

// inCut is the condition of rows that belong to a cut: they have recorded_at, shard and seq. A negation
// carries the later instant and position of the two, so it is in the cut exactly when the void was.
const inCut = `recorded_at <= fromUnixTimestamp64Milli(if(seq <= transform(shard, {base_shards:Array(UInt16)}, {base_seqs:Array(UInt64)}, toUInt64(0)),
        {base_as_of:Int64}, {as_of:Int64}), 'UTC')
    AND seq <= transform(shard, {cut_shards:Array(UInt16)}, {cut_seqs:Array(UInt64)}, {cut_rest:UInt64})`

func (c Cut) positions() map[string]uint64 {
	p := map[string]uint64{}
	for shard, seq := range c.Shards {
		p[strconv.Itoa(int(shard))] = seq
	}
	return p
}

// cut settles what a query is about.
func (r *Reports) cut(ctx context.Context, q Query) (Cut, error) {
	if q.Cut != nil {
		return *q.Cut, nil
	}
	w, err := r.Watermark(ctx)
	if err != nil {
		return Cut{}, err
	}
	if q.Version != 0 {
		m, err := usage.ParseMonth(q.Values["month"])
		if err != nil {
			return Cut{}, wrong("version", "a version is of a month: give month as well, as YYYY-MM")
		}
		return r.versionCut(ctx, q.Tenant, m, q.Version)
	}
	return w.cut(q.AsOf)
}

// cutOr is a cut that an earlier answer pinned; without one that of an instant.
func (w Watermark) cutOr(pinned *Cut, asOf int64) (Cut, error) {
	if pinned != nil {
		return *pinned, nil
	}
	return w.cut(asOf)
}

// cut is the state of the log as of an instant (directory.Latest: the watermark itself).
func (w Watermark) cut(asOf int64) (Cut, error) {
	if err := w.settle(asOf); err != nil {
		return Cut{}, err
	}
	c := Cut{AsOf: int64(w.At), Shards: map[uint16]uint64{}, Now: true, tables: w.tables}
	if asOf != directory.Latest {
		c.AsOf, c.Now, c.tables = asOf, false, 0
	}
	for shard, seq := range w.Positions {
		n, err := strconv.ParseUint(shard, 10, 16)
		if err != nil {
			return Cut{}, fmt.Errorf("shard %q: %w", shard, err)
		}
		c.Shards[uint16(n)] = seq
	}
	return c, nil
}
