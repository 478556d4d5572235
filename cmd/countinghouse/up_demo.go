package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/demo"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/stack"
)

const (
	demoFile      = "demo-began"
	demoCountWait = 10 * time.Minute // for what was sent to be counted, and its months closed: seconds where nothing else runs
	demoPoll      = 100 * time.Millisecond
	demoRetry     = time.Second // between two tries to close a month
)

// sendDemo sends the sample data like any producer. The day on which it began is kept, so that a later start
// repeats the same events and adds those since. closes then closes its months, like any finance department: that
// takes some seconds, and nobody has to wait for it.
func (t *tool) sendDemo(ctx context.Context, e stack.Endpoints, dir string, screen *upScreen) (closes func(), err error) {
	began, err := demoBegan(filepath.Join(dir, demoFile), time.Now())
	if err != nil {
		return nil, err
	}
	screen.event(stack.Event{Kind: stack.Started, Part: "sample data"})
	begun := time.Now()
	c, err := t.client(e)
	if err != nil {
		return nil, err
	}
	before, err := acceptedOf(ctx, c)
	if err != nil {
		return nil, err
	}
	n, err := demo.Send(ctx, c, began, time.Now())
	if err != nil {
		return nil, err
	}
	screen.event(stack.Event{Kind: stack.Done, Part: "sample data", Took: time.Since(begun), Text: fmt.Sprintf("%d events", n)})
	return func() {
		closed, err := closeDemo(ctx, c, demo.Closes(began), before+n)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			screen.say("%v", err)
		case len(closed) > 0:
			screen.say("the sample data's months are closed: %s", strings.Join(closed, " "))
		}
	}, nil
}

// demoBegan reads the day on which the demo of a folder began, or makes it today's.
func demoBegan(path string, now time.Time) (time.Time, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		began, err := time.Parse(time.DateOnly, strings.TrimSpace(string(text)))
		if err != nil {
			return began, fmt.Errorf("read %s: %w", path, err)
		}
		return began, nil
	}
	began := demo.Began(now)
	if err := os.WriteFile(path, []byte(began.Format(time.DateOnly)+"\n"), 0o600); err != nil {
		return began, fmt.Errorf("remember the demo: %w", err)
	}
	return began, nil
}

// acceptedOf is how many events of the tenant are in the books.
func acceptedOf(ctx context.Context, c *client.Client) (int, error) {
	var ledger struct {
		Rows []struct {
			Accepted int `json:"accepted"`
		} `json:"rows"`
	}
	err := c.Get(ctx, "/ledger", nil, &ledger)
	n := 0
	for _, r := range ledger.Rows {
		n += r.Accepted
	}
	return n, err
}

// closeDemo closes the months that are not closed yet, when everything sent is counted.
func closeDemo(ctx context.Context, c *client.Client, closes []demo.Close, counted int) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, demoCountWait, errors.New("the sample data is not counted and closed yet; countinghouse audit tells more"))
	defer cancel()
	if err := awaitCounted(ctx, c, counted); err != nil {
		return nil, err
	}
	var closed []string
	for _, m := range closes {
		done, err := closeDemoMonth(ctx, c, m)
		for mayWorkLater(err) && rested(ctx, demoRetry) {
			done, err = closeDemoMonth(ctx, c, m)
		}
		if err != nil {
			return closed, fmt.Errorf("close %s of the sample data: %w", m.Month, err)
		}
		if done {
			closed = append(closed, m.Month)
		}
	}
	return closed, nil
}

// closeDemoMonth closes a month; done is false if it was closed already.
func closeDemoMonth(ctx context.Context, c *client.Client, m demo.Close) (done bool, err error) {
	var state struct {
		Version int `json:"version"`
	}
	if err := c.Get(ctx, "/months/"+m.Month, nil, &state); err != nil || state.Version > 0 {
		return false, err
	}
	body := map[string]any{"as_of": m.AsOf}
	if m.Gaps != "" {
		body["accept_gaps"], body["reason"] = true, m.Gaps
	}
	return true, c.Call(ctx, http.MethodPost, "/months/"+m.Month+"/close", body, nil)
}

// rested waits, and reports whether ctx goes on.
func rested(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// mayWorkLater reports whether a close was refused because of what passes by itself: a busy machine, or others who close.
func mayWorkLater(err error) bool {
	var p *problem.Problem
	return errors.As(err, &p) && (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusConflict)
}

func awaitCounted(ctx context.Context, c *client.Client, want int) error {
	tick := time.NewTicker(demoPoll)
	defer tick.Stop()
	for {
		n, err := acceptedOf(ctx, c)
		if err != nil || n >= want {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
