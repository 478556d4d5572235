package report_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/reporttest"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func TestMain(m *testing.M) { localstack.Main(m) }

type bench struct {
	*reporttest.World
	engine  *localstack.ClickHouse
	reports *report.Reports
	places  map[string]map[int64]uint64 // tenant → recorded → the last sequence of that instant
}

func setUp(t testing.TB) bench {
	t.Helper()
	engine := localstack.SharedClickHouse(t)
	w, err := reporttest.Open(t.Context(), engine.DSN(engine.Database(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return bench{w, engine, report.New(w.W, func() time.Time { return next.Add(24 * time.Hour) }), map[string]map[int64]uint64{}}
}

// store writes the history for the tenant, in the order in which it was recorded.
func (b bench) store(t testing.TB, tenant string, h *history) {
	t.Helper()
	type step struct {
		recorded int64
		do       func() error
	}
	var steps []step
	for _, o := range h.all {
		steps = append(steps, step{o.recorded, func() error { return b.Add(tenant, o.recorded, o.doc) }})
		if o.voided != 0 {
			steps = append(steps, step{o.voided, func() error { return b.Void(tenant, o.voided, "gen", o.id) }})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.recorded - b.recorded) })
	b.places[tenant] = map[int64]uint64{}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatal(err)
		}
		b.places[tenant][s.recorded] = b.Seq()
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// settle ends the history with something recorded later, so that every as_of within is settled.
func (b bench) settle(t testing.TB) {
	t.Helper()
	doc := `{"specversion":"1.0","id":"last","source":"gen","type":"account.created","subject":"z","data":{"name":"z","kind":"other"}}`
	if err := b.Add("other", next.AddDate(1, 0, 0).UnixMilli(), doc); err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func march(t testing.TB) usage.Month {
	t.Helper()
	m, err := usage.ParseMonth("2026-03")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (b bench) month(t testing.TB, tenant string, asOf int64) []report.MonthRow {
	t.Helper()
	m, err := b.reports.MonthUsage(t.Context(), report.MonthQuery{Tenant: tenant, Month: march(t), AsOf: asOf})
	if err != nil {
		t.Fatal(err)
	}
	return m.Rows
}

// view is the month as analysts see it, by tenant.
func (b bench) view(t testing.TB) map[string][]report.MonthRow {
	t.Helper()
	tenants := map[string][]report.MonthRow{}
	err := b.W.Query(t.Context(), `
SELECT tenant, account, account_name, plan, meter, unit, region, platform, trial, resolved, toString(quantity), events, toString(quantity_tree),
    events_tree, ifNull(toUnixTimestamp64Milli(first_at), 0), ifNull(toUnixTimestamp64Milli(last_at), 0)
FROM {{api}}.usage_monthly_v1
WHERE month = '2026-03' AND version = 0 AND NOT closed`, nil, func(row warehouse.Rows) error {
		var tenant string
		var r report.MonthRow
		err := row.Scan(&tenant, &r.Account, &r.AccountName, &r.Plan, &r.Meter, &r.Unit, &r.Region, &r.Platform, &r.Trial, &r.Resolved,
			&r.Quantity, &r.Events, &r.QuantityTree, &r.EventsTree, (*int64)(&r.FirstAt), (*int64)(&r.LastAt))
		tenants[tenant] = append(tenants[tenant], r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range tenants {
		slices.SortFunc(rows, report.CompareMonthRows)
	}
	return tenants
}

func text(rows []report.MonthRow) string {
	out := ""
	for _, r := range rows {
		line, _ := json.Marshal(r)
		out += string(line) + "\n"
	}
	return out
}

func TestAnswersEqualTheOracle(t *testing.T) {
	b := setUp(t)
	generator := rapid.Custom(draw)
	all := make([]*history, histories)
	for i := range all {
		all[i] = generator.Example(i)
		b.store(t, fmt.Sprint("tenant-", i), all[i])
	}
	b.settle(t)
	view := b.view(t)
	tenants := map[string]*history{}
	for i, h := range all {
		tenants[fmt.Sprint("tenant-", i)] = h
	}
	checkWindows(t, b, tenants)
	for i, h := range all {
		tenant := fmt.Sprint("tenant-", i)
		t.Run(tenant, func(t *testing.T) {
			middle := h.all[len(h.all)/2].recorded
			for _, asOf := range []int64{directory.Latest, h.all[len(h.all)-1].recorded + 1000, middle} {
				got, want := text(b.month(t, tenant, asOf)), text(h.month(asOf))
				if got != want {
					t.Fatalf("month as of %d:\n got %s\nwant %s", asOf, got, want)
				}
			}
			// By position alone: what was recorded until then, though its clock says nothing of it.
			cut := report.Cut{AsOf: report.Forever, Shards: map[uint16]uint64{reporttest.Shard: b.places[tenant][middle]}}
			if rows, err := b.reports.MonthRows(t.Context(), tenant, march(t), cut); err != nil || text(rows) != text(h.monthUntil(middle, report.Forever)) {
				t.Fatalf("month at %v: %v\n got %s\nwant %s", cut, err, text(rows), text(h.monthUntil(middle, report.Forever)))
			}
			if got, want := text(view[tenant]), text(h.month(directory.Latest)); got != want {
				t.Errorf("usage_monthly_v1:\n got %s\nwant %s", got, want)
			}
			rapidUsage(t, b, tenant, h, i)
			checkRoots(t, h, b.month(t, tenant, directory.Latest))
		})
	}
}

// rapidUsage asks random questions about meters.
func rapidUsage(t *testing.T, b bench, tenant string, h *history, seed int) {
	t.Helper()
	question := rapid.Custom(func(t *rapid.T) report.UsageQuery {
		q := report.UsageQuery{
			Tenant: tenant, From: instant(t, "from"), To: instant(t, "to"), AsOf: directory.Latest,
			Meter:  rapid.SampledFrom([]string{"tokens", "gib", "calls", "peak", "floor", "people", "level", "mean", "hits", "gauge", "gauge", "sms_credits", "credits_returned"}).Draw(t, "meter"),
			Window: rapid.SampledFrom(report.Windows()).Draw(t, "window"),
		}
		if rapid.Bool().Draw(t, "as_of") {
			q.AsOf = h.all[rapid.IntRange(0, len(h.all)-1).Draw(t, "as of")].recorded
		}
		q.GroupBy = rapid.SliceOfNDistinct(rapid.SampledFrom(append(report.Groupings(), "dimensions.model", "dimensions.none")), 0, 3, rapid.ID[string]).Draw(t, "group by")
		q.Accounts = rapid.SampledFrom([][]string{nil, {"a"}, {"b", "ghost"}}).Draw(t, "accounts")
		return q
	})
	for i := range 8 {
		q := question.Example(seed*100 + i)
		if q.From >= q.To {
			q.From, q.To = q.To, q.From+1
		}
		u, err := b.reports.MeterUsage(t.Context(), q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		got := []string{}
		for _, r := range u.Rows {
			if r.Events == 0 && r.Quantity == (map[bool]string{true: "0", false: ""})[r.Quantity == "0"] && q.Window == "total" && len(q.GroupBy) == 0 && len(h.usage(q)) == 0 {
				continue // the one row of an empty total
			}
			line := rfc(int64(r.Start)) + " " + rfc(int64(r.End))
			for _, g := range r.Group {
				line += fmt.Sprintf(" %q", g)
			}
			got = append(got, fmt.Sprintf("%s = %s (%d)", line, r.Quantity, r.Events))
		}
		slices.Sort(got)
		if want := h.usage(q); !slices.Equal(got, want) {
			t.Fatalf("%+v:\n got %q\nwant %q", q, got, want)
		}
		if a := u.Meter.Aggregation; a == "sum" || a == "count" {
			checkSums(t, b, q, u)
		}
	}
}

// checkSums: a meter asked about with others is what it is alone.
func checkSums(t *testing.T, b bench, q report.UsageQuery, alone *report.Usage) {
	t.Helper()
	together := []string{q.Meter}
	for _, other := range []string{"tokens", "sms_credits", "nobody's"} {
		if other != q.Meter {
			together = append(together, other)
		}
	}
	all, err := b.reports.SumsUsage(t.Context(), q, together)
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	if got, want := fmt.Sprint(all[q.Meter].Rows), fmt.Sprint(alone.Rows); got != want {
		t.Fatalf("%+v with %v:\n got %s\nwant %s", q, together, got, want)
	}
}

// checkRoots: what all accounts have of their own is what the roots have below them.
func checkRoots(t *testing.T, h *history, rows []report.MonthRow) {
	t.Helper()
	up := parents(h.known(directory.Latest))
	own, roots := map[string]*big.Int{}, map[string]*big.Int{}
	add := func(m map[string]*big.Int, meter, q string) {
		if m[meter] == nil {
			m[meter] = new(big.Int)
		}
		m[meter].Add(m[meter], billionths(q))
	}
	for _, r := range rows {
		if aggregations[r.Meter] != "" && aggregations[r.Meter] != "count" {
			continue
		}
		add(own, r.Meter, r.Quantity)
		if up[r.Account] == "" {
			add(roots, r.Meter, r.QuantityTree)
		}
	}
	for meter, q := range own {
		if roots[meter] == nil || q.Cmp(roots[meter]) != 0 {
			t.Errorf("%s: own values sum to %s, the roots' trees to %v", meter, q, roots[meter])
		}
	}
}

// TestFirstAndLastForgetWhatIsVoided: a negation cannot be subtracted from a minimum.
func TestFirstAndLastForgetWhatIsVoided(t *testing.T) {
	b := setUp(t)
	for i, at := range []string{"10:00:00", "10:30:00", "11:00:00"} {
		doc := fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"s","type":"usage.metered","subject":"a","time":"2026-03-02T%sZ","data":{"meter":"calls","quantity":"%d"}}`, i, at, i+1)
		if err := b.Add("t", next.UnixMilli()+int64(i), doc); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"e0", "e2"} {
		if err := b.Void("t", next.UnixMilli()+10, "s", id); err != nil {
			t.Fatal(err)
		}
	}
	b.settle(t)
	for _, asOf := range []int64{directory.Latest, next.UnixMilli() + 10} {
		rows := b.month(t, "t", asOf)
		if len(rows) != 1 || rows[0].Quantity != "2" || rows[0].Events != 1 || rows[0].FirstAt.String() != "2026-03-02T10:30:00Z" || rows[0].LastAt != rows[0].FirstAt {
			t.Errorf("as of %d: %s", asOf, text(rows))
		}
	}
	if rows := b.month(t, "t", next.UnixMilli()+9); len(rows) != 1 || rows[0].Quantity != "6" || rows[0].FirstAt.String() != "2026-03-02T10:00:00Z" {
		t.Errorf("before the voids: %s", text(rows))
	}
}
