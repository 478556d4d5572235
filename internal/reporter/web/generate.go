package web

import (
	"errors"
	"fmt"
	"strings"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
)

// generateView is the dialog Generate Usage Report.
type generateView struct {
	v      *visit
	f      *form
	filter tenantFilter
	title  string
}

func delimiters() []option { return []option{{"comma", "Comma (,)"}, {"pipe", "Pipe (|)"}} }

// generateOf reads whose report it is, for the dialog and for what it sends.
func (s *Site) generateOf(v *visit, f *form) (view generateView, accounts []report.AccountInfo, err error) {
	if !v.mayGenerate() {
		return view, nil, ErrForbidden
	}
	accounts, choice, provider, err := s.tenantsOf(v, f, access.Add)
	if err != nil {
		return view, nil, err
	}
	if len(choice) == 0 {
		return view, nil, ErrNotFound
	}
	filter := filterOf(f, provider)
	view = generateView{v: v, f: f, filter: filter, title: filter.title(accounts)}
	v.crumbs, v.lead = []crumb{{"Tenants", href("/tenants", "account", provider.ID)}}, "A CSV file about "+view.title+". It is made in the background and kept in the report archive."
	if len(filter.of(accounts)) == 0 {
		return view, nil, ErrNotFound
	}
	return view, accounts, nil
}

func (s *Site) tenantGenerate(v *visit) (templ.Component, error) {
	// The names of the filter and of the dialog are not the same: "name" is the filter's, "title" the report's.
	f := newForm(v.URL.Query())
	view, _, err := s.generateOf(v, f)
	if err != nil {
		return nil, err
	}
	f.values.Set("title", "Usage Report "+view.filter.provider.Name)
	if view.filter.one != "" {
		f.values.Set("title", "Usage Report "+view.title)
	}
	f.values.Set("delimiter", "comma")
	f.values.Set("period", "last_month")
	scheduleDefaults(f)
	return generatePage(view), nil
}

func (s *Site) tenantSubmit(v *visit) (templ.Component, error) {
	f := v.form()
	view, accounts, err := s.generateOf(v, f)
	if err != nil {
		return nil, err
	}
	if f.text("title") == "" {
		f.refuse("title", "Give the report a name: it stands in the archive under it.")
	}
	r := jobs.Request{
		Report: "tenant-usage", Format: "csv", Name: f.text("title"), Description: f.text("description"),
		Parameters: map[string]string{"account": view.filter.provider.ID, "tenants": view.filter.asked(accounts), "delimiter": f.text("delimiter")},
	}
	period := periodOf(f)
	for i := 0; i+1 < len(period); i += 2 {
		r.Parameters[period[i]] = period[i+1]
	}
	scheduled := f.text("schedule") != ""
	if scheduled && !v.viewer.May(access.Schedules, access.Add) {
		return nil, ErrForbidden
	}
	if !f.ok() {
		return generatePage(view), nil
	}
	if err := s.mayHaveMade(v, r.Report, r.Parameters); err != nil {
		return nil, err
	}
	if _, err := s.Jobs.Check(v.Context(), v.viewer.Tenant, r); err != nil {
		return generatePage(view), refusedJob(f, err, "name", "title")
	}
	if scheduled { // before the job: what is wrong with the schedule is said before anything is made
		if err := s.addSchedule(v, f, r); err != nil {
			return generatePage(view), refusedJob(f, err, "name", "title")
		}
	}
	job, err := s.Jobs.Submit(v.Context(), v.viewer.Tenant, v.actor().By, r)
	if err != nil {
		return generatePage(view), refusedJob(f, err, "name", "title")
	}
	told := fmt.Sprintf("%s is being made.", job.Name)
	if scheduled {
		told += " Its schedule is in Scheduled Reports."
	}
	v.flash("good", told)
	return nil, redirect{"/archive/" + job.ID}
}

// refusedJob is refused for what jobs and schedules say; a fault without a field stands at the form's first.
func refusedJob(f *form, err error, fields ...string) error {
	var bad *report.Error
	if errors.As(err, &bad) && bad.Code != report.CodeNotFound {
		if err := refused(f, err, fields...); err == nil {
			return nil
		}
		f.refuse("", sentence(bad.Detail))
		return nil
	}
	return err
}

// tenantsText says which tenants a stored question is about.
func tenantsText(parameters map[string]string) string {
	switch list := parameters["tenants"]; {
	case list == "" || list == "all":
		return "all tenants"
	default:
		return plural(strings.Count(list, ",")+1, "tenant")
	}
}
