package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/problem"
)

const (
	scopeWrite    = "events:write"
	scopeBackfill = "events:backfill"
	scopeReplay   = "dlq:write"
	realm         = `Bearer realm="countinghouse"`
)

// verifier is the store of keys.
type verifier interface {
	Verify(ctx context.Context, secret string) (control.Key, error)
}

// caller is who sends: the tenant comes from the key and from nothing else.
type caller struct {
	tenant   string
	backfill bool
	replay   bool // may send a dead letter again: dlq:write
}

// authenticate finds the caller of r, or the refusal. Headers of the refusal are set on h.
func (s *front) authenticate(h http.Header, r *http.Request, now time.Time) (caller, *problem.Problem) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	secret = strings.TrimSpace(secret)
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		h.Set("WWW-Authenticate", realm)
		return caller{}, refuse(codeUnauthorized, "send Authorization: Bearer with an API key")
	}
	addr, digest := remoteHost(r), sha256.Sum256([]byte(secret))
	if wait, blocked := s.guesses.blocked(addr, digest, now); blocked {
		retryAfter(h, wait)
		return caller{}, refuse(codeGuesses, "too many wrong keys from this address")
	}
	key, err := s.keys.Verify(r.Context(), secret)
	switch {
	case err != nil && !rejected(err):
		retryAfter(h, time.Second)
		return caller{}, refuse(codeKeys, "the key cannot be checked at the moment; retry")
	case err != nil:
		s.guesses.failed(addr, now)
		h.Set("WWW-Authenticate", realm+`, error="invalid_token"`)
		return caller{}, refuse(codeUnauthorized, "the key is unknown, revoked or expired")
	}
	s.guesses.passed(digest)
	c := caller{tenant: key.Tenant, backfill: slices.Contains(key.Scopes, scopeBackfill), replay: slices.Contains(key.Scopes, scopeReplay)}
	if !c.backfill && !slices.Contains(key.Scopes, scopeWrite) {
		h.Set("WWW-Authenticate", realm+`, error="insufficient_scope", scope="`+scopeWrite+`"`)
		return caller{}, refuse(codeScope, "the key lacks the scope "+scopeWrite)
	}
	return c, nil
}

// rejected tells a key that is no good from one that could not be looked up.
func rejected(err error) bool {
	return errors.Is(err, control.ErrChecksum) || errors.Is(err, control.ErrUnknownKey) ||
		errors.Is(err, control.ErrRevoked) || errors.Is(err, control.ErrExpired)
}

func refuse(code, detail string) *problem.Problem {
	return Refusals().New(code, detail)
}

// retryAfter is whole seconds, at least one: 0 invites a loop.
func retryAfter(h http.Header, wait time.Duration) {
	seconds := max(1, int64((wait+time.Second-1)/time.Second))
	h.Set("Retry-After", strconv.FormatInt(seconds, 10))
}
