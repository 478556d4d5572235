package web

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
)

func auditLogPages() []page {
	return []page{
		{pattern: "GET /audit-log", title: "Audit Log", entity: access.AuditLog, verb: access.View, menu: menuAdmin, serve: (*Site).auditLog},
	}
}

const (
	auditRows = 100
	proofWait = 1500 * time.Millisecond // a page does not wait longer for the chain to be walked
)

type auditLogView struct {
	v     *visit
	f     *form
	table table
	pager templ.Component
	proof templ.Component
}

func (s *Site) auditLog(v *visit) (templ.Component, error) {
	v.lead = "Everything operators and keys did to the state of this house. Each entry holds the hash of the one before."
	f := newForm(v.URL.Query())
	q := control.AuditQuery{Tenant: v.viewer.Tenant, By: f.text("by"), Action: f.text("action"), Target: f.text("target"), Limit: auditRows + 1}
	for name, into := range map[string]*time.Time{"since": &q.Since, "through": &q.Through} {
		if f.text(name) == "" {
			continue
		}
		at, err := time.Parse(time.DateOnly, f.text(name))
		if err != nil {
			f.refuse(name, "Want a day as YYYY-MM-DD.")
		}
		*into = at
	}
	if !q.Through.IsZero() {
		q.Through = q.Through.AddDate(0, 0, 1) // that day as well
	}
	q.Before, _ = strconv.ParseUint(v.query("before"), 10, 64) // nonsense is the first page
	view := auditLogView{v: v, f: f}
	if !f.ok() {
		return auditLogPage(view), nil
	}
	entries, err := s.Control.AuditLog(v.Context(), q)
	if err != nil {
		return nil, err
	}
	next := ""
	if len(entries) > auditRows {
		entries = entries[:auditRows]
		next = v.with("before", strconv.FormatUint(entries[auditRows-1].Number, 10))
	}
	prev := ""
	if q.Before != 0 {
		prev = v.with("before", "")
	}
	view.table = auditTable(entries)
	if prev+next != "" && len(entries) > 0 {
		view.pager = pager(prev, next, fmt.Sprintf("Entries %d to %d", entries[0].Number, entries[len(entries)-1].Number))
	}
	view.proof = s.auditProof(v)
	return auditLogPage(view), nil
}

func auditTable(entries []control.Entry) table {
	t := table{
		name: "Audit log",
		columns: []column{
			{title: "Number", kind: asNumber}, {title: "When, UTC", kind: asShort}, {title: "Who"}, {title: "From", kind: asShort}, {title: "What", kind: asShort}, {title: "On"}, {title: "Details"}, {title: "SHA-256", kind: asCode},
		},
		empty: empty{text: "No entry fits the filter.", do: "Show all", href: "/audit-log"},
	}
	for i := range entries {
		e := &entries[i]
		what := comp(badge(auditTone(e.Action), e.Action))
		var details []string
		for _, name := range slices.Sorted(maps.Keys(e.Detail)) {
			if e.Detail[name] != "" {
				details = append(details, name+": "+e.Detail[name])
			}
		}
		if e.Late {
			details = append(details, "entered late: its writer did not live to tell of it")
		}
		t.rows = append(t.rows, row{
			txt(strconv.FormatUint(e.Number, 10)), txt(e.At.UTC().Format("2006-01-02 15:04:05")), linked(e.By, href("/audit-log", "by", e.By)), txt(e.From), what,
			txt(e.Target), txt(strings.Join(details, "; ")), txt(e.SHA256[:min(12, len(e.SHA256))]),
		})
	}
	return t
}

func auditTone(action string) string {
	switch {
	case strings.Contains(action, "fail"), strings.Contains(action, "refused"), strings.Contains(action, "locked"):
		return "bad"
	case strings.Contains(action, "removed"), strings.Contains(action, "revoked"), strings.Contains(action, "disabled"), strings.Contains(action, "deleted"):
		return "warn"
	}
	return ""
}

// auditProof walks the chain and says whether it is whole.
func (s *Site) auditProof(v *visit) templ.Component {
	ctx, cancel := context.WithTimeout(v.Context(), proofWait)
	defer cancel()
	proofs, err := s.Control.VerifyLog(ctx, v.viewer.Tenant, "")
	if err != nil {
		return notice("warn", "The chain was not verified just now", "It could not be walked in time. `countinghouse audit verify-log` has no such limit.")
	}
	for _, p := range proofs {
		switch {
		case p.Tenant != v.viewer.Tenant:
		case p.OK():
			return chainWhole(p)
		case p.Broken != nil:
			return notice("bad", "The chain is broken", fmt.Sprintf("Entry %d does not follow from the one before: %s", p.Broken.Number, p.Broken.Why))
		default:
			return notice("bad", "The log does not tell all", fmt.Sprintf("%s without an entry, %s gone: see `countinghouse audit verify-log`.", plural(len(p.Unrecorded), "change"), plural(len(p.Missing), "change")))
		}
	}
	return nil
}
