package control

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Schedule is a report that is made again and again. What its words mean is decided by the reporter.
type Schedule struct {
	Tenant      string            `json:"tenant"`
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description,omitzero"`
	Report      string            `json:"report"`
	Parameters  map[string]string `json:"parameters"` // but for those of the period
	Format      string            `json:"format"`
	Raw         bool              `json:"raw,omitzero"`
	KeepDays    int               `json:"keep_days"`
	Recipients  []string          `json:"recipients"`

	Recurrence string `json:"recurrence"`         // Hourly, Daily, Weekly, Monthly
	Weekday    string `json:"weekday,omitzero"`   // of Weekly
	MonthDay   int    `json:"month_day,omitzero"` // of Monthly
	At         string `json:"at"`                 // 01:00
	Zone       string `json:"zone"`               // UTC, Europe/Berlin

	Enabled   bool      `json:"enabled"`
	Since     time.Time `json:"since"` // runs due at or before it are not made: it was not there, or disabled
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
	Owner     string    `json:"owner,omitzero"` // who saved it last: with whose rights its runs are made
	ChangedAt time.Time `json:"changed_at"`
	ChangedBy string    `json:"changed_by"`
	DeletedAt time.Time `json:"deleted_at,omitzero"`

	revision uint64
}

func (s Schedule) clone() Schedule {
	s.Parameters, s.Recipients = maps.Clone(s.Parameters), slices.Clone(s.Recipients)
	return s
}

// scheduleEvent is one message of CONTROL: what happened to a schedule, and the state after it.
type scheduleEvent struct {
	Change   string    `json:"change"` // created, replaced, enabled, disabled, deleted
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Schedule Schedule  `json:"schedule"`
}

func schedules() kind[Schedule] {
	return kind[Schedule]{
		word: "schedule", unknown: ErrUnknownSchedule,
		place: func(one *Schedule) (string, string, *uint64) { return one.Tenant, one.ID, &one.revision },
		wrap:  func(change, by string, at time.Time, one Schedule) any { return scheduleEvent{change, at, by, one} },
		unwrap: func(data []byte) (Schedule, error) {
			var e scheduleEvent
			err := json.Unmarshal(data, &e)
			return e.Schedule, err
		},
	}
}

// AddSchedule makes a schedule that is not there yet; ErrConflict if it is.
func (s *Store) AddSchedule(ctx context.Context, one Schedule) (Schedule, error) {
	return schedules().add(ctx, s, one, "created", one.ChangedBy, one.ChangedAt)
}

// ChangeSchedule makes one, which was read and then changed, the state of its schedule, if nobody changed it
// since; ErrConflict if somebody did. Who and when are its ChangedBy and ChangedAt.
func (s *Store) ChangeSchedule(ctx context.Context, one Schedule, change string) (Schedule, error) {
	return schedules().change(ctx, s, one, change, one.ChangedBy, one.ChangedAt)
}

// Schedule reads a schedule from the server, not from a cache. A deleted one is ErrUnknownSchedule.
func (s *Store) Schedule(ctx context.Context, tenant, id string) (Schedule, error) {
	one, err := schedules().read(ctx, s, tenant, id)
	if err == nil && !one.DeletedAt.IsZero() {
		err = ErrUnknownSchedule
	}
	return one, err
}

// Schedules follows every schedule. Its methods may be used concurrently.
type Schedules struct{ *kept[Schedule] }

// Schedules starts following. It outlives ctx until Close.
func (s *Store) Schedules(ctx context.Context) *Schedules {
	return &Schedules{schedules().follow(ctx, s)}
}

// All are the schedules of a tenant, or of every tenant for "", by name, without deleted ones; ErrUnavailable
// while they are not known.
func (s *Schedules) All(ctx context.Context, tenant string) ([]Schedule, error) {
	all, err := s.all(ctx, func(one Schedule) bool { return one.DeletedAt.IsZero() && (tenant == "" || one.Tenant == tenant) })
	for i := range all {
		all[i] = all[i].clone()
	}
	slices.SortFunc(all, func(a, b Schedule) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
	})
	return all, err
}

// Put notes what this process wrote itself, so that it is in the next answer.
func (s *Schedules) Put(one Schedule) { s.put(one.clone()) }
