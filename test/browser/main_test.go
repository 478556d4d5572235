// Package browser_test looks at the pages as people do: in a real Chromium, over a whole stack with the sample
// data, signed in through the form.
//
// One stack and one browser serve the package. A test opens tabs of its own with a session of its own (open), and
// every tab fails its test where the page logs an error, breaks its content security policy or opens a dialog.
package browser_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	readyWait = 8 * time.Minute // the engine may have to be fetched, and the sample data's months close one after the other
	stopWait  = time.Minute
	pageWait  = 3 * time.Minute // for anything a page does, on a machine however busy
)

// house is what the tests of this package share.
type house struct {
	reporter, ingest string
	token            string // of the admin key
	login, password  string // of the operator of the sample data
	browser          context.Context
	clickhouse       int // its process
	axe              string
}

var shared *house //nolint:gochecknoglobals // one stack and one browser for the package, made by TestMain

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "browser-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	h, stop, err := start(ctx, dir)
	defer stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "browser tests:", err)
		return 1
	}
	shared = h
	return m.Run()
}

// start brings up the stack and the browser; stop ends what was started, also after an error.
func start(ctx context.Context, dir string) (h *house, stop func(), err error) {
	var stops []func()
	stop = func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		return nil, stop, errors.New("chromium is not on PATH: apt-get install chromium, or make deps")
	}
	axe, err := fetchAxe(ctx)
	if err != nil {
		return nil, stop, err
	}
	program, err := rig.Build(ctx, dir)
	if err != nil {
		return nil, stop, err
	}
	h, down, err := up(ctx, program, filepath.Join(dir, "stack"))
	stops = append(stops, down)
	if err != nil {
		return nil, stop, err
	}
	h.axe = axe
	browser, closeBrowser := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.WSURLReadTimeout(readyWait), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Headless, chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.WindowSize(1280, 900), chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("font-render-hinting", "none"))...)
	stops = append(stops, closeBrowser)
	first, closeFirst := chromedp.NewContext(browser)
	stops = append(stops, func() { _ = chromedp.Cancel(first); closeFirst() })
	if err := chromedp.Do(first); err != nil {
		return nil, stop, fmt.Errorf("start chromium: %w", err)
	}
	h.browser = first
	return h, stop, nil
}

// up starts the whole stack with the sample data, and waits until its months are closed.
func up(ctx context.Context, program, dir string) (*house, func(), error) {
	var log bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, "up", "--demo", "--ephemeral", "--dir", dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, func() {}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended: //nolint:errcheck // it was told to end
		case <-time.After(stopWait):
			_ = cmd.Process.Kill()
		}
	}
	var e struct {
		Ingest, Reporter string
		AdminToken       string `json:"admin_token"`
		Operator         struct{ Login, Password string }
		PIDs             struct{ ClickHouse int }
	}
	err := await(ctx, readyWait, func() error {
		content, err := os.ReadFile(filepath.Join(dir, "endpoints.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(content, &e)
	})
	if err != nil {
		return nil, stop, fmt.Errorf("the stack did not come up: %w\n%s", err, log.String())
	}
	h := &house{reporter: e.Reporter, ingest: e.Ingest, token: e.AdminToken, login: e.Operator.Login, password: e.Operator.Password, clickhouse: e.PIDs.ClickHouse}
	err = await(ctx, readyWait, func() error {
		var months struct{ Rows []struct{ State string } }
		if err := h.api(ctx, http.MethodGet, "/months", nil, &months); err != nil {
			return err
		}
		closed := 0
		for _, m := range months.Rows {
			if m.State == "closed" {
				closed++
			}
		}
		if closed < 4 {
			return fmt.Errorf("%d months are closed", closed)
		}
		return nil
	})
	if err != nil {
		return nil, stop, fmt.Errorf("the sample data's months are not closed: %w\n%s", err, log.String())
	}
	return h, stop, nil
}

// await asks ten times a second until there is no error, or the deadline.
func await(ctx context.Context, most time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// refused is an answer that is no success.
type refused struct {
	status int
	text   string
}

func (r *refused) Error() string { return r.text }

// patient asks again while the answer is 503, which a machine that stood still gives: to ask again is what it says.
func patient(ctx context.Context, ask func() (status int, err error)) error {
	var failed error
	err := await(ctx, pageWait, func() error {
		var status int
		if status, failed = ask(); status == http.StatusServiceUnavailable {
			return fmt.Errorf("status %d: %w", status, errors.Join(failed))
		}
		return nil
	})
	return errors.Join(err, failed)
}

// api asks the reporter's API with the admin key.
func (h *house) api(ctx context.Context, method, path string, body, into any) error {
	return patient(ctx, func() (int, error) {
		err := h.call(ctx, method, h.reporter+"/api/v1"+path, body, into)
		var no *refused
		if errors.As(err, &no) {
			return no.status, err
		}
		return http.StatusOK, err
	})
}

func (h *house) call(ctx context.Context, method, address string, body, into any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(content))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+h.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return &refused{resp.StatusCode, fmt.Sprintf("%s %s: %s: %s", method, address, resp.Status, strings.TrimSpace(answer.String()))}
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer.Bytes(), into)
}

// send sends events to ingest, and waits until they are counted.
func (h *house) send(t *testing.T, events ...map[string]any) {
	t.Helper()
	// A busy machine answers 503 now and then: the same ids are sent again, as producers do.
	err := await(t.Context(), pageWait, func() error { return h.call(t.Context(), http.MethodPost, h.ingest+"/api/v1/events", events, nil) })
	if err != nil {
		t.Fatal(err)
	}
	last := events[len(events)-1]
	query := url.Values{"source": {fmt.Sprint(last["source"])}, "id": {fmt.Sprint(last["id"])}}
	err = await(t.Context(), pageWait, func() error { return h.api(t.Context(), http.MethodGet, "/events?"+query.Encode(), nil, nil) })
	if err != nil {
		t.Fatalf("the event is not counted: %v", err)
	}
}
