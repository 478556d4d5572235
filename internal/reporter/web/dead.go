package web

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

func deadPages() []page {
	one := func(pattern, title string, verb access.Verb, serve func(*Site, *visit) (templ.Component, error)) page {
		return page{pattern: pattern, title: title, entity: access.DeadLetters, verb: verb, serve: serve}
	}
	list := one("GET /dead-letters", "Dead letters", access.View, (*Site).deadLetters)
	list.menu = menuProof
	const at = "/dead-letters/{shard}/{seq}/{idx}"
	return []page{
		list, one("GET "+at, "Dead letter", access.View, (*Site).deadLetter), one("GET "+at+"/raw", "Dead letter", access.View, (*Site).deadRaw),
		one("GET "+at+"/replay", "Send it again", access.Edit, (*Site).replayForm), one("POST "+at+"/replay", "Send it again", access.Edit, (*Site).replay),
	}
}

const (
	lettersRows = 100
	hexMost     = 4 << 10  // bytes of what is no text that are shown
	textMost    = 64 << 10 // bytes of text

	countedWait  = 5 * time.Second // for what was sent again to be counted, before the page says that it is not yet
	countedPause = 200 * time.Millisecond
)

func (s *Site) deadLetters(v *visit) (templ.Component, error) {
	v.lead = "Events that are in the log but count nowhere, with the reason. Nothing is ever thrown away."
	q := report.DeadLettersQuery{
		Tenant: v.viewer.Tenant, Reason: v.query("reason"), Source: v.query("source"), ID: v.query("id"), To: report.Forever, Limit: lettersRows,
	}
	if text := v.query("before"); text != "" {
		mark, err := parseMark(text)
		if err != nil {
			return nil, err
		}
		q.Before = &mark
	}
	letters, err := s.Reports.DeadLetters(v.Context(), q)
	if err != nil {
		return nil, err
	}
	reasons, err := s.Reports.DeadLetterReasons(v.Context(), v.viewer.Tenant, 0)
	if err != nil {
		return nil, err
	}
	f := newForm(v.URL.Query())
	options := []option{{"", "Any reason"}}
	known := q.Reason == ""
	for _, r := range reasons {
		options = append(options, option{r.Reason, r.Reason + " (" + grouped(whole(r.N)) + ")"})
		known = known || r.Reason == q.Reason
	}
	if !known {
		options = append(options, option{q.Reason, q.Reason})
	}
	next := ""
	if len(letters) == q.Limit {
		next = v.with("before", markText(letters[len(letters)-1].Mark()))
	}
	prev := ""
	if q.Before != nil {
		prev = v.with("before", "")
	}
	fields := []field{f.choice("reason", "Reason", options), f.field("source", "Source"), f.field("id", "Event id")}
	filtered := q.Reason != "" || q.Source != "" || q.ID != ""
	return deadList(fields, lettersTable(letters, filtered), pager(prev, next, plural(len(letters), "dead letter")+" on this page")), nil
}

func lettersTable(letters []report.DeadLetter, filtered bool) table {
	t := table{name: "Dead letters", columns: []column{
		{title: "Recorded", kind: asShort}, {title: "Reason"}, {title: "Event", kind: asHead}, {title: "Type"}, {title: "Account"}, {title: "Detail"},
		{title: "Bytes", kind: asNumber}, {title: "Position in the log", kind: asCode, hint: "shard / sequence / index"},
	}, empty: empty{text: "There are none: every event of the log counts, or is a duplicate of one that does."}}
	if filtered {
		t.empty = empty{text: "No dead letter is like this.", do: "Show all", href: "/dead-letters"}
	}
	for _, d := range letters {
		t.rows = append(t.rows, row{
			txt(moment(d.RecordedAt)), comp(badge(reasonTone(d.Reason), d.Reason)), linked(cmp.Or(d.ID, "(no id)"), letterHref(d.Position)), txt(d.Type), txt(d.Account), txt(d.Detail),
			txt(whole(d.Bytes)), txt(positionText(d.Position)),
		})
	}
	return t
}

// reasonTone: what a rule leaves without effect may heal by itself.
func reasonTone(reason string) string {
	if strings.HasPrefix(reason, directory.RulePrefix) {
		return "warn"
	}
	return "bad"
}

func letterHref(p report.Position) string {
	return "/dead-letters/" + whole(p.Shard) + "/" + whole(p.Seq) + "/" + whole(p.Idx)
}

// markText and parseMark carry a place in the list through an address. It holds no secret, and what is read from it
// is of the viewer's tenant whatever it says.
func markText(m report.Mark) string {
	return whole(m.RecordedAt) + "." + whole(m.Shard) + "." + whole(m.Seq) + "." + whole(m.Idx)
}

func parseMark(text string) (report.Mark, error) {
	parts := strings.Split(text, ".")
	var m report.Mark
	if len(parts) != 4 {
		return m, badPlace()
	}
	at, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return m, badPlace()
	}
	m.RecordedAt = at
	m.Position, err = parsePosition(parts[1], parts[2], parts[3])
	return m, err
}

func badPlace() error {
	return &report.Error{Code: report.CodeCursor, Detail: "the page was not reached by a link of this site; start again"}
}

func parsePosition(shard, seq, idx string) (report.Position, error) {
	a, errA := strconv.ParseUint(shard, 10, 16)
	b, errB := strconv.ParseUint(seq, 10, 64)
	c, errC := strconv.ParseUint(idx, 10, 32)
	if errA != nil || errB != nil || errC != nil {
		return report.Position{}, ErrNotFound
	}
	return report.Position{Shard: uint16(a), Seq: b, Idx: uint32(c)}, nil
}

// letter is the dead letter that the address names, with its bytes.
func (s *Site) letter(v *visit) (report.DeadLetter, error) {
	at, err := parsePosition(v.PathValue("shard"), v.PathValue("seq"), v.PathValue("idx"))
	if err != nil {
		return report.DeadLetter{}, err
	}
	rows, err := s.Reports.DeadLetters(v.Context(), report.DeadLettersQuery{Tenant: v.viewer.Tenant, To: report.Forever, Limit: 1, At: &at, Raw: true})
	if err != nil {
		return report.DeadLetter{}, err
	}
	if len(rows) == 0 {
		return report.DeadLetter{}, ErrNotFound
	}
	v.crumbs = []crumb{{"Dead letters", "/dead-letters"}}
	return rows[0], nil
}

func (s *Site) deadLetter(v *visit) (templ.Component, error) {
	d, err := s.letter(v)
	if err != nil {
		return nil, err
	}
	if d.ID != "" {
		v.title = "Dead letter " + d.ID
	}
	if len(d.Raw) > 0 {
		v.actions = append(v.actions, action{title: "Save the bytes", href: letterHref(d.Position) + "/raw", file: true})
	}
	if v.viewer.May(access.DeadLetters, access.Edit) {
		v.actions = append(v.actions, action{title: "Send it again", href: letterHref(d.Position) + "/replay", main: true})
	}
	all := []fact{
		{name: "Source", value: d.Source}, {name: "Id", value: d.ID, code: true}, {name: "Type", value: d.Type}, {name: "Account", value: d.Account},
		{name: "Recorded", value: exactly(d.RecordedAt)}, {name: "Position in the log", value: positionText(d.Position), code: true},
	}
	if d.Original != nil {
		all = append(all, fact{name: "First delivery", value: positionText(*d.Original), code: true, href: eventHref(d.Source, d.ID)})
	}
	text, note := shownBytes(d.Raw)
	return letterBody(d, all, text, note), nil
}

// shownBytes is what was received as text that is safe to show: JSON set out in lines, other text with its control
// characters spelt out, anything else in hexadecimal.
func shownBytes(raw []byte) (text, note string) {
	if len(raw) == 0 {
		return "", "The bytes are with another dead letter of the same message."
	}
	note = plural(len(raw), "byte") + " as received"
	switch {
	case json.Valid(raw) && len(raw) <= textMost:
		var b bytes.Buffer
		if json.Indent(&b, raw, "", "  ") == nil {
			return b.String(), note + ", set out in lines."
		}
		return string(raw), note + "."
	case utf8.Valid(raw):
		cut := raw[:min(len(raw), textMost)]
		for !utf8.Valid(cut) {
			cut = cut[:len(cut)-1]
		}
		if len(cut) < len(raw) {
			note += "; the first " + grouped(whole(len(cut))) + " are shown"
		}
		return spelled(string(cut)), note + "."
	}
	if len(raw) > hexMost {
		note += "; the first " + grouped(whole(hexMost)) + " are shown"
	}
	return hex.Dump(raw[:min(len(raw), hexMost)]), note + ", in hexadecimal: it is no text."
}

// spelled writes control characters, and those that turn text around, as what they are.
func spelled(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (s *Site) deadRaw(v *visit) (templ.Component, error) {
	d, err := s.letter(v)
	if err != nil {
		return nil, err
	}
	h := v.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="dead-letter-`+whole(d.Shard)+"-"+whole(d.Seq)+"-"+whole(d.Idx)+`.bin"`)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	_, _ = v.w.Write(d.Raw) // a browser that went away is no concern
	return nil, nil
}

func (s *Site) replayForm(v *visit) (templ.Component, error) {
	d, err := s.letter(v)
	if err != nil {
		return nil, err
	}
	text, _ := shownBytes(d.Raw)
	return s.replayPage(v, d, newForm(url.Values{"event": {text}}), "")
}

// replayPage asks once more, and lets the event be mended first.
func (s *Site) replayPage(v *visit, d report.DeadLetter, f *form, problem string) (templ.Component, error) {
	v.crumbs = append(v.crumbs, crumb{"Dead letter " + d.ID, letterHref(d.Position)})
	event := f.field("event", "The event, mended where needed")
	event.kind, event.required = "area", true
	switch {
	case d.Reason == report.Conflict:
		event.hint = "Its id is taken by another event: give it a new one."
	case strings.HasPrefix(d.Reason, directory.RulePrefix):
		event.hint = "It is stored, and takes effect by itself once it breaks no rule. To say something else, give it a new id."
	default:
		event.hint = "It never took its id, so it may keep it."
	}
	c := confirmation{
		action: v.URL.Path, back: letterHref(d.Position), do: "Send it again", problem: problem, fields: []field{event},
		ask: "Send this event again?", detail: "It goes through ingest as any event does, and is judged anew. The dead letter stays where it is: the log never changes.",
	}
	return replayBody(v, c, d, s.Replay != nil && json.Valid(d.Raw), "countinghouse dlq replay "+whole(d.Shard)+":"+whole(d.Seq)+":"+whole(d.Idx)), nil
}

func (s *Site) replay(v *visit) (templ.Component, error) {
	d, err := s.letter(v)
	if err != nil {
		return nil, err
	}
	if s.Replay == nil {
		return nil, ErrNotFound
	}
	f := v.form()
	doc := []byte(f.values.Get("event"))
	var event struct {
		ID     string `json:"id"`
		Source string `json:"source"`
	}
	if json.Unmarshal(doc, &event) != nil || event.ID == "" || event.Source == "" {
		f.refuse("event", "Want one CloudEvents JSON object with an id and a source.")
	} else if event.ID == d.ID && event.Source == d.Source && (d.Reason == report.Conflict || strings.HasPrefix(d.Reason, directory.RulePrefix)) {
		f.refuse("event", "Its id is taken: give it a new one.")
	}
	if !f.ok() {
		v.status = http.StatusUnprocessableEntity
		return s.replayPage(v, d, f, "")
	}
	if err := s.Replay(v.Context(), v.viewer, d.Position, doc); err != nil {
		v.status = http.StatusConflict
		return s.replayPage(v, d, f, sentence(err.Error()))
	}
	if s.counted(v, event.Source, event.ID) {
		v.flash("good", "Sent again. This is what became of it.")
		return nil, redirect{eventHref(event.Source, event.ID)}
	}
	v.flash("good", "Sent again as "+event.ID+". It is in the log, and not counted yet: look it up under Explain in a moment.")
	return nil, redirect{letterHref(d.Position)}
}

// counted waits a moment for an event that was just sent.
func (s *Site) counted(v *visit, source, id string) bool {
	ctx, cancel := context.WithTimeout(v.Context(), countedWait)
	defer cancel()
	tick := time.NewTicker(countedPause)
	defer tick.Stop()
	for {
		if _, err := s.Reports.Trace(ctx, v.viewer.Tenant, source, id); err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}
