package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
)

// paintMax is what first paint promises, ms; paintTurns is how often each page is opened.
const (
	paintMax   = 1000
	paintTurns = 5
	paintWait  = 2 * time.Minute
)

// painted is a page and when Chromium had put the first of it on the screen, ms after it was asked for.
type painted struct {
	name  string
	times []float64
}

// paint opens pages in Chromium, as the operator who signs in through the form, and asks it when it painted first: all of
// network, server, scripts and style. A machine without Chromium has no such figures.
func (m *onPages) paint(ctx context.Context, login, password string) error {
	program, err := exec.LookPath("chromium")
	if err != nil {
		fmt.Fprintln(m.out, "  first paint is not measured: chromium is not on PATH")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, paintWait)
	defer cancel()
	browser, closeBrowser := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Headless, chromedp.WindowSize(1280, 900))...)
	defer closeBrowser()
	tab, closeTab := chromedp.NewContext(browser)
	defer func() { _ = chromedp.Cancel(tab); closeTab() }()
	const signIn = `((login, password) => {
		document.querySelector("input[name=login]").value = login;
		document.querySelector("input[name=password]").value = password;
		document.querySelector("main form").requestSubmit();
		return true;
	})(%q, %q)`
	if _, err := chromedp.Run(tab, chromedp.NavigateResponse(m.endpoints.Reporter+"/sign-in")); err != nil {
		return fmt.Errorf("open the sign-in page: %w", err)
	}
	if _, err := chromedp.Run(tab, chromedp.Evaluate[bool](fmt.Sprintf(signIn, login, password))); err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	if err := chromedp.Do(tab, chromedp.WaitVisible(chromedp.CSS(`form[action="/sign-out"]`))); err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	for _, address := range []string{"/", "/usage", "/sta", "/monthly", "/months"} {
		one := &painted{name: address}
		for range paintTurns {
			if _, err := chromedp.Run(tab, chromedp.NavigateResponse(m.endpoints.Reporter+address)); err != nil {
				return fmt.Errorf("open %s: %w", address, err)
			}
			// The page is loaded; the paint is told a moment later.
			const first = `new Promise((told) => new PerformanceObserver((list) => {
				for (const e of list.getEntries()) if (e.name === "first-contentful-paint") told(e.startTime);
			}).observe({ type: "paint", buffered: true }))`
			at, err := chromedp.Run(tab, chromedp.Evaluate[float64](first, chromedp.EvalAwaitPromise))
			if err != nil {
				return fmt.Errorf("ask when %s was painted: %w", address, err)
			}
			one.times = append(one.times, at)
		}
		slices.Sort(one.times)
		m.paints = append(m.paints, one)
		fmt.Fprintf(m.out, "  %-46s first paint: median %5.0f   most %5.0f ms\n", one.name, one.times[len(one.times)/2], one.times[len(one.times)-1])
	}
	return nil
}

// paintFigures are the medians, and the most of all.
func (m *onPages) paintFigures() []figure {
	var list []figure
	var all []float64
	for _, one := range m.paints {
		name := strings.Trim(one.name, "/")
		if name == "" {
			name = "home"
		}
		all = append(all, one.times...)
		list = append(list, figure{name + "_paint_ms", one.name + ": first paint in Chromium, median ms", one.times[len(one.times)/2], "%.0f", atMost(paintMax)})
	}
	if len(all) > 0 {
		list = append(list, figure{"paint_most_ms", "first paint of all pages, the latest, ms", slices.Max(all), "%.0f", atMost(paintMax)})
	}
	return list
}
