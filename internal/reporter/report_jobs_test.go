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
			if got, want := fmt.Sprint(m.Totals), "[{quantity 6.500000001} {events 5}]"; got != want || m.Rows != 5 || m.SHA256 != j.File.SHA256 {
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

// TestScheduleOverHTTP makes, changes and ends a schedule.
func TestScheduleOverHTTP(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	key := d.key("acme", "reports:read", "reports:write")
	other := d.key("other", "reports:read", "reports:write")
	type schedule struct {
		ID, Name, Recurrence, At, Zone, Recipients string
		Enabled                                    bool
		NextAt                                     string `json:"next_at"`
		NextFrom                                   string `json:"next_from"`
	}
	for body, parameter := range map[string]string{
		`{}`: "name",
		`{"name":"x","recurrence":"Yearly","recipients":"a@b.example"}`:                                                          "recurrence",
		`{"name":"x","recurrence":"Weekly","recipients":"a@b.example"}`:                                                          "weekday",
		`{"name":"x","recurrence":"Daily","zone":"Mars","recipients":"a@b.example"}`:                                             "zone",
		`{"name":"x","recurrence":"Daily","at":"25:00","recipients":"a@b.example"}`:                                              "at",
		`{"name":"x","recurrence":"Monthly","month_day":32,"recipients":"a@b.example"}`:                                          "month_day",
		`{"name":"x","recurrence":"Daily","report":"monthly-usage"}`:                                                             "recipients",
		`{"name":"x","recurrence":"Hourly","report":"monthly-usage","recipients":"a@b.example"}`:                                 "recurrence",
		`{"name":"x","recurrence":"Daily","report":"monthly-usage","parameters":{"month":"2026-03"},"recipients":"a@b.example"}`: "month",
		`{"name":"x","recurrence":"Daily","report":"tenant-usage","recipients":"a@b.example"}`:                                   "account",
	} {
		status, _, answer := d.send(http.MethodPost, key, "/schedules", "", body)
		var p problem.Problem
		if err := json.Unmarshal([]byte(answer), &p); err != nil || status != http.StatusBadRequest || len(p.Errors) != 1 || p.Errors[0].Parameter != parameter {
			t.Errorf("%s: %d %s, want 400 about %s", body, status, answer, parameter)
		}
	}
	var s schedule
	d.post(key, "/schedules", `{"name":"Weekly","report":"monthly-usage","recurrence":"weekly","weekday":"monday","recipients":"a@b.example, c@d.example"}`, http.StatusCreated, &s)
	if s.NextAt != "2026-03-23T01:00:00Z" || s.NextFrom != "2026-03-16" || !s.Enabled || s.Recipients != "a@b.example, c@d.example" {
		t.Errorf("made: %+v", s)
	}
	var all struct{ Rows []schedule }
	if d.get(key, "/schedules", &all); len(all.Rows) != 1 || all.Rows[0].ID != s.ID {
		t.Errorf("list: %+v", all)
	}
	if d.get(other, "/schedules", &all); len(all.Rows) != 0 {
		t.Errorf("another tenant sees %+v", all)
	}
	d.refused(http.MethodGet, other, "/schedules/"+s.ID, 404, "not-found")
	d.refused(http.MethodDelete, other, "/schedules/"+s.ID, 404, "not-found")
	d.post(key, "/schedules/"+s.ID+"/disable", "", http.StatusOK, &s)
	var disabled schedule
	if d.get(key, "/schedules/"+s.ID, &disabled); disabled.Enabled || disabled.NextAt != "" {
		t.Errorf("disabled: %+v", disabled)
	}
	status, _, answer := d.send(http.MethodPut, key, "/schedules/"+s.ID, "", `{"name":"Daily","report":"monthly-usage","recurrence":"Daily","at":"18:30","zone":"America/New_York","recipients":"a@b.example"}`)
	if status != http.StatusOK || !strings.Contains(answer, `"next_at":"2026-03-20T22:30:00Z"`) {
		t.Errorf("replaced: %d %s", status, answer)
	}
	if status, _, _ := d.send(http.MethodDelete, key, "/schedules/"+s.ID, "", ""); status != http.StatusNoContent {
		t.Errorf("deleted: %d", status)
	}
	d.refused(http.MethodGet, key, "/schedules/"+s.ID, 404, "not-found")
	var j job
	d.post(key, "/report-jobs", `{"report":"monthly-usage","parameters":{"month":"2026-03"},"name":"Both","schedule":{"recurrence":"Monthly","recipients":"a@b.example"}}`, http.StatusAccepted, &j)
	if d.get(key, "/schedules", &all); len(all.Rows) != 1 || all.Rows[0].Name != "Both" || all.Rows[0].Recurrence != "Monthly" {
		t.Errorf("made with a job: %+v", all)
	}
	d.done(t, key, j.ID)
	_, _, raw := d.send(http.MethodGet, key, "/reports/monthly-usage?month=2026-03&format=csv&raw=true", "", "")
	if !strings.Contains(raw, `"=Acme, ""MSP"""`) {
		t.Errorf("raw:\n%s", raw)
	}
	_, _, focus := d.send(http.MethodGet, key, "/reports/monthly-usage?month=2026-03&layout=focus&format=csv", "", "")
	if lines := strings.Count(focus, "\r\n"); lines != 4 || !strings.HasPrefix(focus, "BilledCost,BillingAccountId,") {
		t.Errorf("focus: %d lines\n%s", lines, focus)
	}
}
