package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countinghouse/countinghouse/internal/stack"
)

// What is compared with the store: the same tables with a hundredth of the events.
const (
	referenceEvents = 1_000_000
	// The rate at which the two are compared: the same for both, because batches, and so their price, follow
	// the rate. About a third of what two idle cores take.
	storeRate   = 50_000
	trickleRate = 2_000 // keeps something to insert while the aggregator is restarted
	asks        = 9     // of each question
	// A question that takes longer is as far from its target as it gets; its figure is then this.
	askMax = 30 * time.Second
	// How long merges of the store are waited for: one of all its rows takes that long on a busy machine.
	storeQuiet = 20 * time.Minute
)

// store measures what a store of many events costs, and what a small one does.
func store(ctx context.Context, o options, out io.Writer) (err error) {
	rec := newRecord(ctx, "store")
	info, err := readFilled(o.store)
	if err != nil {
		return err
	}
	o.tenants, o.accounts = info.Tenants, info.Accounts
	if o.rate == 0 {
		o.rate = storeRate
	}
	m := &onStore{info: info}
	if err := m.reference(ctx, o, out); err != nil {
		return err
	}
	s, err := openStore(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := m.measure(ctx, s, o, out); err != nil {
		return err
	}
	if err := s.verify(ctx, out); err != nil {
		return err
	}
	return rec.finish(o, m.figures(), out)
}

// onStore is what was found.
type onStore struct {
	info         *storeInfo
	small, large result
	identities   int64
	restarts     []restart
	questions    []question
}

// reference loads a store of a million events, made for the purpose.
func (m *onStore) reference(ctx context.Context, o options, out io.Writer) (err error) {
	o.dir = ""
	s, err := openStack(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	info := *m.info
	info.Events, info.Filled, info.Seconds = referenceEvents, false, 0
	if err := fillStore(ctx, s, s.dir, &info, out); err != nil {
		return err
	}
	m.small, err = s.loaded(ctx, o, out)
	return err
}

// loaded is the cost of an event at o.rate, on what the tables hold now.
func (s *system) loaded(ctx context.Context, o options, out io.Writer) (res result, err error) {
	if s.baseline, err = s.counted(ctx); err != nil {
		return res, err
	}
	bodies, err := prepare(ctx, s, o)
	if err != nil {
		return res, err
	}
	if err := s.quiet(ctx, storeQuiet); err != nil {
		return res, err
	}
	began, err := s.number(ctx, `SELECT toUnixTimestamp64Micro(now64(6))`)
	if err != nil {
		return res, err
	}
	fmt.Fprintf(out, "load on %d stored events: %d events/s for %d s …\n", s.baseline.stored, o.rate, o.seconds)
	if err := loadPhase(ctx, s, o, bodies, &res, out); err != nil {
		return res, err
	}
	res.StatementsPerM, err = s.statementCPU(ctx, began, res.Events)
	return res, err
}

// statementCPU is what ClickHouse spent on the services' statements since then, per million events: merges,
// which come when they come and may be of everything there is, are not in it.
func (s *system) statementCPU(ctx context.Context, began, events int64) (float64, error) {
	if _, err := s.query(ctx, "SYSTEM FLUSH LOGS"); err != nil {
		return 0, err
	}
	const native = "1" // the bench itself asks over HTTP
	us, err := s.number(ctx, `
SELECT toInt64(sum(ProfileEvents['UserTimeMicroseconds'] + ProfileEvents['SystemTimeMicroseconds']))
FROM system.query_log WHERE type = 'QueryFinish' AND interface = `+native+` AND toUnixTimestamp64Micro(query_start_time_microseconds) >= `+fmt.Sprint(began))
	return round(float64(us)/float64(events), 3), err
}

func (m *onStore) measure(ctx context.Context, s *system, o options, out io.Writer) (err error) {
	if m.large, err = s.loaded(ctx, o, out); err != nil {
		return err
	}
	m.identities = m.large.Identities
	if err := m.ask(ctx, s, out); err != nil {
		return err
	}
	for _, how := range []string{"kill -9", "SIGTERM", "kill -9, filters lost"} {
		r, err := s.restart(ctx, o, how)
		if err != nil {
			return fmt.Errorf("restart by %s: %w", how, err)
		}
		fmt.Fprintf(out, "  first insert %.2f s after %s; peak %d MiB\n", r.took.Seconds(), how, r.peak>>20)
		m.restarts = append(m.restarts, r)
	}
	if applied, err := s.number(ctx, `SELECT toInt64(uniqExact(name)) FROM countinghouse.migrations`); err != nil {
		return err
	} else if m.info.Weight != nil && m.info.Weight.Migrations == applied && !o.weigh {
		return nil
	}
	if m.info.Weight, err = s.weighCopy(ctx, out); err != nil {
		return err
	}
	m.info.Weight.print(out)
	return m.info.save(o.store)
}

// restart is how long an aggregator was away.
type restart struct {
	how  string
	took time.Duration // from its end to the next one's first insert
	peak int64         // bytes resident of the next one by then
}

// restart ends the aggregator in one of three ways while events come in, and waits for the next one, which
// `up` starts.
func (s *system) restart(ctx context.Context, o options, how string) (r restart, err error) {
	e, err := stack.LoadEndpoints(s.dir)
	if err != nil {
		return r, err
	}
	s.endpoints.PIDs = e.PIDs
	trickle, stop := context.WithCancel(ctx)
	defer stop()
	g, gctx := errgroup.WithContext(trickle)
	bodies, err := prepare(ctx, s, o)
	if err != nil {
		return r, err
	}
	g.Go(func() error {
		sent, err := send(gctx, s, options{connections: 8}, bodies, drainWait, trickleRate)
		s.sent.add(sent)
		if errors.Is(err, context.Canceled) && ctx.Err() == nil {
			return nil
		}
		return err
	})
	base, err := s.counted(ctx)
	if err == nil {
		_, err = s.awaitMore(ctx, base) // events come in
	}
	if err != nil {
		return r, errors.Join(err, g.Wait())
	}
	began := time.Now()
	if err := s.end(e.PIDs[stack.PartAggregator], how); err != nil {
		return r, err
	}
	if base, err = s.idle(ctx); err != nil {
		return r, err
	}
	if _, err := s.awaitMore(ctx, base); err != nil {
		return r, err
	}
	r = restart{how: how, took: time.Since(began)}
	stop()
	if err := g.Wait(); err != nil {
		return r, err
	}
	if _, err := s.awaitCounted(ctx); err != nil {
		return r, err
	}
	if s.endpoints, err = stack.LoadEndpoints(s.dir); err != nil {
		return r, err
	}
	u, err := spentBy(s.endpoints.PIDs[stack.PartAggregator])
	r.peak = u.peak
	return r, err
}

func (s *system) end(pid int, how string) error {
	switch how {
	case "SIGTERM":
		return syscall.Kill(pid, syscall.SIGTERM)
	case "kill -9, filters lost":
		if err := os.RemoveAll(filepath.Join(s.dir, stack.PartAggregator)); err != nil {
			return err
		}
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// question is something a reader asks.
type question struct {
	key, name string
	limit     float64 // ms
	ask       func(ctx context.Context) (rows int, err error)
	took      []time.Duration
	rows      int
}

// ask asks each question a few times; the first time does not count, as the tables may have to come from disk.
func (m *onStore) ask(ctx context.Context, s *system, out io.Writer) error {
	month := m.info.month()
	if err := s.quiet(ctx, storeQuiet); err != nil {
		return err
	}
	usage := func(ctx context.Context, tenant int, query string) (int, error) {
		return s.report(ctx, tenant, "/api/v1/months/"+month+"/usage?limit=1000"+query)
	}
	every := fmt.Sprintf("%d accounts × %d meters", m.info.Tenants*m.info.Accounts, len(meters))
	m.questions = []question{
		{key: "month_all_sql_ms", name: "month of " + every + ", one question in SQL, ms", limit: 300, ask: func(ctx context.Context) (int, error) {
			n, err := s.number(ctx, `SELECT toInt64(count()) FROM (SELECT tenant, account, meter, region, quantity, events FROM usage_api.usage_monthly_v1 WHERE month = '`+month+`')
SETTINGS cancel_http_readonly_queries_on_client_close = 1, max_execution_time = 40`)
			return int(n), err
		}},
		{key: "month_all_api_ms", name: fmt.Sprintf("… by the API, %d tenants one after the other, ms", m.info.Tenants), limit: 300, ask: func(ctx context.Context) (int, error) {
			rows := 0
			for i := range m.info.Tenants {
				n, err := usage(ctx, i, "")
				if err != nil {
					return 0, err
				}
				rows += n
			}
			return rows, nil
		}},
		{key: "month_tenant_api_ms", name: fmt.Sprintf("month of a tenant's %d accounts × %d meters, by the API, ms", m.info.Accounts, len(meters)), ask: func(ctx context.Context) (int, error) {
			return usage(ctx, 1, "")
		}},
		{key: "month_account_api_ms", name: "month of one account, by the API, ms", limit: 30, ask: func(ctx context.Context) (int, error) {
			return usage(ctx, 2, "&account="+account(7))
		}},
		{key: "meter_account_api_ms", name: "month of one account and meter, by the API, ms", limit: 30, ask: func(ctx context.Context) (int, error) {
			first := url.QueryEscape(m.info.To.Add(-time.Millisecond).Format("2006-01-02")[:8] + "01T00:00:00Z")
			return s.report(ctx, 3, "/api/v1/meters/"+meters[0]+"/usage?from="+first+"&account="+account(7))
		}},
	}
	for i := range m.questions {
		q := &m.questions[i]
		if err := q.askAll(ctx); err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		if q.rows == 0 {
			fmt.Fprintf(out, "  %s: no answer in %s\n", q.name, askMax)
			continue
		}
		fmt.Fprintf(out, "  %s: %d rows, %.1f (%.1f to %.1f)\n", q.name, q.rows, ms(quantile(q.took, 0.5)), ms(q.took[0]), ms(q.took[len(q.took)-1]))
	}
	return nil
}

func (q *question) askAll(ctx context.Context) error {
	for turn := range asks + 1 {
		limited, cancel := context.WithTimeout(ctx, askMax)
		began := time.Now()
		rows, err := q.ask(limited)
		late := limited.Err() != nil && ctx.Err() == nil
		cancel()
		if late {
			q.took, q.rows = []time.Duration{askMax}, 0
			return nil
		}
		if err != nil {
			return err
		}
		if q.rows = rows; turn > 0 {
			q.took = append(q.took, time.Since(began))
		}
	}
	slices.Sort(q.took)
	return nil
}

func ms(d time.Duration) float64 { return round(float64(d)/float64(time.Millisecond), 1) }

// report asks the reporter as a tenant and answers how many rows came.
func (s *system) report(ctx context.Context, tenant int, path string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.endpoints.Reporter+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+s.keys[tenant])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the reporter answered %s to %s: %s", resp.Status, path, text)
	}
	var answer struct {
		Rows []json.RawMessage `json:"rows"`
		Next *string           `json:"next"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, err
	}
	if answer.Next != nil {
		return 0, fmt.Errorf("%s has more than a page of rows", path)
	}
	return len(answer.Rows), nil
}

func (m *onStore) figures() []figure {
	cost := func(r result, parts ...string) float64 {
		sum := 0.0
		for _, p := range parts {
			sum += r.CPUSecondsPerM[p]
		}
		return round(sum, 3)
	}
	statements := func(r result) float64 { return round(cost(r, "nats", "aggregator")+r.StatementsPerM, 3) }
	small, large := cost(m.small, "nats", "aggregator", "clickhouse"), cost(m.large, "nats", "aggregator", "clickhouse")
	list := []figure{{"identities", "stored identities", float64(m.identities), "%.0f", target{}}}
	for i, r := range m.restarts {
		key := []string{"restart_kill_s", "restart_term_s", "restart_rebuild_s"}[i]
		list = append(list, figure{key, "aggregator's first insert after " + r.how + ", s", round(r.took.Seconds(), 2), "%.2f", atMost(20)})
	}
	list = append(list, figure{"rss_mib_aggregator", "peak resident MiB, aggregator, under load", float64(m.large.RSSMiB["aggregator"]), "%.0f", memoryTarget(m.identities)})
	if n := len(m.restarts); n > 0 {
		list = append(list, figure{"rss_mib_rebuild", "… after filters were lost", float64(m.restarts[n-1].peak >> 20), "%.0f", memoryTarget(m.identities)})
	}
	for _, q := range m.questions {
		t := target{}
		if q.limit > 0 {
			t = atMost(q.limit)
		}
		list = append(list, figure{q.key, q.name, ms(quantile(q.took, 0.5)), "%.1f", t})
	}
	list = append(list,
		figure{"cost_ratio", "CPU of an event on this store, of one on a million (NATS, aggregator, ClickHouse)", round(large/small, 3), "%.2f", atMost(1.3)},
		figure{"cost_ratio_statements", "… ratio without ClickHouse's merges", round(statements(m.large)/statements(m.small), 3), "%.2f", target{}},
		figure{"cost_small_statements", "… CPU-s per million without merges, on a million", statements(m.small), "%.2f", target{}},
		figure{"cost_large_statements", "… CPU-s per million without merges, on this store", statements(m.large), "%.2f", target{}},
		figure{"cost_small", "… CPU-s per million events on a million", small, "%.2f", target{}},
		figure{"cost_large", "… CPU-s per million events on this store", large, "%.2f", target{}})
	for _, part := range []string{"aggregator", "clickhouse"} {
		list = append(list,
			figure{"cost_ratio_" + part, "… ratio, " + part, round(cost(m.large, part)/cost(m.small, part), 3), "%.2f", target{}})
	}
	if w := m.info.Weight; w != nil {
		list = append(list,
			figure{"bytes_per_event_merged", "bytes per event in ClickHouse, merged", w.Merged, "%.1f", atMost(80)},
			figure{"bytes_per_event_now", "… as the store stood after the fill", w.Now, "%.1f", target{}},
			figure{"log_bytes_per_event", "bytes per event in the log", w.Log, "%.1f", atMost(120)},
			figure{"rollup_rows_per_event", "rows of usage_hourly per event", round(float64(w.RollupRows)/float64(w.Rows), 3), "%.3f", target{}})
	}
	return list
}
