package months_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/reporttest"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func TestMain(m *testing.M) { localstack.Main(m) }

// house is a filled warehouse and what keepers need beside it.
type house struct {
	testing.TB
	world   *reporttest.World
	servers *warehouse.Servers
	reports *report.Reports
	control *control.Client
	tenant  string
	clock   atomic.Int64  // Unix ms
	broken  atomic.Bool   // what the audit finds
	head    atomic.Uint64 // how far the log is said to go; 0: nobody says; silent: it does not answer
	asked   atomic.Int64  // how often
	nats    string
	dsn     string
}

func open(t *testing.T) *house {
	t.Helper()
	stack := localstack.Shared(t)
	// One reporter of all that share a control state is on duty: a house has its own, or it would wait for the others.
	nats, err := localstack.StartNATS(localstack.NATSConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Stop)
	h := &house{TB: t, tenant: "m", nats: nats.URL(), dsn: stack.ClickHouse.DSN(stack.Database(t))}
	h.set("2026-02-04T00:00:00Z")
	if h.world, err = reporttest.Open(t.Context(), h.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.world.Close)
	cfg := warehouse.DefaultConfig()
	cfg.DSN = h.dsn
	if h.servers, err = warehouse.OpenServers(t.Context(), cfg, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.servers.Close() })
	h.reports = report.New(h.servers.Reader(), h.now)
	dial := control.DefaultConfig()
	dial.URL = h.nats
	if h.control, err = control.Dial(t.Context(), dial, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.control.Close)
	return h
}

func (h *house) now() time.Time { return time.UnixMilli(h.clock.Load()).UTC() }

func (h *house) set(at string) { h.clock.Store(ms(h, at)) }

func ms(t testing.TB, at string) int64 {
	t.Helper()
	i, err := usage.ParseInstant(at)
	if err != nil {
		t.Fatal(err)
	}
	return i.Millis()
}

// Month is what the audit of a month finds.
func (h *house) Month(context.Context, string, usage.Month) ([]audit.MonthDifference, error) {
	if h.broken.Load() {
		return []audit.MonthDifference{{What: "meter tokens: raw rows and usage_hourly differ", N: 3}}, nil
	}
	return nil, nil
}

const silent = math.MaxUint64

// Heads is how far the log goes, which nobody but a test says.
func (h *house) Heads(context.Context) (map[uint16]uint64, error) {
	defer h.asked.Add(1)
	switch at := h.head.Load(); at {
	case 0:
		return map[uint16]uint64{}, nil
	case silent:
		return nil, errors.New("the log did not answer")
	default:
		return map[uint16]uint64{0: at}, nil
	}
}

// keeper closes months at this house; the metric and the log are its own.
func (h *house) keeper(name string, cfg months.Config) (*months.Keeper, *prometheus.Registry, *observer.ObservedLogs) {
	h.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	registry := prometheus.NewRegistry()
	k, err := months.Start(h.Context(), cfg, months.Parts{
		Reports: report.New(h.servers.Reader(), h.now), Servers: h.servers, Control: h.control.Store, Audit: h, Now: h.now,
		State: telemetry.NewReporter(registry).MonthState, Holder: h.tenant + name,
	}, zap.New(core))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(k.Stop)
	return k, registry, logs
}

// state is the metric of a month: 0 open, 1 provisional, 2 closed; -1 where there is none.
func (h *house) state(registry *prometheus.Registry, m string) int {
	families, err := registry.Gather()
	if err != nil {
		h.Fatal(err)
	}
	for _, family := range families {
		for _, one := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range one.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["tenant"] == h.tenant && labels["month"] == m {
				return int(one.GetGauge().GetValue())
			}
		}
	}
	return -1
}

// byHand never closes by itself, and restates only when asked.
func byHand() months.Config {
	return months.Config{RestateDelay: time.Hour, QuietDelay: time.Hour, RetryDelay: time.Hour}
}

func (h *house) add(recorded string, docs ...string) {
	h.Helper()
	for _, doc := range docs {
		if err := h.world.Add(h.tenant, ms(h, recorded)+int64(h.world.Seq()), doc); err != nil {
			h.Fatal(err)
		}
	}
	if err := h.world.Flush(h.Context()); err != nil {
		h.Fatal(err)
	}
}

func tokens(id, account, at, quantity string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"s","type":"usage.metered","subject":%q,"time":%q,"data":{"meter":"tokens","quantity":%q}}`, id, account, at, quantity)
}

func month(t testing.TB, s string) usage.Month {
	t.Helper()
	m, err := usage.ParseMonth(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// close closes a month, as people do: again where NATS did not answer in time, which repeating heals.
func (h *house) close(k *months.Keeper, m string) report.Version {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), awaitMost)
	defer cancel()
	v, err := k.Close(ctx, months.Request{Tenant: h.tenant, Month: month(h, m), By: "test"})
	for errors.Is(err, control.ErrUnavailable) && ctx.Err() == nil {
		v, err = k.Close(ctx, months.Request{Tenant: h.tenant, Month: month(h, m), By: "test"})
	}
	if err != nil {
		h.Fatalf("close %s: %v", m, err)
	}
	return v
}

func (h *house) versions(m string) []report.Version {
	h.Helper()
	all, err := h.reports.Versions(h.Context(), h.tenant, month(h, m))
	if err != nil {
		h.Fatal(err)
	}
	return all
}

func (h *house) rows(m, closeID string) []report.MonthRow {
	h.Helper()
	rows, err := h.reports.StoredRows(h.Context(), h.tenant, month(h, m), closeID)
	if err != nil {
		h.Fatal(err)
	}
	return rows
}

// count is how many rows of a table the tenant has.
func (h *house) count(table string) (n uint64) {
	h.Helper()
	err := h.servers.Reader().Query(h.Context(), "SELECT count() FROM {{db}}."+table+" WHERE tenant = @tenant", []any{warehouse.Named("tenant", h.tenant)},
		func(r warehouse.Rows) error { return r.Scan(&n) })
	if err != nil {
		h.Fatal(err)
	}
	return n
}

// awaitMost is long: who looks for work looks the less often the longer a look takes, on a busy machine once a minute.
const awaitMost = 5 * time.Minute

func (h *house) await(what string, done func() bool) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), awaitMost)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			h.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// Two reporters, and eight requests at each, close the same month at once: one version 1, and everybody is
// told of it. The rows of those who lost are gone.
func TestRace(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add("2026-01-10T00:00:00Z", tokens("1", "a", "2026-01-10T00:00:00Z", "1.5"), tokens("2", "b", "2026-01-11T00:00:00Z", "2"))
	h.add("2026-02-04T00:00:01Z", tokens("3", "a", "2026-02-01T00:00:00Z", "9"))
	first, _, _ := h.keeper("1", byHand())
	second, _, _ := h.keeper("2", byHand())
	answers := make([]report.Version, 16)
	errs := make([]error, len(answers))
	var wg sync.WaitGroup
	for i := range answers {
		k := first
		if i%2 == 1 {
			k = second
		}
		wg.Go(func() {
			answers[i], errs[i] = k.Close(t.Context(), months.Request{Tenant: h.tenant, Month: month(t, "2026-01"), By: fmt.Sprint(i)})
		})
	}
	wg.Wait()
	all := h.versions("2026-01")
	if len(all) != 1 || all[0].Version != 1 || all[0].Rows != 2 {
		t.Fatalf("versions %+v, want one of two rows", all)
	}
	for i := range answers {
		if errs[i] != nil || answers[i].CloseID != all[0].CloseID {
			t.Errorf("request %d was told %+v, %v", i, answers[i], errs[i])
		}
	}
	if n := h.count("month_rows"); n != 2 {
		t.Errorf("%d rows are stored, want the 2 of the winner", n)
	}
	in, err := h.control.Month(t.Context(), h.tenant, "2026-01")
	if err != nil || len(in.Versions) != 1 || in.Versions[0].SHA256 != all[0].SHA256 {
		t.Errorf("CONTROL says %+v, %v", in, err)
	}
}

// A month closes on the fourth at midnight and not before, by one of two reporters; what blocks it is said
// once by whoever is on duty, and it closes as soon as nothing does.
func TestAutomatic(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.set("2026-03-03T23:59:59.999Z")
	h.add("2026-01-10T00:00:00Z", tokens("1", "a", "2026-01-10T00:00:00Z", "1"))
	h.add("2026-02-10T00:00:00Z", tokens("2", "a", "2026-02-10T00:00:00Z", "1"))
	h.add("2026-03-03T00:00:00Z", tokens("3", "a", "2026-03-03T00:00:00Z", "1"))
	cfg := months.Config{CloseDay: 4, RestateDelay: 100 * time.Millisecond, QuietDelay: 100 * time.Millisecond, RetryDelay: 100 * time.Millisecond}
	first, metrics, logs := h.keeper("1", cfg)
	_, _, others := h.keeper("2", cfg)
	h.await("the metric", func() bool { return h.state(metrics, "2026-02") == 1 })
	if got := h.versions("2026-02"); len(got) != 0 {
		t.Fatalf("closed on the third: %+v", got)
	}
	h.set("2026-03-04T00:00:00Z")
	blocked := func(l *observer.ObservedLogs) int {
		return l.FilterMessage("a month is due and cannot be closed").Len()
	}
	h.await("the reason to be logged", func() bool { return blocked(logs)+blocked(others) > 0 })
	h.close(first, "2026-01")
	h.await("the close", func() bool { return len(h.versions("2026-02")) > 0 })
	h.await("the metric", func() bool { return h.state(metrics, "2026-02") == 2 })
	if got := h.versions("2026-02"); len(got) != 1 || got[0].ClosedBy != months.Automatic {
		t.Errorf("2026-02: %+v", got)
	}
	if got := h.versions("2026-03"); len(got) != 0 {
		t.Errorf("the running month is closed: %+v", got)
	}
	if one, two := blocked(logs), blocked(others); one > 1 || two > 1 { // the duty passes on where a machine stands still
		t.Errorf("the reason was logged %d and %d times, want once by who is on duty", one, two)
	}
}

// Late events make a version by themselves; what does not change the rows makes none.
func TestRestates(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add("2026-01-10T00:00:00Z", tokens("1", "a", "2026-01-10T00:00:00Z", "1"))
	h.add("2026-02-03T00:00:00Z", tokens("2", "a", "2026-02-03T00:00:00Z", "1"))
	cfg := byHand()
	cfg.RestateDelay = 100 * time.Millisecond
	k, _, _ := h.keeper("1", cfg)
	v1 := h.close(k, "2026-01")
	before := h.rows("2026-01", v1.CloseID)
	h.add("2026-02-05T00:00:00Z", // none of these says anything about January
		tokens("3", "a", "2026-02-05T00:00:00Z", "1"),
		`{"specversion":"1.0","id":"c","source":"s","type":"account.created","subject":"z","time":"2026-01-15T00:00:00Z","data":{"name":"Z","kind":"customer"}}`)
	h.add("2026-02-06T00:00:00Z", tokens("4", "b", "2026-01-31T23:59:59.999Z", "0.5"), tokens("5", "a", "2026-02-06T00:00:00Z", "1"))
	h.await("version 2", func() bool { return len(h.versions("2026-01")) > 1 })
	all := h.versions("2026-01")
	if len(all) != 2 || all[0].SHA256 != v1.SHA256 || all[1].Adjustments != 1 {
		t.Errorf("versions %+v", all)
	}
	if after := h.rows("2026-01", v1.CloseID); !reflect.DeepEqual(before, after) {
		t.Errorf("version 1 was %+v and is %+v", before, after)
	}
	if again := h.close(k, "2026-01"); again.Version != 2 {
		t.Errorf("closed again: %+v", again)
	}
	adjustments, err := h.reports.Adjustments(t.Context(), report.AdjustmentsQuery{Tenant: h.tenant})
	want := []report.Adjustment{{
		ProcessingMonth: "2026-02", UsageMonth: "2026-01", Type: "SYSTEM", Account: "b", Meter: "tokens", Measure: "quantity", FromVersion: 1, ToVersion: 2, Delta: "0.5",
	}}
	if err != nil || !slices.Equal(adjustments, want) {
		t.Errorf("adjustments %+v, %v", adjustments, err)
	}
}

// The pages of a closed month are all of the version that the first is of, also when another reporter is asked, and more
// is known by then.
func TestPagesOfAVersion(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add("2026-01-10T00:00:00Z", tokens("1", "a", "2026-01-10T00:00:00Z", "1"), tokens("2", "b", "2026-01-10T00:00:00Z", "2"))
	h.add("2026-02-03T00:00:00Z", tokens("3", "a", "2026-02-03T00:00:00Z", "1"))
	k, _, _ := h.keeper("1", byHand())
	h.close(k, "2026-01")
	h.add("2026-02-05T00:00:00Z", tokens("4", "b", "2026-01-11T00:00:00Z", "4"))
	q := report.Query{Tenant: h.tenant, Report: "monthly-usage", Values: map[string]string{"month": "2026-01"}, AsOf: directory.Latest}
	var rows []string
	var at *report.Place
	for first := true; first || at != nil; first = false {
		page, err := report.New(h.servers.Reader(), h.now).Page(t.Context(), q, at, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range page.Rows {
			rows = append(rows, strings.Join([]string{row[1], row[2], row[3], row[12]}, " ")) // version, closed, account, quantity
		}
		at = page.Next
	}
	if want := []string{"1 TRUE a 1", "1 TRUE b 2"}; !slices.Equal(rows, want) {
		t.Errorf("pages say %q, want %q", rows, want)
	}
}

// What refuses: a difference, an earlier month, an instant that is not settled or lies before the month's end.
func TestRefused(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add("2026-01-10T00:00:00Z", tokens("1", "a", "2025-12-10T00:00:00Z", "1"), tokens("2", "a", "2026-01-10T00:00:00Z", "1"))
	h.add("2026-02-03T00:00:00Z", tokens("3", "a", "2026-02-03T00:00:00Z", "1"))
	h.broken.Store(true)
	k, _, _ := h.keeper("1", byHand())
	_, err := k.Close(t.Context(), months.Request{Tenant: h.tenant, Month: month(t, "2026-01"), By: "test"})
	var refused *months.Refused
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "earlier-months: not closed yet: 2025-12") || !strings.Contains(err.Error(), "audit: the tables do not agree") {
		t.Errorf("close with two reasons: %v", err)
	}
	h.broken.Store(false)
	h.close(k, "2025-12")
	for at, code := range map[string]string{
		"2026-01-31T23:59:59.999Z": report.CodeParameter, "2026-02-03T12:00:00Z": report.CodeNotSettled,
	} {
		h.set("2026-02-02T00:00:00Z") // before the second: it lies in the future, and is not waited for
		_, err := k.Close(t.Context(), months.Request{Tenant: h.tenant, Month: month(t, "2026-01"), AsOf: ms(t, at), By: "test"})
		var bad *report.Error
		if !errors.As(err, &bad) || bad.Code != code || bad.Parameter != "as_of" {
			t.Errorf("close as of %s: %v, want %s", at, err, code)
		}
	}
	if n := h.count("month_rows"); n != 1 {
		t.Errorf("%d rows are stored, want the 1 of 2025-12", n)
	}
}

// Who changes a row of a closed version in ClickHouse is found by the audit, whose certificate says which version; the
// log, and all tables that are made from it, agree as before.
func TestChangedVersionIsFound(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add("2026-01-10T00:00:00Z", tokens("1", "a", "2026-01-10T00:00:00Z", "1"))
	h.add("2026-02-03T00:00:00Z", tokens("2", "a", "2026-02-03T00:00:00Z", "1"))
	k, _, _ := h.keeper("1", byHand())
	h.close(k, "2026-01")
	certified := func(tenant, month string) audit.Certificate {
		raw, err := k.Certified(t.Context(), []byte(`{"ok":true}`), tenant, month)
		var c audit.Certificate
		if err := errors.Join(err, json.Unmarshal(raw, &c)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := certified(h.tenant, ""); !c.OK || c.SHA256 != "" {
		t.Errorf("nothing was changed: %+v", c)
	}
	const change = `ALTER TABLE {{db}}.month_rows UPDATE quantity = quantity + 1 WHERE month = '2026-01' SETTINGS mutations_sync = 2`
	if err := h.servers.Reader().Remove(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	c := certified("", "2026-01")
	want := h.versions("2026-01")[0].SHA256
	if c.OK || c.DifferenceCount != 1 || len(c.Differences) != 1 || c.Differences[0].Check != audit.CheckVersion || c.Differences[0].Want != want || c.Differences[0].Have == want {
		t.Errorf("a changed row: %+v", c)
	}
	if sum, err := c.Sum(); err != nil || sum != c.SHA256 {
		t.Errorf("the certificate is sealed as %s, %v; it says %s", sum, err, c.SHA256)
	}
	if c := certified("other", ""); !c.OK {
		t.Errorf("of another tenant: %+v", c)
	}
}

// A warehouse that lost every closed month, or only what was in it, gets the same ones again, from the log, under
// the same hashes.
func TestRestored(t *testing.T) {
	t.Parallel()
	for name, tables := range map[string][]string{
		"all":  {"month_versions", "month_rows", "month_figures", "month_adjustments"},
		"rows": {"month_rows", "month_adjustments"}, // a damaged part is put aside without a word
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			restored(t, tables)
		})
	}
}

func restored(t *testing.T, lost []string) {
	t.Helper()
	h := open(t)
	h.add("2026-01-10T00:00:00Z", tokens("1", "a", "2026-01-10T00:00:00Z", "1"))
	h.add("2026-02-03T00:00:00Z", tokens("2", "a", "2026-02-03T00:00:00Z", "1"))
	k, _, _ := h.keeper("1", byHand())
	h.close(k, "2026-01")
	h.add("2026-02-05T00:00:00Z", tokens("3", "b", "2026-01-31T00:00:00Z", "7"), tokens("4", "a", "2026-02-05T00:00:00Z", "1"))
	h.close(k, "2026-01")
	before := h.versions("2026-01")
	rows := [][]report.MonthRow{h.rows("2026-01", before[0].CloseID), h.rows("2026-01", before[1].CloseID)}
	adjustments, err := h.reports.Adjustments(t.Context(), report.AdjustmentsQuery{Tenant: h.tenant})
	if err != nil || len(before) != 2 || len(adjustments) != 1 {
		t.Fatalf("versions %+v, adjustments %+v, %v", before, adjustments, err)
	}
	k.Stop()
	for _, table := range lost {
		if err := h.servers.Reader().Remove(t.Context(), "TRUNCATE TABLE {{db}}."+table); err != nil {
			t.Fatal(err)
		}
	}
	h.keeper("2", byHand())
	h.await("both versions, and the adjustments, which are stored last", func() bool {
		after := h.versions("2026-01")
		return len(after) == 2 && len(h.rows("2026-01", after[1].CloseID)) == len(rows[1]) && h.count("month_adjustments") == uint64(len(adjustments))
	})
	if after := h.versions("2026-01"); !reflect.DeepEqual(before, after) {
		t.Errorf("versions %+v, were %+v", after, before)
	}
	for i, v := range before {
		if after := h.rows("2026-01", v.CloseID); !reflect.DeepEqual(rows[i], after) {
			t.Errorf("rows of version %d %+v, were %+v", i+1, after, rows[i])
		}
	}
	again, err := h.reports.Adjustments(t.Context(), report.AdjustmentsQuery{Tenant: h.tenant})
	if err != nil || !slices.Equal(adjustments, again) {
		t.Errorf("adjustments %+v, %v, were %+v", again, err, adjustments)
	}
}
