package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/stack"
)

// What the pages promise: server time, p95 of what is asked again and again.
const (
	demoPageMax  = 100 // ms, on the sample data
	storePageMax = 500 // ms, over the large store
	pageTurns    = 20
	pageLongest  = time.Minute
)

// pages measures every page that the menu leads to, and those with the most numbers, on the sample data.
func pages(ctx context.Context, o options, out io.Writer) (err error) {
	rec := newRecord(ctx, "pages")
	s := &system{dir: o.dir, keep: o.keep || o.dir != "", more: []string{"--demo"}}
	if err := s.open(ctx, o, out); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	m := &onPages{system: s, out: out, most: demoPageMax}
	if s.endpoints.Operator == nil {
		return errors.New("pages: the stack has no sample data; start it with up --demo")
	}
	if err := m.settled(ctx); err != nil {
		return err
	}
	if err := m.walk(ctx, "", s.endpoints.Operator.Login, s.endpoints.Operator.Password); err != nil {
		return err
	}
	if err := m.paint(ctx, s.endpoints.Operator.Login, s.endpoints.Operator.Password); err != nil {
		fmt.Fprintln(out, "  first paint is not measured:", err) // the other figures stand
	}
	return rec.finish(o, m.figures(), out)
}

// storePages measures the same over the large store: of a tenant of its load, and of the one with very many accounts.
func storePages(ctx context.Context, o options, out io.Writer) (err error) {
	rec := newRecord(ctx, "pages-store")
	if _, err := readFilled(o.store); err != nil {
		return err
	}
	s, err := openStore(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.settled(ctx); err != nil {
		return err
	}
	m := &onPages{system: s, out: out, most: storePageMax}
	for _, tenant := range []string{tenantName(0), populationTenant} {
		if err := m.visitor(ctx, tenant); err != nil {
			return err
		}
	}
	return rec.finish(o, m.figures(), out)
}

// onPages is what was found.
type onPages struct {
	*system
	out    io.Writer
	most   float64 // ms
	visits []*visited
	paints []*painted
}

// visited is a page and what its answers took.
type visited struct {
	name  string // tenant and address
	first time.Duration
	again []time.Duration
	cpu   float64 // ms a visit: reporter and ClickHouse
}

// addresses are the pages; month is the last one that is over.
func addresses(month string) []string {
	return []string{
		"/", "/usage", "/usage?month=12-months", "/usage?group=region", "/usage?window=hour", "/sta", "/tenants", "/monthly", "/connect", "/connect/costs",
		"/elastic", "/partners", "/months", "/months/" + month, "/explain", "/dead-letters", "/health", "/archive", "/schedules", "/roles", "/operators",
		"/keys", "/audit-log",
	}
}

// visitor makes an operator of a tenant, walks as them, and disables them again.
func (m *onPages) visitor(ctx context.Context, tenant string) (err error) {
	store, err := m.control(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	key, err := newKey(ctx, store, tenant, "admin")
	if err != nil {
		return err
	}
	id := splitmix(time.Now().UnixNano())
	login, password := "bench-"+uuidText(id.next(), id.next()), uuidText(id.next(), id.next())
	body := map[string]any{"login": login, "name": "Bench", "password": password, "grants": []map[string]string{{"role": access.SuperAdministrator}, {"role": access.AccountManager}}}
	var made struct{ ID string }
	if err := m.post(ctx, key, "/operators", body, &made); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, m.post(context.WithoutCancel(ctx), key, "/operators/"+made.ID+"/disable", map[string]any{}, nil))
	}()
	return m.walk(ctx, tenant, login, password)
}

func (m *onPages) post(ctx context.Context, key, path string, body, into any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.endpoints.Reporter+"/api/v1"+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= http.StatusBadRequest {
		return errors.Join(err, fmt.Errorf("POST %s: %s: %.300s", path, resp.Status, text))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// walk signs in and asks for every page, first once, then again and again.
func (m *onPages) walk(ctx context.Context, tenant, login, password string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	client := &http.Client{Jar: jar, Timeout: pageLongest}
	form := url.Values{"login": {login}, "password": {password}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.endpoints.Reporter+"/sign-in", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path == "/sign-in" {
		return fmt.Errorf("sign in as %s: %s at %s", login, resp.Status, resp.Request.URL.Path)
	}
	now := time.Now().UTC()
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC).AddDate(0, -1, 0).Format("2006-01")
	for _, address := range addresses(month) {
		one := &visited{name: strings.TrimSpace(tenant + " " + strings.Replace(address, month, "{month}", 1))}
		if err := m.visit(ctx, client, address, one); err != nil {
			return err
		}
		m.visits = append(m.visits, one)
		sorted := slices.Sorted(slices.Values(one.again))
		fmt.Fprintf(m.out, "  %-46s first %7.1f   p50 %7.1f   p95 %7.1f ms   CPU %6.1f ms\n",
			one.name, ms(one.first), ms(quantile(sorted, 0.5)), ms(quantile(sorted, 0.95)), one.cpu)
	}
	return nil
}

func (m *onPages) visit(ctx context.Context, client *http.Client, address string, one *visited) error {
	var before bill
	for turn := range pageTurns + 1 {
		if turn == 1 {
			var err error
			if before, err = m.bill(); err != nil {
				return err
			}
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.endpoints.Reporter+address, nil)
		if err != nil {
			return err
		}
		began := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return errors.Join(err, fmt.Errorf("%s: %s", address, resp.Status))
		}
		if turn == 0 {
			one.first = time.Since(began)
		} else {
			one.again = append(one.again, time.Since(began))
		}
	}
	after, err := m.bill()
	if err != nil {
		return err
	}
	cpu := since(before, after)
	one.cpu = round((cpu[stack.PartReporter]+cpu[stack.PartClickHouse])*1000/pageTurns, 1)
	return nil
}

// figures are the spread over all visits, and what each page took.
func (m *onPages) figures() []figure {
	var all []time.Duration
	for _, one := range m.visits {
		all = append(all, one.again...)
	}
	slices.Sort(all)
	list := []figure{
		{"p50_ms", "all pages, p50 ms", ms(quantile(all, 0.5)), "%.0f", target{}},
		{"p95_ms", "all pages, p95 ms", ms(quantile(all, 0.95)), "%.0f", atMost(m.most)},
	}
	key := strings.NewReplacer("/", "_", "?", "_", "=", "_", " ", "_", "{", "", "}", "", "-", "_")
	for _, one := range m.visits {
		sorted, name := slices.Sorted(slices.Values(one.again)), strings.Trim(key.Replace(one.name), "_")
		if name == "" {
			name = "home"
		}
		list = append(list,
			figure{name + "_first_ms", one.name + ": first, ms", ms(one.first), "%.0f", target{}},
			figure{name + "_p50_ms", "… p50 ms", ms(quantile(sorted, 0.5)), "%.0f", target{}},
			figure{name + "_p95_ms", "… p95 ms", ms(quantile(sorted, 0.95)), "%.0f", atMost(m.most)},
			figure{name + "_cpu_ms", "… CPU of reporter and ClickHouse, ms", one.cpu, "%.1f", target{}})
	}
	return append(list, m.paintFigures()...)
}
