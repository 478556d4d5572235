package scenario

import (
	"strings"
	"testing"
)

// Names and plans that follow each other: a plan above the parent's set in the instant of the move under one that may
// have it, a status that crosses a month's end in another zone, and late events that change who has a name.
func TestOddNamesAndInstants(t *testing.T) {
	w := fixtureA(t)
	w.send(
		ev("2025-02-10T12:00:00Z", "service.plan_set", "A-4", d{"service": "sta", "plan": "STA Premium"}).named("1-plan"),
		ev("2025-02-10T12:00:00Z", "account.reparented", "A-4", d{"new_parent_account_id": "A-3"}).named("2-move"),
		ev("2025-02-20", "service.status_set", "A-3", d{"service": "sta", "status": "Disabled"}),
		ev("2025-03-31T23:30:00-01:00", "service.status_set", "A-3", d{"service": "sta", "status": "Active"}),
		ev("2025-01-01", "account.created", "r", d{"name": "Root", "kind": "provider"}),
		ev("2025-01-05", "account.created", "x", d{"name": "Twin", "kind": "subscriber", "parent_account_id": "r"}).named("x"),
		ev("2025-01-06", "account.created", "y", d{"name": "Twin", "kind": "subscriber", "parent_account_id": "r"}).named("y"),
		ev("2025-01-06", "service.plan_set", "x", d{"service": "sta", "plan": "STA"}), ev("2025-01-06", "service.plan_set", "y", d{"service": "sta", "plan": "STA"}),
		registered("2025-01-07", "y", "u1"), registered("2025-01-07", "x", "u2"), registered("2025-01-07", "x", "u3"),
	)
	moved := func(status string) string {
		return "Acme MSP | STA | Active | 0 | 2 | 3\nAcme MSP | STA Premium | Active | 0 | 5 | 7\nBeta Bank | STA | Active | 0 | 2 | 3\nCargo Ltd | STA Premium | " + status + " | 0 | 4 | 5"
	}
	w.want("a plan and a move in one instant", w.screen("A-1", "2025-02"), moved("Disabled"))
	w.want("March ends before half past midnight", w.screen("A-1", "2025-03"), moved("Disabled"))
	w.want("April", w.screen("A-1", "2025-04"), moved("Active"))

	tree := func(what, rows, rules string) {
		t.Helper()
		want := strings.TrimSpace("Root,r,,,2025-01,,Available,,0,0,0,0,0,0," + rows)
		w.want(what, w.export("account", "r", "from", "2025-01", "to", "2025-01", "scope", "tree"), want)
		w.want(what+": rules", w.ruled(), rules)
	}
	const other = "\nOther,x,Root,r,2025-01,Active,Available,STA,2,0,0,0,0,0,2,0,0,0,0,0\nTwin,y,Root,r,2025-01,Active,Available,STA,1,0,0,0,0,0,1,0,0,0,0,0"
	tree("the second has a name that is taken", "2,0,0,0,0,0\nTwin,x,Root,r,2025-01,Active,Available,STA,2,0,0,0,0,0,2,0,0,0,0,0", "test y duplicate-name")
	w.send(ev("2025-01-05T12:00:00Z", "account.renamed", "x", d{"name": "Other"}).recordedAt("2025-02-20"))
	tree("a late rename gives it free", "3,0,0,0,0,0"+other, "")
	w.send(ev("2025-01-04", "account.created", "z", d{"name": "Twin", "kind": "subscriber", "parent_account_id": "r"}).named("z").recordedAt("2025-02-21"))
	tree("somebody had it before both", "0,0,0,0,0,0\nTwin,z,Root,r,2025-01,,Available,,0,0,0,0,0,0,0,0,0,0,0,0", "test x duplicate-name\ntest y duplicate-name")
	w.send(ev("2025-02-22", "event.voided", "", d{"target": d{"source": "test", "id": "z"}, "reason": "never was"}).named("void"),
		ev("2025-02-23", "event.voided", "", d{"target": d{"source": "test", "id": "void"}, "reason": "a void of a void"}))
	tree("nobody had, and a void stays one", "3,0,0,0,0,0"+other, "")
}

// An entitlement set anew twice on a day, one that ends at midnight while another begins, and a credit returned twice:
// the rows, the events behind every number of them, and what changed between two instants.
func TestOddEntitlements(t *testing.T) {
	w := fixtureB(t)
	set := func(at, id string, users int, credits any, start string, more d) event {
		data := d{"entitlement_id": id, "kind": "USERS", "quantity": users, "sms_voice_credits": credits, "start": start, "status": "ACTIVE"}
		for name, value := range more {
			data[name] = value
		}
		return ev(at, "entitlement.set", "T-1", data)
	}
	w.send(
		set("2025-03-10T10:00:00Z", "e1", 50, "1e2", "2025-03-01T00:00:00Z", nil),
		set("2025-03-10T10:00:00.001Z", "e1", 60, 200, "2025-03-01T00:00:00Z", d{"end": "2025-03-20T00:00:00Z"}),
		set("2025-03-12T10:00:00Z", "e2", 7, "0.5", "2025-03-16T00:00:00Z", nil),
		charged("2025-03-15T23:59:59.999Z", "T-1", "m1", "sms", "1.5").named("sms"), charged("2025-03-16", "T-1", "m2", "voice", "2").named("voice"),
		ev("2025-03-17", "message.credit_returned", "T-1", d{"message_id": "m1", "credits": "1.5"}).named("back"),
		ev("2025-03-18", "message.credit_returned", "T-1", d{"message_id": "m1", "credits": "1.5"}).named("again"),
		registered("2025-03-18T12:00:00Z", "T-1", "u1").named("user"),
	)
	for to, want := range map[string]string{
		"2025-03-09": "100,0,100,500,0,500", "2025-03-10": "60,0,60,200,0,200", "2025-03-15": "60,0,60,200,1.5,198.5", "2025-03-16": "67,0,67,200.5,3.5,197",
		"2025-03-19": "67,1,66,200.5,0.5,200", "2025-03-20": "7,1,6,0.5,0.5,1.5",
	} {
		w.want(to, w.csv("tenant-usage", "account", "S-1", "tenants", "T-1", "from", "2025-03-01", "to", to), headerB+"T-1,Alpha,S-1,PRODUCTION,,2025-03-01,"+to+","+want)
	}
	key := []string{"report", "tenant-usage", "account", "S-1", "tenant", "T-1", "from", "2025-03-01", "to", "2025-03-20", "measure"}
	for i, want := range strings.Split("7,1,6,0.5,0.5,1.5", ",") {
		w.want(tenantNumbers[i], w.explain(append(key, tenantNumbers[i])...).Number, want)
	}
	for column, want := range map[string]string{
		"SMS/Voice Credits Used": "-3\nback -1.5\nagain -1.5", "SMS/Voice Credits Remaining": "3\nback 1.5\nagain 1.5", "Users Remaining": "-1\nuser -1", "Users Entitled": "0",
	} {
		p := w.explain(append(key, column, "from_as_of", "2025-03-16T12:00:00Z")...)
		w.want("what changed of "+column, p.Number+"\n"+p.ids(), want)
	}
	p := w.explain(append(key, "Users Entitled", "from_as_of", "2025-03-09T00:00:00Z", "as_of", "2025-03-11T00:00:00Z")...)
	w.want("what changed of users entitled", p.Number, "-100") // on March 20 the second does not count, and the first ended
	for _, bad := range [][]string{
		append(key, "Users Used", "from_as_of", "2025-03-16"), append(key, "Users Used", "from_as_of", "2025-03-16T00:00:00Z", "as_of", "2025-03-15T00:00:00Z"),
		{"report", "month-adjustments", "month", "2025-03", "from_as_of", "2025-03-16T00:00:00Z"},
		{"month", "2025-03", "account", "T-1", "meter", "sms_credits", "from_as_of", "2025-03-16T00:00:00Z", "version", "1"},
	} {
		if status, answer := w.get("/explain?" + query(bad...)); status != 400 || !strings.Contains(answer, "from_as_of") {
			t.Errorf("explain %v: %d %s", bad, status, answer)
		}
	}
}
