package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"
)

// JobState is how far a report job is.
type JobState string

// States of a job. The last four are final: only what became of its mails is still noted.
const (
	JobQueued    JobState = "queued"
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
	JobRefused   JobState = "refused" // its owner may not have it any more
)

// JobStates lists them.
func JobStates() []JobState {
	return []JobState{JobQueued, JobRunning, JobDone, JobFailed, JobCancelled, JobRefused}
}

// Ended reports whether the state is final.
func (s JobState) Ended() bool { return s != JobQueued && s != JobRunning }

// JobCut is the state of the log that a job is about. It is settled once, before the job's first row, and
// stays: the same job always gives the same bytes.
type JobCut struct {
	AsOf      time.Time         `json:"as_of"`
	Positions map[uint16]uint64 `json:"positions"`
	Version   int               `json:"version,omitzero"` // of the closed month it is; 0: none
	State     string            `json:"state,omitzero"`   // of the month, where the report is about one
}

// JobFile is the file that a job made.
type JobFile struct {
	Object   string    `json:"object"` // in the bucket of files; "" once it was removed
	Manifest string    `json:"manifest"`
	Name     string    `json:"name"` // suggested
	Bytes    int64     `json:"bytes"`
	SHA256   string    `json:"sha256"`
	Rows     int64     `json:"rows"`
	Columns  int       `json:"columns"`
	MadeAt   time.Time `json:"made_at"`
	GoneAt   time.Time `json:"gone_at,omitzero"` // when it was removed
}

// MailState is what became of a mail to one recipient.
type MailState string

// States of a mail. MailSending is written before the first byte goes out: who finds it so does not know
// whether the mail arrived, and repeats it under the same Message-ID.
const (
	MailWaiting MailState = "waiting"
	MailSending MailState = "sending"
	MailSent    MailState = "sent"
	MailFailed  MailState = "failed"
)

// JobMail is the mail of a job to one recipient.
type JobMail struct {
	Recipient string    `json:"recipient"`
	MessageID string    `json:"message_id"`
	State     MailState `json:"state"`
	Tries     int       `json:"tries,omitzero"`
	Repeated  bool      `json:"repeated,omitzero"` // it may have arrived more than once
	Error     string    `json:"error,omitzero"`
	At        time.Time `json:"at,omitzero"` // of the last change
}

// Job is a report that is made in the background.
type Job struct {
	Tenant      string            `json:"tenant"`
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description,omitzero"`
	Report      string            `json:"report"`
	Parameters  map[string]string `json:"parameters"`
	AsOf        string            `json:"asked_as_of,omitzero"`   // RFC 3339; "": the watermark when it begins
	Version     int               `json:"asked_version,omitzero"` // of a closed month
	Format      string            `json:"format"`
	Raw         bool              `json:"raw,omitzero"` // CSV without the guard against formulas
	KeepDays    int               `json:"keep_days"`

	Schedule string    `json:"schedule,omitzero"` // that it is a run of
	Run      string    `json:"run,omitzero"`      // which: the day, or hour, of the schedule
	After    time.Time `json:"after,omitzero"`    // not before everything recorded until then is counted

	State     JobState  `json:"state"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
	Owner     string    `json:"owner,omitzero"`      // with whose rights it is made: operator:<login>, key:<id>
	StartedAt time.Time `json:"started_at,omitzero"` // the last try
	EndedAt   time.Time `json:"ended_at,omitzero"`
	EndedBy   string    `json:"ended_by,omitzero"` // who cancelled it
	Runner    string    `json:"runner,omitzero"`   // the reporter at work on it
	Tries     int       `json:"tries,omitzero"`
	Claims    int       `json:"claims,omitzero"` // how often a reporter took it: names what it writes
	Error     string    `json:"error,omitzero"`  // of the last try
	Parameter string    `json:"parameter,omitzero"`

	Cut   *JobCut   `json:"cut,omitzero"`
	File  *JobFile  `json:"file,omitzero"`
	Mails []JobMail `json:"mails,omitzero"`

	revision uint64
}

// Unsent reports whether a mail of the job is still to be sent.
func (j *Job) Unsent() bool {
	return j.State == JobDone && slices.ContainsFunc(j.Mails, func(m JobMail) bool { return m.State == MailWaiting || m.State == MailSending })
}

func (j Job) clone() Job {
	j.Parameters, j.Mails = maps.Clone(j.Parameters), slices.Clone(j.Mails)
	if j.Cut != nil {
		cut := *j.Cut
		cut.Positions = maps.Clone(cut.Positions)
		j.Cut = &cut
	}
	if j.File != nil {
		file := *j.File
		j.File = &file
	}
	return j
}

// Why a job or schedule cannot be had.
var (
	ErrUnknownJob      = errors.New("no such job")
	ErrUnknownSchedule = errors.New("no such schedule")
)

// jobEvent is one message of CONTROL: what happened to a job, and the state after it.
type jobEvent struct {
	Change string    `json:"change"`
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Job    Job       `json:"job"`
}

func jobs() kind[Job] {
	return kind[Job]{
		word: "job", unknown: ErrUnknownJob,
		place: func(j *Job) (string, string, *uint64) { return j.Tenant, j.ID, &j.revision },
		wrap:  func(change, by string, at time.Time, j Job) any { return jobEvent{change, at, by, j} },
		unwrap: func(data []byte) (Job, error) {
			var e jobEvent
			err := json.Unmarshal(data, &e)
			return e.Job, err
		},
	}
}

// AddJob makes a job that is not there yet; ErrConflict if it is.
func (s *Store) AddJob(ctx context.Context, j Job, by string, at time.Time) (Job, error) {
	return jobs().add(ctx, s, j, "submitted", by, at)
}

// ChangeJob makes j, which was read and then changed, the state of its job, if nobody changed it since;
// ErrConflict if somebody did.
func (s *Store) ChangeJob(ctx context.Context, j Job, change, by string, at time.Time) (Job, error) {
	return jobs().change(ctx, s, j, change, by, at)
}

// Job reads a job from the server, not from a cache.
func (s *Store) Job(ctx context.Context, tenant, id string) (Job, error) {
	return jobs().read(ctx, s, tenant, id)
}

// Jobs follows every job. Its methods may be used concurrently.
type Jobs struct{ *kept[Job] }

// Jobs starts following. It outlives ctx until Close.
func (s *Store) Jobs(ctx context.Context) *Jobs { return &Jobs{jobs().follow(ctx, s)} }

// All are the jobs of a tenant, or of every tenant for "", newest first; ErrUnavailable while they are not known.
func (j *Jobs) All(ctx context.Context, tenant string) ([]Job, error) {
	all, err := j.all(ctx, func(one Job) bool { return tenant == "" || one.Tenant == tenant })
	for i := range all {
		all[i] = all[i].clone()
	}
	slices.SortFunc(all, func(a, b Job) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID), cmp.Compare(a.Tenant, b.Tenant))
	})
	return all, err
}

// Open are the jobs of a tenant, or of every tenant for "", that have not ended or have mails to be sent, oldest
// first; ErrUnavailable while they are not known.
func (j *Jobs) Open(ctx context.Context, tenant string) ([]Job, error) {
	open, err := j.all(ctx, func(one Job) bool {
		return (!one.State.Ended() || one.Unsent()) && (tenant == "" || one.Tenant == tenant)
	})
	for i := range open {
		open[i] = open[i].clone()
	}
	slices.SortFunc(open, func(a, b Job) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Tenant, b.Tenant))
	})
	return open, err
}

// Put notes what this process wrote itself, so that it is in the next answer.
func (j *Jobs) Put(one Job) { j.put(one.clone()) }

// JobLeases are who runs report jobs: reporters that beat. No partition of them is ever held.
func (s *Store) JobLeases(ctx context.Context, holder string, ttl time.Duration) (*Leases, error) {
	return s.leases(ctx, "jobs.", holder, ttl)
}
