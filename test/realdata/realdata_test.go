//go:build realdata

// Package realdata imports real data sets through the product and compares every figure of their
// independently computed summaries with what the API and SQL answer, to the last digit.
//
// It runs by `make real-data DATA=folder`: the stack is `countinghouse up` of the built binary, the data
// goes in through `countinghouse events import` with the mapping files of examples/import, hour, day and
// month totals come from the API, per-minute and distinct figures from SQL.
package realdata

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/stack"
)

const (
	upWait     = 5 * time.Minute // the engine may have to be fetched
	settleWait = 4 * time.Minute // seconds are promised; others may use the machine
)

// system is a running stack, and the data.
type system struct {
	bin, dir, data string
	at             stack.Endpoints
}

func start(t *testing.T) *system {
	t.Helper()
	s := &system{data: os.Getenv("COUNTINGHOUSE_DATA"), bin: os.Getenv("COUNTINGHOUSE_BIN"), dir: filepath.Join(t.TempDir(), "stack")}
	if s.data == "" {
		t.Fatal("COUNTINGHOUSE_DATA is not set: run make real-data DATA=folder")
	}
	if s.bin == "" {
		s.bin = filepath.Join(root(t), "bin", "countinghouse")
	}
	if _, err := os.Stat(s.bin); err != nil {
		t.Fatalf("%v: run make build", err)
	}
	up := exec.Command(s.bin, "up", "--ephemeral", "--dir", s.dir)
	// The types of the CloudEvents suite: stored, not metered.
	up.Env = append(os.Environ(), "COUNTINGHOUSE_INGEST__EXTRA_TYPES=io.cloudevents.test,mock.test")
	var out bytes.Buffer
	up.Stdout, up.Stderr = &out, &out
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	t.Cleanup(func() {
		_ = up.Process.Signal(syscall.SIGTERM) // ended already is as good
		if err := <-ended; err != nil {
			t.Errorf("countinghouse up: %v\n%s", err, out.String())
		}
	})
	await(t, upWait, "endpoints.json", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("countinghouse up ended: %v\n%s", err, out.String())
		default:
		}
		var err error
		s.at, err = stack.LoadEndpoints(s.dir)
		return err == nil
	})
	return s
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// await asks until the answer is yes.
func await(t *testing.T, within time.Duration, what string, yes func() bool, last ...func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, said := range last {
				what += ", but " + said() + ","
			}
			t.Fatalf("no %s within %s", what, within)
		}
	}
}

// cli runs the tool against the stack and returns its standard output.
func (s *system) cli(t *testing.T, wantCode int, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.bin, append(args, "--dir", s.dir)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != wantCode {
		t.Fatalf("countinghouse %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, wantCode, out.String(), errs.String())
	}
	return out.String()
}

// tenant makes a key that may send old events and read.
func (s *system) tenant(t *testing.T, name string) *tenant {
	t.Helper()
	text := s.cli(t, 0, "keys", "create", "--tenant", name, "--scope", "events:write,events:backfill,usage:read,reports:read", "-o", "json")
	var key struct{ Key string }
	if err := json.Unmarshal([]byte(text), &key); err != nil || key.Key == "" {
		t.Fatalf("keys create: %v: %s", err, text)
	}
	return &tenant{system: s, name: name, key: key.Key}
}

type tenant struct {
	*system
	name, key string
}

// imported is the summary of one import.
type imported struct{ Read, Sent, Accepted, Rejected int }

// load imports a file of the data with a mapping of the examples.
func (n *tenant) load(t *testing.T, file, mapping string) imported {
	t.Helper()
	text := n.cli(t, 0, "events", "import", filepath.Join(n.data, file), "--mapping", filepath.Join(root(t), "examples", "import", mapping), "--token", n.key, "-o", "json")
	var sums []imported
	if err := json.Unmarshal([]byte(text), &sums); err != nil || len(sums) != 1 {
		t.Fatalf("events import: %v: %s", err, text)
	}
	return sums[0]
}

// ledger is what became of everything a tenant sent.
type ledger struct{ Accepted, Stored, Duplicate, Conflict, Quarantined int }

// settle waits until the warehouse has as many accepted events as were sent, and returns the ledger.
func (n *tenant) settle(t *testing.T, accepted int) ledger {
	t.Helper()
	var sum ledger
	await(t, settleWait, fmt.Sprintf("%d events of %s in the ledger", accepted, n.name), func() bool {
		sum = n.ledger(t)
		return sum.Accepted >= accepted
	})
	return sum
}

// ledger is what the books say now.
func (n *tenant) ledger(t *testing.T) (sum ledger) {
	t.Helper()
	var answer struct{ Rows []ledger }
	n.get(t, "/ledger", nil, &answer)
	for _, r := range answer.Rows {
		sum.Accepted += r.Accepted
		sum.Stored += r.Stored
		sum.Duplicate += r.Duplicate
		sum.Conflict += r.Conflict
		sum.Quarantined += r.Quarantined
	}
	return sum
}

// get asks the API as the tenant.
func (n *tenant) get(t *testing.T, path string, query url.Values, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.at.Reporter+"/api/v1"+path+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.key)
	body := do(t, req, http.StatusOK)
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("GET %s: %v: %s", path, err, body)
	}
}

func do(t *testing.T, req *http.Request, want int) []byte {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Fatalf("%s %s: %s, want %d: %s", req.Method, req.URL, resp.Status, want, body)
	}
	return body
}

// usage asks for a meter by window; rows without usage are not answered, or zero.
func (n *tenant) usage(t *testing.T, meter, window, from, to string, more ...string) []map[string]any {
	t.Helper()
	query := url.Values{"window": {window}, "from": {from}, "to": {to}}
	for i := 0; i+1 < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	var answer struct {
		Rows []map[string]any
	}
	n.get(t, "/meters/"+meter+"/usage", query, &answer)
	return answer.Rows
}

// total is a meter's whole quantity in [from, to).
func (n *tenant) total(t *testing.T, meter, from, to string, more ...string) string {
	t.Helper()
	rows := n.usage(t, meter, "total", from, to, more...)
	if len(rows) != 1 {
		t.Fatalf("total of %s: %d rows, want 1", meter, len(rows))
	}
	return rows[0]["quantity"].(string)
}

// windows maps the start of each window to the quantity, leaving out windows without events.
func (n *tenant) windows(t *testing.T, meter, window, from, to string, more ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, r := range n.usage(t, meter, window, from, to, more...) {
		if events, ok := r["events"].(float64); ok && events == 0 {
			continue
		}
		out[r["start"].(string)] = r["quantity"].(string)
	}
	return out
}

// month is a meter's quantity in the monthly aggregates, summed over accounts exactly.
func (n *tenant) month(t *testing.T, month, meter string) string {
	t.Helper()
	sum := decimal("0")
	cursor := ""
	for {
		query := url.Values{"limit": {"1000"}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		var page struct {
			Rows []struct{ Meter, Quantity string }
			Next *string
		}
		n.get(t, "/months/"+month+"/usage", query, &page)
		for _, r := range page.Rows {
			if r.Meter == meter {
				sum.Add(sum, decimal(r.Quantity))
			}
		}
		if page.Next == nil || *page.Next == "" {
			return text(sum)
		}
		cursor = *page.Next
	}
}

// sql runs a query over HTTP as an operator would; {tenant} stands for the tenant's name.
func (n *tenant) sql(t *testing.T, query string) [][]string {
	t.Helper()
	query = strings.ReplaceAll(query, "{tenant}", "'"+n.name+"'") + " FORMAT CSV"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.at.ClickHouseHTTP, strings.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(do(t, req, http.StatusOK))).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return rows
}

// one is the single row of a query.
func (n *tenant) one(t *testing.T, query string) []string {
	t.Helper()
	rows := n.sql(t, query)
	if len(rows) != 1 {
		t.Fatalf("%s: %d rows, want 1", query, len(rows))
	}
	return rows[0]
}
