package web

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
)

func healthPages() []page {
	one := func(pattern string, serve func(*Site, *visit) (templ.Component, error)) page {
		return page{pattern: pattern, title: "Data health", entity: access.DataHealth, verb: access.View, serve: serve}
	}
	first := one("GET /health", (*Site).health)
	first.menu = menuProof
	return []page{first, one("POST /health/audit", (*Site).auditNow)}
}

const (
	silentWait = 2 * time.Second // silent producers are found in the raw rows, which may take long
	auditWait  = 5 * time.Minute
)

// healthView is the page; every part is there or its trouble is.
type healthView struct {
	tiles  []tile
	ledger templ.Component
	shards templ.Component
	silent templ.Component
	audit  templ.Component
	audits bool // there is somebody to ask
}

func (s *Site) health(v *visit) (templ.Component, error) {
	v.lead = "Whether everything that was accepted is counted, and how soon."
	var view healthView
	ledger, err := s.Reports.Ledger(v.Context(), v.viewer.Tenant)
	if err != nil {
		view.ledger = s.trouble(v, err)
	} else {
		view.ledger = sheet(ledgerTable(ledger))
	}
	shards, err := s.Reports.Freshness(v.Context())
	if err != nil {
		view.shards = s.trouble(v, err)
	} else {
		view.shards = sheet(shardsTable(shards))
		view.tiles = lagTiles(v, shards)
	}
	if free, err := s.Months.Servers.Reader().Disk(v.Context()); err == nil {
		view.tiles = append(view.tiles, tile{label: "Free on the warehouse's disk", value: bytesText(free)})
	}
	view.silent = s.silent(v)
	view.audits = s.Audit != nil
	view.audit = s.lastAudit(v)
	return healthBody(v, view), nil
}

func ledgerTable(rows []report.LedgerRow) table {
	t := table{name: "Ledger by month of recording", empty: empty{text: "The log holds nothing of this tenant yet."}, columns: []column{
		{title: "Recorded in", kind: asHead}, {title: "Accepted", kind: asNumber}, {title: "Stored", kind: asNumber}, {title: "Duplicates", kind: asNumber},
		{title: "Conflicts", kind: asNumber}, {title: "Refused", kind: asNumber}, {title: "Voided", kind: asNumber, hint: "of the stored ones"}, {title: "Balance"},
	}}
	var sum report.LedgerRow
	for i := len(rows) - 1; i >= 0; i-- {
		r := rows[i]
		state := badge("good", "balances")
		if !r.Balanced {
			state = badge("bad", "does not balance")
		}
		t.rows = append(t.rows, row{
			txt(monthTitle(r.Month)), txt(whole(r.Accepted)), txt(whole(r.Stored)), txt(whole(r.Duplicate)), txt(whole(r.Conflict)), txt(whole(r.Quarantined)),
			txt(whole(r.Voided)), comp(state),
		})
		sum.Accepted, sum.Stored, sum.Duplicate = sum.Accepted+r.Accepted, sum.Stored+r.Stored, sum.Duplicate+r.Duplicate
		sum.Conflict, sum.Quarantined, sum.Voided = sum.Conflict+r.Conflict, sum.Quarantined+r.Quarantined, sum.Voided+r.Voided
	}
	t.foot = []row{{
		txt("All"), txt(whole(sum.Accepted)), txt(whole(sum.Stored)), txt(whole(sum.Duplicate)), txt(whole(sum.Conflict)), txt(whole(sum.Quarantined)),
		txt(whole(sum.Voided)), txt(""),
	}}
	return t
}

// pending is how many events wait to be counted, and since when the first of them; 0: none do.
func pending(shards []report.Freshness) (waiting uint64, oldest report.Instant) {
	for _, f := range shards {
		waiting += f.LagEvents
		if f.LagEvents > 0 && f.OldestPendingAt != 0 && (oldest == 0 || f.OldestPendingAt < oldest) {
			oldest = f.OldestPendingAt
		}
	}
	return waiting, oldest
}

func lagTiles(v *visit, shards []report.Freshness) []tile {
	waiting, oldest := pending(shards)
	var mark, seen report.Instant
	for _, f := range shards {
		mark, seen = max(mark, f.WatermarkAt), max(seen, f.SeenAt)
	}
	since := func(i report.Instant) string {
		if i == 0 {
			return "never"
		}
		return ago(v.now.Sub(time.UnixMilli(int64(i))))
	}
	wait := tile{label: "Events waiting to be counted", value: whole(waiting)}
	if oldest != 0 {
		wait.note = "the oldest came " + since(oldest)
	}
	return []tile{wait, {label: "Newest event counted", value: since(mark), note: moment(mark)}, {label: "Aggregator last heard of", value: since(seen), note: moment(seen)}}
}

func shardsTable(shards []report.Freshness) table {
	t := table{name: "Shards of the log", empty: empty{text: "No aggregator has said anything yet. Without one nothing is counted; events are still accepted."}, columns: []column{
		{title: "Shard", kind: asHead}, {title: "In the log", kind: asNumber, hint: "newest sequence"}, {title: "Counted", kind: asNumber, hint: "sequence up to which everything is counted"},
		{title: "Events waiting", kind: asNumber}, {title: "Oldest of them", kind: asShort}, {title: "Counted up to", kind: asShort}, {title: "Heard of", kind: asShort},
	}}
	for _, f := range shards {
		oldest := ""
		if f.LagEvents > 0 {
			oldest = moment(f.OldestPendingAt)
		}
		t.rows = append(t.rows, row{
			txt(whole(f.Shard)), txt(whole(f.LogSeq)), txt(whole(f.WarehouseSeq)), txt(whole(f.LagEvents)), txt(oldest), txt(moment(f.WatermarkAt)), txt(moment(f.SeenAt)),
		})
	}
	return t
}

func (s *Site) silent(v *visit) templ.Component {
	ctx, cancel := context.WithTimeout(v.Context(), silentWait)
	defer cancel()
	silent, err := s.Reports.SilentSources(ctx, v.viewer.Tenant, v.thisMonth(), v.now.UnixMilli())
	if err != nil && v.Context().Err() == nil && ctx.Err() != nil {
		return notice("", "", "Looking for silent producers took too long for a page; the checklist of a month names them.")
	}
	if err != nil {
		return s.trouble(v, err)
	}
	t := table{name: "Silent producers", columns: []column{{title: "Source", kind: asHead}, {title: "Last event", kind: asShort}},
		empty: empty{text: "Every source that sent something on each day of last month is still sending."}}
	for _, one := range silent {
		t.rows = append(t.rows, row{txt(one.Source), txt(moment(one.Last))})
	}
	return sheet(t)
}

// audits are the last certificates that were asked for on this page, by tenant. They are of this reporter's memory:
// a certificate is made anew whenever somebody asks.
type audits struct {
	mu      sync.Mutex
	running bool // one at a time, of any tenant: it reads a whole log
	last    map[string]lastAudit
}

type lastAudit struct {
	at          time.Time
	by          string
	certificate auditSummary
	err         error
}

// auditSummary is what the page says of a certificate.
type auditSummary struct {
	OK              bool   `json:"ok"`
	At              string `json:"at"`
	Seconds         string `json:"seconds"`
	Messages        uint64 `json:"messages"`
	Events          uint64 `json:"events"`
	DifferenceCount uint64 `json:"difference_count"`
	SHA256          string `json:"sha256"`
	Differences     []struct {
		Check, Month, What, Want, Have, Source, ID string
	} `json:"differences"`
}

func (s *Site) auditNow(v *visit) (templ.Component, error) {
	if s.Audit == nil {
		return nil, ErrNotFound
	}
	tenant := v.viewer.Tenant
	s.audits.mu.Lock()
	busy := s.audits.running
	s.audits.running = true
	s.audits.mu.Unlock()
	if busy {
		v.flash("warn", "An audit is running already. It reads the whole log; ask again when it is done.")
		return nil, redirect{"/health"}
	}
	done := lastAudit{at: v.now, by: v.viewer.Name}
	defer func() {
		s.audits.mu.Lock()
		defer s.audits.mu.Unlock()
		s.audits.running = false
		if v.Context().Err() == nil {
			s.audits.last[tenant] = done
		}
	}()
	ctx, cancel := context.WithTimeout(v.Context(), auditWait)
	defer cancel()
	var raw json.RawMessage
	if raw, done.err = s.Audit.Certificate(ctx, tenant, ""); done.err == nil {
		done.err = json.Unmarshal(raw, &done.certificate)
	}
	return nil, redirect{"/health#audit"}
}

func (s *Site) lastAudit(v *visit) templ.Component {
	s.audits.mu.Lock()
	last, ok := s.audits.last[v.viewer.Tenant]
	s.audits.mu.Unlock()
	switch {
	case !ok:
		return notice("", "Not audited from this page since the reporter started.", "An audit reads the tenant's log from its beginning, and compares it with ledger, rows and rollups.")
	case last.err != nil:
		return s.trouble(v, last.err)
	}
	return auditBody(last)
}

func wantHave(want, have string) string {
	if want == "" && have == "" {
		return ""
	}
	return "(want " + want + ", have " + have + ")"
}
