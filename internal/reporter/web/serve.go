package web

import (
	"embed"
	"errors"
	"net/http"

	"github.com/a-h/templ"
	"go.uber.org/zap"
)

//go:embed static
var assets embed.FS

// policy lets a page load what this server embeds, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

func (s *Site) static() {
	s.mux.Handle("GET /static/", http.FileServerFS(assets))
}

// serve answers a page: who asks, may they, what is on it.
func (s *Site) serve(p page, w http.ResponseWriter, r *http.Request) {
	viewer, token := s.SignIn.Viewer(r)
	if viewer == nil {
		http.Redirect(w, r, "/sign-in?next="+r.URL.EscapedPath(), http.StatusSeeOther)
		return
	}
	v := &visit{Request: r, w: w, page: p, viewer: viewer, token: token, now: s.Now()}
	if !viewer.May(p.entity, p.verb) {
		s.fail(v, ErrForbidden)
		return
	}
	body, err := p.serve(s, v)
	if err != nil {
		s.fail(v, err)
		return
	}
	if body != nil { // nil: the page has answered by itself
		s.render(w, r, http.StatusOK, p.title, body)
	}
}

func (s *Site) fail(v *visit, err error) {
	var to redirect
	switch {
	case errors.As(err, &to):
		http.Redirect(v.w, v.Request, to.to, http.StatusSeeOther)
	case errors.Is(err, ErrNotFound):
		s.render(v.w, v.Request, http.StatusNotFound, "Not found", message("There is nothing here, or nothing you may see."))
	case errors.Is(err, ErrForbidden):
		s.render(v.w, v.Request, http.StatusForbidden, "Not allowed", message("Your role does not allow this."))
	default:
		s.Log.Error("page not rendered", zap.String("page", v.page.pattern), zap.Error(err))
		s.render(v.w, v.Request, http.StatusInternalServerError, "Something went wrong", message("The page could not be made. Try again in a moment."))
	}
}

// render writes a whole page.
func (s *Site) render(w http.ResponseWriter, r *http.Request, status int, title string, body templ.Component) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	viewer, token := s.SignIn.Viewer(r)
	if err := frame(title, viewer, token, menuOf(viewer), r.URL.Path, body).Render(r.Context(), w); err != nil {
		s.Log.Debug("page not sent", zap.Error(err))
	}
}
