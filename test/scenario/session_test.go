package scenario

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// The sessions of Elastic Access: what the access product decides arrives as operations; here is what the rows of each
// story are. PhotoPrint costs 3, SignPrint 4, CADPrint 7.

func inSession(at, kind, state string, lines ...d) event {
	return operation(at, kind, d{"session_id": "0f8fad5b-d9cb-469f-a165-70867728950e", "session_state": state}, lines...)
}

func deployed() []event {
	return append(fixtureD(), lineItem("ACT01", 10, "2034-04-17T00:00:00Z"), lineItem("ACT02", 100, "2035-08-28T00:00:00Z"))
}

// 20 of 60 minutes used: 40/60 come back, the count to nine decimals, the tokens to six.
func TestD6EndedEarly(t *testing.T) {
	w := newWorld(t)
	w.send(append(deployed(),
		inSession("2023-12-01T10:00:00Z", "access_request", "ACTIVE", granted(1, "ACT01", "PhotoPrint", 2, 3, 6)),
		inSession("2023-12-01T10:20:00Z", "refund", "TERMINATED", granted(1, "ACT01", "PhotoPrint", "-1.333333333", 3, "-4")))...)
	w.want("D6", w.tokens(shownD+" SESSION_ID"), `
ACT01 10 6 PhotoPrint 2 ACTIVE 101 3 6 0f8fad5b-d9cb-469f-a165-70867728950e
ACT01 10 2 PhotoPrint -1.333333333 TERMINATED 101 3 -4 0f8fad5b-d9cb-469f-a165-70867728950e`)
}

// Another request in a running session: the unused half of the old items back, the new ones in full. Both happen in one
// instant, the refund first, as source_seq says; each operation has a correlation of its own.
func TestD7AnotherRequest(t *testing.T) {
	w := newWorld(t)
	back := operation("2023-12-01T10:30:00Z", "refund", d{"session_id": "S", "session_state": "ACTIVE", "source_seq": 1}, granted(1, "ACT02", "SignPrint", "-0.5", 4, -2)).named("z-back")
	again := operation("2023-12-01T10:30:00Z", "access_request", d{"session_id": "S", "session_state": "ACTIVE", "source_seq": 2},
		granted(1, "ACT02", "SignPrint", 2, 4, 8), granted(2, "ACT02", "PhotoPrint", 1, 3, 3)).named("a-again")
	back.correlation, again.correlation = "c-back", "c-again"
	w.send(append(deployed(), inSession("2023-12-01T10:00:00Z", "access_request", "ACTIVE", granted(1, "ACT02", "SignPrint", 1, 4, 4)), again, back)...)
	w.want("D7", w.tokens("USED ITEM ITEM_QUANTITY SESSION_STATE METER_QUANTITY", "from", "2023-12-01T10:30:00Z"),
		"2 SignPrint -0.5 ACTIVE -2\n10 SignPrint 2 ACTIVE 8\n13 PhotoPrint 1 ACTIVE 3")
	w.want("correlations", w.tokens("CORRELATION_ID", "from", "2023-12-01T10:30:00Z"), "c-back\nc-again\nc-again")
}

// No heartbeat for 30 minutes after an automatic charge: all of that charge back, and nothing of the one before.
func TestD8MissedHeartbeat(t *testing.T) {
	w := newWorld(t)
	w.send(append(deployed(),
		inSession("2023-12-01T10:00:00Z", "access_request", "ACTIVE", granted(1, "ACT01", "SignPrint", 1, 4, 4)),
		inSession("2023-12-01T11:00:00Z", "automatic_charge", "ACTIVE", granted(1, "ACT01", "SignPrint", 1, 4, 4)),
		inSession("2023-12-01T11:30:00Z", "refund", "TERMINATED", granted(1, "ACT01", "SignPrint", -1, 4, -4)))...)
	w.want("D8", w.tokens("USED ITEM_QUANTITY SESSION_STATE METER_QUANTITY"), "4 1 ACTIVE 4\n8 1 ACTIVE 4\n4 -1 TERMINATED -4")
}

// An automatic charge without enough tokens ends the session and charges nobody.
func TestD9AutomaticChargeDenied(t *testing.T) {
	w := newWorld(t)
	w.send(append(deployed(),
		inSession("2023-12-01T10:00:00Z", "access_request", "ACTIVE", granted(1, "ACT01", "CADPrint", 1, 7, 7)),
		inSession("2023-12-01T11:00:00Z", "automatic_charge", "TERMINATED", denied(1, "CADPrint", 1, "202", d{"meter_cost": 7, "series": "PublicationApps", "version": "1"})))...)
	w.want("D9", w.tokens(shownD), "ACT01 10 7 CADPrint 1 ACTIVE 101 7 7\n- - - CADPrint 1 TERMINATED 202 7 0")
}

// What was split over line items comes back to each of them what it paid.
func TestD10RefundOfASplit(t *testing.T) {
	w := newWorld(t)
	w.send(append(deployed(),
		inSession("2023-12-01T10:00:00Z", "access_request", "ACTIVE",
			granted(1, "ACT01", "PhotoPrint", 1, 3, 3), granted(2, "ACT01", "CADPrint", 1, 7, 7), granted(3, "ACT02", "CADPrint", 7, 7, 49)),
		inSession("2023-12-01T10:30:00Z", "refund", "TERMINATED",
			granted(1, "ACT01", "PhotoPrint", "-0.5", 3, "-1.5"), granted(2, "ACT01", "CADPrint", "-0.5", 7, "-3.5"), granted(3, "ACT02", "CADPrint", "-3.5", 7, "-24.5")))...)
	w.want("D10", w.tokens("ACTIVATION_ID USED METER_QUANTITY", "from", "2023-12-01T10:30:00Z"), "ACT01 8.5 -1.5\nACT01 5 -3.5\nACT02 24.5 -24.5")
	w.want("ACT02 alone", w.tokens("USED", "activation", "ACT02"), "49\n24.5")
}

// A new rate table: the refund is at the rate that was charged, what is charged after it at the new one.
func TestD11RateTableChanges(t *testing.T) {
	w := newWorld(t)
	dear := granted(1, "ACT02", "PhotoPrint", 1, 5, 5)
	dear["version"] = "0.9" // a version chooses nothing
	w.send(append(deployed(),
		inSession("2023-12-01T10:00:00Z", "access_request", "ACTIVE", granted(1, "ACT02", "PhotoPrint", 1, 3, 3)),
		ev("2023-12-01T10:10:00Z", "ratetable.published", "C-1", d{"series": "PublicationApps", "version": "0.9", "effective_from": "2023-12-01T10:15:00Z", "items": []d{{"item": "PhotoPrint", "item_version": "1.0", "charge": 5}}}),
		inSession("2023-12-01T10:30:00Z", "refund", "ACTIVE", granted(1, "ACT02", "PhotoPrint", "-0.5", 3, "-1.5")),
		inSession("2023-12-01T10:30:00.001Z", "access_request", "ACTIVE", dear))...)
	w.want("D11", w.tokens("USED METER_COST METER_QUANTITY METER_COST_LIST"), `
3 3 3 map[series:PublicationApps version:1]
1.5 3 -1.5 map[series:PublicationApps version:1]
6.5 5 5 map[series:PublicationApps version:0.9]`)
}

// A line item that is OBSOLETE takes refunds, and comes back no more; MAPPED_ENTITLED_COUNT is that of the moment.
func TestD12ObsoleteLineItem(t *testing.T) {
	w := newWorld(t)
	change := func(at string, more d) event {
		more["activation_id"] = "ACT01"
		return ev(at, "lineitem.changed", "C-1", more)
	}
	w.send(append(deployed(),
		inSession("2023-12-01T10:00:00Z", "access_request", "ACTIVE", granted(1, "ACT01", "CADPrint", 1, 7, 7)),
		change("2023-12-01T10:10:00Z", d{"quantity": "12.5", "state": "OBSOLETE"}),
		inSession("2023-12-01T10:30:00Z", "refund", "TERMINATED", granted(1, "ACT01", "CADPrint", "-0.5", 7, "-3.5")),
		change("2023-12-01T10:40:00Z", d{"state": "DEPLOYED", "quantity": 99}).named("back"),
		change("2023-12-01T10:50:00Z", d{"quantity": 3}),
		inSession("2023-12-01T11:00:00Z", "access_request", "IDLE", denied(1, "CADPrint", 1, "204", d{"meter_cost": 7})))...)
	w.want("D12", w.tokens("MAPPED_ENTITLED_COUNT USED REQUEST_RESPONSE METER_QUANTITY"), "10 7 101 7\n12.5 3.5 101 -3.5\n- - 204 0")
	w.want("dead letters", w.letters(), "back rule:line-item-obsolete")
}

// More used than there is: an overdraft is a number like any other, and USED goes on.
func TestD13Overdraft(t *testing.T) {
	w := newWorld(t)
	w.send(append(deployed(), oneOff("2023-12-01T10:00:00Z", granted(1, "ACT01", "CADPrint", 2, 7, 14)), oneOff("2023-12-02T10:00:00Z", granted(1, "ACT01", "PhotoPrint", "0.333333333", 3, 1)))...)
	w.want("D13", w.tokens("MAPPED_ENTITLED_COUNT USED METER_QUANTITY"), "10 14 14\n10 15 1")
	w.send(ev("2023-12-03", "lineitem.changed", "C-1", d{"activation_id": "ACT02", "quantity": json.Number("12345678901.123456789")})) // more than a double holds
	for activation, want := range map[string]string{"ACT01": "10\t15\t-5\t5", "ACT02": "12345678901.123456789\t0\t12345678901.123456789\t0"} {
		w.await("the balance of "+activation, func() bool {
			return strings.TrimSpace(w.sql("SELECT quantity, used, remaining, overage FROM usage_api.elastic_balance_v1 WHERE tenant = '"+w.tenant+"' AND activation_id = '"+activation+"'")) == want
		})
	}
}

// Limits and denials inside a session: all items or none; rollbackOnDeny leaves it as it was, or it ends and the rest
// comes back. A line that is denied is in no sum.
func TestD15DeniedInASession(t *testing.T) {
	w := newWorld(t)
	w.send(append(deployed(),
		inSession("2023-12-01T09:00:00Z", "access_request", "IDLE", denied(1, "PhotoPrint", 1, "102", d{"meter_cost": 3}), denied(2, "CADPrint", 30, "202", d{"meter_cost": 7})),
		inSession("2023-12-01T10:00:00Z", "access_request", "ACTIVE", granted(1, "ACT02", "PhotoPrint", 4, 3, 12)),
		inSession("2023-12-01T10:15:00Z", "access_request", "ACTIVE", denied(1, "SignPrint", 1, "203", d{"meter_cost": 4})), // rolled back: goes on as it was
		inSession("2023-12-01T10:30:00Z", "access_request", "TERMINATED", denied(1, "Nothing", 1, "201", nil)),
		inSession("2023-12-01T10:30:00.001Z", "refund", "TERMINATED", granted(1, "ACT02", "PhotoPrint", -2, 3, -6)),
		oneOff("2023-12-01T11:00:00Z", granted(1, "ACT02", "Free", 5, 0, 0)))...) // an item at no price is granted
	w.want("D15", w.tokens(shownD), `
- - - PhotoPrint 1 IDLE 102 3 0
- - - CADPrint 30 IDLE 202 7 0
ACT02 100 12 PhotoPrint 4 ACTIVE 101 3 12
- - - SignPrint 1 ACTIVE 203 4 0
- - - Nothing 1 TERMINATED 201 - 0
ACT02 100 6 PhotoPrint -2 TERMINATED 101 3 -6
ACT02 100 6 Free 5 - 101 0 0`)
	for name, line := range map[string]d{
		"a refund that gives a millionth too much":  granted(1, "ACT02", "CADPrint", "-0.166666667", 7, "-1.166669"),
		"a charge of nothing":                       granted(1, "ACT02", "CADPrint", 1, 7, 0),
		"a granted line without its rate":           {"line_no": 1, "item": "CADPrint", "item_quantity": 1, "response": "101", "activation_id": "ACT02", "series": "S", "version": "1", "meter_quantity": 7},
		"a denied line that charges something":      denied(1, "CADPrint", 1, "202", d{"meter_quantity": 7, "meter_cost": 7}),
		"a version that is a number and not a text": {"line_no": 1, "item": "CADPrint", "item_quantity": 1, "response": "101", "activation_id": "ACT02", "series": "S", "version": 1, "meter_cost": 7, "meter_quantity": 7},
	} {
		if status, answer := w.post(oneOff("2023-12-03T10:00:00Z", line)); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}
