package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// unrecordedAfter is when a change without an entry is one that its writer did not live to tell of.
const unrecordedAfter = 10 * time.Second

// LogProof is what a walk over an audit log found.
type LogProof struct {
	Tenant  string `json:"tenant"`
	Entries uint64 `json:"entries"`
	Head    string `json:"head"` // SHA-256 of the last entry: who notes it down can tell later that nothing was cut off
	// Broken names the first entry that does not follow from the one before; nil: the chain is whole.
	Broken *BrokenLink `json:"broken,omitzero"`
	// Missing are changes of CONTROL that entries tell of and that are gone or no longer what they were.
	Missing []string `json:"missing"`
	// Unrecorded are changes without an entry: somebody wrote them past the log.
	Unrecorded []string `json:"unrecorded"`
}

// OK reports whether nothing was found.
func (p LogProof) OK() bool {
	return p.Broken == nil && len(p.Missing) == 0 && len(p.Unrecorded) == 0
}

// BrokenLink is where a chain ends to be one.
type BrokenLink struct {
	Number uint64    `json:"number"` // that the entry should have
	At     time.Time `json:"at"`
	Why    string    `json:"why"`
}

// chainWalk is the state of a walk over CONTROL.
type chainWalk struct {
	proofs  map[string]*LogProof // by tenant
	last    map[string]Entry
	told    map[string]uint64 // subject and hash of a change: number of its entry
	changes map[string]change
	heads   map[string]bool // tenant and SHA-256 of every entry
}

type change struct {
	entry Entry
	at    time.Time
}

// VerifyLog walks the audit log of a tenant, or of every tenant for "", and compares it with what was changed. head is
// the SHA-256 of an entry that must be there; "": any may be the last.
func (s *Store) VerifyLog(ctx context.Context, tenant, head string) ([]LogProof, error) {
	return s.VerifyLogAt(ctx, tenant, head, s.now())
}

// VerifyLogAt is VerifyLog at a time: a change may be without an entry for as long as its writer may still write it.
func (s *Store) VerifyLogAt(ctx context.Context, tenant, head string, now time.Time) ([]LogProof, error) {
	w, err := s.walkChains(ctx)
	if err != nil {
		return nil, err
	}
	if head != "" && !w.heads[tenant+" "+head] {
		w.proof(tenant).Missing = append(w.proof(tenant).Missing, "an entry with SHA-256 "+head+" was there once")
	}
	for key, number := range w.told {
		if _, there := w.changes[key]; !there {
			owner, subject, _ := strings.Cut(key, " ")
			p := w.proofs[owner]
			p.Missing = append(p.Missing, fmt.Sprintf("entry %d tells of a change of %s", number, strings.Fields(subject)[0]))
		}
	}
	for _, c := range w.unrecorded(now) {
		p := w.proof(c.entry.Tenant)
		p.Unrecorded = append(p.Unrecorded, fmt.Sprintf("%s %s at %s", c.entry.Action, c.entry.Target, c.at.UTC().Format(time.RFC3339)))
	}
	proofs := []LogProof{}
	for _, name := range slices.Sorted(maps.Keys(w.proofs)) {
		if p := w.proofs[name]; tenant == "" || tenant == name {
			slices.Sort(p.Missing)
			slices.Sort(p.Unrecorded)
			proofs = append(proofs, *p)
		}
	}
	return proofs, nil
}

func (s *Store) walkChains(ctx context.Context) (*chainWalk, error) {
	w := &chainWalk{proofs: map[string]*LogProof{}, last: map[string]Entry{}, told: map[string]uint64{}, changes: map[string]change{}, heads: map[string]bool{}}
	err := s.walk(ctx, controlSubs, func(subject string, data []byte, at time.Time) error {
		if tenant, ok := strings.CutPrefix(subject, auditSubject); ok {
			w.link(tenant, data)
			return nil
		}
		if a, ok := decodeAudited(subject, data); ok {
			if e, ok := a.audit(); ok {
				e.Change = &StateChange{Subject: subject, SHA256: hexSum(data)}
				w.changes[e.change()] = change{e, at}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return w, nil
}

// unrecorded are the changes that should have an entry by now and have none, oldest first.
func (w *chainWalk) unrecorded(now time.Time) []change {
	old := now.Add(-unrecordedAfter)
	missing := []change{}
	for key, c := range w.changes {
		if _, told := w.told[key]; !told && c.at.Before(old) {
			missing = append(missing, c)
		}
	}
	slices.SortFunc(missing, func(a, b change) int { return a.at.Compare(b.at) })
	return missing
}

// change names what an entry tells of.
func (e *Entry) change() string { return e.Tenant + " " + e.Change.Subject + " " + e.Change.SHA256 }

func (w *chainWalk) proof(tenant string) *LogProof {
	p := w.proofs[tenant]
	if p == nil {
		p = &LogProof{Tenant: tenant, Missing: []string{}, Unrecorded: []string{}}
		w.proofs[tenant] = p
	}
	return p
}

// link checks that an entry follows from the one before.
func (w *chainWalk) link(tenant string, data []byte) {
	p, last := w.proof(tenant), w.last[tenant]
	p.Entries++
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	why := ""
	switch err := dec.Decode(&e); {
	case err != nil:
		why = "cannot be read: " + err.Error()
	case e.Tenant != tenant:
		why = "is of tenant " + e.Tenant
	case e.SHA256 != e.sum():
		why = "was changed: its SHA-256 is not that of what it says"
	case e.Number != last.Number+1:
		why = fmt.Sprintf("has number %d: entries before it are missing", e.Number)
	case e.Previous != last.SHA256:
		why = "does not hold the SHA-256 of the entry before"
	}
	if why != "" && p.Broken == nil {
		p.Broken = &BrokenLink{Number: last.Number + 1, At: e.At, Why: why}
	}
	if e.Change != nil {
		e.Tenant = tenant
		w.told[e.change()] = e.Number
	}
	w.heads[tenant+" "+e.SHA256] = true
	w.last[tenant] = e // the walk goes on from here, to find what else there is
	p.Head = e.SHA256
}

// Complete adds entries for changes whose writers did not live to tell of them, and answers how many. What it adds
// says that it was late.
func (s *Store) Complete(ctx context.Context) (int, error) {
	w, err := s.walkChains(ctx)
	if err != nil {
		return 0, err
	}
	missing := w.unrecorded(s.now())
	for i, c := range missing {
		c.entry.Late = true
		c.entry.Detail = maps.Clone(c.entry.Detail)
		if c.entry.Detail == nil {
			c.entry.Detail = map[string]string{}
		}
		c.entry.Detail["changed_at"] = c.at.UTC().Format(time.RFC3339Nano)
		if err := s.chain(ctx, c.entry); err != nil {
			return i, fmt.Errorf("complete the audit log of %s: %w", c.entry.Tenant, err)
		}
	}
	return len(missing), nil
}

// decodeAudited reads a message of CONTROL that may be one the log tells of.
func decodeAudited(subject string, data []byte) (audited, bool) {
	for prefix, empty := range map[string]func() audited{
		keySubject:           func() audited { return &event{} },
		monthSubject:         func() audited { return &monthEvent{} },
		jobs().prefix():      func() audited { return &jobEvent{} },
		schedules().prefix(): func() audited { return &scheduleEvent{} },
		operatorSubject:      func() audited { return &operatorEvent{} },
		roleSubject:          func() audited { return &roleEvent{} },
	} {
		if strings.HasPrefix(subject, prefix) {
			doc := empty()
			return doc, json.Unmarshal(data, doc) == nil
		}
	}
	return nil, false
}

func (e event) audit() (Entry, bool) {
	detail := map[string]string{"name": e.Key.Name, "scopes": strings.Join(e.Key.Scopes, " ")}
	if !e.Key.ExpiresAt.IsZero() {
		detail["expires_at"] = e.Key.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return Entry{Tenant: e.Key.Tenant, By: e.By, Action: "key-" + e.Change, Target: e.Key.ID, Detail: detail}, true
}

func (e monthEvent) audit() (Entry, bool) {
	detail := map[string]string{}
	if v, ok := e.Month.Newest(); ok {
		detail = map[string]string{"version": fmt.Sprint(v.Version), "sha256": v.SHA256, "reason": v.Reason}
	}
	return Entry{Tenant: e.Month.Tenant, By: e.By, Action: "month-" + e.Change, Target: e.Month.Month, Detail: detail}, true
}

// audit: what runs a job writes its steps as well; the log tells of what somebody asked for.
func (e jobEvent) audit() (Entry, bool) {
	detail := map[string]string{"report": e.Job.Report, "format": e.Job.Format}
	return Entry{Tenant: e.Job.Tenant, By: e.By, Action: "report-job-" + e.Change, Target: e.Job.ID, Detail: detail},
		(e.Change == "submitted" || e.Change == "cancelled") && e.Job.Schedule == ""
}

func (e scheduleEvent) audit() (Entry, bool) {
	detail := map[string]string{"report": e.Schedule.Report, "name": e.Schedule.Name, "recipients": strings.Join(e.Schedule.Recipients, " ")}
	return Entry{Tenant: e.Schedule.Tenant, By: e.By, Action: "schedule-" + e.Change, Target: e.Schedule.ID, Detail: detail}, true
}
