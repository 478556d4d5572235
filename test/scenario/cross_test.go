package scenario

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/rebuild"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// crossAsOf is later than everything in the fixtures was recorded.
const crossAsOf = "2026-06-30T00:00:00Z"

// allFixtures are those of all five systems, with what their scenarios add: late events, voids, a gap, plans that
// change, trials, refunds. Accounts named alike in two of them are kept apart. Each event has its id and its
// correlation, so that it is the same event wherever it is sent.
func allFixtures() []event {
	events := append(fixtureAEvents(), eventsA4()...)
	events = append(events,
		success("2025-01-30", "A-2", "u4").recordedAt("2025-02-06"), // late
		success("2025-01-21", "A-2", "u5").named("mistake"),
		ev("2025-02-02", "event.voided", "", d{"target": d{"source": "test", "id": "mistake"}, "reason": "never happened"}),
		ev("2025-03-03", "ingest.gap_declared", "A-4", d{"from": "2025-02-27T00:00:00Z", "to": "2025-03-02T00:00:00Z", "reason": "lost"}),
		ev("2025-02-20", "account.created", "A-5", d{"name": "Delta", "kind": "subscriber", "parent_account_id": "A-1"}),
		ev("2025-03-15", "account.deleted", "A-5", d{"reason": "left"}),
	)
	events = append(append(events, fixtureBEvents()...), eventsB1()...)
	events = append(events, fixtureC()...)
	events = append(events, hours("2025-03-01", 34, "SC-1", "user_hours_essentials", "joe@email.com")...)
	events = append(events, ev("2025-03-01", "asset.trial_set", "SC-2", d{"asset_id": "joe@email.com", "trial_expiry": "2025-03-02T00:00:00Z"}))
	events = append(events, hours("2025-03-01", 30, "SC-2", "user_hours_essentials", "joe@email.com")...)
	events = append(events, gib("2025-03-10", "SC-1", "650"), gib("2025-03-31", "SC-1", "10").recordedAt("2025-04-10"))
	events = append(append(events, fixtureD()...), lineItem("ACT01", 1000, "2034-04-17T00:00:00Z"), d1())
	events = append(append(events, fixtureE()...), orderedE1(),
		inventory("2025-07-02", "inventory.changed", "T-2", "4", "100.27"), inventory("2025-11-01", "renewal_inventory.changed", "T-3", "-2", "0.00"))
	for i := range events {
		if events[i].id == "" {
			events[i].id = fmt.Sprintf("x%d", i)
		}
		events[i].correlation = "correlation-" + events[i].id
	}
	return events
}

// crossTenant is what there is to ask about the fixtures.
func crossTenant(t *testing.T) *rebuild.Tenant {
	t.Helper()
	s := &rebuild.Tenant{
		Roots: []string{"A-1", "S-1", "O-1", "C-1", "Dist"}, Parents: []string{"A-1", "A-2", "S-1", "O-1", "Dist"},
		Accounts: []string{"A-1", "A-2", "T-1", "T-2", "T-3", "SC-1", "SC-2", "K-1"},
	}
	for _, month := range []string{"2023-12", "2025-01", "2025-02", "2025-03", "2025-07"} {
		m, err := usage.ParseMonth(month)
		if err != nil {
			t.Fatal(err)
		}
		s.Months = append(s.Months, m)
	}
	return s
}

// exports is the hash of every report that there is, as CSV, by question; the tenant's name is left out of it.
func (w *world) exports() map[string]string {
	w.t.Helper()
	hashes := map[string]string{}
	tenant := crossTenant(w.t)
	rows := 0
	for _, d := range report.Definitions() {
		asked, _ := tenant.Questions(d, questionsEach)
		answered := 0
		for _, q := range asked {
			pairs := []string{"format", "csv", "as_of", crossAsOf}
			for name, value := range q.Values {
				pairs = append(pairs, name, value)
			}
			path := "/reports/" + d.Name + "?" + query(pairs...)
			status, answer := w.get(path)
			if status == http.StatusOK {
				answered++
				rows += strings.Count(answer, "\n") - 1
			} else {
				var problem struct{ Code, Detail string }
				_ = json.Unmarshal([]byte(answer), &problem) // whatever it is, it must be the same
				answer = problem.Code + problem.Detail
			}
			sum := sha256.Sum256([]byte(strings.ReplaceAll(answer, w.tenant, "TENANT")))
			hashes[path] = fmt.Sprintf("%d %s", status, hex.EncodeToString(sum[:]))
		}
		if answered == 0 {
			w.t.Errorf("nothing was asked of %s, or nothing answered", d.Name)
		}
	}
	if rows < 100 {
		w.t.Errorf("all reports together have %d rows", rows)
	}
	return hashes
}

// questionsEach is how much is asked about each report: each is a request, and the more is TestRebuildUnderLoad's.
const questionsEach = 8

// same compares the hashes of two loads.
func (w *world) same(what string, got, want map[string]string) {
	w.t.Helper()
	if len(got) != len(want) {
		w.t.Errorf("%s: %d answers, want %d", what, len(got), len(want))
	}
	for path, hash := range want {
		if got[path] != hash {
			w.t.Errorf("%s: %s: %s, want %s", what, path, got[path], hash)
		}
	}
}

// X1: all fixtures, every export; all projections made again; the same bytes. A rebuild asks every report of every tenant:
// it runs while there is only this one (TestRebuildUnderLoad of test/rebuild has several).
func TestX1Rebuild(t *testing.T) {
	w := newWorldAlone(t)
	w.send(allFixtures()...)
	before := w.exports()
	out, err := exec.CommandContext(t.Context(), house.program, "rebuild", "--dir", house.dir, "--questions", "6", "-o", "json").CombinedOutput()
	if err != nil {
		t.Fatalf("rebuild: %v\n%s", err, out)
	}
	w.same("behind the rebuild", w.exports(), before)
	w.send(success("2025-05-05", "A-2", "u4")) // and it counts on
	if status, answer := w.get("/reports/sta-usage?" + query("account", "A-2", "month", "2025-05", "measure", "activity", "format", "csv")); status != http.StatusOK || !strings.Contains(answer, ",1") {
		t.Errorf("an event after the rebuild: %d %s", status, answer)
	}
}

// X2: the same log in any order that producers may take, and every event once to three times: the same bytes.
func TestX2OrderAndRepetition(t *testing.T) {
	first, second := newWorld(t), &world{t: t, tenant: fmt.Sprintf("s%d", tenants.Add(1))}
	second.key = newKey(t, second.tenant, "events:write", "events:backfill", "usage:read", "reports:read")
	first.send(allFixtures()...)
	rnd := rand.New(rand.NewPCG(20250301, 7))
	var shuffled []event
	for _, e := range allFixtures() {
		for range 1 + rnd.IntN(3) {
			shuffled = append(shuffled, e)
		}
	}
	rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for len(shuffled) > 0 { // in many requests, so in many chunks
		n := min(len(shuffled), 1+rnd.IntN(120))
		if status, answer := second.post(shuffled[:n]...); status != http.StatusAccepted {
			t.Fatalf("POST /events: %d %s", status, answer)
		}
		shuffled = shuffled[n:]
	}
	second.marker()
	second.same("shuffled and repeated", second.exports(), first.exports())
}

// X3: the same identity with another quantity: the first counts, the second is a dead letter.
func TestX3Conflict(t *testing.T) {
	w := newWorld(t)
	w.send(customer("2025-01-01", "A", "Acme"), tokens("2025-03-03", "A", "10").named("twice"))
	w.send(tokens("2025-03-03", "A", "11").named("twice"))
	var months struct{ Rows []map[string]any }
	status, answer := w.get("/months/2025-03/usage")
	if err := json.Unmarshal([]byte(answer), &months); status != http.StatusOK || err != nil || len(months.Rows) != 1 {
		t.Fatalf("the month: %d %s", status, answer)
	}
	if q, _ := months.Rows[0]["quantity"].(string); q != "10" {
		t.Errorf("quantity %q, want 10", q)
	}
	var dead struct{ Rows []map[string]any }
	status, answer = w.get("/dead-letters")
	if err := json.Unmarshal([]byte(answer), &dead); status != http.StatusOK || err != nil || len(dead.Rows) != 1 || dead.Rows[0]["reason"] != "conflict" {
		t.Errorf("dead letters: %d %s", status, answer)
	}
}

// X5: usage of an account that nobody has created counts, is not resolved and in no product's report; when the
// creation comes, with an earlier time, it joins in.
func TestX5UnknownFirst(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(ev("2025-03-05", "usage.metered", "SC-9", d{"meter": "bandwidth_gib_essentials", "quantity": "3", "region": "EU", "platform": "azure", "asset": d{"id": "L-9", "type": "TRANSPORT"}}))
	resolved := func() bool {
		var months struct{ Rows []map[string]any }
		status, answer := w.get("/months/2025-03/usage")
		if err := json.Unmarshal([]byte(answer), &months); status != http.StatusOK || err != nil {
			t.Fatalf("the month: %d %s", status, answer)
		}
		for _, row := range months.Rows {
			if row["account"] == "SC-9" {
				if row["quantity"] != "3" {
					t.Errorf("quantity %v, want 3", row["quantity"])
				}
				yes, _ := row["resolved"].(bool)
				return yes
			}
		}
		t.Fatalf("the month has no row of SC-9: %s", answer)
		return false
	}
	if resolved() {
		t.Error("an account nobody has created is resolved")
	}
	if costs := w.costs("2025-03"); strings.Contains(costs, "SC-9") {
		t.Errorf("an account nobody has created has costs: %s", costs)
	}
	w.send(
		ev("2025-02-01", "account.created", "SC-9", d{"name": "Nine", "kind": "tenant", "parent_account_id": "O-1"}).recordedAt("2025-03-06"),
		ev("2025-02-01", "service.plan_set", "SC-9", d{"service": "secure-connect", "plan": "essentials"}).recordedAt("2025-03-06"),
		ev("2025-02-01", "asset.registered", "SC-9", d{"asset_id": "L-9", "asset_name": "Line", "asset_type": "TRANSPORT"}).recordedAt("2025-03-06"),
	)
	if !resolved() {
		t.Error("an account that was created is not resolved")
	}
	if costs := w.costs("2025-03"); !strings.Contains(costs, "SC-9") {
		t.Errorf("an account that was created has no costs: %s", costs)
	}
	if costs := w.costs("2025-03", "as_of", "2025-03-05T12:00:00Z"); strings.Contains(costs, "SC-9") {
		t.Errorf("before its creation was recorded it has costs: %s", costs)
	}
}
