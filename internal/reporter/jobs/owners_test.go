package jobs_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/reporter/guard"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
	"github.com/countinghouse/countinghouse/internal/reporter/schedules"
)

// owned is a house whose reporters judge owners as the program does.
type owned struct {
	*house
	r      *reporter
	store  *control.Client
	people *control.People
	before func(call int64) // each judgement of a job of operator:dan
	calls  atomic.Int64
}

var byTest = control.Actor{By: "test"} //nolint:gochecknoglobals // who reaches NATS

func openOwned(t *testing.T) *owned {
	h := &owned{house: open(t, "2025-03-05T12:00:00Z"), before: func(int64) {}}
	cfg := control.DefaultConfig()
	cfg.URL = h.nats
	var err error
	if h.store, err = control.Dial(t.Context(), cfg, h.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.store.Close)
	h.people = h.store.People(t.Context())
	t.Cleanup(h.people.Close)
	h.wait(t, "operators and roles to be known", h.people.Ready)
	owners := &guard.Owners{Reports: report.New(h.world.W, h.now), People: h.people, Keys: h.store.Store, Now: time.Now}
	h.house.judge = func(ctx context.Context, m guard.Made) error {
		if m.Owner == "operator:dan" {
			h.before(h.calls.Add(1))
		}
		return owners.Judge(ctx, m)
	}
	h.r = h.reporter()
	return h
}

func (h *owned) operator(login string, g access.Grant) {
	h.Helper()
	if _, err := h.people.CreateOperator(h.Context(), byTest, control.OperatorSpec{Tenant: tenant, Login: login, Grants: []access.Grant{g}}); err != nil {
		h.Fatal(err)
	}
}

func weekly() schedules.Spec {
	return schedules.Spec{
		Name: "Weekly usage", Report: "tenant-usage", Parameters: map[string]string{"account": "A-1"}, Recurrence: "Weekly", Weekday: "monday",
		Recipients: []string{"finance@example.com"},
	}
}

func (h *owned) schedule(who string) string {
	h.Helper()
	one, err := h.r.book.Create(h.Context(), tenant, who, weekly())
	if err != nil {
		h.Fatal(err)
	}
	return one.ID
}

// monday lets a Monday come, and answers the run of a schedule on it.
func (h *owned) monday(date, schedule string) jobs.Job {
	h.Helper()
	h.at(date + "T01:00:01Z")
	h.add() // the log's clock goes on
	return h.until(h.r, jobs.RunID(schedule, date), "the run of "+date, ended)
}

func (h *owned) refused() float64 {
	h.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(h.r.runs)
	families, err := registry.Gather()
	if err != nil {
		h.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == "refused" {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestScheduleOfItsOwner: a run is made with the rights that the owner of the schedule has when it is due. What they may
// not have any more is refused and seen; nothing is mailed; the schedule stays, and who saves it takes it over.
func TestScheduleOfItsOwner(t *testing.T) {
	h := openOwned(t)
	role := access.Role{Name: "Reporting", Rights: access.Rights{access.ExportReports: access.Verbs(), access.Schedules: access.Verbs()}}
	if _, err := h.people.CreateRole(t.Context(), byTest, tenant, role); err != nil {
		t.Fatal(err)
	}
	h.operator("ann", access.Grant{Role: "Reporting", Account: "A-1"})
	h.operator("bob", access.Grant{Role: access.SuperAdministrator})
	h.operator("eve", access.Grant{Role: "Reporting", Account: "A-2"})
	key, _, err := h.store.Create(t.Context(), tenant, "reports", []string{access.ScopeReportsWrite}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	reader, _, err := h.store.Create(t.Context(), tenant, "reader", []string{access.ScopeReports}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	foreign, _, err := h.store.Create(t.Context(), "other", "reports", []string{access.ScopeReportsWrite}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	anns, keys := h.schedule("operator:ann"), h.schedule("key:"+key)
	refusals, mails := 0, 0
	want := func(date, schedule, reason string) {
		t.Helper()
		j := h.monday(date, schedule)
		if reason == "" {
			mails++
		} else {
			refusals++
		}
		if state := map[bool]control.JobState{true: control.JobDone, false: control.JobRefused}[reason == ""]; j.State != state || !strings.Contains(j.Error, reason) ||
			(j.File == nil) != (reason != "") || j.EndedAt.IsZero() {
			t.Errorf("%s: %s %q %+v, want %s %q", date, j.State, j.Error, j.File, state, reason)
		}
	}
	want("2025-03-10", anns, "")
	want("2025-03-10", keys, "")
	for schedule, reason := range map[string]string{
		h.schedule("operator:eve"): "no longer within the reach of operator:eve", h.schedule("operator:nobody"): "not there any more", h.schedule("test"): "nobody is known",
		h.schedule("key:" + reader): "no scope reports:write", h.schedule("key:" + foreign): "not there any more",
	} {
		want("2025-03-17", schedule, reason)
		if err := h.r.book.Delete(t.Context(), tenant, "test", schedule); err != nil {
			t.Fatal(err)
		}
	}
	want("2025-03-17", anns, "")
	want("2025-03-17", keys, "")
	role.Rights = access.Rights{access.ExportReports: {access.View}, access.Schedules: access.Verbs()}
	if _, err := h.people.EditRole(t.Context(), byTest, tenant, role.Name, role); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Revoke(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	want("2025-03-24", anns, "no role of operator:ann allows tenant-usage as a file any more")
	want("2025-03-24", keys, "was revoked on")
	role.Rights = access.Rights{access.ExportReports: access.Verbs()}
	if _, err := h.people.EditRole(t.Context(), byTest, tenant, role.Name, role); err != nil {
		t.Fatal(err)
	}
	want("2025-03-31", anns, "no role of operator:ann allows schedules any more")
	want("2025-03-31", keys, "was revoked on")
	if _, err := h.r.book.Replace(t.Context(), tenant, "operator:bob", anns, weekly()); err != nil {
		t.Fatal(err)
	}
	if err := h.r.book.Delete(t.Context(), tenant, "test", keys); err != nil {
		t.Fatal(err)
	}
	want("2025-04-07", anns, "")
	if _, err := h.people.DisableOperator(t.Context(), byTest, tenant, "bob"); err != nil {
		t.Fatal(err)
	}
	want("2025-04-14", anns, "operator:bob: the operator is disabled since")
	// Who may have it has it made after all, in their own name.
	if _, err := h.people.EnableOperator(t.Context(), byTest, tenant, "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.r.Regenerate(t.Context(), tenant, "operator:bob", jobs.RunID(anns, "2025-04-14")); err != nil {
		t.Fatal(err)
	}
	if j := h.until(h.r, jobs.RunID(anns, "2025-04-14"), "the run made again", ended); j.State != control.JobDone || j.Error != "" {
		t.Errorf("made again: %+v", j)
	}
	mails++
	if got := h.refused(); got != float64(refusals) {
		t.Errorf("the metric says %v runs were refused, want %d", got, refusals)
	}
	if got := len(h.smtp.Mails()); got != mails {
		t.Errorf("%d mails, want %d", got, mails)
	}
	if one, err := h.r.book.Get(t.Context(), tenant, anns); err != nil || !one.Enabled || one.Owner != "operator:bob" {
		t.Errorf("the schedule: %+v %v", one, err)
	}
	fmt.Printf("owners PASS runs=%d refused=%d mails=%d\n", refusals+mails, refusals, mails)
}

// TestDisabledMeanwhile: an operator is disabled while a job of theirs is made, and between its file and its mail.
func TestDisabledMeanwhile(t *testing.T) {
	h := openOwned(t)
	h.operator("dan", access.Grant{Role: access.SuperAdministrator})
	for name, tt := range map[string]struct {
		call  int64 // of the owner's judge: 1 when it is begun, 2 when the file is stored, 3 before the mails
		state control.JobState
		mail  control.MailState
	}{
		"when it is begun": {1, control.JobRefused, control.MailWaiting}, "while it is made": {2, control.JobRefused, control.MailWaiting},
		"before the mail": {3, control.JobDone, control.MailFailed},
	} {
		if _, err := h.people.EnableOperator(t.Context(), byTest, tenant, "dan"); err != nil {
			t.Fatal(err)
		}
		h.calls.Store(0)
		h.before = func(call int64) {
			if call == tt.call {
				if _, err := h.people.DisableOperator(context.WithoutCancel(t.Context()), byTest, tenant, "dan"); err != nil {
					t.Errorf("disable: %v", err)
				}
			}
		}
		j, err := h.r.Submit(t.Context(), tenant, "operator:dan", jobs.Request{
			Report: "monthly-usage", Parameters: map[string]string{"month": "2025-02"}, Recipients: []string{"finance@example.com"},
		})
		if err != nil {
			t.Fatal(err)
		}
		j = h.until(h.r, j.ID, "the end", ended)
		text := j.Error + j.Mails[0].Error
		if j.State != tt.state || j.FileThere() != (tt.state == control.JobDone) || j.Mails[0].State != tt.mail || !strings.Contains(text, "operator:dan: the operator is disabled") {
			t.Errorf("%s: %s %q, file %t, mail %+v", name, j.State, j.Error, j.FileThere(), j.Mails[0])
		}
	}
	if mails := h.smtp.Mails(); len(mails) != 0 {
		t.Errorf("%d mails were sent", len(mails))
	}
}
