package ingest_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// What ingest adds to events, what it keeps, and what it drops, as the log holds it.
func TestStamps(t *testing.T) {
	t.Parallel()
	d := open(t)
	const trace, other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-11111111111111111111111111111111-2222222222222222-00"
	body := "[" + event("bare", `"time":"2026-03-10T12:00:00Z",`, "") + "," +
		event("given", `"id"`, `"correlationid":"op-1","traceparent":"`+other+`","tenant":"acme","recordedtime":"2026-03-11T00:00:00Z","id"`) + "," +
		event("caused", `"id"`, `"causationid":"cause-1","id"`) + "]"
	got := d.post(t, "", http.Header{"Content-Type": {"application/json"}, "Traceparent": {trace}}, []byte(body))
	if got.status != 202 {
		t.Fatalf("answered %d %s", got.status, got.body)
	}
	id := got.taken.CorrelationID
	want := map[string][5]string{ // correlation, causation, filled, trace, recorded
		"bare":   {id, id, "3", trace, "false"},
		"given":  {"op-1", "op-1", "2", other, "false"},
		"caused": {id, "cause-1", "1", trace, "false"},
	}
	for _, e := range d.events(t) {
		is := [5]string{e.CorrelationID, e.CausationID, fmt.Sprint(e.Filled), e.TraceParent, fmt.Sprint(e.RecordedTime.Known())}
		if is != want[e.ID] {
			t.Errorf("%s is stored with %q, want %q", e.ID, is, want[e.ID])
		}
		if e.tenant != "acme" {
			t.Errorf("%s is stored under tenant %s", e.ID, e.tenant)
		}
		if e.Time.Known() == (e.ID == "bare") {
			t.Errorf("%s: time known = %v; a default belongs to whoever reads the log", e.ID, e.Time.Known())
		}
	}
}

func TestBackfillScope(t *testing.T) {
	t.Parallel()
	d := open(t)
	old := event("old", "2026-03-10T", "2019-03-10T", `"id"`, `"recordedtime":"2019-03-11T00:00:00Z","id"`)
	if got := d.json(t, old); got.status != 422 {
		t.Errorf("seven years old without the scope: %d %s", got.status, got.body)
	}
	d.key = d.newKey(t, "acme", "events:backfill")
	d.awaitKey(t, d.key, http.StatusAccepted)
	if got := d.json(t, old); got.status != 202 {
		t.Fatalf("seven years old with events:backfill: %d %s", got.status, got.body)
	}
	if got := d.json(t, event("ahead", "2026-03-10T12:00:00Z", now().Add(6*time.Minute).Format(time.RFC3339))); got.status != 422 {
		t.Errorf("six minutes ahead with events:backfill: %d %s", got.status, got.body)
	}
	events := d.events(t)
	if len(events) != 1 || events[0].RecordedTime != usage.AtTime(time.Date(2019, 3, 11, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("stored %+v, want one event with its recordedtime", events)
	}
}

func TestBinaryModeCarriesExactlyTheHeaders(t *testing.T) {
	t.Parallel()
	d := open(t)
	got := d.post(t, "", http.Header{
		"Content-Type": {"application/json"}, "Ce-Specversion": {"1.0"}, "Ce-Id": {"b%20%E2%82%AC"}, "Ce-Source": {"/s"},
		"Ce-Type": {"usage.metered"}, "Ce-Subject": {`"caf\"%C3%A9"`}, "Ce-Correlationid": {"op"}, "Ce-Time": {"2026-03-10T13:00:00.25+01:00"},
	}, []byte(`{"meter":"tokens","quantity":"1e3"}`))
	if got.status != 202 {
		t.Fatalf("answered %d %s", got.status, got.body)
	}
	e := d.events(t)[0]
	if e.ID != "b €" || e.Subject != `caf"é` || e.CorrelationID != "op" || e.Metered.Quantity != usage.Int(1000) ||
		e.Time != usage.AtTime(time.Date(2026, 3, 10, 12, 0, 0, 250e6, time.UTC)) {
		t.Errorf("stored %+v %+v", e.Event, *e.Metered)
	}
}

// Two tenants at once: each one's events are under its own subject, whatever they say.
func TestTenantsStayApart(t *testing.T) {
	t.Parallel()
	d := open(t)
	other := d.newKey(t, "globex", "events:write")
	d.awaitKey(t, other, http.StatusAccepted)
	d.json(t, event("a"))
	got := d.post(t, "", http.Header{"Content-Type": {"application/json"}, "Authorization": {"bearer " + other}}, []byte(event("a")))
	if got.status != 202 {
		t.Fatalf("answered %d %s", got.status, got.body)
	}
	events := d.events(t)
	if len(events) != 2 || events[0].tenant != "acme" || events[1].tenant != "globex" {
		t.Errorf("stored %+v", events)
	}
}
