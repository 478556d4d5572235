package signin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const (
	flowAge    = 10 * time.Minute // from the button to the way back
	issuerWait = 10 * time.Second // for one answer of the issuer
	clockSkew  = time.Minute
)

// errClaims: the issuer's answer does not say who signed in, or not to us.
var errClaims = errors.New("the issuer's answer is not valid")

// issuer is the other side of OIDC. It is asked for its addresses at the first sign-in, so it may be down at start.
type issuer struct {
	cfg      Config
	client   *http.Client
	mu       sync.Mutex
	provider *oidc.Provider
}

func newIssuer(cfg Config) *issuer {
	return &issuer{cfg: cfg, client: &http.Client{Timeout: issuerWait}}
}

func (i *issuer) discovered(ctx context.Context) (*oidc.Provider, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.provider != nil {
		return i.provider, nil
	}
	// The provider keeps the context for later fetches of keys.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), i.client), i.cfg.OIDC.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", i.cfg.OIDC.Issuer, err)
	}
	i.provider = provider
	return provider, nil
}

func (i *issuer) oauth(provider *oidc.Provider) *oauth2.Config {
	redirect := i.cfg.OIDC.RedirectURL
	if redirect == "" {
		redirect = strings.TrimSuffix(i.cfg.BaseURL, "/") + callbackPath
	}
	return &oauth2.Config{
		ClientID: i.cfg.OIDC.ClientID, ClientSecret: i.cfg.OIDC.ClientSecret, RedirectURL: redirect,
		Endpoint: provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID, "profile", "email"},
	}
}

// flow is a sign-in at the issuer under way. The browser carries it, signed.
type flow struct {
	State, Nonce, Verifier string
	Next                   string
	Prove                  bool // of somebody who is signed in already
	Began                  time.Time
}

func newFlow(next string, prove bool, now time.Time) flow {
	return flow{State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), Next: next, Prove: prove, Began: now}
}

func random() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// address is where the browser is sent.
func (i *issuer) address(ctx context.Context, f flow) (string, error) {
	provider, err := i.discovered(ctx)
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)}
	if f.Prove {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	return i.oauth(provider).AuthCodeURL(f.State, options...), nil
}

// person is who signed in at the issuer.
type person struct{ subject, login string }

// redeem turns the code into who signed in. What the library checks: signature by a key the issuer has now and one of
// its algorithms (never none), issuer, audience, expiry. The nonce is ours.
func (i *issuer) redeem(ctx context.Context, code string, f flow) (person, error) {
	provider, err := i.discovered(ctx)
	if err != nil {
		return person{}, err
	}
	ctx = oidc.ClientContext(ctx, i.client)
	token, err := i.oauth(provider).Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return person{}, fmt.Errorf("%w: %s", errClaims, withoutBody(err))
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: i.cfg.OIDC.ClientID}).Verify(ctx, raw)
	if err != nil {
		return person{}, fmt.Errorf("%w: %s", errClaims, "the token is not good")
	}
	if !hmac.Equal([]byte(id.Nonce), []byte(f.Nonce)) {
		return person{}, fmt.Errorf("%w: another nonce", errClaims)
	}
	claims := map[string]json.RawMessage{}
	if err := id.Claims(&claims); err != nil {
		return person{}, fmt.Errorf("%w: its claims cannot be read", errClaims)
	}
	if f.Prove {
		var at int64
		if json.Unmarshal(claims["auth_time"], &at) != nil || time.Unix(at, 0).Before(f.Began.Add(-clockSkew)) {
			return person{}, fmt.Errorf("%w: it does not say that they signed in just now", errClaims)
		}
	}
	var login string
	if json.Unmarshal(claims[i.cfg.OIDC.LoginClaim], &login) != nil || i.cfg.OIDC.LoginClaim == "email" && string(claims["email_verified"]) != "true" {
		login = ""
	}
	return person{subject: id.Issuer + "|" + id.Subject, login: login}, nil
}

// withoutBody: what the issuer answers may hold what was sent to it.
func withoutBody(err error) string {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		return "the issuer refused the code: " + refused.ErrorCode
	}
	return "the issuer did not answer"
}

// seal and open carry a flow through the browser.
func (s *Service) seal(f flow) string {
	b, err := json.Marshal(f)
	if err != nil { // texts and a time: cannot fail
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(append(s.sign(b), b...))
}

func (s *Service) open(value string) (flow, error) {
	var f flow
	b, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || len(b) < sha256.Size || !hmac.Equal(b[:sha256.Size], s.sign(b[sha256.Size:])) {
		return f, fmt.Errorf("%w: it was not begun here", errClaims)
	}
	if err := json.Unmarshal(b[sha256.Size:], &f); err != nil || s.now().Sub(f.Began) > flowAge {
		return f, fmt.Errorf("%w: it was begun too long ago", errClaims)
	}
	return f, nil
}

func (s *Service) sign(b []byte) []byte {
	mac := hmac.New(sha256.New, s.flowKey)
	_, _ = mac.Write(b) // a hash never fails
	return mac.Sum(nil)
}
