package web

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"

	"github.com/a-h/templ"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/reporter/guard"
	"github.com/countinghouse/countinghouse/internal/reporter/signin"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// policy lets a page load what this server embeds, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

func (s *Site) static() {
	s.mux.HandleFunc("GET /static/", s.serveAsset)
	s.mux.HandleFunc("POST /theme", s.theme)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if viewer, _ := s.SignIn.Viewer(r); viewer == nil {
			toSignIn(w, r)
			return
		}
		s.render(w, r, http.StatusNotFound, "Not found", message("There is nothing at this address, or nothing you may see."))
	})
}

func toSignIn(w http.ResponseWriter, r *http.Request) {
	to := "/sign-in"
	if r.Method == http.MethodGet && r.URL.Path != "/" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// serve answers a page: who asks, may they, what is on it.
func (s *Site) serve(p page, w http.ResponseWriter, r *http.Request) {
	viewer, token := s.SignIn.Viewer(r)
	if viewer == nil {
		toSignIn(w, r)
		return
	}
	ctx := guard.For(r.Context(), s.Reports, viewer)
	if r.Method == http.MethodGet {
		ctx = report.OneLook(ctx)
		if s.Attentive != nil && !p.file() {
			ctx = s.Attentive(ctx)
		}
	}
	r = r.WithContext(ctx)
	v := &visit{Request: r, w: w, page: p, viewer: viewer, token: token, from: s.SignIn.Address(r), now: s.Now(), title: p.title}
	if !p.open(viewer) {
		s.fail(v, ErrForbidden)
		return
	}
	if r.Method == http.MethodPost && !sameToken(r.PostFormValue("token"), token) {
		s.fail(v, errToken)
		return
	}
	if p.proof && r.Method != http.MethodGet && !viewer.Fresh {
		s.fail(v, access.ErrProof)
		return
	}
	body, err := p.serve(s, v)
	if err != nil {
		s.fail(v, err)
		return
	}
	if body != nil { // nil: the page has answered by itself
		s.show(v, body)
	}
}

// errToken: signin.Protect has refused all but what it took for a stranger's. The token is compared once more with that
// of the session that is answered for, which may have become known only since.
var errToken = errors.New("the form is too old; load the page again and repeat it")

func sameToken(got, want string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// fail turns an error into a page, or sends the browser elsewhere.
func (s *Site) fail(v *visit, err error) {
	var to redirect
	if errors.As(err, &to) {
		http.Redirect(v.w, v.Request, to.to, http.StatusSeeOther)
		return
	}
	v.crumbs, v.actions, v.lead = nil, nil, ""
	var question *report.Error
	switch {
	case errors.Is(err, ErrNotFound), errors.As(err, &question) && question.Code == report.CodeNotFound:
		v.status, v.title = http.StatusNotFound, "Not found"
		s.show(v, message("There is nothing here, or nothing you may see."))
	case errors.Is(err, access.ErrProof):
		s.render(v.w, v.Request, http.StatusForbidden, "Confirm that it is you", proveAgain(v.URL.Path, v.Referer()))
	case errors.Is(err, ErrForbidden):
		v.status, v.title = http.StatusForbidden, "Not allowed"
		s.show(v, message("Your role does not allow this. Whoever manages roles can give you one that does; it is in force from your next sign-in on."))
	case errors.Is(err, errToken):
		v.status, v.title = http.StatusForbidden, "Not done"
		s.show(v, message(sentence(errToken.Error())))
	case question != nil:
		v.status, v.title = http.StatusBadRequest, "Not understood"
		s.show(v, notice("warn", question.Parameter, sentence(question.Detail)))
	case away(err), errors.Is(err, control.ErrUnavailable):
		v.status = http.StatusServiceUnavailable
		v.w.Header().Set("Retry-After", "5")
		s.show(v, s.trouble(v, err))
	default:
		v.status, v.title = http.StatusInternalServerError, "Something went wrong"
		s.show(v, s.trouble(v, err))
	}
}

// away reports whether the warehouse does not answer, or not in time.
func away(err error) bool { return warehouse.Unavailable(err) || warehouse.Exceeded(err) != 0 }

// trouble is what stands on a page in place of a part that could not be made; the other parts are shown.
func (s *Site) trouble(v *visit, err error) templ.Component {
	var question *report.Error
	switch {
	case errors.As(err, &question):
		return notice("warn", question.Parameter, sentence(question.Detail))
	case away(err):
		s.Log.Warn("part of a page not made; the warehouse does not answer", zap.String("page", v.page.pattern), zap.Error(err))
		return notice("warn", "These numbers cannot be read right now", "The warehouse does not answer, or not in time. Nothing is lost: events are still accepted and counted later. Load the page again in a moment.")
	case errors.Is(err, control.ErrUnavailable):
		s.Log.Warn("part of a page not made; the control state does not answer", zap.String("page", v.page.pattern), zap.Error(err))
		return notice("warn", "This cannot be read right now", "The control state does not answer, or not in time. Load the page again in a moment; what you changed may have been done or not: look before you repeat it.")
	case v.Context().Err() != nil:
		return notice("warn", "", "The request was given up.")
	}
	s.Log.Error("part of a page not made", zap.String("page", v.page.pattern), zap.Error(err))
	return notice("bad", "This part of the page could not be made", "Load the page again in a moment. If it stays so, the log of the reporter says why.")
}

// show writes the page of a visit. A script that asked for a part gets the body alone.
func (s *Site) show(v *visit, body templ.Component) {
	status := v.status
	if status == 0 {
		status = http.StatusOK
	}
	s.headers(v.w)
	if v.partial() {
		v.w.WriteHeader(status)
		s.write(v.w, v.Request, body)
		return
	}
	around := surroundings{edition: s.edition, charts: v.charts, title: v.title, theme: themeOf(v.Request), visit: v, menu: menuOf(v.viewer, v.URL.Path), fresh: s.freshLine(v)}
	around.tone, around.flash = v.flashed()
	v.w.WriteHeader(status)
	s.write(v.w, v.Request, frame(around, body))
}

// render writes a page that is not in the table: those of signing in.
func (s *Site) render(w http.ResponseWriter, r *http.Request, status int, title string, body templ.Component) {
	if viewer, token := s.SignIn.Viewer(r); viewer != nil {
		s.show(&visit{Request: r, w: w, viewer: viewer, token: token, now: s.Now(), title: title, status: status}, body)
		return
	}
	s.headers(w)
	w.WriteHeader(status)
	s.write(w, r, frame(surroundings{edition: s.edition, title: title, theme: themeOf(r)}, body))
}

func (s *Site) headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

func (s *Site) write(w http.ResponseWriter, r *http.Request, page templ.Component) {
	if err := page.Render(r.Context(), w); err != nil {
		s.Log.Debug("page not sent", zap.Error(err))
	}
}

const themeCookie = "theme"

func themeOf(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return "auto"
}

// theme keeps which colours the browser wants, for a year.
func (s *Site) theme(w http.ResponseWriter, r *http.Request) {
	if viewer, token := s.SignIn.Viewer(r); viewer == nil || !sameToken(r.PostFormValue("token"), token) {
		toSignIn(w, r)
		return
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // says colours, nothing else
		Name: themeCookie, Value: r.PostFormValue("theme"), Path: "/", MaxAge: 365 * 24 * 3600,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
	http.Redirect(w, r, signin.Local(r.PostFormValue("back")), http.StatusSeeOther) //nolint:gosec // Local lets nothing through that leads elsewhere
}
