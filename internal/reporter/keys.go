package reporter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// newKey is the body of POST /keys.
type newKey struct {
	Tenant  string   `json:"tenant,omitempty" required:"false" doc:"Default: the tenant of the key that asks"`
	Name    string   `json:"name,omitempty" required:"false" doc:"For people"`
	Scopes  []string `json:"scopes" doc:"What the key may do"`
	Expires string   `json:"expires,omitempty" required:"false" doc:"After a time (30d, 12h) or at an instant (RFC 3339); default: never"`
	At      string   `json:"expires_at,omitempty" required:"false" doc:"The same as expires; one of them"`
}

type newKeyOutput struct{ Body madeKey }

type madeKey struct {
	control.Key
	Secret string `json:"key" doc:"Shown here and never again"`
}

type keysInput struct {
	Tenant string `query:"tenant" doc:"Another tenant, or * for all; only for admin keys of tenant default"`
	Format string `query:"format" doc:"json or csv; default: the header Accept"`
}

type keysOutput struct{ Body keysAnswer }

type keysAnswer struct {
	Rows []control.Key `json:"rows" doc:"Oldest first, revoked and expired ones included"`
}

func (a keysAnswer) columns() []string {
	return []string{"id", "tenant", "name", "scopes", "created_at", "expires_at", "revoked_at"}
}

func (a keysAnswer) cells(row func(...cell)) {
	for _, k := range a.Rows {
		row(text(k.ID), text(k.Tenant), text(k.Name), text(strings.Join(k.Scopes, " ")), moment(k.CreatedAt), moment(k.ExpiresAt), moment(k.RevokedAt))
	}
}

// ContentType names the character set of CSV.
func (a keysAnswer) ContentType(ct string) string { return tableType(ct) }

func (s *server) registerKeys() {
	rule := "An admin key manages the keys of its own tenant; an admin key of tenant default those of every tenant."
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "create-key", Method: http.MethodPost, Path: "/keys", Tags: []string{"keys"}, Summary: "Make an API key", Description: rule,
			DefaultStatus: http.StatusCreated, MaxBodyBytes: -1, // checked by ourselves, to refuse in our shape
			RequestBody: jsonBody[newKey](s, "NewKey"),
		},
	}, s.createKey)
	register(s, endpoint{
		Operation: huma.Operation{OperationID: "keys", Method: http.MethodGet, Path: "/keys", Tags: []string{"keys"}, Summary: "API keys, without their secrets", Description: rule},
		rows:      true,
	}, s.listKeys)
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "revoke-key", Method: http.MethodDelete, Path: "/keys/{id}", Tags: []string{"keys"}, Summary: "End an API key for ever",
			Description: "In force everywhere within 5 s. " + rule, DefaultStatus: http.StatusNoContent,
		},
	}, s.revokeKey)
}

// manages reports whether the caller may touch the keys of the tenant.
func (c caller) manages(tenant string) bool {
	if c.viewer != nil {
		return tenant == c.Tenant // the right was checked on the way in
	}
	return c.has(access.ScopeAdmin) && (tenant == c.Tenant || c.Tenant == tenantOfTenants)
}

func (s *server) createKey(ctx context.Context, who caller, in *rawBody) (*newKeyOutput, error) {
	var body newKey
	if err := readBody(in.RawBody, &body); err != nil {
		return nil, err
	}
	spec := control.Spec{Tenant: body.Tenant, Name: body.Name, Scopes: body.Scopes}
	if spec.Tenant == "" {
		spec.Tenant = who.Tenant
	}
	if !who.manages(spec.Tenant) {
		return nil, refuse(codeScope, "only admin keys of tenant "+tenantOfTenants+" make keys of another tenant")
	}
	if body.Expires != "" && body.At != "" {
		return nil, member(codeParameter, "expires", "means the same as expires_at: give one of them")
	}
	var err error
	if spec.Expires, err = expiry(body.Expires + body.At); err != nil {
		return nil, err
	}
	key, secret, err := s.people.CreateKey(ctx, who.actor(), spec)
	if err != nil {
		return nil, keyProblem(err)
	}
	return &newKeyOutput{madeKey{key, secret}}, nil
}

// expiry reads "30d", a Go duration, or an instant; "" is never.
func expiry(value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	if at, err := usage.ParseInstant(value); err == nil {
		return at.Time(), nil
	}
	wait, err := time.ParseDuration(value)
	if days, ok := strings.CutSuffix(value, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		wait = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || wait <= 0 || wait > 100*366*24*time.Hour {
		return time.Time{}, member(codeParameter, "expires", "want a time such as 30d or 12h, or an RFC 3339 instant")
	}
	return time.Now().Add(wait).UTC().Truncate(time.Second), nil // the clock the store judges by
}

func (s *server) listKeys(ctx context.Context, who caller, in *keysInput) (*keysOutput, error) {
	tenant := in.Tenant
	switch {
	case tenant == "":
		tenant = who.Tenant
	case !who.manages(tenant):
		return nil, refuse(codeScope, "only admin keys of tenant "+tenantOfTenants+" see keys of another tenant")
	case tenant == "*":
		tenant = ""
	}
	keys, err := s.keys.List(ctx, tenant)
	if err != nil {
		return nil, keyProblem(err)
	}
	return &keysOutput{keysAnswer{append([]control.Key{}, keys...)}}, nil
}

func (s *server) revokeKey(ctx context.Context, who caller, in *oneID) (*none, error) {
	key, err := s.keys.Get(ctx, in.ID)
	if err == nil && !who.manages(key.Tenant) {
		err = control.ErrUnknownKey // that it exists is nobody else's business
	}
	if err == nil {
		err = s.people.RevokeKey(ctx, who.actor(), key.Tenant, in.ID)
	}
	if err != nil {
		return nil, keyProblem(err)
	}
	return nil, nil //nolint:nilnil // 204 has no body
}

// keyProblem is what the client sees of a failure of the store.
func keyProblem(err error) error {
	switch {
	case errors.Is(err, control.ErrUnknownKey):
		return refuse(codeNotFound, "no such key")
	case errors.Is(err, access.ErrForbidden):
		return refuse(codeForbidden, err.Error())
	case errors.Is(err, control.ErrInvalid):
		return invalid(codeParameter, err)
	case errors.Is(err, control.ErrUnavailable):
		return refuse(codeKeys, "the change may have been made or not; look before repeating it")
	}
	return fmt.Errorf("keys: %w", err)
}
