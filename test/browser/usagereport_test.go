package browser_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// fixtureA is the tree of four of the acceptance scenarios, told once.
func fixtureA(t *testing.T) {
	t.Helper()
	var events []map[string]any
	say := func(at, typ, account string, data map[string]any) {
		events = append(events, map[string]any{
			"specversion": "1.0", "source": "fixture-a", "id": fmt.Sprint(len(events)), "type": typ, "subject": account, "time": at + "T00:00:00Z", "data": data,
		})
	}
	account := func(id, name, kind, parent, plan string) {
		data := map[string]any{"name": name, "kind": kind}
		if parent != "" {
			data["parent_account_id"] = parent
		}
		say("2025-01-01", "account.created", id, data)
		say("2025-01-01", "service.plan_set", id, map[string]any{"service": "sta", "plan": plan})
		say("2025-01-01", "service.status_set", id, map[string]any{"service": "sta", "status": "Active"})
	}
	account("A-1", "Acme MSP", "provider", "", "STA Premium")
	account("A-2", "Beta Bank", "provider", "A-1", "STA")
	account("A-4", "Beta Branch", "subscriber", "A-2", "STA Basic")
	account("A-3", "Cargo Ltd", "subscriber", "A-1", "STA Premium")
	each := func(accounts string, add func(account, user string)) {
		for part := range strings.SplitSeq(accounts, " · ") {
			account, users, _ := strings.Cut(part, ": ")
			for user := range strings.FieldsSeq(users) {
				add(account, user)
			}
		}
	}
	each("A-1: u1 u2 · A-2: u3 u4 u5 · A-4: u6 u7 u8 u9 · A-3: u10", func(account, user string) {
		say("2025-01-02", "user.registered", account, map[string]any{"user_id": user})
	})
	each("A-1: u1 · A-2: u3 u4 · A-4: u6 u7 u8 · A-3: u10", func(account, user string) {
		say("2025-01-03", "token.state_set", account, map[string]any{"token_id": "token-" + user, "user_id": user, "state": "active"})
	})
	each("A-1: u1 u2 · A-2: u3 · A-4: u6 u7", func(account, user string) {
		say("2025-01-20", "user.activity", account, map[string]any{"user_id": user, "kind": "login", "result": "success"})
	})
	shared.send(t, events...)
}

// rows are the rows of the first table as text, cells separated by " | ", without what only some hear.
func (b *tab) rows() []string {
	b.Helper()
	return eval[[]string](b, `[...(document.querySelector("main table")?.querySelectorAll("tbody tr") ?? [])].map(r => [...r.children].map(c => {
		const copy = c.cloneNode(true); copy.querySelectorAll(".quiet").forEach(q => q.remove()); return copy.textContent.trim().replace(/\s+/g, " ") }).join(" | "))`)
}

// row is the row whose text has all the parts; "" if there is none.
func (b *tab) row(parts ...string) string {
	b.Helper()
next:
	for _, r := range b.rows() {
		for _, part := range parts {
			if !strings.Contains(r, part) {
				continue next
			}
		}
		return r
	}
	return ""
}

// follow presses the button, or follows the link, with this text.
func (b *tab) follow(text string) {
	b.Helper()
	const find = `[...document.querySelectorAll("main button, main a")].find(e => { const copy = e.cloneNode(true); copy.querySelectorAll(".quiet").forEach(q => q.remove()); return copy.textContent.trim() === %q && e.checkVisibility() })`
	b.await(text, fmt.Sprintf(`!!`+find, text))
	before := eval[string](b, `(window.name = String(performance.timeOrigin))`)
	eval[bool](b, fmt.Sprintf(`(setTimeout(() => `+find+`.click(), 0), true)`, text))
	b.await("the page after "+text, fmt.Sprintf(`String(performance.timeOrigin) !== %q && document.readyState === "complete"`, before))
	b.again()
}

// again loads a page again that could not read all it shows.
func (b *tab) again() {
	b.Helper()
	ctx, cancel := b.step()
	defer cancel()
	for eval[bool](b, unread) {
		if ctx.Err() != nil {
			b.Fatalf("loaded again and again: %s", b.text("main"))
		}
		before := eval[string](b, `String(performance.timeOrigin)`)
		eval[bool](b, `(setTimeout(() => location.reload(), 500), true)`)
		b.await("the page once more", fmt.Sprintf(`String(performance.timeOrigin) !== %q && document.readyState === "complete"`, before))
	}
}

// wants fails the test where two texts differ.
func (b *tab) wants(what, got, want string) {
	b.Helper()
	if got != want {
		b.Errorf("%s:\n%s\nwant\n%s", what, got, want)
	}
}

// file asks the API for a path with the admin key, as it is.
func (h *house) file(t *testing.T, path string) string {
	t.Helper()
	var content []byte
	err := patient(t.Context(), func() (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.reporter+"/api/v1"+path, http.NoBody)
		if err != nil {
			return 0, err
		}
		req.Header.Set("Authorization", "Bearer "+h.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		content, err = io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return resp.StatusCode, err
	})
	if err != nil {
		t.Fatalf("GET %s: %v %s", path, err, content)
	}
	return string(content)
}

// saves presses a button or link and answers the file that the browser saved.
func (b *tab) saves(text, name string) string {
	b.Helper()
	dir := b.TempDir()
	_, err := chromedp.Call(b.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID, DownloadPath: dir,
	})
	if err != nil {
		b.Fatal(err)
	}
	eval[bool](b, fmt.Sprintf(`([...document.querySelectorAll("main button, main a")].find(e => e.textContent.trim() === %q).click(), true)`, text))
	return b.saved(dir, name)
}

func (b *tab) saved(dir, name string) string {
	b.Helper()
	var content []byte
	err := await(b.ctx, pageWait, func() (err error) {
		content, err = os.ReadFile(filepath.Join(dir, name))
		return err
	})
	if err != nil {
		entries, _ := os.ReadDir(dir)
		b.Fatalf("the browser did not save %s: %v; there is %v", name, err, entries)
	}
	return string(content)
}

// TestUsageReportScreen is scenario A1: one measure at a time, in the order asked for.
func TestUsageReportScreen(t *testing.T) {
	fixtureA(t)
	b := open(t)
	b.visit("/sta?account=A-1&month=2025-01")
	b.wants("measures", strings.Join(eval[[]string](b, `[...document.querySelectorAll("select[name=measure] option")].map(o => o.text)`), ", "),
		"Users with Activity, Users with Token, Registered Users")
	this := time.Now().UTC().Format("2006-01")
	if eval[bool](b, fmt.Sprintf(`[...document.querySelectorAll("select[name=month] option")].some(o => o.value >= %q)`, this)) {
		t.Error("a month that is not completed can be chosen")
	}
	b.wants("activity", strings.Join(b.rows(), "\n"), strings.TrimSpace(`
Acme MSP | STA Basic | Active | 2
Acme MSP | STA | Active | 1
Acme MSP | STA Premium | Active | 2
Beta Bank | STA Basic | Active | 2
Beta Bank | STA | Active | 1
Cargo Ltd | STA Premium | Active | 0`))
	b.visit("/sta?account=A-1&month=2025-01&measure=token")
	b.wants("token", strings.Join(b.rows(), "\n"), strings.TrimSpace(`
Acme MSP | STA Basic | Active | 3
Acme MSP | STA | Active | 2
Acme MSP | STA Premium | Active | 2
Beta Bank | STA Basic | Active | 3
Beta Bank | STA | Active | 2
Cargo Ltd | STA Premium | Active | 1`))
	b.visit("/sta?account=A-1&month=2025-01&measure=registered")
	b.wants("registered", strings.Join(b.rows(), "\n"), strings.TrimSpace(`
Acme MSP | STA Basic | Active | 4
Acme MSP | STA | Active | 3
Acme MSP | STA Premium | Active | 3
Beta Bank | STA Basic | Active | 4
Beta Bank | STA | Active | 3
Cargo Ltd | STA Premium | Active | 1`))
	b.click("main tbody tr:nth-child(2) td.n a") // a number leads to where it comes from
	b.await("explained", `location.pathname === "/explain" && document.body.innerText.includes("registered")`)
	b.quiet("the usage report")
}

// TestUsageReportExport is scenario A2: three scopes, the file's name and contents said before, and the bytes of the API.
func TestUsageReportExport(t *testing.T) {
	fixtureA(t)
	lines := []string{
		"Acme MSP,A-1,,,2025-01,Active,Available,STA Premium,2,1,2,4,3,2,3,2,1,3,2,2",
		"Beta Bank,A-2,Acme MSP,A-1,2025-01,Active,Available,STA,3,2,1,4,3,2,3,2,1,0,0,0",
		"Beta Branch,A-4,Beta Bank,A-2,2025-01,Active,Available,STA Basic,4,3,2,4,3,2,0,0,0,0,0,0",
		"Cargo Ltd,A-3,Acme MSP,A-1,2025-01,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0",
	}
	b := open(t)
	for scope, want := range map[string][]string{"own": lines[:1], "children": {lines[0], lines[1], lines[3]}, "tree": lines} {
		b.visit("/sta/export?account=A-1")
		b.click("main input[name=scope][value=" + scope + "]")
		b.choose("main select[name=from]", "2025-01")
		b.choose("main select[name=to]", "2025-01")
		b.follow("Export")
		b.wants("file name", b.text("main code"), "usage-report_A-1_2025-01_2025-01.csv")
		if n := eval[int](b, `document.querySelectorAll("ul.included li").length`); n != 20 {
			t.Errorf("%d columns are listed", n)
		}
		got := b.saves("Export", "usage-report_A-1_2025-01_2025-01.csv")
		api := shared.file(t, "/reports/sta-usage?"+url.Values{"account": {"A-1"}, "from": {"2025-01"}, "to": {"2025-01"}, "scope": {scope}, "format": {"csv"}}.Encode())
		b.wants("the file of "+scope+" and the API's", got, api)
		_, body, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(got), "\r\n", "\n"), "\n")
		b.wants("the file of "+scope, body, strings.Join(want, "\n"))
	}
	b.quiet("the export")
}
