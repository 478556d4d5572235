package readme_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// proved is a report of the sample data: what it is asked with, which of its columns are explained, and what tells a
// cell of it apart.
type proved struct {
	path     string            // under /api/v1
	measures map[string]string // by column; "": the column's own name
	keys     []string          // parameter, column, parameter, column …
	also     []string          // parameter, value … the same for all
	no       []string          // columns that have digits in them and are no number of anything
}

// explainedTries is how many cells of a column are tried, spread over its rows.
const explainedTries = 2

// provedReports are the twelve reports, and the monthly aggregates with what later versions changed of them.
func provedReports(month, before, from, to string) map[string]proved {
	tree := map[string]string{"Users Registered": "registered_own", "Users with Token": "token_own", "Users with Activity": "activity_own"}
	for _, plan := range []string{"STA Basic", "STA", "STA Premium"} {
		tree["Tree "+plan+" Registered"], tree["Tree "+plan+" Token"], tree["Tree "+plan+" Activity"] = "registered "+plan, "token "+plan, "activity "+plan
	}
	changes := proved{
		measures: map[string]string{"delta": "", "cost_delta": ""},
		keys: []string{
			"processing_month", "processing_month", "month", "usage_month", "account", "account", "plan", "plan", "meter", "meter", "region", "region", "platform", "platform",
			"trial", "trial", "figure", "measure", "from_version", "from_version", "to_version", "to_version",
		},
		no: []string{"processing_month", "usage_month", "from_version", "to_version"},
	}
	ofAssets, ofMonth := changes, changes
	ofAssets.path, ofAssets.also = "reports/asset-adjustments?organization=alpine-org&processing_month="+month, []string{"organization", "alpine-org"}
	ofMonth.path = "months/" + before + "/adjustments"
	usage := proved{
		measures: map[string]string{"quantity": "", "events": "", "quantity_tree": "", "events_tree": ""}, also: []string{"month", month},
		keys: []string{"account", "account", "plan", "plan", "meter", "meter", "region", "region", "platform", "platform", "trial", "trial"},
		no:   []string{"month", "version", "first_at", "last_at", "log_position"},
	}
	ofUsage := usage
	usage.path, ofUsage.path = "reports/monthly-usage?month="+month, "months/"+month+"/usage"
	partner := "?partner=keystone"
	return map[string]proved{
		"sta-usage": {
			path: "reports/sta-usage?account=northwind&scope=tree&view=export&month=" + month, measures: tree, keys: []string{"account", "Account ID", "month", "Month"},
			no: []string{"Month"},
		},
		"sta-monthly-summary": {
			path: "reports/sta-monthly-summary?account=northwind&from=" + before + "&to=" + month, measures: map[string]string{"Users with Token": "token"},
			keys: []string{"account", "Account ID", "month", "Month", "plan", "Plan"}, no: []string{"Month"},
		},
		"tenant-usage": {
			path: "reports/tenant-usage?account=northwind&from=" + from + "&to=" + to, keys: []string{"tenant", "Tenant ID"},
			measures: map[string]string{
				"Users Entitled": "", "Users Used": "", "Users Remaining": "", "SMS/Voice Credits Entitled": "", "SMS/Voice Credits Used": "", "SMS/Voice Credits Remaining": "",
			},
			also: []string{"account", "northwind", "from", from, "to", to}, no: []string{"Period Start", "Period End"},
		},
		"tenant-usage-api": {
			path: "reports/tenant-usage-api?tenant=acme&usage_type=AUTHENTICATIONS&aggregation=WEEKLY&from=" + from + "&to=" + to, measures: map[string]string{"count": ""},
			keys: []string{"start", "startTime", "trial", "trial"}, no: []string{"startTime", "endTime"},
			also: []string{"tenant", "acme", "usage_type", "AUTHENTICATIONS", "aggregation", "WEEKLY", "from", from, "to", to},
		},
		"asset-usage-detail": {
			path: "reports/asset-usage-detail?tenant=alpine&month=" + month, measures: map[string]string{"quantity": ""}, also: []string{"month", month},
			keys: []string{"tenant", "tenantId", "asset", "assetId", "meter", "meterName", "day", "start", "region", "billingRegion", "platform", "platform", "trial", "trial"},
			no:   []string{"start", "end", "trialExpiry"},
		},
		"asset-monthly-costs": {
			path: "reports/asset-monthly-costs?organization=alpine-org&month=" + month, measures: map[string]string{"quantity": "", "cost": ""},
			keys: []string{"tenant", "tenantId", "meter", "meterName", "region", "billingRegion", "plan", "plan", "trial", "trial"},
			also: []string{"organization", "alpine-org", "month", month}, no: []string{"month"},
		},
		"asset-adjustments": ofAssets, "month-adjustments": ofMonth, "monthly-usage": usage, "month-usage": ofUsage,
		"elastic-usage": {
			path:     "reports/elastic-usage?account=acme",
			measures: map[string]string{"MAPPED_ENTITLED_COUNT": "", "USED": "", "ITEM_QUANTITY": "", "METER_COST": "", "METER_QUANTITY": ""},
			keys:     []string{"activation", "ACTIVATION_ID", "correlation", "CORRELATION_ID", "item", "ITEM"},
			no:       []string{"USAGE_TIME", "WRITE_TIME", "ITEM_VERSION", "REQUEST_RESPONSE"},
		},
		"subscriptions": {
			path: "reports/subscriptions" + partner, measures: map[string]string{"Cost": "", "Items Quantity": ""}, keys: []string{"subscription", "Subscription ID"},
			also: []string{"partner", "keystone"}, no: []string{"End", "Order Date", "Last modified date"},
		},
		"transactions": {
			path: "reports/transactions" + partner, measures: map[string]string{"Cost": "", "Total": ""}, keys: []string{"transaction", "Transaction ID"},
			also: []string{"partner", "keystone"}, no: []string{"Date"},
		},
		"certificate-usage": {
			path: "reports/certificate-usage" + partner + "&expand=type", measures: map[string]string{"Current Inventory": "", "Available": "", "Used": ""},
			keys: []string{"customer", "Customer ID", "type", "Certificate Type", "product", "Product"}, also: []string{"partner", "keystone"},
		},
	}
}

// proveNumbers explains numbers of every report of the sample data, of every column that has any.
func (d *demo) proveNumbers() {
	now := time.Now().UTC()
	last := time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, time.UTC)
	all := provedReports(last.Format("2006-01"), last.AddDate(0, -1, 0).Format("2006-01"), last.Format(time.DateOnly), last.AddDate(0, 1, -1).Format(time.DateOnly))
	for name, p := range all {
		d.Run(name, func(t *testing.T) { d.proveReport(t, name, p) })
	}
}

var hasDigits = regexp.MustCompile(`^-?[0-9][0-9.]*$`)

func (d *demo) proveReport(t *testing.T, name string, p proved) {
	status, answer := d.get(t, p.path, "text/csv")
	lines, err := csv.NewReader(strings.NewReader(answer)).ReadAll()
	if err != nil || status != http.StatusOK || len(lines) < 2 {
		t.Fatalf("%s: %d %v %d lines: %.300s", p.path, status, err, len(lines), answer)
	}
	head, rows := lines[0], lines[1:]
	cell := func(row []string, column string) string {
		at := slices.Index(head, column)
		if at < 0 {
			t.Fatalf("no column %s among %q", column, head)
		}
		return row[at]
	}
	key := func(row []string) url.Values {
		values := url.Values{"report": {name}}
		for i := 0; i < len(p.also); i += 2 {
			values.Set(p.also[i], p.also[i+1])
		}
		for i := 0; i < len(p.keys); i += 2 {
			value := cell(row, p.keys[i+1])
			if p.keys[i] == "day" {
				value = value[:len(time.DateOnly)]
			}
			values.Set(p.keys[i], strings.TrimPrefix(value, "'"))
		}
		return values
	}
	alike := map[string]int{}
	for _, row := range rows {
		alike[key(row).Encode()]++
	}
	for at, column := range head {
		full := slices.DeleteFunc(slices.Clone(rows), func(row []string) bool { return !hasDigits.MatchString(row[at]) || alike[key(row).Encode()] > 1 })
		measure, explained := p.measures[column]
		if !explained {
			if len(full) > 0 && !slices.Contains(p.no, column) {
				t.Errorf("column %s has numbers, such as %s, and no explanation", column, full[0][at])
			}
			continue
		}
		if len(full) == 0 {
			t.Errorf("column %s has no number to explain", column)
		}
		for i := range min(explainedTries, len(full)) {
			row := full[i*len(full)/explainedTries%len(full)]
			values := key(row)
			if values.Set("measure", column); measure != "" {
				of, plan, planned := strings.Cut(measure, " ")
				if values.Set("measure", of); planned {
					values.Set("plan", plan)
				}
			}
			d.proveCell(t, values, row[at])
		}
	}
}

// proveCell asks where a number comes from: it must be the one of the report, and its events must make it.
func (d *demo) proveCell(t *testing.T, values url.Values, want string) {
	status, answer := d.get(t, "explain?"+values.Encode(), "application/json")
	var e struct {
		Number, Evidence string
		Explained        bool
		Total            int64 `json:"events_total"`
	}
	if err := json.Unmarshal([]byte(answer), &e); err != nil || status != http.StatusOK {
		t.Errorf("explain %v: %d %.300s", values, status, answer)
		return
	}
	if !e.Explained || !sameDecimal(e.Number, want) || e.Total == 0 && strings.Trim(want, "0.") != "" {
		t.Errorf("explain %v: number %q, evidence %q of %d events, the report says %q", values, e.Number, e.Evidence, e.Total, want)
	}
}

// sameDecimal compares two decimals whose last zeros may differ.
func sameDecimal(a, b string) bool {
	short := func(s string) string {
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	return short(a) == short(b)
}

// get asks the reporter of the demo.
func (d *demo) get(t *testing.T, path, accept string) (status int, answer string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(d.home, ".countinghouse", "endpoints.json"))
	var e struct {
		Reporter string `json:"reporter"`
		Token    string `json:"admin_token"`
	}
	if err == nil {
		err = json.Unmarshal(content, &e)
	}
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.Reporter+"/api/v1/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+e.Token)
	req.Header.Set("Accept", accept)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", path, err))
	}
	return res.StatusCode, string(body)
}
