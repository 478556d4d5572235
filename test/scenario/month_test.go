package scenario

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// closing is what POST /months/{month}/close answers, or refuses with.
type closing struct {
	Month, State, SHA256, Code, Detail string
	Version, Rows, Adjustments         int
	AsOf                               string `json:"as_of"`
	Errors                             []struct{ Parameter, Detail string }
}

// close asks for a close; body is JSON, "" is none.
func (w *world) close(month, body string) (int, closing) {
	w.t.Helper()
	status, answer := call(w.t, http.MethodPost, house.at.Reporter+"/api/v1/months/"+month+"/close", w.key, "application/json", []byte(body))
	var c closing
	if err := json.Unmarshal([]byte(answer), &c); err != nil {
		w.t.Fatalf("close %s: %d %s", month, status, answer)
	}
	return status, c
}

// closed is a close that must work.
func (w *world) closed(month, body string) closing {
	w.t.Helper()
	status, c := w.close(month, body)
	if status != http.StatusOK {
		w.t.Fatalf("close %s: %d %s: %s", month, status, c.Code, c.Detail)
	}
	return c
}

// refused is a close that must not, and the checks that say why.
func (w *world) refused(month, body string) []string {
	w.t.Helper()
	status, c := w.close(month, body)
	if status != http.StatusConflict || c.Code != "close-refused" {
		w.t.Fatalf("close %s: %d %+v, want 409 close-refused", month, status, c)
	}
	var checks []string
	for _, e := range c.Errors {
		checks = append(checks, e.Parameter)
	}
	return checks
}

// version waits until the month has so many versions, and answers its state.
func (w *world) version(month string, n int) (state struct {
	State    string
	Version  int
	SHA256   string
	Versions []struct {
		Version     int
		SHA256      string
		AsOf        string `json:"as_of"`
		Adjustments int
		Reason      string
	}
	Checklist []struct{ Check, Status, Detail string }
}) {
	w.t.Helper()
	w.await("a new version of "+month, func() bool {
		status, answer := w.get("/months/" + month + "?checklist=false")
		return status == http.StatusOK && json.Unmarshal([]byte(answer), &state) == nil && state.Version >= n
	})
	return state
}

// monthCSV is a path below a month as CSV with line feeds.
func (w *world) monthCSV(path string, pairs ...string) string {
	w.t.Helper()
	status, answer := w.get("/months/" + path + "?" + query(append(pairs, "format", "csv")...))
	if status != http.StatusOK {
		w.t.Fatalf("months/%s %v: %d %s", path, pairs, status, answer)
	}
	return strings.ReplaceAll(answer, "\r\n", "\n")
}

func tokens(at, account, quantity string) event {
	return ev(at, "usage.metered", account, d{"meter": "tokens", "quantity": quantity})
}

func customer(at, account, name string) event {
	return ev(at, "account.created", account, d{"name": name, "kind": "customer"})
}

const adjustmentHeader = "processing_month,usage_month,type,account,plan,meter,region,platform,trial,measure,from_version,to_version,delta,cost_delta\n"

// The story of a month: closed, late event, second version, adjustment, and every earlier answer still the same.
func TestMonthLateEvent(t *testing.T) {
	w := newWorld(t)
	w.send(
		customer("2025-01-01", "a", "Acme"),
		tokens("2025-01-10", "a", "1.5"),
		tokens("2025-01-31T23:59:59.999Z", "a", "2"),
		tokens("2025-02-01", "a", "100"),
	)
	first := w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`)
	if first.State != "closed" || first.Version != 1 || first.AsOf != "2025-02-04T00:00:00Z" || first.Rows != 1 || len(first.SHA256) != 64 {
		t.Errorf("closed: %+v", first)
	}
	if again := w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`); again.Version != 1 || again.SHA256 != first.SHA256 {
		t.Errorf("closed again: %+v, want %+v", again, first)
	}
	if again := w.closed("2025-01", ""); again.Version != 1 || again.SHA256 != first.SHA256 {
		t.Errorf("closed again, as of now: %+v, want %+v", again, first)
	}
	before := w.monthCSV("2025-01/usage", "version", "1")
	w.send(tokens("2025-01-30", "a", "0.25").recordedAt("2025-02-06"))
	state := w.version("2025-01", 2)
	if state.State != "closed" || len(state.Versions) != 2 || state.Versions[0].SHA256 != first.SHA256 || state.Versions[1].SHA256 == first.SHA256 || state.Versions[1].Adjustments != 1 {
		t.Errorf("after the late event: %+v", state)
	}
	w.want("version 1", w.monthCSV("2025-01/usage", "version", "1"), before)
	if got := w.monthCSV("2025-01/usage"); !strings.Contains(got, ",3.75,3,3.75,3,") {
		t.Errorf("newest version: %s", got)
	}
	w.want("as of before the late event", w.monthCSV("2025-01/usage", "as_of", "2025-02-05T00:00:00Z"), before)
	w.want("adjustments", w.monthCSV("2025-01/adjustments"), adjustmentHeader+
		"2025-02,2025-01,SYSTEM,a,,tokens,,,FALSE,quantity,1,2,0.25,\n")
	w.want("diff", w.monthCSV("2025-01/diff"), `
account,plan,meter,region,platform,trial,measure,old,new,delta,old_cost,new_cost,cost_delta
a,,tokens,,,FALSE,quantity,3.5,3.75,0.25,,,`)
	if status, answer := w.get("/months/2025-01/diff?from=1&to=2"); status != http.StatusOK || !strings.Contains(answer, `"recorded_at":"2025-02-06T00:00:00Z"`) {
		t.Errorf("diff: %d %s", status, answer)
	}
	if status, answer := w.get("/months/2025-01/usage?version=3"); status != http.StatusNotFound || !strings.Contains(answer, "no-such-version") {
		t.Errorf("version 3: %d %s", status, answer)
	}
}

func TestA13LateEvent(t *testing.T) {
	w := fixtureA(t)
	w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`)
	w.send(success("2025-01-30", "A-2", "u4").recordedAt("2025-02-06"))
	w.version("2025-01", 2)
	activity := func(more ...string) string {
		var lines []string
		for line := range strings.SplitSeq(w.screen("A-1", "2025-01", more...), "\n") {
			if cells := strings.Split(line, " | "); cells[1] == "STA" {
				lines = append(lines, cells[0]+" "+cells[3])
			}
		}
		return strings.Join(lines, ", ")
	}
	w.want("as of before", activity("as_of", "2025-02-05T00:00:00Z"), "Acme MSP 1, Beta Bank 1")
	w.want("now", activity(), "Acme MSP 2, Beta Bank 2")
	w.want("version 1", activity("version", "1"), "Acme MSP 1, Beta Bank 1")
	w.want("version 2", activity("version", "2"), "Acme MSP 2, Beta Bank 2")
	w.want("adjustments", w.monthCSV("2025-01/adjustments"), adjustmentHeader+
		"2025-02,2025-01,SYSTEM,A-1,STA,,,,FALSE,activity,1,2,1,\n"+
		"2025-02,2025-01,SYSTEM,A-2,STA,,,,FALSE,activity,1,2,1,\n")
}

// A price that becomes known after the close is an adjustment of the cost alone.
func TestMonthPriceAfterClose(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(gib("2025-03-10", "SC-1", "650"))
	w.closed("2025-03", `{"as_of":"2025-04-04T00:00:00Z"}`)
	dearer := price("bandwidth_gib_essentials", "EU", tier("0", "0"), tier("100", "0.10"), tier("500", "0.05"))
	dearer["effective_from"] = "2025-02-01T00:00:00Z"
	w.send(ev("2025-05-02", "price.set", "", dearer))
	w.version("2025-03", 2)
	w.want("adjustments", w.monthCSV("2025-03/adjustments"), adjustmentHeader+
		"2025-05,2025-03,SYSTEM,SC-1,essentials,bandwidth_gib_essentials,EU,,FALSE,quantity,1,2,0.000000,8.00\n")
	w.want("published", strings.Join(column(w.costs("2025-03", "version", "1"), "cost"), " "), "39.50")
	w.want("now", strings.Join(column(w.costs("2025-03"), "cost"), " "), "47.50")
}

// Late events of several processing months are split exactly, also where one corrects another.
func TestMonthProcessingMonths(t *testing.T) {
	w := newWorld(t)
	w.send(customer("2025-01-01", "a", "Acme"), tokens("2025-01-10", "a", "10"), tokens("2025-01-11", "a", "7").named("wrong"))
	w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`)
	w.send(
		tokens("2025-01-12", "a", "1").recordedAt("2025-02-20"),
		tokens("2025-01-12", "b", "5").recordedAt("2025-03-01"),
		ev("2025-03-02", "event.voided", "", d{"target": d{"source": "test", "id": "wrong"}, "reason": "sent twice"}),
		ev("2025-01-05", "service.plan_set", "a", d{"service": "sta", "plan": "STA"}).recordedAt("2025-04-30T23:59:59.999Z"),
	)
	w.await("all late events in a version", func() bool {
		return strings.Contains(w.monthCSV("2025-01/adjustments"), "2025-04,")
	})
	sum := map[string]string{}
	_, answer := w.get("/months/2025-01/adjustments")
	var list struct {
		Rows []struct {
			ProcessingMonth string `json:"processing_month"`
			Account, Plan   string
			Delta           string
		}
	}
	if err := json.Unmarshal([]byte(answer), &list); err != nil {
		t.Fatal(err)
	}
	for _, r := range list.Rows {
		sum[r.ProcessingMonth+" "+r.Account+" "+r.Plan] += r.Delta + ";"
	}
	for key, want := range map[string]string{
		"2025-02 a ": "1;", "2025-03 a ": "-7;", "2025-03 b ": "5;", "2025-04 a ": "-11;", "2025-04 a STA": "11;",
	} {
		if sum[key] != want {
			t.Errorf("%s: %q, want %q (all: %s)", key, sum[key], want, answer)
		}
	}
}

// X4 for a closed month: a void makes a version, and what was published before stays.
func TestX4VoidAfterClose(t *testing.T) {
	w := newWorld(t)
	w.send(customer("2025-01-01", "a", "Acme"), tokens("2025-01-10", "a", "3").named("u"), tokens("2025-01-11", "a", "4"))
	w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`)
	before := w.monthCSV("2025-01/usage")
	w.send(ev("2025-02-10", "event.voided", "", d{"target": d{"source": "test", "id": "u"}, "reason": "test"}))
	w.version("2025-01", 2)
	if got := w.monthCSV("2025-01/usage"); !strings.Contains(got, ",4,1,4,1,2025-01-11T00:00:00Z,2025-01-11T00:00:00Z") {
		t.Errorf("after the void: %s", got)
	}
	w.want("version 1", w.monthCSV("2025-01/usage", "version", "1"), before)
	w.want("as of before the void", w.monthCSV("2025-01/usage", "as_of", "2025-02-09T23:59:59Z"), before)
	w.want("adjustments", w.monthCSV("2025-01/adjustments"), adjustmentHeader+"2025-02,2025-01,SYSTEM,a,,tokens,,,FALSE,quantity,1,2,-3,\n")
}

// Credits that were returned in a closed month count under the meter of their message's charge, whenever that happened
// and whenever it became known: what says so after the close makes a version.
func TestMonthReturnedCredits(t *testing.T) {
	charge := func(at, channel string) event {
		return ev(at, "message.charged", "a", d{"message_id": "m", "user_id": "u", "channel": channel, "credits": "3"})
	}
	row := func(processing, meter, delta string) string {
		return processing + ",2025-01,SYSTEM,a,," + meter + ",,,FALSE,quantity,1,2," + delta + ",\n"
	}
	tests := map[string]struct {
		before, after []event
		want          string
	}{
		"the charge happens later": {
			after: []event{charge("2025-02-10", "voice")},
			want:  row("2025-02", "credits_returned", "2") + row("2025-02", "voice_credits", "-2"),
		},
		"the charge happened before, and becomes known later": {
			after: []event{charge("2024-12-30", "sms").recordedAt("2025-03-05")},
			want:  row("2025-03", "credits_returned", "2") + row("2025-03", "sms_credits", "-2"),
		},
		"an earlier charge becomes known": {
			before: []event{charge("2025-02-02", "sms")},
			after:  []event{charge("2025-02-01", "voice").recordedAt("2025-02-20")},
			want:   row("2025-02", "sms_credits", "2") + row("2025-02", "voice_credits", "-2"),
		},
		"the charge is voided": {
			before: []event{charge("2025-02-02", "sms").named("charge")},
			after:  []event{ev("2025-02-20", "event.voided", "", d{"target": d{"source": "test", "id": "charge"}, "reason": "test"})},
			want:   row("2025-02", "credits_returned", "-2") + row("2025-02", "sms_credits", "2"),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.send(append([]event{customer("2025-01-01", "a", "Acme"), ev("2025-01-20", "message.credit_returned", "a", d{"message_id": "m", "credits": "2"})}, tt.before...)...)
			w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`)
			first := w.monthCSV("2025-01/usage")
			w.send(tt.after...)
			w.version("2025-01", 2)
			w.want("adjustments", w.monthCSV("2025-01/adjustments"), adjustmentHeader+tt.want)
			w.want("version 1", w.monthCSV("2025-01/usage", "version", "1"), first)
			w.want("version 2, and now", w.monthCSV("2025-01/usage", "version", "2"), w.monthCSV("2025-01/usage", "as_of", "2025-03-25T00:00:00Z"))
		})
	}
}

// An instant is not a version, also where it is the one that a version was closed as of: its bytes are the same before
// the close, after it, and when more has come. A version says which one it is, on every page.
func TestMonthAsOfIsNoVersion(t *testing.T) {
	w := newWorld(t)
	w.send(customer("2025-01-01", "a", "Acme"), tokens("2025-01-10", "a", "1.5"), tokens("2025-01-10", "b", "2"), tokens("2025-02-10", "a", "9"))
	report := func(pairs ...string) string {
		return w.csv("monthly-usage", append([]string{"month", "2025-01"}, pairs...)...)
	}
	asOf := []string{"as_of", "2025-02-04T00:00:00Z"}
	before := report(asOf...)
	w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`)
	w.want("once it is closed", report(asOf...), before)
	version := report("version", "1")
	w.want("the newest version", report(), version)
	w.send(tokens("2025-02-11", "a", "9"))
	w.want("once more has come", report(asOf...), before)
	w.want("version 1, once more has come", report("version", "1"), version)
	for _, row := range table(t, before) {
		if row["version"] != "0" || row["closed"] != "FALSE" || row["log_position"] != "" {
			t.Errorf("a row as of the instant says %v", row)
		}
	}
	for _, row := range table(t, version) {
		if row["version"] != "1" || row["closed"] != "TRUE" || row["log_position"] == "" {
			t.Errorf("a row of the version says %v", row)
		}
	}
	var after []string
	pages := 0
	for more := true; more; pages++ {
		_, answer := w.get("/reports/monthly-usage?" + query(append([]string{"month", "2025-01", "limit", "1"}, after...)...))
		var page struct {
			Version int
			Rows    []struct{ Version int }
			Next    string
		}
		if err := json.Unmarshal([]byte(answer), &page); err != nil || page.Version != 1 || len(page.Rows) != 1 || page.Rows[0].Version != 1 {
			t.Fatalf("page %d: %v %s", pages, err, answer)
		}
		after, more = []string{"cursor", page.Next}, page.Next != ""
	}
	if pages != 2 {
		t.Errorf("%d pages, want 2", pages)
	}
}

// A month closes only after every earlier one with usage; one without counts as closed, and can be closed.
func TestMonthOrder(t *testing.T) {
	w := newWorld(t)
	w.send(customer("2025-01-01", "a", "Acme"), tokens("2025-01-10", "a", "1"), tokens("2025-03-10", "a", "1"))
	if got := w.refused("2025-03", ""); len(got) != 1 || got[0] != "earlier-months" {
		t.Errorf("2025-03 before 2025-01: %v", got)
	}
	w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`)
	w.closed("2025-03", `{"as_of":"2025-04-04T00:00:00Z"}`)
	if empty := w.closed("2025-02", ""); empty.Version != 1 || empty.Rows != 0 {
		t.Errorf("2025-02, which has no usage: %+v", empty)
	}
	if status, c := w.close("2025-04", `{"as_of":"2025-04-04T00:00:00Z"}`); status != http.StatusBadRequest || c.Errors[0].Parameter != "as_of" {
		t.Errorf("as_of before the month's end: %d %+v", status, c)
	}
	if got := w.refused("2099-01", ""); len(got) != 1 || got[0] != "ended" {
		t.Errorf("2099-01: %v", got)
	}
}

// A declared gap blocks, until it is closed or accepted with a reason.
func TestMonthGap(t *testing.T) {
	w := newWorld(t)
	w.send(
		customer("2025-01-01", "a", "Acme"), tokens("2025-01-10", "a", "1"),
		ev("2025-01-20", "ingest.gap_declared", "a", d{"from": "2025-01-15T00:00:00Z", "to": "2025-01-16T00:00:00Z", "reason": "probe down"}),
	)
	if got := w.refused("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`); len(got) != 1 || got[0] != "gaps" {
		t.Errorf("close over a gap: %v", got)
	}
	if status, c := w.close("2025-01", `{"as_of":"2025-02-04T00:00:00Z","accept_gaps":true}`); status != http.StatusBadRequest || c.Errors[0].Parameter != "reason" {
		t.Errorf("accept_gaps without a reason: %d %+v", status, c)
	}
	w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z","accept_gaps":true,"reason":"agreed"}`)
	if state := w.version("2025-01", 1); state.Versions[0].Reason != "agreed" {
		t.Errorf("the reason is not kept: %+v", state)
	}
	other := newGapWorld(t)
	if got := other.refused("2025-01", ""); len(got) != 1 || got[0] != "gaps" {
		t.Errorf("close over a gap: %v", got)
	}
	other.send(ev("2025-02-01", "ingest.gap_closed", "a", d{"from": "2025-01-15T00:00:00Z", "to": "2025-01-16T00:00:00Z"}))
	other.closed("2025-01", "")
}

func newGapWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, tenant: "gap-closed"}
	w.key = newKey(t, w.tenant, "events:write", "events:backfill", "usage:read", "reports:read", "months:close")
	w.send(
		customer("2025-01-01", "a", "Acme"), tokens("2025-01-10", "a", "1"),
		ev("2025-01-20", "ingest.gap_declared", "a", d{"from": "2025-01-15T00:00:00Z", "to": "2025-01-16T00:00:00Z", "reason": "probe down"}),
	)
	return w
}

// The checklist names what a closer should know, and who closes needs the right to.
func TestMonthChecklist(t *testing.T) {
	w := newWorld(t)
	events := []event{customer("2025-01-01", "a", "Acme"), tokens("2025-02-10", "a", "1"), tokens("2025-02-11", "ghost", "1")}
	for day := 1; day <= 31; day++ {
		events = append(events, tokens("2025-01-"+two(day), "a", "1"))
	}
	w.send(events...)
	w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`)
	conflict := tokens("2025-02-12", "a", "2").named("twice")
	w.send(conflict)
	conflict.data = d{"meter": "tokens", "quantity": "3"}
	w.send(conflict)
	_, answer := w.get("/months/2025-02")
	var state struct {
		State     string
		Checklist []struct{ Check, Status, Detail string }
	}
	if err := json.Unmarshal([]byte(answer), &state); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range state.Checklist {
		got[c.Check] = c.Status + " " + c.Detail
	}
	for check, want := range map[string]string{
		"ended": "ok", "earlier-months": "ok", "audit": "ok", "gaps": "ok", "dead-letters": "warn 1 events", "unresolved-accounts": "warn usage of accounts that were not created by the month's end: ghost",
		"silent-producers": "warn sent every day of the month before, and stopped: test (last event 2025-02-12",
	} {
		if !strings.HasPrefix(got[check], want) {
			t.Errorf("%s: %q, want %q", check, got[check], want)
		}
	}
	if state.State != "provisional" {
		t.Errorf("state %q", state.State)
	}
	reader := newKey(t, w.tenant, "reports:read")
	if status, answer := call(t, http.MethodPost, house.at.Reporter+"/api/v1/months/2025-02/close", reader, "", nil); status != http.StatusForbidden {
		t.Errorf("close without the scope: %d %s", status, answer)
	}
}

func two(n int) string { return string(rune('0'+n/10)) + string(rune('0'+n%10)) }
