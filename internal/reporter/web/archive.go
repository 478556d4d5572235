package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/reporter/guard"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
)

func archivePages() []page {
	one := func(pattern string, verb access.Verb, serve func(*Site, *visit) (templ.Component, error)) page {
		return page{pattern: pattern, title: "Report", entity: access.Archive, verb: verb, serve: serve}
	}
	return []page{
		{pattern: "GET /archive", title: "Report Archive", entity: access.Archive, verb: access.View, menu: menuFiles, serve: (*Site).archive},
		one("GET /archive/{id}", access.View, (*Site).archiveJob),
		one("GET /archive/{id}/file", access.View, (*Site).archiveFile),
		one("GET /archive/{id}/manifest", access.View, (*Site).archiveManifest),
		one("GET /archive/{id}/cancel", access.Remove, (*Site).archiveAsk),
		one("POST /archive/{id}/cancel", access.Remove, (*Site).archiveCancel),
		one("POST /archive/{id}/regenerate", access.Add, (*Site).archiveAgain),
	}
}

// mayHaveMade refuses what the viewer may not have made in the background.
func (s *Site) mayHaveMade(v *visit, name string, parameters map[string]string) error {
	return guard.Job(v.Context(), s.Reports, v.viewer, name, parameters)
}

// within drops what the viewer may not see from a list.
func within[T any](s *Site, v *visit, all []T, of func(*T) (string, map[string]string)) ([]T, error) {
	kept := all[:0]
	for i := range all {
		name, parameters := of(&all[i])
		switch err := s.seen(v, name, parameters); {
		case err == nil:
			kept = append(kept, all[i])
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return kept, nil
}

// seen is ErrNotFound for a job or schedule that the viewer may not see.
func (s *Site) seen(v *visit, name string, parameters map[string]string) error {
	ok, err := guard.Sees(v.Context(), s.Reports, v.viewer, name, parameters)
	if err == nil && !ok {
		err = ErrNotFound
	}
	return err
}

type archiveView struct {
	v     *visit
	table table
	pager templ.Component
	state string
	live  bool // something is being made
}

func archiveStates() []tab {
	return []tab{{"All", "", false}, {"Being made", "running", false}, {"Done", "done", false}, {"Failed", "failed", false}, {"Cancelled", "cancelled", false}, {"Refused", "refused", false}}
}

func (s *Site) archive(v *visit) (templ.Component, error) {
	all, err := s.Jobs.List(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	if all, err = within(s, v, all, func(j *jobs.Job) (string, map[string]string) { return j.Report, j.Parameters }); err != nil {
		return nil, err
	}
	v.lead = "Reports made in the background, and their files. A file that was removed can be made again, to the same bytes."
	view := archiveView{v: v, state: v.query("state")}
	view.table = table{
		name: "Report archive",
		columns: []column{
			{title: "Name", kind: asHead}, {title: "Report"}, {title: "Asked for", kind: asShort}, {title: "By"}, {title: "State"}, {title: "Rows", kind: asNumber}, {title: "File"},
		},
		empty: empty{text: "No report here yet. One that is generated, and every run of a schedule, is kept here."},
	}
	if v.mayGenerate() {
		view.table.empty.do, view.table.empty.href = "Generate a Usage Report", "/tenants"
	}
	for i := range all {
		j := &all[i]
		running := !j.State.Ended()
		view.live = view.live || running
		if view.state != "" && view.state != string(j.State) && (view.state != "running" || !running) {
			continue
		}
		view.table.rows = append(view.table.rows, row{
			linked(j.Name, "/archive/"+j.ID), txt(reportTitle(j.Report)), txt(minute(j.CreatedAt)), txt(j.CreatedBy), comp(jobState(j)), txt(rowsText(j)), comp(jobFile(j)),
		})
	}
	view.table.rows, view.pager = v.rows(view.table.rows)
	if v.partial() {
		return sheet(view.table), nil
	}
	return archivePage(view), nil
}

func rowsText(j *jobs.Job) string {
	if j.Rows == 0 && j.State != control.JobDone {
		return ""
	}
	return whole(j.Rows)
}

// reportTitle is what a report is called.
func reportTitle(name string) string {
	if d, ok := report.Define(name); ok {
		return d.Title
	}
	return name
}

// minute is an instant for people; "" for none.
func minute(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02 15:04")
}

func jobTone(state control.JobState) string {
	switch state {
	case control.JobDone:
		return "good"
	case control.JobFailed, control.JobRefused:
		return "bad"
	case control.JobRunning, control.JobQueued:
		return "accent"
	}
	return ""
}

func failedMails(j *jobs.Job) int {
	n := 0
	for _, m := range j.Mails {
		if m.State == control.MailFailed {
			n++
		}
	}
	return n
}

// job is the one the address names, if the viewer may have it.
func (s *Site) job(v *visit) (jobs.Job, error) {
	j, err := s.Jobs.Get(v.Context(), v.viewer.Tenant, v.PathValue("id"))
	if err != nil {
		return j, err
	}
	v.title, v.crumbs = j.Name, []crumb{{"Report Archive", "/archive"}}
	return j, s.seen(v, j.Report, j.Parameters)
}

type jobView struct {
	v        *visit
	job      jobs.Job
	facts    []fact
	mails    table
	cancels  bool // the viewer may
	repeats  bool
	manifest *jobs.Manifest
	totals   table
}

func (s *Site) archiveJob(v *visit) (templ.Component, error) {
	j, err := s.job(v)
	if err != nil {
		return nil, err
	}
	view := jobView{v: v, job: j, facts: jobFacts(&j)}
	view.cancels = !j.State.Ended() && v.viewer.May(access.Archive, access.Remove)
	view.repeats = j.State.Ended() && !j.FileThere() && v.viewer.May(access.Archive, access.Add)
	view.mails = table{name: "Mails", columns: []column{{title: "Recipient", kind: asHead}, {title: "State", kind: asShort}, {title: "Tries", kind: asNumber}, {title: "Since", kind: asShort}, {title: "What went wrong"}, {title: "Message-ID", kind: asCode}}}
	for _, m := range j.Mails {
		view.mails.rows = append(view.mails.rows, row{txt(m.Recipient), comp(mailState(m)), txt(whole(m.Tries)), txt(minute(m.At)), txt(m.Error), txt(m.MessageID)})
	}
	if j.FileThere() {
		if view.manifest, err = s.Jobs.Manifest(v.Context(), v.viewer.Tenant, j.ID); err != nil {
			return nil, err
		}
		view.totals = totalsOf(view.manifest)
	}
	if v.partial() {
		return jobPart(view), nil
	}
	return jobPage(view), nil
}

func jobFacts(j *jobs.Job) []fact {
	all := []fact{{name: "Report", value: reportTitle(j.Report)}}
	add := func(name, value string) {
		if value != "" {
			all = append(all, fact{name: name, value: value})
		}
	}
	add("Description", j.Description)
	add("Asked for", minute(j.CreatedAt)+" by "+j.CreatedBy)
	if j.Owner != j.CreatedBy {
		add("Made in the name of", j.Owner)
	}
	for _, name := range slices.Sorted(maps.Keys(j.Parameters)) {
		value := j.Parameters[name]
		if name == "tenants" {
			value = tenantsText(j.Parameters)
		}
		add(parameterTitle(name), value)
	}
	add("Format", j.Format)
	if j.Cut != nil {
		state := ""
		if j.Cut.State != "" {
			state = ", month " + monthState(j.Cut.State, j.Cut.Version)
		}
		add("State of the log", j.Cut.AsOf.UTC().Format(time.RFC3339)+state)
	}
	if j.State.Ended() {
		ended := minute(j.EndedAt)
		if j.EndedBy != "" {
			ended += " by " + j.EndedBy
		}
		add("Ended", ended)
	}
	if j.File != nil {
		add("File", fmt.Sprintf("%s, %s, %s", j.File.Name, plural(j.File.Rows, "row"), bytesText(uint64(max(0, j.File.Bytes)))))
		all = append(all, fact{name: "SHA-256", value: j.File.SHA256, code: true})
	}
	if until := j.KeptUntil(); !until.IsZero() {
		add("Kept until", minute(until))
	}
	return all
}

// parameterTitle is what a parameter of a report is called on pages.
func parameterTitle(name string) string {
	return titled(strings.ReplaceAll(name, "_", " "))
}

func (s *Site) archiveFile(v *visit) (templ.Component, error) {
	j, err := s.job(v)
	if err != nil {
		return nil, err
	}
	file, err := s.Jobs.File(v.Context(), v.viewer.Tenant, j.ID)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // read to its end, or failed before
	h := v.w.Header()
	h.Set("Content-Type", file.MediaType)
	if strings.HasPrefix(file.MediaType, "text/") {
		h.Set("Content-Type", file.MediaType+"; charset=utf-8")
	}
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": file.Name}))
	h.Set("Content-Length", whole(file.Bytes)) // a part of it is never taken for the whole
	_, err = io.Copy(v.w, file)
	mustSend(err)
	return nil, nil
}

func (s *Site) archiveManifest(v *visit) (templ.Component, error) {
	j, err := s.job(v)
	if err != nil {
		return nil, err
	}
	m, err := s.Jobs.Manifest(v.Context(), v.viewer.Tenant, j.ID)
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	h := v.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": j.File.Name + ".manifest.json"}))
	_, err = v.w.Write(append(b, '\n'))
	mustSend(err)
	return nil, nil
}

// archiveAsk asks before a job is cancelled.
func (s *Site) archiveAsk(v *visit) (templ.Component, error) {
	j, err := s.job(v)
	if err != nil {
		return nil, err
	}
	v.title, v.crumbs = "Cancel the report", append(v.crumbs, crumb{j.Name, "/archive/" + j.ID})
	if j.State.Ended() {
		return joined(notice("", "There is nothing to cancel", "The report is "+string(j.State)+" already; what it made stays."), back("/archive/"+j.ID)), nil
	}
	return confirm(v, confirmation{
		action: "/archive/" + j.ID + "/cancel", ask: "Cancel “" + j.Name + "”?", detail: "It is no longer made. Nothing of it is kept but this entry; it can be generated again from there.",
		do: "Submit", danger: true, back: "/archive/" + j.ID,
	}), nil
}

func (s *Site) archiveCancel(v *visit) (templ.Component, error) {
	j, err := s.job(v)
	if err != nil {
		return nil, err
	}
	_, err = s.Jobs.Cancel(v.Context(), v.viewer.Tenant, v.actor().By, j.ID)
	var bad *report.Error
	switch {
	case errors.As(err, &bad) && bad.Code == jobs.CodeEnded:
		v.flash("warn", sentence(bad.Detail))
	case err != nil:
		return nil, err
	default:
		v.flash("good", j.Name+" was cancelled.")
	}
	return nil, redirect{"/archive/" + j.ID}
}

func (s *Site) archiveAgain(v *visit) (templ.Component, error) {
	j, err := s.job(v)
	if err != nil {
		return nil, err
	}
	if _, err := s.Jobs.Regenerate(v.Context(), v.viewer.Tenant, v.actor().By, j.ID); err != nil {
		return nil, err
	}
	v.flash("good", j.Name+" is being made again.")
	return nil, redirect{"/archive/" + j.ID}
}

// mustSend breaks the connection where a file could not be sent whole, unless the browser went away by itself.
func mustSend(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler)
	}
}

// totalsOf are the control totals of a file.
func totalsOf(m *jobs.Manifest) table {
	t := table{name: "Control totals", columns: []column{{title: "Column", kind: asHead}, {title: "Sum", kind: asNumber}}}
	for _, total := range m.Totals {
		t.rows = append(t.rows, row{txt(total.Column), txt(total.Sum)})
	}
	return t
}
