//go:build realdata

package realdata

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func TestRealData(t *testing.T) {
	s := start(t)
	t.Run("azure-llm-2023", func(t *testing.T) { azure(t, s) })
	t.Run("apache-access-log", func(t *testing.T) { apache(t, s) })
	t.Run("nginxplus-counters", func(t *testing.T) { nginx(t, s) })
	t.Run("ca-certificates", func(t *testing.T) { certificates(t, s) })
	t.Run("cloudevents-conformance", func(t *testing.T) { conformance(t, s) })
	t.Run("audit", func(t *testing.T) { s.cli(t, 0, "audit") })
}

// twice loads a file, compares, loads it again and compares again: nothing may change, and the ledger
// must call every event of the second import a duplicate.
func twice(t *testing.T, n *tenant, file, mapping string, compare func(t *testing.T, first imported)) {
	first := n.load(t, file, mapping)
	if first.Accepted != first.Sent || first.Rejected != 0 {
		t.Fatalf("first import: %+v", first)
	}
	n.imports(t, 1, first)
	compare(t, first)
	again := n.load(t, file, mapping)
	if again != first {
		t.Errorf("second import: %+v, first %+v", again, first)
	}
	got := n.imports(t, 2, first)
	compare(t, again)
	t.Logf("%s: %d events, all %d duplicates the second time", file, first.Accepted, got.Duplicate)
}

// imports waits until the ledger has so many imports of the same events: each is stored once, the rest are duplicates. An
// import sends again what it got no answer to, so there may be more of these.
func (n *tenant) imports(t *testing.T, times int, each imported) (sum ledger) {
	t.Helper()
	await(t, settleWait, fmt.Sprintf("%d imports of %+v in the ledger of %s", times, each, n.name), func() bool {
		sum = n.ledger(t)
		return sum.Accepted >= times*each.Accepted && sum == ledger{Accepted: sum.Accepted, Stored: each.Accepted, Duplicate: sum.Accepted - each.Accepted}
	}, func() string { return fmt.Sprintf("%+v", sum) })
	return sum
}

func azure(t *testing.T, s *system) {
	summary := s.summary(t, "azure-llm-2023")
	for file, name := range map[string]string{
		"AzureLLMInferenceTrace_code.csv.gz": "azure-code",
		"AzureLLMInferenceTrace_conv.csv.gz": "azure-conv",
	} {
		n := s.tenant(t, name)
		twice(t, n, "azure-llm-2023/"+file, "azure-llm-2023.yaml", func(t *testing.T, _ imported) {
			same(t, summary[file].(map[string]any), n.azureFigures(t))
		})
	}
}

// azureRows is one row per line of the file, rebuilt from its events.
const azureRows = `
SELECT toUInt32(splitByChar(':', id)[2]) AS line, anyIf(dimensions['timestamp'], meter = 'context_tokens') AS stamp,
    sumIf(quantity, meter = 'context_tokens') AS context, sumIf(quantity, meter = 'generated_tokens') AS generated
FROM usage_api.events_v1 WHERE tenant = {tenant} GROUP BY line`

func (n *tenant) azureFigures(t *testing.T) figures {
	const from, to = "2023-11-01T00:00:00Z", "2023-12-01T00:00:00Z"
	meters := map[string]string{"context": "context_tokens", "generated": "generated_tokens", "requests": "llm_requests"}
	f := figures{}
	month, hours := figures{}, figures{}
	for figure, meter := range meters {
		if figure != "requests" {
			f[figure+"_total"] = n.total(t, meter, from, to)
			limits := n.one(t, `SELECT toString(min(quantity)), toString(max(quantity)) FROM usage_api.events_v1 WHERE tenant = {tenant} AND meter = '`+meter+`'`)
			f[figure+"_min"], f[figure+"_max"] = limits[0], limits[1]
		}
		for start, q := range n.windows(t, meter, "month", from, to) {
			month[figure] = q
			if start[:7] != "2023-11" {
				t.Errorf("usage of %s in %s", meter, start)
			}
		}
		if q := n.month(t, "2023-11", meter); q != month[figure] {
			t.Errorf("GET /months/2023-11/usage: %s %s, usage by month %v", meter, q, month[figure])
		}
		for start, q := range n.windows(t, meter, "hour", from, to) {
			hour, _ := hours[start].(figures)
			if hour == nil {
				hour = figures{}
				hours[start] = hour
			}
			hour[figure] = q
		}
		equal(t, "days of "+meter, keep(n.windows(t, meter, "day", from, to), 10), sumBy(n.windows(t, meter, "hour", from, to), 10))
	}
	f["month_total"], f["per_hour"] = figures{"2023-11": month}, hours
	minutes := figures{}
	for _, r := range n.sql(t, `
SELECT formatDateTime(toStartOfMinute(at), '%Y-%m-%dT%H:%i:00Z') AS minute, toString(sumIf(quantity * sign, meter = 'context_tokens')),
    toString(sumIf(quantity * sign, meter = 'generated_tokens')), toString(sumIf(quantity * sign, meter = 'llm_requests'))
FROM usage_api.events_v1 WHERE tenant = {tenant} GROUP BY minute`) {
		minutes[r[0]] = figures{"context": r[1], "generated": r[2], "requests": r[3]}
	}
	f["per_minute"] = minutes
	r := n.one(t, `
SELECT count(), uniqExact(stamp), count() - uniqExact(stamp, context, generated), min(stamp), max(stamp) FROM (`+azureRows+`)`)
	f["rows"], f["distinct_timestamps"], f["exact_duplicate_rows"], f["min_ts"], f["max_ts"] = r[0], r[1], r[2], r[3], r[4]
	f["out_of_order_steps"] = n.one(t, `
SELECT countIf(stamp < before) FROM (SELECT stamp, lagInFrame(stamp, 1, '') OVER (ORDER BY line) AS before FROM (`+azureRows+`))`)[0]
	digits := figures{}
	for _, r := range n.sql(t, `SELECT length(splitByChar('.', stamp)[2]) AS digits, count() FROM (`+azureRows+`) GROUP BY digits`) {
		digits[r[0]] = r[1]
	}
	f["ts_fraction_digits"] = digits
	return f
}

func apache(t *testing.T, s *system) {
	n := s.tenant(t, "apache")
	summary := s.summary(t, "apache-access-log")
	twice(t, n, "apache-access-log/apache_logs.gz", "apache-access-log.yaml", func(t *testing.T, run imported) {
		f := n.apacheFigures(t, summary["top_clients"].(map[string]any))
		f["unparsed"], f["lines"] = run.Rejected, run.Read
		same(t, summary, f)
	})
}

func (n *tenant) apacheFigures(t *testing.T, clients map[string]any) figures {
	const from, to = "2015-05-01T00:00:00Z", "2015-06-01T00:00:00Z"
	f := figures{"bytes_total": n.total(t, "bandwidth_bytes", from, to), "requests": n.total(t, "requests", from, to)}
	for meter, figure := range map[string]string{"bandwidth_bytes": "bytes_total", "requests": "requests"} {
		equal(t, "month of "+meter, n.windows(t, meter, "month", from, to), map[string]string{from: f[figure].(string)})
		if q := n.month(t, "2015-05", meter); q != f[figure] {
			t.Errorf("GET /months/2015-05/usage: %s %s, want %v", meter, q, f[figure])
		}
	}
	r := n.one(t, `
SELECT uniqExact(consumer_id), countIf(dimensions['bytes_logged'] = '-'), formatDateTime(min(at), '%Y-%m-%dT%H:%i:%S+00:00'),
    formatDateTime(max(at), '%Y-%m-%dT%H:%i:%S+00:00')
FROM usage_api.events_v1 WHERE tenant = {tenant} AND meter = 'requests'`)
	f["distinct_clients"], f["missing_bytes"], f["min_ts"], f["max_ts"] = r[0], r[1], r[2], r[3]
	f["out_of_order_steps"] = n.one(t, `
SELECT countIf(at < before) FROM
(
    SELECT at, lagInFrame(at, 1, toDateTime64(0, 3, 'UTC')) OVER (ORDER BY toUInt32(splitByChar(':', id)[2])) AS before
    FROM usage_api.events_v1 WHERE tenant = {tenant} AND meter = 'requests'
)`)[0]
	f["per_hour"] = n.apacheWindows(t, "hour", "%Y-%m-%dT%H:00:00Z", "toStartOfHour(at)", from, to)
	days := figures{}
	for day, v := range n.apacheWindows(t, "day", "%Y-%m-%dT00:00:00Z", "toStartOfDay(at)", from, to) {
		days[day[:10]] = v
	}
	f["per_day"] = days
	status := figures{}
	for _, r := range n.sql(t, `
SELECT dimensions['status'] AS status, sum(sign) FROM usage_api.events_v1 WHERE tenant = {tenant} AND meter = 'requests' GROUP BY status`) {
		status[r[0]] = r[1]
	}
	f["status"] = status
	for _, r := range n.usage(t, "requests", "total", from, to, "group_by", "dimensions.status") {
		if key, _ := r["dimensions.status"].(string); status[key] != r["quantity"] {
			t.Errorf("API: status %s is %v, SQL says %v", key, r["quantity"], status[key])
		}
	}
	top := figures{}
	for meter, figure := range map[string]string{"bandwidth_bytes": "bytes", "requests": "requests"} {
		for _, r := range n.usage(t, meter, "total", from, to, "group_by", "consumer_id") {
			client := r["consumer_id"].(string)
			if _, listed := clients[client]; !listed {
				continue
			}
			if top[client] == nil {
				top[client] = figures{}
			}
			top[client].(figures)[figure] = r["quantity"]
		}
	}
	f["top_clients"] = top
	return f
}

// apacheWindows has usage from the API and distinct clients from SQL.
func (n *tenant) apacheWindows(t *testing.T, window, format, start, from, to string) figures {
	out := figures{}
	for _, r := range n.sql(t, `
SELECT formatDateTime(`+start+`, '`+format+`') AS w, uniqExact(consumer_id), countIf(dimensions['bytes_logged'] = '-')
FROM usage_api.events_v1 WHERE tenant = {tenant} AND meter = 'requests' GROUP BY w`) {
		out[r[0]] = figures{"distinct_clients": r[1], "missing_bytes": r[2]}
	}
	for meter, figure := range map[string]string{"bandwidth_bytes": "bytes", "requests": "requests"} {
		for at, q := range n.windows(t, meter, window, from, to) {
			if out[at] == nil {
				t.Errorf("the API has usage in %s, SQL has none", at)
				continue
			}
			out[at].(figures)[figure] = q
		}
	}
	return out
}

func nginx(t *testing.T, s *system) {
	n := s.tenant(t, "nginx")
	twice(t, n, "nginxplus-counters/nginxplus_json_logs.gz", "nginxplus-counters.yaml", func(t *testing.T, run imported) {
		if run.Read != 500 || run.Rejected != 0 {
			t.Errorf("import: %+v", run)
		}
		same(t, s.summary(t, "nginxplus-counters"), n.nginxFigures(t))
	})
}

func (n *tenant) nginxFigures(t *testing.T) figures {
	const from, to = "2015-10-01T00:00:00Z", "2015-11-01T00:00:00Z"
	f := figures{"rows": n.total(t, "snapshots", from, to)}
	r := n.one(t, `
SELECT uniqExact(at), toUnixTimestamp64Milli(min(at)), toUnixTimestamp64Milli(max(at)),
    concat(formatDateTime(min(at), '%Y-%m-%dT%H:%i:%S+00:00+'), toString(toUnixTimestamp64Milli(min(at)) % 1000), 'ms'),
    concat(formatDateTime(max(at), '%Y-%m-%dT%H:%i:%S+00:00+'), toString(toUnixTimestamp64Milli(max(at)) % 1000), 'ms')
FROM usage_api.events_v1 WHERE tenant = {tenant} AND meter = 'snapshots'`)
	f["distinct_timestamps"], f["min_ms"], f["max_ms"], f["min_ts"], f["max_ts"] = r[0], r[1], r[2], r[3], r[4]
	steps, backward := figures{}, 0
	const listed = 10 // the summary has the ten most frequent steps
	for _, r := range n.sql(t, `
SELECT step, count() FROM
(
    SELECT toUnixTimestamp64Milli(at) - lagInFrame(toUnixTimestamp64Milli(at)) OVER (ORDER BY line) AS step, line
    FROM (SELECT at, toUInt32(splitByChar(':', id)[2]) AS line FROM usage_api.events_v1 WHERE tenant = {tenant} AND meter = 'snapshots')
)
WHERE line > 1 GROUP BY step ORDER BY count() DESC, step`) {
		if strings.HasPrefix(r[0], "-") {
			backward++
		}
		if len(steps) < listed {
			steps[r[0]] = r[1]
		}
	}
	f["out_of_order_steps"] = strconv.Itoa(backward)
	f["step_ms"] = steps
	for figure, meter := range map[string]string{"connections_accepted": "server_connections", "requests_total": "server_requests"} {
		first, last := n.readings(t, meter, "nginx")
		f[figure+"_first"], f[figure+"_last"] = first, last
		if q := n.total(t, meter, from, to); decimal(q).Cmp(decimal(last).Sub(decimal(last), decimal(first))) != 0 {
			t.Errorf("%s: %s, readings %s to %s", meter, q, first, last)
		}
	}
	zones := figures{}
	for _, zone := range []string{"hg.nginx.org", "lxr.nginx.org", "trac.nginx.org"} {
		z := figures{}
		for figure, meter := range map[string]string{"requests": "zone_requests", "received": "zone_received_bytes", "sent": "zone_sent_bytes"} {
			z[figure] = n.counter(t, meter, zone, from, to)
		}
		zones[zone] = z
	}
	f["zones"] = zones
	return f
}

// readings are the first and the last reading of a counter: the first gave no event of its own.
func (n *tenant) readings(t *testing.T, meter, account string) (first, last string) {
	t.Helper()
	r := n.one(t, `
SELECT toString(argMin(toDecimal128(dimensions['reading'], 0) - quantity, at)), argMax(dimensions['reading'], at)
FROM usage_api.events_v1 WHERE tenant = {tenant} AND meter = '`+meter+`' AND account = '`+account+`'`)
	return text(decimal(r[0])), r[1]
}

func (n *tenant) counter(t *testing.T, meter, account, from, to string) figures {
	first, last := n.readings(t, meter, account)
	minutes, backward, byMinute := figures{}, 0, map[string]string{}
	for _, r := range n.sql(t, `
SELECT formatDateTime(toStartOfMinute(at), '%Y-%m-%dT%H:%i:00Z') AS minute, toString(sum(quantity * sign)), countIf(quantity < 0)
FROM usage_api.events_v1 WHERE tenant = {tenant} AND meter = '`+meter+`' AND account = '`+account+`' GROUP BY minute`) {
		minutes[r[0]], byMinute[r[0]] = r[1], r[1]
		if r[2] != "0" {
			backward++
		}
	}
	// The API's windows are the minutes' sums: across midnight, and for the month.
	equal(t, meter+" of "+account+" by hour", keep(n.windows(t, meter, "hour", from, to, "account", account), 13), sumBy(byMinute, 13))
	equal(t, meter+" of "+account+" by day", keep(n.windows(t, meter, "day", from, to, "account", account), 10), sumBy(byMinute, 10))
	equal(t, meter+" of "+account+" by month", keep(n.windows(t, meter, "month", from, to, "account", account), 7), sumBy(byMinute, 7))
	return figures{
		"delta": n.total(t, meter, from, to, "account", account), "first": first, "last": last,
		"decreasing_steps": strconv.Itoa(backward), "delta_per_minute_of_later_sample": minutes,
	}
}
