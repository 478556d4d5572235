package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/access"
)

// Why an operator or role cannot be had or changed.
var (
	ErrUnknownOperator = errors.New("no such operator")
	ErrUnknownRole     = errors.New("no such role")
	ErrTaken           = errors.New("there is one of that name already") // an ErrConflict that repeating does not heal
	ErrInUse           = errors.New("still in use")
)

const hashesAtOnce = 4

// People is who may sign in, with which roles, and who is signed in: the operators, custom roles and sessions of
// every tenant, in memory and kept up to date. What its methods refuse (access.ErrForbidden, ErrOutside) holds for
// pages, API and command alike; a key with scope admin and whoever reaches NATS may everything.
type People struct {
	store     *Store
	operators *kept[Operator]
	roles     *kept[customRole]
	sessions  *sessions
	hashing   hashing
}

// People starts following. It outlives ctx until Close.
func (s *Store) People(ctx context.Context) *People {
	return &People{
		store:     s,
		operators: keep(ctx, s, operatorSubject, decodeOperator, func(o Operator) (string, uint64) { return operatorSubject + o.ID, o.revision }),
		roles: keep(ctx, s, roleSubject, decodeRole, func(r customRole) (string, uint64) {
			return roleName(r.Tenant, r.Name), r.revision
		}),
		sessions: newSessions(s),
		hashing:  make(hashing, hashesAtOnce),
	}
}

// Close stops following.
func (p *People) Close() {
	p.operators.Close()
	p.roles.Close()
}

// Ready reports whether operators and roles are loaded.
func (p *People) Ready() bool { return p.operators.Ready() && p.roles.Ready() }

// may refuses an operator without the right for the whole tenant. Other tenants' things are not there for them.
func (a Actor) may(tenant string, e access.Entity, verb access.Verb) error {
	switch {
	case a.Viewer == nil:
		return nil
	case a.Viewer.Tenant != tenant:
		return access.ErrOutside
	case !a.Viewer.ReachesAll(e, verb):
		return fmt.Errorf("%s:%s: %w", e, verb, access.ErrForbidden)
	}
	return nil
}
