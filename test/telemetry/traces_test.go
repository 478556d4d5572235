// Package telemetry holds a running system to what it says about itself: traces that go from a request to the
// insert, and every metric that was promised, with its labels. About 10 s.
package telemetry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

func TestMain(m *testing.M) { fight.Main(m) }

// system is a stack that is asked by all tests of this package.
type system struct {
	*rig.Rig
	collector *spans
	reporter  string // URL
	part      *rig.Part
	token     string
}

func start(t *testing.T) *system {
	t.Helper()
	s := &system{collector: collect(t)}
	flags := []string{"--trace-endpoint", s.collector.url, "--trace-sample", "1000"}
	patient := append([]string{"--commit-wait", "1m"}, flags...) // a disk that stands still is nothing of what is told here
	s.Rig = rig.Start(t, rig.Options{Program: fight.Program(), IngestFlags: patient, AggregatorFlags: flags})
	s.part, s.reporter = s.StartReporter(flags...)
	s.token = s.Key("acme", "events:write", "usage:read", "reports:read")
	return s
}

// send posts an event within a trace.
func (s *system) send(t *testing.T, id, traceparent string) {
	t.Helper()
	body := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/traced","type":"usage.metered","subject":"a","time":%q,"data":{"meter":"tokens","quantity":"1"}}`,
		id, time.Now().UTC().Format(time.RFC3339))
	res := s.ask(t, http.MethodPost, s.URL(), body, http.Header{"Content-Type": {"application/cloudevents+json"}, "Traceparent": {traceparent}})
	if res != http.StatusAccepted {
		t.Fatalf("POST with traceparent %q: %d", traceparent, res)
	}
}

func (s *system) ask(t *testing.T, method, url, body string, header http.Header) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

// until waits for spans.
func (s *system) until(t *testing.T, service, name, trace, parent string) []span {
	t.Helper()
	var found []span
	s.Until(fmt.Sprintf("a span %s of %s in trace %s under %s", name, service, trace, parent), rig.SettleWait, func(context.Context) bool {
		found = s.collector.of(service, name, trace, parent)
		return len(found) > 0
	})
	return found
}

// TestTraces: a trace that a client began goes through ingest and the log to each insert, and one through the reporter to
// its queries. What is broken or forged changes nothing.
func TestTraces(t *testing.T) {
	t.Parallel()
	s := start(t)
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	s.send(t, "one", "00-"+trace+"-"+caller+"-01")

	request := s.until(t, "ingest", "POST /api/v1/events", trace, caller)[0]
	if request.httpStatus != http.StatusAccepted {
		t.Errorf("the request's span says status %d", request.httpStatus)
	}
	chunk := s.until(t, "ingest", "chunk", trace, request.id)[0]
	batch := s.until(t, "aggregator", "batch", trace, chunk.id)[0]
	if len(batch.links) == 0 || batch.links[0] != chunk.id {
		t.Errorf("the batch names %v, want its chunk %s", batch.links, chunk.id)
	}
	inserts := map[string]int64{}
	for _, i := range s.until(t, "aggregator", "insert", trace, batch.id) {
		inserts[i.text["db.collection.name"]] = i.rows
		if i.failed || i.began < batch.began || i.ended > batch.ended {
			t.Errorf("the insert into %s is not within its batch", i.text["db.collection.name"])
		}
	}
	if inserts["events"] != 1 || inserts["ledger"] != 1 || inserts["usage_hourly"] != 1 {
		t.Errorf("rows inserted: %v", inserts)
	}
	for _, one := range []span{request, chunk, batch} {
		for key, value := range one.text {
			if strings.Contains(value, "traced") {
				t.Errorf("%s of %s has something of an event: %q", key, one.name, value)
			}
		}
	}

	s.forged(t)
	s.asked(t)
}

// forged headers, at the door and past it: all is counted, and traces of others are left alone.
func (s *system) forged(t *testing.T) {
	t.Helper()
	headers := []string{"", "x", "00-00000000000000000000000000000000-0000000000000000-01", "ff-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-01",
		"00-" + strings.Repeat("f", 4000), "00-4bf92f3577b34da6a3ce929d0e0e4738-00f067aa0ba902b7-01"}
	nc, err := nats.Connect(s.NATSURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for i, header := range headers {
		s.send(t, fmt.Sprintf("door-%d", i), header)
		msg := nats.NewMsg("usage.in.acme.events")
		msg.Header["traceparent"] = []string{header}
		msg.Data = fmt.Appendf(nil, `{"specversion":"1.0","id":"past-%d","source":"/traced","type":"usage.metered","subject":"a","time":%q,"data":{"meter":"tokens","quantity":"1"}}`,
			i, time.Now().UTC().Format(time.RFC3339))
		if _, err := nc.RequestMsg(msg, rig.SettleWait); err != nil {
			t.Fatal(err)
		}
	}
	s.Until("all events are counted", rig.SettleWait, func(ctx context.Context) bool {
		n, err := s.Warehouse().Numbers(ctx, "SELECT count() FROM "+rig.Database+".events WHERE source = '/traced'")
		return err == nil && n[0] == int64(1+2*len(headers))
	})
	if n := s.Aggregators[0].Crashes() + s.Ingest.Crashes(); n > 0 {
		t.Errorf("%d processes ended by themselves", n)
	}
}

// asked: a question's trace has its statements.
func (s *system) asked(t *testing.T) {
	t.Helper()
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4739", "00f067aa0ba902b8"
	now := time.Now().UTC()
	question := s.reporter + "/api/v1/meters/tokens/usage?from=" + now.Add(-24*time.Hour).Format(time.RFC3339) + "&to=" + now.Add(24*time.Hour).Format(time.RFC3339)
	if status := s.ask(t, http.MethodGet, question, "", http.Header{"Traceparent": {"00-" + trace + "-" + caller + "-01"}}); status != http.StatusOK {
		t.Fatalf("GET %s: %d", question, status)
	}
	request := s.until(t, "reporter", "HTTP GET", trace, caller)[0]
	if request.text["http.route"] != "GET /api/v1/meters/{meter}/usage" {
		t.Errorf("the route is %q", request.text["http.route"])
	}
	for _, query := range s.until(t, "reporter", "query", trace, request.id) {
		if text := query.text["db.query.text"]; text == "" || strings.Contains(text, "acme") {
			t.Errorf("the statement is %q, want its text without values", text)
		}
	}
}
