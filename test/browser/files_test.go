package browser_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestGenerate makes a usage report of one tenant; what was typed stays after an error.
func TestGenerate(t *testing.T) {
	b := open(t)
	b.visit("/tenants?account=northwind&name=orchid")
	if len(b.rows()) != 1 {
		t.Fatalf("filtered: %q", b.rows())
	}
	b.follow("Generate Usage Report")
	eval[bool](b, `(document.querySelector("input[name=title]").value = "", true)`)
	b.fill("textarea[name=description]", "of the hotels")
	b.click("input[name=delimiter][value=pipe]")
	eval[bool](b, `(document.querySelector("input[name=title]").required = false, true)`) // the server is asked
	b.follow("Generate")
	if b.text("#f-title-fault") == "" {
		t.Error("no fault at the name")
	}
	b.wants("what was typed", eval[string](b, `document.querySelector("textarea[name=description]").value`), "of the hotels")
	b.fill("input[name=title]", "Orchid, last month")
	b.follow("Generate")
	b.await("made", `document.querySelector(".badge")?.textContent.trim() === "done"`)
	b.wants("title", b.text("h1"), "Orchid, last month")
	id := strings.TrimPrefix(eval[string](b, `location.pathname`), "/archive/")
	name := eval[string](b, `[...document.querySelectorAll("main a")].find(a => a.textContent.trim() === "Export").download`)
	b.wants("the file and the API's", b.saves("Export", name), shared.file(t, "/report-jobs/"+id+"/file"))
	if !strings.Contains(shared.file(t, "/report-jobs/"+id+"/file"), "Tenant ID|Tenant Name|") {
		t.Error("the delimiter is not the pipe")
	}
	b.visit("/archive")
	if b.row("Orchid, last month", "done") == "" {
		t.Errorf("not in the archive: %q", b.rows())
	}
	b.quiet("generating")
}

// TestCancelJob cancels a report that waits: the prompt is confirmed by Submit.
func TestCancelJob(t *testing.T) {
	var job struct{ ID string }
	ask := map[string]any{
		"report": "tenant-usage", "name": "Later", "parameters": map[string]string{"account": "northwind", "tenants": "all"},
		"as_of": time.Now().Add(2 * time.Hour).UTC().Format(time.RFC3339), // waits until then
	}
	if err := shared.api(t.Context(), http.MethodPost, "/report-jobs", ask, &job); err != nil {
		t.Fatal(err)
	}
	b := open(t)
	b.visit("/archive/" + job.ID)
	b.follow("Cancel")
	b.follow("Submit")
	b.await("cancelled", `document.querySelector(".badge")?.textContent.trim() === "cancelled"`)
	b.visit("/archive/" + job.ID + "/cancel")
	if !strings.Contains(b.text("main"), "nothing to cancel") {
		t.Errorf("cancelled twice: %s", b.text("main"))
	}
	b.quiet("cancelling")
}

// TestSchedule creates a schedule, changes it, disables, enables and deletes it, each through its prompt.
func TestSchedule(t *testing.T) {
	b := open(t)
	b.visit("/schedules/new")
	b.fill("input[name=name]", "Monday figures")
	b.choose("select[name=account]", "northwind")
	b.fill("input[name=recipients]", "finance@example.com")
	b.choose("select[name=recurrence]", "Weekly")
	b.fill("input[name=at]", "25:00")
	b.follow("Confirm")
	if b.text("#f-at-fault") == "" {
		t.Errorf("no fault at the time: %s", b.text("main"))
	}
	b.wants("what was typed", eval[string](b, `document.querySelector("input[name=recipients]").value`), "finance@example.com")
	b.fill("input[name=at]", "01:00")
	b.follow("Confirm")
	if got := b.row("Monday figures"); !strings.Contains(got, "Weekly, Monday, 01:00 UTC") || !strings.Contains(got, "enabled") {
		t.Fatalf("created: %q", got)
	}
	b.follow("Monday figures") // edited by clicking the name
	b.choose("select[name=recurrence]", "Daily")
	b.follow("Confirm")
	if got := b.row("Monday figures"); !strings.Contains(got, "Daily, 01:00 UTC") {
		t.Fatalf("edited: %q", got)
	}
	for _, step := range []struct{ do, state string }{{"Disable", "disabled"}, {"Enable", "enabled"}} {
		b.follow(step.do)
		b.follow(step.do) // of the prompt
		if got := b.row("Monday figures"); !strings.Contains(got, step.state) {
			t.Fatalf("%s: %q", step.do, got)
		}
	}
	b.follow("Delete")
	b.follow("Delete")
	if got := b.row("Monday figures"); got != "" {
		t.Fatalf("deleted: %q", got)
	}
	b.quiet("scheduling")
}

// TestConnectDownload downloads the detailed usage of one tenant, with its success message.
func TestConnectDownload(t *testing.T) {
	b := open(t)
	b.visit("/connect/organizations")
	b.follow("Manage Secure Connect") // way 2
	b.follow("Get Detailed Usage Report")
	tenant := eval[string](b, `new URLSearchParams(location.search).get("tenant")`)
	month := time.Now().UTC().AddDate(0, 0, -time.Now().UTC().Day()).Format("2006-01")
	name := fmt.Sprintf("asset-usage-detail_%s_%s.csv", tenant, month)
	got := b.saves("Download", name)
	b.await("told", `document.body.innerText.includes("made successfully")`)
	b.wants("the file and the API's", got, shared.file(t, "/reports/asset-usage-detail?format=csv&tenant="+tenant+"&month="+month))
	b.quiet("the download")
}
