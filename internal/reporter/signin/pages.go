package signin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
)

// Paths of the flow.
const (
	signInPath   = "/sign-in"
	issuerPath   = "/sign-in/issuer"
	callbackPath = "/sign-in/callback"
	signOutPath  = "/sign-out"
	provePath    = "/prove"
	passwordPath = "/password"
)

const wrongPassword = "Login and password do not belong together, or the operator may not sign in." //nolint:gosec // a sentence

func escape(s string) string { return url.QueryEscape(s) }

// render wraps a body in the frame of all pages.
type render func(w http.ResponseWriter, r *http.Request, status int, title string, body templ.Component)

// Register adds the pages of the flow.
func (s *Service) Register(mux *http.ServeMux, show func(w http.ResponseWriter, r *http.Request, status int, title string, body templ.Component)) {
	for pattern, serve := range map[string]func(render, http.ResponseWriter, *http.Request){
		"GET " + signInPath: s.signInPage, "POST " + signInPath: s.signIn,
		"POST " + signOutPath: s.signOut,
		"GET " + issuerPath:   s.toIssuer, "GET " + callbackPath: s.callback,
		"GET " + provePath: s.provePage, "POST " + provePath: s.prove,
		"GET " + passwordPath: s.passwordPage, "POST " + passwordPath: s.password,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { serve(show, w, r) })
	}
}

func (s *Service) issuerName() string {
	if s.issuer == nil {
		return ""
	}
	return s.cfg.OIDC.Name
}

func (s *Service) signInPage(show render, w http.ResponseWriter, r *http.Request) {
	if viewer, _ := s.Viewer(r); viewer != nil {
		http.Redirect(w, r, Local(r.URL.Query().Get("next")), http.StatusSeeOther) //nolint:gosec // Local keeps it on this site
		return
	}
	show(w, r, http.StatusOK, "Sign in", signInPage(signInForm{next: Local(r.URL.Query().Get("next")), issuer: s.issuerName()}))
}

// signIn checks login and password. All that fails looks the same.
func (s *Service) signIn(show render, w http.ResponseWriter, r *http.Request) {
	form := signInForm{login: r.PostFormValue("login"), next: Local(r.PostFormValue("next")), issuer: s.issuerName()}
	o, wait, err := s.check(r, form.login, r.PostFormValue("password"))
	switch {
	case wait > 0:
		w.Header().Set("Retry-After", fmt.Sprint(int(wait/time.Second)+1))
		form.fault = fmt.Sprintf("Too many failed sign-ins. Wait %s, then try again.", wait.Round(time.Second)+time.Second)
		show(w, r, http.StatusTooManyRequests, "Sign in", signInPage(form))
		return
	case errors.Is(err, control.ErrSignIn):
		form.fault = wrongPassword
		show(w, r, http.StatusUnauthorized, "Sign in", signInPage(form))
		return
	}
	if err == nil {
		err = s.fresh(w, r, o, "password")
	}
	if err != nil {
		s.trouble(show, w, r, err)
		return
	}
	http.Redirect(w, r, form.next, http.StatusSeeOther)
}

// check finds the operator of login and password; control.ErrSignIn if they are not of one that may sign in.
func (s *Service) check(r *http.Request, login, password string) (o control.Operator, wait time.Duration, err error) {
	login = strings.ToLower(strings.TrimSpace(login))
	address := s.Address(r)
	if len(login) > 128 || len(password) > 1024 {
		return o, 0, control.ErrSignIn
	}
	if wait := s.brake.try(r.Context(), login, address); wait > 0 {
		return o, wait, control.ErrSignIn
	}
	o, err = s.people.CheckPassword(r.Context(), login, password)
	if err == nil {
		s.brake.succeeded(r.Context(), login, address)
		return o, 0, nil
	}
	if errors.Is(err, control.ErrSignIn) && o.Tenant != "" { // how often is bounded by the brake
		action := "sign-in-failed"
		if s.brake.locked(login) {
			action = "sign-in-locked"
		}
		if err := s.store.Record(r.Context(), s.actor(r, login), o.Tenant, action, o.Login, nil); err != nil {
			s.log.Warn("failed sign-in not in the audit log", zap.Error(err))
		}
	}
	return o, 0, err
}

func (s *Service) trouble(show render, w http.ResponseWriter, r *http.Request, err error) {
	s.log.Error("sign-in not done", zap.Error(err))
	status, text := http.StatusInternalServerError, "This did not work. Try again in a moment."
	if errors.Is(err, control.ErrUnavailable) {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "2")
	}
	show(w, r, status, "Something went wrong", said(text, signInPath, "Back"))
}

func (s *Service) signOut(show render, w http.ResponseWriter, r *http.Request) {
	if one, err := s.session(r); err == nil {
		if err := s.people.End(r.Context(), s.actor(r, one.Login), s.token(r)); err != nil {
			s.trouble(show, w, r, err)
			return
		}
	}
	http.SetCookie(w, s.cookie("session", "", 0))
	http.Redirect(w, r, signInPath, http.StatusSeeOther)
}

// toIssuer sends the browser to the issuer.
func (s *Service) toIssuer(show render, w http.ResponseWriter, r *http.Request) {
	if s.issuer == nil {
		http.Redirect(w, r, signInPath, http.StatusSeeOther)
		return
	}
	f := newFlow(Local(r.URL.Query().Get("next")), r.URL.Query().Get("prove") != "", s.now())
	to, err := s.issuer.address(r.Context(), f)
	if err != nil {
		s.log.Error("issuer not reached", zap.Error(err))
		show(w, r, http.StatusBadGateway, "Sign in", said("The issuer does not answer. Try again in a moment.", signInPath, "Back"))
		return
	}
	http.SetCookie(w, s.cookie("flow", s.seal(f), flowAge))
	http.Redirect(w, r, to, http.StatusSeeOther) //nolint:gosec // to the issuer of the configuration
}

// callback is the way back from the issuer. The flow ends here, whatever comes of it: a code is good once.
func (s *Service) callback(show render, w http.ResponseWriter, r *http.Request) {
	refuse := func(why error) {
		s.log.Warn("sign-in at the issuer refused", zap.Error(why), zap.String("address", s.Address(r)))
		show(w, r, http.StatusUnauthorized, "Sign in", said("You could not be signed in with what the issuer said.", signInPath, "Try again"))
	}
	c, err := r.Cookie(s.cookieName("flow"))
	http.SetCookie(w, s.cookie("flow", "", 0))
	if err != nil || s.issuer == nil {
		refuse(errors.New("nothing was begun"))
		return
	}
	f, err := s.open(c.Value)
	if err == nil && !same(r.URL.Query().Get("state"), f.State) {
		err = fmt.Errorf("%w: another state", errClaims)
	}
	if err == nil && r.URL.Query().Get("code") == "" {
		err = fmt.Errorf("%w: no code", errClaims)
	}
	if err != nil {
		refuse(err)
		return
	}
	who, err := s.issuer.redeem(r.Context(), r.URL.Query().Get("code"), f)
	if err != nil {
		refuse(err)
		return
	}
	o, err := s.people.BySubject(r.Context(), who.subject, who.login)
	switch {
	case errors.Is(err, control.ErrSignIn):
		refuse(err)
		return
	case err == nil && f.Prove:
		one, lost := s.session(r)
		if lost != nil || one.Operator != o.ID {
			refuse(errors.New("somebody else signed in at the issuer"))
			return
		}
		err = s.people.Prove(r.Context(), s.token(r))
	case err == nil:
		err = s.fresh(w, r, o, "oidc")
	}
	if err != nil {
		s.trouble(show, w, r, err)
		return
	}
	http.Redirect(w, r, f.Next, http.StatusSeeOther)
}

func (s *Service) provePage(show render, w http.ResponseWriter, r *http.Request) {
	s.showProof(show, w, r, http.StatusOK, Local(r.URL.Query().Get("next")), "")
}

func (s *Service) showProof(show render, w http.ResponseWriter, r *http.Request, status int, next, fault string) {
	one, err := s.session(r)
	if err != nil {
		http.Redirect(w, r, signInPath+"?next="+escape(next), http.StatusSeeOther) //nolint:gosec // Local keeps it on this site
		return
	}
	form := proveForm{login: one.Login, next: next, token: one.Form, fault: fault, password: one.How == "password"}
	if !form.password {
		form.issuer = s.issuerName()
	}
	show(w, r, status, "Confirm that it is you", provePage(form))
}

func (s *Service) prove(show render, w http.ResponseWriter, r *http.Request) {
	next := Local(r.PostFormValue("next"))
	one, err := s.session(r)
	if err != nil {
		http.Redirect(w, r, signInPath+"?next="+escape(next), http.StatusSeeOther) //nolint:gosec // Local keeps it on this site
		return
	}
	_, wait, err := s.check(r, one.Login, r.PostFormValue("password"))
	switch {
	case wait > 0:
		w.Header().Set("Retry-After", fmt.Sprint(int(wait/time.Second)+1))
		s.showProof(show, w, r, http.StatusTooManyRequests, next, "Too many failed tries. Wait a little, then try again.")
		return
	case errors.Is(err, control.ErrSignIn):
		s.showProof(show, w, r, http.StatusUnauthorized, next, "That is not your password.")
		return
	case err == nil:
		err = s.people.Prove(r.Context(), s.token(r))
	}
	if err != nil {
		s.trouble(show, w, r, err)
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // Local keeps it on this site
}

func (s *Service) passwordPage(show render, w http.ResponseWriter, r *http.Request) {
	s.showPassword(show, w, r, http.StatusOK, "")
}

func (s *Service) showPassword(show render, w http.ResponseWriter, r *http.Request, status int, fault string) {
	one, err := s.session(r)
	if err != nil {
		http.Redirect(w, r, signInPath+"?next="+escape(passwordPath), http.StatusSeeOther)
		return
	}
	show(w, r, status, "Change password", passwordPage(passwordForm{one.Login, one.Form, fault}))
}

// password gives the operator of the session another password, and ends all their sessions, this one included.
func (s *Service) password(show render, w http.ResponseWriter, r *http.Request) {
	one, err := s.session(r)
	if err != nil {
		http.Redirect(w, r, signInPath, http.StatusSeeOther)
		return
	}
	o, wait, err := s.check(r, one.Login, r.PostFormValue("old"))
	if wait > 0 {
		s.showPassword(show, w, r, http.StatusTooManyRequests, "Too many failed tries. Wait a little, then try again.")
		return
	}
	if errors.Is(err, control.ErrSignIn) {
		s.showPassword(show, w, r, http.StatusUnauthorized, "The first is not your password.")
		return
	}
	if err == nil {
		by := s.actor(r, one.Login)
		by.Viewer = one.Viewer(s.now())
		_, err = s.people.SetPassword(r.Context(), by, o.Tenant, o.ID, r.PostFormValue("new"))
	}
	switch {
	case errors.Is(err, control.ErrInvalid):
		s.showPassword(show, w, r, http.StatusUnprocessableEntity, "A password has 12 to 256 characters.")
	case err != nil:
		s.trouble(show, w, r, err)
	default:
		http.SetCookie(w, s.cookie("session", "", 0))
		http.Redirect(w, r, signInPath, http.StatusSeeOther)
	}
}
