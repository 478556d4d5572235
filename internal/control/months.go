package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

const (
	monthSubject = "control.month." // <tenant>.<month>
	// versionsMax bounds the versions of a month: the message that lists them must fit.
	versionsMax = 1000
)

// MonthVersion is a closed version of a month, as it was decided. What it says is stored in the warehouse
// under CloseID, and can be made again from the log: AsOf and Positions are the cut, SHA256 proves it.
type MonthVersion struct {
	Version     int               `json:"version"`
	CloseID     string            `json:"close_id"`
	ClosedAt    time.Time         `json:"closed_at"`
	AsOf        time.Time         `json:"as_of"`
	Positions   map[uint16]uint64 `json:"positions"`
	Rows        int               `json:"rows"`
	Figures     int               `json:"figures"`
	Adjustments int               `json:"adjustments"`
	SHA256      string            `json:"sha256"`
	By          string            `json:"by"`
	Reason      string            `json:"reason,omitzero"` // why open gaps were accepted
}

// Month is the closed versions of a tenant's month, oldest first; none: it was never closed.
type Month struct {
	Tenant   string         `json:"tenant"`
	Month    string         `json:"month"` // 2026-03
	Versions []MonthVersion `json:"versions"`
	revision uint64
}

// Newest is the last version; false where the month was never closed.
func (m Month) Newest() (MonthVersion, bool) {
	if len(m.Versions) == 0 {
		return MonthVersion{}, false
	}
	return m.Versions[len(m.Versions)-1], true
}

// monthEvent is one message of CONTROL: a version was added, and the state after it.
type monthEvent struct {
	Change string    `json:"change"` // closed, restated
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Month  Month     `json:"month"`
}

func subjectOf(tenant, month string) (string, error) {
	if _, err := time.Parse("2006-01", month); err != nil || !eventlog.ValidTenant(tenant) {
		return "", fmt.Errorf("%w: no month of a tenant: %s of %s", ErrInvalid, month, tenant)
	}
	return monthSubject + tenant + "." + month, nil
}

// Month reads a month from the server, not from a cache.
func (s *Store) Month(ctx context.Context, tenant, month string) (Month, error) {
	subject, err := subjectOf(tenant, month)
	if err != nil {
		return Month{}, err
	}
	revision, data, err := s.last(ctx, subject)
	if err != nil {
		return Month{}, fmt.Errorf("read month %s of %s: %w", month, tenant, err)
	}
	if revision == 0 {
		return Month{Tenant: tenant, Month: month}, nil
	}
	return decodeMonth(revision, data)
}

// ClosedMonths reads the months that were closed, by tenant and month, from the server: Months may be a moment behind.
// They are to be looked at; what is to be added to is read with Month.
func (s *Store) ClosedMonths(ctx context.Context) ([]Month, error) {
	newest := map[string]Month{}
	err := s.walk(ctx, monthSubject+">", func(subject string, data []byte, _ time.Time) error {
		m, err := decodeMonth(0, data)
		newest[subject] = m // a later message of a month holds all of an earlier one
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the closed months: %w", err)
	}
	all := slices.Collect(maps.Values(newest))
	slices.SortFunc(all, byTenantAndMonth)
	return all, nil
}

func byTenantAndMonth(a, b Month) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Month, b.Month))
}

func decodeMonth(revision uint64, data []byte) (Month, error) {
	var e monthEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return Month{}, fmt.Errorf("message %d of %s: %w", revision, stream, err)
	}
	e.Month.revision = revision
	return e.Month, nil
}

// AddVersion makes v the next version of a month that was read with Month, if nothing was added to it since;
// ErrConflict if something was. This is the decision: of two closes at a time one wins here.
func (s *Store) AddVersion(ctx context.Context, m Month, v MonthVersion) (Month, error) {
	subject, err := subjectOf(m.Tenant, m.Month)
	if err != nil {
		return Month{}, err
	}
	if len(m.Versions) >= versionsMax {
		return Month{}, fmt.Errorf("%w: month %s of %s has %d versions, and may not have more", ErrInvalid, m.Month, m.Tenant, versionsMax)
	}
	if v.Version != len(m.Versions)+1 {
		return Month{}, fmt.Errorf("%w: version %d of a month that has %d", ErrInvalid, v.Version, len(m.Versions))
	}
	change := "restated"
	if v.Version == 1 {
		change = "closed"
	}
	m.Versions = append(slices.Clone(m.Versions), v)
	revision, err := s.write(ctx, subject, m.revision, monthEvent{Change: change, At: v.ClosedAt, By: v.By, Month: m})
	if err != nil {
		return Month{}, fmt.Errorf("add version %d to month %s of %s: %w", v.Version, m.Month, m.Tenant, err)
	}
	m.revision = revision
	return m, nil
}

// Months follows every month that was closed. Its methods may be used concurrently.
type Months struct {
	log *zap.Logger

	mu      sync.Mutex
	all     map[string]Month // by subject
	ready   bool
	changed chan struct{}

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Months starts following. It outlives ctx until Close.
func (s *Store) Months(ctx context.Context) *Months {
	m := &Months{log: s.log, all: map[string]Month{}, changed: make(chan struct{}, 1)}
	ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	m.running.Go(func() { follow(ctx, s.conn, s.log, &monthFollower{Months: m}) })
	return m
}

// Close stops following.
func (m *Months) Close() {
	m.cancel()
	m.running.Wait()
}

// Changed signals that a month changed since the last signal was taken.
func (m *Months) Changed() <-chan struct{} { return m.changed }

// All are the months that were closed, by tenant and month; false while they are not known yet.
func (m *Months) All() ([]Month, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Month, 0, len(m.all))
	for _, one := range m.all {
		all = append(all, one)
	}
	slices.SortFunc(all, byTenantAndMonth)
	return all, m.ready
}

// monthFollower feeds Months.
type monthFollower struct {
	*Months
	loading map[string]Month // from begin to synced
}

func (f *monthFollower) source() (string, string) { return stream, monthSubject + ">" }

func (f *monthFollower) ensure(ctx context.Context, conn *eventlog.Conn) error {
	return ensure(ctx, conn)
}

func (f *monthFollower) begin() { f.loading = map[string]Month{} }

func (f *monthFollower) apply(subject string, revision uint64, _ string, data []byte) {
	m, err := decodeMonth(revision, data)
	if want, invalid := subjectOf(m.Tenant, m.Month); err != nil || invalid != nil || want != subject {
		f.log.Error("control state holds a message that is no month", zap.String("subject", subject), zap.Uint64("seq", revision), zap.Error(errors.Join(err, invalid)))
		return
	}
	if f.loading != nil {
		f.loading[subject] = m
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[subject] = m
	f.signal()
}

func (f *monthFollower) synced() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all, f.loading, f.ready = f.loading, nil, true
	f.signal()
}

func (f *monthFollower) lost() {}

// signal never waits: one that was not taken yet says the same.
func (f *monthFollower) signal() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}
