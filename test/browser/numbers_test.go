package browser_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// plainNumbers are those that no explanation is for, by page or table and column, and why.
func plainNumbers() map[string]string {
	return map[string]string{
		// Counts of what the row's own link lists, or explains.
		"Months and their states / Events": "the row leads to the month", "Roles / Entities": "the row leads to the role", "Organizations / Tenants": "the row leads to the organization",
		"Tenants of Northwind Group / Users entitled": "the row leads to the tenant's report, where it is explained",
		"Figures that differ / *":                     "of a measure or a cost: the row leads to the adjustments, where it is explained",
		"By item / *":                                 "the page says why", "Events behind the difference / Quantity": "the event's own: the row leads to it",
		// Totals under a table: sums of the rows above, each of which is explained.
		"Monthly costs / Cost": "per currency, of the rows",
		// What the system counts about itself, which is no usage.
		"Ledger by month of recording / *": "rows of the ledger, which the certificate proves", "Shards of the log / *": "positions of the log", "Audit log / Number": "the entry's own",
		"GET /health / tile": "about the system", "Dead letters / Bytes": "size of the event", "Versions / *": "of the version, with its hash", "Report archive / Rows": "of the file",
		"Control totals / Sum": "of the file's column", "Mails / Tries": "of a mail", "Runs / Rows": "of the file", "Deliveries / Times": "of one event",
		// Pages that are an explanation.
		"GET /explain / *": "is the explanation", "GET /event / *": "is the event behind a number",
		// What is calculated from two numbers beside it.
		"Line-item balances / Quantity": "as the line item's newest event says", "Line-item balances / Remaining": "quantity less used", "Line-item balances / Overage": "used beyond quantity",
		"GET /elastic/balances / *": "as the table below says",
	}
}

// numbers notes which numbers of the page that is open lead nowhere without a reason.
func (b *tab) numbers(name string) {
	b.Helper()
	plain := plainNumbers()
	for _, number := range eval[[]string](b, unlinked) {
		table, _, _ := strings.Cut(number, " / ")
		if plain[number] == "" && plain[table+" / *"] == "" && plain[name+" / *"] == "" && plain[name+" / "+table] == "" {
			b.Errorf("%s: %s leads nowhere, and is not among those of which it is said why", name, number)
		}
	}
}

const unlinked = `(() => {
	const all = [];
	for (const td of document.querySelectorAll("main td.n")) {
		if (td.querySelector("a") || !/\d/.test(td.innerText)) continue;
		const table = td.closest("table"), frame = td.closest(".sheet");
		const title = table.querySelectorAll("thead th, thead td")[td.cellIndex].innerText;
		all.push((frame ? frame.getAttribute("aria-label") : "") + " / " + title);
	}
	for (const v of document.querySelectorAll("main .tile .value")) {
		if (!v.querySelector("a") && /\d/.test(v.innerText)) all.push("tile / " + v.parentElement.querySelector(".label").innerText.trim());
	}
	return [...new Set(all)];
})()`

const explanations = `(() => {
	const first = {};
	for (const a of document.querySelectorAll('main td.n a[href^="/explain?"], main .tile .value a[href^="/explain?"]')) {
		const td = a.closest("td");
		const of = td ? td.closest("table").querySelectorAll("thead th, thead td")[td.cellIndex].innerText : a.closest(".tile").querySelector(".label").innerText;
		first[of] ??= a.getAttribute("href");
	}
	return first;
})()`

// TestEveryNumberIsExplained looks at pages full of numbers; TestPages does the same with every page there is. Each number
// of a table, and each figure that stands out, leads to where it comes from, but for a short list; and where it leads the
// same number is computed again from events.
func TestEveryNumberIsExplained(t *testing.T) {
	last := time.Now().UTC().AddDate(0, 0, -40).Format("2006-01")
	paths := []string{
		"/", "/usage?meter=tokens&account=northwind&month=" + last, "/usage?meter=tokens&month=12-months", "/usage?meter=tokens&group=region", "/usage?meter=machines&group=item", "/usage?meter=callers&window=hour",
		"/monthly?month=" + last, "/monthly?by=plan", "/tenants/usage?account=northwind&tenants=all&period=last_month", "/sta?measure=registered", "/elastic?from=", "/connect/costs?from=" + last,
		"/partners/view?type=transactions", "/months/" + last + "/adjustments", "/months/" + last + "/changes",
	}
	b, client := open(t), session(t)
	asked := map[string]bool{}
	for _, path := range paths {
		b.visit(path)
		b.numbers(path)
		for column, href := range eval[map[string]string](b, explanations) {
			to, err := url.Parse(href)
			if err != nil {
				t.Fatal(err)
			}
			kind := column + " " + to.Query().Get("report") + " " + to.Query().Get("measure")
			if asked[kind] {
				continue
			}
			asked[kind] = true
			if status, _, body := read(t, client, href); status != http.StatusOK || !strings.Contains(string(body), "Equal to the last digit.") {
				t.Errorf("%s: %s leads to %s: %d", path, column, href, status)
			}
		}
	}
	if len(asked) < 20 {
		t.Errorf("only %d kinds of numbers were followed", len(asked))
	}
	t.Logf("%d kinds of numbers lead to the events they are made of; %d kinds lead nowhere, with a reason", len(asked), len(plainNumbers()))
}
