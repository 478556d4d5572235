package scenario

import (
	"encoding/csv"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// provable are the columns of a report's rows that are explained, and which values of a question tell a row apart:
// name, column, name, column …
var provable = map[string]struct { //nolint:gochecknoglobals // a table of constants
	measures, keys []string
}{
	"tenant-usage":        {tenantNumbers, []string{"tenant", "Tenant ID"}},
	"tenant-usage-api":    {[]string{"count"}, []string{"start", "startTime", "trial", "trial"}},
	"asset-usage-detail":  {[]string{"quantity"}, []string{"asset", "assetId", "meter", "meterName", "day", "start", "region", "billingRegion", "platform", "platform", "trial", "trial"}},
	"asset-monthly-costs": {[]string{"quantity", "cost"}, []string{"tenant", "tenantId", "meter", "meterName", "region", "billingRegion", "plan", "plan", "trial", "trial"}},
	"subscriptions":       {[]string{"Cost", "Items Quantity"}, []string{"subscription", "Subscription ID"}},
	"transactions":        {[]string{"Cost", "Total"}, []string{"transaction", "Transaction ID"}},
	"certificate-usage":   {[]string{"Current Inventory", "Available", "Used"}, []string{"customer", "Customer ID", "type", "Certificate Type", "product", "Product"}},
	"sta-usage":           {[]string{"Users Registered", "Users with Token", "Users with Activity", "Tree STA Basic Registered", "Tree STA Token", "Tree STA Premium Activity"}, []string{"account", "Account ID", "month", "Month"}},
}

var tenantNumbers = []string{ //nolint:gochecknoglobals // a table of constants
	"Users Entitled", "Users Used", "Users Remaining", "SMS/Voice Credits Entitled", "SMS/Voice Credits Used", "SMS/Voice Credits Remaining",
}

// staProofs are measures and plans by column of the export.
var staProofs = map[string][2]string{ //nolint:gochecknoglobals // a table of constants
	"Users Registered": {"registered_own"}, "Users with Token": {"token_own"}, "Users with Activity": {"activity_own"},
	"Tree STA Basic Registered": {"registered", "STA Basic"}, "Tree STA Token": {"token", "STA"}, "Tree STA Premium Activity": {"activity", "STA Premium"},
}

// table is an answer as CSV, by column.
func table(t *testing.T, answer string) []map[string]string {
	t.Helper()
	lines, err := csv.NewReader(strings.NewReader(answer)).ReadAll()
	if err != nil || len(lines) == 0 {
		t.Fatalf("%v: %s", err, answer)
	}
	var rows []map[string]string
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, name := range lines[0] {
			row[name] = line[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// decimal is a number as reports print it; blank is 0.
func decimal(t *testing.T, text string) *big.Rat {
	t.Helper()
	n := new(big.Rat)
	if _, ok := n.SetString(text); !ok && text != "" {
		t.Fatalf("%q is no number", text)
	}
	return n
}

// proveSome explains numbers of an answer, some of them at random, and returns how many.
func (w *world) proveSome(h *history, path, answer string, percent int) (tried int) {
	w.t.Helper()
	report, text, _ := strings.Cut(path, "?")
	p, ok := provable[report]
	if !ok {
		return 0
	}
	asked, err := url.ParseQuery(text)
	if err != nil {
		w.t.Fatal(err)
	}
	rows := table(w.t, answer)
	if report == "sta-usage" && asked.Get("view") != "export" {
		return 0 // what the screen shows has no ids
	}
	of := func(row map[string]string) string { return row["Transaction ID"] }
	several := map[string]int{}
	for _, row := range rows {
		several[of(row)]++
	}
	for _, row := range rows {
		for _, measure := range p.measures {
			if _, there := row[measure]; !there || !h.chance(percent) || report == "transactions" && several[of(row)] > 1 {
				continue
			}
			values := url.Values{"report": {report}, "measure": {measure}}
			for name, value := range asked {
				switch name {
				case "expand", "scope", "view", "contract_mode":
				case "from", "to", "account":
					if report != "sta-usage" {
						values[name] = value
					}
				default:
					values[name] = value
				}
			}
			for i := 0; i < len(p.keys); i += 2 {
				value, there := row[p.keys[i+1]]
				if p.keys[i] == "day" {
					value = value[:len("2025-01-01")]
				}
				if there {
					values.Set(p.keys[i], value)
				}
			}
			if sta := staProofs[measure]; report == "sta-usage" {
				values.Set("measure", sta[0])
				if sta[1] != "" {
					values.Set("plan", sta[1])
				}
			}
			tried++
			w.proof(values, row[measure])
		}
	}
	return tried
}

// proof asks where a number comes from: it must be the one that was given, and explained.
func (w *world) proof(values url.Values, want string) {
	w.t.Helper()
	status, answer := w.get("/explain?" + values.Encode())
	var p proof
	if err := json.Unmarshal([]byte(answer), &p); err != nil || status != http.StatusOK {
		w.t.Errorf("explain %v: %d %s", values, status, answer)
		return
	}
	if !p.Explained || decimal(w.t, p.Number).Cmp(decimal(w.t, want)) != 0 || (p.Number == "") != (want == "") {
		w.t.Errorf("explain %v: number %q, evidence %q, the report says %q; %d events:\n%s", values, p.Number, p.Evidence, want, p.Total, p.ids())
	}
}
