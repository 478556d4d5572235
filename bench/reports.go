package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/stack"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// What the reports promise (issue 4).
const (
	pageMax      = 300 // ms, the first page as JSON
	wholeMax     = 2   // s, the whole report
	exportRate   = 200_000
	exportGrowth = 64 // MiB that the reporter may grow during an export
	closeMax     = 60 // s
	pageRows     = 1000
	reportTurns  = 5
	reportWait   = 5 * time.Minute
	restatePoll  = 100 * time.Millisecond
)

// reports measures every report on the store: of a tenant with 10,000 accounts beside its hundred million events.
func reports(ctx context.Context, o options, out io.Writer) (err error) {
	rec := newRecord(ctx, "reports")
	if _, err := readFilled(o.store); err != nil {
		return err
	}
	population, events, err := readPopulation(o.store, o.population)
	if err != nil {
		return err
	}
	s, err := openStore(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.populate(ctx, o.store, population, events, out); err != nil {
		return err
	}
	m := &onReports{system: s, info: population, out: out}
	if err := m.measure(ctx, o.store); err != nil {
		return err
	}
	return rec.finish(o, m.figures(), out)
}

// onReports is what was found.
type onReports struct {
	*system
	info   *populationInfo
	key    string
	out    io.Writer
	asked  []*asking
	stored int64

	restateSeconds, restateCPU float64
}

// asking is a report as it is asked.
type asking struct {
	key, name string
	query     string // of GET /reports/…, without format
	export    bool   // as CSV as well
	rows      int64  // at least so many must come

	first     time.Duration // of the first page, asked by nobody before
	firstCPU  float64       // reporter and ClickHouse
	page      []time.Duration
	pageCPU   float64 // of one of the later times
	whole     time.Duration
	wholeCPU  float64
	wholeRows int64
	growth    float64 // MiB that the reporter's peak rose above what it had
}

// questions are the twelve reports; a report that has two faces is asked for both.
func (m *onReports) questions() []*asking {
	month, tree := m.info.Month, treeAccount(0)
	parsed, _ := usage.ParseMonth(month) // it was read before
	from := parsed.Start().Time().AddDate(0, -monthsBefore, 0).Format("2006-01")
	first, last := month+"-01", parsed.End().Time().AddDate(0, 0, -1).Format(time.DateOnly)
	n := int64(m.info.Accounts)
	return []*asking{
		{key: "sta_screen_activity", name: "sta-usage, screen, activity", query: "sta-usage?account=" + tree + "&month=" + month + "&measure=activity", rows: 2},
		{key: "sta_screen_token", name: "sta-usage, screen, tokens", query: "sta-usage?account=" + tree + "&month=" + month + "&measure=token", rows: 2},
		{key: "sta_tree", name: "sta-usage, tree, one month", query: "sta-usage?account=" + tree + "&month=" + month + "&scope=tree&view=export", export: true, rows: n},
		{key: "sta_tree_range", name: "sta-usage, tree, 11 months", query: "sta-usage?account=" + tree + "&from=" + from + "&to=" + month + "&scope=tree&view=export", export: true, rows: n * (monthsBefore + 1)},
		{key: "sta_summary", name: "sta-monthly-summary, 11 months", query: "sta-monthly-summary?account=" + tree + "&from=" + from + "&to=" + month, export: true, rows: 2},
		{key: "tenant_usage", name: "tenant-usage, all tenants", query: "tenant-usage?account=" + tree + "&from=" + first + "&to=" + last, export: true, rows: n - 1},
		{key: "tenant_usage_api", name: "tenant-usage-api, one tenant by day", query: "tenant-usage-api?tenant=" + treeAccount(7) + "&usage_type=USERS&aggregation=DAILY&from=" + first + "&to=" + last, rows: 28},
		{key: "asset_detail", name: "asset-usage-detail, one tenant", query: "asset-usage-detail?tenant=" + assetAccount(7) + "&month=" + month, export: true, rows: 28},
		{key: "asset_costs", name: "asset-monthly-costs", query: "asset-monthly-costs?organization=" + organization + "&month=" + month, export: true, rows: n},
		{key: "asset_adjustments", name: "asset-adjustments", query: "asset-adjustments?organization=" + organization + "&processing_month=" + time.Now().UTC().Format("2006-01")},
		{key: "elastic", name: "elastic-usage", query: "elastic-usage?from=" + first + "T00:00:00Z", export: true, rows: n * operationsEach},
		{key: "subscriptions", name: "subscriptions", query: "subscriptions?partner=" + partner, export: true, rows: n},
		{key: "transactions", name: "transactions", query: "transactions?partner=" + partner, export: true, rows: n},
		{key: "certificates", name: "certificate-usage", query: "certificate-usage?partner=" + partner + "&expand=type", export: true, rows: n},
		{key: "monthly_usage", name: "monthly-usage", query: "monthly-usage?month=" + month, export: true, rows: n * int64(len(meters))},
	}
}

func (m *onReports) measure(ctx context.Context, dir string) (err error) {
	store, err := m.control(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if m.key, err = newKey(ctx, store, populationTenant, "usage:read", "reports:read", "months:close"); err != nil {
		return err
	}
	if err := m.settled(ctx); err != nil {
		return err
	}
	if err := m.quiet(ctx, quietWait); err != nil {
		return err
	}
	if m.stored, err = m.number(ctx, `SELECT toInt64(sum(stored)) FROM countinghouse.ledger`); err != nil {
		return err
	}
	fmt.Fprintf(m.out, "reports of %d accounts over %d stored events:\n", m.info.Accounts, m.stored)
	m.asked = m.questions()
	for _, q := range m.asked {
		if err := m.ask(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
	}
	if m.info.CloseSeconds == 0 {
		took, cpu, v, err := m.closeMonth(ctx)
		if err != nil {
			return err
		}
		m.info.CloseSeconds, m.info.CloseCPU, m.info.CloseRows = took, cpu, v.Rows
		fmt.Fprintf(m.out, "  close of %s: %d rows, %.1f s, %.2f CPU-s\n", m.info.Month, v.Rows, took, cpu)
		if err := m.info.save(dir); err != nil {
			return err
		}
	}
	_, _, v, err := m.closeMonth(ctx)
	if err != nil {
		return err
	}
	return m.restate(ctx, v.Version)
}

// ask asks for the first page some times, and once for the whole.
func (m *onReports) ask(ctx context.Context, q *asking) error {
	for turn := range reportTurns + 1 {
		took, cpu, rows, err := m.jsonPage(ctx, q.query)
		if errors.Is(err, errTooLong) {
			took, rows, err = askMax, q.rows, nil
		}
		if err != nil {
			return err
		}
		if rows < min(q.rows, pageRows) {
			return fmt.Errorf("%d rows on the first page, want %d", rows, min(q.rows, pageRows))
		}
		if turn == 0 {
			q.first, q.firstCPU = took, cpu
			continue
		}
		q.page, q.pageCPU = append(q.page, took), cpu
	}
	if q.export {
		err := m.exported(ctx, q)
		if errors.Is(err, errTooLong) {
			q.whole, err = askMax, nil
		}
		if err != nil {
			return err
		}
		if q.wholeRows < q.rows && q.whole != askMax {
			return fmt.Errorf("%d rows exported, want %d", q.wholeRows, q.rows)
		}
	}
	fmt.Fprintf(m.out, "  %-36s first page %7.0f ms (%.2f CPU-s), again %6.0f ms (%.2f)", q.name, ms(q.first), q.firstCPU, ms(q.pageMedian()), q.pageCPU)
	if q.export {
		fmt.Fprintf(m.out, "; whole %6.2f s, %d rows, %.0f rows/s, %.2f CPU-s, reporter +%.0f MiB", q.whole.Seconds(), q.wholeRows, q.rate(), q.wholeCPU, q.growth)
	}
	fmt.Fprintln(m.out)
	return nil
}

func (q *asking) pageMedian() time.Duration {
	return quantile(slices.Sorted(slices.Values(q.page)), 0.5)
}
func (q *asking) rate() float64 { return float64(q.wholeRows) / q.whole.Seconds() }

// errTooLong is a question that ClickHouse was stopped at: its figure is then askMax, as on a machine that does other work.
var errTooLong = errors.New("no answer in 30 s")

// get asks the reporter; the body is read by read.
func (m *onReports) get(ctx context.Context, path string, read func(io.Reader) error) (time.Duration, float64, error) {
	ctx, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.endpoints.Reporter+"/api/v1/reports/"+path, nil)
	if err != nil {
		return 0, 0, err
	}
	return m.timed(req, read)
}

// timed is what an answer took: time, and CPU of reporter and ClickHouse.
func (m *onReports) timed(req *http.Request, read func(io.Reader) error) (time.Duration, float64, error) {
	req.Header.Set("Authorization", "Bearer "+m.key)
	before, err := m.bill()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	if resp.StatusCode == http.StatusUnprocessableEntity {
		after, err := m.bill()
		cpu := since(before, after)
		return askMax, round(cpu[stack.PartReporter]+cpu[stack.PartClickHouse], 2), errors.Join(errTooLong, err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return 0, 0, fmt.Errorf("the reporter answered %s to %s: %s", resp.Status, req.URL.Path, text)
	}
	if err := read(resp.Body); err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	after, err := m.bill()
	if err != nil {
		return 0, 0, err
	}
	cpu := since(before, after)
	return took, round(cpu[stack.PartReporter]+cpu[stack.PartClickHouse], 2), nil
}

func (m *onReports) jsonPage(ctx context.Context, query string) (took time.Duration, cpu float64, rows int64, err error) {
	var answer struct {
		Rows   []json.RawMessage `json:"rows"`
		Months []json.RawMessage `json:"months"` // of sta-monthly-summary
	}
	took, cpu, err = m.get(ctx, query, func(body io.Reader) error { return json.NewDecoder(body).Decode(&answer) })
	return took, cpu, int64(max(len(answer.Rows), len(answer.Months))), err
}

// exported reads the whole report as CSV and looks at the reporter's memory.
func (m *onReports) exported(ctx context.Context, q *asking) error {
	pid := m.endpoints.PIDs[stack.PartReporter]
	m.forgetPeaks()
	before, err := spentBy(pid)
	if err != nil {
		return err
	}
	q.whole, q.wholeCPU, err = m.get(ctx, q.query+"&format=csv", func(body io.Reader) error {
		in := bufio.NewReaderSize(body, 1<<20)
		for {
			_, err := in.ReadSlice('\n')
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			q.wholeRows++
		}
	})
	if err != nil {
		return err
	}
	q.wholeRows-- // the header
	after, err := spentBy(pid)
	q.growth = round(float64(after.peak-before.peak)/(1<<20), 0)
	return err
}

// version is what a close answers.
type version struct {
	Version int   `json:"version"`
	Rows    int64 `json:"rows"`
}

func (m *onReports) closeMonth(ctx context.Context) (seconds, cpu float64, v version, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.endpoints.Reporter+"/api/v1/months/"+m.info.Month+"/close", bytes.NewReader([]byte("{}")))
	if err != nil {
		return 0, 0, v, err
	}
	req.Header.Set("Content-Type", "application/json")
	took, cpu, err := m.timed(req, func(body io.Reader) error { return json.NewDecoder(body).Decode(&v) })
	return round(took.Seconds(), 2), cpu, v, err
}

// restate sends one late event of the month and closes it again: the whole month is computed anew, compared with its
// last version and stored. `up` may come first, it restates by itself; the answer is then its version.
func (m *onReports) restate(ctx context.Context, known int) error {
	p, err := newPublisher(m.endpoints.NATS)
	if err != nil {
		return err
	}
	defer p.close()
	_, population, err := readPopulation(m.dir, m.info.Accounts)
	if err != nil {
		return err
	}
	e := population.metered(0)
	id := splitmix(time.Now().UnixNano())
	e.Source, e.ID = "/population/late", uuidText(id.next(), id.next())
	data, err := eventlog.EncodeChunk(nil, &eventlog.Chunk{AcceptedAt: usage.AtTime(time.Now()), Backfill: true, Events: []usage.Event{e}})
	if err != nil {
		return err
	}
	if err := errors.Join(p.send(populationTenant, eventlog.KindChunk, "", data), p.wait(ctx)); err != nil {
		return err
	}
	if err := m.settled(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	for { // the log's clock has to pass the event first: until then a close answers what is there
		var v version
		if m.restateSeconds, m.restateCPU, v, err = m.closeMonth(ctx); err != nil || v.Version > known {
			fmt.Fprintf(m.out, "  … version %d after a late event: %.1f s, %.2f CPU-s\n", v.Version, m.restateSeconds, m.restateCPU)
			return err
		}
		if !pause(ctx, restatePoll) {
			return fmt.Errorf("no version after %d in %s", known, reportWait)
		}
	}
}

func (m *onReports) figures() []figure {
	list := []figure{
		{"events", "stored events", float64(m.stored), "%.0f", target{}},
		{"accounts", "accounts of each kind", float64(m.info.Accounts), "%.0f", target{}},
	}
	for _, q := range m.asked {
		list = append(list,
			figure{q.key + "_first_ms", q.name + ": first page, asked for the first time, ms", ms(q.first), "%.0f", atMost(wholeMax * 1000)},
			figure{q.key + "_first_cpu_s", "… CPU-s", q.firstCPU, "%.2f", target{}},
			figure{q.key + "_page_ms", "… again, ms", ms(q.pageMedian()), "%.0f", atMost(pageMax)},
			figure{q.key + "_page_cpu_s", "… CPU-s", q.pageCPU, "%.2f", target{}})
		if !q.export {
			continue
		}
		list = append(list,
			figure{q.key + "_csv_s", "… the whole as CSV, s", round(q.whole.Seconds(), 2), "%.2f", target{}},
			figure{q.key + "_csv_rows", "… rows", float64(q.wholeRows), "%.0f", target{}},
			figure{q.key + "_csv_cpu_s", "… CPU-s", q.wholeCPU, "%.2f", target{}},
			figure{q.key + "_csv_growth_mib", "… MiB that the reporter's peak grew", q.growth, "%.0f", atMost(exportGrowth)})
		if q.wholeRows >= exportRate {
			list = append(list, figure{q.key + "_csv_rows_per_s", "… rows/s", round(q.rate(), 0), "%.0f", atLeast(exportRate)})
		} else {
			list[len(list)-4].target = atMost(wholeMax)
		}
	}
	return append(list,
		figure{"close_s", "close of the month, s", m.info.CloseSeconds, "%.1f", atMost(closeMax)},
		figure{"close_cpu_s", "… CPU-s", m.info.CloseCPU, "%.1f", target{}},
		figure{"close_rows", "… rows", float64(m.info.CloseRows), "%.0f", target{}},
		figure{"restate_s", "a new version after one late event, s", m.restateSeconds, "%.1f", atMost(closeMax)},
		figure{"restate_cpu_s", "… CPU-s", m.restateCPU, "%.1f", target{}})
}
