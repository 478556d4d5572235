package scenario

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const headerB = "Tenant ID,Tenant Name,Parent ID,Contract Mode,Bundle,Period Start,Period End,Users Entitled,Users Used,Users Remaining," +
	"SMS/Voice Credits Entitled,SMS/Voice Credits Used,SMS/Voice Credits Remaining\n"

// fixtureB is a service provider with three tenants.
func fixtureB(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.send(fixtureBEvents()...)
	return w
}

func fixtureBEvents() []event {
	return []event{
		ev("2025-01-01", "account.created", "S-1", d{"name": "Ent SP", "kind": "service_provider"}),
		ev("2025-01-01", "account.created", "T-1", d{"name": "Alpha", "kind": "tenant", "parent_account_id": "S-1", "contract_mode": "PRODUCTION"}),
		entitlement("2025-03-01", "T-1", "e1", 100, 500),
		ev("2025-03-01", "account.created", "T-2", d{"name": "Bravo", "kind": "tenant", "parent_account_id": "S-1", "contract_mode": "TRIAL"}),
		ev("2025-01-01", "account.created", "T-3", d{"name": "Smith, Jones | Co", "kind": "tenant", "parent_account_id": "S-1", "contract_mode": "PRODUCTION"}),
		entitlement("2025-01-01", "T-3", "e1", 10, 0),
	}
}

func entitlement(at, account, id string, users, credits int) event {
	return ev(at, "entitlement.set", account, d{
		"entitlement_id": id, "kind": "USERS", "quantity": users, "sms_voice_credits": credits, "start": instant(at), "status": "ACTIVE",
	})
}

func charged(at, account, message, channel string, credits any) event {
	return ev(at, "message.charged", account, d{"message_id": message, "user_id": "u1", "channel": channel, "credits": credits})
}

func status(at, account, user, status string) event {
	return ev(at, "user.status_set", account, d{"user_id": user, "status": status})
}

// eventsB1 is users and messages of Alpha.
func eventsB1() []event {
	var events []event
	for i := range 10 {
		events = append(events, registered("2025-02-10", "T-1", fmt.Sprint("u", i)))
	}
	for i := range 3 {
		events = append(events, registered("2025-03-05", "T-1", fmt.Sprint("new", i)))
	}
	events = append(events, status("2025-03-10", "T-1", "u0", "INACTIVE"), status("2025-03-10", "T-1", "u1", "INACTIVE"))
	for i := range 40 {
		events = append(events, charged("2025-03-02", "T-1", fmt.Sprint("sms", i), "sms", 1))
	}
	for i := range 5 {
		events = append(events, charged("2025-03-15T23:59:59Z", "T-1", fmt.Sprint("call", i), "voice", 2))
	}
	return append(events, charged("2025-03-16", "T-1", "late", "sms", 1))
}

func TestB1SingleTenantCustomPeriodPipe(t *testing.T) {
	w := fixtureB(t)
	w.send(eventsB1()...)
	ask := []string{"account", "S-1", "tenants", "T-1", "from", "2025-03-01", "to", "2025-03-15"}
	w.want("pipe", w.csv("tenant-usage", append(ask, "delimiter", "pipe")...), strings.ReplaceAll(headerB, ",", "|")+
		"T-1|Alpha|S-1|PRODUCTION||2025-03-01|2025-03-15|100|11|89|500|50|450")
	w.want("comma", w.csv("tenant-usage", ask...), headerB+"T-1,Alpha,S-1,PRODUCTION,,2025-03-01,2025-03-15,100,11,89,500,50,450")
	w.want("a day longer", w.csv("tenant-usage", "account", "S-1", "tenants", "T-1", "from", "2025-03-10", "to", "2025-03-16"),
		headerB+"T-1,Alpha,S-1,PRODUCTION,,2025-03-10,2025-03-16,100,11,89,500,11,449")
	w.want("before the entitlement", w.csv("tenant-usage", "account", "S-1", "tenants", "T-1", "from", "2025-02-01", "to", "2025-02-28"),
		headerB+"T-1,Alpha,S-1,PRODUCTION,,2025-02-01,2025-02-28,0,10,-10,0,0,0")
}

func TestB2AllTenantsAndFilter(t *testing.T) {
	w := fixtureB(t)
	w.send(eventsB1()...)
	w.send(
		// Credits given back count on their own day; inactive users are active again; users removed are no users.
		ev("2025-03-12", "message.credit_returned", "T-1", d{"message_id": "sms0", "credits": "0.5"}),
		status("2025-03-11", "T-1", "u0", "ACTIVE"), ev("2025-03-12", "user.removed", "T-1", d{"user_id": "u2"}),
		// A tenant of a tenant; one that is deleted in the period; one deleted before it; one created after it.
		ev("2025-02-01", "account.created", "T-4", d{"name": "Alpha Child", "kind": "tenant", "parent_account_id": "T-1"}),
		ev("2025-02-01", "account.created", "T-5", d{"name": "Echo", "kind": "tenant", "parent_account_id": "S-1", "contract_mode": "PRODUCTION"}),
		entitlement("2025-02-01", "T-5", "e1", 5, 20), registered("2025-02-02", "T-5", "u1"), registered("2025-02-02", "T-5", "u2"),
		charged("2025-02-20", "T-5", "m1", "sms", 3), charged("2025-03-02", "T-5", "m2", "sms", "1.25"),
		ev("2025-03-08T12:00:00Z", "account.deleted", "T-5", d{}),
		ev("2025-01-01", "account.created", "T-6", d{"name": "Foxtrot", "kind": "tenant", "parent_account_id": "S-1"}),
		ev("2025-02-28T23:59:59Z", "account.deleted", "T-6", d{}),
		ev("2025-03-16", "account.created", "T-7", d{"name": "Golf", "kind": "tenant", "parent_account_id": "S-1"}),
		// Two entitlements in force, one terminated, one not yet begun, one over.
		ev("2025-03-03", "entitlement.set", "T-2", d{"entitlement_id": "a", "kind": "USERS", "quantity": 3, "bundles": []string{"X", "Y"}, "start": "2025-03-03T00:00:00Z"}),
		ev("2025-03-03", "entitlement.set", "T-2", d{"entitlement_id": "b", "kind": "TRANSACTIONS", "quantity": 7, "sms_voice_credits": "2.5", "bundles": []string{"Y", "Z"}, "start": "2025-03-03T00:00:00Z", "end": "2025-03-16T00:00:00Z"}),
		ev("2025-03-03", "entitlement.set", "T-2", d{"entitlement_id": "c", "kind": "USERS", "quantity": 50, "start": "2025-03-03T00:00:00Z"}),
		ev("2025-03-04", "entitlement.set", "T-2", d{"entitlement_id": "c", "kind": "USERS", "quantity": 50, "start": "2025-03-03T00:00:00Z", "status": "TERMINATED"}),
		ev("2025-03-03", "entitlement.set", "T-2", d{"entitlement_id": "d", "kind": "USERS", "quantity": 60, "start": "2025-03-16T00:00:00Z"}),
		ev("2025-03-03", "entitlement.set", "T-2", d{"entitlement_id": "e", "kind": "USERS", "quantity": 70, "start": "2025-03-03T00:00:00Z", "end": "2025-03-15T00:00:00Z"}),
	)
	ask := []string{"account", "S-1", "from", "2025-03-01", "to", "2025-03-15"}
	w.want("all", w.csv("tenant-usage", ask...), headerB+`
T-1,Alpha,S-1,PRODUCTION,,2025-03-01,2025-03-15,100,11,89,500,49.5,450.5
T-4,Alpha Child,T-1,UNKNOWN,,2025-03-01,2025-03-15,0,0,0,0,0,0
T-2,Bravo,S-1,TRIAL,X;Y;Z,2025-03-01,2025-03-15,3,0,3,2.5,0,2.5
T-5,Echo,S-1,PRODUCTION,,2025-03-01,2025-03-15,5,2,3,20,1.25,15.75
T-3,"Smith, Jones | Co",S-1,PRODUCTION,,2025-03-01,2025-03-15,10,0,10,0,0,0`[1:])
	lines := strings.Split(strings.TrimSpace(w.csv("tenant-usage", append(ask, "contract_mode", "TRIAL")...)), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], "T-2,") {
		t.Errorf("TRIAL: %q", lines)
	}
	lines = strings.Split(strings.TrimSpace(w.csv("tenant-usage", append(ask, "contract_mode", "PRODUCTION")...)), "\n")
	if len(lines) != 5 {
		t.Errorf("PRODUCTION, with unknown ones: %q", lines)
	}
	lines = strings.Split(strings.TrimSpace(w.csv("tenant-usage", append(ask, "tenants", "T-3, T-1")...)), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], "T-1,") || !strings.HasPrefix(lines[2], "T-3,") {
		t.Errorf("two of them: %q", lines)
	}
}

func TestB3Quoting(t *testing.T) {
	w := fixtureB(t)
	ask := []string{"account", "S-1", "tenants", "T-3", "from", "2025-03-01", "to", "2025-03-15"}
	w.want("comma", w.csv("tenant-usage", append(ask, "delimiter", "comma")...), headerB+
		`T-3,"Smith, Jones | Co",S-1,PRODUCTION,,2025-03-01,2025-03-15,10,0,10,0,0,0`)
	w.want("pipe", w.csv("tenant-usage", append(ask, "delimiter", "pipe")...), strings.ReplaceAll(headerB, ",", "|")+
		`T-3|"Smith, Jones | Co"|S-1|PRODUCTION||2025-03-01|2025-03-15|10|0|10|0|0|0`)
}

func TestB7Presets(t *testing.T) {
	w := fixtureB(t)
	now := time.Now().UTC()
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	day := func(t time.Time) string { return t.Format(time.DateOnly) }
	for preset, want := range map[string]string{
		"":              day(month.AddDate(0, -1, 0)) + "," + day(month.AddDate(0, 0, -1)),
		"last_month":    day(month.AddDate(0, -1, 0)) + "," + day(month.AddDate(0, 0, -1)),
		"current_month": day(month) + "," + day(now),
		"last_7_days":   day(now.AddDate(0, 0, -7)) + "," + day(now.AddDate(0, 0, -1)),
		"last_30_days":  day(now.AddDate(0, 0, -30)) + "," + day(now.AddDate(0, 0, -1)),
	} {
		got := w.csv("tenant-usage", "account", "S-1", "tenants", "T-3", "period", preset)
		if !strings.Contains(got, ","+want+",") {
			t.Errorf("%s: %s, want %s", preset, got, want)
		}
	}
	tomorrow, lastYear := day(now.AddDate(0, 0, 1)), day(now.AddDate(0, -18, -1))
	for name, c := range map[string]struct {
		ask    []string
		status int
		names  string
	}{
		"future":         {[]string{"account", "S-1", "from", "2025-03-01", "to", tomorrow}, http.StatusBadRequest, "to"},
		"too long":       {[]string{"account", "S-1", "from", lastYear, "to", day(now)}, http.StatusBadRequest, "18 months"},
		"both":           {[]string{"account", "S-1", "from", "2025-03-01", "to", "2025-03-02", "period", "last_month"}, http.StatusBadRequest, "period"},
		"half":           {[]string{"account", "S-1", "from", "2025-03-01"}, http.StatusBadRequest, "to"},
		"backwards":      {[]string{"account", "S-1", "from", "2025-03-02", "to", "2025-03-01"}, http.StatusBadRequest, "to"},
		"delimiter":      {[]string{"account", "S-1", "delimiter", "semicolon"}, http.StatusBadRequest, "pipe"},
		"mode":           {[]string{"account", "S-1", "contract_mode", "FREE"}, http.StatusBadRequest, "TRIAL"},
		"account":        {[]string{"account", "S-9"}, http.StatusNotFound, "S-9"},
		"not below":      {[]string{"account", "T-1", "tenants", "T-3"}, http.StatusNotFound, "T-3"},
		"unknown tenant": {[]string{"account", "S-1", "tenants", "T-1,T-9"}, http.StatusNotFound, "T-9"},
	} {
		status, answer := w.get("/reports/tenant-usage?" + query(c.ask...))
		if status != c.status || !strings.Contains(answer, c.names) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}

// buckets is rows of tenant-usage-api: "start count trial".
func (w *world) buckets(pairs ...string) string {
	w.t.Helper()
	var a struct{ Rows []map[string]any }
	w.json(&a, "tenant-usage-api", pairs...)
	var lines []string
	for _, row := range a.Rows {
		start, _ := row["startTime"].(string)
		lines = append(lines, fmt.Sprintf("%s %v %v", start[:10], row["count"], row["trial"]))
	}
	return strings.Join(lines, "\n")
}

func TestB22UsageAPI(t *testing.T) {
	w := fixtureB(t)
	w.send(eventsB1()...)
	w.send(
		success("2025-03-02T23:59:59.999Z", "T-1", "u1"), success("2025-03-03", "T-1", "u1"), success("2025-03-03", "T-1", "u1"),
		ev("2025-03-04", "user.activity", "T-1", d{"user_id": "u1", "kind": "login", "result": "failure"}),
		// Bravo is converted in the middle of its month: two rows of messages.
		registered("2025-03-02", "T-2", "b1"),
		charged("2025-03-10", "T-2", "m1", "sms", 2), charged("2025-03-20", "T-2", "m2", "voice", "1.5"),
		ev("2025-03-15", "account.converted", "T-2", d{"from": "TRIAL", "to": "PRODUCTION"}),
		ev("2025-04-20", "account.deleted", "T-2", d{}),
	)
	march := []string{"from", "2025-03-01", "to", "2025-03-31"}
	ask := func(tenant, kind, aggregation string, more ...string) string {
		return w.buckets(append([]string{"tenant", tenant, "usage_type", kind, "aggregation", aggregation}, more...)...)
	}
	w.want("weeks begin on Monday", ask("T-1", "AUTHENTICATIONS", "WEEKLY", "from", "2025-02-24", "to", "2025-03-31"), "2025-02-24 1 false\n2025-03-03 2 false")
	w.want("days", ask("T-1", "AUTHENTICATIONS", "DAILY", march...), "2025-03-02 1 false\n2025-03-03 2 false")
	w.want("users by week", ask("T-1", "USERS", "WEEKLY", march...),
		"2025-03-03 13 false\n2025-03-10 11 false\n2025-03-17 11 false\n2025-03-24 11 false\n2025-03-31 11 false")
	w.want("users by month", ask("T-1", "USERS", "MONTHLY", "from", "2025-01-01", "to", "2025-03-31"), "2025-01-01 0 false\n2025-02-01 10 false\n2025-03-01 11 false")
	w.want("credits of a converted month", ask("T-2", "SMS_VOICE", "MONTHLY", march...), "2025-03-01 2 true\n2025-03-01 1.5 false")
	w.want("only trial", ask("T-2", "SMS_VOICE", "MONTHLY", append(march, "trial", "true")...), "2025-03-01 2 true")
	w.want("users of a tenant that comes, is converted and goes", ask("T-2", "USERS", "MONTHLY", "from", "2025-02-01", "to", "2025-05-31"), "2025-03-01 1 false")
	w.want("users by day around it", ask("T-2", "USERS", "DAILY", "from", "2025-03-14", "to", "2025-03-15"), "2025-03-14 1 true\n2025-03-15 1 false")
	w.want("nothing counts these", ask("T-1", "IDPROOFING", "MONTHLY", march...), "")
	w.want("as CSV", w.csv("tenant-usage-api", "tenant", "T-1", "usage_type", "SMS_VOICE", "aggregation", "MONTHLY", "from", "2025-03-01T00:00:00Z", "to", "2025-04-01T00:00:00Z"), `
id,tenantId,usageType,aggregationPeriod,startTime,endTime,count,trial,bundleType
T-1:SMS_VOICE:MONTHLY:2025-03-01:FALSE,T-1,SMS_VOICE,MONTHLY,2025-03-01T00:00:00Z,2025-04-01T00:00:00Z,51,FALSE,`)
	if status, answer := w.get("/reports/tenant-usage-api?tenant=T-9&usage_type=USERS&aggregation=DAILY&from=2025-03-01&to=2025-03-02"); status != http.StatusNotFound {
		t.Errorf("unknown tenant: %d %s", status, answer)
	}
	if status, answer := w.get("/reports/tenant-usage-api?tenant=T-1&usage_type=LOGINS&aggregation=DAILY&from=2025-03-01&to=2025-03-02"); status != http.StatusBadRequest || !strings.Contains(answer, "SMS_VOICE") {
		t.Errorf("unknown type: %d %s", status, answer)
	}
}

// Who counts as a user, and which entitlement, when much changes at the period's border; and a tenant that is promoted
// and converted.
func TestB5InactiveAndConverted(t *testing.T) {
	w := fixtureB(t)
	w.send(
		entitlement("2025-03-01", "T-2", "e1", 7, 3),
		registered("2025-03-02", "T-2", "in"), registered("2025-03-02", "T-2", "out"), registered("2025-03-02", "T-2", "back"), registered("2025-03-02", "T-2", "new"),
		status("2025-03-01T12:00:00Z", "T-2", "in", "INACTIVE"), // before it is registered: it holds
		status("2025-03-15T23:59:59.999Z", "T-2", "out", "INACTIVE"), status("2025-03-16", "T-2", "back", "INACTIVE"),
		status("2025-03-03", "T-2", "new", "INACTIVE"), ev("2025-03-04", "user.removed", "T-2", d{"user_id": "new"}), registered("2025-03-05", "T-2", "new"),
		charged("2025-03-14T23:59:59.999Z", "T-2", "m1", "sms", "0.5"), charged("2025-03-15", "T-2", "m2", "sms", 4),
		ev("2025-03-15", "account.converted", "T-2", d{"from": "TRIAL", "to": "PRODUCTION"}),
		ev("2025-03-10", "entitlement.set", "T-3", d{"entitlement_id": "e1", "kind": "USERS", "quantity": 10, "start": "2025-01-01T00:00:00Z", "status": "INACTIVE"}),
		ev("2025-03-10", "entitlement.set", "T-3", d{"entitlement_id": "e2", "kind": "USERS", "quantity": "2.5", "start": "2025-03-15T23:59:59.999Z", "end": "2025-03-16T00:00:00Z"}),
		ev("2025-03-10", "account.reparented", "T-3", d{"new_parent_account_id": "T-1"}),
	)
	ask := []string{"account", "S-1", "from", "2025-03-15", "to", "2025-03-15"}
	w.want("the day of it all", w.csv("tenant-usage", append(ask, "tenants", "T-2,T-3")...), headerB+
		"T-2,Bravo,S-1,PRODUCTION,,2025-03-15,2025-03-15,7,2,5,3,4,-1.5\n"+`T-3,"Smith, Jones | Co",T-1,PRODUCTION,,2025-03-15,2025-03-15,2,0,2,0,0,0`)
	w.want("no trial any more", w.csv("tenant-usage", append(ask, "contract_mode", "TRIAL")...), headerB)
	w.want("the day before", w.csv("tenant-usage", "account", "S-1", "from", "2025-03-14", "to", "2025-03-14", "contract_mode", "TRIAL"),
		headerB+"T-2,Bravo,S-1,TRIAL,,2025-03-14,2025-03-14,7,3,4,3,0.5,2.5")
	w.want("credits by trial", strings.Join(column(w.csv("tenant-usage-api", "tenant", "T-2", "usage_type", "SMS_VOICE", "aggregation", "MONTHLY", "from", "2025-03-01", "to", "2025-03-31"), "count"), " "), "0.5 4")
	w.want("below T-1", w.csv("tenant-usage", "account", "T-1", "from", "2025-03-01", "to", "2025-03-31"),
		headerB+`T-3,"Smith, Jones | Co",T-1,PRODUCTION,,2025-03-01,2025-03-31,0,0,0,0,0,0`)
}
