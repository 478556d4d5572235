package jobs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/reporter/guard"
	"github.com/countinghouse/countinghouse/internal/reporter/mail"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Codes of *report.Error that only jobs and schedules have.
const (
	CodeEnded   = "job-ended"     // it can no longer be cancelled
	CodeFull    = "too-many-jobs" // the tenant has as many waiting as it may
	CodeNoFile  = "no-file-yet"
	CodeRemoved = "file-removed" // it was kept long enough; Regenerate makes it again
	CodeBusy    = "changed-meanwhile"
)

// checkTime bounds what a check of parameters may take; what it has not found by then the job will.
const checkTime = 3 * time.Second

// Request is what a new job is to make.
type Request struct {
	Report      string
	Parameters  map[string]string // of the report
	AsOf        string            // RFC 3339; "": what is counted when the job begins
	Version     int               // of the closed month that parameter month names; 0: none asked for
	Format      string            // "": csv
	Raw         bool              // CSV without the guard against formulas
	Name        string            // "": the report's title
	Description string
	KeepDays    int      // 0: as configured
	Recipients  []string // of a mail with the file
}

// Job is a job and how far it is.
type Job struct {
	control.Job
	Rows int64 // written so far, of a job that runs; of the file, once it is there
}

// FileThere reports whether the file can be had right now.
func (j Job) FileThere() bool {
	return j.State == control.JobDone && j.File != nil && j.File.Object != ""
}

// KeptUntil is when the file will be removed; zero if there is none.
func (j Job) KeptUntil() time.Time {
	if j.File == nil || j.File.Object == "" {
		return time.Time{}
	}
	return j.File.MadeAt.AddDate(0, 0, j.KeepDays)
}

// Submit asks for a report. Parameters are checked here as far as they can be without the data.
func (d *Desk) Submit(ctx context.Context, tenant, who string, r Request) (Job, error) {
	r, err := d.Check(ctx, tenant, r)
	if err != nil {
		return Job{}, err
	}
	j := d.new(tenant, who, uuid.Must(uuid.NewV7()).String(), r)
	j.Owner = who
	waiting, err := d.jobs.Open(ctx, tenant)
	if err != nil {
		return Job{}, err
	}
	if n := len(waiting); n >= d.cfg.TenantWaiting {
		return Job{}, &report.Error{Code: CodeFull, Detail: fmt.Sprintf("%d jobs are waiting or being made already; cancel some or wait", n)}
	}
	return d.add(ctx, j, who)
}

// SubmitRun asks for a run of a schedule. Of all who ask for the same one, the first makes it; the others are
// answered with control.ErrConflict. after is when its period is over. One that the schedule's owner may not have any
// more is there, and refused.
func (d *Desk) SubmitRun(ctx context.Context, one *control.Schedule, run string, after time.Time, r Request) (Job, error) {
	j := d.new(one.Tenant, "schedule "+one.ID, RunID(one.ID, run), r)
	j.Schedule, j.Run, j.Owner = one.ID, run, OwnerOf(one)
	if j.After.Before(after) {
		j.After = after
	}
	err := d.judge(ctx, &j)
	var refused *guard.Refused
	if errors.As(err, &refused) {
		j.State, j.Error, j.EndedAt = control.JobRefused, refused.Reason, j.CreatedAt
	} else if err != nil {
		return Job{}, err
	}
	added, err := d.add(ctx, j, j.CreatedBy)
	if err == nil && refused != nil {
		d.runs("refused")
		d.log.Warn("scheduled report refused", zap.String("job", j.ID), zap.String("reason", refused.Reason))
	}
	return added, err
}

// OwnerOf is with whose rights the runs of a schedule are made. One of an earlier release does not say who saved it last.
func OwnerOf(one *control.Schedule) string { return cmp.Or(one.Owner, one.CreatedBy) }

// judge asks whether the owner of a job may have it at this moment.
func (d *Desk) judge(ctx context.Context, j *control.Job) error {
	owner := cmp.Or(j.Owner, j.CreatedBy)
	if j.Owner == "" && j.Schedule != "" { // of an earlier release
		one, err := d.parts.Control.Schedule(ctx, j.Tenant, j.Schedule)
		if err != nil && !errors.Is(err, control.ErrUnknownSchedule) {
			return err
		}
		owner = OwnerOf(&one)
	}
	return d.parts.Judge(ctx, guard.Made{Tenant: j.Tenant, Owner: owner, Report: j.Report, Parameters: j.Parameters, Scheduled: j.Schedule != ""})
}

// RunID is the id of the job that is a run of a schedule.
func RunID(schedule, run string) string {
	return schedule + "-" + strings.ToLower(strings.NewReplacer("-", "", ":", "").Replace(run))
}

func (d *Desk) new(tenant, who, id string, r Request) control.Job {
	j := control.Job{
		Tenant: tenant, ID: id, Name: r.Name, Description: r.Description, Report: r.Report, Parameters: r.Parameters, AsOf: r.AsOf, Version: r.Version,
		Format: r.Format, Raw: r.Raw, KeepDays: r.KeepDays, State: control.JobQueued, CreatedAt: d.now(), CreatedBy: who,
	}
	if at, err := usage.ParseInstant(r.AsOf); err == nil {
		j.After = at.Time().UTC()
	}
	for _, recipient := range r.Recipients {
		j.Mails = append(j.Mails, control.JobMail{Recipient: recipient, MessageID: d.messageID(id, recipient), State: control.MailWaiting, At: j.CreatedAt})
	}
	return j
}

// messageID names the mail of a run to a recipient for ever: mail programs show one of those that have the same.
func (d *Desk) messageID(job, recipient string) string {
	sum := sha256.Sum256([]byte(recipient))
	return "<" + job + "." + hex.EncodeToString(sum[:8]) + "@" + d.parts.Mail.Domain() + ">"
}

func (d *Desk) add(ctx context.Context, j control.Job, who string) (Job, error) {
	added, err := d.parts.Control.AddJob(ctx, j, who, j.CreatedAt)
	if err != nil {
		return Job{}, err
	}
	d.jobs.Put(added)
	return Job{Job: added}, nil
}

// Check finds what is wrong with a request, and answers it with everything that was left open settled.
func (d *Desk) Check(ctx context.Context, tenant string, r Request) (Request, error) {
	r, err := d.Shape(r)
	if err != nil {
		return r, err
	}
	q, err := (report.Query{Tenant: tenant, Report: r.Report, Values: r.Parameters, AsOf: directory.Latest, Export: r.Format != string(sheet.FormatJSON)}).Dated(d.now())
	if err != nil {
		return r, err
	}
	r.Parameters = q.Values
	ctx, cancel := context.WithTimeout(warehouse.Bounded(ctx, warehouse.Bounds{Time: checkTime}), checkTime)
	defer cancel()
	var bad *report.Error
	err = d.parts.Reports.Check(ctx, q)
	switch {
	case errors.As(err, &bad) && bad.Code == report.CodeParameter:
		return r, bad
	case errors.Is(err, access.ErrOutside), errors.Is(err, access.ErrForbidden):
		return r, err
	}
	return r, nil // whatever else went wrong, the job will say
}

// Shape is the part of Check that needs no parameters of the report: of a schedule, whose period comes later.
func (d *Desk) Shape(r Request) (Request, error) {
	definition, ok := report.Define(r.Report)
	if !ok {
		return r, &report.Error{Code: report.CodeParameter, Parameter: "report", Detail: "want one of " + strings.Join(reportNames(), ", ")}
	}
	if r.Name == "" {
		r.Name = definition.Title
	}
	if r.KeepDays == 0 {
		r.KeepDays = d.cfg.KeepDays
	}
	if r.Format == "" {
		r.Format = string(sheet.FormatCSV)
	}
	r.Parameters = maps.Clone(r.Parameters)
	if r.Parameters == nil {
		r.Parameters = map[string]string{}
	}
	if err := r.check(); err != nil {
		return r, err
	}
	recipients, err := mail.Recipients(r.Recipients)
	if err != nil {
		return r, wrong("recipients", err.Error())
	}
	if len(recipients) > RecipientsMax {
		return r, wrong("recipients", fmt.Sprintf("want at most %d", RecipientsMax))
	}
	r.Recipients = recipients
	return r, nil
}

func reportNames() []string {
	var names []string
	for _, d := range report.Definitions() {
		names = append(names, d.Name)
	}
	return names
}

// check looks at what every report has.
func (r *Request) check() error {
	f, ok := sheet.Parse(r.Format)
	switch {
	case !ok:
		return wrong("format", "want "+sheet.FormatNames())
	case r.Raw && f != sheet.FormatCSV && f != sheet.FormatPipe:
		return wrong("raw", "is for csv and csv-pipe; other formats have no formulas to guard against")
	case f == sheet.FormatPipe && r.Parameters["delimiter"] == "comma":
		return wrong("delimiter", "format=csv-pipe has the pipe; leave one of them out")
	case r.KeepDays < 1 || r.KeepDays > KeepDaysMax:
		return wrong("keep_days", fmt.Sprintf("want 1 to %d", KeepDaysMax))
	case r.Version < 0:
		return wrong("version", "want a version's number, or 0 for the current one")
	case r.AsOf != "" && r.Version != 0:
		return wrong("as_of", "give as_of or version")
	}
	if r.AsOf != "" {
		if at, err := usage.ParseInstant(r.AsOf); err != nil || !at.Storable() {
			return wrong("as_of", "want an RFC 3339 time with offset, such as 2026-03-01T00:00:00Z")
		}
	}
	if err := line("name", r.Name, nameMax); err != nil {
		return err
	}
	if len(r.Description) > textMax || !utf8.ValidString(r.Description) {
		return wrong("description", fmt.Sprintf("want at most %d bytes of UTF-8", textMax))
	}
	for name, value := range r.Parameters {
		if err := line(name, value, textMax); err != nil {
			return err
		}
	}
	return nil
}

// line refuses what is no line of text: it is put into headers of mails and names of files.
func line(parameter, value string, most int) error {
	if len(value) > most || !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 }) {
		return wrong(parameter, fmt.Sprintf("want one line of at most %d bytes of UTF-8, without control characters", most))
	}
	return nil
}

func wrong(parameter, detail string) *report.Error {
	return &report.Error{Code: report.CodeParameter, Parameter: parameter, Detail: detail}
}

// List are a tenant's jobs, newest first.
func (d *Desk) List(ctx context.Context, tenant string) ([]Job, error) {
	if tenant == "" {
		return nil, nil // a caller without a tenant sees nobody's
	}
	all, err := d.jobs.All(ctx, tenant)
	if err != nil {
		return nil, err
	}
	list := make([]Job, 0, len(all))
	for _, j := range all {
		list = append(list, d.far(ctx, j))
	}
	return list, nil
}

// far says how far a job is.
func (d *Desk) far(ctx context.Context, j control.Job) Job {
	one := Job{Job: j}
	switch {
	case j.State == control.JobRunning:
		d.mu.Lock()
		w := d.active[key(&j)]
		d.mu.Unlock()
		if w != nil {
			one.Rows = w.rows.Load()
		} else if rows, err := d.files.Reached(ctx, j.Tenant, j.ID); err == nil { // of another reporter; nobody is wrong not to know
			one.Rows = rows
		}
	case j.File != nil:
		one.Rows = j.File.Rows
	}
	return one
}

// Get is one job.
func (d *Desk) Get(ctx context.Context, tenant, id string) (Job, error) {
	j, err := d.job(ctx, tenant, id)
	if err != nil {
		return Job{}, err
	}
	return d.far(ctx, j), nil
}

func (d *Desk) job(ctx context.Context, tenant, id string) (control.Job, error) {
	j, err := d.parts.Control.Job(ctx, tenant, id)
	if errors.Is(err, control.ErrUnknownJob) {
		return j, &report.Error{Code: report.CodeNotFound, Detail: "no job " + id}
	}
	return j, err
}

// conflictsMax bounds how often a change is tried again because somebody else changed the same job.
const conflictsMax = 10

// change reads a job, changes it and writes it, again while others come in between. edit answers false for
// nothing to do.
func (d *Desk) change(ctx context.Context, tenant, id, change, who string, edit func(*control.Job) (bool, error)) (Job, error) {
	for range conflictsMax {
		j, err := d.job(ctx, tenant, id)
		if err != nil {
			return Job{}, err
		}
		edited, err := edit(&j)
		if err != nil {
			return Job{}, err
		}
		if !edited {
			return d.far(ctx, j), nil
		}
		j, err = d.parts.Control.ChangeJob(ctx, j, change, who, d.now())
		if err == nil {
			d.jobs.Put(j)
			return d.far(ctx, j), nil
		}
		if !errors.Is(err, control.ErrConflict) {
			return Job{}, err
		}
	}
	return Job{}, &report.Error{Code: CodeBusy, Detail: "others change job " + id + " all the time; ask again"}
}

// Cancel ends a job that has not ended. A file that is there stays: CodeEnded.
func (d *Desk) Cancel(ctx context.Context, tenant, who, id string) (Job, error) {
	return d.change(ctx, tenant, id, "cancelled", who, func(j *control.Job) (bool, error) {
		if j.State.Ended() {
			return false, &report.Error{Code: CodeEnded, Detail: "the job is " + string(j.State) + " already; what it made stays"}
		}
		j.State, j.EndedAt, j.EndedBy, j.Runner = control.JobCancelled, d.now(), who, ""
		return true, nil
	})
}

// Regenerate makes the file of a job again that was removed, to the same bytes; a job that failed, was cancelled or
// refused is tried anew, in the name of who asks for it. Where there is nothing to do it changes nothing.
func (d *Desk) Regenerate(ctx context.Context, tenant, who, id string) (Job, error) {
	return d.change(ctx, tenant, id, "regenerated", who, func(j *control.Job) (bool, error) {
		if !j.State.Ended() || j.File != nil && j.File.Object != "" {
			return false, nil
		}
		j.State, j.EndedAt, j.EndedBy, j.Runner, j.Tries, j.Error, j.Parameter = control.JobQueued, time.Time{}, "", "", 0, "", ""
		j.Owner = who
		return true, nil
	})
}

// File is a file of a job, open. The caller closes it.
type File struct {
	io.ReadCloser // its last read fails if the bytes are not the ones that were stored
	control.JobFile
	MediaType string
}

// File opens what a job made: CodeNoFile before that, CodeRemoved after it was kept long enough.
func (d *Desk) File(ctx context.Context, tenant, id string) (*File, error) {
	j, err := d.job(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	if err := fileOf(&j); err != nil {
		return nil, err
	}
	r, err := d.files.Open(ctx, j.File.Object)
	if errors.Is(err, control.ErrNoFile) {
		return nil, removed()
	}
	if err != nil {
		return nil, err
	}
	return &File{r, *j.File, sheet.Format(j.Format).MediaType()}, nil
}

func removed() error {
	return &report.Error{Code: CodeRemoved, Detail: "the file was kept as long as it had to be; regenerate makes it again, to the same bytes"}
}

func fileOf(j *control.Job) error {
	switch {
	case j.File == nil && !j.State.Ended():
		return &report.Error{Code: CodeNoFile, Detail: "the job is " + string(j.State) + "; ask again when it is done"}
	case j.File == nil:
		return &report.Error{Code: report.CodeNotFound, Detail: "the job is " + string(j.State) + " and has no file"}
	case j.File.Object == "":
		return removed()
	}
	return nil
}

// Manifest says what is in the file of a job. It is kept when the file is removed.
func (d *Desk) Manifest(ctx context.Context, tenant, id string) (*Manifest, error) {
	j, err := d.job(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	if j.File == nil {
		return nil, fileOf(&j)
	}
	return d.manifest(ctx, &j)
}

func (d *Desk) manifest(ctx context.Context, j *control.Job) (*Manifest, error) {
	r, err := d.files.Open(ctx, j.File.Manifest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // read to its end, or failed before
	m := &Manifest{}
	if err := json.NewDecoder(r).Decode(m); err != nil {
		return nil, fmt.Errorf("manifest of job %s: %w", j.ID, err)
	}
	return m, nil
}
