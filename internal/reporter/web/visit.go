package web

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// visit is one request for a page. A page says in it what stands around its body: a title of its own, the way
// to it, a line under the title, what can be done.
type visit struct {
	*http.Request
	w      http.ResponseWriter
	page   page
	viewer *access.Viewer
	token  string // every form sends it back as form field "token"
	from   string // the client's address
	now    time.Time

	title   string // "" is the page's
	lead    string
	crumbs  []crumb // above the title, without the page itself
	actions []action
	status  int  // of the answer; 0 is 200
	charts  bool // the page has one: what draws it is loaded
}

// action is something to do about the whole page, beside its title.
type action struct {
	title, href string
	main        bool
	dialog      string // opens this dialog where scripts run
	file        bool   // is a download
}

// query is a parameter of the address without the blanks around it.
func (v *visit) query(name string) string { return strings.TrimSpace(v.URL.Query().Get(name)) }

// queryOr is the same; fallback stands where it is absent.
func (v *visit) queryOr(name, fallback string) string {
	if s := v.query(name); s != "" {
		return s
	}
	return fallback
}

// number is a parameter as a number from 1 to most; fallback stands for anything else.
func (v *visit) number(name string, fallback, most int) int {
	n, err := strconv.Atoi(v.query(name))
	if err != nil || n < 1 || n > most {
		return fallback
	}
	return n
}

// thisMonth is the month of now, UTC.
func (v *visit) thisMonth() usage.Month { return usage.MonthOf(usage.AtTime(v.now)) }

// with is the address of this page with parameters changed: name, value, name, value; "" removes one.
func (v *visit) with(pairs ...string) string { return address(v.URL.Path, v.URL.Query(), pairs...) }

// address is a path with parameters, changed by pairs of name and value; "" removes one.
func address(path string, query url.Values, pairs ...string) string {
	q := url.Values{}
	for name, values := range query {
		q[name] = values
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			q.Del(pairs[i])
		} else {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// tabs are views by path and title; the one that is looked at is current.
func (v *visit) tabs(views ...option) []tab {
	all := make([]tab, len(views))
	for i, one := range views {
		all[i] = tab{title: one.title, href: one.value, current: one.value == v.URL.Path}
	}
	return all
}

// partial reports whether a script asks for a part of the page: then only the body is rendered.
func (v *visit) partial() bool { return v.query("part") != "" }

// form is what was posted.
func (v *visit) form() *form { return newForm(v.PostForm) }

const flashCookie = "flash"

// flash says something on the page that is shown next: tone is of a notice.
func (v *visit) flash(tone, text string) {
	http.SetCookie(v.w, &http.Cookie{ //nolint:gosec // Secure wherever the connection is
		Name: flashCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(tone + "\n" + text)), Path: "/",
		HttpOnly: true, Secure: v.TLS != nil, SameSite: http.SameSiteLaxMode, MaxAge: 60,
	})
}

// flashed takes what flash said. It is text: it is escaped as all text is.
func (v *visit) flashed() (tone, text string) {
	c, err := v.Cookie(flashCookie)
	if err != nil {
		return "", ""
	}
	http.SetCookie(v.w, &http.Cookie{Name: flashCookie, Path: "/", HttpOnly: true, Secure: v.TLS != nil, SameSite: http.SameSiteLaxMode, MaxAge: -1}) //nolint:gosec // as it was set
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return "", ""
	}
	tone, text, _ = strings.Cut(string(b), "\n")
	if tone != "good" && tone != "bad" && tone != "warn" {
		tone = ""
	}
	return tone, text
}
