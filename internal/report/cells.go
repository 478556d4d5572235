package report

import (
	"cmp"
	"context"
	"iter"
	"math/big"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// hourMillis is the grain of the rollup.
const hourMillis = 3_600_000

// Forever as an as_of leaves nothing out: the last instant a DateTime64 of the tables holds.
const Forever = 7_258_118_399_999 // 2199-12-31T23:59:59.999Z

// question is what is summed over which rows.
type question struct {
	tenant    string
	from, to  int64 // Unix ms, [from, to)
	cut       Cut   // what is known; rollups may answer where it is the watermark
	window    string
	meters    []string // nil: all
	notMeters []string
	accounts  []string // nil: all
	by        grouping
	state     *directory.State
	directory string // what state was folded from; "": its numbers are not kept
	unique    bool   // collect distinct consumers
	latest    bool   // order occurrences by what their producers say of one instant
	rowsMax   int    // of each statement; 0 is no limit
}

// grouping is the set of columns rows are told apart by, beside the window and the meter.
type grouping struct {
	account, plan, region, platform, trial, consumer, item bool
	dimensions                                             []string
}

// rollup reports whether the hourly rollup has all these columns.
func (g grouping) rollup() bool { return !g.consumer && !g.item && len(g.dimensions) == 0 }

// key tells rows apart; fields that are not grouped by are "".
type key struct {
	window     int64 // Unix seconds of its start; 0 for the total
	meter      string
	account    string
	plan       string
	region     string
	platform   string
	trial      bool
	consumer   string
	item       string
	dimensions string // as in rawKeys
}

// cells are the answer to a question before it is shaped. There are few kinds of key beside the account, and
// many accounts: kinds are numbered, so that cells are found by a number and one text.
type cells struct {
	q       question
	changed []string // accounts whose plan changes in the period, sorted
	changes [][]int64
	at      map[string][]int64
	kinds   []key // without account
	number  map[key]int
	cells   map[cell]*measure
}

type cell struct {
	kind    int
	account string
}

func newCells(q question) *cells {
	c := &cells{q: q, number: map[key]int{}, cells: map[cell]*measure{}}
	if q.by.plan {
		c.at = q.state.PlanChanges(q.from, q.to)
	}
	for account := range c.at {
		if q.accounts == nil || slices.Contains(q.accounts, account) {
			c.changed = append(c.changed, account)
		}
	}
	slices.Sort(c.changed)
	for _, account := range c.changed {
		c.changes = append(c.changes, c.at[account])
	}
	return c
}

// cell is where the cell of a key is.
func (c *cells) cell(k key) cell {
	account := k.account
	k.account = ""
	n, ok := c.number[k]
	if !ok {
		n = len(c.kinds)
		c.kinds = append(c.kinds, k)
		c.number[k] = n
	}
	return cell{n, account}
}

// put adds a measure to the cell of a key.
func (c *cells) put(k key, m *measure) {
	at := c.cell(k)
	if known := c.cells[at]; known != nil {
		known.merge(m)
		return
	}
	c.cells[at] = m
}

// key is the key of a cell.
func (c *cells) key(at cell) key {
	k := c.kinds[at.kind]
	k.account = at.account
	return k
}

// all are the cells with their keys.
func (c *cells) all() iter.Seq2[key, *measure] {
	return func(yield func(key, *measure) bool) {
		for at, m := range c.cells {
			if !yield(c.key(at), m) {
				return
			}
		}
	}
}

// take puts the cells of o, which answers for other meters.
func (c *cells) take(o *cells) {
	for k, m := range o.all() {
		c.put(k, m)
	}
}

// sums answers a question about sums and counts.
func (r *Reports) sums(ctx context.Context, q question) (*cells, error) {
	return r.kept(ctx, q, "sums", r.countSums)
}

func (r *Reports) countSums(ctx context.Context, q question) (*cells, error) {
	c := newCells(q)
	from, to := q.from, q.from // what the rollup answers: nothing, unless whole hours lie within
	if q.cut.Now && q.by.rollup() {
		first, last := (q.from+hourMillis-1)/hourMillis*hourMillis, q.to/hourMillis*hourMillis
		if first < last {
			from, to = first, last
			if err := r.rollup(ctx, c, from, to); err != nil {
				return nil, err
			}
		}
	}
	for _, rest := range [][2]int64{{q.from, from}, {to, q.to}} {
		for _, statement := range []string{rawSteady, rawChanging} {
			if rest[0] < rest[1] && (statement == rawSteady || len(c.changed) > 0) {
				if err := r.read(ctx, c, statement, rest[0], rest[1]); err != nil {
					return nil, err
				}
			}
		}
	}
	return c, r.returns(ctx, c)
}

// rollup reads whole hours, and whole months where the answer is not told apart by less.
func (r *Reports) rollup(ctx context.Context, c *cells, from, to int64) error {
	first, last := wholeMonths(from, to)
	if c.q.window == "hour" || c.q.window == "day" {
		first, last = to, to
	}
	for _, part := range []struct {
		statement string
		from, to  int64
	}{{hourlySteady, from, first}, {monthlySteady, first, last}, {hourlySteady, last, to}} {
		if part.from < part.to {
			if err := r.read(ctx, c, part.statement, part.from, part.to); err != nil {
				return err
			}
		}
	}
	if len(c.changed) == 0 {
		return nil
	}
	if err := r.read(ctx, c, hourlyChanging, from, to); err != nil {
		return err
	}
	// Only the hours with a change, of only those accounts: bounds that the sorting key can use.
	first, last = to, from
	for _, changes := range c.changes {
		first, last = min(first, changes[0]), max(last, changes[len(changes)-1])
	}
	first, last = max(from, first/hourMillis*hourMillis), min(to, last/hourMillis*hourMillis+hourMillis)
	if first >= last {
		return nil
	}
	return r.read(ctx, c, rawSplit, first, last)
}

// wholeMonths are the months that lie within two instants; both are to where there is none.
func wholeMonths(from, to int64) (first, last int64) {
	m := usage.MonthOf(usage.At(from * 1_000_000))
	if m.Start().Millis() < from {
		m = m.Next()
	}
	end := usage.MonthOf(usage.At(to * 1_000_000))
	if m.Compare(end) >= 0 {
		return to, to
	}
	return m.Start().Millis(), end.Start().Millis()
}

// returns adds returned credits; they are sums whatever the road of the rest.
func (r *Reports) returns(ctx context.Context, c *cells) error {
	if c.q.meters != nil && !slices.ContainsFunc(creditNames(), func(m string) bool { return slices.Contains(c.q.meters, m) }) {
		return nil
	}
	var some bool
	err := r.query(ctx, "look for returned credits", anyReturned, map[string]any{"tenant": c.q.tenant}, func(row warehouse.Rows) error {
		some = true
		var one uint8
		return row.Scan(&one)
	})
	if err != nil || !some {
		return err // most tenants return nothing, and planning the statement alone was a third of a month's price
	}
	return r.read(ctx, c, returned, c.q.from, c.q.to)
}

// live answers a question about anything else: from rows that are not voided.
func (r *Reports) live(ctx context.Context, q question) (*cells, error) {
	return r.kept(ctx, q, "live", r.countLive)
}

func (r *Reports) countLive(ctx context.Context, q question) (*cells, error) {
	c := newCells(q)
	return c, r.read(ctx, c, live, q.from, q.to)
}

func (r *Reports) read(ctx context.Context, c *cells, statement string, from, to int64) error {
	params := c.params(from, to)
	if statement == rawSplit || statement == hourlyChanging || statement == rawChanging {
		params["any_account"], params["accounts"] = false, c.changed
	}
	bounds := warehouse.Bounds{Rows: c.q.rowsMax, Groups: c.q.rowsMax}
	if statement == returned { // groups messages before it groups what is asked for
		bounds.Groups = 0
	}
	ctx = warehouse.Bounded(ctx, bounds)
	return r.query(ctx, "sum usage", statement, params, func(row warehouse.Rows) error {
		return c.scan(row, statement == live)
	})
}

func (c *cells) params(from, to int64) map[string]any {
	q := c.q
	list := func(s []string) []string { return append([]string{}, s...) } // nil is NULL to the driver
	return q.cut.held().params(map[string]any{
		"tenant": q.tenant, "from": from, "to": to, "window": q.window,
		"any_meter": q.meters == nil, "meters": list(q.meters), "not_meters": list(q.notMeters),
		"any_account": q.accounts == nil, "accounts": list(q.accounts),
		"changed": list(c.changed), "changes": append([][]int64{}, c.changes...),
		// The account's plan is found by account, so that grouping by plan reads both.
		"by_account": q.by.account || q.by.plan, "by_plan": q.by.plan, "by_region": q.by.region,
		"by_platform": q.by.platform, "by_trial": q.by.trial, "by_consumer": q.by.consumer, "by_item": q.by.item,
		"dimensions": list(q.by.dimensions), "unique": q.unique, "latest": q.latest,
	})
}

// held is the cut that rollups hold: all there is, where it is the watermark. Raw rows and the directory of the
// same question must not hold less than they do.
func (c Cut) held() Cut {
	if c.Now {
		return Cut{AsOf: directory.Latest}
	}
	return c
}

// scan adds a row to the cell it belongs to.
func (c *cells) scan(row warehouse.Rows, live bool) error {
	var (
		k       key
		window  uint32
		segment uint32
		m       measure
		sum     string
	)
	dest := append(make([]any, 0, 24), &window, &k.meter, &k.account, &k.plan, &k.region, &k.platform, &k.trial,
		&k.consumer, &k.item, &k.dimensions, &segment, &sum, &m.events, &m.live, &m.voids, &m.first, &m.last)
	var low, high, latest string
	var consumers []string
	if live {
		dest = append(dest, &low, &high, &latest, &m.newest.at, &m.newest.source, &m.newest.seq, &m.newest.id, &m.newest.piece, &consumers)
	}
	if err := row.Scan(dest...); err != nil {
		return err
	}
	if err := m.parse(sum, low, high, latest, consumers); err != nil {
		return err
	}
	k.window = int64(window)
	if c.q.by.plan && k.plan == "" {
		k.plan = c.q.state.UsagePlan(k.account, k.meter, c.instant(k.account, segment))
	}
	if !c.q.by.account {
		k.account = ""
	}
	c.put(k, &m)
	return nil
}

// instant is one at which the account has the plans of the segment.
func (c *cells) instant(account string, segment uint32) int64 {
	if segment == 0 {
		return c.q.from
	}
	return c.at[account][segment-1]
}

// place orders occurrences for "latest" as the canonical order does: never by when they arrived.
type place struct {
	at     int64
	source string
	seq    int64 // source_seq
	id     string
	piece  uint16
}

// measure is everything an aggregation may need of a set of rows; it can be merged, so that it need not
// be known when rows are read which of them end up together.
type measure struct {
	sum         amount
	events      int64
	live        int64 // counting rows that are not voided; 0: nothing is there
	voids       uint64
	first, last int64 // right only where voids = 0

	low, high, latest amount // nil unless read from live rows
	newest            place
	consumers         map[string]struct{}
}

func (m *measure) parse(sum, low, high, latest string, consumers []string) (err error) {
	if m.sum, err = parseAmount(sum); err != nil || low == "" {
		return err
	}
	if m.low, err = parseAmount(low); err != nil {
		return err
	}
	if m.high, err = parseAmount(high); err != nil {
		return err
	}
	if m.latest, err = parseAmount(latest); err != nil {
		return err
	}
	m.consumers = make(map[string]struct{}, len(consumers))
	for _, id := range consumers {
		m.consumers[id] = struct{}{}
	}
	return nil
}

// merge adds o to m; o must not be used afterwards.
func (m *measure) merge(o *measure) {
	if m.sum == nil {
		m.sum = new(big.Int)
	}
	if o.sum != nil {
		m.sum.Add(m.sum, o.sum)
	}
	m.events += o.events
	m.voids += o.voids
	if o.live != 0 || o.first != 0 || o.last != 0 {
		m.first, m.last = earlier(m.first, o.first), max(m.last, o.last)
	}
	m.live += o.live
	if o.low == nil {
		return
	}
	if m.low == nil || o.low.Cmp(m.low) < 0 {
		m.low = o.low
	}
	if m.high == nil || o.high.Cmp(m.high) > 0 {
		m.high = o.high
	}
	if m.latest == nil || m.newest.before(o.newest) {
		m.latest, m.newest = o.latest, o.newest
	}
	if m.consumers == nil {
		m.consumers = map[string]struct{}{}
	}
	for id := range o.consumers {
		m.consumers[id] = struct{}{}
	}
}

// earlier is the smaller of two instants of which 0 is none.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (p place) before(o place) bool {
	return cmp.Or(cmp.Compare(p.at, o.at), strings.Compare(p.source, o.source), cmp.Compare(p.seq, o.seq),
		strings.Compare(p.id, o.id), cmp.Compare(p.piece, o.piece)) < 0
}

// quantity is the measure's value under the aggregation, "" where there is none.
func (m *measure) quantity(aggregation string) string {
	switch aggregation {
	case "count":
		return formatAmount(new(big.Int).Mul(unit(), big.NewInt(m.events)))
	case "unique":
		return formatAmount(new(big.Int).Mul(unit(), big.NewInt(int64(len(m.consumers)))))
	case "min", "max", "avg", "latest":
		if m.live == 0 || m.low == nil {
			return ""
		}
		switch aggregation {
		case "min":
			return formatAmount(m.low)
		case "max":
			return formatAmount(m.high)
		case "latest":
			return formatAmount(m.latest)
		}
		// Pieces of events that started earlier are no events of this window: their sum is all there is.
		return formatAmount(divide(m.sum, max(m.events, 1)))
	}
	if m.sum == nil {
		return "0"
	}
	if aggregation == timeWeighted {
		return formatAmount(divide(m.sum, hourMillis))
	}
	return formatAmount(m.sum)
}

// summable aggregations are answered from sums; the others from live rows.
func summable(aggregation string) bool { return aggregation == "sum" || aggregation == "count" }
