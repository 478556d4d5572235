package reporter

import (
	"context"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/reporter/guard"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
)

// newJob is the body of POST /report-jobs.
type newJob struct {
	Report      string            `json:"report,omitempty" doc:"Name of a report, as in GET /reports"`
	Parameters  map[string]string `json:"parameters,omitempty" required:"false" doc:"Its parameters; texts, as in a query"`
	AsOf        string            `json:"as_of,omitempty" required:"false" doc:"Only what was recorded at or before this instant, RFC 3339; the job waits until that is counted"`
	Version     int               `json:"version,omitempty" required:"false" doc:"A version of the closed month that parameter month names"`
	Format      string            `json:"format,omitempty" required:"false" doc:"csv by default"`
	Raw         bool              `json:"raw,omitempty" required:"false" doc:"CSV without the guard against formulas"`
	Name        string            `json:"name,omitempty" required:"false" doc:"For people; default: the report's title"`
	Description string            `json:"description,omitempty" required:"false"`
	KeepDays    int               `json:"keep_days,omitempty" required:"false" doc:"Days that the file is kept, 1 to 1826; default 365"`
	Recipients  string            `json:"recipients,omitempty" required:"false" doc:"Addresses that get the file by mail, separated by commas"`
	Schedule    *newSchedule      `json:"schedule,omitempty" required:"false" doc:"Also make it again and again: the same report and filters, with the times given here. The period is each run's own. An operator needs schedules:add for it"`
}

func (b *newJob) request() jobs.Request {
	return jobs.Request{
		Report: b.Report, Parameters: b.Parameters, AsOf: b.AsOf, Version: b.Version, Format: b.Format, Raw: b.Raw, Name: b.Name,
		Description: b.Description, KeepDays: b.KeepDays,
	}
}

// jobView is a job as the API shows it.
type jobView struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Report      string            `json:"report"`
	Parameters  map[string]string `json:"parameters"`
	Format      string            `json:"format"`
	Raw         bool              `json:"raw"`
	State       control.JobState  `json:"state" enum:"queued,running,done,failed,cancelled,refused" doc:"refused: its owner may not have it any more"`
	Rows        int64             `json:"rows" doc:"Written so far, or of the file"`
	Tries       int               `json:"tries"`
	Error       string            `json:"error,omitempty" doc:"Of the last try"`
	Parameter   string            `json:"parameter,omitempty" doc:"The parameter at fault, if one is"`
	CreatedAt   time.Time         `json:"created_at"`
	CreatedBy   string            `json:"created_by"`
	Owner       string            `json:"owner" doc:"In whose name it is made: with the rights they have then"`
	StartedAt   time.Time         `json:"started_at,omitzero"`
	EndedAt     time.Time         `json:"ended_at,omitzero"`
	EndedBy     string            `json:"ended_by,omitempty" doc:"Who cancelled it"`
	Schedule    string            `json:"schedule,omitempty" doc:"That it is a run of"`
	Run         string            `json:"run,omitempty" doc:"Its day"`
	NotBefore   time.Time         `json:"not_before,omitzero" doc:"It waits until everything recorded until then is counted"`
	Cut         *control.JobCut   `json:"cut,omitempty" doc:"The state of the log that it is about"`
	File        *fileView         `json:"file,omitempty"`
	Mails       []control.JobMail `json:"mails"`
}

type fileView struct {
	Name      string    `json:"name"`
	Bytes     int64     `json:"bytes"`
	SHA256    string    `json:"sha256"`
	Rows      int64     `json:"rows"`
	MadeAt    time.Time `json:"made_at"`
	KeptUntil time.Time `json:"kept_until,omitzero"`
	RemovedAt time.Time `json:"removed_at,omitzero"`
}

func viewJob(j jobs.Job) jobView {
	v := jobView{
		ID: j.ID, Name: j.Name, Description: j.Description, Report: j.Report, Parameters: j.Parameters, Format: j.Format, Raw: j.Raw,
		State: j.State, Rows: j.Rows, Tries: j.Tries, Error: j.Error, Parameter: j.Parameter, CreatedAt: j.CreatedAt, CreatedBy: j.CreatedBy, Owner: j.Owner,
		StartedAt: j.StartedAt, EndedAt: j.EndedAt, EndedBy: j.EndedBy, Schedule: j.Schedule, Run: j.Run, NotBefore: j.After, Cut: j.Cut,
		Mails: append([]control.JobMail{}, j.Mails...),
	}
	if f := j.File; f != nil {
		v.File = &fileView{f.Name, f.Bytes, f.SHA256, f.Rows, f.MadeAt, j.KeptUntil(), time.Time{}}
		if f.Object == "" {
			v.File.RemovedAt = f.GoneAt
		}
	}
	return v
}

type jobOutput struct{ Body jobView }

type jobsInput struct {
	State    string `query:"state" doc:"Only jobs in this state: queued, running, done, failed, cancelled or refused"`
	Schedule string `query:"schedule" doc:"Only runs of this schedule"`
	Limit    string `query:"limit" doc:"Rows of a page, 1 to 1000; default 1000"`
	Cursor   string `query:"cursor" doc:"next of the page before"`
	Format   string `query:"format" doc:"json or csv; default: the header Accept"`
}

type jobsOutput struct{ Body jobsAnswer }

type jobsAnswer struct {
	Rows []jobView `json:"rows" doc:"Newest first"`
	Next *string   `json:"next"`
}

func (a jobsAnswer) columns() []string {
	return []string{"id", "name", "report", "format", "state", "rows", "bytes", "sha256", "created_at", "created_by", "ended_at", "error", "mails"}
}

func (a jobsAnswer) cells(row func(...cell)) {
	for _, j := range a.Rows {
		f := j.File
		if f == nil {
			f = &fileView{}
		}
		var mails []string
		for _, m := range j.Mails {
			mails = append(mails, m.Recipient+": "+string(m.State))
		}
		row(plain(j.ID), text(j.Name), plain(j.Report), plain(j.Format), plain(string(j.State)), plain(strconv.FormatInt(j.Rows, 10)),
			plain(strconv.FormatInt(f.Bytes, 10)), plain(f.SHA256), moment(j.CreatedAt), text(j.CreatedBy), moment(j.EndedAt), text(j.Error),
			text(strings.Join(mails, "; ")))
	}
}

// ContentType names the character set of CSV.
func (a jobsAnswer) ContentType(ct string) string { return tableType(ct) }

type manifestOutput struct{ Body *jobs.Manifest }

func (s *server) registerJobs() {
	const tag = "report jobs"
	create := operation("create-report-job", http.MethodPost, "/report-jobs", tag, "Make a report in the background",
		"The file is kept and can be made again to the same bytes; with recipients it is sent by mail.")
	create.DefaultStatus, create.RequestBody = http.StatusAccepted, jsonBody[newJob](s, "NewReportJob")
	register(s, endpoint{Operation: create}, s.createJob)
	register(s, endpoint{Operation: operation("report-jobs", http.MethodGet, "/report-jobs", tag, "Report jobs and how far they are", ""), rows: true}, s.listJobs)
	register(s, endpoint{Operation: operation("report-job", http.MethodGet, "/report-jobs/{id}", tag, "One job", "")},
		func(ctx context.Context, who caller, in *oneID) (*jobOutput, error) {
			j, err := s.job(ctx, who, in.ID)
			return &jobOutput{viewJob(j)}, err
		})
	file := operation("report-job-file", http.MethodGet, "/report-jobs/{id}/file", tag, "The file of a job",
		"Its SHA-256 is in Repr-Digest. 409 before it is there, 410 after it was kept long enough.")
	register(s, endpoint{Operation: file, whole: true}, s.jobFile)
	ok := s.api.OpenAPI().Paths["/report-jobs/{id}/file"].Get.Responses["200"]
	ok.Description, ok.Content = "The file", map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	register(s, endpoint{Operation: operation("report-job-manifest", http.MethodGet, "/report-jobs/{id}/manifest", tag, "What is in the file, and where it comes from",
		"Rows, control totals, SHA-256, the state of the month and of the log. It is kept when the file is removed.")},
		func(ctx context.Context, who caller, in *oneID) (*manifestOutput, error) {
			if _, err := s.job(ctx, who, in.ID); err != nil {
				return nil, err
			}
			m, err := s.jobs.Manifest(ctx, who.Tenant, in.ID)
			return &manifestOutput{m}, err
		})
	s.registerJobChanges(tag)
}

func (s *server) registerJobChanges(tag string) {
	register(s, endpoint{Operation: operation("cancel-report-job", http.MethodPost, "/report-jobs/{id}/cancel", tag, "End a job that has not ended",
		"409 after the end: what it made stays.")},
		func(ctx context.Context, who caller, in *oneID) (*jobOutput, error) {
			if _, err := s.job(ctx, who, in.ID); err != nil {
				return nil, err
			}
			j, err := s.jobs.Cancel(ctx, who.Tenant, who.actor().By, in.ID)
			return &jobOutput{viewJob(j)}, err
		})
	register(s, endpoint{Operation: operation("regenerate-report-job", http.MethodPost, "/report-jobs/{id}/regenerate", tag,
		"Make a file again that was removed, to the same bytes", "A job that failed or was cancelled is tried anew. Where there is nothing to do nothing changes.")},
		func(ctx context.Context, who caller, in *oneID) (*jobOutput, error) {
			if _, err := s.job(ctx, who, in.ID); err != nil {
				return nil, err
			}
			j, err := s.jobs.Regenerate(ctx, who.Tenant, who.actor().By, in.ID)
			return &jobOutput{viewJob(j)}, err
		})
}

// job is a job that the caller may see: one about accounts out of an operator's reach is not there.
func (s *server) job(ctx context.Context, who caller, id string) (jobs.Job, error) {
	j, err := s.jobs.Get(ctx, who.Tenant, id)
	if err != nil {
		return j, err
	}
	seen, err := s.sees(ctx, who, j.Report, j.Parameters)
	if err == nil && !seen {
		err = refuse(codeNotFound, "no job "+id)
	}
	return j, err
}

// sees reports whether the caller may see a job or schedule of their tenant.
func (s *server) sees(ctx context.Context, who caller, report string, parameters map[string]string) (bool, error) {
	if who.viewer == nil {
		return true, nil
	}
	return guard.Sees(ctx, s.reports, who.viewer, report, parameters)
}

// seen are those of a list that the caller may see.
func seen[T any](ctx context.Context, s *server, who caller, all []T, of func(*T) (string, map[string]string)) ([]T, error) {
	kept := make([]T, 0, len(all))
	for i := range all {
		report, parameters := of(&all[i])
		ok, err := s.sees(ctx, who, report, parameters)
		if err != nil {
			return nil, err
		}
		if ok {
			kept = append(kept, all[i])
		}
	}
	return kept, nil
}

// mayHave refuses a report in the background that the caller may not have as a file.
func (s *server) mayHave(ctx context.Context, who caller, name string, parameters map[string]string) error {
	if who.viewer == nil {
		return nil
	}
	return guard.Job(ctx, s.reports, who.viewer, name, parameters)
}

func (s *server) createJob(ctx context.Context, who caller, in *rawBody) (*jobOutput, error) {
	var body newJob
	if err := readBody(in.RawBody, &body); err != nil {
		return nil, err
	}
	request := body.request()
	if err := s.mayHave(ctx, who, request.Report, request.Parameters); err != nil {
		return nil, err
	}
	if body.Recipients != "" {
		request.Recipients = []string{body.Recipients}
	}
	if plan := body.Schedule; plan != nil {
		if who.viewer != nil { // of a key both ask the same scope
			if refusal := permits(who.viewer, s.needs["create-schedule"]); refusal != nil {
				return nil, refusal
			}
		}
		// The period of the report now is not the period of its runs.
		if _, err := s.jobs.Check(ctx, who.Tenant, request); err != nil {
			return nil, err
		}
		if err := plan.take(&body); err != nil {
			return nil, err
		}
		if _, err := s.schedules.Create(ctx, who.Tenant, who.actor().By, plan.spec()); err != nil {
			return nil, err
		}
	}
	j, err := s.jobs.Submit(ctx, who.Tenant, who.actor().By, request)
	return &jobOutput{viewJob(j)}, err
}

// jobPlace is where a page of jobs begins: behind this one.
type jobPlace struct {
	After string `json:"after"`
}

func (s *server) listJobs(ctx context.Context, who caller, in *jobsInput) (*jobsOutput, error) {
	if in.State != "" && !slices.Contains(control.JobStates(), control.JobState(in.State)) {
		return nil, wrong("state", "want queued, running, done, failed, cancelled or refused")
	}
	limit, err := limitOf(in.Limit, limitDefault)
	if err != nil {
		return nil, err
	}
	all, err := s.jobs.List(ctx, who.Tenant)
	if err != nil {
		return nil, err
	}
	if all, err = seen(ctx, s, who, all, func(j *jobs.Job) (string, map[string]string) { return j.Report, j.Parameters }); err != nil {
		return nil, err
	}
	if in.Cursor != "" {
		var at jobPlace
		if err := s.cursors.take(who.Tenant, "report-jobs", in.Cursor, &at); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(j jobs.Job) bool { return j.ID == at.After })
		all = all[i+1:] // jobs are never taken away, so there is one
	}
	out := &jobsOutput{jobsAnswer{Rows: []jobView{}}}
	for _, j := range all {
		if in.State != "" && string(j.State) != in.State || in.Schedule != "" && j.Schedule != in.Schedule {
			continue
		}
		if len(out.Body.Rows) == limit {
			next, err := s.cursors.give(who.Tenant, "report-jobs", jobPlace{out.Body.Rows[limit-1].ID})
			out.Body.Next = &next
			return out, err
		}
		out.Body.Rows = append(out.Body.Rows, viewJob(j))
	}
	return out, nil
}

func (s *server) jobFile(ctx context.Context, who caller, in *oneID) (*huma.StreamResponse, error) {
	if _, err := s.job(ctx, who, in.ID); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.wait.AnswerWait)
	f, err := s.jobs.File(ctx, who.Tenant, in.ID)
	if err != nil {
		cancel()
		return nil, err
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		defer cancel()
		defer func() { _ = f.Close() }() // what matters is what was read
		_, w := humago.Unwrap(h)
		header := w.Header()
		header.Set("Content-Type", tableType(f.MediaType))
		header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.Name}))
		header.Set("Content-Length", strconv.FormatInt(f.Bytes, 10))
		header.Set("Repr-Digest", digest(f.SHA256))
		header.Set("ETag", strconv.Quote(f.SHA256))
		// The digest is known at the end only: less than the length that was promised is no file.
		if n, err := io.Copy(w, f); err != nil || n != f.Bytes {
			s.log.Warn("file of a job not sent whole", zap.String("job", in.ID), zap.Int64("bytes", n), zap.Error(err))
			panic(http.ErrAbortHandler)
		}
	}}, nil
}
