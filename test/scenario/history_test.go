package scenario

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/countinghouse/countinghouse/test/reference"
)

// The histories of TestReportsOfRandomLogs: what happens in four months to three trees of accounts, with everything
// that there is in it, legal or not.

// historyLast is later than everything in a history was recorded; historyMidway cuts through it.
const (
	historyLast   = "2025-09-01T00:00:00Z"
	historyMidway = "2025-03-07T15:00:00Z"
)

var historyMonths = []string{"2024-12", "2025-01", "2025-02", "2025-03", "2025-04"} //nolint:gochecknoglobals // a constant

var (
	historyRoots   = []string{"p", "o", "d"}                                     //nolint:gochecknoglobals // a constant
	historyTenants = []string{"a1", "a2", "a3", "a4", "a5"}                      //nolint:gochecknoglobals // a constant
	historyPartner = []string{"r1", "k1", "k2", "k3"}                            //nolint:gochecknoglobals // a constant
	historyAll     = slices.Concat(historyRoots, historyTenants, historyPartner) //nolint:gochecknoglobals // a constant
)

// history is one in the making.
type history struct {
	*rand.Rand
	seed   uint64
	events []event
	seq    int
}

func (h *history) pick(of ...string) string { return of[h.IntN(len(of))] }

func (h *history) chance(percent int) bool { return h.IntN(100) < percent }

// instant is one where something is likely to be wrong: at a border, beside it, or where others are.
func (h *history) instant() time.Time {
	month := time.Date(2025, time.Month(h.IntN(5)), 1, 0, 0, 0, 0, time.UTC)
	switch h.IntN(6) {
	case 0:
		return month.AddDate(0, 1, 0)
	case 1:
		return month.AddDate(0, 1, 0).Add(time.Duration(h.IntN(3)-1) * time.Millisecond)
	case 2:
		return month.AddDate(0, 0, h.IntN(3)*7)
	case 3:
		return month.AddDate(0, 0, h.IntN(28)).Add(time.Duration(h.IntN(3)-1) * time.Millisecond)
	}
	return month.Add(time.Duration(h.IntN(28*24*60)) * time.Minute)
}

func text(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// say adds an event at an instant: most are recorded at once, some late, and some are voided afterwards.
func (h *history) say(at time.Time, typ, account string, data d) {
	h.seq++
	e := event{id: fmt.Sprintf("e%04d", h.IntN(9000)*1000+h.seq), at: text(at), typ: typ, account: account, data: data, source: h.pick("test", "test", "other")}
	e.correlation = "correlation-" + e.id
	recorded := at
	if h.chance(25) {
		recorded = at.Add([]time.Duration{time.Millisecond, time.Hour, 10 * 24 * time.Hour, 45 * 24 * time.Hour}[h.IntN(4)])
	}
	e.recorded = text(recorded)
	if h.chance(20) {
		data["source_seq"] = h.IntN(3)
	}
	h.events = append(h.events, e)
	if h.chance(7) {
		after := recorded.Add([]time.Duration{time.Millisecond, 9 * 24 * time.Hour, 50 * 24 * time.Hour}[h.IntN(3)])
		h.events = append(h.events, event{
			id: "void-" + e.id, at: text(after), recorded: text(after), typ: "event.voided", source: "test", correlation: "void-" + e.correlation,
			data: d{"target": d{"source": e.source, "id": e.id}, "reason": "never happened"},
		})
	}
}

// drawHistory makes the history of a seed.
func drawHistory(seed uint64) *history {
	h := &history{Rand: rand.New(rand.NewPCG(seed, 20250301)), seed: seed}
	first := time.Date(2024, 12, 1, 0, 0, 0, 0, time.UTC)
	kinds := map[string]string{"p": h.pick("provider", "organization"), "o": "organization", "d": "distributor", "r1": "reseller"}
	for _, id := range historyAll {
		if h.chance(20) {
			continue // later, or never
		}
		at := first
		if h.chance(20) {
			at = h.instant()
		}
		h.create(at, id, kinds[id])
	}
	h.catalogue(first)
	h.stocked(first)
	for range 60 + h.IntN(240) {
		switch h.IntN(7) {
		case 0:
			h.account()
		case 1, 2:
			h.users()
		case 3:
			h.entitled()
		case 4:
			h.assets()
		case 5:
			h.elastic()
		case 6:
			h.partner()
		}
	}
	return h
}

func (h *history) create(at time.Time, id, kind string) {
	data := d{"name": "N" + id, "kind": kind}
	if h.chance(8) {
		data["name"] = h.pick("Na1", "Na2", "Nk1")
	}
	switch {
	case slices.Contains(historyTenants, id):
		data["parent_account_id"] = h.pick("p", "p", "o", "o", "a1", "a2", "a3", id, "nobody")
		data["contract_mode"] = h.pick("TRIAL", "PRODUCTION", "UNKNOWN", "PRODUCTION")
	case id == "r1":
		data["parent_account_id"] = "d"
	case slices.Contains(historyPartner, id):
		data["parent_account_id"] = h.pick("d", "d", "r1")
		if h.chance(40) {
			data["reseller"] = h.pick("r1", "r1", "nobody")
		}
	case id == "o":
		data["currency"] = h.pick("EUR", "USD")
	case h.chance(10):
		data["contract_mode"] = "TRIAL"
	}
	if data["kind"] == "" {
		data["kind"] = h.pick("tenant", "subscriber", "customer", "provider")
	}
	h.say(at, "account.created", id, data)
	if h.chance(80) {
		h.say(at, "service.plan_set", id, d{"service": "sta", "plan": h.pick("STA Basic", "STA", "STA Premium", "STA Premium")})
	}
}

// catalogue is meters, prices and rate tables.
func (h *history) catalogue(first time.Time) {
	define := func(meter, kind, service, plan string) {
		h.events = append(h.events, event{
			id: "define-" + meter, correlation: "define", at: text(first), recorded: text(first), typ: "meter.defined",
			data: d{"meter": meter, "meter_id": "id-" + meter, "element": "user", "unit": "unit", "aggregation": "sum", "kind": kind, "service": service, "plan": plan},
		})
	}
	define("hours", "secure_connect", "secure-connect", "essentials")
	define("gib", "secure_connect", "", "")
	define("calls", "usage", "idaas", "")
	for range 3 + h.IntN(5) {
		tiers := []d{{"from": h.pick("0", "0", "1.5"), "unit_price": h.pick("0", "0.012", "0.005")}}
		for _, from := range []string{"10", "25.000001"}[:h.IntN(3)] {
			tiers = append(tiers, d{"from": from, "unit_price": h.pick("0.08", "0.125", "1")})
		}
		h.say(first, "price.set", "", d{
			"meter": h.pick("hours", "gib"), "region": h.pick("*", "EU", "NA"), "currency": h.pick("EUR", "EUR", "USD"), "effective_from": text(h.instant().AddDate(0, -1, 0)), "tiers": tiers,
		})
	}
}

// stocked is assets, instances, line items and a subscription that are there from the start, most of them.
func (h *history) stocked(first time.Time) {
	for _, id := range []string{"a1", "a2", "o"} {
		for _, asset := range []string{"x1", "x2"} {
			if h.chance(70) {
				h.say(first, "asset.registered", id, d{"asset_id": asset, "asset_name": "One", "asset_type": h.pick("TRANSPORT", "ENDPOINT")})
			}
		}
	}
	if h.chance(80) {
		h.say(first, "instance.created", h.pick("k1", "k2"), d{"instance_id": "I1"})
	}
	for _, activation := range []string{"ACT1", "ACT2"} {
		if h.chance(80) {
			h.say(first, "lineitem.mapped", "k1", d{"activation_id": activation, "instance_id": "I1", "quantity": "50", "start": text(first), "state": "DEPLOYED", "series": "S"})
		}
	}
	if h.chance(60) {
		h.say(first, "subscription.ordered", h.pick("k1", "k2"), d{
			"transaction_id": "T-0", "subscription_id": "S1", "name": "Alpha", "term_months": 12, "start": text(first), "end": text(first.AddDate(1, 0, 0)), "cost": "600", "currency": "EUR",
			"items": []d{item("SSL", "Pro", "5", "50"), item("S/MIME", "Mail", "3", "20")},
		})
	}
}

func (h *history) account() {
	id, at := h.pick(historyAll...), h.instant()
	if h.chance(60) {
		id = h.pick(historyTenants...)
	}
	switch h.IntN(9) {
	case 0:
		h.create(at, id, map[string]string{"d": "distributor", "r1": "reseller"}[id])
	case 1:
		h.say(at, "account.renamed", id, d{"name": h.pick("Na1", "Na2", "Nk1", fmt.Sprint("R", h.IntN(9)))})
	case 2:
		h.say(at, "account.reparented", id, d{"new_parent_account_id": h.pick("p", "o", "a1", "a2", "a3", "d", "r1", "nobody")})
	case 3:
		h.say(at, "account.deleted", id, d{"reason": "left"})
	case 4:
		h.say(at, "account.converted", id, d{"from": "x", "to": h.pick("TRIAL", "PRODUCTION", "subscriber")})
	case 5, 6:
		h.say(at, "service.plan_set", id, d{"service": "sta", "plan": h.pick("STA Basic", "STA", "STA Premium", "STA Gold")})
	case 7:
		h.say(at, "service.plan_set", id, d{"service": h.pick("secure-connect", "idaas"), "plan": h.pick("essentials", "advanced")})
	case 8:
		h.say(at, "service.status_set", id, d{"service": "sta", "status": h.pick("Active", "Disabled")})
	}
}

func (h *history) users() {
	id, at, user := h.pick("p", "a1", "a1", "a2", "a2", "a3", "a4"), h.instant(), h.pick("u1", "u2", "u3")
	switch h.IntN(10) {
	case 0, 1, 2:
		h.say(at, "user.registered", id, d{"user_id": user})
	case 3:
		h.say(at, "user.removed", id, d{"user_id": user})
	case 4:
		h.say(at, "user.status_set", id, d{"user_id": user, "status": h.pick("ACTIVE", "INACTIVE")})
	case 5, 6:
		h.say(at, "token.state_set", id, d{"token_id": h.pick("t1", "t2", "t3"), "user_id": user, "state": h.pick("active", "active", "suspended", "assigned", "revoked")})
	case 7, 8:
		h.say(at, "user.activity", id, d{"user_id": user, "kind": "login", "result": h.pick("success", "success", "failure")})
	case 9:
		from := h.instant()
		kind, account := "ingest.gap_declared", id
		if h.chance(40) {
			kind = "ingest.gap_closed"
		}
		if h.chance(10) {
			account = ""
		}
		to := from.Add([]time.Duration{time.Millisecond, 24 * time.Hour, 40 * 24 * time.Hour}[h.IntN(3)])
		gap := d{"from": text(from), "to": text(to)}
		if kind == "ingest.gap_declared" {
			gap["reason"] = "lost"
		}
		h.say(at, kind, account, gap)
	}
}

func (h *history) entitled() {
	id, at := h.pick("a1", "a2", "a3", "p"), h.instant()
	switch h.IntN(4) {
	case 0:
		data := d{
			"entitlement_id": h.pick("x", "y", "z"), "kind": h.pick("USERS", "USERS", "TRANSACTIONS"), "quantity": h.IntN(20), "sms_voice_credits": h.pick("0", "2.5", "10"),
			"start": text(h.instant()), "bundles": []string{h.pick("A", "B"), h.pick("B", "C")},
		}
		if h.chance(40) {
			data["end"] = text(moment(data["start"].(string)).AddDate(0, h.IntN(3), h.IntN(20)).Add(time.Millisecond)) //nolint:forcetypeassert // it was put there above
		}
		if h.chance(50) {
			data["status"] = h.pick("ACTIVE", "ACTIVE", "INACTIVE", "TERMINATED")
		}
		h.say(at, "entitlement.set", id, data)
	case 1, 2:
		h.say(at, "message.charged", id, d{"message_id": fmt.Sprint("m", h.IntN(20)), "user_id": "u1", "channel": h.pick("sms", "voice"), "credits": h.pick("1", "0.5", "2", "0.000000001")})
	case 3:
		h.say(at, "message.credit_returned", id, d{"message_id": fmt.Sprint("m", h.IntN(20)), "credits": h.pick("1", "0.25")})
	}
}

// assets are usage of all kinds. A trial never begins where another ends.
func (h *history) assets() {
	id, at, asset := h.pick("a1", "a2", "a3", "o"), h.instant(), h.pick("x1", "x2", "x3")
	switch h.IntN(9) {
	case 0, 1:
		h.say(at, "asset.registered", id, d{"asset_id": asset, "asset_name": h.pick("One", "Two"), "asset_type": h.pick("USER", "TRANSPORT", "GATEWAY")})
	case 2:
		h.say(at, "asset.renamed", id, d{"asset_id": asset, "asset_name": h.pick("Three", "Four")})
	case 3:
		expiry := h.instant().AddDate(0, h.IntN(2), 0).Truncate(time.Hour).Add(time.Duration(1+h.IntN(50)) * time.Second)
		h.say(at, "asset.trial_set", id, d{"asset_id": asset, "trial_expiry": text(expiry)})
	default:
		data := d{
			"meter": h.pick("hours", "gib", "gib", "calls"), "quantity": h.pick("1", "0.5", "3.333333333", "12.000001", "0.000000001", "0"), "region": h.pick("EU", "EU", "NA", "AP"),
			"asset": d{"id": asset},
		}
		switch h.IntN(12) {
		case 0:
			data["region"] = "US"
		case 1:
			data["quantity"] = "-1"
		case 2, 3, 4:
			data["platform"] = h.pick("azure", "mcp")
		case 5:
			data["plan"] = h.pick("advanced", "essentials")
		}
		if h.chance(50) {
			end := at.Add([]time.Duration{time.Hour, 7 * time.Hour, 25*time.Hour + time.Millisecond, 70 * time.Hour}[h.IntN(4)])
			data["start"], data["end"] = text(at), text(end)
			if h.chance(20) {
				data["trial_expiry"] = text(at.Add(3*time.Hour).AddDate(0, 0, h.IntN(3)-1))
			}
			at = end
		}
		h.say(at, "usage.metered", id, data)
	}
}

func (h *history) elastic() {
	at, activation, instance := h.instant(), h.pick("ACT1", "ACT2"), h.pick("I1", "I1", "I2")
	switch h.IntN(10) {
	case 0:
		h.say(at, "instance.created", h.pick("k1", "k2", "a1"), d{"instance_id": instance})
	case 1:
		h.say(at, "lineitem.mapped", "k1", d{
			"activation_id": activation, "instance_id": instance, "quantity": h.pick("10", "100.5"), "start": text(at), "state": h.pick("DEPLOYED", "DEPLOYED", "INACTIVE"), "series": "S",
		})
	case 2:
		change := d{"activation_id": activation}
		if h.chance(60) {
			change["quantity"] = h.pick("20", "30.25")
		}
		if h.chance(50) {
			change["state"] = h.pick("DEPLOYED", "INACTIVE", "OBSOLETE")
		}
		h.say(at, "lineitem.changed", "k1", change)
	default:
		data := d{"operation": "access_request", "instance_id": instance, "consumer": d{"type": "user", "value": h.pick("joe", "ann")}}
		if h.chance(40) {
			data["session_id"], data["session_state"] = "3f1e7f0e-0000-4000-8000-00000000000"+fmt.Sprint(h.IntN(9)), h.pick("ACTIVE", "TERMINATED")
		}
		var lines []d
		for no := range 1 + h.IntN(3) {
			line := d{"line_no": no + 1, "item": h.pick("Photo", "CAD"), "item_quantity": h.pick("2", "0.5"), "response": "101", "series": "S", "version": "1", "meter_cost": 7}
			if h.chance(50) {
				line["item_version"] = "1.0"
			}
			switch {
			case h.chance(20):
				line["response"], line["meter_quantity"] = h.pick("202", "203", "201"), 0
			case h.chance(30):
				line["activation_id"], line["item_quantity"], line["meter_quantity"] = activation, "-0.166666667", "-1.166667"
			default:
				line["activation_id"] = h.pick("ACT1", "ACT2")
				line["meter_quantity"] = map[any]string{"2": "14", "0.5": "3.5"}[line["item_quantity"]]
			}
			lines = append(lines, line)
		}
		data["lines"] = lines
		h.say(at, "elastic.operation", h.pick("k1", "a1"), data)
	}
}

func (h *history) partner() {
	at, sub, account := h.instant(), h.pick("S1", "S1", "S2"), h.pick("k1", "k2", "k3", "a1")
	kinds := []d{{"cert_type": "SSL", "product": "Pro"}, {"cert_type": "SSL", "product": "Lite"}, {"cert_type": "S/MIME", "product": "Mail"}}
	some := func(member string, values ...string) []d {
		var items []d
		for _, k := range kinds[h.IntN(3):] {
			items = append(items, d{"cert_type": k["cert_type"], "product": k["product"], member: h.pick(values...)})
		}
		return items
	}
	data := d{"subscription_id": sub, "transaction_id": fmt.Sprint("T-", h.IntN(40))}
	if h.chance(60) {
		data["actor"] = person(h.pick("Ann", "Bob"))
	}
	switch h.IntN(12) {
	case 0, 1, 2:
		start := at.Truncate(24*time.Hour).AddDate(0, 0, -h.IntN(20))
		term := 1 + h.IntN(3)
		data["name"], data["items"], data["term_months"], data["cost"], data["currency"] = h.pick("Alpha", "Beta"), some("quantity", "3", "10"), term, h.pick("600.00", "0.125"), "EUR"
		data["start"], data["end"] = text(start), text(start.AddDate(0, term, 0).AddDate(0, 0, -h.IntN(2)))
		if h.chance(50) {
			data["auto_renew"] = h.chance(50)
		}
		h.say(at, "subscription.ordered", account, data)
	case 3:
		data["cost"], data["auto_renew"] = "1.005", h.chance(50)
		if h.chance(20) {
			data["currency"] = "USD"
		}
		h.say(at, "subscription.modified", account, data)
	case 4:
		data["new_start"], data["new_end"], data["cost"] = text(at), text(at.AddDate(0, 2, 0)), "50"
		h.say(at, "subscription.renewed", account, data)
	case 5:
		if data["cost"] = "0"; h.chance(50) {
			h.say(at, "subscription.cancelled", account, data)
		}
	case 6, 7:
		data["deltas"], data["cost"] = some("delta", "-4", "-1", "1", "2"), h.pick("100.27", "0.00")
		h.say(at, "inventory.changed", account, data)
	case 8:
		data["deltas"], data["cost"] = some("delta", "-2", "1"), "0"
		h.say(at, "renewal_inventory.changed", account, data)
	default:
		one := d{"certificate_id": fmt.Sprint("c", h.IntN(6)), "subscription_id": sub}
		if kind := kinds[h.IntN(3)]; h.chance(70) {
			one["cert_type"] = kind["cert_type"]
			if h.chance(80) {
				one["product"] = kind["product"]
			}
		}
		typ := h.pick("issued", "issued", "reissued", "revoked", "expired")
		if typ == "reissued" {
			one["replaces"] = fmt.Sprint("c", h.IntN(6))
		}
		h.say(at, "certificate."+typ, account, one)
	}
}

// inOrder is the history in the order in which it was recorded; a void comes after its target.
func (h *history) inOrder() []event {
	all := slices.Clone(h.events)
	slices.SortStableFunc(all, func(a, b event) int { return moment(a.recorded).Compare(moment(b.recorded)) })
	return all
}

func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}

// shuffled is the history in any order, every event once to three times.
func (h *history) shuffled() []event {
	var all []event
	for _, e := range h.events {
		for range 1 + h.IntN(3) {
			all = append(all, e)
		}
	}
	h.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// known is the history as the reference knows it as of an instant.
func (h *history) known(tenant, asOf string) *reference.History {
	var all []reference.Event
	for _, e := range h.events {
		source := e.source
		if source == "" {
			source = "test"
		}
		r := reference.Event{
			Source: source, ID: e.id, Type: e.typ, Account: e.account, Correlation: e.correlation, At: moment(e.at).UnixMilli(),
			Recorded: moment(e.recorded).UnixMilli(), Data: e.data,
		}
		if start, ok := e.data["start"].(string); ok && e.typ == "usage.metered" {
			r.At = moment(start).UnixMilli()
		}
		all = append(all, r)
	}
	return reference.Known(tenant, all, moment(asOf).UnixMilli())
}
