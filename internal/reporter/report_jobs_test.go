package reporter_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/problem"
)

// job is a job as the API shows it.
type job struct {
	ID, Name, Report, Format, State, Error, Parameter string
	Parameters                                        map[string]string
	Rows                                              int64
	File                                              *struct {
		Name, SHA256 string
		Bytes, Rows  int64
		RemovedAt    string `json:"removed_at"`
	}
	Cut *struct {
		AsOf      string `json:"as_of"`
		Positions map[string]uint64
	}
	Mails []struct {
		Recipient, State, Error string
		MessageID               string `json:"message_id"`
		Tries                   int
		Repeated                bool
	}
	Schedule, Run string
}

// post sends a body and reads the answer of that status.
func (d *desk) post(key, path, body string, status int, into any) {
	d.Helper()
	got, _, answer := d.send(http.MethodPost, key, path, "", body)
	if got != status {
		d.Fatalf("POST %s: %d %s, want %d", path, got, answer, status)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(answer), into); err != nil {
			d.Fatalf("POST %s: %v in %s", path, err, answer)
		}
	}
}

// done waits for the end of a job.
func (d *desk) done(t *testing.T, key, id string) job {
	t.Helper()
	var j job
	await(t, "the end of job "+id, func() bool {
		d.get(key, "/report-jobs/"+id, &j)
		return j.State != "queued" && j.State != "running"
	})
	return j
}

func TestJobIsTheReport(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	key := d.key("acme", "reports:read", "reports:write")
	for _, tt := range []struct{ format, ending string }{{"csv", ".csv"}, {"csv-pipe", ".csv"}, {"parquet", ".parquet"}, {"xlsx", ".xlsx"}, {"json", ".json"}} {
		t.Run(tt.format, func(t *testing.T) {
			var j job
			d.post(key, "/report-jobs", fmt.Sprintf(`{"report":"monthly-usage","parameters":{"month":"2026-03"},"format":%q,"name":"March"}`, tt.format), http.StatusAccepted, &j)
			if j.State != "queued" || j.ID == "" || j.Name != "March" {
				t.Fatalf("made: %+v", j)
			}
			if j = d.done(t, key, j.ID); j.State != "done" || j.File == nil || j.Rows != 5 || j.Cut == nil {
				t.Fatalf("ended: %+v", j)
			}
			status, header, file := d.send(http.MethodGet, key, "/report-jobs/"+j.ID+"/file", "", "")
			sum := sha256.Sum256([]byte(file))
			if status != http.StatusOK || hex.EncodeToString(sum[:]) != j.File.SHA256 || int64(len(file)) != j.File.Bytes {
				t.Errorf("file: %d %d bytes %x, want %+v", status, len(file), sum, j.File)
			}
			if disposition := header.Get("Content-Disposition"); !strings.Contains(disposition, "monthly-usage_2026-03"+tt.ending) {
				t.Errorf("file name: %s", disposition)
			}
			if !strings.HasPrefix(tt.format, "csv") {
				return
			}
			_, _, report := d.send(http.MethodGet, key, "/reports/monthly-usage?month=2026-03&format="+tt.format, "", "")
			if file != report {
				t.Errorf("file:\n%s\nreport:\n%s", file, report)
			}
			var m struct {
				Rows   int64
				SHA256 string
				Totals []struct{ Column, Sum string }
			}
			d.get(key, "/report-jobs/"+j.ID+"/manifest", &m)
			if got, want := fmt.Sprint(m.Totals), "[{version 0} {quantity 6.500000001} {events 5} {quantity_tree 20.000000002} {events_tree 9}]"; got != want || m.Rows != 5 || m.SHA256 != j.File.SHA256 {
				t.Errorf("manifest: %+v, want totals %s", m, want)
			}
		})
	}
}

func TestJobRefusals(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	key := d.key("acme", "reports:read", "reports:write")
	reader := d.key("acme", "reports:read")
	other := d.key("other", "reports:read", "reports:write")
	tests := map[string]struct {
		key, path, body string
		status          int
		code, parameter string
	}{
		"scope":             {reader, "/report-jobs", `{"report":"monthly-usage","parameters":{"month":"2026-03"}}`, 403, "missing-scope", ""},
		"unknown member":    {key, "/report-jobs", `{"report":"monthly-usage","tenant":"other"}`, 422, "unknown-field", "tenant"},
		"no json":           {key, "/report-jobs", `report`, 400, "bad-json", ""},
		"no report":         {key, "/report-jobs", `{}`, 400, "bad-parameter", "report"},
		"unknown report":    {key, "/report-jobs", `{"report":"everything"}`, 400, "bad-parameter", "report"},
		"missing parameter": {key, "/report-jobs", `{"report":"monthly-usage"}`, 400, "bad-parameter", "month"},
		"unknown parameter": {key, "/report-jobs", `{"report":"monthly-usage","parameters":{"month":"2026-03","x":"1"}}`, 400, "bad-parameter", "x"},
		"bad month":         {key, "/report-jobs", `{"report":"monthly-usage","parameters":{"month":"2026-13"}}`, 400, "bad-parameter", "month"},
		"open month":        {key, "/report-jobs", `{"report":"sta-usage","parameters":{"account":"A-1","month":"2026-03"}}`, 400, "bad-parameter", "month"},
		"format":            {key, "/report-jobs", `{"report":"monthly-usage","parameters":{"month":"2026-03"},"format":"pdf"}`, 400, "bad-parameter", "format"},
		"raw":               {key, "/report-jobs", `{"report":"monthly-usage","parameters":{"month":"2026-03"},"format":"xlsx","raw":true}`, 400, "bad-parameter", "raw"},
		"line break":        {key, "/report-jobs", `{"report":"monthly-usage","parameters":{"month":"2026-03"},"name":"a\r\nBcc: x@y.z"}`, 400, "bad-parameter", "name"},
		"recipient":         {key, "/report-jobs", `{"report":"monthly-usage","parameters":{"month":"2026-03"},"recipients":"a@b.c\r\nBcc: x@y.z"}`, 400, "bad-parameter", "recipients"},
		"kept for ever":     {key, "/report-jobs", `{"report":"monthly-usage","parameters":{"month":"2026-03"},"keep_days":1827}`, 400, "bad-parameter", "keep_days"},
		"cancel nothing":    {key, "/report-jobs/nothing/cancel", ``, 404, "not-found", ""},
		"strange id":        {key, "/report-jobs/%2e%2e%2fother/cancel", ``, 404, "not-found", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, _, body := d.send(http.MethodPost, tt.key, tt.path, "", tt.body)
			var p problem.Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || status != tt.status || p.Code != tt.code {
				t.Fatalf("%d %s, want %d %s", status, body, tt.status, tt.code)
			}
			if tt.parameter != "" && (len(p.Errors) != 1 || p.Errors[0].Parameter != tt.parameter) {
				t.Errorf("errors = %+v, want one about %s", p.Errors, tt.parameter)
			}
		})
	}
	var j job
	d.post(key, "/report-jobs", `{"report":"monthly-usage","parameters":{"month":"2026-03"}}`, http.StatusAccepted, &j)
	d.done(t, key, j.ID)
	for _, path := range []string{"", "/file", "/manifest"} {
		d.refused(http.MethodGet, other, "/report-jobs/"+j.ID+path, 404, "not-found")
	}
	d.refused(http.MethodPost, other, "/report-jobs/"+j.ID+"/cancel", 404, "not-found")
	d.refused(http.MethodPost, other, "/report-jobs/"+j.ID+"/regenerate", 404, "not-found")
	d.refused(http.MethodPost, key, "/report-jobs/"+j.ID+"/cancel", 409, "job-ended")
	if status, _, _ := d.send(http.MethodGet, key, "/report-jobs/"+j.ID+"/file", "", ""); status != http.StatusOK {
		t.Errorf("the file is gone after a cancel that came too late: %d", status)
	}
	var all struct{ Rows []job }
	d.get(other, "/report-jobs", &all)
	if len(all.Rows) != 0 {
		t.Errorf("another tenant sees %+v", all.Rows)
	}
}

func TestJobFailsForTheAsker(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	key := d.key("acme", "reports:read", "reports:write")
	var j job
	d.post(key, "/report-jobs", `{"report":"sta-usage","parameters":{"account":"nobody","month":"2026-01"}}`, http.StatusAccepted, &j)
	if j = d.done(t, key, j.ID); j.State != "failed" || j.Parameter != "account" || j.Error == "" {
		t.Errorf("ended: %+v", j)
	}
	d.refused(http.MethodGet, key, "/report-jobs/"+j.ID+"/file", 404, "not-found")
}
