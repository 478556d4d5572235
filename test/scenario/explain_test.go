package scenario

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// proof is what GET /explain answers.
type proof struct {
	Number, Evidence, How string
	Explained             bool
	Version               int
	Versions              []struct {
		Version int
		Number  string
	}
	Total  int64 `json:"events_total"`
	Rollup []struct{ Hour, Quantity string }
	Events []struct {
		Source, ID, Type, Account, Quantity, Counts, Status, About string
		Sign                                                       int
		Shard, Seq, Idx                                            uint64
	}
	Late []struct{ ID string }
	Next *string
}

// explain asks where a number comes from; it must be explained.
func (w *world) explain(pairs ...string) proof {
	w.t.Helper()
	status, answer := w.get("/explain?" + query(pairs...))
	var p proof
	if err := json.Unmarshal([]byte(answer), &p); err != nil || status != http.StatusOK {
		w.t.Fatalf("explain %v: %d %s", pairs, status, answer)
	}
	if !p.Explained {
		w.t.Errorf("explain %v: number %q, evidence %q: not explained", pairs, p.Number, p.Evidence)
	}
	return p
}

// ids are the events of a proof with what each counts.
func (p proof) ids() string {
	out := ""
	for _, e := range p.Events {
		out += e.ID + " " + e.Counts + "\n"
	}
	return out
}

// A number of metered usage: its events, the void of one, the plan at their instants, the tree, the rollup.
func TestExplainUsage(t *testing.T) {
	w := newWorld(t)
	used := func(id, at, account, quantity string) event {
		return ev(at, "usage.metered", account, d{"meter": "calls", "quantity": quantity}).named(id)
	}
	w.send(
		ev("2025-01-01", "account.created", "a", d{"name": "Acme", "kind": "customer"}),
		ev("2025-01-01", "account.created", "b", d{"name": "Branch", "kind": "customer", "parent_account_id": "a"}),
		ev("2025-01-01", "service.plan_set", "a", d{"service": "spp", "plan": "Small"}),
		ev("2025-03-15T12:20:00Z", "service.plan_set", "a", d{"service": "spp", "plan": "Large"}),
		used("one", "2025-03-02T10:00:00Z", "a", "1.5"), used("gone", "2025-03-02T11:00:00Z", "a", "7"), used("two", "2025-03-15T12:19:59Z", "a", "2"),
		used("three", "2025-03-15T12:20:00Z", "a", "4"), used("below", "2025-03-20T00:00:00Z", "b", "8"), used("april", "2025-04-01T00:00:00Z", "a", "16"),
		ev("2025-03-31T23:00:00Z", "usage.metered", "a", d{"meter": "calls", "quantity": "1.000001", "start": "2025-03-31T23:30:00Z", "end": "2025-04-01T00:30:00Z"}).named("cut").recordedAt("2025-04-02"),
		ev("2025-03-03", "event.voided", "", d{"target": d{"source": "test", "id": "gone"}, "reason": "wrong"}),
	)
	key := []string{"month", "2025-03", "account", "a", "meter", "calls"}
	p := w.explain(append(key, "plan", "Small")...)
	w.want("Small", p.Number+"\n"+p.ids(), "3.5\none 1.5\ngone 7\ngone -7\ntwo 2")
	if p.Events[1].Status != "voided" || p.Events[0].Status != "stored" || p.Events[0].Seq == 0 || len(p.Rollup) == 0 || p.Total != 4 {
		t.Errorf("%+v", p)
	}
	p = w.explain(append(key, "plan", "Large")...)
	w.want("Large", p.Number+"\n"+p.ids(), "4.5\nthree 4\ncut 0.5")
	p = w.explain(append(key, "measure", "quantity_tree")...)
	w.want("tree", p.Number, "16")
	p = w.explain(append(key, "measure", "events_tree")...)
	w.want("events", p.Number, "5")
	p = w.explain(append(key, "plan", "", "region", "", "trial", "false")...)
	w.want("no such row", p.Number+p.ids(), "0")
	p = w.explain(append(key, "as_of", "2025-03-02T12:00:00Z")...)
	w.want("before the void", p.Number, "8.5")
	seen, cursor := "", ""
	for {
		pairs := append(key, "limit", "2")
		if cursor != "" {
			pairs = append(pairs, "cursor", cursor)
		}
		p := w.explain(pairs...)
		seen += p.ids()
		if p.Next == nil {
			break
		}
		cursor = *p.Next
	}
	w.want("pages", seen, w.explain(key...).ids())
	for _, bad := range [][]string{{"month", "2025-03", "account", "a"}, {"month", "March", "account", "a", "meter", "calls"}, append(key, "measure", "cost"), {"report", "nothing"}} {
		if status, answer := w.get("/explain?" + query(bad...)); status != http.StatusBadRequest {
			t.Errorf("explain %v: %d %s", bad, status, answer)
		}
	}
}

// The difference between two versions of a month, down to the events that made it.
func TestExplainVersions(t *testing.T) {
	w := newWorld(t)
	w.send(customer("2025-01-01", "a", "Acme"), tokens("2025-01-10", "a", "3").named("early"))
	w.closed("2025-01", `{"as_of":"2025-02-04T00:00:00Z"}`)
	w.send(tokens("2025-01-20", "a", "4").named("late").recordedAt("2025-02-10"))
	w.await("version 2", func() bool {
		status, answer := w.get("/months/2025-01/usage?version=2")
		return status == http.StatusOK && strings.Contains(answer, `"quantity":"7"`)
	})
	key := []string{"month", "2025-01", "account", "a", "meter", "tokens"}
	p := w.explain(key...)
	w.want("now", fmt.Sprint(p.Version, " ", p.Number), "2 7")
	if len(p.Versions) != 2 || p.Versions[0].Number != "3" || p.Versions[1].Number != "7" {
		t.Errorf("versions: %+v", p.Versions)
	}
	p = w.explain(append(key, "version", "1")...)
	w.want("version 1", p.Number+"\n"+p.ids(), "3\nearly 3")
	p = w.explain(append(key, "from_version", "1", "to_version", "2")...)
	w.want("difference", p.Number+"\n"+p.ids(), "4\nlate 4")
}

// Users of STA: who counts, and by which event.
func TestExplainUsers(t *testing.T) {
	w := fixtureA(t)
	for measure, want := range map[string]string{"registered": "3\n2", "token": "2\n1", "activity": "2\n0"} {
		// Acme's premium users are its own and Cargo's.
		p := w.explain("report", "sta-usage", "account", "A-1", "month", "2025-01", "plan", "STA Premium", "measure", measure)
		q := w.explain("report", "sta-usage", "account", "A-1", "month", "2025-01", "measure", measure+"_own")
		number, _, _ := strings.Cut(want, "\n")
		w.want(measure, p.Number, number)
		if p.Total != int64(len(p.Events)) || p.Events[0].About == "" || q.Number == "" {
			t.Errorf("%s: %+v", measure, p)
		}
	}
	p := w.explain("report", "sta-monthly-summary", "account", "A-2", "month", "2025-01", "plan", "STA")
	who := ""
	for _, e := range p.Events {
		who += e.About + " " + e.Type + " " + e.Account + "\n"
	}
	w.want("tokens of Beta Bank", p.Number+"\n"+who, "2\nu3 token.state_set A-2\nu4 token.state_set A-2")
}

// A running total of Elastic tokens, and the tool.
func TestExplainElasticAndTool(t *testing.T) {
	w := newWorld(t)
	w.send(append(fixtureD(), lineItem("ACT01", 1000, "2034-04-17T00:00:00Z"), d1().named("op-1"), oneOff("2023-12-02T10:00:00Z", granted(1, "ACT01", "SignPrint", 1, 4, 4)).named("op-2"))...)
	p := w.explain("report", "elastic-usage", "activation", "ACT01")
	w.want("USED", p.Number+"\n"+p.ids(), "48\nop-2 4\nop-1 14\nop-1 30")
	p = w.explain("report", "elastic-usage", "activation", "ACT01", "item", "PhotoPrint")
	w.want("first row", p.Number+"\n"+p.ids(), "30\nop-1 30")
	tool := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), house.program, append([]string{"explain", "--reporter-url", house.at.Reporter, "--token", w.key}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	out := tool("--report", "elastic-usage", "--activation", "ACT01", "--limit", "1")
	for _, want := range []string{"USED of elastic-usage, activation ACT01: 48", "explained: computed again from 3 rows of events: 48", "op-2", "2 more: --limit 3 shows them, -o csv writes all"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if lines := strings.Count(tool("--month", "2023-12", "--account", "C-1", "--meter", "elastic token", "-o", "csv"), "\n"); lines != 3 {
		t.Errorf("%d lines of CSV", lines)
	}
}

// Cells of the other reports: subscriptions, transactions, credits, active users, hours of assets.
func TestExplainRows(t *testing.T) {
	w := newWorld(t)
	w.send(
		ev("2025-01-01", "account.created", "P", d{"name": "Partner", "kind": "distributor"}),
		ev("2025-01-01", "account.created", "K", d{"name": "Kappa", "kind": "customer", "parent_account_id": "P"}),
		ev("2025-01-01", "subscription.ordered", "K", d{
			"transaction_id": "T-1", "subscription_id": "SUB-1", "name": "Enterprise SSL", "term_months": 12, "start": "2025-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z",
			"items": []d{{"cert_type": "SSL", "product": "OV", "quantity": 10, "unit_price": "50.00"}}, "cost": "500.00", "currency": "EUR",
		}).named("ordered"),
		ev("2025-07-02", "inventory.changed", "K", d{"transaction_id": "T-2", "subscription_id": "SUB-1", "deltas": []d{{"cert_type": "SSL", "product": "OV", "delta": 4}}, "cost": "100.27"}).named("more"),
		ev("2025-01-01", "subscription.ordered", "K", d{
			"transaction_id": "T-3", "subscription_id": "SUB-2", "name": "Other", "term_months": 12, "start": "2025-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z",
			"items": []d{{"cert_type": "SSL", "product": "OV", "quantity": 1}}, "cost": "7.00", "currency": "EUR",
		}),
	)
	at := []string{"as_of", "2025-08-01T00:00:00Z", "partner", "P"}
	p := w.explain(append(at, "report", "subscriptions", "subscription", "SUB-1")...)
	w.want("cost", p.Number+"\n"+p.ids(), "600.27\nordered \nmore")
	w.want("items", w.explain(append(at, "report", "subscriptions", "subscription", "SUB-1", "measure", "Items Quantity")...).Number, "14")
	w.want("transaction", w.explain(append(at, "report", "transactions", "transaction", "T-2")...).Number, "100.27")

	w.send(
		ev("2025-01-01", "account.created", "S", d{"name": "Provider", "kind": "service_provider"}),
		ev("2025-01-01", "account.created", "T", d{"name": "Alpha", "kind": "tenant", "parent_account_id": "S"}),
		ev("2025-01-02", "user.registered", "T", d{"user_id": "u1"}).named("u1"), ev("2025-01-02", "user.registered", "T", d{"user_id": "u2"}),
		ev("2025-01-03", "user.status_set", "T", d{"user_id": "u2", "status": "INACTIVE"}),
		ev("2025-03-02", "message.charged", "T", d{"message_id": "m1", "user_id": "u1", "channel": "sms", "credits": 3}).named("sms"),
		ev("2025-03-03", "message.charged", "T", d{"message_id": "m2", "user_id": "u1", "channel": "voice", "credits": 2}).named("voice"),
		ev("2025-03-04", "message.credit_returned", "T", d{"message_id": "m2", "credits": 2}).named("back"),
	)
	tenant := []string{"report", "tenant-usage", "account", "S", "tenant", "T", "from", "2025-03-01", "to", "2025-03-31"}
	p = w.explain(tenant...)
	w.want("credits", p.Number+"\n"+p.ids(), "3\nsms 3\nvoice 2\nback -2")
	p = w.explain(append(tenant, "measure", "Users Used")...)
	w.want("users", p.Number+"\n"+p.ids(), "1\nu1 1")

	w.send(
		ev("2025-01-01", "meter.defined", "", d{"meter": "user_hours", "meter_id": "m-1", "element": "user", "unit": "hour", "aggregation": "sum", "scale": 6, "kind": "secure_connect"}),
		ev("2025-01-01", "account.created", "O", d{"name": "Org", "kind": "organization", "currency": "EUR"}),
		ev("2025-01-01", "account.created", "SC", d{"name": "Secure", "kind": "tenant", "parent_account_id": "O"}),
		ev("2025-01-01", "asset.registered", "SC", d{"asset_id": "joe", "asset_name": "Joe", "asset_type": "USER"}),
		ev("2025-03-01", "usage.metered", "SC", d{"meter": "user_hours", "quantity": 2, "asset": d{"id": "joe", "type": "USER"}, "region": "EU", "start": "2025-03-01T23:00:00Z", "end": "2025-03-02T01:00:00Z"}).named("night").recordedAt("2025-03-03"),
	)
	p = w.explain("report", "asset-usage-detail", "tenant", "SC", "month", "2025-03", "meter", "user_hours", "asset", "joe", "day", "2025-03-02")
	w.want("a day", p.Number+"\n"+p.ids(), "1\nnight 1")
	p = w.explain("report", "asset-monthly-costs", "organization", "O", "tenant", "SC", "month", "2025-03", "meter", "user_hours")
	w.want("a month", p.Number+"\n"+p.ids(), "2\nnight 1\nnight 1")
	w.send(ev("2025-01-01", "price.set", "", d{"meter": "user_hours", "region": "*", "currency": "EUR", "effective_from": "2025-01-01T00:00:00Z", "tiers": []d{tier("0", "0"), tier("0.5", "0.083333333"), tier("1.25", "7")}}))
	cost := []string{"report", "asset-monthly-costs", "organization", "O", "tenant", "SC", "month", "2025-03", "meter", "user_hours", "region", "EU", "trial", "false"}
	p = w.explain(append(cost, "measure", "cost")...)
	w.want("a cost", p.Number+"\n"+p.ids(), "5.31\nnight 1\nnight 1")
	_, answer := w.get("/explain?" + query(append(cost, "measure", "cost")...))
	for _, part := range []string{
		`{"from":"0","units":"0.5","unit_price":"0","cost":"0"}`, `{"from":"0.5","units":"0.75","unit_price":"0.083333333","cost":"0.06249999975"}`,
		`{"from":"1.25","units":"0.75","unit_price":"7","cost":"5.25"}`,
	} {
		if !strings.Contains(answer, part) {
			t.Errorf("no tier %s in %s", part, answer)
		}
	}
}
