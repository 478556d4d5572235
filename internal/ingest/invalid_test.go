package ingest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/ingest"
)

// One row per kind of bad event. None of them, and none of its neighbours, reaches the log.
func TestInvalidEvents(t *testing.T) {
	t.Parallel()
	d := open(t)
	at := func(ago time.Duration) string { return now().Add(-ago).Format(time.RFC3339) }
	for name, tt := range map[string]struct {
		event   string
		code    string
		pointer string
	}{
		"unknown type":         {event("x", "usage.metered", "usage.guessed"), "unknown-type", "/type"},
		"unknown field":        {event("x", `"meter":`, `"colour":"red","meter":`), "unknown-field", "/data/colour"},
		"missing field":        {event("x", `"meter":"tokens",`, ``), "missing-field", "/data/meter"},
		"missing source":       {event("x", `"source":"/test",`, ``), "missing-attribute", "/source"},
		"CloudEvents 0.3":      {event("x", `"1.0"`, `"0.3"`), "bad-attribute", "/specversion"},
		"naive time":           {event("x", "12:00:00Z", "12:00:00"), "naive-time", "/time"},
		"leap second":          {event("x", "12:00:00Z", "23:59:60Z"), "bad-time", "/time"},
		"1e400":                {event("x", `"12.5"`, `1e400`), "bad-quantity", "/data/quantity"},
		"1e20":                 {event("x", `"12.5"`, `"100000000000000000000"`), "bad-quantity", "/data/quantity"},
		"ten decimals":         {event("x", `"12.5"`, `0.0000000001`), "bad-quantity", "/data/quantity"},
		"NaN":                  {event("x", `"12.5"`, `"NaN"`), "bad-quantity", "/data/quantity"},
		"duplicate key":        {event("x", `"id":"x"`, `"id":"x","id":"x"`), "duplicate-key", "/id"},
		"duplicate key deeper": {event("x", `"model":"m1"`, `"model":"m1","model":"m2"`), "duplicate-key", "/data/dimensions/model"},
		"bad UTF-8":            {event("x", `m1`, "m\xff"), "bad-utf8", "/data/dimensions/model"},
		"36 days old":          {event("x", "2026-03-10T12:00:00Z", at(36*24*time.Hour)), "time-window", "/time"},
		"6 minutes ahead":      {event("x", "2026-03-10T12:00:00Z", at(-6*time.Minute)), "time-window", "/time"},
		"year 1":               {event("x", "2026-03-10", "0001-03-10"), "time-window", "/time"},
		"year 9999":            {event("x", "2026-03-10", "9999-03-10"), "time-window", "/time"},
		"span of 401 days": {event("x", `"meter"`, `"start":"2024-12-01T00:00:00Z","end":"2026-03-19T00:00:00Z","meter"`),
			"span-too-long", "/data/end"},
		"start too old": {event("x", `"meter"`, `"start":"2026-01-01T00:00:00Z","end":"2026-03-19T00:00:00Z","meter"`),
			"time-window", "/data/start"},
		"70 KB":         {event("x", "m1", strings.Repeat("m", 70<<10)), "event-too-large", ""},
		"not an object": {`42`, "not-object", ""},
		"too deep":      {event("x", `"m1"`, strings.Repeat("[", 100)+strings.Repeat("]", 100)), "too-deep", ""},
	} {
		t.Run(name, func(t *testing.T) {
			body := "[" + event("before") + "," + tt.event + "," + event("after") + "]"
			got := d.json(t, body)
			if got.status != 422 || got.problem.Code != "invalid-events" || got.problem.Title == "" || got.problem.CorrelationID == "" ||
				got.problem.Type != "urn:countinghouse:problem:invalid-events" || got.header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("answered %d %s", got.status, got.body)
			}
			for _, e := range got.problem.Errors {
				if *e.Index == 1 && e.Code == tt.code && (tt.pointer == "" || e.Pointer == tt.pointer) && e.Detail != "" {
					return
				}
			}
			t.Errorf("answered %s, want index 1, %s at %q", got.body, tt.code, tt.pointer)
		})
	}
	d.expectStored(t, nil, nil)
}

func TestEveryFaultIsListed(t *testing.T) {
	t.Parallel()
	d := open(t)
	got := d.json(t, "["+event("a", `"12.5"`, `"x"`, `12:00:00Z`, `12:00:00`)+","+event("b")+","+event("c", "usage.metered", "nope")+"]")
	var places []string
	for _, e := range got.problem.Errors {
		places = append(places, fmt.Sprintf("%d%s %s", *e.Index, e.Pointer, e.Code))
	}
	slices.Sort(places)
	want := []string{"0/data/quantity bad-quantity", "0/time naive-time", "2/type unknown-type"}
	if got.status != 422 || !slices.Equal(places, want) {
		t.Errorf("answered %d %q, want %q", got.status, places, want)
	}
}

// One row per kind of request that is refused as a whole.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	d := open(t)
	good, js := event("ok"), http.Header{"Content-Type": {"application/json"}}
	with := func(pairs ...string) http.Header {
		h := js.Clone()
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	readOnly := d.newKey(t, "acme", "usage:read")
	d.awaitKey(t, readOnly, http.StatusForbidden)
	revoked := d.newKey(t, "acme", "events:write", "usage:read")
	d.json(t, good) // the one event that may be there
	d.awaitKey(t, revoked, http.StatusAccepted)
	d.revoke(t, revoked)
	d.awaitKey(t, revoked, http.StatusUnauthorized)
	tooMany := "[" + strings.TrimSuffix(strings.Repeat(good+",", 1001), ",") + "]"
	for name, tt := range map[string]struct {
		query  string
		header http.Header
		body   string
		status int
		code   string
		extra  string // a header that must be there
	}{
		"no key":            {"", with("Authorization", "Basic Zm9v"), good, 401, "unauthorized", "WWW-Authenticate"},
		"unknown key":       {"", with("Authorization", "Bearer chk_nonsense"), good, 401, "unauthorized", "WWW-Authenticate"},
		"revoked key":       {"", with("Authorization", "Bearer "+revoked), good, 401, "unauthorized", "WWW-Authenticate"},
		"read-only key":     {"", with("Authorization", "Bearer "+readOnly), good, 403, "missing-scope", "WWW-Authenticate"},
		"wrong tenant":      {"", js, event("x", `"id"`, `"tenant":"other","id"`), 403, "wrong-tenant", ""},
		"wrong, in binary":  {"", with("Ce-Specversion", "1.0", "Ce-Id", "x", "Ce-Source", "/s", "Ce-Type", "usage.metered", "Ce-Tenant", "other"), `{"meter":"m","quantity":1}`, 403, "wrong-tenant", ""},
		"bad JSON":          {"", js, `[` + good + `,{"specversion":`, 422, "bad-json", ""},
		"bad JSON, partial": {"?partial=true", js, `[` + good + `,]`, 422, "bad-json", ""},
		"text after it":     {"", js, good + good, 422, "bad-json", ""},
		"no body":           {"", js, "", 422, "bad-json", ""},
		"object as batch":   {"", with("Content-Type", "application/cloudevents-batch+json"), good, 422, "wrong-shape", ""},
		"array as object":   {"", with("Content-Type", "application/cloudevents+json"), "[" + good + "]", 422, "wrong-shape", ""},
		"media type":        {"", with("Content-Type", "text/xml"), good, 415, "unsupported-media-type", "Accept-Post"},
		"no media type":     {"", with("Content-Type", ""), good, 415, "unsupported-media-type", "Accept-Post"},
		"charset":           {"", with("Content-Type", "application/json; charset=latin1"), good, 415, "unsupported-media-type", ""},
		"encoding":          {"", with("Content-Encoding", "br"), good, 415, "unsupported-encoding", "Accept-Encoding"},
		"not gzip":          {"", with("Content-Encoding", "gzip"), good, 422, "bad-encoding", ""},
		"not zstd":          {"", with("Content-Encoding", "zstd"), good, 422, "bad-encoding", ""},
		"cut gzip":          {"", with("Content-Encoding", "gzip"), string(compress(t, "gzip", good)[:40]), 422, "bad-encoding", ""},
		"parameter":         {"?dry=true", js, good, 400, "bad-parameter", ""},
		"parameter value":   {"?partial=perhaps", js, good, 400, "bad-parameter", ""},
		"1,001 events":      {"", js, tooMany, 413, "too-many-events", ""},
		"1,001 lines":       {"?partial=true", with("Content-Type", "application/x-ndjson"), strings.Repeat(good+"\n", 1001), 413, "too-many-events", ""},
		// Without 100-continue the client may see its body cut off before it reads the answer.
		"5 MiB and a byte": {"", with("Expect", "100-continue"), strings.Repeat(" ", 5<<20) + "1", 413, "body-too-large", ""},
		"gzip bomb":        {"", with("Content-Encoding", "gzip"), string(bomb(t, "gzip")), 413, "body-too-large", ""},
		"zstd bomb":        {"", with("Content-Encoding", "zstd"), string(bomb(t, "zstd")), 413, "body-too-large", ""},
		"all bad, partial": {"?partial=true", js, "[" + event("x", `"12.5"`, `"x"`) + "]", 422, "invalid-events", ""},
		"broken ce header": {"", with("Ce-Specversion", "1.0", "Ce-Id", "%zz", "Ce-Source", "/s", "Ce-Type", "usage.metered"), `{}`, 422, "invalid-events", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.post(t, tt.query, tt.header, []byte(tt.body))
			if got.status != tt.status || got.problem.Code != tt.code || got.problem.Status != tt.status || got.problem.CorrelationID == "" {
				t.Fatalf("answered %d %.300s, want %d %s", got.status, got.body, tt.status, tt.code)
			}
			if tt.extra != "" && got.header.Get(tt.extra) == "" {
				t.Errorf("header %s is missing", tt.extra)
			}
		})
	}
	d.expectStored(t, nil, []string{"ok"})
}

// bomb is a few KB that decode to 64 MB of spaces.
func bomb(t *testing.T, encoding string) []byte {
	t.Helper()
	return compress(t, encoding, strings.Repeat(" ", 64<<20))
}

func TestOtherPathsAndMethods(t *testing.T) {
	t.Parallel()
	d := open(t)
	base := strings.TrimSuffix(d.url(), "/api/v1/events")
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{http.MethodGet, "/api/v1/events", 405, "method-not-allowed"},
		{http.MethodDelete, "/api/v1/events", 405, "method-not-allowed"},
		{http.MethodPost, "/api/v1/event", 404, "not-found"},
		{http.MethodGet, "/", 404, "not-found"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, base+tt.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := d.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != tt.status || !bytes.Contains(body, []byte(`"code":"`+tt.code+`"`)) {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.path, res.StatusCode, body, tt.status, tt.code)
		}
		if tt.status == 405 && res.Header.Get("Allow") != "POST" {
			t.Errorf("%s: no Allow header", tt.method)
		}
	}
}

func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	d := open(t)
	h := http.Header{"Content-Type": {"application/json"}, "X-Large": {strings.Repeat("x", 64<<10)}}
	if got := d.post(t, "", h, []byte(event("x"))); got.status != http.StatusRequestHeaderFieldsTooLarge || got.problem.Code != "headers-too-large" {
		t.Errorf("64 KiB of header: %d %s, want the problem 431", got.status, got.body)
	}
}

func TestEveryRefusalIsInTheTableOnce(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range ingest.Refusals() {
		if seen[r.Code] || r.Status < 400 || r.Meaning == "" || r.Action == "" {
			t.Errorf("%+v: twice, or not complete", r)
		}
		seen[r.Code] = true
	}
}
