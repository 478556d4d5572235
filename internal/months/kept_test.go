package months_test

import (
	"fmt"
	"testing"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

// Answers about now are kept as long as nothing happens. Whatever does, an event, a void, a plan, another parent, a close,
// the next answer is that of somebody who keeps none, and differs from the one before.
func TestWhatHappensChangesWhatIsKept(t *testing.T) {
	t.Parallel()
	h := open(t)
	k, _, _ := h.keeper("1", byHand())
	entry := func(id, typ, account, at, data string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"s","type":%q,"subject":%q,"time":%q,"data":%s}`, id, typ, account, at, data)
	}
	const january, asked = "2026-01-05T00:00:00Z", "2026-01"
	h.add(january,
		entry("d1", "account.created", "top", january, `{"name":"Top","kind":"provider"}`),
		entry("d2", "account.created", "a", january, `{"name":"A","kind":"customer"}`),
		entry("d3", "meter.defined", "meters", january, `{"meter":"people","meter_id":"m","element":"user","unit":"user","aggregation":"unique","scale":0,"kind":"usage"}`),
		tokens("1", "a", "2026-01-10T00:00:00Z", "1.5"))
	ask := func(reports *report.Reports) string {
		t.Helper()
		ctx, text := report.OneLook(t.Context()), ""
		for _, values := range []map[string]string{{"month": asked, "group_by": "account,plan"}, {"month": asked}} {
			result, err := reports.Run(ctx, report.Query{Tenant: h.tenant, Report: "monthly-usage", Values: values, AsOf: directory.Latest})
			if err != nil {
				t.Fatal(err)
			}
			for row, err := range result.Rows {
				if err != nil {
					t.Fatal(err)
				}
				text += fmt.Sprintln(row)
			}
		}
		for _, meter := range []string{"tokens", "people"} {
			u, err := reports.MeterUsage(ctx, report.UsageQuery{
				Tenant: h.tenant, Meter: meter, From: month(t, asked).Start().Millis(), To: month(t, asked).End().Millis(), Window: "day", GroupBy: []string{"plan"}, AsOf: directory.Latest,
			})
			if err != nil {
				t.Fatal(err)
			}
			text += fmt.Sprintln(u.Rows)
		}
		return text
	}
	before := ask(h.reports)
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"an event", func() { h.add("2026-02-01T00:00:00Z", tokens("2", "a", "2026-01-11T00:00:00Z", "2")) }},
		{"a plan", func() {
			h.add("2026-02-01T01:00:00Z", entry("d4", "service.plan_set", "a", "2026-01-10T12:20:00Z", `{"service":"sta","plan":"STA"}`))
		}},
		{"another parent", func() {
			h.add("2026-02-01T02:00:00Z", entry("d5", "account.reparented", "a", january, `{"new_parent_account_id":"top"}`))
		}},
		{"somebody", func() {
			h.add("2026-02-01T03:00:00Z", entry("3", "usage.metered", "a", "2026-01-12T00:00:00Z", `{"meter":"people","quantity":"1","consumer":{"type":"user","id":"u"}}`))
		}},
		{"a void", func() {
			if err := h.world.Void(h.tenant, ms(t, "2026-02-01T04:00:00Z"), "s", "2"); err != nil {
				t.Fatal(err)
			}
			h.add("2026-02-04T00:00:01Z", tokens("4", "a", "2026-02-01T00:00:00Z", "9"))
		}},
		{"a close", func() { h.close(k, asked) }},
		{"a late event", func() { h.add("2026-02-04T00:00:02Z", tokens("5", "a", "2026-01-20T00:00:00Z", "3")) }},
	} {
		step.do()
		now := ask(h.reports)
		if want := ask(report.New(h.servers.Reader(), h.now)); now != want {
			t.Errorf("after %s:\n%swant\n%s", step.what, now, want)
		}
		if now == before {
			t.Errorf("%s changed nothing:\n%s", step.what, now)
		}
		if again := ask(h.reports); again != now {
			t.Errorf("after %s, again:\n%swant\n%s", step.what, again, now)
		}
		before = now
	}
}
