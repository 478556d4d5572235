package browser_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/reporter/web"
)

// found is an address of a page, as a link of another page has it.
type found struct {
	path string
	file bool // a download: nothing to look at
}

var linked = regexp.MustCompile(`(?:href|action)="(/[^"]*)"`)

// atlas is one address for every page of the site, by pattern: found by following links from the first page, as a
// person would. It also answers how long the server took for each answer.
func atlas(t *testing.T, seeds []string) (map[string]found, []time.Duration) {
	t.Helper()
	client := session(t)
	mux := http.NewServeMux()
	for _, page := range web.Table() {
		if strings.HasPrefix(page.Pattern, "GET ") {
			mux.HandleFunc(page.Pattern, func(http.ResponseWriter, *http.Request) {})
		}
	}
	pages, took := map[string]found{}, []time.Duration{}
	for todo := seeds; len(todo) > 0; todo = todo[1:] {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shared.reporter+todo[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		_, pattern := mux.Handler(req)
		if _, seen := pages[pattern]; seen || pattern == "" {
			continue
		}
		begun := time.Now()
		status, header, body := read(t, client, todo[0])
		took = append(took, time.Since(begun))
		if status != http.StatusOK {
			t.Errorf("%s (%s): %d", todo[0], pattern, status)
		}
		file := header.Get("Content-Disposition") != ""
		pages[pattern] = found{todo[0], file}
		if file {
			continue
		}
		for _, m := range linked.FindAllSubmatch(body, -1) {
			todo = append(todo, html.UnescapeString(string(m[1])))
		}
	}
	return pages, took
}

// somethingToSee makes what the sample data has not, so that every page has a link: a report job, a schedule that is
// disabled, a role, an operator who may not sign in any more. It answers where a walk over the pages begins: the first
// page, and what lists have too far down.
func somethingToSee(t *testing.T) (seeds []string) {
	t.Helper()
	all := map[string]string{"account": "northwind", "tenants": "all"} // a schedule sets the period itself
	last := map[string]string{"account": "northwind", "tenants": "all", "period": "last_month"}
	post := func(path string, body map[string]any) string {
		var made struct{ ID string }
		if err := shared.api(t.Context(), http.MethodPost, path, body, &made); err != nil {
			t.Errorf("%v", err)
		}
		return made.ID
	}
	job := post("/report-jobs", map[string]any{"report": "tenant-usage", "name": "Last month of all tenants", "format": "csv", "parameters": last})
	post("/schedules", map[string]any{
		"name": "Every month", "recurrence": "monthly", "report": "tenant-usage", "format": "csv", "parameters": all, "recipients": "finance@example.com", "enabled": false,
	})
	post("/roles", map[string]any{"name": reader, "description": "Looks at usage", "rights": map[string][]string{"usage": {"view"}}})
	gone := post("/operators", map[string]any{"login": "gone", "name": "Gone Elsewhere", "password": "not for long 2026", "grants": []map[string]string{{"role": reader}}})
	post("/operators/"+gone+"/disable", map[string]any{})
	err := await(t.Context(), pageWait, func() error { // a job that is not done has no link to its file
		var j struct{ State string }
		if err := shared.api(t.Context(), http.MethodGet, "/report-jobs/"+job, nil, &j); err != nil || j.State == "done" {
			return err
		}
		return fmt.Errorf("job %s is %s", job, j.State)
	})
	if err != nil {
		t.Error(err)
	}
	return []string{"/", "/roles/role?name=" + url.QueryEscape(reader), "/operators/" + gone, "/months/" + time.Now().UTC().AddDate(0, 0, -40).Format("2006-01")}
}

const reader = "Reader of usage"

// states are the pages that only something in another state has a link to, and files that a form leads to. Tests of
// their own visit them.
func states() []string {
	return []string{"GET /archive/{id}/cancel", "GET /schedules/{id}/disable", "GET /sta/file", "GET /connect/detail/file"}
}

// TestPages looks at every page there is: it has one heading, complains of nothing, keeps nobody out, says the same
// without scripts, and fits a phone.
func TestPages(t *testing.T) {
	pages, took := atlas(t, somethingToSee(t))
	for _, page := range web.Table() {
		pattern := page.Pattern
		if _, ok := pages[pattern]; !ok && strings.HasPrefix(pattern, "GET ") && !slices.Contains(states(), pattern) {
			t.Errorf("no link leads to %s", pattern)
		}
	}
	slices.Sort(took)
	t.Logf("%d pages, files among them; server time of their first answers: median %v, p95 %v, most %v",
		len(pages), took[len(took)/2], took[len(took)*95/100], took[len(took)-1])
	b := open(t)
	for _, pattern := range slices.Sorted(maps.Keys(pages)) {
		if !pages[pattern].file {
			b.look(pattern, pages[pattern].path)
		}
	}
	b.scripts(false)
	for _, pattern := range slices.Sorted(maps.Keys(pages)) {
		if !pages[pattern].file {
			b.lookWithoutScripts(pattern, pages[pattern].path)
		}
	}
}

// look is what every page must stand.
func (b *tab) look(pattern, path string) {
	b.Helper()
	b.size(1280, 900)
	if status := b.visit(path); status != http.StatusOK {
		b.Errorf("%s: status %d at %s", pattern, status, path)
	}
	if n := eval[int](b, `document.querySelectorAll("h1").length`); n != 1 {
		b.Errorf("%s: %d headings h1, want one", pattern, n)
	}
	if n := eval[int](b, `document.querySelectorAll("form[method=post]:not(:has(input[name=token]))").length`); n != 0 {
		b.Errorf("%s: %d forms without the token of the session", pattern, n)
	}
	b.numbers(pattern)
	b.accessible(pattern)
	b.size(390, 844)
	if wide := eval[int](b, `document.documentElement.scrollWidth`); wide > 390 {
		b.Errorf("%s: %d pixels wide on a phone of 390: %s", pattern, wide, eval[string](b, widest))
	}
	b.quiet(pattern)
}

// widest names what sticks out.
const widest = `[...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > 391 && !e.closest(".sheet")).slice(0, 3).map(e => e.outerHTML.slice(0, 160)).join(" | ")`

func (b *tab) lookWithoutScripts(pattern, path string) {
	b.Helper()
	b.visit(path)
	if eval[bool](b, `document.documentElement.classList.contains("js")`) {
		b.Fatal("scripts ran")
	}
	if h1, text := b.text("h1"), b.text("main"); h1 == "" || len(text) <= len(h1) {
		b.Errorf("%s: without scripts the page says %q", pattern, text)
	}
	b.quiet(pattern + " without scripts")
}

// TestSmall bounds what a browser has to load before it can do anything.
func TestSmall(t *testing.T) {
	client := session(t)
	get := func(path string) []byte {
		status, _, body := read(t, client, path)
		if status != http.StatusOK {
			t.Fatalf("%s: %d", path, status)
		}
		return body
	}
	scripts := map[string]bool{}
	for _, path := range []string{"/", "/usage", "/elastic", "/archive"} {
		for _, m := range regexp.MustCompile(`<script src="([^"]+)"`).FindAllSubmatch(get(path), -1) {
			scripts[string(m[1])] = true
		}
	}
	total := 0
	for path := range scripts {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(get(html.UnescapeString(path))) // into memory
		_ = w.Close()
		total += packed.Len()
	}
	const most = 80 << 10
	if total == 0 || total > most {
		t.Errorf("%d scripts of %d bytes packed, want at most %d", len(scripts), total, most)
	}
	t.Logf("%d scripts, %d bytes packed; the first page is %d bytes", len(scripts), total, len(get("/")))
}

// TestKeyboard goes through pages by the tabulator key: everything that can be used is reached, and is seen to be.
func TestKeyboard(t *testing.T) {
	b := open(t)
	b.size(1280, 900)
	for _, path := range []string{"/", "/usage", "/months", "/explain", "/dead-letters"} {
		b.visit(path)
		const usable = `[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")]
			.filter(e => e.checkVisibility({visibilityProperty: true}) && e.tabIndex >= 0 && !e.disabled)`
		want := eval[int](b, usable+`.length`)
		seen := map[string]bool{}
		for range want + 5 {
			b.press("\t")
			at := eval[string](b, `(e => e === document.body ? "" : String(`+usable+`.indexOf(e)) + " " + (e.matches(":focus-visible") && getComputedStyle(e).outlineStyle !== "none"))(document.activeElement)`)
			if at != "" && !strings.HasSuffix(at, " true") {
				t.Errorf("%s: nothing shows that element %s has the focus", path, at)
			}
			if at != "" && !strings.HasPrefix(at, "-1 ") {
				seen[at] = true
			}
		}
		if len(seen) != want {
			t.Errorf("%s: the tabulator key reaches %d of %d", path, len(seen), want)
		}
		if first := eval[string](b, usable+`[0].innerText`); first != "Skip to content" {
			t.Errorf("%s: the first stop is %q, want the link past the menu", path, first)
		}
	}
}

// TestF27Pages is row 27 in pages: names that are programs stay names.
func TestF27Pages(t *testing.T) {
	const evil = `<script>alert(1)</script><img src=x onerror=alert(2)>"'><svg onload=alert(3)>`
	begun := time.Now().UTC()
	source, now := "test/browser", begun.Format(time.RFC3339)
	event := func(id, kind, account string, data map[string]any) map[string]any {
		return map[string]any{"specversion": "1.0", "id": id, "source": source, "type": kind, "subject": account, "time": now, "data": data}
	}
	const long = "LlanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogochLlanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch"
	shared.send(t,
		event("inert-1", "account.created", "inert", map[string]any{"name": evil, "parent_account_id": "northwind", "kind": "customer"}),
		event("inert-2", "account.created", "long", map[string]any{"name": long, "parent_account_id": "northwind", "kind": "customer"}),
		event(evil, "usage.metered", "inert", map[string]any{"meter": evil, "quantity": "3", "consumer": map[string]any{"type": "user", "id": evil}, "region": evil}),
		event("inert-4", "usage.metered", "long", map[string]any{"meter": "tokens", "quantity": "4"}),
		event("inert-5", "usage.metered", evil, map[string]any{"meter": "tokens", "quantity": "5"}),
	)
	b := open(t)
	month := begun.Format("2006-01")
	shown := 0
	for _, path := range []string{
		"/", "/usage?meter=" + url.QueryEscape(evil), "/usage?meter=tokens&account=northwind&group=region", "/usage?meter=" + url.QueryEscape(evil) + "&group=consumer_id",
		"/event?source=" + url.QueryEscape(source) + "&id=" + url.QueryEscape(evil), "/explain?report=month-usage&month=" + month + "&account=inert&meter=" + url.QueryEscape(evil) + "&measure=quantity",
		"/tenants", "/sta", "/monthly?month=" + month, "/connect/organizations", "/dead-letters?id=" + url.QueryEscape(evil), "/months/" + month,
	} {
		b.visit(path)
		if n := eval[int](b, `document.querySelectorAll("main script:not([src]), main img, main svg[onload], main [onerror]").length`); n != 0 {
			t.Errorf("%s: %d elements came out of a name", path, n)
		}
		if strings.Contains(b.text("main"), "<script>alert(1)</script>") {
			shown++
		}
		b.size(390, 844)
		if wide := eval[int](b, `document.documentElement.scrollWidth`); wide > 390 {
			t.Errorf("%s: a long name makes the page %d pixels wide: %s", path, wide, eval[string](b, widest))
		}
		b.quiet(path)
	}
	if shown < 4 {
		t.Errorf("the name is shown on %d pages; it was not looked at", shown)
	}
	fmt.Printf("F27 PASS pages: a program as the name of meter, account, region, consumer and event stays a name on %d pages: no dialog, no report of the content security policy\n", shown)
}

// TestStrangers says what who is not signed in, or not allowed, gets.
func TestStrangers(t *testing.T) {
	b := blank(t)
	b.visit("/months?x=1")
	if where := eval[string](b, `location.pathname + location.search`); where != "/sign-in?next="+url.QueryEscape("/months?x=1") {
		t.Errorf("a stranger is sent to %s", where)
	}
	b.fill("input[name=login]", shared.login)
	b.fill("input[name=password]", shared.password)
	b.click("main form button")
	b.await("where the stranger wanted to go", `location.pathname === "/months"`)
	if status := b.visit("/no/such/page"); status != http.StatusNotFound || b.text("h1") != "Not found" {
		t.Errorf("no such page: status %d, %q", status, b.text("h1"))
	}
	if status := b.visit("/months/2026-99"); status != http.StatusNotFound {
		t.Errorf("no such month: status %d", status)
	}
	for path, want := range map[string]struct {
		status int64
		names  string // of what is allowed
	}{
		"/usage?meter=tokens&month=yesterday": {400, "12-months"}, "/usage?meter=no_such_meter": {404, "sms_credits"}, "/usage?meter=tokens&group=colour": {400, "region"},
		"/usage?meter=tokens&window=year": {400, "day"}, "/monthly?month=2026-13": {400, "YYYY-MM"}, "/dead-letters?reason=conflikt": {400, "conflict"}, "/monthly?meter=no_such_meter": {400, "sms_credits"},
		"/sta?measure=heads": {400, "registered"}, "/sta?month=soon": {400, "YYYY-MM"},
	} {
		if status := b.visit(path); status != want.status || !strings.Contains(b.text("main"), want.names) {
			t.Errorf("%s: status %d, want %d and a page that names %q", path, status, want.status, want.names)
		}
	}
	client := session(t)
	resp, err := client.PostForm(shared.reporter+"/health/audit", url.Values{"token": {"made up"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a form with a made-up token: %s", resp.Status)
	}
}
