package reporter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/telemetry"
)

// serveAnswer serves a made-up answer in every format: n rows, then an error if there is one.
func serveAnswer(t *testing.T, n int, end error) (address string, runs func() string) {
	t.Helper()
	registry := telemetry.NewRegistry(telemetry.BuildVersion("reporter"))
	s := &server{
		log: zap.NewNop(), runs: telemetry.NewReporter(registry).ReportRuns, slots: make(chan struct{}, 4), mux: http.NewServeMux(),
		wait: HTTPConfig{ReadWait: 10 * time.Minute, AnswerWait: 10 * time.Minute}, limit: DefaultConfig().Limit,
	}
	s.mux.HandleFunc("GET /{format}", func(w http.ResponseWriter, r *http.Request) {
		f, ok := sheet.Parse(r.PathValue("format"))
		if !ok {
			panic("no format")
		}
		s.stream(r.Context(), w, &reportAnswer{Result: &report.Result{
			Answer: &report.Answer{FileName: "usage of A/1 \"é\"", Table: manyRows(n, end)}, Report: "r", AsOf: 1_700_000_000_000, Version: 2, Positions: map[string]uint64{"0": 7, "1": 9},
		}}, f)
	})
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	return server.URL, func() string { return gathered(t, registry) }
}

func gathered(t *testing.T, registry prometheus.Gatherer) string {
	t.Helper()
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, family := range all {
		for _, m := range family.GetMetric() {
			if family.GetName() == "countinghouse_report_runs_total" && m.GetCounter().GetValue() > 0 {
				found = append(found, fmt.Sprint(m.GetLabel()[0].GetValue(), " ", m.GetCounter().GetValue()))
			}
		}
	}
	return strings.Join(found, ", ")
}

func manyRows(n int, end error) sheet.Table {
	row := sheet.Row{"tenant", "Joe, the first", "24.000000", "2025-03-01T00:00:00Z"}
	return sheet.Table{
		Columns: []sheet.Column{{Name: "tenant"}, {Name: "name"}, {Name: "quantity", Kind: sheet.Decimal}, {Name: "start", Kind: sheet.Instant}},
		Rows: func(yield func(sheet.Row, error) bool) {
			for range n {
				if !yield(row, nil) {
					return
				}
			}
			if end != nil {
				yield(nil, end)
			}
		},
	}
}

func fetch(t *testing.T, address string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// TestFileHeaders: a file says its name and which state of the log it holds.
func TestFileHeaders(t *testing.T) {
	t.Parallel()
	address, runs := serveAnswer(t, 2, nil)
	resp, body, err := fetch(t, address+"/csv-pipe")
	if err != nil || string(body) != "tenant|name|quantity|start\r\ntenant|Joe, the first|24.000000|2025-03-01T00:00:00Z\r\ntenant|Joe, the first|24.000000|2025-03-01T00:00:00Z\r\n" {
		t.Errorf("%q, %v", body, err)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/csv; charset=utf-8; header=present", "Content-Disposition": "attachment; filename*=utf-8''usage%20of%20A_1%20_%C3%A9_.csv",
		"X-As-Of": "2023-11-14T22:13:20Z", "X-Version": "2", "X-Positions": "0=7,1=9", "X-Next-Cursor": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if resp, _, err := fetch(t, address+"/xlsx"); err != nil || !strings.HasSuffix(resp.Header.Get("Content-Disposition"), ".xlsx") {
		t.Errorf("xlsx: %v %v", resp.Header, err)
	}
	if got := runs(); got != "ok 2" {
		t.Errorf("report_runs_total: %s", got)
	}
}

// TestBrokenStream: what fails after the first byte breaks the connection; before it, it is a refusal.
func TestBrokenStream(t *testing.T) {
	t.Parallel()
	broken := errors.New("the warehouse is gone")
	for _, f := range []sheet.Format{sheet.FormatCSV, sheet.FormatPipe, sheet.FormatParquet} {
		address, runs := serveAnswer(t, 200_000, broken)
		if resp, body, err := fetch(t, address+"/"+string(f)); err == nil || resp.StatusCode != http.StatusOK || len(body) == 0 {
			t.Errorf("%s: %d, %d bytes read without an error", f, resp.StatusCode, len(body))
		}
		if got := runs(); got != "failed 1" {
			t.Errorf("report_runs_total: %s", got)
		}
	}
	for format, tt := range map[string]struct {
		end    error
		rows   int
		status int
		code   string
	}{
		"csv":      {broken, 10, 500, "internal"},
		"xlsx":     {broken, 100_000, 500, "internal"},
		"parquet":  {&report.Error{Code: report.CodeNotSettled, Parameter: "as_of", Detail: "later"}, 10, 409, "not-settled"},
		"csv-pipe": {context.DeadlineExceeded, 1, 503, "warehouse-unavailable"},
	} {
		address, _ := serveAnswer(t, tt.rows, tt.end)
		resp, body, err := fetch(t, address+"/"+format)
		var p problem.Problem
		if err != nil || json.Unmarshal(body, &p) != nil || resp.StatusCode != tt.status || p.Code != tt.code {
			t.Errorf("%s: %d %s %v", format, resp.StatusCode, body, err)
		}
	}
	address, runs := serveAnswer(t, 1_048_576, nil)
	resp, body, err := fetch(t, address+"/xlsx")
	if err != nil || resp.StatusCode != http.StatusUnprocessableEntity || !bytes.Contains(body, []byte(`"format-limit"`)) || !bytes.Contains(body, []byte("ask for csv or parquet")) {
		t.Errorf("xlsx: %d %s %v", resp.StatusCode, body, err)
	}
	if got := runs(); got != "refused 1" {
		t.Errorf("report_runs_total: %s", got)
	}
}

// TestStreamIsFlat: a file of a million rows never is in memory, whatever its reader does.
func TestStreamIsFlat(t *testing.T) {
	const most = 64 << 20 // of the server and the client together; the rows are 60 MB of CSV
	for _, f := range []string{"csv", "parquet"} {
		address, _ := serveAnswer(t, 1_000_000, nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/"+f, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		before, peak, read := stats.HeapAlloc, uint64(0), 0
		buf := make([]byte, 64<<10)
		for i := 0; err == nil; i++ {
			var n int
			n, err = resp.Body.Read(buf)
			read += n
			if i%100 == 0 {
				runtime.ReadMemStats(&stats)
				peak = max(peak, stats.HeapAlloc-min(before, stats.HeapAlloc))
			}
		}
		resp.Body.Close()
		if !errors.Is(err, io.EOF) || read < 1<<20 || peak > most {
			t.Errorf("%s: %d bytes, at most %d KiB in memory, %v", f, read, peak>>10, err)
		}
		t.Logf("%s: %d bytes, at most %d KiB in memory", f, read, peak>>10)
	}
}
