package reporter

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
	"github.com/countinghouse/countinghouse/internal/reporter/schedules"
)

// newSchedule is the body of POST /schedules and PUT /schedules/{id}.
type newSchedule struct {
	Name        string            `json:"name,omitempty" doc:"Required"`
	Description string            `json:"description,omitempty" required:"false"`
	Report      string            `json:"report,omitempty" required:"false" doc:"tenant-usage by default"`
	Parameters  map[string]string `json:"parameters,omitempty" required:"false" doc:"Of the report, but for its period, which every run sets"`
	Format      string            `json:"format,omitempty" required:"false" doc:"csv by default"`
	Raw         bool              `json:"raw,omitempty" required:"false" doc:"CSV without the guard against formulas"`
	KeepDays    int               `json:"keep_days,omitempty" required:"false" doc:"Days that files are kept, 1 to 1826; default 365"`
	Recipients  string            `json:"recipients,omitempty" doc:"Addresses that get each file by mail, separated by commas; at least one"`
	Recurrence  string            `json:"recurrence,omitempty" doc:"Daily, Weekly or Monthly; for elastic-usage also Hourly"`
	Weekday     string            `json:"weekday,omitempty" required:"false" doc:"Of Weekly: Monday, Tuesday, …"`
	MonthDay    int               `json:"month_day,omitempty" required:"false" doc:"Of Monthly, 1 to 31; default 1. A month without that day has its last one"`
	At          string            `json:"at,omitempty" required:"false" doc:"Time of day in the zone; default 01:00. Not before the day begins in UTC"`
	Zone        string            `json:"zone,omitempty" required:"false" doc:"Of the time zone database; default UTC"`
	Enabled     *bool             `json:"enabled,omitempty" required:"false" doc:"Default true"`
}

func (b *newSchedule) spec() schedules.Spec {
	spec := schedules.Spec{
		Name: b.Name, Description: b.Description, Report: b.Report, Parameters: b.Parameters, Format: b.Format, Raw: b.Raw, KeepDays: b.KeepDays,
		Recurrence: b.Recurrence, Weekday: b.Weekday, MonthDay: b.MonthDay, At: b.At, Zone: b.Zone, Disabled: b.Enabled != nil && !*b.Enabled,
	}
	if b.Recipients != "" {
		spec.Recipients = []string{b.Recipients}
	}
	return spec
}

// take fills in what a schedule that comes with a job shares with it.
func (b *newSchedule) take(job *newJob) error {
	if b.Report != "" || b.Parameters != nil || b.Format != "" || b.Raw || b.KeepDays != 0 {
		return wrong("schedule", "report, parameters, format, raw and keep_days are those of the job: leave them out")
	}
	b.Report, b.Parameters, b.Format, b.Raw, b.KeepDays = job.Report, maps.Clone(job.Parameters), job.Format, job.Raw, job.KeepDays
	for _, p := range schedules.PeriodParameters() {
		delete(b.Parameters, p)
	}
	if b.Name == "" {
		b.Name = job.Name
	}
	if b.Description == "" {
		b.Description = job.Description
	}
	if b.Recipients == "" {
		b.Recipients = job.Recipients
	}
	return nil
}

// scheduleView is a schedule as the API shows it.
type scheduleView struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Report      string            `json:"report"`
	Parameters  map[string]string `json:"parameters"`
	Format      string            `json:"format"`
	Raw         bool              `json:"raw"`
	KeepDays    int               `json:"keep_days"`
	Recipients  string            `json:"recipients"`
	Recurrence  string            `json:"recurrence"`
	Weekday     string            `json:"weekday,omitempty"`
	MonthDay    int               `json:"month_day,omitempty"`
	At          string            `json:"at"`
	Zone        string            `json:"zone"`
	When        string            `json:"when" doc:"The times in words: Weekly, Monday, 01:00 UTC"`
	Enabled     bool              `json:"enabled"`
	Owner       string            `json:"owner" doc:"Who saved it last. Its runs are made with the rights they have then; what they may not have any more is refused, until somebody who may saves it"`
	NextAt      time.Time         `json:"next_at,omitzero" doc:"When it runs next"`
	NextFrom    string            `json:"next_from,omitempty" doc:"First day that the next run covers"`
	NextTo      string            `json:"next_to,omitempty" doc:"Last day that it covers"`
	CreatedAt   time.Time         `json:"created_at"`
	CreatedBy   string            `json:"created_by"`
	ChangedAt   time.Time         `json:"changed_at"`
	ChangedBy   string            `json:"changed_by"`
}

func viewSchedule(one schedules.Schedule) scheduleView {
	return scheduleView{
		ID: one.ID, Name: one.Name, Description: one.Description, Report: one.Report, Parameters: one.Parameters, Format: one.Format, Raw: one.Raw,
		KeepDays: one.KeepDays, Recipients: strings.Join(one.Recipients, ", "), Recurrence: one.Recurrence, Weekday: one.Weekday, MonthDay: one.MonthDay,
		At: one.At, Zone: one.Zone, When: schedules.Words(&one.Schedule), Enabled: one.Enabled, Owner: jobs.OwnerOf(&one.Schedule), NextAt: one.Next, NextFrom: one.NextFrom, NextTo: one.NextTo,
		CreatedAt: one.CreatedAt, CreatedBy: one.CreatedBy, ChangedAt: one.ChangedAt, ChangedBy: one.ChangedBy,
	}
}

type scheduleOutput struct{ Body scheduleView }

type schedulesOutput struct{ Body schedulesAnswer }

type schedulesAnswer struct {
	Rows []scheduleView `json:"rows" doc:"By name"`
}

func (a schedulesAnswer) columns() []string {
	return []string{"id", "name", "report", "recurrence", "weekday", "month_day", "at", "zone", "enabled", "next_at", "recipients"}
}

func (a schedulesAnswer) cells(row func(...cell)) {
	for _, v := range a.Rows {
		day := plain("")
		if v.MonthDay > 0 {
			day = whole(v.MonthDay)
		}
		row(plain(v.ID), text(v.Name), plain(v.Report), plain(v.Recurrence), plain(v.Weekday), day, plain(v.At), plain(v.Zone), boolean(v.Enabled), moment(v.NextAt), text(v.Recipients))
	}
}

// ContentType names the character set of CSV.
func (a schedulesAnswer) ContentType(ct string) string { return tableType(ct) }

func (s *server) registerSchedules() {
	const tag = "schedules"
	const rule = "A run covers days of UTC that are over: the day before, the seven days before the weekday, or the month before. " +
		"Runs that were due while the schedule was disabled are not made up; after a time in which no reporter ran, the one that was due last is made."
	create := operation("create-schedule", http.MethodPost, "/schedules", tag, "Make a report again and again, and send it by mail", rule)
	create.DefaultStatus, create.RequestBody = http.StatusCreated, jsonBody[newSchedule](s, "NewSchedule")
	register(s, endpoint{Operation: create}, func(ctx context.Context, who caller, in *rawBody) (*scheduleOutput, error) {
		spec, err := s.readSchedule(ctx, who, in.RawBody)
		if err != nil {
			return nil, err
		}
		one, err := s.schedules.Create(ctx, who.Tenant, who.actor().By, spec)
		return &scheduleOutput{viewSchedule(one)}, err
	})
	register(s, endpoint{Operation: operation("schedules", http.MethodGet, "/schedules", tag, "Schedules, and when they run next", ""), rows: true},
		func(ctx context.Context, who caller, _ *tableInput) (*schedulesOutput, error) {
			all, err := s.schedules.List(ctx, who.Tenant)
			out := &schedulesOutput{schedulesAnswer{Rows: []scheduleView{}}}
			if err == nil {
				all, err = seen(ctx, s, who, all, func(one *schedules.Schedule) (string, map[string]string) { return one.Report, one.Parameters })
			}
			for _, one := range all {
				out.Body.Rows = append(out.Body.Rows, viewSchedule(one))
			}
			return out, err
		})
	register(s, endpoint{Operation: operation("schedule", http.MethodGet, "/schedules/{id}", tag, "One schedule", "")},
		func(ctx context.Context, who caller, in *oneID) (*scheduleOutput, error) {
			one, err := s.schedule(ctx, who, in.ID)
			return &scheduleOutput{viewSchedule(one)}, err
		})
	edit := operation("edit-schedule", http.MethodPut, "/schedules/{id}", tag, "Make a schedule another", "The body is the whole schedule, as for POST. "+rule)
	edit.RequestBody = jsonBody[newSchedule](s, "NewSchedule")
	register(s, endpoint{Operation: edit}, func(ctx context.Context, who caller, in *oneIDBody) (*scheduleOutput, error) {
		if _, err := s.schedule(ctx, who, in.ID); err != nil {
			return nil, err
		}
		spec, err := s.readSchedule(ctx, who, in.RawBody)
		if err != nil {
			return nil, err
		}
		one, err := s.schedules.Replace(ctx, who.Tenant, who.actor().By, in.ID, spec)
		return &scheduleOutput{viewSchedule(one)}, err
	})
	s.registerSwitch(operation("enable-schedule", http.MethodPost, "/schedules/{id}/enable", tag, "Enable a schedule", "Runs begin with the next that becomes due."), true)
	s.registerSwitch(operation("disable-schedule", http.MethodPost, "/schedules/{id}/disable", tag, "Disable a schedule", "Runs that become due meanwhile are not made up."), false)
	remove := operation("remove-schedule", http.MethodDelete, "/schedules/{id}", tag, "End a schedule for ever", "What it made stays.")
	remove.DefaultStatus = http.StatusNoContent
	register(s, endpoint{Operation: remove}, func(ctx context.Context, who caller, in *oneID) (*none, error) {
		if _, err := s.schedule(ctx, who, in.ID); err != nil {
			return nil, err
		}
		if err := s.schedules.Delete(ctx, who.Tenant, who.actor().By, in.ID); err != nil {
			return nil, err
		}
		return nil, nil //nolint:nilnil // 204 has no body
	})
}

func (s *server) registerSwitch(op huma.Operation, enabled bool) {
	register(s, endpoint{Operation: op}, func(ctx context.Context, who caller, in *oneID) (*scheduleOutput, error) {
		if _, err := s.schedule(ctx, who, in.ID); err != nil {
			return nil, err
		}
		one, err := s.schedules.SetEnabled(ctx, who.Tenant, who.actor().By, in.ID, enabled)
		return &scheduleOutput{viewSchedule(one)}, err
	})
}

// schedule is a schedule that the caller may see.
func (s *server) schedule(ctx context.Context, who caller, id string) (schedules.Schedule, error) {
	one, err := s.schedules.Get(ctx, who.Tenant, id)
	if err != nil {
		return one, err
	}
	seen, err := s.sees(ctx, who, one.Report, one.Parameters)
	if err == nil && !seen {
		err = refuse(codeNotFound, "no schedule "+id)
	}
	return one, err
}

// readSchedule reads a body of what the caller may have.
func (s *server) readSchedule(ctx context.Context, who caller, raw []byte) (schedules.Spec, error) {
	var body newSchedule
	if err := readBody(raw, &body); err != nil {
		return schedules.Spec{}, err
	}
	spec := body.spec()
	return spec, s.mayHave(ctx, who, cmp.Or(spec.Report, schedules.ReportDefault), spec.Parameters)
}

// digest is a SHA-256 as RFC 9530 writes it.
func digest(sha256 string) string {
	b, _ := hex.DecodeString(sha256) // ours
	return "sha-256=:" + base64.StdEncoding.EncodeToString(b) + ":"
}
