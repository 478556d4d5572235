package browser_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestCharts: with scripts a chart says the numbers of the table to the digit, by keys as by pointer, and a stretch of it
// becomes the address of the page that shows only that; without them the picture of the server stands.
func TestCharts(t *testing.T) {
	shared.send(t, map[string]any{ // on the first of a month there may be none yet, and a table has no row of nothing
		"specversion": "1.0", "id": "this-month", "source": "test/browser", "type": "usage.metered", "subject": "northwind", "time": time.Now().UTC().Format(time.RFC3339),
		"data": map[string]any{"meter": "tokens", "quantity": "7"},
	})
	b := open(t)
	for _, width := range []int64{390, 1280, 2560} {
		b.size(width, 900)
		for _, path := range []string{"/", "/usage"} {
			b.visit(path)
			b.await("the chart is drawn", `!!document.querySelector(".chart.drawn .plot canvas")`)
			if wide := eval[bool](b, `document.documentElement.scrollWidth > innerWidth || document.querySelector(".plot").scrollWidth > document.querySelector(".plot").clientWidth`); wide {
				t.Errorf("%s: the chart is wider than its place at %d pixels", path, width)
			}
			if both := eval[bool](b, `document.querySelector(".chart svg").checkVisibility()`); both {
				t.Errorf("%s: the picture of the server is shown beside the chart", path)
			}
			b.quiet(path)
		}
	}
	b.size(1280, 900)
	b.visit("/usage?meter=tokens&month=12-months")
	b.await("the chart is drawn", `!!document.querySelector(".plot canvas")`)
	b.chartByKeys()
	b.chartByPointer()
	b.accessible("a chart that is used")
	b.quiet("a chart")
	b.chartDark()
	b.printed()
	b.scripts(false)
	b.visit("/usage?meter=tokens")
	if !eval[bool](b, `document.querySelector(".chart svg").checkVisibility() && !document.querySelector(".plot")`) {
		t.Error("without scripts the picture of the server is not there")
	}
}

var figures = regexp.MustCompile(`: ([0-9,.]+)`)

// chartByKeys goes to the last point and one back, selects both, and follows where that leads.
func (b *tab) chartByKeys() {
	b.Helper()
	b.do(chromedp.Focus(chromedp.CSS(".plot")))
	b.press(kb.End)
	said := figures.FindStringSubmatch(b.text(".says"))
	rows := `[...document.querySelectorAll(".sheet[aria-label='Over time'] tbody tr")].map(r => r.cells[1].firstElementChild.firstChild.data.trim())`
	if len(said) == 0 || said[1] != eval[string](b, rows+`.at(-1)`) {
		b.Errorf("the last point says %q, the table %q", b.text(".says"), eval[string](b, rows+`.at(-1)`))
	}
	if heard := eval[string](b, `document.querySelector(".plot").getAttribute("aria-valuetext")`); !strings.Contains(b.text(".says"), heard) {
		b.Errorf("who cannot see it hears %q, not %q", heard, b.text(".says"))
	}
	b.do(chromedp.KeyEvent(kb.ArrowLeft, chromedp.KeyModifiers(chromedp.ModifierShift)))
	want := eval[string](b, `document.querySelector(".says a").search`)
	b.press("\r")
	b.await("only what was selected", `document.readyState === "complete" && location.search === `+quoted(want))
	q, err := url.ParseQuery(eval[string](b, `location.search.slice(1)`))
	if err != nil || q.Get("from") == "" || q.Get("to") == "" || q.Get("meter") != "tokens" {
		b.Errorf("the selection leads to %v, %v", q, err)
	}
	if got := eval[int](b, `document.querySelectorAll(".sheet[aria-label='Over time'] tbody tr").length`); got < 28 {
		b.Errorf("two months by the day are %d rows", got)
	}
}

// chartByPointer points at the chart and drags over some days of it.
func (b *tab) chartByPointer() {
	b.Helper()
	b.await("the chart is drawn", `!!document.querySelector(".u-over")`)
	eval[bool](b, `document.querySelector(".plot").scrollIntoView({block: "center"}), true`)
	box := func(side string) float64 {
		return eval[float64](b, `document.querySelector(".u-over").getBoundingClientRect().`+side)
	}
	left, middle, width := box("left"), box("top")+box("height")/2, box("width")
	mouse := func(kind input.DispatchMouseEventType, x float64, buttons int64) {
		b.Helper()
		p := input.DispatchMouseEventParams{Type: kind, X: x, Y: middle, Buttons: buttons}
		if kind != input.DispatchMouseEventTypeMouseMoved {
			p.Button, p.ClickCount = input.MouseButtonLeft, 1
		}
		if _, err := chromedp.Call(b.ctx, input.DispatchMouseEvent, p); err != nil {
			b.Fatal(err)
		}
	}
	mouse(input.DispatchMouseEventTypeMouseMoved, left+width*0.2, 0)
	b.await("what is under the pointer", `/\d{4}: /.test(document.querySelector(".says").innerText)`)
	mouse(input.DispatchMouseEventTypeMousePressed, left+width*0.2, 1)
	mouse(input.DispatchMouseEventTypeMouseMoved, left+width*0.22, 1)
	mouse(input.DispatchMouseEventTypeMouseMoved, left+width*0.27, 1)
	mouse(input.DispatchMouseEventTypeMouseReleased, left+width*0.27, 0)
	b.await("a link to the stretch", `!!document.querySelector(".says a:not([hidden])")`)
	b.click(".says a")
	b.await("the stretch by the hour", `document.readyState === "complete" && document.querySelector("select[name=window]").value === "hour" && document.querySelector("select[name=month]").value === "chosen"`)
	if explained := eval[bool](b, `!!document.querySelector(".lead").innerText.match(/2026|20\d\d/)`); !explained {
		b.Errorf("the page does not say which days it shows: %q", b.text(".lead"))
	}
}

// chartDark looks whether the chart takes the other colours when the system does.
func (b *tab) chartDark() {
	b.Helper()
	b.await("the chart is drawn", `!!document.querySelector(".plot canvas")`)
	const picture = `document.querySelector(".plot canvas").toDataURL()`
	light := eval[string](b, picture)
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
	if err != nil {
		b.Fatal(err)
	}
	b.await("dark colours", picture+` !== `+quoted(light))
}

// printed looks at what goes on paper: the picture, not the chart.
func (b *tab) printed() {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}); err != nil {
		b.Fatal(err)
	}
	if !eval[bool](b, `document.querySelector(".chart svg").checkVisibility() && !document.querySelector(".plot").checkVisibility() && !document.querySelector("form.filter").checkVisibility()`) {
		b.Error("on paper the chart is not the picture of the server, or the form is printed")
	}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{}); err != nil {
		b.Fatal(err)
	}
}
