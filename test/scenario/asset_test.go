package scenario

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	userHours   = "11111111-1111-4111-8111-111111111111"
	tenantHours = "22222222-2222-4222-8222-222222222222"
	bandwidth   = "33333333-3333-4333-8333-333333333333"
	detailHead  = "organizationId,tenantId,assetName,assetId,assetType,meterName,meterId,start,end,quantity,billingRegion,platform,trial,trialExpiry\n"
	costsHead   = "organizationId,organizationName,tenantId,tenantName,plan,month,meterId,meterName,billingRegion,trial,quantity,currency,cost\n"
)

func tier(from, price string) d { return d{"from": from, "unit_price": price} }

func meter(name, id, element, plan string) d {
	return d{
		"meter": name, "meter_id": id, "element": element, "unit": "hour", "plan": plan, "aggregation": "sum", "kind": "secure_connect", "service": "secure-connect",
	}
}

func price(meter, region string, tiers ...d) d {
	return d{"meter": meter, "region": region, "currency": "EUR", "effective_from": "2025-01-01T00:00:00Z", "tiers": tiers}
}

// fixtureC is the organization of the scenarios of Secure Connect.
func fixtureC() []event {
	const at = "2025-01-01"
	events := []event{
		ev(at, "account.created", "O-1", d{"name": "Orbit", "kind": "organization", "currency": "EUR"}),
		ev(at, "account.created", "SC-1", d{"name": "Orbit One", "kind": "tenant", "parent_account_id": "O-1"}),
		ev(at, "account.created", "SC-2", d{"name": "Orbit Two", "kind": "tenant", "parent_account_id": "O-1"}),
		ev(at, "service.plan_set", "SC-1", d{"service": "secure-connect", "plan": "essentials"}),
		ev(at, "service.plan_set", "SC-2", d{"service": "secure-connect", "plan": "essentials"}),
		ev(at, "meter.defined", "", meter("user_hours_essentials", userHours, "user", "essentials")),
		ev(at, "meter.defined", "", meter("user_hours_advanced", userHours, "user", "advanced")),
		ev(at, "meter.defined", "", meter("tenant_hours_essentials", tenantHours, "tenant", "essentials")),
		ev(at, "meter.defined", "", meter("bandwidth_gib_essentials", bandwidth, "bandwidth", "essentials")),
		ev(at, "price.set", "", price("user_hours_essentials", "*", tier("0", "0.012"))),
		ev(at, "price.set", "", price("user_hours_advanced", "*", tier("0", "0.020"))),
		ev(at, "price.set", "", price("tenant_hours_essentials", "*", tier("0", "0.10"))),
		ev(at, "price.set", "", price("bandwidth_gib_essentials", "EU", tier("0", "0"), tier("100", "0.08"), tier("500", "0.05"))),
	}
	for _, tenant := range []string{"SC-1", "SC-2"} {
		events = append(events,
			ev(at, "asset.registered", tenant, d{"asset_id": "joe@email.com", "asset_name": "Joe", "asset_type": "USER"}),
			ev(at, "asset.registered", tenant, d{"asset_id": tenant, "asset_name": "Tenant " + tenant, "asset_type": "TENANT"}),
			ev(at, "asset.registered", tenant, d{"asset_id": "T-1", "asset_name": "Line", "asset_type": "TRANSPORT"}),
		)
	}
	return events
}

// hours is one record of an hour for every hour from a time on.
func hours(from string, n int, tenant, meter, asset string) []event {
	start, err := time.Parse(time.RFC3339, instant(from))
	if err != nil {
		panic(err)
	}
	var all []event
	for i := range n {
		at := start.Add(time.Duration(i) * time.Hour)
		all = append(all, ev(at.Add(time.Hour).Format(time.RFC3339), "usage.metered", tenant, d{
			"meter": meter, "quantity": "1", "region": "EU", "asset": d{"id": asset},
			"start": at.Format(time.RFC3339), "end": at.Add(time.Hour).Format(time.RFC3339),
		}))
	}
	return all
}

func gib(at, tenant, quantity string) event {
	return ev(at, "usage.metered", tenant, d{"meter": "bandwidth_gib_essentials", "quantity": quantity, "region": "EU", "platform": "azure", "asset": d{"id": "T-1"}})
}

func (w *world) detail(tenant, month string) string {
	w.t.Helper()
	return w.csv("asset-usage-detail", "tenant", tenant, "month", month)
}

func (w *world) costs(month string, more ...string) string {
	w.t.Helper()
	return w.csv("asset-monthly-costs", append([]string{"organization", "O-1", "month", month}, more...)...)
}

// column is one column of the rows of a CSV that has no quotes.
func column(csv, name string) []string {
	lines := strings.Split(strings.TrimSpace(csv), "\n")
	at := -1
	for i, head := range strings.Split(lines[0], ",") {
		if head == name {
			at = i
		}
	}
	var all []string
	for _, line := range lines[1:] {
		all = append(all, strings.Split(line, ",")[at])
	}
	return all
}

func TestC1DetailAndMonthly(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(hours("2025-03-01", 24, "SC-1", "user_hours_essentials", "joe@email.com")...)
	w.send(hours("2025-03-02", 10, "SC-1", "user_hours_essentials", "joe@email.com")...)
	w.send(hours("2025-03-01", 48, "SC-1", "tenant_hours_essentials", "SC-1")...)
	w.want("detail", w.detail("SC-1", "2025-03"), detailHead+
		"O-1,SC-1,Tenant SC-1,SC-1,TENANT,tenant_hours_essentials,"+tenantHours+",2025-03-01T00:00:00Z,2025-03-02T00:00:00Z,24.000000,EU,,FALSE,\n"+
		"O-1,SC-1,Tenant SC-1,SC-1,TENANT,tenant_hours_essentials,"+tenantHours+",2025-03-02T00:00:00Z,2025-03-03T00:00:00Z,24.000000,EU,,FALSE,\n"+
		"O-1,SC-1,Joe,joe@email.com,USER,user_hours_essentials,"+userHours+",2025-03-01T00:00:00Z,2025-03-02T00:00:00Z,24.000000,EU,,FALSE,\n"+
		"O-1,SC-1,Joe,joe@email.com,USER,user_hours_essentials,"+userHours+",2025-03-02T00:00:00Z,2025-03-03T00:00:00Z,10.000000,EU,,FALSE,\n")
	w.want("costs", w.costs("2025-03"), costsHead+
		"O-1,Orbit,SC-1,Orbit One,essentials,2025-03,"+tenantHours+",tenant_hours_essentials,EU,FALSE,48.000000,EUR,4.80\n"+
		"O-1,Orbit,SC-1,Orbit One,essentials,2025-03,"+userHours+",user_hours_essentials,EU,FALSE,34.000000,EUR,0.41\n")
	w.want("another tenant", w.detail("SC-2", "2025-03"), detailHead)
}

func TestC2Tiers(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	want := map[string][2]string{
		"2025-01": {"100", "0.00"}, "2025-02": {"100.0625", "0.00"}, "2025-03": {"500", "32.00"}, "2025-04": {"500.1", "32.00"}, "2025-05": {"650", "39.50"},
		"2025-06": {"0", "0.00"}, "2025-07": {"100.187500001", "0.02"}, "2025-08": {"500.3", "32.02"}, "2025-09": {"100.1875", "0.02"},
	}
	for month, v := range want {
		w.send(gib(month+"-10", "SC-1", v[0]))
	}
	for month, v := range want {
		if got := column(w.costs(month), "cost"); len(got) != 1 || got[0] != v[1] {
			t.Errorf("%s GiB cost %v, want %s", v[0], got, v[1])
		}
	}
	if got := column(w.costs("2025-07"), "quantity"); got[0] != "100.187500001" {
		t.Errorf("quantity %s, want all nine digits", got[0])
	}
	rows := column(w.csv("asset-monthly-costs", "organization", "O-1", "from", "2025-01", "to", "2025-09"), "month")
	if len(rows) != 9 || rows[0] != "2025-01" || rows[8] != "2025-09" {
		t.Errorf("months of a range: %v", rows)
	}
}

// Each tenant fills its own tiers, and a price of the region comes before the one of anywhere.
func TestC3TenantsAreRatedSeparately(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(
		ev("2025-01-01", "price.set", "", price("bandwidth_gib_essentials", "*", tier("0", "1"))),
		gib("2025-03-01", "SC-1", "100"), gib("2025-03-01", "SC-2", "100"),
		ev("2025-03-01", "usage.metered", "SC-1", d{"meter": "bandwidth_gib_essentials", "quantity": "3", "region": "NA", "asset": d{"id": "T-1"}}),
		ev("2025-03-01", "usage.metered", "SC-1", d{"meter": "user_hours_advanced", "quantity": "3", "region": "NA", "plan": "advanced", "asset": d{"id": "joe@email.com"}}),
	)
	w.want("costs", strings.Join(column(w.costs("2025-03"), "cost"), " "), "0.06 0.00 3.00 0.00")
}

// The price of the month's first instant counts; one for the past changes the past; of two the later said speaks.
func TestC4PriceInForce(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	set := func(at, from, unit string) event {
		p := price("tenant_hours_essentials", "*", tier("0", unit))
		p["effective_from"] = from
		return ev(at, "price.set", "", p)
	}
	for _, month := range []string{"01", "02", "03", "04"} {
		w.send(ev("2025-"+month+"-15", "usage.metered", "SC-1", d{"meter": "tenant_hours_essentials", "quantity": "10", "region": "EU", "asset": d{"id": "SC-1"}}))
	}
	w.send(set("2025-01-20", "2025-02-01T00:00:00Z", "0.20"), set("2025-02-20", "2025-02-28T12:00:00Z", "0.30"), set("2025-03-02", "2025-03-01T00:00:00.001Z", "0.40"))
	all := func() string {
		return strings.Join(column(w.csv("asset-monthly-costs", "organization", "O-1", "from", "2025-01", "to", "2025-04"), "cost"), " ")
	}
	w.want("costs", all(), "1.00 2.00 3.00 4.00")
	w.send(set("2025-05-01", "2025-02-28T12:00:00Z", "0.50"), set("2025-05-01", "2024-01-01T00:00:00Z", "9"))
	w.want("after prices for the past", all(), "1.00 2.00 5.00 4.00")
	w.want("before everything", w.costs("2024-12"), costsHead)
	w.send(ev("2024-12-15", "usage.metered", "SC-1", d{"meter": "tenant_hours_essentials", "quantity": "10", "region": "EU", "asset": d{"id": "SC-1"}}))
	w.want("usage of a tenant before it exists", w.costs("2024-12"), costsHead)
}

func TestC5TrialEndsInTheMonth(t *testing.T) {
	for name, trial := range map[string]bool{"said by the event": false, "set for the asset": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.send(fixtureC()...)
			usage := hours("2025-03-01", 31*24, "SC-1", "user_hours_essentials", "joe@email.com")
			if trial {
				w.send(ev("2025-02-01", "asset.trial_set", "SC-1", d{"asset_id": "joe@email.com", "trial_expiry": "2025-03-10T01:00:00+01:00"}))
			} else {
				for i := range usage {
					usage[i].data["trial_expiry"] = "2025-03-10T00:00:00Z"
				}
			}
			w.send(usage...)
			detail := w.detail("SC-1", "2025-03")
			if rows := column(detail, "trial"); len(rows) != 31 || strings.Join(rows[:9], "") != strings.Repeat("TRUE", 9) || strings.Join(rows[9:], "") != strings.Repeat("FALSE", 22) {
				t.Errorf("trial of the days: %v", rows)
			}
			for _, expiry := range column(detail, "trialExpiry") {
				if expiry != "2025-03-10T00:00:00Z" {
					t.Errorf("trialExpiry %s", expiry)
				}
			}
			w.want("costs", w.costs("2025-03"), costsHead+
				"O-1,Orbit,SC-1,Orbit One,essentials,2025-03,"+userHours+",user_hours_essentials,EU,TRUE,216.000000,EUR,0.00\n"+
				"O-1,Orbit,SC-1,Orbit One,essentials,2025-03,"+userHours+",user_hours_essentials,EU,FALSE,528.000000,EUR,6.34\n")
		})
	}
}

// A plan changes in the middle of the month: every record carries its meter, and the plan at its instant.
func TestC6PlanChange(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(ev("2025-03-11", "service.plan_set", "SC-1", d{"service": "secure-connect", "plan": "advanced"}))
	w.send(hours("2025-03-01", 240, "SC-1", "user_hours_essentials", "joe@email.com")...)
	w.send(hours("2025-03-11", 500, "SC-1", "user_hours_advanced", "joe@email.com")...)
	w.want("costs", w.costs("2025-03"), costsHead+
		"O-1,Orbit,SC-1,Orbit One,advanced,2025-03,"+userHours+",user_hours_advanced,EU,FALSE,500.000000,EUR,10.00\n"+
		"O-1,Orbit,SC-1,Orbit One,essentials,2025-03,"+userHours+",user_hours_essentials,EU,FALSE,240.000000,EUR,2.88\n")
}

func TestC7PastMidnightOfTheMonth(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(ev("2025-04-01T00:30:00Z", "usage.metered", "SC-1", d{
		"meter": "bandwidth_gib_essentials", "quantity": "1.000001", "region": "EU", "platform": "mcp", "asset": d{"id": "T-1"},
		"start": "2025-03-31T23:30:00Z", "end": "2025-04-01T00:30:00Z",
	}))
	for month, want := range map[string]string{"2025-03": "0.500000", "2025-04": "0.500001"} {
		w.want("detail of "+month, strings.Join(column(w.detail("SC-1", month), "quantity"), " "), want)
		w.want("costs of "+month, strings.Join(column(w.costs(month), "quantity"), " "), want)
	}
}

// A record over a midnight and the end of the asset's trial is cut at both, as a whole: the last piece takes what
// rounding leaves over.
func TestC7PastMidnightAndTrial(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(
		ev("2025-03-01", "asset.trial_set", "SC-1", d{"asset_id": "T-1", "trial_expiry": "2025-03-05T22:00:00Z"}),
		ev("2025-03-06T01:00:00Z", "usage.metered", "SC-1", d{
			"meter": "bandwidth_gib_essentials", "quantity": "1.000005", "region": "EU", "platform": "mcp", "asset": d{"id": "T-1"},
			"start": "2025-03-05T21:00:00Z", "end": "2025-03-06T01:00:00Z",
		}),
	)
	// An hour is 0.25000125 → 0.250001; two are 0.5000025 → 0.500002 (half-even); the rest is 0.250002.
	w.want("detail", strings.Join(column(w.detail("SC-1", "2025-03"), "quantity"), " "), "0.250001 0.500002 0.250002")
	w.want("trial", strings.Join(column(w.detail("SC-1", "2025-03"), "trial"), " "), "TRUE FALSE FALSE")
	w.want("costs", strings.Join(column(w.costs("2025-03"), "quantity"), " "), "0.250001 0.750004")
}

// A trial that is prolonged before it ends, and one that is set when it is over.
func TestC5TrialThroughTime(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(
		ev("2025-03-01", "asset.trial_set", "SC-1", d{"asset_id": "joe@email.com", "trial_expiry": "2025-03-03T00:00:00Z"}),
		ev("2025-03-02T12:00:00Z", "asset.trial_set", "SC-1", d{"asset_id": "joe@email.com", "trial_expiry": "2025-03-04T00:00:00Z"}),
		ev("2025-03-05", "asset.trial_set", "SC-1", d{"asset_id": "SC-1", "trial_expiry": "2025-03-02T00:00:00Z"}),
		ev("2025-03-02", "asset.renamed", "SC-1", d{"asset_id": "joe@email.com", "asset_name": "=Joseph"}),
		ev("2025-03-04", "asset.removed", "SC-1", d{"asset_id": "joe@email.com"}),
	)
	w.send(hours("2025-03-01", 96, "SC-1", "user_hours_essentials", "joe@email.com")...)
	w.send(hours("2025-03-01", 24, "SC-1", "tenant_hours_essentials", "SC-1")...)
	got := column(w.detail("SC-1", "2025-03"), "assetName")
	w.want("names", strings.Join(got, " "), "Tenant SC-1 Joe '=Joseph '=Joseph '=Joseph")
	w.want("trial", strings.Join(column(w.detail("SC-1", "2025-03"), "trial"), " "), "FALSE TRUE TRUE TRUE FALSE")
	w.want("expiry", strings.Join(column(w.detail("SC-1", "2025-03"), "trialExpiry"), " "),
		" 2025-03-03T00:00:00Z 2025-03-04T00:00:00Z 2025-03-04T00:00:00Z 2025-03-04T00:00:00Z")
}

// Usage of an account or an asset that nobody has seen is in no report until it is known from an earlier time on.
func TestC8UnknownAsset(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(
		ev("2025-03-01T10:00:00Z", "usage.metered", "SC-1", d{"meter": "user_hours_essentials", "quantity": "1", "region": "EU", "asset": d{"id": "ann", "name": "Ann", "type": "USER"}}),
		ev("2025-03-01T12:00:00Z", "usage.metered", "SC-1", d{"meter": "user_hours_essentials", "quantity": "2", "region": "EU", "asset": d{"id": "ann", "name": "Ann", "type": "USER"}}),
		ev("2025-03-01T12:00:00Z", "usage.metered", "SC-1", d{"meter": "user_hours_essentials", "quantity": "4", "region": "EU"}),
	)
	w.want("before", w.detail("SC-1", "2025-03")+w.costs("2025-03"), detailHead+costsHead)
	w.send(ev("2025-03-01T11:00:00Z", "asset.registered", "SC-1", d{"asset_id": "ann", "asset_name": "Ann Able", "asset_type": "USER"}))
	w.want("known from 11:00 on", strings.Join(column(w.costs("2025-03"), "quantity"), " "), "2.000000")
	w.send(ev("2025-02-01", "asset.registered", "SC-1", d{"asset_id": "ann", "asset_name": "Ann", "asset_type": "USER"}))
	w.want("known from February on", strings.Join(column(w.costs("2025-03"), "quantity"), " "), "3.000000")
	w.want("its last name", strings.Join(column(w.detail("SC-1", "2025-03"), "assetName"), " "), "Ann Able")
}

// What was voided is in no report; an earlier as_of still has it.
func TestC8Void(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(gib("2025-03-01", "SC-1", "200").named("wrong"), gib("2025-03-01", "SC-1", "100"))
	w.send(ev("2025-03-20", "event.voided", "", d{"target": d{"source": "test", "id": "wrong"}, "reason": "twice"}))
	w.want("now", strings.Join(column(w.costs("2025-03"), "quantity"), " "), "100.000000")
	w.want("before", strings.Join(column(w.costs("2025-03", "as_of", "2025-03-10T00:00:00Z"), "quantity"), " "), "300.000000")
}

func TestC10LateBandwidth(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(gib("2025-03-10", "SC-1", "650"))
	body := []byte(`{"as_of":"2025-04-04T00:00:00Z"}`)
	for _, month := range []string{"2025-01", "2025-02", "2025-03"} {
		status, answer := call(t, http.MethodPost, house.at.Reporter+"/api/v1/months/"+month+"/close", w.key, "application/json", body)
		if status == http.StatusConflict && month != "2025-03" {
			continue // nothing happened in it
		}
		if status != http.StatusOK {
			t.Fatalf("close %s: %d %s", month, status, answer)
		}
	}
	w.send(gib("2025-03-31", "SC-1", "10").recordedAt("2025-04-10"))
	status, answer := call(t, http.MethodPost, house.at.Reporter+"/api/v1/months/2025-03/close", w.key, "application/json", []byte(`{"as_of":"2025-04-20T00:00:00Z"}`))
	if status != http.StatusOK {
		t.Fatalf("close again: %d %s", status, answer)
	}
	for name, tt := range map[string]struct{ parameter, value, quantity, cost string }{
		"now":       {"", "", "660.000000", "40.00"},
		"earlier":   {"as_of", "2025-04-05T00:00:00Z", "650.000000", "39.50"},
		"version 1": {"version", "1", "650.000000", "39.50"},
		"version 2": {"version", "2", "660.000000", "40.00"},
	} {
		var more []string
		if tt.parameter != "" {
			more = []string{tt.parameter, tt.value}
		}
		costs := w.costs("2025-03", more...)
		w.want(name, strings.Join(append(column(costs, "quantity"), column(costs, "cost")...), " "), tt.quantity+" "+tt.cost)
	}
	w.want("adjustments", w.csv("asset-adjustments", "organization", "O-1", "processing_month", "2025-04"),
		"processing_month,usage_month,type,account,plan,meter,region,platform,trial,measure,from_version,to_version,delta,cost_delta\n"+
			"2025-04,2025-03,SYSTEM,SC-1,essentials,bandwidth_gib_essentials,EU,,FALSE,quantity,1,2,10.000000,0.50\n")
}

func TestC11Validation(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	record := func(change func(d)) d {
		data := d{"meter": "user_hours_essentials", "quantity": "1", "region": "EU", "asset": d{"id": "joe@email.com", "name": "Joe", "type": "USER"},
			"start": "2025-03-01T10:00:00Z", "end": "2025-03-01T11:00:00Z"}
		change(data)
		return data
	}
	bad := map[string]d{
		"region":   record(func(r d) { r["region"] = "US" }),
		"type":     record(func(r d) { r["asset"] = d{"id": "joe@email.com", "name": "Joe", "type": "ROUTER"} }),
		"platform": record(func(r d) { r["platform"] = "azure" }),
		"end":      record(func(r d) { r["end"] = "2025-03-01T10:00:00Z" }),
		"quantity": record(func(r d) { r["quantity"] = "-1" }),
		"start":    record(func(r d) { r["start"] = "2025-03-01T10:00:00" }),
	}
	for pointer, data := range bad {
		status, answer := w.post(ev("2025-03-01T12:00:00Z", "usage.metered", "SC-1", data))
		if status != http.StatusUnprocessableEntity || !strings.Contains(answer, "/data/"+map[string]string{"type": "asset/type"}[pointer]) && !strings.Contains(answer, "/data/"+pointer) {
			t.Errorf("%s: %d %s", pointer, status, answer)
		}
	}
	// What ingest cannot know, because only the meter's kind or the asset's registration says it.
	silent := func(change func(d)) event {
		return ev("2025-03-01T12:00:00Z", "usage.metered", "SC-1", record(func(r d) { r["asset"] = d{"id": "joe@email.com"}; change(r) }))
	}
	w.send(
		silent(func(r d) { r["region"] = "US" }).named("bad-region"),
		silent(func(r d) { r["platform"] = "azure" }).named("bad-platform"),
		silent(func(r d) { r["quantity"] = "-1" }).named("bad-quantity"),
		silent(func(d) {}),
	)
	w.want("detail", strings.Join(column(w.detail("SC-1", "2025-03"), "quantity"), " "), "1.000000")
	w.want("costs", strings.Join(column(w.costs("2025-03"), "quantity"), " "), "1.000000")
	w.want("dead letters, in SQL as well", w.letters(), "bad-region rule:asset-region\nbad-platform rule:user-platform\nbad-quantity rule:asset-quantity")
	sql := w.sql("SELECT raw FROM usage_api.dead_letters_v1 WHERE tenant = '" + w.tenant + "' AND id = 'bad-platform' FORMAT TSVRaw")
	w.want("as it was sent, but for the spelling", sql, `{"specversion":"1.0","id":"bad-platform","source":"test","type":"usage.metered","subject":"SC-1","time":"2025-03-01T10:00:00.000Z",`+
		`"data":{"meter":"user_hours_essentials","quantity":"1","region":"EU","platform":"azure","asset":{"id":"joe@email.com"}}}`)
	_, letters := w.get("/dead-letters")
	for id, rule := range map[string]string{"bad-region": "asset-region", "bad-platform": "user-platform", "bad-quantity": "asset-quantity"} {
		if _, answer := w.get("/events/test/" + id); !strings.Contains(answer, `"status":"rule:`+rule+`"`) {
			t.Errorf("%s: %s, want rule:%s", id, answer, rule)
		}
		if !strings.Contains(letters, `"rule:`+rule+`"`) {
			t.Errorf("no rule:%s among the dead letters: %s", rule, letters)
		}
	}
}

// Wrong questions name the parameter; what nobody knows is not there.
func TestCParameters(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	for path, want := range map[string]int{
		"asset-usage-detail?tenant=SC-1":                                         http.StatusBadRequest,
		"asset-usage-detail?tenant=SC-1&month=2025-13":                           http.StatusBadRequest,
		"asset-usage-detail?tenant=nobody&month=2025-03":                         http.StatusNotFound,
		"asset-monthly-costs?organization=O-1":                                   http.StatusBadRequest,
		"asset-monthly-costs?organization=O-1&from=2025-01&to=2026-06":           http.StatusOK,
		"asset-monthly-costs?organization=O-1&from=2025-01&to=2026-07":           http.StatusBadRequest,
		"asset-monthly-costs?organization=O-1&from=2025-03&to=2025-01":           http.StatusBadRequest,
		"asset-monthly-costs?organization=O-1&month=2025-03&from=2025-01":        http.StatusBadRequest,
		"asset-monthly-costs?organization=X&month=2025-03":                       http.StatusNotFound,
		"asset-adjustments?organization=O-1":                                     http.StatusBadRequest,
		"asset-adjustments?organization=O-1&processing_month=2025-03":            http.StatusOK,
		"asset-adjustments?organization=O-1&processing_month=2025-03&surprise=1": http.StatusBadRequest,
	} {
		if status, answer := w.get("/reports/" + path); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, answer, want)
		}
	}
	_ = fmt.Sprint
}

// sql asks ClickHouse directly, with every right.
func (w *world) sql(query string) string {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, house.at.ClickHouseHTTP+"/", strings.NewReader(query))
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %d %s %v", query, res.StatusCode, answer, err)
	}
	return string(answer)
}

// The view has the rows of the report, of all tenants and months.
func TestCViewSaysTheSame(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureC()...)
	w.send(hours("2025-02-27", 100, "SC-1", "user_hours_essentials", "joe@email.com")...)
	w.send(
		ev("2025-02-20", "account.created", "O-2", d{"name": "Other", "kind": "organization"}),
		ev("2025-03-20", "account.reparented", "SC-2", d{"new_parent_account_id": "O-2"}),
		ev("2025-02-01", "asset.trial_set", "SC-1", d{"asset_id": "joe@email.com", "trial_expiry": "2025-03-01T00:20:00Z"}),
		ev("2025-03-02", "asset.renamed", "SC-1", d{"asset_id": "joe@email.com", "asset_name": "Joseph"}),
		ev("2025-03-06T01:00:00Z", "usage.metered", "SC-2", d{
			"meter": "bandwidth_gib_essentials", "quantity": "1.000005001", "region": "EU", "platform": "mcp", "asset": d{"id": "T-1"},
			"start": "2025-02-28T21:00:00Z", "end": "2025-03-02T01:00:00Z", "trial_expiry": "2025-03-01T12:00:00Z",
		}),
		ev("2025-03-06T01:00:00Z", "usage.metered", "SC-1", d{
			"meter": "bandwidth_gib_essentials", "quantity": "0.000001", "region": "US", "asset": d{"id": "T-1"},
		}),
		ev("2025-03-06T01:00:00Z", "usage.metered", "SC-1", d{"meter": "user_hours_essentials", "quantity": "1", "asset": d{"id": "nobody"}}),
		gib("2025-03-07", "SC-1", "3").named("voided"),
		ev("2025-03-20", "event.voided", "", d{"target": d{"source": "test", "id": "voided"}, "reason": "twice"}),
	)
	want := ""
	for _, tenant := range []string{"SC-1", "SC-2"} {
		for _, month := range []string{"2025-02", "2025-03"} {
			want += strings.TrimPrefix(w.detail(tenant, month), detailHead)
		}
	}
	const view = `SELECT organizationId, tenantId, assetName, assetId, assetType, meterName, meterId, formatDateTime(start, '%Y-%m-%dT%H:%i:%SZ', 'UTC'),
		formatDateTime(end, '%Y-%m-%dT%H:%i:%SZ', 'UTC'), toString(quantity) || if(position(toString(quantity), '.') = 0, '.', ''), billingRegion, platform, upper(toString(trial)),
		ifNull(formatDateTime(trialExpiry, '%Y-%m-%dT%H:%i:%SZ', 'UTC'), '')
		FROM usage_api.asset_usage_v1 WHERE tenant = '%TENANT%' ORDER BY tenantId, toStartOfMonth(start), assetId, meterName, billingRegion, platform, start, trial DESC
		FORMAT CSV SETTINGS format_csv_delimiter = ','`
	var got string
	read := func() string {
		lines := ""
		for line := range strings.Lines(strings.ReplaceAll(w.sql(strings.ReplaceAll(view, "%TENANT%", w.tenant)), `"`, "")) {
			cells := strings.Split(strings.TrimSpace(line), ",")
			_, fraction, _ := strings.Cut(cells[9], ".")
			cells[9] += strings.Repeat("0", max(0, 6-len(fraction)))
			lines += strings.Join(cells, ",") + "\n"
		}
		return lines
	}
	w.await("the view to say\n"+want, func() bool { got = read(); return got == want })
	if strings.Count(want, "\n") < 10 {
		t.Errorf("too few rows: %s", want)
	}
}
