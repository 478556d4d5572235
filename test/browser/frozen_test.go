package browser_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// statement is how long a statement may take: who answers within it did not wait for one.
const statement = 30 * time.Second

// TestFrozen is about a ClickHouse that takes every question and answers none. Pages say so instead of waiting as long as
// a large question may take; what needs no ClickHouse is there, and when it goes on so do they.
func TestFrozen(t *testing.T) {
	client := session(t)
	client.Timeout = statement
	get := func(path, key string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shared.reporter+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return resp, string(body)
	}
	if err := syscall.Kill(shared.clickhouse, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	thaw := func() { _ = syscall.Kill(shared.clickhouse, syscall.SIGCONT) } // it runs already, if it fails
	t.Cleanup(thaw)
	for _, want := range []struct {
		path   string
		status int
		says   []string // in its order
	}{
		{"/", 200, []string{"Not everything is known.", "cannot be read right now", "All months"}}, // under way when it stops
		{"/usage", 503, []string{`href="/months"`, "cannot be read right now", "Load the page again"}},
		{"/months", 503, []string{"cannot be read right now"}},
		{"/operators", 200, []string{shared.login}}, {"/keys", 200, []string{"dlq:read"}}, {"/schedules", 200, nil}, {"/archive", 200, nil}, {"/audit-log", 200, []string{"chain verified"}},
	} {
		resp, body := get(want.path, "")
		if resp.StatusCode != want.status || resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s while ClickHouse stands still: %s, Retry-After %q", want.path, resp.Status, resp.Header.Get("Retry-After"))
		}
		rest := body
		for _, text := range want.says {
			_, after, found := strings.Cut(rest, text)
			if !found {
				t.Errorf("%s while ClickHouse stands still does not say %q, or not there", want.path, text)
				continue
			}
			rest = after
		}
	}
	resp, body := get("/api/v1/months", shared.token)
	var problem struct{ Code string }
	if err := json.Unmarshal([]byte(body), &problem); err != nil || resp.StatusCode != http.StatusServiceUnavailable || problem.Code != "warehouse-unavailable" {
		t.Errorf("the months while ClickHouse stands still: %s, %v: %.300s", resp.Status, err, body)
	}
	thaw()
	err := await(t.Context(), pageWait, func() error {
		return shared.api(t.Context(), http.MethodGet, "/months", nil, nil)
	})
	if err != nil {
		t.Errorf("ClickHouse goes on, the months do not: %v", err)
	}
	client.Timeout = pageWait
	if status, _, _ := read(t, client, "/usage"); status != http.StatusOK {
		t.Errorf("/usage when ClickHouse goes on: %d", status)
	}
}
