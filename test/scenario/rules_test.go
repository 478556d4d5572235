package scenario

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// status is what GET /events says of an event.
func (w *world) status(id string) string {
	w.t.Helper()
	var event struct{ Status string }
	_, answer := w.get("/events/test/" + id)
	if err := json.Unmarshal([]byte(answer), &event); err != nil {
		w.t.Fatalf("%s: %v: %s", id, err, answer)
	}
	return event.Status
}

// letters are the dead letters as "id reason", oldest first, by the API; and it waits for SQL to say the same.
func (w *world) letters() string {
	w.t.Helper()
	_, answer := w.get("/dead-letters?raw=true")
	var page struct {
		Rows []struct {
			ID, Reason string
			RawText    string `json:"raw_text"`
		}
	}
	if err := json.Unmarshal([]byte(answer), &page); err != nil {
		w.t.Fatalf("%v: %s", err, answer)
	}
	lines := []string{}
	for _, r := range page.Rows {
		if !strings.Contains(r.RawText, fmt.Sprintf(`"id":%q`, r.ID)) {
			w.t.Errorf("dead letter %s holds %s", r.ID, r.RawText)
		}
		lines = append([]string{r.ID + " " + r.Reason}, lines...)
	}
	all := strings.Join(lines, "\n")
	w.await("usage_api.dead_letters_v1 to say the same", func() bool {
		return strings.TrimSpace(w.sql("SELECT concat(id, ' ', reason) FROM usage_api.dead_letters_v1 WHERE tenant = '"+w.tenant+"' ORDER BY recorded_at, shard, seq, idx FORMAT TSVRaw")) == all
	})
	return all
}

func account(at, id, name, kind, parent string) event {
	data := d{"name": name, "kind": kind}
	if parent != "" {
		data["parent_account_id"] = parent
	}
	return ev(at, "account.created", id, data).named("created-" + id)
}

func plan(at, id, name string) event {
	return ev(at, "service.plan_set", id, d{"service": "sta", "plan": name})
}

func reparented(at, id, to string) event {
	return ev(at, "account.reparented", id, d{"new_parent_account_id": to})
}

// A group of accounts as in fixture A, with a second provider beside it.
func group() []event {
	return []event{
		account("2025-01-01", "A-1", "Acme MSP", "provider", ""), plan("2025-01-01", "A-1", "STA Premium"),
		account("2025-01-01", "A-2", "Beta Bank", "provider", "A-1"), plan("2025-01-01", "A-2", "STA"),
		account("2025-01-01", "A-4", "Beta Branch", "subscriber", "A-2"), plan("2025-01-01", "A-4", "STA Basic"),
		account("2025-01-01", "A-3", "Cargo Ltd", "subscriber", "A-1"), plan("2025-01-01", "A-3", "STA Premium"),
		account("2025-01-01", "Z-1", "Zeta MSP", "provider", ""),
		account("2025-01-01", "Z-2", "Beta Bank", "subscriber", "Z-1"), // the same name, in another tree
	}
}

// What breaks a rule is stored, has no effect, and is shown with the rule's name everywhere.
func TestRulesOfTheTree(t *testing.T) {
	w := newWorld(t)
	w.send(append(group(),
		reparented("2025-01-05", "A-1", "A-4").named("cycle"),
		reparented("2025-01-05", "A-2", "A-2").named("cycle-self"),
		ev("2025-01-06", "account.deleted", "A-2", d{"reason": "x"}).named("children"),
		account("2025-01-07", "A-5", "Cargo Ltd", "subscriber", "A-2").named("name"),
		ev("2025-01-07", "account.renamed", "A-4", d{"name": "Cargo Ltd"}).named("name-again"),
		plan("2025-01-08", "A-4", "STA Gold").named("plan-unknown"),
		plan("2025-01-08", "A-4", "STA Premium").named("plan-above"),
		plan("2025-01-08", "A-1", "STA").named("plan-below-child"),
		reparented("2025-01-09", "A-4", "Z-1").named("cross"),
		reparented("2025-01-09", "Z-1", "A-1").named("cross-provider"),
		account("2025-01-10", "A-3", "Cargo again", "subscriber", "A-1").named("exists"),
		ev("2025-01-11", "account.deleted", "A-4", d{"reason": "closed"}).named("deleted"),
		ev("2025-01-12", "account.renamed", "A-4", d{"name": "Ghost"}).named("deleted-renamed"),
		account("2025-01-12", "A-6", "Below a ghost", "subscriber", "A-4").named("parent-deleted"),
		plan("2025-01-12", "Z-2", "STA Gold").named("plan-unknown-z"),
		ev("2025-01-13", "account.deleted", "A-2", d{"reason": "x"}).named("deleted-2"), // legal: its child is gone
	)...)
	w.want("dead letters", w.letters(), `
cycle rule:cycle
cycle-self rule:cycle
children rule:living-children
name rule:duplicate-name
name-again rule:duplicate-name
plan-unknown rule:unknown-plan
plan-above rule:plan-above-parent
plan-below-child rule:plan-above-parent
cross rule:cross-provider
cross-provider rule:cross-provider
exists rule:account-exists
deleted-renamed rule:account-deleted
parent-deleted rule:parent-deleted
plan-unknown-z rule:unknown-plan`)
	for id, want := range map[string]string{"cycle": "rule:cycle", "deleted": "stored", "name-again": "rule:duplicate-name"} {
		if got := w.status(id); got != want {
			t.Errorf("status of %s = %s, want %s", id, got, want)
		}
	}
	w.await("accounts_v1", func() bool {
		return strings.TrimSpace(w.sql("SELECT account, name, parent, path, depth, plan['sta'], status FROM usage_api.accounts_v1 WHERE tenant = '"+w.tenant+"' ORDER BY account FORMAT TSVRaw")) == strings.ReplaceAll(
			`A-1|Acme MSP||/A-1|0|STA Premium|Active
A-2|Beta Bank|A-1|/A-1/A-2|1|STA|Deleted
A-3|Cargo Ltd|A-1|/A-1/A-3|1|STA Premium|Active
A-4|Beta Branch|A-2|/A-1/A-2/A-4|2|STA Basic|Deleted
Z-1|Zeta MSP||/Z-1|0||Active
Z-2|Beta Bank|Z-1|/Z-1/Z-2|1||Active`, "|", "\t")
	})
}

// A late event makes legal what broke a rule, and a void does.
func TestRulesHeal(t *testing.T) {
	w := newWorld(t)
	w.send(append(group(), plan("2025-01-20", "A-4", "STA Premium").named("above"), account("2025-01-21", "A-9", "Cargo Ltd", "subscriber", "A-1").named("twin"))...)
	w.want("dead letters", w.letters(), "above rule:plan-above-parent\ntwin rule:duplicate-name")
	w.send(
		plan("2025-01-19", "A-2", "STA Premium").recordedAt("2025-02-03"), // the day before
		ev("2025-02-04", "event.voided", "", d{"target": d{"source": "test", "id": "created-A-3"}, "reason": "never existed"}),
	)
	w.want("dead letters", w.letters(), "")
	if got := w.status("above"); got != "stored" {
		t.Errorf("status = %s, want stored", got)
	}
	if got := w.status("twin"); got != "stored" {
		t.Errorf("status = %s, want stored", got)
	}
}

// A provider on trial adds only tenants on trial.
func TestB19TrialProvider(t *testing.T) {
	w := newWorld(t)
	of := func(e event, mode string) event { e.data["contract_mode"] = mode; return e }
	w.send(
		of(account("2025-01-01", "S-1", "On trial", "service_provider", ""), "TRIAL"),
		of(account("2025-01-02", "T-1", "Trial too", "tenant", "S-1"), "TRIAL"),
		of(account("2025-01-02", "T-2", "Paying", "tenant", "S-1"), "PRODUCTION").named("paying"),
		account("2025-01-02", "T-3", "Says nothing", "tenant", "S-1").named("silent"),
		ev("2025-02-01", "account.converted", "S-1", d{"from": "TRIAL", "to": "PRODUCTION"}),
		of(account("2025-02-02", "T-4", "Paying later", "tenant", "S-1"), "PRODUCTION"),
	)
	w.want("dead letters", w.letters(), "paying rule:trial-provider\nsilent rule:trial-provider")
}

// A meter means what it meant when it was first used.
func TestMeterRedefined(t *testing.T) {
	w := newWorld(t)
	def := func(at, aggregation string) event {
		return ev(at, "meter.defined", "", d{"meter": "seats", "meter_id": "m", "element": "seat", "unit": "seat", "aggregation": aggregation, "scale": 0, "kind": "usage"})
	}
	usage := func(at, quantity string) event {
		return ev(at, "usage.metered", "a", d{"meter": "seats", "quantity": quantity})
	}
	w.send(
		ev("2025-01-01", "account.created", "a", d{"name": "Acme", "kind": "customer"}),
		def("2025-01-01", "sum").named("first"), def("2025-01-02", "max").named("before-use"),
		usage("2025-01-10", "5"), usage("2025-01-11", "7"),
		def("2025-01-20", "sum").named("after-use"), def("2025-01-21", "max").named("the-same"),
	)
	w.want("dead letters", w.letters(), "after-use rule:meter-redefined")
	total := func() string {
		_, answer := w.get("/meters/seats/usage?" + url.Values{"from": {"2025-01-01T00:00:00Z"}, "to": {"2025-02-01T00:00:00Z"}, "window": {"total"}}.Encode())
		var page struct{ Rows []struct{ Quantity string } }
		if err := json.Unmarshal([]byte(answer), &page); err != nil || len(page.Rows) != 1 {
			t.Fatalf("%v: %s", err, answer)
		}
		return page.Rows[0].Quantity
	}
	if got := total(); got != "7" {
		t.Errorf("max = %s, want 7", got)
	}
	// Late usage before the second definition: now that one is a redefinition.
	w.send(usage("2025-01-01T12:00:00Z", "1").recordedAt("2025-02-01"))
	if got := total(); got != "13" {
		t.Errorf("sum = %s, want 13", got)
	}
	if got := w.status("before-use"); got != "rule:meter-redefined" {
		t.Errorf("status = %s", got)
	}
}
