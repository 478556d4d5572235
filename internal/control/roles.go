package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/eventlog"
)

const (
	roleSubject = "control.role." // <tenant>.<hash of the name>
	rolesMax    = 500             // of a tenant
)

// customRole is a role that a tenant made. A removed one stays, so that its name can be made again.
type customRole struct {
	access.Role
	Tenant    string    `json:"tenant"`
	RemovedAt time.Time `json:"removed_at,omitzero"`
	revision  uint64
}

// roleEvent is one message of CONTROL: what happened to a role, and the state after it.
type roleEvent struct {
	Change string     `json:"change"` // created, edited, removed
	At     time.Time  `json:"at"`
	By     string     `json:"by"`
	Role   customRole `json:"role"`
}

func (e roleEvent) audit() (Entry, bool) {
	rights := []string{}
	for _, right := range e.Role.Rights.List() {
		rights = append(rights, right.String())
	}
	detail := map[string]string{"rights": strings.Join(rights, " "), "manages": strings.Join(e.Role.Manages, ", ")}
	if e.Role.ManageAll {
		detail["manages"] = "all roles"
	}
	return Entry{Tenant: e.Role.Tenant, By: e.By, Action: "role-" + e.Change, Target: e.Role.Name, Detail: detail}, true
}

func roleName(tenant, name string) string {
	return roleSubject + tenant + "." + hexSum([]byte(strings.ToLower(name)))[:32]
}

func decodeRole(revision uint64, data []byte) (customRole, error) {
	var e roleEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return customRole{}, fmt.Errorf("message %d of %s: %w", revision, stream, err)
	}
	e.Role.revision = revision
	return e.Role, nil
}

// Roles are the system roles and those that the tenant made, by name, the system's first.
func (p *People) Roles(ctx context.Context, tenant string) ([]access.Role, error) {
	own, err := p.roles.all(ctx, func(r customRole) bool { return r.Tenant == tenant && r.RemovedAt.IsZero() })
	if err != nil {
		return nil, fmt.Errorf("list roles: %w", err)
	}
	slices.SortFunc(own, func(a, b customRole) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	all := access.SystemRoles()
	for _, r := range own {
		all = append(all, r.Role)
	}
	return all, nil
}

// Role is a role by its name; ErrUnknownRole if there is none.
func (p *People) Role(ctx context.Context, tenant, name string) (access.Role, error) {
	if r, ok := access.SystemRole(name); ok {
		return r, nil
	}
	r, err := p.custom(ctx, tenant, name)
	return r.Role, err
}

// custom reads a role from the server, not from memory.
func (p *People) custom(ctx context.Context, tenant, name string) (customRole, error) {
	if !eventlog.ValidTenant(tenant) {
		return customRole{}, unknownRole(name)
	}
	revision, data, err := p.store.last(ctx, roleName(tenant, name))
	if err != nil {
		return customRole{}, fmt.Errorf("read role: %w", err)
	}
	if revision == 0 {
		return customRole{Tenant: tenant}, unknownRole(name)
	}
	r, err := decodeRole(revision, data)
	if err == nil && !r.RemovedAt.IsZero() {
		return r, unknownRole(name)
	}
	return r, err
}

func unknownRole(name string) error { return fmt.Errorf("%w: %q", ErrUnknownRole, name) }

// CreateRole makes a role. Who makes it needs all its rights, or to manage all roles.
func (p *People) CreateRole(ctx context.Context, by Actor, tenant string, role access.Role) (access.Role, error) {
	role, err := role.Checked()
	if err != nil {
		return role, badRole(err)
	}
	if err := p.mayMake(by, tenant, access.Add, role); err != nil {
		return role, err
	}
	have, err := p.custom(ctx, tenant, role.Name)
	if err == nil {
		return role, fmt.Errorf("create role %s: %w", role.Name, ErrTaken)
	}
	if !errors.Is(err, ErrUnknownRole) {
		return role, err
	}
	all, err := p.Roles(ctx, tenant)
	if err != nil {
		return role, err
	}
	if len(all) >= rolesMax {
		return role, refused("", "a tenant has at most %d roles", rolesMax)
	}
	have.Role, have.RemovedAt = role, time.Time{}
	return p.writeRole(ctx, "created", by, have)
}

// EditRole gives a role of the tenant another description, other rights; its name stays. Who holds it has them from
// the next sign-in on.
func (p *People) EditRole(ctx context.Context, by Actor, tenant, name string, role access.Role) (access.Role, error) {
	have, err := p.changeable(ctx, by, tenant, name, access.Edit)
	if err != nil {
		return role, err
	}
	role.Name = have.Name
	if role, err = role.Checked(); err != nil {
		return role, badRole(err)
	}
	if err := p.mayMake(by, tenant, access.Edit, role); err != nil {
		return role, err
	}
	have.Role = role
	return p.writeRole(ctx, "edited", by, have)
}

// RemoveRole ends a role that nobody holds; ErrInUse if somebody does.
func (p *People) RemoveRole(ctx context.Context, by Actor, tenant, name string) error {
	have, err := p.changeable(ctx, by, tenant, name, access.Remove)
	if err != nil {
		return err
	}
	holders, err := p.Operators(ctx, tenant)
	if err != nil {
		return err
	}
	for i := range holders {
		if slices.ContainsFunc(holders[i].Grants, func(g access.Grant) bool { return strings.EqualFold(g.Role, have.Name) }) {
			return fmt.Errorf("remove role %s: %w: %s has it", have.Name, ErrInUse, holders[i].Login)
		}
	}
	have.RemovedAt = p.store.now().UTC().Truncate(time.Millisecond)
	_, err = p.writeRole(ctx, "removed", by, have)
	return err
}

// changeable is a role that may be changed by who asks.
func (p *People) changeable(ctx context.Context, by Actor, tenant, name string, verb access.Verb) (customRole, error) {
	if err := by.may(tenant, access.Roles, verb); err != nil {
		return customRole{}, err
	}
	if r, ok := access.SystemRole(name); ok {
		return customRole{}, refused("", "%s is a system role, which nobody changes", r.Name)
	}
	have, err := p.custom(ctx, tenant, name)
	if err != nil {
		return have, err
	}
	if by.Viewer != nil && !by.Viewer.Manages(have.Name) {
		return have, fmt.Errorf("role %s is not among those you manage: %w", have.Name, access.ErrForbidden)
	}
	return have, nil
}

// badRole is a role that cannot be, as this package refuses things.
func badRole(err error) error {
	var bad *access.RoleError
	if errors.As(err, &bad) {
		return refused(bad.Field, "%s", bad.Detail)
	}
	return err
}

func (p *People) mayMake(by Actor, tenant string, verb access.Verb, role access.Role) error {
	if !eventlog.ValidTenant(tenant) {
		return badTenant(tenant)
	}
	if err := by.may(tenant, access.Roles, verb); err != nil {
		return err
	}
	if by.Viewer != nil && !by.Viewer.Covers(role) {
		return fmt.Errorf("role %s has rights, or manages roles, that you do not: %w", role.Name, access.ErrForbidden)
	}
	return nil
}

func (p *People) writeRole(ctx context.Context, change string, by Actor, r customRole) (access.Role, error) {
	at := p.store.now().UTC().Truncate(time.Millisecond)
	revision, err := p.store.write(From(ctx, by.From), roleName(r.Tenant, r.Name), r.revision, roleEvent{Change: change, At: at, By: by.By, Role: r})
	if err != nil {
		return r.Role, fmt.Errorf("role %s %s: %w", r.Name, change, err)
	}
	r.revision = revision
	p.roles.put(r)
	return r.Role, nil
}
