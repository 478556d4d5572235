//go:build realdata

package realdata

import (
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// certificates imports both files of CA certificates up to today and compares what has happened by then: who has how
// many in use, when they were issued, how many were valid on a day.
func certificates(t *testing.T, s *system) {
	summary := s.summary(t, "ca-certificates")
	for file, name := range map[string]string{
		"IncludedCACertificateWithPEMReport.csv.gz": "ca-included",
		"RemovedCACertificateWithPEMReport.csv.gz":  "ca-removed",
	} {
		n := s.tenant(t, name)
		path := "ca-certificates/" + file
		want := summary[file].(map[string]any)
		owners := n.load(t, path, "ca-owners.yaml")
		issued := n.load(t, path, "ca-certificates.yaml")
		if strconv.Itoa(issued.Accepted) != text(decimal(want["rows"].(json.Number).String())) || issued.Rejected != 0 {
			t.Fatalf("import of %s: %+v, want %v rows", file, issued, want["rows"])
		}
		expired := n.expiries(t, path)
		n.settle(t, owners.Accepted+issued.Accepted+expired)
		// Reports are of the watermark, which passes the last event a moment after the ledger has it.
		await(t, settleWait, "certificates in use", func() bool { return n.inUse(t) == issued.Accepted-expired })
		past, got := pastOf(want), n.certificateFigures(t, path)
		same(t, past, got)
		n.load(t, path, "ca-owners.yaml")
		n.load(t, path, "ca-certificates.yaml")
		n.settle(t, 2*(owners.Accepted+issued.Accepted)+expired)
		same(t, past, n.certificateFigures(t, path))
	}
}

// expiries imports the expiries of the past; those of the future are refused.
func (n *tenant) expiries(t *testing.T, path string) int {
	t.Helper()
	future := 0
	for _, row := range n.rows(t, path)[1:] {
		at, err := time.Parse("2006.01.02", row[columnOf(t, n.rows(t, path)[0], "Valid To [GMT]")])
		if err != nil {
			t.Fatal(err)
		}
		if at.After(time.Now().Add(5 * time.Minute)) {
			future++
		}
	}
	code := 0
	if future > 0 {
		code = 1
	}
	out := n.cli(t, code, "events", "import", filepath.Join(n.data, path), "--mapping", filepath.Join(root(t), "examples", "import", "ca-expiries.yaml"), "--token", n.key, "-o", "json")
	var sums []imported
	if err := json.Unmarshal([]byte(out), &sums); err != nil || len(sums) != 1 || sums[0].Rejected != future {
		t.Fatalf("import of expiries: %v: %s, want %d refused", err, out, future)
	}
	return sums[0].Accepted
}

func (n *tenant) rows(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(filepath.Join(n.data, path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(z).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func columnOf(t *testing.T, head []string, name string) int {
	t.Helper()
	for i, h := range head {
		if h == name {
			return i
		}
	}
	t.Fatalf("no column %s", name)
	return 0
}

// pastOf is what of a summary has happened: what depends on the days on which certificates expire is left out as
// far as those lie ahead.
func pastOf(want map[string]any) figures {
	f := figures{}
	today := time.Now().UTC().Format(time.DateOnly)
	for k, v := range want {
		switch k {
		case "certificate_days_total", "max_valid_to", "min_valid_to":
		case "active_on":
			days := figures{}
			for day, count := range v.(map[string]any) {
				if day <= today {
					days[day] = count
				}
			}
			f[k] = days
		case "valid_to_per_year":
			years := figures{}
			for year, count := range v.(map[string]any) {
				if year < today[:4] {
					years[year] = count
				}
			}
			f[k] = years
		default:
			f[k] = v
		}
	}
	return f
}

func (n *tenant) usageRows(t *testing.T) []map[string]any {
	t.Helper()
	var answer struct{ Rows []map[string]any }
	n.get(t, "/reports/certificate-usage", url.Values{"partner": {"ccadb"}, "limit": {"1000"}}, &answer)
	return answer.Rows
}

// inUse is how many certificates the report says are in use.
func (n *tenant) inUse(t *testing.T) int {
	t.Helper()
	sum := 0
	for _, row := range n.usageRows(t) {
		used, err := strconv.Atoi(row["Used"].(string))
		if err != nil {
			t.Fatal(err)
		}
		sum += used
	}
	return sum
}

func (n *tenant) certificateFigures(t *testing.T, path string) figures {
	t.Helper()
	const issued = ` FROM usage_api.events_v1 WHERE tenant = {tenant} AND type = 'certificate.issued'`
	owners := figures{}
	for _, row := range n.sql(t, `SELECT account, toString(sum(sign))`+issued+` GROUP BY account`) {
		owners[row[0]] = row[1]
	}
	// Nothing has expired while every certificate is in use: then the report has the same figures.
	if n.one(t, `SELECT toString(count()) FROM usage_api.events_v1 WHERE tenant = {tenant} AND type = 'certificate.expired'`)[0] == "0" {
		for _, row := range n.usageRows(t) {
			if owners[row["Customer"].(string)] != row["Used"] {
				t.Errorf("%v uses %v, was issued %v", row["Customer"], row["Used"], owners[row["Customer"].(string)])
			}
		}
	}
	rows := n.one(t, `SELECT toString(sum(sign)), toString(uniqExact(JSONExtractString(data, 'certificate_id'))), toString(toDate(min(at))), toString(toDate(max(at)))`+issued)
	count, err := strconv.Atoi(rows[0])
	if err != nil {
		t.Fatal(err)
	}
	f := figures{
		"rows": count, "distinct_sha256": rows[1], "distinct_owners": len(n.usageRows(t)), "per_owner": owners, "owner_column": "Owner",
		"min_valid_from": rows[2], "max_valid_from": rows[3], "columns": columnsOf(n.rows(t, path)[0]),
		"valid_from_per_year": n.perYear(t, "certificate.issued"), "valid_to_per_year": n.perYear(t, "certificate.expired"),
	}
	days, now := figures{}, time.Now().UTC()
	for year := 1996; year <= now.Year(); year++ {
		day := strconv.Itoa(year) + "-01-01"
		days[day] = n.one(t, `SELECT toString(sumIf(toInt64(sign), type = 'certificate.issued') - sumIf(toInt64(sign), type = 'certificate.expired'))
FROM usage_api.events_v1 WHERE tenant = {tenant} AND type IN ('certificate.issued', 'certificate.expired') AND at <= toDateTime64('`+day+` 00:00:00', 3, 'UTC')`)[0]
	}
	f["active_on"] = days
	return f
}

// perYear counts events by their year, the running one left out where it is about expiries.
func (n *tenant) perYear(t *testing.T, typ string) figures {
	t.Helper()
	years := figures{}
	for _, row := range n.sql(t, `SELECT toString(toYear(at)), toString(sum(sign)) FROM usage_api.events_v1 WHERE tenant = {tenant} AND type = '`+typ+`' GROUP BY toYear(at)`) {
		if typ == "certificate.issued" || row[0] < time.Now().UTC().Format("2006") {
			years[row[0]] = row[1]
		}
	}
	return years
}

// columnsOf is a list as the summary prints it.
func columnsOf(head []string) string { return "[" + strings.Join(head, " ") + "]" }
