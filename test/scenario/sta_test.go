package scenario

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// fixtureA is a provider with two children and a grandchild.
func fixtureA(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.send(fixtureAEvents()...)
	return w
}

func fixtureAEvents() []event {
	var events []event
	account := func(id, name, kind, parent, plan string) {
		data := d{"name": name, "kind": kind}
		if parent != "" {
			data["parent_account_id"] = parent
		}
		events = append(events,
			ev("2025-01-01", "account.created", id, data),
			ev("2025-01-01", "service.plan_set", id, d{"service": "sta", "plan": plan}),
			ev("2025-01-01", "service.status_set", id, d{"service": "sta", "status": "Active"}))
	}
	account("A-1", "Acme MSP", "provider", "", "STA Premium")
	account("A-2", "Beta Bank", "provider", "A-1", "STA")
	account("A-4", "Beta Branch", "subscriber", "A-2", "STA Basic")
	account("A-3", "Cargo Ltd", "subscriber", "A-1", "STA Premium")
	each := func(accounts string, add func(account, user string)) {
		for part := range strings.SplitSeq(accounts, " · ") {
			account, users, _ := strings.Cut(part, ": ")
			for user := range strings.FieldsSeq(users) {
				add(account, user)
			}
		}
	}
	each("A-1: u1 u2 · A-2: u3 u4 u5 · A-4: u6 u7 u8 u9 · A-3: u10", func(account, user string) {
		events = append(events, registered("2025-01-02", account, user))
	})
	each("A-1: u1 · A-2: u3 u4 · A-4: u6 u7 u8 · A-3: u10", func(account, user string) {
		events = append(events, token("2025-01-03", account, user, "active"))
	})
	each("A-1: u1 u2 · A-2: u3 · A-4: u6 u7", func(account, user string) {
		events = append(events, success("2025-01-20", account, user))
	})
	return events
}

func registered(at, account, user string) event {
	return ev(at, "user.registered", account, d{"user_id": user})
}

// token is the state of the token that is named after its user.
func token(at, account, user, state string) event {
	return ev(at, "token.state_set", account, d{"token_id": "token-" + user, "user_id": user, "state": state})
}

func success(at, account, user string) event {
	return ev(at, "user.activity", account, d{"user_id": user, "kind": "login", "result": "success"})
}

// screen is the three measures of a month side by side, as in the scenarios: "account | plan | status | activity | token | registered".
func (w *world) screen(account, month string, more ...string) string {
	w.t.Helper()
	var lines []string
	for i, measure := range []string{"activity", "token", "registered"} {
		var a struct {
			Columns []string
			Rows    []map[string]any
		}
		w.json(&a, "sta-usage", append([]string{"account", account, "month", month, "measure", measure}, more...)...)
		heading := []string{"Users with Activity", "Users with Token", "Users Registered"}[i]
		if len(a.Columns) != 4 || a.Columns[3] != heading {
			w.t.Errorf("columns of %s: %v", measure, a.Columns)
		}
		for n, row := range a.Rows {
			if i == 0 {
				lines = append(lines, fmt.Sprintf("%s | %s | %s", row["Account Name"], row["Plan"], row["Status"]))
			}
			number := row[heading]
			if number == nil {
				number = ""
			}
			lines[n] += fmt.Sprintf(" | %v", number)
		}
	}
	return strings.Join(lines, "\n")
}

// export is the lines of a CSV export, without its header.
func (w *world) export(pairs ...string) string {
	w.t.Helper()
	header, lines, _ := strings.Cut(w.csv("sta-usage", pairs...), "\n")
	const want = "Account Name,Account ID,Parent Account Name,Parent Account ID,Month,Status,Data Status,Plan,Users Registered,Users with Token,Users with Activity," +
		"Tree STA Basic Registered,Tree STA Basic Token,Tree STA Basic Activity,Tree STA Registered,Tree STA Token,Tree STA Activity," +
		"Tree STA Premium Registered,Tree STA Premium Token,Tree STA Premium Activity"
	w.want("header", header, want)
	return lines
}

const screenA1 = `
Acme MSP | STA Basic | Active | 2 | 3 | 4
Acme MSP | STA | Active | 1 | 2 | 3
Acme MSP | STA Premium | Active | 2 | 2 | 3
Beta Bank | STA Basic | Active | 2 | 3 | 4
Beta Bank | STA | Active | 1 | 2 | 3
Cargo Ltd | STA Premium | Active | 0 | 1 | 1`

func TestA1OnScreen(t *testing.T) {
	w := fixtureA(t)
	w.want("A-1", w.screen("A-1", "2025-01"), screenA1)
	w.want("A-2", w.screen("A-2", "2025-01"), `
Beta Bank | STA Basic | Active | 2 | 3 | 4
Beta Bank | STA | Active | 1 | 2 | 3
Beta Branch | STA Basic | Active | 2 | 3 | 4`)
	w.want("a subscriber", w.screen("A-3", "2025-01"), `Cargo Ltd | STA Premium | Active | 0 | 1 | 1`)
	w.want("before anybody existed", w.screen("A-1", "2024-12"), ``)
}

func TestA2ExportScopes(t *testing.T) {
	w := fixtureA(t)
	lines := []string{
		"Acme MSP,A-1,,,2025-01,Active,Available,STA Premium,2,1,2,4,3,2,3,2,1,3,2,2",
		"Beta Bank,A-2,Acme MSP,A-1,2025-01,Active,Available,STA,3,2,1,4,3,2,3,2,1,0,0,0",
		"Beta Branch,A-4,Beta Bank,A-2,2025-01,Active,Available,STA Basic,4,3,2,4,3,2,0,0,0,0,0,0",
		"Cargo Ltd,A-3,Acme MSP,A-1,2025-01,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0",
	}
	w.want("own", w.export("account", "A-1", "month", "2025-01", "scope", "own"), lines[0])
	w.want("children", w.export("account", "A-1", "month", "2025-01", "scope", "children"), lines[0]+"\n"+lines[1]+"\n"+lines[3])
	w.want("tree", w.export("account", "A-1", "from", "2025-01", "to", "2025-01", "scope", "tree"), strings.Join(lines, "\n"))
	w.want("tree of a child", w.export("account", "A-2", "month", "2025-01", "scope", "tree"), lines[1]+"\n"+lines[2])
}

func TestA3MonthBorderAndOffsets(t *testing.T) {
	w := fixtureA(t)
	w.send(
		token("2025-01-31T23:59:59.999Z", "A-2", "u5", "active"),
		token("2025-02-01T00:00:00.000Z", "A-4", "u9", "active"),
		token("2025-01-31T20:30:00-05:00", "A-1", "u2", "active"),
	)
	w.want("January", w.screen("A-1", "2025-01"), `
Acme MSP | STA Basic | Active | 2 | 3 | 4
Acme MSP | STA | Active | 1 | 3 | 3
Acme MSP | STA Premium | Active | 2 | 2 | 3
Beta Bank | STA Basic | Active | 2 | 3 | 4
Beta Bank | STA | Active | 1 | 3 | 3
Cargo Ltd | STA Premium | Active | 0 | 1 | 1`)
	w.want("February", w.screen("A-1", "2025-02"), `
Acme MSP | STA Basic | Active | 0 | 4 | 4
Acme MSP | STA | Active | 0 | 3 | 3
Acme MSP | STA Premium | Active | 0 | 3 | 3
Beta Bank | STA Basic | Active | 0 | 4 | 4
Beta Bank | STA | Active | 0 | 3 | 3
Cargo Ltd | STA Premium | Active | 0 | 1 | 1`)
}

func eventsA4() []event {
	return []event{
		ev("2025-02-14", "service.plan_set", "A-2", d{"service": "sta", "plan": "STA Premium"}),
		success("2025-02-03", "A-2", "u3"),
		success("2025-02-20", "A-2", "u4"),
	}
}

func TestA4PlanChangeMidMonth(t *testing.T) {
	w := fixtureA(t)
	w.send(eventsA4()...)
	w.want("February", w.screen("A-1", "2025-02"), `
Acme MSP | STA Basic | Active | 0 | 3 | 4
Acme MSP | STA Premium | Active | 2 | 4 | 6
Beta Bank | STA Basic | Active | 0 | 3 | 4
Beta Bank | STA Premium | Active | 2 | 2 | 3
Cargo Ltd | STA Premium | Active | 0 | 1 | 1`)
	w.want("January", w.screen("A-1", "2025-01"), screenA1)
}

func TestA5ReparentedMidMonth(t *testing.T) {
	w := fixtureA(t)
	w.send(ev("2025-02-10", "account.reparented", "A-4", d{"new_parent_account_id": "A-3"}))
	w.want("January", w.screen("A-1", "2025-01"), screenA1)
	w.want("February", w.screen("A-1", "2025-02"), `
Acme MSP | STA Basic | Active | 0 | 3 | 4
Acme MSP | STA | Active | 0 | 2 | 3
Acme MSP | STA Premium | Active | 0 | 2 | 3
Beta Bank | STA | Active | 0 | 2 | 3
Cargo Ltd | STA Basic | Active | 0 | 3 | 4
Cargo Ltd | STA Premium | Active | 0 | 1 | 1`)
	// Under Beta Bank in January, outside its tree in February: one row, and it was in scope.
	w.want("tree of Beta Bank", w.export("account", "A-2", "from", "2025-01", "to", "2025-02", "scope", "tree"), `
Beta Bank,A-2,Acme MSP,A-1,2025-01,Active,Available,STA,3,2,1,4,3,2,3,2,1,0,0,0
Beta Bank,A-2,Acme MSP,A-1,2025-02,Active,Available,STA,3,2,0,0,0,0,3,2,0,0,0,0
Beta Branch,A-4,Beta Bank,A-2,2025-01,Active,Available,STA Basic,4,3,2,4,3,2,0,0,0,0,0,0`)
	w.want("children of Cargo", w.export("account", "A-3", "from", "2025-01", "to", "2025-02", "scope", "children"), `
Cargo Ltd,A-3,Acme MSP,A-1,2025-01,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0
Cargo Ltd,A-3,Acme MSP,A-1,2025-02,Active,Available,STA Premium,1,1,0,4,3,0,0,0,0,1,1,0
Beta Branch,A-4,Cargo Ltd,A-3,2025-02,Active,Available,STA Basic,4,3,0,4,3,0,0,0,0,0,0,0`)
	w.want("both, in the whole tree", w.export("account", "A-1", "from", "2025-01", "to", "2025-02", "scope", "tree"), `
Acme MSP,A-1,,,2025-01,Active,Available,STA Premium,2,1,2,4,3,2,3,2,1,3,2,2
Acme MSP,A-1,,,2025-02,Active,Available,STA Premium,2,1,0,4,3,0,3,2,0,3,2,0
Beta Bank,A-2,Acme MSP,A-1,2025-01,Active,Available,STA,3,2,1,4,3,2,3,2,1,0,0,0
Beta Bank,A-2,Acme MSP,A-1,2025-02,Active,Available,STA,3,2,0,0,0,0,3,2,0,0,0,0
Cargo Ltd,A-3,Acme MSP,A-1,2025-01,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0
Cargo Ltd,A-3,Acme MSP,A-1,2025-02,Active,Available,STA Premium,1,1,0,4,3,0,0,0,0,1,1,0
Beta Branch,A-4,Beta Bank,A-2,2025-01,Active,Available,STA Basic,4,3,2,4,3,2,0,0,0,0,0,0
Beta Branch,A-4,Cargo Ltd,A-3,2025-02,Active,Available,STA Basic,4,3,0,4,3,0,0,0,0,0,0,0`)
}

func TestA6CreatedAndDeletedInside(t *testing.T) {
	w := fixtureA(t)
	w.send(
		ev("2025-02-20", "account.created", "A-5", d{"name": "Delta", "kind": "subscriber", "parent_account_id": "A-1"}),
		ev("2025-02-20", "service.plan_set", "A-5", d{"service": "sta", "plan": "STA Basic"}),
		ev("2025-02-20", "service.status_set", "A-5", d{"service": "sta", "status": "Active"}),
		registered("2025-02-21", "A-5", "d1"), registered("2025-02-21", "A-5", "d2"),
		ev("2025-03-15", "account.deleted", "A-5", d{}),
	)
	var delta []string
	for line := range strings.Lines(w.export("account", "A-1", "from", "2025-01", "to", "2025-03", "scope", "children")) {
		if strings.HasPrefix(line, "Delta,") {
			delta = append(delta, line)
		}
	}
	w.want("Delta", strings.Join(delta, ""), `
Delta,A-5,Acme MSP,A-1,2025-01,,Non existent,,,,,,,,,,,,,
Delta,A-5,Acme MSP,A-1,2025-02,Active,Available,STA Basic,2,0,0,2,0,0,0,0,0,0,0,0
Delta,A-5,Acme MSP,A-1,2025-03,,Non existent,,,,,,,,,,,,,`)
	for month, want := range map[string]string{"2025-01": "4", "2025-02": "6", "2025-03": "4"} {
		line, _, _ := strings.Cut(strings.TrimSpace(w.screen("A-1", month)), "\n")
		if !strings.HasPrefix(line, "Acme MSP | STA Basic | ") || !strings.HasSuffix(line, " | "+want) {
			t.Errorf("%s: %s, want %s registered", month, line, want)
		}
	}
	w.want("Delta itself, after its end", w.screen("A-5", "2025-03"), ``)
}

func TestA7DisabledIsNotGone(t *testing.T) {
	w := fixtureA(t)
	w.send(
		ev("2025-02-10", "service.status_set", "A-3", d{"service": "sta", "status": "Disabled"}),
		ev("2025-03-10", "service.status_set", "A-3", d{"service": "sta", "status": "Active"}),
	)
	w.want("Cargo", w.export("account", "A-3", "from", "2025-01", "to", "2025-03", "scope", "own"), `
Cargo Ltd,A-3,Acme MSP,A-1,2025-01,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0
Cargo Ltd,A-3,Acme MSP,A-1,2025-02,Disabled,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0
Cargo Ltd,A-3,Acme MSP,A-1,2025-03,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0`)
	w.want("on screen", w.screen("A-3", "2025-02"), `Cargo Ltd | STA Premium | Disabled | 0 | 1 | 1`)
}

// complete is tree_complete of the rows of an export, by account and month.
func (w *world) complete(pairs ...string) map[string]bool {
	w.t.Helper()
	var a struct{ Rows []map[string]any }
	w.json(&a, "sta-usage", append(pairs, "view", "export")...)
	all := map[string]bool{}
	for _, row := range a.Rows {
		all[fmt.Sprint(row["Account ID"], " ", row["Month"])], _ = row["tree_complete"].(bool)
	}
	return all
}

func TestA8DataGap(t *testing.T) {
	w := fixtureA(t)
	ask := []string{"account", "A-1", "from", "2025-01", "to", "2025-03", "scope", "tree"}
	w.send(ev("2025-03-03", "ingest.gap_declared", "A-4", d{"from": "2025-02-27T00:00:00Z", "to": "2025-03-02T00:00:00Z", "reason": "collector down"}))
	w.want("with the gap", w.export(ask...), `
Acme MSP,A-1,,,2025-01,Active,Available,STA Premium,2,1,2,4,3,2,3,2,1,3,2,2
Acme MSP,A-1,,,2025-02,Active,Available,STA Premium,2,1,0,0,0,0,3,2,0,3,2,0
Acme MSP,A-1,,,2025-03,Active,Available,STA Premium,2,1,0,0,0,0,3,2,0,3,2,0
Beta Bank,A-2,Acme MSP,A-1,2025-01,Active,Available,STA,3,2,1,4,3,2,3,2,1,0,0,0
Beta Bank,A-2,Acme MSP,A-1,2025-02,Active,Available,STA,3,2,0,0,0,0,3,2,0,0,0,0
Beta Bank,A-2,Acme MSP,A-1,2025-03,Active,Available,STA,3,2,0,0,0,0,3,2,0,0,0,0
Beta Branch,A-4,Beta Bank,A-2,2025-01,Active,Available,STA Basic,4,3,2,4,3,2,0,0,0,0,0,0
Beta Branch,A-4,Beta Bank,A-2,2025-02,Active,Not available,STA Basic,,,,,,,,,,,,
Beta Branch,A-4,Beta Bank,A-2,2025-03,Active,Not available,STA Basic,,,,,,,,,,,,
Cargo Ltd,A-3,Acme MSP,A-1,2025-01,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0
Cargo Ltd,A-3,Acme MSP,A-1,2025-02,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0
Cargo Ltd,A-3,Acme MSP,A-1,2025-03,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0`)
	got := w.complete(ask...)
	for key, want := range map[string]bool{"A-1 2025-01": true, "A-1 2025-02": false, "A-2 2025-02": false, "A-4 2025-02": false, "A-2 2025-03": false, "A-3 2025-02": true} {
		if got[key] != want {
			t.Errorf("tree_complete of %s: %v", key, got[key])
		}
	}
	w.want("on screen", w.screen("A-2", "2025-02"), `
Beta Bank | STA Basic | Active | 0 | 0 | 0
Beta Bank | STA | Active | 0 | 2 | 3
Beta Branch | STA Basic | Active |  |  | `)

	// What is closed is exactly what is covered: February is whole again, March is not.
	w.send(ev("2025-03-04", "ingest.gap_closed", "A-4", d{"from": "2025-02-20T00:00:00Z", "to": "2025-03-01T00:00:00Z"}))
	got = w.complete(ask...)
	if !got["A-2 2025-02"] || got["A-2 2025-03"] {
		t.Errorf("tree_complete after a part was closed: %v", got)
	}
	w.send(ev("2025-03-05", "ingest.gap_closed", "A-4", d{"from": "2025-02-27T00:00:00Z", "to": "2025-03-02T00:00:00Z"}))
	w.want("A-4 after the gap", w.export("account", "A-4", "from", "2025-02", "to", "2025-03"), `
Beta Branch,A-4,Beta Bank,A-2,2025-02,Active,Available,STA Basic,4,3,0,4,3,0,0,0,0,0,0,0
Beta Branch,A-4,Beta Bank,A-2,2025-03,Active,Available,STA Basic,4,3,0,4,3,0,0,0,0,0,0,0`)
	for key, complete := range w.complete(ask...) {
		if !complete {
			t.Errorf("%s is not complete after the gap was closed", key)
		}
	}
	// As known before: the gap is open.
	w.want("as of the day before", w.export("account", "A-4", "month", "2025-02", "as_of", "2025-03-03T12:00:00Z"),
		`Beta Branch,A-4,Beta Bank,A-2,2025-02,Active,Not available,STA Basic,,,,,,,,,,,,`)
}

func TestA9GapOfASource(t *testing.T) {
	w := fixtureA(t)
	w.send(ev("2025-02-03", "ingest.gap_declared", "", d{"from": "2025-01-31T23:59:59.999Z", "to": "2025-02-01T00:00:00Z", "reason": "all of it"}))
	for key, complete := range w.complete("account", "A-1", "from", "2025-01", "to", "2025-02", "scope", "tree") {
		if want := strings.HasSuffix(key, "2025-02"); complete != want {
			t.Errorf("%s: complete %v", key, complete)
		}
	}
}

func TestA10UsersComeAndGo(t *testing.T) {
	w := fixtureA(t)
	w.send(
		// A user removed after activity still was active; his token counts no longer.
		success("2025-02-05", "A-3", "u10"), ev("2025-02-28T23:59:59.999Z", "user.removed", "A-3", d{"user_id": "u10"}),
		// Removed at the first instant of the next month: registered at February's end.
		ev("2025-03-01", "user.removed", "A-2", d{"user_id": "u5"}),
		// An inactive user is registered; a failure is no activity; two tokens and two successes count once.
		ev("2025-02-01", "user.status_set", "A-2", d{"user_id": "u4", "status": "INACTIVE"}),
		ev("2025-02-02", "user.activity", "A-2", d{"user_id": "u4", "kind": "login", "result": "failure"}),
		ev("2025-02-02", "token.state_set", "A-2", d{"token_id": "second", "user_id": "u3", "state": "active"}),
		success("2025-02-03", "A-2", "u3"), success("2025-02-04", "A-2", "u3"),
		// Suspended, then active again in March.
		token("2025-02-10", "A-1", "u1", "suspended"), token("2025-03-01", "A-1", "u1", "active"),
		// A token passed on to another user.
		ev("2025-02-11", "token.state_set", "A-4", d{"token_id": "token-u6", "user_id": "u9", "state": "active"}),
		token("2025-02-12", "A-4", "u7", "revoked"),
	)
	w.want("February", w.export("account", "A-1", "month", "2025-02", "scope", "tree"), `
Acme MSP,A-1,,,2025-02,Active,Available,STA Premium,2,0,0,4,2,0,3,2,1,2,0,1
Beta Bank,A-2,Acme MSP,A-1,2025-02,Active,Available,STA,3,2,1,4,2,0,3,2,1,0,0,0
Beta Branch,A-4,Beta Bank,A-2,2025-02,Active,Available,STA Basic,4,2,0,4,2,0,0,0,0,0,0,0
Cargo Ltd,A-3,Acme MSP,A-1,2025-02,Active,Available,STA Premium,0,0,1,0,0,0,0,0,0,0,0,1`)
	w.want("March", w.export("account", "A-1", "month", "2025-03", "scope", "own"),
		`Acme MSP,A-1,,,2025-03,Active,Available,STA Premium,2,1,0,4,2,0,2,2,0,2,1,0`)
}

func TestA11Summary(t *testing.T) {
	w := fixtureA(t)
	w.send(eventsA4()...)
	var doc struct {
		AccountID string `json:"accountId"`
		Months    []struct {
			Month    string
			Accounts []struct {
				AccountID, AccountName, ParentAccountID, Status, DataStatus string
				Plans                                                       []struct {
					Plan           string
					UsersWithToken int
				}
			}
		}
	}
	w.json(&doc, "sta-monthly-summary", "account", "A-1", "from", "2025-01", "to", "2025-02")
	text := doc.AccountID
	for _, m := range doc.Months {
		text += "\n" + m.Month
		for _, a := range m.Accounts {
			text += fmt.Sprintf("; %s %s %s %s %s", a.AccountID, a.AccountName, a.ParentAccountID, a.Status, a.DataStatus)
			for _, p := range a.Plans {
				text += fmt.Sprintf(", %s %d", p.Plan, p.UsersWithToken)
			}
		}
	}
	w.want("summary", text, `A-1
2025-01; A-1 Acme MSP  Active Available, STA Basic 3, STA 2, STA Premium 2; A-2 Beta Bank A-1 Active Available, STA Basic 3, STA 2; A-3 Cargo Ltd A-1 Active Available, STA Premium 1
2025-02; A-1 Acme MSP  Active Available, STA Basic 3, STA Premium 4; A-2 Beta Bank A-1 Active Available, STA Basic 3, STA Premium 2; A-3 Cargo Ltd A-1 Active Available, STA Premium 1`)
	w.want("as CSV", w.csv("sta-monthly-summary", "account", "A-2", "from", "2025-02", "to", "2025-02"), `
Month,Account ID,Account Name,Parent Account ID,Status,Data Status,Plan,Users with Token
2025-02,A-2,Beta Bank,A-1,Active,Available,STA Basic,3
2025-02,A-2,Beta Bank,A-1,Active,Available,STA Premium,2
2025-02,A-4,Beta Branch,A-2,Active,Available,STA Basic,3`)
}

func TestA12RenamedAndMovedUp(t *testing.T) {
	w := fixtureA(t)
	w.send(
		ev("2025-02-14", "account.renamed", "A-2", d{"name": "Zeta Bank"}),
		ev("2025-02-15", "account.reparented", "A-4", d{"new_parent_account_id": "A-1"}),
		// Its parent is below it: a cycle has no effect.
		ev("2025-02-16", "account.reparented", "A-1", d{"new_parent_account_id": "A-4"}),
	)
	w.want("January", w.screen("A-1", "2025-01"), screenA1)
	w.want("February", w.screen("A-1", "2025-02"), `
Acme MSP | STA Basic | Active | 0 | 3 | 4
Acme MSP | STA | Active | 0 | 2 | 3
Acme MSP | STA Premium | Active | 0 | 2 | 3
Beta Branch | STA Basic | Active | 0 | 3 | 4
Cargo Ltd | STA Premium | Active | 0 | 1 | 1
Zeta Bank | STA | Active | 0 | 2 | 3`)
	w.want("children over both months", w.export("account", "A-1", "from", "2025-01", "to", "2025-02"), `
Acme MSP,A-1,,,2025-01,Active,Available,STA Premium,2,1,2,4,3,2,3,2,1,3,2,2
Acme MSP,A-1,,,2025-02,Active,Available,STA Premium,2,1,0,4,3,0,3,2,0,3,2,0
Beta Branch,A-4,Acme MSP,A-1,2025-02,Active,Available,STA Basic,4,3,0,4,3,0,0,0,0,0,0,0
Cargo Ltd,A-3,Acme MSP,A-1,2025-01,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0
Cargo Ltd,A-3,Acme MSP,A-1,2025-02,Active,Available,STA Premium,1,1,0,0,0,0,0,0,0,1,1,0
Beta Bank,A-2,Acme MSP,A-1,2025-01,Active,Available,STA,3,2,1,4,3,2,3,2,1,0,0,0
Zeta Bank,A-2,Acme MSP,A-1,2025-02,Active,Available,STA,3,2,0,0,0,0,3,2,0,0,0,0`)
}

func TestASTARefusals(t *testing.T) {
	w := fixtureA(t)
	other := newKey(t, w.tenant+"-other", "reports:read")
	for name, c := range map[string]struct {
		ask    []string
		status int
		names  string
	}{
		"current month":    {[]string{"account", "A-1", "month", thisMonth()}, http.StatusBadRequest, "month"},
		"open end":         {[]string{"account", "A-1", "from", "2025-01", "to", thisMonth()}, http.StatusBadRequest, "to"},
		"backwards":        {[]string{"account", "A-1", "from", "2025-02", "to", "2025-01"}, http.StatusBadRequest, "to"},
		"no month":         {[]string{"account", "A-1"}, http.StatusBadRequest, "month"},
		"half a range":     {[]string{"account", "A-1", "from", "2025-01"}, http.StatusBadRequest, "to"},
		"no account":       {[]string{"month", "2025-01"}, http.StatusBadRequest, "account"},
		"fourth measure":   {[]string{"account", "A-1", "month", "2025-01", "measure", "logins"}, http.StatusBadRequest, "activity"},
		"unknown scope":    {[]string{"account", "A-1", "month", "2025-01", "scope", "all"}, http.StatusBadRequest, "own"},
		"unknown account":  {[]string{"account", "A-9", "month", "2025-01"}, http.StatusNotFound, "A-9"},
		"several, screen":  {[]string{"account", "A-1", "from", "2025-01", "to", "2025-02", "view", "screen"}, http.StatusBadRequest, "view"},
		"both ways":        {[]string{"account", "A-1", "month", "2025-01", "from", "2025-01", "to", "2025-02"}, http.StatusBadRequest, "month"},
		"not a month":      {[]string{"account", "A-1", "month", "2025-13"}, http.StatusBadRequest, "YYYY-MM"},
		"no such argument": {[]string{"account", "A-1", "month", "2025-01", "colour", "red"}, http.StatusBadRequest, "colour"},
	} {
		status, answer := w.get("/reports/sta-usage?" + query(c.ask...))
		if status != c.status || !strings.Contains(answer, c.names) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	if status, answer := call(t, http.MethodGet, house.at.Reporter+"/api/v1/reports/sta-usage?account=A-1&month=2025-01", other, "", nil); status != http.StatusNotFound {
		t.Errorf("another tenant's account: %d %s", status, answer)
	}
}

func TestX4Void(t *testing.T) {
	w := fixtureA(t)
	late := success("2025-01-21", "A-2", "u4").named("late-login")
	w.send(late, ev("2025-02-02", "event.voided", "", d{"target": d{"source": "test", "id": "late-login"}, "reason": "never happened"}))
	w.want("now", w.export("account", "A-2", "month", "2025-01", "scope", "own"),
		`Beta Bank,A-2,Acme MSP,A-1,2025-01,Active,Available,STA,3,2,1,4,3,2,3,2,1,0,0,0`)
	w.want("before the void", w.export("account", "A-2", "month", "2025-01", "scope", "own", "as_of", "2025-02-01T23:59:59Z"),
		`Beta Bank,A-2,Acme MSP,A-1,2025-01,Active,Available,STA,3,2,2,4,3,2,3,2,2,0,0,0`)
	// Registrations and tokens can be voided just so.
	w.send(
		registered("2025-01-05", "A-2", "ghost").named("ghost"), token("2025-01-05", "A-2", "ghost", "active"),
		token("2025-01-06", "A-2", "u3", "revoked").named("mistake"),
		ev("2025-02-02", "event.voided", "", d{"target": d{"source": "test", "id": "ghost"}, "reason": "never happened"}),
		ev("2025-02-02", "event.voided", "", d{"target": d{"source": "test", "id": "mistake"}, "reason": "never happened"}),
	)
	w.want("after two more", w.export("account", "A-2", "month", "2025-01", "scope", "own"),
		`Beta Bank,A-2,Acme MSP,A-1,2025-01,Active,Available,STA,3,2,1,4,3,2,3,2,1,0,0,0`)
	w.want("before them", w.export("account", "A-2", "month", "2025-01", "scope", "own", "as_of", "2025-02-01T23:59:59Z"),
		`Beta Bank,A-2,Acme MSP,A-1,2025-01,Active,Available,STA,4,2,2,4,3,2,4,2,2,0,0,0`)
}

func thisMonth() string { return time.Now().UTC().Format("2006-01") }
