package scenario

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/stack"
)

// Fixture D: an instance of account C-1, a series and its rate table.
func fixtureD() []event {
	return []event{
		ev("2023-11-01", "account.created", "C-1", d{"name": "Customer One", "kind": "customer"}),
		ev("2023-11-01", "instance.created", "C-1", d{"instance_id": "INST-1"}),
		ev("2023-11-01", "ratetable.published", "C-1", d{"series": "PublicationApps", "version": "1", "effective_from": "2023-11-01T00:00:00Z", "items": []d{
			{"item": "PhotoPrint", "item_version": "1.0", "charge": 3}, {"item": "SignPrint", "item_version": "1.0", "charge": 4}, {"item": "CADPrint", "item_version": "2.0", "charge": 7},
		}}),
	}
}

func lineItem(activation string, quantity int, end string) event {
	return ev("2023-11-01", "lineitem.mapped", "C-1", d{
		"activation_id": activation, "instance_id": "INST-1", "quantity": quantity, "start": "2023-11-01T00:00:00Z", "end": end, "state": "DEPLOYED", "series": "PublicationApps",
	})
}

// granted is a line that was granted: what it cost is computed by the access product, here by hand.
func granted(no int, activation, item string, count, cost, charged any) d {
	version := "1.0"
	if item == "CADPrint" {
		version = "2.0"
	}
	return d{
		"line_no": no, "item": item, "item_version": version, "item_quantity": count, "response": "101", "activation_id": activation,
		"series": "PublicationApps", "version": "1", "meter_cost": cost, "meter_quantity": charged,
	}
}

func denied(no int, item string, count any, response string, more d) d {
	line := d{"line_no": no, "item": item, "item_quantity": count, "response": response, "meter_quantity": 0}
	for name, value := range more {
		line[name] = value
	}
	return line
}

func operation(at, kind string, more d, lines ...d) event {
	data := d{"operation": kind, "instance_id": "INST-1", "consumer": d{"type": "user", "value": "joe"}, "lines": lines}
	for name, value := range more {
		data[name] = value
	}
	return ev(at, "elastic.operation", "C-1", data)
}

func oneOff(at string, lines ...d) event { return operation(at, "access_request", nil, lines...) }

// d1 is scenario D1: 10 PhotoPrint and 2 CADPrint.
func d1() event {
	return oneOff("2023-12-01T10:00:00Z", granted(1, "ACT01", "PhotoPrint", 10, 3, 30), granted(2, "ACT01", "CADPrint", 2, 7, 14))
}

// tokens is the table with the columns that the scenarios show, one row a line; "-" is blank.
func (w *world) tokens(columns string, pairs ...string) string {
	w.t.Helper()
	var answer struct {
		Columns []string
		Rows    []map[string]any
	}
	w.json(&answer, "elastic-usage", pairs...)
	if len(answer.Columns) != 23 || answer.Columns[0] != "CORRELATION_ID" || answer.Columns[22] != "META_DATA" {
		w.t.Errorf("columns are %v", answer.Columns)
	}
	out := ""
	for _, row := range answer.Rows {
		for i, name := range strings.Fields(columns) {
			if i > 0 {
				out += " "
			}
			if text := fmt.Sprint(row[name]); row[name] != nil && text != "" {
				out += text
			} else {
				out += "-"
			}
		}
		out += "\n"
	}
	return out
}

const shownD = "ACTIVATION_ID MAPPED_ENTITLED_COUNT USED ITEM ITEM_QUANTITY SESSION_STATE REQUEST_RESPONSE METER_COST METER_QUANTITY"

func TestD1OneOff(t *testing.T) {
	w := newWorld(t)
	w.send(append(fixtureD(), lineItem("ACT01", 1000, "2034-04-17T00:00:00Z"), d1())...)
	w.want("D1", w.tokens(shownD), `
ACT01 1000 30 PhotoPrint 10 - 101 3 30
ACT01 1000 44 CADPrint 2 - 101 7 14`)
	rows := strings.Split(strings.TrimSpace(w.csv("elastic-usage")), "\n")
	if len(rows) != 3 {
		t.Fatalf("%d lines:\n%s", len(rows), strings.Join(rows, "\n"))
	}
	w.want("header", rows[0], "CORRELATION_ID,TENANT_ID,USAGE_TIME,WRITE_TIME,CONSUMER_ID,CONSUMER_TYPE,ACCOUNT_ID,INSTANCE_ID,ACTIVATION_ID,MAPPED_ENTITLED_COUNT,USED,"+
		"ITEM,ITEM_VERSION,ITEM_QUANTITY,SESSION_ID,SESSION_STATE,REQUEST_RESPONSE,METER_TYPE,METER,METER_COST_LIST,METER_COST,METER_QUANTITY,META_DATA")
	one, rest, _ := strings.Cut(rows[1], ",")
	two, _, _ := strings.Cut(rows[2], ",")
	if one == "" || one != two {
		t.Errorf("correlations %q and %q", one, two)
	}
	w.want("first row", rest, w.tenant+`,2023-12-01T10:00:00Z,2023-12-01T10:00:00Z,joe,user,C-1,INST-1,ACT01,1000,30,PhotoPrint,1.0,10,,,101,elastic,elastic token,`+
		`"{""series"":""PublicationApps"",""version"":""1""}",3,30,`)
}

func TestD2SplitOverLineItems(t *testing.T) {
	w := newWorld(t)
	w.send(append(fixtureD(), lineItem("ACT01", 10, "2034-04-17T00:00:00Z"), lineItem("ACT02", 100, "2035-08-28T00:00:00Z"),
		oneOff("2023-12-01T10:00:00Z", granted(1, "ACT01", "PhotoPrint", 1, 3, 3), granted(2, "ACT01", "CADPrint", 1, 7, 7), granted(3, "ACT02", "CADPrint", 7, 7, 49)))...)
	w.want("D2", w.tokens(shownD), `
ACT01 10 3 PhotoPrint 1 - 101 3 3
ACT01 10 10 CADPrint 1 - 101 7 7
ACT02 100 49 CADPrint 7 - 101 7 49`)
	w.want("one line item", w.tokens("USED", "activation", "ACT02"), "49")
}

// Denied lines: charged to nobody, whatever the producer says; the rate where the item is priced.
func TestD3D5Denied(t *testing.T) {
	w := newWorld(t)
	w.send(append(fixtureD(), lineItem("ACT01", 10, "2034-04-17T00:00:00Z"),
		oneOff("2023-12-01T10:00:00Z", granted(1, "ACT01", "PhotoPrint", 3, 3, 9),
			denied(2, "CADPrint", 1, "202", d{"meter_cost": 7, "series": "PublicationApps", "version": "1", "activation_id": "ACT01", "used": 9, "mapped_entitled_count": 10}),
			denied(3, "Unknown", "0.5", "201", nil)),
		operation("2023-12-01T11:00:00Z", "access_request", d{"session_id": "S-1", "session_state": "IDLE"},
			denied(1, "PhotoPrint", 1, "102", d{"meter_cost": "3"}), denied(2, "CADPrint", 1, "203", d{"meter_cost": "7"})))...)
	w.want("denied", w.tokens(shownD+" SESSION_ID"), `
ACT01 10 9 PhotoPrint 3 - 101 3 9 -
- - - CADPrint 1 - 202 7 0 -
- - - Unknown 0.5 - 201 - 0 -
- - - PhotoPrint 1 IDLE 102 3 0 S-1
- - - CADPrint 1 IDLE 203 7 0 S-1`)
	if status, answer := w.post(oneOff("2023-12-01T12:00:00Z", d{"line_no": 1, "item": "X", "item_quantity": 1, "response": "202", "meter_quantity": 1})); status != http.StatusUnprocessableEntity {
		t.Errorf("a denied line that charges: %d %s", status, answer)
	}
	if status, answer := w.post(oneOff("2023-12-01T12:00:00Z", granted(1, "ACT01", "CADPrint", 2, 7, "14.000002"))); status != http.StatusUnprocessableEntity {
		t.Errorf("wrong arithmetic: %d %s", status, answer)
	}
}

// A session: charged at once, again every hour, the unused part given back at its end (D6 to D10, D14).
func TestD14RefundAndSessions(t *testing.T) {
	w := newWorld(t)
	session := func(state string) d { return d{"session_id": "S-1", "session_state": state} }
	refund := granted(1, "ACT01", "CADPrint", "-0.166666667", 7, "-1.166667")
	refund["refund_of"] = d{"correlation_id": "c1", "line_no": 1}
	w.send(append(fixtureD(), lineItem("ACT01", 1000, "2034-04-17T00:00:00Z"),
		operation("2023-12-01T10:00:00Z", "access_request", session("ACTIVE"), granted(1, "ACT01", "CADPrint", 1, 7, 7)),
		operation("2023-12-01T10:50:00Z", "refund", session("TERMINATED"), refund))...)
	w.want("D14", w.tokens(shownD), `
ACT01 1000 7 CADPrint 1 ACTIVE 101 7 7
ACT01 1000 5.833333 CADPrint -0.166666667 TERMINATED 101 7 -1.166667`)
	w.send(operation("2023-12-01T12:00:00Z", "automatic_charge", session("ACTIVE"), granted(1, "ACT01", "CADPrint", 1, 7, 7), granted(2, "ACT01", "SignPrint", "0.25", 4, 1)))
	w.want("an automatic charge", w.tokens("USED ITEM", "from", "2023-12-01T11:00:00Z"), "12.833333 CADPrint\n13.833333 SignPrint")
}

func TestD16Duplicates(t *testing.T) {
	w := newWorld(t)
	one := d1().named("operation-1")
	w.send(append(fixtureD(), lineItem("ACT01", 1000, "2034-04-17T00:00:00Z"), one, one)...)
	w.send(one)
	w.want("D16", w.tokens("USED ITEM"), "30 PhotoPrint\n44 CADPrint")
}

// A late line moves the rows after it; as_of keeps what was there.
func TestDLateLineAndVoid(t *testing.T) {
	w := newWorld(t)
	w.send(append(fixtureD(), lineItem("ACT01", 1000, "2034-04-17T00:00:00Z"), d1().named("first"),
		oneOff("2023-11-20T10:00:00Z", granted(1, "ACT01", "SignPrint", 2, 4, 8)).recordedAt("2023-12-05"),
		ev("2023-12-08", "event.voided", "", d{"target": d{"source": "test", "id": "first"}, "reason": "wrong"}),
		oneOff("2023-12-09T10:00:00Z", granted(1, "ACT01", "SignPrint", 1, 4, 4)))...)
	for asOf, want := range map[string]string{
		"2023-12-02T00:00:00Z": "30 PhotoPrint 2023-12-01T10:00:00Z\n44 CADPrint 2023-12-01T10:00:00Z",
		"2023-12-06T00:00:00Z": "8 SignPrint 2023-12-05T00:00:00Z\n38 PhotoPrint 2023-12-01T10:00:00Z\n52 CADPrint 2023-12-01T10:00:00Z",
		"":                     "8 SignPrint 2023-12-05T00:00:00Z\n12 SignPrint 2023-12-09T10:00:00Z",
	} {
		pairs := []string{}
		if asOf != "" {
			pairs = []string{"as_of", asOf}
		}
		w.want("as of "+asOf, w.tokens("USED ITEM WRITE_TIME", pairs...), want)
	}
}

// Order within an instant is source_seq, then id; within an operation the line's number.
func TestDSameInstant(t *testing.T) {
	w := newWorld(t)
	numbered := func(id string, seq, tokens int) event {
		return operation("2023-12-01T10:00:00Z", "access_request", d{"source_seq": seq}, granted(1, "ACT01", "PhotoPrint", tokens, 3, 3*tokens)).named(id)
	}
	w.send(append(fixtureD(), lineItem("ACT01", 1000, "2034-04-17T00:00:00Z"), numbered("b", 2, 1), numbered("a", 2, 2), numbered("z", 1, 3),
		oneOff("2023-12-01T10:00:01Z", granted(2, "ACT01", "CADPrint", 1, 7, 7), granted(1, "ACT01", "SignPrint", 1, 4, 4)))...)
	w.want("order", w.tokens("USED METER_QUANTITY"), "9 9\n15 6\n18 3\n22 4\n29 7")
}

// MAPPED_ENTITLED_COUNT is the quantity at that moment; unknown line items, instances and accounts join in late.
func TestDUnknownFirst(t *testing.T) {
	w := newWorld(t)
	fixture := fixtureD()
	at := func(day string) event {
		return oneOff("2023-12-"+day+"T10:00:00Z", granted(1, "ACT01", "PhotoPrint", 1, 3, 3))
	}
	w.send(append(fixture[1:], at("01"), ev("2023-12-02", "lineitem.changed", "C-1", d{"activation_id": "ACT01", "quantity": 500}), at("03"))...)
	w.want("nothing known", w.tokens("USED"), "")
	w.send(lineItem("ACT01", 1000, "2034-04-17T00:00:00Z").recordedAt("2023-12-10"))
	w.want("no account", w.tokens("USED"), "")
	w.send(fixture[0].recordedAt("2023-12-11"))
	w.want("known", w.tokens("USED MAPPED_ENTITLED_COUNT ACCOUNT_ID"), "3 1000 C-1\n6 500 C-1")
	w.want("as of before", w.tokens("USED", "as_of", "2023-12-10T12:00:00Z"), "")
	w.want("another account", w.tokens("USED", "account", "C-2"), "")
	w.want("its account, second", w.tokens("USED", "account", "C-1", "from", "2023-12-02T00:00:00Z"), "6")
}

// A producer's running total that disagrees is shown and flagged, never trusted.
func TestDUsedDiffers(t *testing.T) {
	w := newWorld(t)
	right, wrong := granted(1, "ACT01", "PhotoPrint", 1, 3, 3), granted(2, "ACT01", "CADPrint", 1, 7, 7)
	right["used"], wrong["used"] = "3.0", 999
	right["meta_data"] = d{"project": "blue", "tags": []int{1, 2}}
	w.send(append(fixtureD(), lineItem("ACT01", 1000, "2034-04-17T00:00:00Z"), oneOff("2023-12-01T10:00:00Z", right, wrong))...)
	w.want("flags", w.tokens("USED used_differs used_reported"), "3 false -\n10 true 999")
	w.want("only those", w.tokens("ITEM", "differs", "true"), "CADPrint")
	w.want("meta data", w.tokens("META_DATA"), "map[project:blue tags:[1 2]]\n-")
}

// Pages of one row agree with the whole.
func TestDPages(t *testing.T) {
	w := newWorld(t)
	events := append(fixtureD(), lineItem("ACT01", 1000, "2034-04-17T00:00:00Z"))
	want := ""
	for i := range 7 {
		events = append(events, oneOff(fmt.Sprintf("2023-12-01T10:00:0%dZ", i), granted(1, "ACT01", "PhotoPrint", 1, 3, 3)))
		want += fmt.Sprintln(3 * (i + 1))
	}
	w.send(events...)
	got, cursor := "", ""
	for {
		pairs := []string{"limit", "2"}
		if cursor != "" {
			pairs = append(pairs, "cursor", cursor)
		}
		var page struct {
			Rows []struct{ USED string }
			Next *string
		}
		w.json(&page, "elastic-usage", pairs...)
		for _, row := range page.Rows {
			got += row.USED + "\n"
		}
		if page.Next == nil {
			break
		}
		cursor = *page.Next
	}
	w.want("pages", got, want)
}

// D17 as the analyst of the stack's own tenant; that another tenant's sees nothing is a test of internal/report.
func TestD17AnalystsSQL(t *testing.T) {
	w := newWorld(t)
	at, err := stack.LoadEndpoints(house.dir)
	if err != nil {
		t.Fatal(err)
	}
	w.tenant, w.key = at.Analyst.Tenant, at.AdminToken
	w.send(append(fixtureD(), lineItem("ACT01", 1000, "2034-04-17T00:00:00Z"), d1())...)
	ask := func(sql string) (int, string) {
		address := at.ClickHouseHTTP + "/?" + url.Values{"user": {at.Analyst.User}, "password": {at.Analyst.Password}}.Encode()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(sql))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	for sql, want := range map[string]string{
		"SELECT ITEM, sum(METER_QUANTITY) FROM usage_api.elastic_usage_v1 WHERE REQUEST_RESPONSE='101' GROUP BY ITEM ORDER BY ITEM DESC": "PhotoPrint\t30\nCADPrint\t14",
		"SELECT USED, MAPPED_ENTITLED_COUNT, USAGE_TIME FROM usage_api.elastic_usage_v1 ORDER BY USED":                                   "30\t1000\t2023-12-01 10:00:00.000\n44\t1000\t2023-12-01 10:00:00.000",
		"SELECT activation_id, quantity, used, remaining, overage FROM usage_api.elastic_balance_v1":                                     "ACT01\t1000\t44\t956\t0",
	} {
		w.await("the view to say\n"+want, func() bool { // it has what is folded for all tenants, which follows
			status, answer := ask(sql)
			if status != http.StatusOK {
				t.Fatalf("%d %s", status, answer)
			}
			return strings.TrimSpace(answer) == want
		})
	}
	_, answer := ask("SELECT DISTINCT database FROM system.tables UNION ALL SELECT DISTINCT database FROM system.columns")
	w.want("names and sizes of the tables below the views, which are all tenants'", answer, "usage_api\nusage_api")
	for _, sql := range []string{
		"INSERT INTO usage_api.elastic_usage_v1 (ITEM) VALUES ('x')", "INSERT INTO countinghouse.elastic_lines (tenant) VALUES ('t1')",
		"ALTER TABLE countinghouse.elastic_lines DELETE WHERE 1", "DROP VIEW usage_api.elastic_usage_v1", "SELECT count() FROM system.users", "SELECT query FROM system.query_log LIMIT 1",
		"SELECT count() FROM numbers(100000000000)",
	} {
		if status, answer := ask(sql); status == http.StatusOK {
			t.Errorf("%s: %s", sql, answer)
		}
	}
}
