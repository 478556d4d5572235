package report_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

// keptSteps is how often something happens before all is asked again.
const keptSteps = 16

// Numbers that are kept between questions are those that somebody without any would count: whatever happens, late,
// twice in one instant or voided, and whichever state of the log is asked for.
func TestKeptNumbersAreThoseOfTheLog(t *testing.T) {
	b := setUp(t)
	random := rand.New(rand.NewPCG(5, 16))
	const tenant = "kept"
	now := month.UnixMilli()
	var ids []string
	voided := map[string]bool{}
	add := func(typ, account string, at int64, data string) {
		now += 1 + random.Int64N(5000)
		id := fmt.Sprint("k", len(ids))
		doc := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"s","type":%q,"subject":%q,"time":%q,"data":%s}`, id, typ, account, rfc(at), data)
		if err := b.Add(tenant, now, doc); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	start := month.AddDate(0, -1, 0).UnixMilli()
	add("meter.defined", "a0", start, `{"meter":"user_hours","meter_id":"m","element":"user","unit":"hours","aggregation":"sum","scale":6,"kind":"secure_connect","service":"secure-connect"}`)
	add("price.set", "a0", start, `{"meter":"user_hours","region":"*","currency":"EUR","effective_from":"2026-01-01T00:00:00Z","tiers":[{"from":0,"unit_price":"0.012"}]}`)
	for i := range 4 {
		add("account.created", fmt.Sprint("a", i), start, fmt.Sprintf(`{"name":"n%d","kind":"provider","currency":"EUR","parent_account_id":%q}`, i, []string{"", "a0", "a0", "a1"}[i]))
		add("service.plan_set", fmt.Sprint("a", i), start, `{"service":"sta","plan":"STA"}`)
		add("asset.registered", fmt.Sprint("a", i), start, `{"asset_id":"x","asset_name":"X","asset_type":"USER"}`)
		add("subscription.ordered", fmt.Sprint("a", i), start, fmt.Sprintf(`{"transaction_id":"T","subscription_id":"S%d","name":"S","products":["P"],"items":[{"cert_type":"SSL","product":"P","quantity":"9","unit_price":"1"}],`+
			`"term_months":12,"cost":"9","currency":"EUR","start":"2026-01-01T00:00:00Z","end":"2027-01-01T00:00:00Z","actor":{"id":"ann"},"auto_renew":true}`, i))
	}
	// Few instants and few names, so that much is said of the same in the same instant.
	at := func() int64 {
		if random.IntN(5) == 0 { // late by months
			return month.AddDate(0, -3, 0).Add(time.Duration(random.IntN(20)) * 72 * time.Hour).UnixMilli()
		}
		return month.AddDate(0, -1, 0).Add(time.Duration(random.IntN(40)) * 36 * time.Hour).UnixMilli()
	}
	account := func() string { return fmt.Sprint("a", random.IntN(4)) }
	user := func() string { return fmt.Sprint("u", random.IntN(3)) }
	happen := func() {
		switch random.IntN(14) {
		case 0, 1:
			add("user.registered", account(), at(), fmt.Sprintf(`{"user_id":%q}`, user()))
		case 2:
			add("user.removed", account(), at(), fmt.Sprintf(`{"user_id":%q}`, user()))
		case 3:
			add("user.status_set", account(), at(), fmt.Sprintf(`{"user_id":%q,"status":%q}`, user(), []string{"ACTIVE", "INACTIVE"}[random.IntN(2)]))
		case 4:
			add("token.state_set", account(), at(), fmt.Sprintf(`{"token_id":"t%d","user_id":%q,"state":%q}`, random.IntN(3), user(), []string{"active", "suspended"}[random.IntN(2)]))
		case 5:
			add("user.activity", account(), at(), fmt.Sprintf(`{"user_id":%q,"kind":"login","result":"success"}`, user()))
		case 6:
			begin := at()
			add("usage.metered", account(), begin, fmt.Sprintf(`{"meter":"user_hours","quantity":"%d.5","asset":{"id":"x"},"region":"EU","start":%q,"end":%q}`,
				random.IntN(9), rfc(begin), rfc(begin+random.Int64N(40*3_600_000)+1)))
		case 7:
			add("asset.trial_set", account(), at(), fmt.Sprintf(`{"asset_id":"x","trial_expiry":%q}`, rfc(at())))
		case 8:
			add("account.renamed", account(), at(), fmt.Sprintf(`{"name":"r%d"}`, random.IntN(50)))
		case 9:
			add("account.reparented", fmt.Sprint("a", 2+random.IntN(2)), at(), fmt.Sprintf(`{"new_parent_account_id":"a%d"}`, random.IntN(2)))
		case 10:
			add("certificate.issued", account(), at(), fmt.Sprintf(`{"certificate_id":"c%d","subscription_id":"S%d","cert_type":"SSL","product":"P"}`, random.IntN(9), random.IntN(4)))
		case 11:
			add("certificate.revoked", account(), at(), fmt.Sprintf(`{"certificate_id":"c%d","subscription_id":"S%d"}`, random.IntN(9), random.IntN(4)))
		case 12, 13:
			id := ids[random.IntN(len(ids))]
			if voided[id] {
				return
			}
			now, voided[id] = now+10, true
			if err := b.Void(tenant, now, "s", id); err != nil {
				t.Fatal(err)
			}
		}
	}
	questions := []report.Query{
		{Report: "sta-usage", Values: map[string]string{"account": "a0", "month": "2026-03", "measure": "token"}},
		{Report: "sta-usage", Values: map[string]string{"account": "a0", "from": "2026-01", "to": "2026-03", "scope": "tree", "view": "export"}},
		{Report: "sta-usage", Values: map[string]string{"account": "a0", "from": "2025-11", "to": "2026-03", "scope": "tree", "view": "export"}},
		{Report: "sta-monthly-summary", Values: map[string]string{"account": "a0", "from": "2025-12", "to": "2026-03"}},
		{Report: "asset-usage-detail", Values: map[string]string{"tenant": "a1", "month": "2026-03"}},
		{Report: "tenant-usage", Values: map[string]string{"account": "a0", "from": "2026-03-01", "to": "2026-03-20"}},
		{Report: "asset-monthly-costs", Values: map[string]string{"organization": "a0", "month": "2026-03"}},
		{Report: "certificate-usage", Values: map[string]string{"partner": "a0", "expand": "type"}},
		{Report: "certificate-usage", Values: map[string]string{"partner": "a1"}},
		{Report: "monthly-usage", Values: map[string]string{"month": "2026-03"}},
		{Report: "monthly-usage", Values: map[string]string{"month": "2026-03", "group_by": "plan"}},
	}
	var earlier []pagesLeft
	much := func() {
		for range keptSteps {
			happen()
		}
	}
	end := month.Add(-time.Millisecond).UnixMilli() // of a month that is asked for
	for _, round := range []func(){
		much,
		func() { add("account.renamed", "a1", end, `{"name":"another"}`) }, // of the users, nothing changes
		much,
		func() { add("account.reparented", "a3", end-1, `{"new_parent_account_id":"a2"}`) },
	} {
		round()
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		fresh := b
		fresh.reports = report.New(b.W, func() time.Time { return next.Add(24 * time.Hour) })
		for _, left := range earlier {
			for _, reports := range []*report.Reports{b.reports, fresh.reports} {
				if have := left.rest(t, reports); have != left.want {
					t.Fatalf("%s %v: pages after something else happened:\n%s\nbefore:\n%s", left.q.Report, left.q.Values, have, left.want)
				}
			}
		}
		earlier = nil
		for _, asOf := range []int64{directory.Latest, month.UnixMilli() + (now-month.UnixMilli())/2} {
			for _, q := range questions {
				q.Tenant, q.AsOf = tenant, asOf
				if have, want := b.ask(t, q), fresh.ask(t, q); have != want {
					t.Fatalf("%s %v as of %d: kept:\n%s\nwithout:\n%s", q.Report, q.Values, asOf, have, want)
				}
				earlier = append(earlier, firstPage(t, b.reports, q))
			}
		}
	}
}

// pagesLeft are the pages of an answer after its first one.
type pagesLeft struct {
	q    report.Query
	next *report.Place
	want string
}

// firstPage reads one page, and what the others say now. Rows that are ahead of their cut are of no other moment, so a
// question about the watermark is asked of the state that its first page was about.
func firstPage(t *testing.T, reports *report.Reports, q report.Query) pagesLeft {
	t.Helper()
	page, err := reports.Page(t.Context(), q, nil, 2)
	if err != nil {
		t.Fatal(err)
	}
	left := pagesLeft{q: q, next: page.Next}
	if left.next != nil && left.next.Loose {
		left.next = nil
	}
	left.want = left.rest(t, reports)
	return left
}

func (p pagesLeft) rest(t *testing.T, reports *report.Reports) string {
	t.Helper()
	var out strings.Builder
	for at := p.next; at != nil; {
		page, err := reports.Page(t.Context(), p.q, at, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range page.Rows {
			fmt.Fprintln(&out, strings.Join(row, ","))
		}
		at = page.Next
	}
	return out.String()
}
