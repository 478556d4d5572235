// Package signin knows which operator a request comes from: signing in with a password or at an issuer of OIDC,
// signing out, and proving again who one is before money or rights are changed.
//
// Guarantees:
//
//   - A session's token is in the browser's cookie and nowhere else; a new one is made at every sign-in, so that
//     nobody can have planted it. The cookie is HttpOnly, SameSite=Lax and, where browsers come over https, Secure
//     with the prefix __Host-.
//   - A request that changes something comes from a page of this site and carries the token of its session, or is
//     refused (Protect, and FromAPI for the API).
//   - Guessing is slowed down per login and per address, by all reporters together, whether the login exists or not, and
//     takes as long for one as for the other.
//   - No password, token, code or claim is logged.
package signin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
)

// Config is how operators sign in.
type Config struct {
	BaseURL   string        `koanf:"base_url" help:"URL at which browsers reach the reporter, such as https://usage.example.com; https makes cookies Secure"`
	Forwarded bool          `koanf:"forwarded" help:"a proxy in front writes the client's address last into X-Forwarded-For"`
	Idle      time.Duration `koanf:"idle" help:"a session without a request for this long is over"`
	Life      time.Duration `koanf:"life" help:"a session is over after this long, at most 24h"`
	Failures  int           `koanf:"failures" help:"failed sign-ins of a login before the next has to wait; four times as many of an address"`
	OIDC      OIDCConfig    `koanf:"oidc"`
}

// OIDCConfig is the issuer at which operators may sign in instead; none without Issuer.
type OIDCConfig struct {
	Issuer       string `koanf:"issuer" help:"URL of the issuer of OpenID Connect; empty: operators sign in with passwords only"`
	ClientID     string `koanf:"client_id" help:"this client's id at the issuer"`
	ClientSecret string `koanf:"client_secret" secret:"true" help:"this client's secret; empty for a public client (PKCE is always used)"`
	RedirectURL  string `koanf:"redirect_url" help:"where the issuer sends browsers back; default: base_url + /sign-in/callback"`
	LoginClaim   string `koanf:"login_claim" help:"claim that is the operator's login; email counts only if email_verified"`
	Name         string `koanf:"name" help:"what the button says"`
}

// DefaultConfig is passwords on this machine.
func DefaultConfig() Config {
	return Config{Idle: 30 * time.Minute, Life: 12 * time.Hour, Failures: 5, OIDC: OIDCConfig{LoginClaim: "email", Name: "Sign in with your organization"}}
}

// Validate names everything that cannot work.
func (c *Config) Validate() []error {
	var errs []error
	if c.BaseURL != "" {
		if u, err := url.Parse(c.BaseURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
			errs = append(errs, errors.New("base_url: want http(s)://host without a path"))
		}
	}
	if c.Idle <= 0 || c.Life <= 0 || c.Life > 24*time.Hour || c.Idle > c.Life {
		errs = append(errs, errors.New("idle, life: want 0 < idle <= life <= 24h"))
	}
	if c.Failures < 1 {
		errs = append(errs, errors.New("failures: must be positive"))
	}
	if c.OIDC.Issuer != "" && (c.OIDC.ClientID == "" || c.OIDC.LoginClaim == "") {
		errs = append(errs, errors.New("oidc: client_id and login_claim must be given with issuer"))
	}
	if c.OIDC.Issuer != "" && c.OIDC.RedirectURL == "" && c.BaseURL == "" {
		errs = append(errs, errors.New("oidc.redirect_url: must be given without base_url"))
	}
	return errs
}

// Service signs operators in and out.
type Service struct {
	cfg     Config
	people  *control.People
	store   *control.Store
	log     *zap.Logger
	now     func() time.Time
	brake   *brake
	cross   *http.CrossOriginProtection
	issuer  *issuer // nil: none
	flowKey []byte
}

// New signs in with what people has. key signs what the browser carries to the issuer and back: the same for all
// reporters behind one address.
func New(cfg Config, people *control.People, store *control.Store, key []byte, log *zap.Logger) *Service {
	s := &Service{
		cfg: cfg, people: people, store: store, log: log, now: time.Now,
		brake: newBrake(cfg.Failures, time.Now, store.Guesses(), log), cross: http.NewCrossOriginProtection(), flowKey: flowKey(key),
	}
	if cfg.BaseURL != "" {
		_ = s.cross.AddTrustedOrigin(strings.TrimSuffix(cfg.BaseURL, "/")) // checked by Validate
	}
	if cfg.OIDC.Issuer != "" {
		s.issuer = newIssuer(cfg)
	}
	return s
}

// flowKey is a key of its own, derived from that of the cursors.
func flowKey(key []byte) []byte {
	sum := sha256.Sum256(append([]byte("countinghouse sign-in\x00"), key...))
	return sum[:]
}

func (s *Service) secure() bool { return strings.HasPrefix(s.cfg.BaseURL, "https://") }

func (s *Service) limits() control.SessionLimits {
	return control.SessionLimits{Idle: s.cfg.Idle, Life: s.cfg.Life}
}

// cookieName has the prefix that browsers give only to cookies of this very host, over https.
func (s *Service) cookieName(what string) string {
	if s.secure() {
		return "__Host-countinghouse-" + what
	}
	return "countinghouse-" + what
}

func (s *Service) cookie(what, value string, age time.Duration) *http.Cookie {
	c := &http.Cookie{Name: s.cookieName(what), Value: value, Path: "/", Secure: s.secure(), HttpOnly: true, SameSite: http.SameSiteLaxMode} //nolint:gosec // Secure wherever browsers come over https
	switch {
	case value == "":
		c.MaxAge = -1
	case age > 0:
		c.MaxAge = int(age / time.Second)
	}
	return c
}

func (s *Service) token(r *http.Request) string {
	c, err := r.Cookie(s.cookieName("session"))
	if err != nil || len(c.Value) > 128 {
		return ""
	}
	return c.Value
}

// session is the session of a request; control.ErrSignIn if there is none.
func (s *Service) session(r *http.Request) (control.Session, error) {
	token := s.token(r)
	if token == "" {
		return control.Session{}, control.ErrSignIn
	}
	return s.people.Session(r.Context(), token, s.limits())
}

// Viewer is the operator of the request's session, and the token that its forms must carry; nil: nobody is signed in.
func (s *Service) Viewer(r *http.Request) (*access.Viewer, string) {
	one, err := s.session(r)
	if err != nil {
		if !errors.Is(err, control.ErrSignIn) {
			s.log.Warn("session not read", zap.Error(err))
		}
		return nil, ""
	}
	return one.Viewer(s.now()), one.Form
}

// ErrForm: the request changes something and does not prove that it comes from a page of this site.
var ErrForm = errors.New("the request does not carry the token of its session")

// FromAPI is the operator of a request to the API that has no key: control.ErrSignIn if nobody is signed in, ErrForm
// if it changes something without the header X-CSRF-Token.
func (s *Service) FromAPI(r *http.Request) (*access.Viewer, error) {
	one, err := s.session(r)
	if err != nil {
		return nil, err
	}
	if !safe(r.Method) && (s.cross.Check(r) != nil || !same(r.Header.Get("X-CSRF-Token"), one.Form)) {
		return nil, ErrForm
	}
	return one.Viewer(s.now()), nil
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

func same(got, want string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

const formMax = 1 << 20 // bytes

// Protect stands before every page: what changes something comes from a page of this site, and within a session
// carries its token. Package web compares the token once more, with the session that it answers for.
func (s *Service) Protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one, err := s.session(r)
		if err != nil && !errors.Is(err, control.ErrSignIn) {
			s.log.Warn("session not read", zap.Error(err))
			w.Header().Set("Retry-After", "2")
			http.Error(w, "Who is signed in cannot be told at the moment. Load the page again.", http.StatusServiceUnavailable)
			return
		}
		if safe(r.Method) {
			next.ServeHTTP(w, r)
			return
		}
		if s.cross.Check(r) != nil {
			http.Error(w, "This was sent from another site and is refused.", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, formMax)
		if parse := r.ParseForm(); parse != nil {
			http.Error(w, "The form cannot be read.", http.StatusBadRequest)
			return
		}
		if err == nil && !same(r.PostForm.Get("token"), one.Form) && !same(r.Header.Get("X-CSRF-Token"), one.Form) && r.URL.Path != signInPath {
			http.Error(w, "The form is too old, or not of this session. Load the page again and repeat it.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// actor is who a request of somebody not signed in comes from.
func (s *Service) actor(r *http.Request, login string) control.Actor {
	return control.Actor{By: "operator:" + login, From: s.Address(r)}
}

// Address is the client's address.
func (s *Service) Address(r *http.Request) string {
	if s.cfg.Forwarded {
		if list := strings.Split(r.Header.Get("X-Forwarded-For"), ","); list[len(list)-1] != "" {
			if ip := net.ParseIP(strings.TrimSpace(list[len(list)-1])); ip != nil {
				return ip.String()
			}
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// Local keeps a redirect on this site: a path on it, or the first page for an address that leads elsewhere.
func Local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return u.RequestURI()
}

// fresh replaces the session of the browser by a new one.
func (s *Service) fresh(w http.ResponseWriter, r *http.Request, o control.Operator, how string) error {
	if old := s.token(r); old != "" {
		if err := s.people.End(r.Context(), s.actor(r, o.Login), old); err != nil {
			return fmt.Errorf("end the session before: %w", err)
		}
	}
	token, err := s.people.Begin(r.Context(), s.actor(r, o.Login), o, how)
	if err != nil {
		return err
	}
	http.SetCookie(w, s.cookie("session", token, 0))
	return nil
}
