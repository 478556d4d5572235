package scenario

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Fixtures here are of STA and Elastic, as any report would do: the rules are those of every report.

// manyAccounts is a provider with customers, each with a user.
func manyAccounts(n int) []event {
	events := []event{
		ev("2025-01-01", "account.created", "A-0", d{"name": "Provider", "kind": "provider"}),
		ev("2025-01-01", "service.plan_set", "A-0", d{"service": "sta", "plan": "STA"}),
	}
	for i := range n {
		account := fmt.Sprintf("C-%03d", i)
		events = append(events,
			ev("2025-01-01", "account.created", account, d{"name": fmt.Sprintf("Customer %03d", i), "kind": "customer", "parent_account_id": "A-0"}),
			ev("2025-01-01", "service.plan_set", account, d{"service": "sta", "plan": "STA Basic"}),
			ev("2025-01-02", "user.registered", account, d{"user_id": "u-" + account}))
	}
	return events
}

type reportPage struct {
	Report    string
	AsOf      string `json:"as_of"`
	Positions map[string]uint64
	Columns   []string
	Rows      []json.RawMessage
	Next      *string
}

// Pages are of one state of the log: together they are the whole, whatever comes in meanwhile.
func TestReportPagesAgree(t *testing.T) {
	w := newWorld(t)
	w.send(manyAccounts(24)...)
	export := []string{"account", "A-0", "month", "2025-01", "scope", "tree", "view", "export"}
	var whole reportPage
	w.json(&whole, "sta-usage", export...)
	if len(whole.Rows) != 25 || whole.Next != nil {
		t.Fatalf("%d rows, next %v", len(whole.Rows), whole.Next)
	}
	var rows []json.RawMessage
	var first reportPage
	for cursor, n := "", 0; n == 0 || cursor != ""; n++ {
		ask := append(slices.Clone(export), "limit", "7")
		if cursor != "" {
			ask = append(ask, "cursor", cursor)
		}
		var p reportPage
		w.json(&p, "sta-usage", ask...)
		rows = append(rows, p.Rows...)
		if n == 0 {
			first = p
			w.send(ev("2025-01-03", "user.registered", "C-020", d{"user_id": "another"}), ev("2025-01-01", "account.created", "C-000a", d{"name": "Customer 000a", "kind": "customer", "parent_account_id": "A-0"}))
		}
		if p.AsOf != first.AsOf || fmt.Sprint(p.Positions) != fmt.Sprint(first.Positions) {
			t.Errorf("page %d is of %s %v, the first of %s %v", n, p.AsOf, p.Positions, first.AsOf, first.Positions)
		}
		if cursor = ""; p.Next != nil {
			cursor = *p.Next
		}
	}
	if fmt.Sprintf("%s", rows) != fmt.Sprintf("%s", whole.Rows) {
		t.Errorf("pages: %s\nwhole: %s", rows, whole.Rows)
	}
	var now reportPage
	w.json(&now, "sta-usage", export...)
	if len(now.Rows) != 26 {
		t.Errorf("%d rows by now, want 26", len(now.Rows))
	}

	refused := func(key, path, code string) {
		t.Helper()
		status, answer := call(t, http.MethodGet, house.at.Reporter+"/api/v1/reports/"+path, key, "", nil)
		if status != http.StatusBadRequest || !strings.Contains(answer, `"`+code+`"`) {
			t.Errorf("GET %s: %d %s", path, status, answer)
		}
	}
	other := newKey(t, w.tenant+"-other", "reports:read")
	page := func(pairs ...string) string { return "sta-usage?" + query(append(slices.Clone(export), pairs...)...) }
	refused(other, page("cursor", *first.Next), "bad-cursor")
	refused(w.key, page("cursor", "A"+*first.Next), "bad-cursor")
	refused(w.key, "sta-usage?"+query("account", "A-0", "month", "2025-01", "view", "export", "cursor", *first.Next), "bad-cursor")
	refused(w.key, page("limit", "0"), "bad-parameter")
	refused(w.key, page("limit", "1001"), "bad-parameter")
	refused(w.key, page("format", "xml"), "bad-parameter")
	refused(w.key, page("nonsense", "1"), "unknown-parameter")
}

// Pages of a report that seeks are the rows of its file, in order.
func TestReportPagesSeek(t *testing.T) {
	w := newWorld(t)
	events := []event{
		ev("2025-01-01", "account.created", "A-1", d{"name": "Acme", "kind": "customer"}),
		ev("2025-01-01", "instance.created", "A-1", d{"instance_id": "I"}),
		ev("2025-01-01", "lineitem.mapped", "A-1", d{"activation_id": "ACT", "instance_id": "I", "quantity": 1000, "series": "S", "start": "2025-01-01T00:00:00Z", "state": "DEPLOYED"}),
	}
	for i := range 23 {
		events = append(events, ev(fmt.Sprintf("2025-01-02T10:%02d:00Z", i), "elastic.operation", "A-1", d{
			"operation": "access_request", "instance_id": "I", "consumer": d{"type": "user", "value": "joe"},
			"lines": []d{{"line_no": 1, "item": "X", "item_quantity": 1, "response": 101, "activation_id": "ACT", "series": "S", "version": "1", "meter_cost": 2, "meter_quantity": 2}},
		}))
	}
	w.send(events...)
	whole := w.csv("elastic-usage")
	if n := strings.Count(whole, "\n"); n != 24 {
		t.Fatalf("%d lines:\n%s", n, whole)
	}
	head, _, _ := strings.Cut(whole, "\n")
	pages, cursor := head+"\n", ""
	for {
		ask := []string{"limit", "5", "format", "csv"}
		if cursor != "" {
			ask = append(ask, "cursor", cursor)
		}
		resp, body := w.fetch("/reports/elastic-usage?" + query(ask...))
		_, rest, _ := strings.Cut(strings.ReplaceAll(body, "\r\n", "\n"), "\n")
		pages += rest
		if cursor = resp.Header.Get("X-Next-Cursor"); cursor == "" {
			break
		}
	}
	w.want("pages", pages, whole)
}

// An export says its name and columns before it is made, and then has them.
func TestReportSaysWhatItHolds(t *testing.T) {
	w := newWorld(t)
	w.send(manyAccounts(2)...)
	ask := []string{"account", "A-0", "from", "2025-01", "to", "2025-02", "scope", "children"}
	status, answer := w.get("/reports/sta-usage/columns?" + query(ask...))
	var said struct {
		FileName string `json:"file_name"`
		Columns  []struct{ Name, Kind string }
		Formats  []string
	}
	if err := json.Unmarshal([]byte(answer), &said); status != http.StatusOK || err != nil {
		t.Fatalf("%d %v %s", status, err, answer)
	}
	if said.FileName != "usage-report_A-0_2025-01_2025-02.csv" || len(said.Columns) != 20 || said.Columns[4].Kind != "month" || len(said.Formats) != 5 {
		t.Errorf("said %+v", said)
	}
	var names []string
	for _, c := range said.Columns {
		names = append(names, c.Name)
	}
	for format, ending := range map[string]string{"csv": ".csv", "csv-pipe": ".csv", "parquet": ".parquet", "xlsx": ".xlsx"} {
		resp, body := w.fetch("/reports/sta-usage?" + query(append(slices.Clone(ask), "format", format)...))
		_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
		if want := strings.TrimSuffix(said.FileName, ".csv") + ending; err != nil || params["filename"] != want || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %v, want %s", format, resp.StatusCode, params, want)
		}
		delimiter := map[string]string{"csv": ",", "csv-pipe": "|"}[format]
		if delimiter != "" && !strings.HasPrefix(body, strings.Join(names, delimiter)+"\r\n") {
			t.Errorf("%s: %s", format, body)
		}
		if resp.Header.Get("X-As-Of") == "" || resp.Header.Get("X-Positions") == "" {
			t.Errorf("%s does not say of which state of the log it is: %v", format, resp.Header)
		}
	}
	if status, answer := w.get("/reports/sta-usage/columns?" + query("account", "A-0")); status != http.StatusBadRequest {
		t.Errorf("columns of a question that cannot be asked: %d %s", status, answer)
	}
	for accept, begin := range map[string]string{"text/csv": "Account Name,", "application/vnd.apache.parquet": "PAR1", "application/json;q=0.5, text/csv;q=0.4": "{", "image/png": "{"} {
		if _, body := w.fetch("/reports/sta-usage?"+query(ask...), "Accept", accept); !strings.HasPrefix(body, begin) {
			t.Errorf("Accept: %s answers %.60s", accept, body)
		}
	}
}

// The list of reports, and the API's own description, know every report with its parameters.
func TestReportsAreListed(t *testing.T) {
	w := newWorld(t)
	var list struct {
		Rows []struct {
			Report, Title string
			Parameters    []struct {
				Name     string
				Required bool
				Values   []string
			}
		}
	}
	status, answer := w.get("/reports")
	if err := json.Unmarshal([]byte(answer), &list); status != http.StatusOK || err != nil || len(list.Rows) == 0 {
		t.Fatalf("%d %v %s", status, err, answer)
	}
	var api struct {
		Paths map[string]struct {
			Get struct {
				Parameters []struct {
					Name   string
					Schema struct{ Enum []string }
				}
				Responses map[string]struct{ Content map[string]any }
			}
		}
	}
	_, document := w.get("/openapi.json")
	if err := json.Unmarshal([]byte(document), &api); err != nil {
		t.Fatal(err)
	}
	for _, r := range list.Rows {
		known := map[string]bool{}
		for _, p := range api.Paths["/reports/"+r.Report].Get.Parameters {
			if known[p.Name] {
				t.Errorf("%s: parameter %s twice", r.Report, p.Name)
			}
			known[p.Name] = true
			if p.Name == "format" && len(p.Schema.Enum) != 5 {
				t.Errorf("%s: formats %v", r.Report, p.Schema.Enum)
			}
		}
		for _, p := range r.Parameters {
			if !known[p.Name] {
				t.Errorf("%s: parameter %s is not in openapi.json", r.Report, p.Name)
			}
		}
		for _, name := range []string{"as_of", "version", "format", "limit", "cursor"} {
			if !known[name] {
				t.Errorf("%s: parameter %s is not in openapi.json", r.Report, name)
			}
		}
		if n := len(api.Paths["/reports/"+r.Report].Get.Responses["200"].Content); n != 4 {
			t.Errorf("%s: %d media types", r.Report, n)
		}
	}
	if status, csv := call(t, http.MethodGet, house.at.Reporter+"/api/v1/reports?format=csv", w.key, "", nil); status != http.StatusOK || strings.Count(csv, "\r\n") != len(list.Rows)+1 {
		t.Errorf("%d %s", status, csv)
	}
}

// fetch asks with headers, name, value, name, value …
func (w *world) fetch(path string, headers ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, house.at.Reporter+"/api/v1"+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.key)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(body)
}
