package web

import (
	"maps"
	"strings"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
	"github.com/countinghouse/countinghouse/internal/reporter/schedules"
)

func schedulePages() []page {
	of := func(pattern, title, menu string, verb access.Verb, serve func(*Site, *visit) (templ.Component, error)) page {
		return page{pattern: pattern, title: title, entity: access.Schedules, verb: verb, menu: menu, serve: serve}
	}
	return []page{
		of("GET /schedules", "Scheduled Reports", menuFiles, access.View, (*Site).schedules),
		of("GET /schedules/new", "Schedule a report", "", access.Add, (*Site).scheduleNew),
		of("POST /schedules/new", "Schedule a report", "", access.Add, (*Site).scheduleCreate),
		of("GET /schedules/{id}", "Scheduled report", "", access.View, (*Site).schedule),
		of("POST /schedules/{id}", "Scheduled report", "", access.Edit, (*Site).scheduleSave),
		of("GET /schedules/{id}/enable", "Enable the schedule", "", access.Edit, (*Site).scheduleAskEnable),
		of("POST /schedules/{id}/enable", "Enable the schedule", "", access.Edit, (*Site).scheduleEnable),
		of("GET /schedules/{id}/disable", "Disable the schedule", "", access.Edit, (*Site).scheduleAskDisable),
		of("POST /schedules/{id}/disable", "Disable the schedule", "", access.Edit, (*Site).scheduleDisable),
		of("GET /schedules/{id}/delete", "Delete the schedule", "", access.Remove, (*Site).scheduleAskDelete),
		of("POST /schedules/{id}/delete", "Delete the schedule", "", access.Remove, (*Site).scheduleDelete),
	}
}

// taskTypes are the reports that the viewer may have scheduled.
func taskTypes(v *visit) []option {
	var all []option
	needs := access.ReportNeeds()
	for _, name := range []string{
		"tenant-usage", "sta-usage", "monthly-usage", "asset-usage-detail", "asset-monthly-costs", "elastic-usage", "subscriptions", "transactions", "certificate-usage",
	} {
		if v.viewer.MayAll(needs[name].All(true)) {
			all = append(all, option{name, taskTitle(name)})
		}
	}
	return all
}

// taskTitle is what a scheduled report is called; that of tenants is the Usage Report.
func taskTitle(name string) string {
	switch name {
	case "tenant-usage":
		return "Usage Report"
	case "sta-usage":
		return "Usage Report (STA)"
	}
	return reportTitle(name)
}

func scheduleDefaults(f *form) {
	for name, value := range map[string]string{"recurrence": "Monthly", "weekday": "Monday", "at": "01:00", "zone": "UTC", "enabled": "on", "report": "tenant-usage", "format": "csv"} {
		f.values.Set(name, value)
	}
}

// scheduleFaults are which field stands for which part of a schedule.
func scheduleFaults() []string {
	return []string{"tenant", "account", "organization", "account", "partner", "account", "delimiter", "format"}
}

// timesOf reads when a schedule runs, and who gets its files.
func timesOf(f *form, spec schedules.Spec) schedules.Spec {
	spec.Recurrence, spec.Weekday, spec.At, spec.Zone = f.text("recurrence"), f.text("weekday"), f.text("at"), f.text("zone")
	if !strings.EqualFold(spec.Recurrence, "Weekly") {
		spec.Weekday = ""
	}
	spec.Recipients, spec.Disabled = listOf(f.text("recipients")), f.text("enabled") == ""
	return spec
}

// addSchedule stores the schedule of the dialog Generate Usage Report: the same question, but for its period.
func (s *Site) addSchedule(v *visit, f *form, r jobs.Request) error {
	parameters := maps.Clone(r.Parameters)
	for _, name := range []string{"period", "from", "to"} {
		delete(parameters, name)
	}
	spec := timesOf(f, schedules.Spec{Name: r.Name, Description: r.Description, Report: r.Report, Parameters: parameters, Format: r.Format})
	_, err := s.Schedules.Create(v.Context(), v.viewer.Tenant, v.actor().By, spec)
	return err
}

func (s *Site) schedules(v *visit) (templ.Component, error) {
	all, err := s.Schedules.List(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	if all, err = within(s, v, all, func(one *schedules.Schedule) (string, map[string]string) { return one.Report, one.Parameters }); err != nil {
		return nil, err
	}
	runs, err := s.Jobs.List(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	last := map[string]*jobs.Job{}
	for i := range runs { // newest first
		if id := runs[i].Schedule; id != "" && last[id] == nil {
			last[id] = &runs[i]
		}
	}
	v.lead = "Reports made again and again by themselves, and sent by mail."
	if v.viewer.May(access.Schedules, access.Add) && len(taskTypes(v)) > 0 {
		v.actions = []action{{title: "Schedule a report", href: "/schedules/new", main: true}}
	}
	t := table{
		name: "Scheduled reports",
		columns: []column{
			{title: "Name", kind: asHead}, {title: "Task type"}, {title: "Recurrence"}, {title: "Next run, UTC", kind: asShort}, {title: "It covers", kind: asShort},
			{title: "Last result"}, {title: "State", kind: asShort}, {title: "Actions"},
		},
		empty: empty{text: "No report is scheduled yet. Schedule one here, or tick Schedule Report where a report is generated.", do: "Schedule a report", href: "/schedules/new"},
	}
	for i := range all {
		one := &all[i]
		covers := ""
		if one.NextFrom != "" {
			covers = one.NextFrom + " to " + one.NextTo
		}
		t.rows = append(t.rows, row{
			linked(one.Name, "/schedules/"+one.ID), txt(taskTitle(one.Report)), txt(schedules.Words(&one.Schedule)), txt(minute(one.Next)), txt(covers),
			comp(lastResult(last[one.ID])), comp(scheduleState(one)), comp(scheduleActions(v, one)),
		})
	}
	return v.paged(t), nil
}

type scheduleView struct {
	v        *visit
	f        *form
	action   string
	types    []option
	accounts field
	runs     table
	changes  bool
}

// scheduleForm is the form of a schedule.
func (s *Site) scheduleForm(v *visit, view scheduleView) (templ.Component, error) {
	v.crumbs = []crumb{{"Scheduled Reports", "/schedules"}}
	all, err := s.Reports.Accounts(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	// Accounts of which the viewer may have any report.
	var accounts []report.AccountInfo
	inside := map[string]bool{}
	for _, a := range all {
		if inside[a.Parent] || s.reachesAny(v, a.ID) {
			inside[a.ID] = true
			accounts = append(accounts, a)
		}
	}
	view.v, view.types = v, taskTypes(v)
	view.accounts = hinted(accountField(view.f, "account", "Account", "", accounts), "Whose report it is: the provider, organization, tenant or partner.")
	return schedulePage(view), nil
}

// reachesAny reports whether a right of the viewer begins at the account.
func (s *Site) reachesAny(v *visit, account string) bool {
	for _, held := range v.viewer.Held {
		if held.Account == "" || held.Account == account {
			return true
		}
	}
	return false
}

func (s *Site) scheduleNew(v *visit) (templ.Component, error) {
	f := newForm(nil)
	scheduleDefaults(f)
	types := taskTypes(v)
	if len(types) == 0 {
		return nil, ErrForbidden
	}
	f.values.Set("report", types[0].value)
	return s.scheduleForm(v, scheduleView{f: f, action: "/schedules/new", changes: true})
}

// specOf is the schedule that the form describes. What the form has no field for stays as it was.
func specOf(f *form, have control.Schedule) schedules.Spec {
	spec := schedules.Spec{
		Name: f.text("name"), Description: f.text("description"), Report: f.text("report"), Format: f.text("format"), Parameters: map[string]string{},
		Raw: have.Raw, KeepDays: have.KeepDays, MonthDay: have.MonthDay,
	}
	if have.Report == spec.Report {
		maps.Copy(spec.Parameters, have.Parameters)
	}
	delete(spec.Parameters, "delimiter") // is the format's
	if root := report.RootParameter(spec.Report); root != "" {
		spec.Parameters[root] = f.text("account")
		if f.text("account") == "" {
			delete(spec.Parameters, root)
		}
	}
	if spec.Report == "tenant-usage" && spec.Parameters["tenants"] == "" {
		spec.Parameters["tenants"] = "all"
	}
	return timesOf(f, spec)
}

func (s *Site) scheduleCreate(v *visit) (templ.Component, error) {
	f := v.form()
	spec := specOf(f, control.Schedule{})
	if err := s.mayHaveMade(v, spec.Report, spec.Parameters); err != nil {
		return nil, err
	}
	one, err := s.Schedules.Create(v.Context(), v.viewer.Tenant, v.actor().By, spec)
	if err == nil {
		v.flash("good", one.Name+" was scheduled.")
		return nil, redirect{"/schedules"}
	}
	if err := refusedJob(f, err, scheduleFaults()...); err != nil {
		return nil, err
	}
	return s.scheduleForm(v, scheduleView{f: f, action: "/schedules/new", changes: true})
}

// theSchedule is the one that the address names, if the viewer may have its report.
func (s *Site) theSchedule(v *visit) (schedules.Schedule, error) {
	one, err := s.Schedules.Get(v.Context(), v.viewer.Tenant, v.PathValue("id"))
	if err != nil {
		return one, err
	}
	v.crumbs = []crumb{{"Scheduled Reports", "/schedules"}}
	return one, s.seen(v, one.Report, one.Parameters)
}

func (s *Site) schedule(v *visit) (templ.Component, error) {
	one, err := s.theSchedule(v)
	if err != nil {
		return nil, err
	}
	f := newForm(nil)
	for name, value := range map[string]string{
		"name": one.Name, "description": one.Description, "report": one.Report, "account": one.Parameters[report.RootParameter(one.Report)], "format": one.Format,
		"recipients": strings.Join(one.Recipients, ", "), "recurrence": one.Recurrence, "weekday": one.Weekday, "at": one.At, "zone": one.Zone,
	} {
		f.values.Set(name, value)
	}
	if one.Parameters["delimiter"] == "pipe" {
		f.values.Set("format", "csv-pipe")
	}
	if one.Enabled {
		f.values.Set("enabled", "on")
	}
	return s.scheduleShown(v, one, f)
}

func (s *Site) scheduleShown(v *visit, one schedules.Schedule, f *form) (templ.Component, error) {
	v.title = one.Name
	runs, err := s.Schedules.Runs(v.Context(), v.viewer.Tenant, one.ID)
	if err != nil {
		return nil, err
	}
	view := scheduleView{f: f, action: "/schedules/" + one.ID, changes: v.viewer.May(access.Schedules, access.Edit)}
	view.runs = table{
		name: "Runs", columns: []column{{title: "Run", kind: asHead}, {title: "Made", kind: asShort}, {title: "State"}, {title: "Rows", kind: asNumber}, {title: "File"}},
		empty: empty{text: "It has not run yet. " + nextText(one)},
	}
	for i := range runs {
		j := &runs[i]
		view.runs.rows = append(view.runs.rows, row{linked(j.Run, "/archive/"+j.ID), txt(minute(j.EndedAt)), comp(jobState(j)), txt(rowsText(j)), comp(jobFile(j))})
	}
	if view.changes {
		title := "Enable"
		if one.Enabled {
			title = "Disable"
		}
		v.actions = append(v.actions, action{title: title, href: "/schedules/" + one.ID + "/" + strings.ToLower(title)})
	}
	if v.viewer.May(access.Schedules, access.Remove) {
		v.actions = append(v.actions, action{title: "Delete", href: "/schedules/" + one.ID + "/delete"})
	}
	v.lead = nextText(one) + " It is made with the rights of " + jobs.OwnerOf(&one.Schedule) + ", who saved it last."
	if len(runs) > 0 && runs[0].State == control.JobRefused {
		v.lead += " The last run was refused: " + runs[0].Error + ". Who may have the report saves the schedule to take it over."
	}
	return s.scheduleForm(v, view)
}

func nextText(one schedules.Schedule) string {
	if one.Next.IsZero() {
		return "It is disabled and does not run."
	}
	return "Its next run is on " + minute(one.Next) + " UTC and covers " + one.NextFrom + " to " + one.NextTo + "."
}

func (s *Site) scheduleSave(v *visit) (templ.Component, error) {
	one, err := s.theSchedule(v)
	if err != nil {
		return nil, err
	}
	f := v.form()
	spec := specOf(f, one.Schedule)
	if err := s.mayHaveMade(v, spec.Report, spec.Parameters); err != nil {
		return nil, err
	}
	changed, err := s.Schedules.Replace(v.Context(), v.viewer.Tenant, v.actor().By, one.ID, spec)
	if err == nil {
		v.flash("good", changed.Name+" was changed.")
		return nil, redirect{"/schedules"}
	}
	if err := refusedJob(f, err, scheduleFaults()...); err != nil {
		return nil, err
	}
	return s.scheduleShown(v, one, f)
}

// askSchedule asks before a schedule is changed.
func (s *Site) askSchedule(v *visit, do, detail string) (templ.Component, error) {
	one, err := s.theSchedule(v)
	if err != nil {
		return nil, err
	}
	v.crumbs = append(v.crumbs, crumb{one.Name, "/schedules/" + one.ID})
	return confirm(v, confirmation{
		action: "/schedules/" + one.ID + "/" + strings.ToLower(do), ask: do + " “" + one.Name + "”?", detail: detail, do: do, danger: do == "Delete", back: "/schedules",
	}), nil
}

func (s *Site) scheduleAskEnable(v *visit) (templ.Component, error) {
	return s.askSchedule(v, "Enable", "It runs again from its next time on. Runs that were due meanwhile are not made up.")
}

func (s *Site) scheduleAskDisable(v *visit) (templ.Component, error) {
	return s.askSchedule(v, "Disable", "It no longer runs until it is enabled again. Runs that are due meanwhile are not made up.")
}

func (s *Site) scheduleAskDelete(v *visit) (templ.Component, error) {
	return s.askSchedule(v, "Delete", "It does not run any more. The reports that it made stay in the archive.")
}

func (s *Site) scheduleEnable(v *visit) (templ.Component, error)  { return s.scheduleSet(v, true) }
func (s *Site) scheduleDisable(v *visit) (templ.Component, error) { return s.scheduleSet(v, false) }

func (s *Site) scheduleSet(v *visit, enabled bool) (templ.Component, error) {
	one, err := s.theSchedule(v)
	if err != nil {
		return nil, err
	}
	if _, err := s.Schedules.SetEnabled(v.Context(), v.viewer.Tenant, v.actor().By, one.ID, enabled); err != nil {
		return nil, err
	}
	v.flash("good", one.Name+" was "+map[bool]string{true: "enabled", false: "disabled"}[enabled]+".")
	return nil, redirect{"/schedules"}
}

func (s *Site) scheduleDelete(v *visit) (templ.Component, error) {
	one, err := s.theSchedule(v)
	if err != nil {
		return nil, err
	}
	if err := s.Schedules.Delete(v.Context(), v.viewer.Tenant, v.actor().By, one.ID); err != nil {
		return nil, err
	}
	v.flash("good", one.Name+" was deleted.")
	return nil, redirect{"/schedules"}
}
