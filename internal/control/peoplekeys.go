package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/countinghouse/countinghouse/internal/access"
)

// Keys are the keys of a tenant, revoked and expired ones included, oldest first.
func (p *People) Keys(ctx context.Context, tenant string) ([]Key, error) {
	return p.store.List(ctx, tenant)
}

// CreateKey makes an API key; secret is shown here and never again. An operator gives no scope for which they have not
// the rights themselves: a key with it would be those rights.
func (p *People) CreateKey(ctx context.Context, by Actor, spec Spec) (key Key, secret string, err error) {
	if err := by.may(spec.Tenant, access.Keys, access.Add); err != nil {
		return Key{}, "", err
	}
	for _, scope := range spec.Scopes {
		if !by.mayGive(scope) {
			return Key{}, "", fmt.Errorf("scope %s: your roles do not allow what a key with it may do: %w", scope, access.ErrForbidden)
		}
	}
	spec.By = by.By
	secret = NewToken()
	key, err = p.store.CreateWithSecret(From(ctx, by.From), secret, spec)
	return key, secret, err
}

// mayGive: scopes that are none of ours are refused where the key is made.
func (a Actor) mayGive(scope string) bool {
	if a.Viewer == nil || a.Viewer.ManagesAll() {
		return true
	}
	rights, known := access.ScopeRights(scope)
	if !known {
		return !slices.Contains(Scopes(), scope)
	}
	return a.Viewer.ReachAll(rights)
}

// RevokeKey ends a key of the tenant for ever; ErrUnknownKey if it has none of this id.
func (p *People) RevokeKey(ctx context.Context, by Actor, tenant, id string) error {
	if err := by.may(tenant, access.Keys, access.Remove); err != nil {
		return err
	}
	key, err := p.store.Get(ctx, id)
	if err != nil {
		return err
	}
	if key.Tenant != tenant {
		return ErrUnknownKey // that it exists is nobody else's business
	}
	return p.store.RevokeBy(From(ctx, by.From), id, by.By)
}
