package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// tab is a page of the browser with cookies of its own. Its methods end the test where they cannot do what they say.
type tab struct {
	*testing.T
	ctx context.Context

	mu       sync.Mutex
	troubles []string // what the page complained of since the last visit
}

// blank opens a tab where nobody is signed in.
func blank(t *testing.T) *tab {
	t.Helper()
	b := &tab{T: t}
	ctx, cancel := chromedp.NewContext(shared.browser, chromedp.WithNewBrowserContext())
	t.Cleanup(func() { _ = chromedp.Cancel(ctx); cancel() })
	b.ctx = ctx
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Func(func(step context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(step, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: `document.addEventListener("securitypolicyviolation", e => console.error("content security policy: " + e.violatedDirective + " " + e.blockedURI))`,
		})
		return err
	}))
	return b
}

// open opens a tab, signed in as the operator of the sample data, through the form.
func open(t *testing.T) *tab {
	t.Helper()
	return openAs(t, shared.login, shared.password)
}

// openAs signs in as somebody else.
func openAs(t *testing.T, login, password string) *tab {
	t.Helper()
	b := blank(t)
	b.visit("/sign-in")
	b.fill("input[name=login]", login)
	b.fill("input[name=password]", password)
	b.click("main form button")
	b.await("signed in", `!!document.querySelector('form[action="/sign-out"]')`)
	return b
}

// hear notes what a page complains of.
func (b *tab) hear(ev any) {
	text := ""
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		text = "exception: " + e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			text = "console: "
			for _, arg := range e.Args {
				text += " " + string(arg.Value) + arg.Description
			}
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && !strings.Contains(e.Entry.Text, "Failed to load resource") {
			text = "log: " + e.Entry.Text
		}
	case *page.EventJavascriptDialogOpening:
		text = "dialog: " + e.Message
	}
	if text != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.troubles = append(b.troubles, text)
	}
}

// quiet fails the test if the page complained of anything since the last time it was asked.
func (b *tab) quiet(where string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.troubles {
		b.Errorf("%s: %s", where, text)
	}
	b.troubles = nil
}

// step bounds one step. The steps of a test together have no bound but that of all tests.
func (b *tab) step() (context.Context, context.CancelFunc) {
	return context.WithTimeout(b.ctx, pageWait)
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := b.step()
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.Fatal(err)
	}
}

// unread says that the page that is shown could not read all it shows. A machine that stood still for seconds has such
// pages, and they say what to do: load the page again.
const unread = `performance.getEntriesByType("navigation")[0]?.responseStatus === 503 || /cannot be read right now|Not everything is known/.test(document.body?.innerText)`

// visit goes to a path of the site and answers its status.
func (b *tab) visit(path string) int64 {
	b.Helper()
	var status int64
	err := await(b.ctx, pageWait, func() error {
		ctx, cancel := b.step()
		defer cancel()
		resp, err := chromedp.Run(ctx, chromedp.NavigateResponse(shared.reporter+path))
		if err != nil {
			b.Fatalf("visit %s: %v", path, err)
		}
		if resp != nil {
			status = resp.Status
		}
		if eval[bool](b, unread) {
			return fmt.Errorf("status %d: %s", status, b.text("main"))
		}
		return nil
	})
	if err != nil {
		b.Fatalf("visit %s again and again: %v", path, err)
	}
	return status
}

// eval answers what a script answers.
func eval[T any](b *tab, script string) T {
	b.Helper()
	ctx, cancel := b.step()
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.Fatalf("%s: %v", script, err)
	}
	return v
}

// await waits for a condition, a script, to hold.
func (b *tab) await(what, script string) {
	b.Helper()
	err := await(b.ctx, pageWait, func() error {
		ctx, cancel := b.step()
		defer cancel()
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script))
		if err == nil && !ok {
			err = fmt.Errorf("not yet")
		}
		return err
	})
	if err != nil {
		ctx, cancel := b.step()
		defer cancel()
		where, _ := chromedp.Run(ctx, chromedp.Location())
		text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText.slice(0, 800)`))
		b.Fatalf("waited for: %s: %v\nat %s:\n%s", what, err, where, text)
	}
}

// text is what an element says.
func (b *tab) text(css string) string {
	b.Helper()
	return eval[string](b, fmt.Sprintf(`(document.querySelector(%q) || {innerText: ""}).innerText`, css))
}

func (b *tab) click(css string) {
	b.Helper()
	b.do(chromedp.Click(chromedp.CSS(css)))
}

// fill replaces what is in a field.
func (b *tab) fill(css, text string) {
	b.Helper()
	const set = `((e, text) => { e.focus(); e.value = text; e.dispatchEvent(new Event("input", {bubbles: true})); return e.value === text })(document.querySelector(%q), %q)`
	if !eval[bool](b, fmt.Sprintf(set, css, text)) {
		b.Fatalf("%s does not take %q", css, text)
	}
}

// choose chooses from a list, as a person does: the page hears of it.
func (b *tab) choose(css, value string) {
	b.Helper()
	eval[bool](b, fmt.Sprintf(`(e => { e.value = %q; e.dispatchEvent(new Event("change", {bubbles: true})); return e.value === %q })(document.querySelector(%q))`, value, value, css))
}

// size is the window's, in CSS pixels.
func (b *tab) size(width, height int64) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// scripts turns scripts of pages on or off, from the next visit on.
func (b *tab) scripts(on bool) {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on}); err != nil {
		b.Fatal(err)
	}
}

// session is an HTTP client that is signed in, for what needs no browser.
func session(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar}
	err = patient(t.Context(), func() (int, error) {
		resp, err := c.PostForm(shared.reporter+"/sign-in", url.Values{"login": {shared.login}, "password": {shared.password}})
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return resp.StatusCode, fmt.Errorf("sign in: %s", resp.Status)
		}
		return resp.StatusCode, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// read reads a page, or a file, with an HTTP client, and answers its status too.
func read(t *testing.T, c *http.Client, path string) (status int, header http.Header, body []byte) {
	t.Helper()
	err := patient(t.Context(), func() (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shared.reporter+path, http.NoBody)
		if err != nil {
			return 0, err
		}
		resp, err := c.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		status, header = resp.StatusCode, resp.Header
		body, err = io.ReadAll(resp.Body)
		return status, err
	})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return status, header, body
}

// press presses keys.
func (b *tab) press(keys string) {
	b.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// quoted is a text as a script has it.
func quoted(text string) string {
	b, _ := json.Marshal(text) // a text: never fails
	return string(b)
}
