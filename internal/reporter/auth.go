package reporter

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/reporter/signin"
)

const tenantOfTenants = "default" // its admin keys manage the keys of every tenant

// caller is who asks: everything read is this tenant's. Of an operator the key has only tenant and id.
type caller struct {
	control.Key
	viewer  *access.Viewer // nil: a key
	address string
}

func (c caller) has(scopes ...string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool { return slices.Contains(c.Scopes, s) })
}

// actor is the caller for what it changes.
func (c caller) actor() control.Actor {
	by := c.ID
	if c.viewer == nil {
		by = "key:" + c.ID
	}
	return control.Actor{By: by, From: c.address, Viewer: c.viewer}
}

// authenticate finds the caller of an operation: a key, or an operator's session. Headers of a refusal are set on h.
func (s *server) authenticate(r *http.Request, h http.Header, operation string) (caller, *problem.Problem) {
	const realm = `Bearer realm="countinghouse"`
	need, known := s.needs[operation]
	if !known { // a test makes sure that this does not happen
		return caller{}, refuse(codeScope, "nobody may do this: it is not in the table of rights")
	}
	if r.Header.Get("Authorization") == "" && s.signIn != nil {
		if c, refusal := s.operator(r, h, need); refusal != nil || c.viewer != nil {
			return c, refusal
		}
	}
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	secret = strings.TrimSpace(secret)
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		h.Set("WWW-Authenticate", realm)
		return caller{}, refuse(codeUnauthorized, "send Authorization: Bearer with an API key")
	}
	key, err := s.keys.Verify(r.Context(), secret)
	switch {
	case errors.Is(err, control.ErrUnavailable):
		h.Set("Retry-After", "1")
		return caller{}, refuse(codeKeys, "the key cannot be checked at the moment; retry")
	case err != nil:
		h.Set("WWW-Authenticate", realm+`, error="invalid_token"`)
		return caller{}, refuse(codeUnauthorized, "the key is unknown, revoked or expired")
	}
	c := caller{Key: key, address: s.address(r)}
	if len(need.Scopes) > 0 && !c.has(need.Scopes...) {
		h.Set("WWW-Authenticate", realm+`, error="insufficient_scope", scope="`+strings.Join(need.Scopes, " ")+`"`)
		return caller{}, refuse(codeScope, "the key needs one of the scopes "+strings.Join(need.Scopes, ", "))
	}
	return c, nil
}

func (s *server) address(r *http.Request) string {
	if s.signIn == nil {
		return ""
	}
	return s.signIn.Address(r)
}

// operator finds the operator of a session; no viewer and no refusal: there is no session. What is asked for some
// accounts only is judged where it is answered (package guard).
func (s *server) operator(r *http.Request, h http.Header, need access.Need) (caller, *problem.Problem) {
	viewer, err := s.signIn.FromAPI(r)
	switch {
	case errors.Is(err, control.ErrSignIn):
		return caller{}, nil
	case errors.Is(err, signin.ErrForm):
		return caller{}, refuse(codeForm, "a request with a session's cookie that changes something carries X-CSRF-Token, and comes from this site")
	case err != nil:
		s.log.Warn("session not read", zap.Error(err))
		h.Set("Retry-After", "1")
		return caller{}, refuse(codeKeys, "the session cannot be checked at the moment; retry")
	}
	c := caller{Key: control.Key{Tenant: viewer.Tenant, ID: viewer.Actor(), Name: viewer.Name}, viewer: viewer, address: s.address(r)}
	if refusal := permits(viewer, need); refusal != nil {
		return caller{}, refusal
	}
	return c, nil
}

// permits refuses an operator what no role of theirs allows, for whichever accounts.
func permits(viewer *access.Viewer, need access.Need) *problem.Problem {
	for _, right := range need.Rights {
		if !viewer.May(right.Entity, right.Verb) || need.Root == "" && !need.Own && !viewer.ReachesAll(right.Entity, right.Verb) {
			return refuse(codeForbidden, "no role of yours allows "+right.String()+" here")
		}
	}
	if need.Proof && !viewer.Fresh {
		return refuse(codeProof, "prove at /prove that it is you, then repeat this within ten minutes")
	}
	return nil
}
