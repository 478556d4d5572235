package aggregator

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// TestDecodePoison: whatever a direct producer publishes, decoding answers, books every element once, and
// good neighbours count (row 19 of docs/explanation/what-we-survived.md).
func TestDecodePoison(t *testing.T) {
	t.Parallel()
	now := time.Date(2025, 11, 20, 12, 0, 0, 0, time.UTC)
	good := `{"specversion":"1.0","id":"1","source":"/s","type":"usage.metered","subject":"a","time":"2025-11-20T11:00:00Z","data":{"meter":"tokens","quantity":1}}`
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	tests := map[string]struct {
		data    string
		header  map[string][]string
		kind    string
		events  int
		reasons []string
	}{
		"one event":                {data: good, events: 1},
		"batch":                    {data: "[" + good + "," + with(`"id":"1"`, `"id":"2"`) + "]", events: 2},
		"empty batch":              {data: "[]"},
		"bad neighbour":            {data: "[" + good + `,{"id":5},` + with(`"id":"1"`, `"id":"2"`) + "]", events: 2, reasons: []string{"bad-attribute"}},
		"not JSON":                 {data: "\x00\x01", reasons: []string{"undecodable"}},
		"empty":                    {data: "", reasons: []string{"undecodable"}},
		"batch without end":        {data: "[" + good, reasons: []string{"undecodable"}},
		"duplicate key":            {data: with(`"id":"1"`, `"id":"1","id":"2"`), reasons: []string{"duplicate-key"}},
		"invalid UTF-8":            {data: with(`"id":"1"`, "\"id\":\"\xff\""), reasons: []string{"bad-utf8"}},
		"depth 10000":              {data: with(`"quantity":1`, `"quantity":`+strings.Repeat("[", 10000)), reasons: []string{"undecodable"}},
		"depth 20000, closed":      {data: "[" + good + "," + with(`"quantity":1`, `"quantity":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)) + "," + with(`"id":"1"`, `"id":"2"`) + "]", events: 2, reasons: []string{"too-deep"}},
		"1e400":                    {data: with(`"quantity":1`, `"quantity":1e400`), reasons: []string{"bad-quantity"}},
		"NaN":                      {data: with(`"quantity":1`, `"quantity":"NaN"`), reasons: []string{"bad-quantity"}},
		"1 MB string":              {data: with(`"id":"1"`, `"id":"`+strings.Repeat("x", 1<<20)+`"`), reasons: []string{"event-too-large"}},
		"36 days old":              {data: with("2025-11-20T11", "2025-10-15T11"), reasons: []string{"time-window"}},
		"6 minutes ahead":          {data: with("11:00:00Z", "12:06:00Z"), reasons: []string{"time-window"}},
		"4 minutes ahead":          {data: with("11:00:00Z", "12:04:00Z"), events: 1},
		"year 1":                   {data: with("2025-11-20", "0001-11-20"), reasons: []string{"time-window"}},
		"unknown type":             {data: with("usage.metered", "usage.imagined"), reasons: []string{"unknown-type"}},
		"wrong content type":       {data: good, header: map[string][]string{"Content-Type": {"text/xml"}}, reasons: []string{"undecodable"}},
		"right content type":       {data: good, header: map[string][]string{"Content-Type": {"application/cloudevents+json; charset=utf-8"}}, events: 1},
		"rollup header":            {data: good, header: map[string][]string{"Nats-Rollup": {"all"}}, reasons: []string{"bad-header"}},
		"expiry header":            {data: good, header: map[string][]string{"Nats-TTL": {"1s"}}, reasons: []string{"bad-header"}},
		"chunk that is none":       {data: good, kind: eventlog.KindChunk, reasons: []string{"undecodable"}},
		"subject of another shape": {data: good, kind: "other", reasons: []string{"undecodable"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &eventlog.Message{Seq: 7, Time: usage.AtTime(now), Tenant: "acme", Kind: tt.kind, Header: tt.header, Data: []byte(tt.data)}
			if m.Kind == "" {
				m.Kind = eventlog.KindEvents
			}
			c := newDecoder(0, 0, newHasher()).decode(m)
			var reasons []string
			for _, r := range c.rejects {
				reasons = append(reasons, r.reason)
				if len(r.raw) == 0 && tt.data != "" {
					t.Errorf("dead letter %s has no raw bytes", r.reason)
				}
			}
			if len(c.events) != tt.events || strings.Join(reasons, ",") != strings.Join(tt.reasons, ",") {
				t.Errorf("%d events, rejects %v; want %d, %v", len(c.events), reasons, tt.events, tt.reasons)
			}
			if c.seq != 7 || c.tenant != "acme" || c.loggedAt != now.UnixMilli() {
				t.Errorf("position lost: %+v", c)
			}
		})
	}
}

// TestLoggedAtNeverDecreases: the server's clock may step back, logged_at does not (ADR 0013).
func TestLoggedAtNeverDecreases(t *testing.T) {
	t.Parallel()
	d := newDecoder(0, 5_000, newHasher())
	for _, step := range []struct{ at, want int64 }{{4_000, 5_000}, {6_000, 6_000}, {5_500, 6_000}, {6_001, 6_001}} {
		if c := d.decode(&eventlog.Message{Time: millis(step.at), Kind: "x"}); c.loggedAt != step.want {
			t.Errorf("message at %d: logged at %d, want %d", step.at, c.loggedAt, step.want)
		}
	}
}

// TestDecodeIsBounded: a message costs memory in proportion to its bytes, whatever is in it, and what it
// costs is charged to the credit of bytes in flight.
func TestDecodeIsBounded(t *testing.T) {
	t.Parallel()
	now := usage.AtTime(time.Date(2025, 11, 20, 12, 0, 0, 0, time.UTC))
	events := make([]usage.Event, eventlog.ChunkEventsMax)
	for i := range events {
		events[i] = usage.Event{Source: "/s", ID: fmt.Sprintf("bad%07d", i), Type: "t", Data: `"` + strings.Repeat("x", 400) + `"`}
	}
	packed, err := eventlog.EncodeChunk(nil, &eventlog.Chunk{AcceptedAt: now, Events: events})
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 1<<20)
	tests := map[string]struct {
		m       eventlog.Message
		reasons string
	}{
		"a chunk of bad events":     {eventlog.Message{Kind: eventlog.KindChunk, Data: bytes.ReplaceAll(packed, []byte("bad"), []byte("\xff\xff\xff"))}, "invalid-utf8"},
		"a megabyte of bad events":  {eventlog.Message{Kind: eventlog.KindEvents, Data: []byte("[" + strings.Repeat("0,", 1<<19) + "0]")}, "too-many-events"},
		"as many as there may be":   {eventlog.Message{Kind: eventlog.KindEvents, Data: []byte("[" + strings.Repeat("0,", eventlog.DirectEventsMax-1) + "0]")}, "not-object"},
		"a header of a megabyte":    {eventlog.Message{Kind: eventlog.KindEvents, Header: map[string][]string{"Nats-Schedule" + large: {"x"}}}, "bad-header"},
		"a content type like that":  {eventlog.Message{Kind: eventlog.KindEvents, Header: map[string][]string{"Content-Type": {large}}}, "undecodable"},
		"a subject of its own kind": {eventlog.Message{Kind: large}, "undecodable"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newDecoder(0, 0, newHasher()).decode(&tt.m)
			rejects := c.rejects
			if c.packed != nil { // it waits as it is, and is opened when it is decided
				var err error
				if _, rejects, err = new(opener).open(c); err != nil {
					t.Fatal(err)
				}
			}
			kept := int64(0)
			for _, r := range rejects {
				kept += int64(len(r.raw) + len(r.detail))
				if r.reason != tt.reasons {
					t.Fatalf("reason %s, want %s", r.reason, tt.reasons)
				}
			}
			if most := int64(2*len(tt.m.Data)) + 512*int64(len(rejects)); kept > most {
				t.Errorf("%d dead letters keep %d bytes of a message of %d", len(rejects), kept, len(tt.m.Data))
			}
			if cost := kept + rejectCost*int64(len(c.rejects)); c.weight < cost-int64(len(tt.m.Data)) {
				t.Errorf("%d dead letters are charged %d bytes, they take about %d", len(c.rejects), c.weight, cost)
			}
		})
	}
}
