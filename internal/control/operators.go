package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/eventlog"
)

const (
	operatorSubject = "control.operator." // <hash of the login>
	grantsMax       = 100                 // of an operator
	accountMax      = 256                 // bytes of an account id
)

// Operator is a person, or a program, that signs in to see and do things. Logins are unique over all tenants.
type Operator struct {
	ID          string         `json:"id"`
	Tenant      string         `json:"tenant"`
	Login       string         `json:"login"`
	Name        string         `json:"name"`
	Email       string         `json:"email,omitzero"`
	Subject     string         `json:"subject,omitzero"` // at the issuer of OIDC: <issuer>|<sub>; "": bound at the first sign-in there
	Grants      []access.Grant `json:"grants"`
	CreatedAt   time.Time      `json:"created_at"`
	CreatedBy   string         `json:"created_by,omitzero"`
	DisabledAt  time.Time      `json:"disabled_at,omitzero"` // zero: may sign in
	HasPassword bool           `json:"has_password"`
	// EndsSessions: sessions that began before it are over, everywhere.
	EndsSessions time.Time `json:"ends_sessions,omitzero"`

	hash     string
	revision uint64
}

// OperatorSpec is what a new operator is to be.
type OperatorSpec struct {
	Tenant, Login, Name, Email, Subject string
	Password                            string // "": signs in at the issuer of OIDC only
	Grants                              []access.Grant
}

// operatorEvent is one message of CONTROL: what happened to an operator, and the state after it.
type operatorEvent struct {
	Change   string    `json:"change"`
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Operator Operator  `json:"operator"`
	Hash     string    `json:"password_argon2id,omitzero"`
	Note     string    `json:"note,omitzero"`
}

func (e operatorEvent) audit() (Entry, bool) {
	o := &e.Operator
	detail := map[string]string{"grants": grantTexts(o.Grants)}
	if e.Note != "" {
		detail["note"] = e.Note
	}
	return Entry{Tenant: o.Tenant, By: e.By, Action: "operator-" + e.Change, Target: o.Login, Detail: detail}, true
}

func grantTexts(grants []access.Grant) string {
	texts := make([]string, len(grants))
	for i, g := range grants {
		texts[i] = grantText(g)
	}
	return strings.Join(texts, ", ")
}

func grantText(g access.Grant) string {
	if g.Account == "" {
		return g.Role
	}
	return g.Role + " of " + g.Account
}

// operatorID is where an operator is kept, so that of two with a login one is refused.
func operatorID(login string) string { return hexSum([]byte(strings.ToLower(login)))[:32] }

func decodeOperator(revision uint64, data []byte) (Operator, error) {
	var e operatorEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return Operator{}, fmt.Errorf("message %d of %s: %w", revision, stream, err)
	}
	e.Operator.hash, e.Operator.revision = e.Hash, revision
	return e.Operator, nil
}

// Operators are those of a tenant, or of all for "", by login, disabled ones included.
func (p *People) Operators(ctx context.Context, tenant string) ([]Operator, error) {
	all, err := p.operators.all(ctx, func(o Operator) bool { return tenant == "" || o.Tenant == tenant })
	if err != nil {
		return nil, fmt.Errorf("list operators: %w", err)
	}
	for i := range all {
		all[i].Grants = slices.Clone(all[i].Grants)
	}
	slices.SortFunc(all, func(a, b Operator) int { return cmp.Compare(strings.ToLower(a.Login), strings.ToLower(b.Login)) })
	return all, nil
}

// Operator reads an operator from the server, by id or login; ErrUnknownOperator if the tenant has none. Tenant "" is any.
func (p *People) Operator(ctx context.Context, tenant, id string) (Operator, error) {
	unknown := fmt.Errorf("%w: %q", ErrUnknownOperator, id)
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		id = operatorID(id)
	}
	revision, data, err := p.store.last(ctx, operatorSubject+id)
	if err != nil {
		return Operator{}, fmt.Errorf("read operator: %w", err)
	}
	if revision == 0 {
		return Operator{}, unknown
	}
	o, err := decodeOperator(revision, data)
	if err == nil && tenant != "" && o.Tenant != tenant {
		return Operator{}, unknown
	}
	return o, err
}

// CreateOperator makes an operator; ErrTaken if the login is.
func (p *People) CreateOperator(ctx context.Context, by Actor, spec OperatorSpec) (Operator, error) {
	if err := by.may(spec.Tenant, access.Operators, access.Add); err != nil {
		return Operator{}, err
	}
	at := p.store.now().UTC().Truncate(time.Millisecond)
	o := Operator{
		ID: operatorID(spec.Login), Tenant: spec.Tenant, Login: spec.Login, Name: strings.TrimSpace(spec.Name), Email: spec.Email, Subject: spec.Subject,
		Grants: []access.Grant{}, CreatedAt: at, CreatedBy: by.By, HasPassword: spec.Password != "",
	}
	if o.Name == "" {
		o.Name = o.Login
	}
	if err := o.check(); err != nil {
		return o, err
	}
	if spec.Password != "" {
		if err := checkPassword(spec.Password); err != nil {
			return o, err
		}
	}
	for _, g := range spec.Grants {
		var err error
		if o.Grants, err = p.granted(ctx, by, o, g); err != nil {
			return o, err
		}
	}
	if _, err := p.Operator(ctx, "", o.ID); err == nil {
		return o, fmt.Errorf("create operator %s: %w", o.Login, ErrTaken)
	} else if !errors.Is(err, ErrUnknownOperator) {
		return o, err
	}
	if spec.Password != "" {
		o.hash = p.hashing.hash(spec.Password)
	}
	o, err := p.writeOperator(ctx, "created", by, o, "")
	if errors.Is(err, ErrConflict) {
		err = fmt.Errorf("create operator %s: %w", o.Login, ErrTaken)
	}
	return o, err
}

func (o *Operator) check() error {
	if !eventlog.ValidTenant(o.Tenant) {
		return badTenant(o.Tenant)
	}
	if o.Login == "" || !printable(o.Login, nameMax) || strings.ContainsAny(o.Login, " \t") || strings.TrimSpace(o.Login) != o.Login {
		return refused("login", "want 1 to %d bytes without spaces", nameMax)
	}
	if !printable(o.Name, nameMax) {
		return refused("name", "want at most %d bytes, none of them a control character", nameMax)
	}
	if o.Email != "" {
		if a, err := mail.ParseAddress(o.Email); err != nil || a.Address != o.Email || len(o.Email) > 254 {
			return refused("email", "want an address such as ann@example.com")
		}
	}
	if !printable(o.Subject, 512) {
		return refused("subject", "want <issuer>|<sub>")
	}
	return nil
}

// OperatorEdit is what is to be another; nil stays.
type OperatorEdit struct{ Name, Email, Subject *string }

// EditOperator changes what is said of an operator.
func (p *People) EditOperator(ctx context.Context, by Actor, tenant, id string, edit OperatorEdit) (Operator, error) {
	return p.change(ctx, by, tenant, id, access.Edit, "edited", "", func(o *Operator) error {
		for _, f := range []struct{ have, want *string }{{&o.Name, edit.Name}, {&o.Email, edit.Email}, {&o.Subject, edit.Subject}} {
			if f.want != nil {
				*f.have = strings.TrimSpace(*f.want)
			}
		}
		return o.check()
	})
}

// DisableOperator ends all sessions of an operator and lets nobody sign in as them.
func (p *People) DisableOperator(ctx context.Context, by Actor, tenant, id string) (Operator, error) {
	return p.change(ctx, by, tenant, id, access.Remove, "disabled", "", func(o *Operator) error {
		if o.DisabledAt.IsZero() {
			o.DisabledAt = p.store.now().UTC().Truncate(time.Millisecond)
		}
		o.EndsSessions = p.store.now().UTC()
		return nil
	})
}

// EnableOperator lets an operator sign in again.
func (p *People) EnableOperator(ctx context.Context, by Actor, tenant, id string) (Operator, error) {
	return p.change(ctx, by, tenant, id, access.Edit, "enabled", "", func(o *Operator) error {
		o.DisabledAt = time.Time{}
		return nil
	})
}

// SetPassword gives an operator another password and ends all their sessions.
func (p *People) SetPassword(ctx context.Context, by Actor, tenant, id, password string) (Operator, error) {
	if err := checkPassword(password); err != nil {
		return Operator{}, err
	}
	hash := p.hashing.hash(password)
	return p.change(ctx, by, tenant, id, access.Edit, "password-set", "", func(o *Operator) error {
		o.hash, o.HasPassword, o.EndsSessions = hash, true, p.store.now().UTC()
		return nil
	})
}

// Grant gives an operator a role, for an account and those below it or, without one, for the tenant. It is in force
// from the next sign-in on.
func (p *People) Grant(ctx context.Context, by Actor, tenant, id string, g access.Grant) (Operator, error) {
	return p.change(ctx, by, tenant, id, access.Edit, "granted", grantText(g), func(o *Operator) (err error) {
		o.Grants, err = p.granted(ctx, by, *o, g)
		return err
	})
}

// Revoke takes a role from an operator, from the next sign-in on; DisableOperator is in force at once.
func (p *People) Revoke(ctx context.Context, by Actor, tenant, id string, g access.Grant) (Operator, error) {
	return p.change(ctx, by, tenant, id, access.Edit, "revoked", grantText(g), func(o *Operator) error {
		i := slices.IndexFunc(o.Grants, func(have access.Grant) bool { return strings.EqualFold(have.Role, g.Role) && have.Account == g.Account })
		if i < 0 {
			return fmt.Errorf("%w: %s has no grant %s", ErrUnknownRole, o.Login, grantText(g))
		}
		if by.Viewer != nil && !by.Viewer.Manages(g.Role) {
			return fmt.Errorf("role %s is not among those you manage: %w", g.Role, access.ErrForbidden)
		}
		o.Grants = slices.Delete(slices.Clone(o.Grants), i, i+1)
		return nil
	})
}

// granted are the grants of an operator with one more, if it may be given.
func (p *People) granted(ctx context.Context, by Actor, o Operator, g access.Grant) ([]access.Grant, error) {
	role, err := p.Role(ctx, o.Tenant, g.Role)
	if err != nil {
		return nil, err
	}
	g.Role = role.Name
	if by.Viewer != nil && !by.Viewer.Manages(role.Name) {
		return nil, fmt.Errorf("role %s is not among those you manage: %w", role.Name, access.ErrForbidden)
	}
	if !printable(g.Account, accountMax) {
		return nil, refused("account", "want the id of an account")
	}
	if slices.Contains(o.Grants, g) {
		return o.Grants, nil
	}
	if len(o.Grants) >= grantsMax {
		return nil, refused("grants", "an operator has at most %d", grantsMax)
	}
	return append(slices.Clone(o.Grants), g), nil
}

// change reads an operator, changes it and writes it, again if somebody else did meanwhile. Who changes somebody must
// manage every role they have: a new password for an administrator is an administrator's rights.
func (p *People) change(ctx context.Context, by Actor, tenant, id string, verb access.Verb, change, note string, edit func(*Operator) error) (Operator, error) {
	for range conflictsMax {
		o, err := p.Operator(ctx, tenant, id)
		if err != nil {
			return o, err
		}
		self := change == "password-set" && by.Viewer != nil && by.Viewer.ID == o.ID
		if err := by.may(o.Tenant, access.Operators, verb); err != nil && !self {
			return o, err
		}
		for _, g := range o.Grants {
			if by.Viewer != nil && !self && !by.Viewer.Manages(g.Role) {
				return o, fmt.Errorf("%s has the role %s, which is not among those you manage: %w", o.Login, g.Role, access.ErrForbidden)
			}
		}
		if err := edit(&o); err != nil {
			return o, err
		}
		o, err = p.writeOperator(ctx, change, by, o, note)
		if !errors.Is(err, ErrConflict) {
			return o, err
		}
		if pause(ctx, retryConflict) != nil {
			break
		}
	}
	return Operator{}, fmt.Errorf("operator %s: %w", change, ErrConflict)
}

func (p *People) writeOperator(ctx context.Context, change string, by Actor, o Operator, note string) (Operator, error) {
	at := p.store.now().UTC().Truncate(time.Millisecond)
	event := operatorEvent{Change: change, At: at, By: by.By, Operator: o, Hash: o.hash, Note: note}
	revision, err := p.store.write(From(ctx, by.From), operatorSubject+o.ID, o.revision, event)
	if err != nil {
		return o, fmt.Errorf("operator %s %s: %w", o.Login, change, err)
	}
	o.revision = revision
	p.operators.put(o)
	return o, nil
}
