package reporter

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/problem"
)

// Scopes of API keys that the reporter knows (interfaces.md 1).
const (
	scopeUsage      = "usage:read"
	scopeReports    = "reports:read"
	scopeDLQ        = "dlq:read"
	scopeClose      = "months:close"
	scopeAdmin      = "admin"
	tenantOfTenants = "default" // its admin keys manage the keys of every tenant
)

// caller is who asks: everything read is this tenant's.
type caller struct{ control.Key }

func (c caller) has(scopes ...string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool { return slices.Contains(c.Scopes, s) })
}

// authenticate finds the caller, or the refusal. Headers of the refusal are set on h. No scopes: any key.
func (s *server) authenticate(r *http.Request, h http.Header, scopes []string) (caller, *problem.Problem) {
	const realm = `Bearer realm="countinghouse"`
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
	c := caller{key}
	if len(scopes) > 0 && !c.has(scopes...) {
		h.Set("WWW-Authenticate", realm+`, error="insufficient_scope", scope="`+strings.Join(scopes, " ")+`"`)
		return caller{}, refuse(codeScope, "the key needs one of the scopes "+strings.Join(scopes, ", "))
	}
	return c, nil
}
