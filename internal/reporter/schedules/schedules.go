// Package schedules makes reports again and again: it keeps what is to be made when, and asks package jobs for
// each run as it becomes due.
//
// Guarantees:
//
//   - A run is the run of a civil day (civil.go). Its job is named after schedule and day and made with
//     compare-and-set, so there is one, however many reporters look at the same moment, crash, or look again.
//   - Runs that became due while a schedule was disabled, or before it was there, are not made up. After a time
//     in which no reporter ran, exactly the run that was due last is made.
//   - A run covers days that are over, and begins when everything recorded in them is counted.
//   - A run is made with the rights that the schedule's owner, who saved it last, has at that moment. One that they may not
//     have any more is there, refused, with the reason; the schedule stays, and whoever may saves it to take it over.
//   - A wall clock that jumps back repeats nothing. One that jumps ahead makes runs early, which then wait for
//     their days to be over by the clock of the log.
package schedules

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
)

// SchedulesMax bounds the schedules of a tenant.
const SchedulesMax = 500

// ReportDefault is what a schedule makes that does not say: the Usage Report of the page.
const ReportDefault = "tenant-usage"

// CodeFull is the code of a tenant that has as many schedules as it may.
const CodeFull = "too-many-schedules"

// Spec is what a schedule is to be. What is left empty has the default of the page.
type Spec struct {
	Name        string // required
	Description string
	Report      string            // "": tenant-usage
	Parameters  map[string]string // but for those of the period, which each run sets
	Format      string            // "": csv
	Raw         bool
	KeepDays    int      // 0: as configured
	Recipients  []string // at least one
	Recurrence  string   // Daily, Weekly, Monthly; Hourly for elastic-usage
	Weekday     string   // of Weekly, required there
	MonthDay    int      // of Monthly: 1 (default) to 31
	At          string   // 15:04; "": 01:00
	Zone        string   // "": UTC
	Disabled    bool
}

// Schedule is a schedule and when it runs next.
type Schedule struct {
	control.Schedule
	Next     time.Time // zero: it is disabled
	NextFrom string    // what the next run covers, as the report will be asked
	NextTo   string
}

// Book is where schedules are kept and looked at, and the reporter's share in running them. Its methods may be
// used concurrently. Errors that the asker can do something about are *report.Error.
type Book struct {
	control   *control.Store
	schedules *control.Schedules
	desk      *jobs.Desk
	now       func() time.Time
	log       *zap.Logger

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Start begins to run schedules. It outlives ctx until Stop, which comes before that of desk.
func Start(ctx context.Context, store *control.Store, desk *jobs.Desk, now func() time.Time, log *zap.Logger) *Book {
	b := &Book{control: store, desk: desk, now: func() time.Time { return now().UTC().Truncate(time.Millisecond) }, log: log}
	b.schedules = store.Schedules(ctx)
	ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	b.running.Go(func() {
		changed, stop := b.schedules.Watch()
		defer stop()
		newTicker(b, b, b.now, log).run(ctx, changed)
	})
	return b
}

// Stop ends the running of schedules.
func (b *Book) Stop() {
	b.cancel()
	b.running.Wait()
	b.schedules.Close()
}

// Create makes a schedule.
func (b *Book) Create(ctx context.Context, tenant, who string, spec Spec) (Schedule, error) {
	now := b.now()
	one := control.Schedule{Tenant: tenant, ID: uuid.Must(uuid.NewV7()).String(), CreatedAt: now, CreatedBy: who, Since: now, Owner: who, Enabled: !spec.Disabled}
	if err := b.shape(ctx, &one, spec); err != nil {
		return Schedule{}, err
	}
	one.ChangedAt, one.ChangedBy = now, who
	have, err := b.schedules.All(ctx, tenant)
	if err != nil {
		return Schedule{}, err
	}
	if len(have) >= SchedulesMax {
		return Schedule{}, &report.Error{Code: CodeFull, Detail: fmt.Sprintf("there are %d schedules already; delete some", len(have))}
	}
	one, err = b.control.AddSchedule(ctx, one)
	if err != nil {
		return Schedule{}, err
	}
	b.schedules.Put(one)
	return b.view(one), nil
}

// List are a tenant's schedules, by name.
func (b *Book) List(ctx context.Context, tenant string) ([]Schedule, error) {
	if tenant == "" {
		return nil, nil // a caller without a tenant sees nobody's
	}
	all, err := b.schedules.All(ctx, tenant)
	if err != nil {
		return nil, err
	}
	list := make([]Schedule, 0, len(all))
	for _, one := range all {
		list = append(list, b.view(one))
	}
	return list, nil
}

// Get is one schedule.
func (b *Book) Get(ctx context.Context, tenant, id string) (Schedule, error) {
	one, err := b.read(ctx, tenant, id)
	if err != nil {
		return Schedule{}, err
	}
	return b.view(one), nil
}

func (b *Book) read(ctx context.Context, tenant, id string) (control.Schedule, error) {
	one, err := b.control.Schedule(ctx, tenant, id)
	if errors.Is(err, control.ErrUnknownSchedule) {
		return one, &report.Error{Code: report.CodeNotFound, Detail: "no schedule " + id}
	}
	return one, err
}

// conflictsMax bounds how often a change is tried again because somebody else changed the same schedule.
const conflictsMax = 10

// change reads a schedule, changes it and writes it, again while others come in between. edit answers false for
// nothing to do.
func (b *Book) change(ctx context.Context, tenant, who, id, change string, edit func(*control.Schedule) (bool, error)) (Schedule, error) {
	for range conflictsMax {
		one, err := b.read(ctx, tenant, id)
		if err != nil {
			return Schedule{}, err
		}
		edited, err := edit(&one)
		if err != nil {
			return Schedule{}, err
		}
		if !edited {
			return b.view(one), nil
		}
		one.ChangedAt, one.ChangedBy = b.now(), who
		one, err = b.control.ChangeSchedule(ctx, one, change)
		if err == nil {
			b.schedules.Put(one)
			return b.view(one), nil
		}
		if !errors.Is(err, control.ErrConflict) {
			return Schedule{}, err
		}
	}
	return Schedule{}, &report.Error{Code: jobs.CodeBusy, Detail: "others change schedule " + id + " all the time; ask again"}
}

// Replace makes a schedule what spec says, and who does it its owner. A change of its times counts from now: no run of before is made up.
func (b *Book) Replace(ctx context.Context, tenant, who, id string, spec Spec) (Schedule, error) {
	return b.change(ctx, tenant, who, id, "replaced", func(one *control.Schedule) (bool, error) {
		before := *one
		if err := b.shape(ctx, one, spec); err != nil {
			return false, err
		}
		one.Owner, one.Enabled = who, !spec.Disabled
		if one.Enabled && (!before.Enabled || before.Recurrence != one.Recurrence || before.Weekday != one.Weekday || before.MonthDay != one.MonthDay ||
			before.At != one.At || before.Zone != one.Zone) {
			one.Since = b.now()
		}
		return true, nil
	})
}

// SetEnabled enables or disables a schedule. Runs that were due while it was disabled are not made up.
func (b *Book) SetEnabled(ctx context.Context, tenant, who, id string, enabled bool) (Schedule, error) {
	change := "disabled"
	if enabled {
		change = "enabled"
	}
	return b.change(ctx, tenant, who, id, change, func(one *control.Schedule) (bool, error) {
		if one.Enabled == enabled {
			return false, nil
		}
		one.Enabled = enabled
		if enabled {
			one.Since = b.now()
		}
		return true, nil
	})
}

// Delete ends a schedule for ever. What it made stays.
func (b *Book) Delete(ctx context.Context, tenant, who, id string) error {
	_, err := b.change(ctx, tenant, who, id, "deleted", func(one *control.Schedule) (bool, error) {
		one.Enabled, one.DeletedAt = false, b.now()
		return true, nil
	})
	return err
}

// Runs are the jobs of a schedule that there were, newest first.
func (b *Book) Runs(ctx context.Context, tenant, id string) ([]jobs.Job, error) {
	all, err := b.desk.List(ctx, tenant)
	return slices.DeleteFunc(all, func(j jobs.Job) bool { return j.Schedule != id }), err
}

// view adds when a schedule runs next.
func (b *Book) view(one control.Schedule) Schedule {
	v := Schedule{Schedule: one}
	rule, err := RuleOf(&one)
	if err != nil || !one.Enabled {
		return v
	}
	if run, ok := rule.Next(b.now()); ok {
		v.Next = run.Due
		p := periodOf(rule.Every, run)
		v.NextFrom, v.NextTo = p.first(), p.last()
	}
	return v
}

// shape reads a spec into a schedule.
func (b *Book) shape(ctx context.Context, one *control.Schedule, spec Spec) error {
	if strings.TrimSpace(spec.Name) == "" {
		return wrong("name", "must be given")
	}
	if spec.Report == "" {
		spec.Report = ReportDefault
	}
	if spec.At == "" {
		spec.At = "01:00"
	}
	if spec.Zone == "" {
		spec.Zone = "UTC"
	}
	one.Recurrence, one.Weekday, one.MonthDay, one.At, one.Zone = "", "", 0, spec.At, spec.Zone
	for _, r := range []Recurrence{Hourly, Daily, Weekly, Monthly} {
		if strings.EqualFold(string(r), spec.Recurrence) {
			one.Recurrence = string(r)
		}
	}
	switch Recurrence(one.Recurrence) {
	case Weekly:
		day, err := ParseWeekday(spec.Weekday)
		if err != nil {
			return wrong("weekday", err.Error())
		}
		one.Weekday = day.String()
	case Monthly:
		if one.MonthDay = spec.MonthDay; one.MonthDay == 0 {
			one.MonthDay = 1
		}
	}
	rule, err := RuleOf(one)
	if err != nil {
		return err
	}
	request, err := b.desk.Shape(jobs.Request{
		Report: spec.Report, Parameters: spec.Parameters, Format: spec.Format, Raw: spec.Raw, Name: spec.Name, Description: spec.Description,
		KeepDays: spec.KeepDays, Recipients: spec.Recipients,
	})
	if err != nil {
		return err
	}
	if len(request.Recipients) == 0 {
		return wrong("recipients", "want at least one address, such as finance@example.com")
	}
	one.Name, one.Description, one.Report, one.Parameters = request.Name, request.Description, request.Report, request.Parameters
	one.Format, one.Raw, one.KeepDays, one.Recipients = request.Format, request.Raw, request.KeepDays, request.Recipients
	last, ok := rule.Last(b.now())
	if !ok {
		return wrong("recurrence", "the schedule would never run")
	}
	// As the last run would have been asked: what is wrong with it is wrong with the next.
	if request, err = requestOf(one, rule.Every, last); err != nil {
		return err
	}
	_, err = b.desk.Check(ctx, one.Tenant, request)
	return err
}

// RuleOf reads when a schedule runs.
func RuleOf(one *control.Schedule) (Rule, error) {
	r := Rule{Every: Recurrence(one.Recurrence), MonthDay: one.MonthDay}
	switch r.Every {
	case Hourly, Daily:
	case Weekly:
		day, err := ParseWeekday(one.Weekday)
		if err != nil {
			return r, wrong("weekday", err.Error())
		}
		r.Weekday = day
	case Monthly:
		if r.MonthDay < 1 || r.MonthDay > 31 {
			return r, wrong("month_day", "want 1 to 31; a month without that day has its last one")
		}
	default:
		return r, wrong("recurrence", "want Daily, Weekly or Monthly; for elastic-usage also Hourly")
	}
	at, err := time.Parse("15:04", one.At)
	if err != nil || len(one.At) != len("15:04") {
		return r, wrong("at", "want a time of day such as 01:00 or 18:30")
	}
	r.Hour, r.Minute = at.Hour(), at.Minute()
	if r.Zone, err = time.LoadLocation(one.Zone); err != nil || one.Zone == "Local" || strings.ContainsAny(one.Zone, `\. `) {
		return r, wrong("zone", "want a name of the time zone database, such as UTC, Europe/Berlin or America/New_York")
	}
	return r, nil
}

func wrong(parameter, detail string) *report.Error {
	return &report.Error{Code: report.CodeParameter, Parameter: parameter, Detail: detail}
}

// requestOf is what a run asks for.
func requestOf(one *control.Schedule, every Recurrence, run Run) (jobs.Request, error) {
	parameters, err := fill(one.Report, one.Parameters, every, run)
	if err != nil {
		return jobs.Request{}, err
	}
	return jobs.Request{
		Report: one.Report, Parameters: parameters, Format: one.Format, Raw: one.Raw, Name: one.Name, Description: one.Description,
		KeepDays: one.KeepDays, Recipients: one.Recipients,
	}, nil
}

// period is what a run covers: [from, to) of UTC.
type period struct{ from, to time.Time }

// periodOf is what a run reports on: the day before, the seven days before, the month before.
func periodOf(every Recurrence, run Run) period {
	month := time.Date(run.Day.Year(), run.Day.Month(), 1, 0, 0, 0, 0, time.UTC)
	switch every {
	case Hourly:
		return period{run.Day.Add(-time.Hour), run.Day}
	case Weekly:
		return period{run.Day.AddDate(0, 0, -7), run.Day}
	case Monthly:
		return period{month.AddDate(0, -1, 0), month}
	}
	return period{run.Day.AddDate(0, 0, -1), run.Day}
}

func (p period) first() string { return p.from.Format(time.DateOnly) }

func (p period) last() string { return p.to.Add(-time.Nanosecond).Format(time.DateOnly) }

// Ways in which reports are asked for a period.
const (
	byDates     = iota // from and to, days, both inclusive
	byInstants         // from and to, the latter exclusive
	byMonth            // month: the one that the last day covered is in
	byPast             // month: the last that is over
	byPastRange        // the same as from and to
	byProcessed        // processing_month: as byMonth
	byNothing          // as it is when it runs
)

var ways = map[string]int{ //nolint:gochecknoglobals // a table of constants
	"sta-usage": byPast, "sta-monthly-summary": byPastRange, "tenant-usage": byDates, "tenant-usage-api": byDates, "asset-usage-detail": byMonth,
	"asset-monthly-costs": byMonth, "asset-adjustments": byProcessed, "elastic-usage": byInstants, "subscriptions": byNothing,
	"transactions": byDates, "certificate-usage": byNothing, "monthly-usage": byMonth,
}

// PeriodParameters are those that a run sets; a schedule does not have them.
func PeriodParameters() []string {
	return []string{"from", "to", "month", "period", "processing_month"}
}

// fill are the parameters of a run.
func fill(name string, parameters map[string]string, every Recurrence, run Run) (map[string]string, error) {
	for _, p := range PeriodParameters() {
		if parameters[p] != "" {
			return nil, wrong(p, "is set by the schedule, for each run: leave it out")
		}
	}
	way, ok := ways[name]
	if !ok {
		return nil, wrong("report", name+" cannot be scheduled")
	}
	if every == Hourly && way != byInstants {
		return nil, wrong("recurrence", "Hourly is for elastic-usage: want Daily, Weekly or Monthly")
	}
	all := maps.Clone(parameters)
	if all == nil {
		all = map[string]string{}
	}
	p := periodOf(every, run)
	past := time.Date(run.Day.Year(), run.Day.Month()-1, 1, 0, 0, 0, 0, time.UTC).Format("2006-01")
	month := p.last()[:len("2006-01")]
	switch way {
	case byDates:
		all["from"], all["to"] = p.first(), p.last()
	case byInstants:
		all["from"], all["to"] = p.from.Format(time.RFC3339), p.to.Format(time.RFC3339)
	case byMonth:
		all["month"] = month
	case byPast:
		all["month"] = past
	case byPastRange:
		all["from"], all["to"] = past, past
	case byProcessed:
		all["processing_month"] = month
	}
	return all, nil
}

// Words describe a schedule's times for people: "Weekly, Monday, 01:00 UTC".
func Words(one *control.Schedule) string {
	words := one.Recurrence
	switch Recurrence(one.Recurrence) {
	case Weekly:
		words += ", " + one.Weekday
	case Monthly:
		words += ", day " + strconv.Itoa(one.MonthDay)
	}
	return words + ", " + one.At + " " + one.Zone
}
