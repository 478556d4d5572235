package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
)

// Made is a report that is made in somebody's name.
type Made struct {
	Tenant     string
	Owner      string // operator:<login> or key:<id>
	Report     string
	Parameters map[string]string
	Scheduled  bool // by a schedule
}

// Refused says why somebody may not have made what they may have been allowed once. It is an access.ErrForbidden.
type Refused struct{ Reason string }

func (r *Refused) Error() string { return r.Reason }

func (r *Refused) Unwrap() error { return access.ErrForbidden }

// Owners are those in whose name reports are made while they are not there.
type Owners struct {
	Reports *report.Reports
	People  *control.People
	Keys    *control.Store
	Now     func() time.Time
}

// Judge says whether the owner may have it made at this moment, by what is in the control state and not by what a session
// or an earlier answer said. *Refused: not. Any other error: it cannot be told now.
func (o *Owners) Judge(ctx context.Context, m Made) error {
	if login, ok := strings.CutPrefix(m.Owner, "operator:"); ok {
		return o.operator(ctx, login, m)
	}
	if id, ok := strings.CutPrefix(m.Owner, "key:"); ok {
		return o.key(ctx, id, m)
	}
	return &Refused{fmt.Sprintf("nobody is known in whose name it would be made (%q)", m.Owner)}
}

func (o *Owners) operator(ctx context.Context, login string, m Made) error {
	viewer, err := o.People.Today(ctx, m.Tenant, login)
	switch {
	case errors.Is(err, control.ErrUnknownOperator):
		return &Refused{m.Owner + " is not there any more"}
	case errors.Is(err, control.ErrDisabled):
		return &Refused{m.Owner + ": " + err.Error()}
	case err != nil:
		return fmt.Errorf("rights of %s: %w", m.Owner, err)
	}
	if m.Scheduled && !viewer.May(access.Schedules, access.Add) && !viewer.May(access.Schedules, access.Edit) {
		return &Refused{"no role of " + m.Owner + " allows schedules any more"}
	}
	err = Job(ctx, o.Reports, viewer, m.Report, m.Parameters)
	switch {
	case errors.Is(err, access.ErrOutside):
		return &Refused{"what " + m.Report + " is asked for is no longer within the reach of " + m.Owner}
	case errors.Is(err, access.ErrForbidden):
		return &Refused{"no role of " + m.Owner + " allows " + m.Report + " as a file any more"}
	}
	return err
}

func (o *Owners) key(ctx context.Context, id string, m Made) error {
	key, err := o.Keys.Get(ctx, id)
	switch {
	case errors.Is(err, control.ErrUnknownKey), err == nil && key.Tenant != m.Tenant:
		return &Refused{m.Owner + " is not there any more"}
	case err != nil:
		return fmt.Errorf("rights of %s: %w", m.Owner, err)
	case !key.RevokedAt.IsZero():
		return &Refused{m.Owner + " was revoked on " + key.RevokedAt.UTC().Format("2006-01-02 15:04")}
	case !key.ExpiresAt.IsZero() && !o.Now().Before(key.ExpiresAt):
		return &Refused{m.Owner + " expired on " + key.ExpiresAt.UTC().Format("2006-01-02 15:04")}
	case !slices.Contains(key.Scopes, access.ScopeReportsWrite):
		return &Refused{m.Owner + " has no scope " + access.ScopeReportsWrite}
	}
	return nil
}
