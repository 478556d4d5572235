// Package web is what finance and operators see in a browser: pages rendered on the server, readable
// without scripts, with nothing from elsewhere.
//
// Guarantees:
//
//   - Every page needs a viewer who is signed in and whose role allows it; a page without an entry in the
//     table of pages does not exist. Outside a viewer's reach is 404, inside without the right 403.
//   - What a page shows comes from the same functions as the API, so both say the same.
//   - A page changes nothing by GET; a change needs a POST with the token of the session.
package web

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/a-h/templ"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
	"github.com/countinghouse/countinghouse/internal/reporter/schedules"
)

// Failures that become pages; access.ErrProof is one as well.
var (
	// ErrNotFound: there is no such thing within the viewer's reach (404).
	ErrNotFound = access.ErrOutside
	// ErrForbidden: it is within reach, but the role does not allow this (403).
	ErrForbidden = access.ErrForbidden
)

// Parts is what the pages are made from.
type Parts struct {
	Log       *zap.Logger
	Now       func() time.Time
	Reports   *report.Reports
	Months    *months.Keeper
	Control   *control.Store
	SignIn    SignIn
	People    *control.People // operators and roles
	Jobs      *jobs.Desk      // report jobs and their files
	Schedules *schedules.Book
	// Audit makes completeness certificates (audit.Certificate as JSON); nil: the pages have none.
	Audit interface {
		Certificate(ctx context.Context, tenant, month string) (json.RawMessage, error)
	}
	// Attentive is a context in which questions end when the warehouse gives no sign of life; nil: pages wait as long as
	// their statements may take.
	Attentive func(context.Context) context.Context
	// Replay sends the event of a dead letter through ingest again; nil: the pages say how to do it from a shell.
	Replay func(ctx context.Context, who *access.Viewer, at report.Position, event []byte) error
}

// SignIn knows who is asking.
type SignIn interface {
	// Viewer is the operator of the request's session, and the token that its forms must carry; nil: nobody
	// is signed in.
	Viewer(r *http.Request) (viewer *access.Viewer, formToken string)
	// Address is the client's address, as the audit log has it: behind a proxy that is not the connection's.
	Address(r *http.Request) string
	// Register adds /sign-in, /sign-out and the pages of the flow. render wraps a body in the frame of all
	// pages.
	Register(mux *http.ServeMux, render func(w http.ResponseWriter, r *http.Request, status int, title string, body templ.Component))
}

// page is a page of the site: who may see it, and what makes it.
type page struct {
	pattern string // of http.ServeMux, with its method
	title   string
	entity  access.Entity
	verb    access.Verb
	proof   bool   // changes money or rights: for who proved who they are a moment ago
	menu    string // the heading it stands under in the menu; "" keeps it out
	serve   func(s *Site, v *visit) (templ.Component, error)
}

// pages is every page there is. Each file of this package adds its own in its list.
func pages() []page {
	var all []page
	for _, some := range [][]page{
		homePages(), usagePages(), monthPages(), explainPages(), deadPages(), healthPages(),
		staPages(), tenantPages(), monthlyPages(), connectPages(), elasticPages(), partnerPages(), archivePages(), schedulePages(), rolePages(), operatorPages(), keyPages(), auditLogPages(),
	} {
		all = append(all, some...)
	}
	return all
}

// redirect ends a POST: the browser asks for the page anew.
type redirect struct{ to string }

func (r redirect) Error() string { return "see " + r.to }

// Site is the pages over their parts.
type Site struct {
	Parts
	mux     *http.ServeMux
	fresh   freshness
	assets  map[string]asset
	edition string // of the assets
	audits  audits
}

// New builds the site. It serves every path that is not of the API, behind signin.Protect: that is where a POST is read and
// bounded.
func New(p Parts) *Site {
	s := &Site{Parts: p, mux: http.NewServeMux(), assets: assetsPacked(), edition: edition(), audits: audits{last: map[string]lastAudit{}}}
	s.static()
	s.SignIn.Register(s.mux, s.render)
	for _, one := range pages() {
		s.mux.HandleFunc(one.pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(one, w, r) })
	}
	return s
}

func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }
