package rights_test

import (
	"fmt"
	"math/bits"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/reporter"
)

// failuresFree is how many sign-ins of a login may fail before the next has to wait.
const failuresFree = 5

// revokedWithin is how long a key or session may live on at another reporter: 5 s are promised of a machine that does
// nothing else, and a minute is allowed of a busy one (fight.Within).
const revokedWithin = time.Minute

// TestF25 abuses what proves who one is: keys, passwords, sessions, forms, and an issuer that lies.
func TestF25(t *testing.T) {
	issuer := newIssuer(t)
	h := open(t, 2, func(cfg *reporter.Config) {
		cfg.SignIn.OIDC.Issuer, cfg.SignIn.OIDC.ClientID, cfg.SignIn.OIDC.ClientSecret = issuer.server.URL, "countinghouse", "canary-client-secret"
		cfg.SignIn.BaseURL = "http://usage.example.com"
	})
	h.operator("acme", "root", access.Grant{Role: access.SuperAdministrator})
	h.operator("acme", "ann@example.com", access.Grant{Role: access.Auditor})
	var secrets []string
	t.Run("keys", func(t *testing.T) { secrets = append(secrets, h.keys(t)...) })
	t.Run("sessions", func(t *testing.T) { h.sessions(t) })
	t.Run("forms", func(t *testing.T) { h.forms(t) })
	t.Run("issuer", func(t *testing.T) { h.liars(t, issuer) })
	throttled := 0
	t.Run("guesses", func(t *testing.T) { throttled = h.guess(t) })
	logs := h.log.String()
	for _, secret := range append(secrets, password, "canary-client-secret", "canary-code-", "canary-guess") {
		if strings.Contains(logs, secret) {
			t.Errorf("the reporters' logs hold %q", secret)
		}
	}
	pass(t, fmt.Sprintf("F25 PASS guesses=%d throttled=%d lies=10 reporters=2 secrets_logged=0", guesses, throttled))
}

func (h *house) keys(t *testing.T) (secrets []string) {
	good := h.keyed("acme", "usage:read")
	secrets = append(secrets, good.key)
	want := func(what, key string, status int) {
		t.Helper()
		for app := range h.apps {
			c := h.nobody()
			c.key, c.app = key, app
			if got, _, body := c.api(http.MethodGet, "/freshness", ""); got != status || strings.Contains(body, key) && key != "" {
				t.Errorf("%s: %d %s, want %d", what, got, body, status)
			}
		}
	}
	want("good", good.key, http.StatusOK)
	want("truncated", good.key[:len(good.key)-3], http.StatusUnauthorized)
	other := "x"
	if good.key[20] == 'x' { // keys are random: one in sixty-two has it there
		other = "y"
	}
	want("another letter", good.key[:20]+other+good.key[21:], http.StatusUnauthorized)
	want("of another house", control.NewToken(), http.StatusUnauthorized)
	want("no key at all", "canary-guess", http.StatusUnauthorized)
	_, long, err := h.store.Create(t.Context(), "acme", "long", []string{"usage:read"}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	want("long before it expires", long, http.StatusOK)
	until := time.Now().Add(time.Second)
	short, secret, err := h.store.Create(t.Context(), "acme", "short", []string{"usage:read"}, until)
	if err != nil {
		t.Fatal(err)
	}
	c := h.nobody()
	c.key = secret
	h.until("key "+short+" expires", func() bool {
		status, _, body := c.api(http.MethodGet, "/freshness", "")
		if early := time.Now().Before(until); early && status != http.StatusOK {
			t.Errorf("before it expires: %d %s", status, body)
		}
		return status == http.StatusUnauthorized
	})
	keys, err := h.store.List(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.Name == "test" {
			if err := h.store.Revoke(t.Context(), k.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	began := time.Now()
	for app := range h.apps {
		good.app = app
		h.until("revoked", func() bool {
			status, _, _ := good.api(http.MethodGet, "/freshness", "")
			return status == http.StatusUnauthorized
		})
	}
	if took := time.Since(began); took > revokedWithin {
		t.Errorf("a revoked key lived for %s", took)
	}
	return append(secrets, long, secret)
}

// sessions: a planted token is worth nothing, one ended at a reporter is ended at the other, and so is a disabled
// operator's.
func (h *house) sessions(t *testing.T) {
	planted := h.nobody()
	u, _ := url.Parse("http://" + h.apps[0].Addr())
	planted.client.Jar.SetCookies(u, []*http.Cookie{{Name: "countinghouse-session", Value: "planted-by-somebody-else", Path: "/"}})
	if status, _, _ := planted.post("/sign-in", url.Values{"login": {"root"}, "password": {password}}); status != http.StatusSeeOther {
		t.Fatalf("sign in over a planted session: %d", status)
	}
	for _, c := range planted.client.Jar.Cookies(u) {
		if c.Value == "planted-by-somebody-else" {
			t.Error("the planted session became a signed-in one")
		}
	}
	thief := h.nobody()
	status, _, _ := thief.do(http.MethodGet, "/api/v1/freshness", nil, map[string]string{"Cookie": "countinghouse-session=planted-by-somebody-else"})
	if status != http.StatusUnauthorized {
		t.Errorf("the planted token: %d", status)
	}
	one := h.signed("root", "root")
	cookie := "countinghouse-session=" + one.client.Jar.Cookies(u)[0].Value
	at := func(app int) int {
		c := h.nobody()
		c.app = app
		status, _, _ := c.do(http.MethodGet, "/api/v1/roles", nil, map[string]string{"Cookie": cookie})
		return status
	}
	for app := range h.apps {
		if status := at(app); status != http.StatusOK {
			t.Errorf("a session at reporter %d: %d", app, status)
		}
	}
	began := time.Now()
	if status, _, body := one.post("/sign-out", url.Values{"token": {one.form}}); status != http.StatusSeeOther {
		t.Fatalf("sign out: %d %s", status, body)
	}
	for app := range h.apps {
		h.until("signed out", func() bool { return at(app) == http.StatusUnauthorized })
	}
	if took := time.Since(began); took > revokedWithin {
		t.Errorf("a session lived for %s after its end", took)
	}
	h.operator("acme", "leaver", access.Grant{Role: access.Auditor})
	leaver := h.signed("leaver", "leaver")
	if _, err := h.people.DisableOperator(t.Context(), root, "acme", "leaver"); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	cookie = "countinghouse-session=" + leaver.client.Jar.Cookies(u)[0].Value
	for app := range h.apps {
		h.until("the disabled one is out", func() bool { return at(app) == http.StatusUnauthorized })
	}
	if took := time.Since(began); took > revokedWithin {
		t.Errorf("a disabled operator's session lived for %s", took)
	}
	if status, _, _ := h.nobody().post("/sign-in", url.Values{"login": {"leaver"}, "password": {password}}); status != http.StatusUnauthorized {
		t.Errorf("a disabled operator signs in: %d", status)
	}
}

// forms: what changes something carries the token of its session and comes from this site.
func (h *house) forms(t *testing.T) {
	c := h.signed("root", "root")
	stolen := *c
	for what, form := range map[string]string{"without": "", "another's": "AAAA"} {
		stolen.form = form
		if status, _, body := stolen.api(http.MethodPost, "/roles", `{"name":"Forged","rights":{}}`); status != http.StatusForbidden || !strings.Contains(body, "no-form-token") {
			t.Errorf("POST /roles %s token: %d %s", what, status, body)
		}
		if status, _, _ := stolen.post("/sign-out", url.Values{"token": {form}}); status != http.StatusForbidden {
			t.Errorf("POST /sign-out %s token: %d", what, status)
		}
	}
	cross := map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.com", "X-CSRF-Token": c.form}
	for _, path := range []string{"/sign-in", "/sign-out", "/api/v1/roles"} {
		if status, _, _ := c.do(http.MethodPost, path, strings.NewReader("token="+url.QueryEscape(c.form)), cross); status != http.StatusForbidden {
			t.Errorf("POST %s from another site: %d", path, status)
		}
	}
	for _, next := range []string{"https://evil.example.com/", "//evil.example.com/", "/\\evil.example.com", "javascript:alert(1)"} {
		_, header, _ := h.nobody().post("/sign-in", url.Values{"login": {"root"}, "password": {password}, "next": {next}})
		if to := header.Get("Location"); to != "/" {
			t.Errorf("after the sign-in with next=%s to %s", next, to)
		}
	}
	if _, header, _ := h.nobody().post("/sign-in", url.Values{"login": {"root"}, "password": {password}}); !strings.Contains(header.Get("Set-Cookie"), "HttpOnly") || !strings.Contains(header.Get("Set-Cookie"), "SameSite=Lax") {
		t.Errorf("the cookie: %s", header.Get("Set-Cookie"))
	}
}

// liars: tokens of the issuer that are not for us, not now, or not signed; codes used twice.
func (h *house) liars(t *testing.T, i *issuer) {
	signIn := func(c *caller) (status int, callback string) {
		t.Helper()
		status, header, body := c.do(http.MethodGet, "/sign-in/issuer?next=/months", nil, nil)
		if status != http.StatusSeeOther {
			t.Fatalf("to the issuer: %d %s", status, body)
		}
		callback = "/sign-in/callback?" + i.authorize(header.Get("Location"), "ann@example.com")
		status, _, _ = c.do(http.MethodGet, callback, nil, nil)
		return status, callback
	}
	lies := map[string]func(header, claims map[string]any){
		"alg none":           func(h, _ map[string]any) { h["alg"] = "none" },
		"alg HS256":          func(h, _ map[string]any) { h["alg"] = "HS256" },
		"another audience":   func(_, c map[string]any) { c["aud"] = "somebody-else" },
		"another issuer":     func(_, c map[string]any) { c["iss"] = "https://evil.example.com" },
		"another nonce":      func(_, c map[string]any) { c["nonce"] = "x" },
		"no nonce":           func(_, c map[string]any) { delete(c, "nonce") },
		"expired":            func(_, c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"email not verified": func(_, c map[string]any) { c["email_verified"] = false },
		"nobody of ours":     func(_, c map[string]any) { c["email"], c["sub"] = "mallory@example.com", "m" },
		"unknown key":        func(h, _ map[string]any) { h["kid"] = "of-nobody" },
	}
	for name, lie := range lies {
		i.lie(lie)
		c := h.nobody()
		if status, _ := signIn(c); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, status)
		}
		if status, _, _ := c.api(http.MethodGet, "/freshness", ""); status != http.StatusUnauthorized {
			t.Errorf("%s: signed in all the same", name)
		}
	}
	i.lie(nil)
	c := h.nobody()
	status, callback := signIn(c)
	if status != http.StatusSeeOther {
		t.Fatalf("an honest sign-in: %d", status)
	}
	if status, _, body := c.api(http.MethodGet, "/roles", ""); status != http.StatusOK {
		t.Errorf("signed in at the issuer: %d %s", status, body)
	}
	if status, _, _ := c.do(http.MethodGet, callback, nil, nil); status != http.StatusUnauthorized {
		t.Errorf("the same way back again: %d", status)
	}
	other := h.nobody()
	if status, _, _ := other.do(http.MethodGet, callback, nil, nil); status != http.StatusUnauthorized {
		t.Errorf("somebody else's way back: %d", status)
	}
	i.rotate("two")
	if status, _ := signIn(h.nobody()); status != http.StatusSeeOther {
		t.Errorf("with a new key of the issuer: %d", status)
	}
	// Whoever has the address later is not who it was bound to.
	i.lie(func(_, c map[string]any) { c["sub"] = "another-person" })
	if status, _ := signIn(h.nobody()); status != http.StatusUnauthorized {
		t.Errorf("another subject with the same address: %d", status)
	}
}

// guess tries passwords of a login that exists and of one that does not, at one reporter and the other in turn: both
// logins wait, look the same, and all reporters together let through what one would.
func (h *house) guess(t *testing.T) (throttled int) {
	for _, login := range []string{"root", "nobody-of-that-name"} {
		c := h.nobody()
		began, looked := time.Now(), 0
		for n := range guesses / 2 {
			c.app = n % len(h.apps)
			status, header, body := c.post("/sign-in", url.Values{"login": {login}, "password": {fmt.Sprintf("canary-guess-%d", n)}})
			switch status {
			case http.StatusTooManyRequests:
				throttled++
				if header.Get("Retry-After") == "" {
					t.Errorf("no Retry-After: %s", body)
				}
			case http.StatusUnauthorized:
				looked++
			default:
				t.Fatalf("guess %d of %s: %d", n, login, status)
			}
		}
		// As many as are free, and one more each time that a wait, which doubles from a second on, was over.
		if most := failuresFree + bits.Len(uint(time.Since(began)/time.Second)); looked > most {
			t.Errorf("%d guesses of %s were looked at by %d reporters together, want at most %d", looked, login, len(h.apps), most)
		}
	}
	if least := guesses * 8 / 10; throttled < least {
		t.Errorf("%d of %d guesses had to wait, want at least %d", throttled, guesses, least)
	}
	for range guesses {
		c := h.nobody()
		c.key = control.NewToken()
		if status, _, _ := c.api(http.MethodGet, "/freshness", ""); status != http.StatusUnauthorized && status != http.StatusServiceUnavailable {
			t.Fatalf("a guessed key: %d", status)
		}
	}
	return throttled
}
