package rights_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
)

// made is a schedule, and a job with its file, about an account, as if somebody had made them.
func (h *house) made(tenant, account string, n int) (schedule, job string) {
	h.Helper()
	at := time.Now().UTC()
	ctx := h.Context()
	id := fmt.Sprintf("%08d-0000-7000-8000-%012x", n, n)
	parameters := map[string]string{"partner": account}
	s, err := h.store.AddSchedule(ctx, control.Schedule{
		Tenant: tenant, ID: "5" + id[1:], Name: "of " + account, Report: "subscriptions", Parameters: parameters, Format: "csv", KeepDays: 1, Recipients: []string{"ann@example.com"},
		Recurrence: "Monthly", MonthDay: 1, At: "01:00", Zone: "UTC", Since: at, CreatedAt: at, CreatedBy: "test", ChangedAt: at, ChangedBy: "test",
	})
	if err != nil {
		h.Fatal(err)
	}
	name := tenant + "/6" + id[1:] + "/1"
	file, err := h.store.Files(0).Put(ctx, name+".csv", strings.NewReader("of "+account+"\r\n"))
	if err != nil {
		h.Fatal(err)
	}
	manifest, err := h.store.Files(0).Put(ctx, name+".manifest.json", strings.NewReader(fmt.Sprintf(`{"report":%q}`, account)))
	if err != nil {
		h.Fatal(err)
	}
	j, err := h.store.AddJob(ctx, control.Job{
		Tenant: tenant, ID: "6" + id[1:], Name: "of " + account, Report: "subscriptions", Parameters: parameters, Format: "csv", KeepDays: 1826, State: control.JobDone,
		CreatedAt: at, CreatedBy: "test", EndedAt: at, File: &control.JobFile{
			Object: file.Name, Manifest: manifest.Name, Name: "x.csv", Bytes: file.Bytes, SHA256: file.SHA256, Rows: 1, Columns: 1, MadeAt: at.AddDate(10, 0, 0),
		},
	}, "test", at)
	if err != nil {
		h.Fatal(err)
	}
	return s.ID, j.ID
}

// who is a caller and how far they see of acme's accounts A-2 (own) and A-3 (others'), of jobs and schedules of partner reports.
type who struct {
	*caller
	own, others bool
}

// TestF24Carried carries things from one caller to another: links of files, schedules, cursors and the keys of repeated
// requests. What a caller may not see is not there for them, whatever they hold.
func TestF24Carried(t *testing.T) {
	h := open(t, 2, nil)
	h.operator("acme", "root", access.Grant{Role: access.SuperAdministrator})
	h.operator("acme", "partner", access.Grant{Role: access.PartnerAdmin, Account: "A-2"})
	h.operator("acme", "neighbour", access.Grant{Role: access.PartnerAdmin, Account: "A-3"})
	h.operator("acme", "manager", access.Grant{Role: access.AccountManager, Account: "A-2"})
	h.operator("other", "foreigner", access.Grant{Role: access.SuperAdministrator})
	all := []who{
		{h.signed("super", "root"), true, true}, {h.signed("partner of A-2", "partner"), true, false}, {h.signed("partner of A-3", "neighbour"), false, true},
		{h.signed("manager of A-2", "manager"), false, false}, {h.signed("of another tenant", "foreigner"), false, false},
		{h.keyed("acme", "reports:read", "reports:write", "usage:read"), true, true}, {h.keyed("other", "reports:read", "reports:write", "usage:read"), false, false},
	}
	asked := 0
	t.Run("jobs and schedules", func(t *testing.T) { asked += h.links(t, all) })
	t.Run("cursors", func(t *testing.T) { asked += h.cursors(t, all) })
	t.Run("repeated requests", func(t *testing.T) { asked += h.repeated(t, all) })
	pass(t, fmt.Sprintf("F24k PASS carried=%d callers=%d canaries=0", asked, len(all)))
}

// links asks for what is there of both accounts, by pages and API: the links of mails and pages are these.
func (h *house) links(t *testing.T, all []who) (asked int) {
	n := 0
	for account, sees := range map[string]func(who) bool{"A-2": func(c who) bool { return c.own }, "A-3": func(c who) bool { return c.others }} {
		_, job := h.made("acme", account, 100+len(account)+int(account[2]))
		for _, c := range all {
			want := func(ok int, status int, path, body string) {
				t.Helper()
				asked++
				if sees(c) && status != ok || !sees(c) && (status != http.StatusNotFound && status != http.StatusForbidden || strings.Contains(body, "of "+account)) {
					t.Errorf("%s of %s as %s: %d %.200s", path, account, c.name, status, body)
				}
			}
			for _, what := range []string{"", "/file", "/manifest"} {
				status, _, body := c.api(http.MethodGet, "/report-jobs/"+job+what, "")
				want(http.StatusOK, status, "GET job"+what, body)
				if c.key == "" {
					status, _, body = c.do(http.MethodGet, "/archive/"+job+what, nil, nil)
					want(http.StatusOK, status, "page of job"+what, body)
				}
			}
			status, _, body := c.api(http.MethodPost, "/report-jobs/"+job+"/cancel", "")
			want(http.StatusConflict, status, "cancel", body)
			status, _, body = c.api(http.MethodPost, "/report-jobs/"+job+"/regenerate", "")
			want(http.StatusOK, status, "regenerate", body)
			n++
			schedule, _ := h.made("acme", account, 1000+n)
			path := "/schedules/" + schedule
			edit := fmt.Sprintf(`{"name":"of %s","report":"subscriptions","parameters":{"partner":%q},"recurrence":"Daily","recipients":"eve@example.com"}`, account, account)
			mine := strings.ReplaceAll(edit, account, "A-2") // to turn somebody's schedule into one's own
			allowed := func(verb access.Verb) bool { return c.key != "" || c.name == "super" || c.may(access.Schedules, verb) }
			for _, ask := range []struct {
				method, path, body string
				verb               access.Verb
				ok                 int
			}{
				{http.MethodGet, path, "", access.View, http.StatusOK}, {http.MethodPut, path, mine, access.Edit, 0}, {http.MethodPut, path, edit, access.Edit, http.StatusOK},
				{http.MethodPost, path + "/disable", "", access.Edit, http.StatusOK}, {http.MethodPost, path + "/enable", "", access.Edit, http.StatusOK},
				{http.MethodDelete, path, "", access.Remove, http.StatusNoContent},
			} {
				if ask.ok == 0 && sees(c) {
					continue
				}
				status, _, body := c.api(ask.method, ask.path, ask.body)
				asked++
				if ok := sees(c) && allowed(ask.verb); ok && status != ask.ok || !ok && status != http.StatusNotFound && status != http.StatusForbidden {
					t.Errorf("%s schedule of %s as %s: %d %.200s", ask.method, account, c.name, status, body)
				}
			}
			if _, err := h.store.Schedule(t.Context(), "acme", schedule); (err == nil) != !(sees(c) && allowed(access.Remove)) {
				t.Errorf("the schedule of %s after %s: %v", account, c.name, err)
			}
		}
	}
	return asked
}

// may asks the tables of rights about the role that a caller of these tests has.
func (c who) may(e access.Entity, verb access.Verb) bool {
	name := map[string]string{"partner of A-2": access.PartnerAdmin, "partner of A-3": access.PartnerAdmin, "manager of A-2": access.AccountManager}[c.name]
	role, known := access.SystemRole(name)
	return known && role.Rights.Has(e, verb)
}

// cursors carries the cursor of every listing that gives one to every other caller, account and listing. Whoever gets an
// answer gets what they would without it: nothing of whom the cursor is from.
func (h *house) cursors(t *testing.T, all []who) (asked int) {
	type listing struct{ path, account string }
	given := map[listing]string{}
	for n := range 3 { // another tenant's are there, too
		h.made("other", canary+"-1", 5000+n)
		h.made("acme", "A-3", 6000+n)
	}
	listings := func(account string) []string {
		return []string{
			"/events?limit=1&account=" + account, "/months/2026-01/usage?limit=1&account=" + account, "/reports/monthly-usage?month=2026-01&limit=1&scope=tree&account=" + account,
			"/report-jobs?limit=1", "/audit-log?limit=1", "/meters/tokens/usage?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z&window=day&limit=1&account=" + account,
		}
	}
	foreigner, super := all[4], all[0]
	foreigner.until("the jobs are known", func() bool {
		_, _, body := foreigner.api(http.MethodGet, "/report-jobs?limit=1", "")
		return strings.Contains(body, `"next":"`)
	})
	for c, account := range map[*caller]string{foreigner.caller: canary + "-1", super.caller: "A-1"} {
		for _, path := range listings(account) {
			status, _, body := c.api(http.MethodGet, path, "")
			var page struct{ Next *string }
			if err := json.Unmarshal([]byte(body), &page); status == http.StatusOK && err == nil && page.Next != nil {
				given[listing{path, account}] = *page.Next
			}
		}
	}
	if len(given) < 6 {
		t.Errorf("only %d listings gave a cursor: %v", len(given), given)
	}
	for from, cursor := range given {
		for _, c := range all {
			account := "A-2"
			if c.name == "of another tenant" || c.key != "" && !c.own {
				account = canary + "-2"
			}
			for _, path := range listings(account) {
				status, _, body := c.api(http.MethodGet, path+"&cursor="+url.QueryEscape(cursor), "")
				asked++
				ours := strings.Contains(from.account, canary) == strings.Contains(account, canary)
				if status >= 500 || status == http.StatusOK && !ours || !strings.Contains(account, canary) && strings.Contains(body, canary) {
					t.Errorf("%s as %s with the cursor of %s: %d %.300s", path, c.name, from.path, status, body)
				}
				if status == http.StatusOK && !c.others && strings.Contains(body, `"A-3"`) {
					t.Errorf("%s as %s with the cursor of %s shows A-3: %.300s", path, c.name, from.path, body)
				}
			}
		}
	}
	return asked
}

// repeated sends the request of somebody once more, as somebody else, with the same Idempotency-Key: nobody is answered
// with what another got.
func (h *house) repeated(t *testing.T, all []who) (asked int) {
	const body = `{"report":"subscriptions","parameters":{"partner":"A-2"},"name":"carried"}`
	ids := map[string]string{}
	for _, c := range append(all[:2:2], all...) {
		header := map[string]string{"X-CSRF-Token": c.form, "Content-Type": "application/json", "Idempotency-Key": "the-same-for-all"}
		if c.key != "" {
			header["Authorization"] = "Bearer " + c.key
		}
		status, _, answer := c.do(http.MethodPost, "/api/v1/report-jobs", strings.NewReader(body), header)
		asked++
		var job struct {
			ID    string `json:"id"`
			Owner string `json:"owner"`
		}
		if status != http.StatusAccepted {
			continue
		}
		if err := json.Unmarshal([]byte(answer), &job); err != nil {
			t.Fatal(err)
		}
		if before, repeated := ids[job.ID]; repeated && before != job.Owner {
			t.Errorf("%s got the job of %s", job.Owner, before)
		}
		if c.name == "of another tenant" {
			if _, err := h.store.Job(t.Context(), "acme", job.ID); err == nil {
				t.Error("another tenant's request made a job of acme")
			}
		}
		ids[job.ID] = job.Owner
	}
	return asked
}
