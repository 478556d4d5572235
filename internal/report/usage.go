package report

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Windows of MeterUsage.
var windows = []string{"hour", "day", "month", "total"}

// Windows are the allowed values of UsageQuery.Window.
func Windows() []string { return slices.Clone(windows) }

// dimensionPrefix marks a group_by on a dimension of the event.
const dimensionPrefix = "dimensions."

// Groupings are the allowed values of UsageQuery.GroupBy, beside dimensions.<key>.
func Groupings() []string {
	return []string{"account", "plan", "region", "platform", "trial", "consumer_id", "item"}
}

// UsageQuery asks for one meter's usage over [From, To).
type UsageQuery struct {
	Tenant   string
	Meter    string
	Accounts []string // none: all
	From, To int64    // Unix ms
	Window   string
	GroupBy  []string
	AsOf     int64 // Unix ms; directory.Latest for as known now
	Cut      *Cut  // instead of AsOf
	RowsMax  int   // more are not even fetched: warehouse.BoundRows; 0 is no limit
}

// UsageRow is the usage of one window and group. Windows without usage have no row, but for the total
// without grouping.
type UsageRow struct {
	Start, End Instant
	Group      []string // values, in the order of GroupBy
	Quantity   string
	Events     int64
}

// Usage is the answer to UsageQuery.
type Usage struct {
	Meter     directory.Meter
	AsOf      Instant
	Closed    bool // every month touched is closed
	Watermark Watermark
	Rows      []UsageRow // by start, then group
}

// CheckUsage finds the faults of a query without asking the warehouse.
func CheckUsage(q UsageQuery) error {
	if q.From >= q.To {
		return &Error{Code: CodeParameter, Parameter: "from", Detail: "must be before to"}
	}
	if !slices.Contains(windows, q.Window) {
		return &Error{Code: CodeParameter, Parameter: "window", Detail: "want one of " + strings.Join(windows, ", ")}
	}
	for i, g := range q.GroupBy {
		dimension, isDimension := strings.CutPrefix(g, dimensionPrefix)
		if slices.Contains(q.GroupBy[:i], g) || !slices.Contains(Groupings(), g) && (!isDimension || dimension == "") {
			return &Error{Code: CodeParameter, Parameter: "group_by", Detail: "want each at most once of " +
				strings.Join(Groupings(), ", ") + ", dimensions.<key>; not " + g}
		}
	}
	return nil
}

// usageQuestion is what q asks of some meters, at the watermark or at what q names.
func (r *Reports) usageQuestion(ctx context.Context, q UsageQuery, meters ...string) (question, Watermark, error) {
	if err := CheckUsage(q); err != nil {
		return question{}, Watermark{}, err
	}
	if err := guarded(ctx, Question{Tenant: q.Tenant, Report: ReportMeter, Accounts: q.Accounts}); err != nil {
		return question{}, Watermark{}, err
	}
	w, err := r.Watermark(ctx)
	if err != nil {
		return question{}, Watermark{}, err
	}
	cut, err := w.cutOr(q.Cut, q.AsOf)
	if err != nil {
		return question{}, Watermark{}, err
	}
	state, folded, err := r.directoryNamed(ctx, q.Tenant, cut.held())
	if err != nil {
		return question{}, Watermark{}, err
	}
	ask := question{
		tenant: q.Tenant, from: q.From, to: q.To, cut: cut, window: q.Window, meters: meters,
		by: groupingOf(q.GroupBy), state: state, directory: folded,
	}
	if len(q.Accounts) > 0 {
		ask.accounts = q.Accounts
	}
	// Plans are found by account, so that grouping by them reads more rows than it answers; those are
	// added up as they come, and take no memory.
	if ask.by.account || !ask.by.plan {
		ask.rowsMax = q.RowsMax
	}
	return ask, w, nil
}

// MeterUsage computes the usage of a meter.
func (r *Reports) MeterUsage(ctx context.Context, q UsageQuery) (*Usage, error) {
	ask, w, err := r.usageQuestion(ctx, q, q.Meter)
	if err != nil {
		return nil, err
	}
	meter := ask.state.Meter(q.Meter)
	ask.unique, ask.latest = meter.Aggregation == "unique", meter.Aggregation == "latest"
	var c *cells
	switch {
	case meter.Aggregation == timeWeighted:
		c, err = r.held(ctx, ask, ask.cut.AsOf)
	case summable(meter.Aggregation):
		c, err = r.sums(ctx, ask)
	default:
		c, err = r.live(ctx, ask)
	}
	if err != nil {
		return nil, err
	}
	u := &Usage{Meter: meter, AsOf: Instant(ask.cut.AsOf), Watermark: w, Rows: shapeUsage(c, q, meter)}
	return u, nil
}

// SumsUsage is MeterUsage of several meters in one question, by meter; q.Meter is not looked at. Meters that are
// neither sums nor counts are refused: each of those takes a question of its own.
func (r *Reports) SumsUsage(ctx context.Context, q UsageQuery, meters []string) (map[string]*Usage, error) {
	ask, w, err := r.usageQuestion(ctx, q, meters...)
	if err != nil {
		return nil, err
	}
	if len(meters) == 0 {
		return map[string]*Usage{}, nil
	}
	for _, name := range meters {
		if a := ask.state.Meter(name).Aggregation; !summable(a) {
			return nil, &Error{Code: CodeParameter, Parameter: "meter", Detail: "want meters that are sums or counts; " + name + " is " + a}
		}
	}
	c, err := r.sums(ctx, ask)
	if err != nil {
		return nil, err
	}
	all := make(map[string]*Usage, len(meters))
	for _, name := range meters {
		meter := ask.state.Meter(name)
		meter.Name = name
		all[name] = &Usage{Meter: meter, AsOf: Instant(ask.cut.AsOf), Watermark: w, Rows: shapeUsage(c, q, meter)}
	}
	return all, nil
}

func groupingOf(groupBy []string) grouping {
	var g grouping
	for _, name := range groupBy {
		switch name {
		case "account":
			g.account = true
		case "plan":
			g.plan = true
		case "region":
			g.region = true
		case "platform":
			g.platform = true
		case "trial":
			g.trial = true
		case "consumer_id":
			g.consumer = true
		case "item":
			g.item = true
		default:
			g.dimensions = append(g.dimensions, strings.TrimPrefix(name, dimensionPrefix))
		}
	}
	return g
}

// shapeUsage are the rows of a meter among the cells of its question.
func shapeUsage(c *cells, q UsageQuery, meter directory.Meter) []UsageRow {
	rows := make([]UsageRow, 0, len(c.cells))
	for at, m := range c.cells {
		if m.live == 0 {
			continue
		}
		k := c.key(at)
		if len(c.q.meters) > 1 && k.meter != meter.Name {
			continue
		}
		start, end := window(q, k.window)
		rows = append(rows, UsageRow{
			Start: start, End: end, Group: groupValues(k, q.GroupBy),
			Quantity: m.quantity(meter.Aggregation), Events: m.events,
		})
	}
	if len(rows) == 0 && q.Window == "total" && len(q.GroupBy) == 0 {
		rows = append(rows, UsageRow{
			Start: Instant(q.From), End: Instant(q.To), Group: []string{}, Quantity: (&measure{}).quantity(meter.Aggregation),
		})
	}
	slices.SortFunc(rows, func(a, b UsageRow) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), slices.Compare(a.Group, b.Group))
	})
	return rows
}

// window is the window that starts at the Unix second, cut to what was asked for.
func window(q UsageQuery, second int64) (start, end Instant) {
	from := time.Unix(second, 0).UTC()
	to := from
	switch q.Window {
	case "hour":
		to = from.Add(time.Hour)
	case "day":
		to = from.AddDate(0, 0, 1)
	case "month":
		to = usage.MonthOf(usage.AtTime(from)).End().Time()
	default:
		return Instant(q.From), Instant(q.To)
	}
	return Instant(max(from.UnixMilli(), q.From)), Instant(min(to.UnixMilli(), q.To))
}

// groupValues are the values of the key in the order asked for.
func groupValues(k key, groupBy []string) []string {
	values := make([]string, len(groupBy))
	dimensions := k.dimensions
	for i, name := range groupBy {
		switch name {
		case "account":
			values[i] = k.account
		case "plan":
			values[i] = k.plan
		case "region":
			values[i] = k.region
		case "platform":
			values[i] = k.platform
		case "trial":
			values[i] = "false"
			if k.trial {
				values[i] = "true"
			}
		case "consumer_id":
			values[i] = k.consumer
		case "item":
			values[i] = k.item
		default:
			length, rest, _ := strings.Cut(dimensions, ":") // as in rawKeys
			n, _ := strconv.Atoi(length)
			values[i], dimensions = rest[:n], rest[n:]
		}
	}
	return values
}
