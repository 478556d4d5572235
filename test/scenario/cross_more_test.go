package scenario

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// X6: two tenants with the same accounts, users and event ids know nothing of each other.
func TestX6TenantsStayApart(t *testing.T) {
	w := fixtureA(t)
	other := &world{t: t, tenant: fmt.Sprintf("s%d", tenants.Add(1))}
	other.key = newKey(t, other.tenant, "events:write", "events:backfill", "usage:read", "reports:read", "dlq:read")
	other.send(
		ev("2025-01-01", "account.created", "A-1", d{"name": "Somebody Else", "kind": "provider"}),
		ev("2025-01-01", "service.plan_set", "A-1", d{"service": "sta", "plan": "STA"}),
		registered("2025-01-02", "A-1", "u1"), ev("2025-02-02", "event.voided", "", d{"target": d{"source": "test", "id": "e30"}, "reason": "mine, not theirs"}),
	)
	ask := []string{"account", "A-1", "month", "2025-01", "scope", "own"}
	w.want("the first", w.export(ask...), "Acme MSP,A-1,,,2025-01,Active,Available,STA Premium,2,1,2,4,3,2,3,2,1,3,2,2")
	if csv := other.export(ask...); strings.Contains(csv, "Acme") || strings.Contains(csv, "A-2") {
		t.Errorf("the second sees the first: %s", csv)
	}
	if status, answer := other.get("/reports/sta-usage?" + query("account", "A-2", "month", "2025-01", "measure", "activity")); status != http.StatusNotFound {
		t.Errorf("an account of the first: %d %s", status, answer)
	}
}

// X8: what happened more than five minutes after it was recorded is refused at the door, and a dead letter where
// there is none; four minutes are accepted, and count from their own time on.
func TestX8Future(t *testing.T) {
	w := newWorld(t)
	w.send(customer("2025-01-01", "A", "Acme"))
	in := func(minutes int) string {
		return time.Now().Add(time.Duration(minutes) * time.Minute).UTC().Format(time.RFC3339)
	}
	if status, answer := w.post(tokens(in(6), "A", "1").recordedAt("2025-01-01")); status != http.StatusUnprocessableEntity {
		t.Errorf("6 minutes ahead of now: %d %s", status, answer)
	}
	if status, answer := w.post(tokens("2025-03-01T00:06:00Z", "A", "1").recordedAt("2025-03-01T00:00:00Z")); status != http.StatusUnprocessableEntity {
		t.Errorf("6 minutes ahead of its recorded time: %d %s", status, answer)
	}
	w.send(tokens("2025-03-01T00:04:00Z", "A", "4").recordedAt("2025-03-01T00:00:00Z").named("four"))
	if status, answer := w.get("/meters/tokens/usage?" + query("from", "2025-03-01T00:04:00Z", "to", "2025-03-02T00:00:00Z")); status != http.StatusOK || !strings.Contains(answer, `"quantity":"4"`) {
		t.Errorf("4 minutes ahead: %d %s", status, answer)
	}
	if status, answer := w.get("/meters/tokens/usage?" + query("from", "2025-02-01T00:00:00Z", "to", "2025-03-01T00:04:00Z")); status != http.StatusOK || strings.Contains(answer, `"quantity":"4"`) {
		t.Errorf("before its own time: %d %s", status, answer)
	}
	nc, err := nats.Connect(house.at.NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream(nats.MaxWait(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for id, minutes := range map[string]int{"ahead-6": 6, "ahead-4": 4} {
		body := fmt.Sprintf(`{"specversion":"1.0","source":"test","id":%q,"type":"usage.metered","time":%q,"subject":"A","data":{"meter":"tokens","quantity":"1"}}`, id, in(minutes))
		m := nats.NewMsg("usage.in." + w.tenant + ".events")
		m.Data = []byte(body)
		m.Header.Set("Content-Type", "application/cloudevents+json")
		if _, err := js.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	w.marker()
	for id, want := range map[string]string{"ahead-6": `"status":"quarantined"`, "ahead-4": `"status":"stored"`} {
		// What was recorded in the log's last millisecond is settled a moment later.
		w.await(id+" to be "+want, func() bool {
			status, answer := w.get("/events/test/" + id)
			return status == http.StatusOK && strings.Contains(answer, want)
		})
	}
}

// X10: a record over the end of a trial is cut there, like at midnight; the parts sum to the whole.
func TestX10TrialCut(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(ev("2025-03-02T00:30:00Z", "usage.metered", "SC-1", d{
		"meter": "user_hours_essentials", "quantity": "1", "region": "EU", "asset": d{"id": "joe@email.com"},
		"start": "2025-03-01T23:30:00Z", "end": "2025-03-02T00:30:00Z", "trial_expiry": "2025-03-02T00:10:00Z",
	}))
	w.want("detail", w.detail("SC-1", "2025-03"), detailHead+
		"O-1,SC-1,Joe,joe@email.com,USER,user_hours_essentials,"+userHours+",2025-03-01T00:00:00Z,2025-03-02T00:00:00Z,0.500000,EU,,TRUE,2025-03-02T00:10:00Z\n"+
		"O-1,SC-1,Joe,joe@email.com,USER,user_hours_essentials,"+userHours+",2025-03-02T00:00:00Z,2025-03-03T00:00:00Z,0.166667,EU,,TRUE,2025-03-02T00:10:00Z\n"+
		"O-1,SC-1,Joe,joe@email.com,USER,user_hours_essentials,"+userHours+",2025-03-02T00:00:00Z,2025-03-03T00:00:00Z,0.333333,EU,,FALSE,2025-03-02T00:10:00Z\n")
}
