package reporter

import (
	"context"
	"net/http"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/report"
)

type traceInput struct {
	Source string `path:"source" doc:"CloudEvents source, percent-encoded as one segment"`
	ID     string `path:"id" doc:"CloudEvents id, percent-encoded as one segment"`
}

type traceOutput struct{ Body *report.Trace }

type eventsInput struct {
	Source  string `query:"source" doc:"With id: what became of that one event, as GET /events/{source}/{id} answers"`
	ID      string `query:"id"`
	Type    string `query:"type" doc:"Only this type"`
	Account string `query:"account" doc:"Only this account"`
	Meter   string `query:"meter" doc:"Only this meter"`
	Limit   string `query:"limit" doc:"1 to 1000; default 100"`
	Cursor  string `query:"cursor" doc:"next of the page before: older events"`
	After   string `query:"after" doc:"newest of an earlier answer: only events recorded since, oldest first"`
	Format  string `query:"format" doc:"json or csv; default: the header Accept"`
}

// eventsOutput is a listing, or with source and id a trace.
type eventsOutput struct{ Body any }

type eventsAnswer struct {
	Rows   []report.EventRow `json:"rows" doc:"Stored events; newest first unless after is given"`
	Next   *string           `json:"next" doc:"Cursor of the next page; null on the last"`
	Newest *string           `json:"newest" doc:"For after: where to go on following; null where there are no events yet"`
}

func (a eventsAnswer) columns() []string {
	return []string{"recorded_at", "at", "source", "id", "type", "account", "meter", "quantity", "correlation_id", "causation_id", "shard", "seq", "idx"}
}

func (a eventsAnswer) cells(row func(...cell)) {
	for _, e := range a.Rows {
		row(plain(e.RecordedAt.String()), plain(e.At.String()), text(e.Source), text(e.ID), text(e.Type), text(e.Account), text(e.Meter),
			plain(e.Quantity), text(e.CorrelationID), text(e.CausationID), whole(e.Shard), whole(e.Seq), whole(e.Idx))
	}
}

// ContentType names the character set of CSV.
func (a eventsAnswer) ContentType(ct string) string { return tableType(ct) }

type deadLettersInput struct {
	Reason string `query:"reason" doc:"Only this reason: a code of an event, or rule:<name>" example:"conflict"`
	Source string `query:"source" doc:"Only this CloudEvents source"`
	ID     string `query:"id" doc:"Only this CloudEvents id"`
	From   string `query:"from" doc:"Recorded at or after this instant, RFC 3339"`
	To     string `query:"to" doc:"Recorded before this instant, RFC 3339"`
	Raw    string `query:"raw" doc:"true: with the bytes as received"`
	Limit  string `query:"limit" doc:"1 to 1000; default 100"`
	Cursor string `query:"cursor" doc:"next of the page before"`
	Format string `query:"format" doc:"json or csv; default: the header Accept"`
}

type deadLettersOutput struct{ Body deadLettersAnswer }

type deadLettersAnswer struct {
	Rows []deadLetter `json:"rows" doc:"Newest first"`
	Next *string      `json:"next" doc:"Cursor of the next page; null on the last"`
}

// deadLetter is one with its bytes, if they were asked for.
type deadLetter struct {
	report.DeadLetter
	Raw     []byte  `json:"raw,omitempty" doc:"The bytes as received, in base64"`
	RawText *string `json:"raw_text,omitempty" doc:"The same as text, where they are UTF-8"`
}

func (a deadLettersAnswer) columns() []string {
	return []string{"recorded_at", "source", "id", "type", "account", "reason", "detail", "bytes", "shard", "seq", "idx"}
}

func (a deadLettersAnswer) cells(row func(...cell)) {
	for _, d := range a.Rows {
		row(plain(d.RecordedAt.String()), text(d.Source), text(d.ID), text(d.Type), text(d.Account), text(d.Reason), text(d.Detail),
			whole(d.Bytes), whole(d.Shard), whole(d.Seq), whole(d.Idx))
	}
}

// ContentType names the character set of CSV.
func (a deadLettersAnswer) ContentType(ct string) string { return tableType(ct) }

type deadLetterInput struct {
	Shard string `path:"shard"`
	Seq   string `path:"seq"`
	Idx   string `path:"idx"`
}

type deadLetterOutput struct{ Body deadLetter }

func (s *server) registerEvents() {
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "event", Method: http.MethodGet, Path: "/events/{source}/{id}", Tags: []string{"events"}, Summary: "What became of an event",
			Description: "Stored, voided, conflict or quarantined, with every delivery and its position in the log. 404 when it was never seen.",
		},
	}, s.event)
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "events", Method: http.MethodGet, Path: "/events", Tags: []string{"events"}, Summary: "Stored events, newest first",
			Description: "With source and id: what became of that one event.",
		},
		rows: true,
	}, s.events)
	register(s, endpoint{
		Operation: huma.Operation{OperationID: "dead-letters", Method: http.MethodGet, Path: "/dead-letters", Tags: []string{"events"}, Summary: "Events that count nowhere, and why"},
		rows:      true,
	}, s.deadLetters)
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "dead-letter", Method: http.MethodGet, Path: "/dead-letters/{shard}/{seq}/{idx}", Tags: []string{"events"},
			Summary: "One dead letter with the bytes as received",
		},
	}, s.deadLetter)
}

func (s *server) event(ctx context.Context, who caller, in *traceInput) (*traceOutput, error) {
	t, err := s.reports.Trace(ctx, who.Tenant, in.Source, in.ID)
	return &traceOutput{t}, err
}

func (s *server) events(ctx context.Context, who caller, in *eventsInput) (*eventsOutput, error) {
	if in.Source != "" || in.ID != "" {
		if in.Source == "" || in.ID == "" {
			return nil, wrong("source", "goes together with id: they name one event")
		}
		t, err := s.reports.Trace(ctx, who.Tenant, in.Source, in.ID)
		if wantsCSV(ctx) && err == nil {
			return nil, wrong("format", "one event is answered as JSON only")
		}
		return &eventsOutput{t}, err
	}
	q := report.EventsQuery{Tenant: who.Tenant, Type: in.Type, Account: in.Account, Meter: in.Meter}
	var err error
	if q.Limit, err = limitOf(in.Limit, 100); err != nil {
		return nil, err
	}
	if in.Cursor != "" && in.After != "" {
		return nil, wrong("after", "cursor goes back, after goes on: give one of them")
	}
	for cursor, place := range map[string]**report.Mark{in.Cursor: &q.Before, in.After: &q.After} {
		if cursor != "" {
			*place = &report.Mark{}
			if err := s.cursors.take(who.Tenant, "events", cursor, *place); err != nil {
				return nil, err
			}
		}
	}
	rows, err := s.reports.Events(ctx, q)
	if err != nil {
		return nil, err
	}
	answer := eventsAnswer{Rows: rows}
	if len(rows) == 0 {
		if in.After != "" {
			answer.Newest = &in.After
		}
		return &eventsOutput{answer}, nil
	}
	newest, last := rows[0], rows[len(rows)-1]
	if q.After != nil {
		newest = last
	}
	if answer.Newest, err = s.mark(who.Tenant, "events", newest.Mark(), true); err != nil {
		return nil, err
	}
	answer.Next, err = s.mark(who.Tenant, "events", last.Mark(), q.After == nil && len(rows) == q.Limit)
	return &eventsOutput{answer}, err
}

// mark is the cursor of a place, if there is one to give.
func (s *server) mark(tenant, listing string, at report.Mark, there bool) (*string, error) {
	if !there {
		return nil, nil //nolint:nilnil // null is the answer
	}
	cursor, err := s.cursors.give(tenant, listing, at)
	return &cursor, err
}

func (s *server) deadLetters(ctx context.Context, who caller, in *deadLettersInput) (*deadLettersOutput, error) {
	q := report.DeadLettersQuery{Tenant: who.Tenant, Reason: in.Reason, Source: in.Source, ID: in.ID}
	var err error
	if q.From, err = instantOf("from", in.From, 0); err != nil {
		return nil, err
	}
	if q.To, err = instantOf("to", in.To, report.Forever); err != nil {
		return nil, err
	}
	if q.Limit, err = limitOf(in.Limit, 100); err != nil {
		return nil, err
	}
	switch in.Raw {
	case "", "false":
	case "true":
		q.Raw = true
	default:
		return nil, wrong("raw", "want true or false")
	}
	if in.Cursor != "" {
		q.Before = &report.Mark{}
		if err := s.cursors.take(who.Tenant, "dead-letters", in.Cursor, q.Before); err != nil {
			return nil, err
		}
	}
	rows, err := s.reports.DeadLetters(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &deadLettersOutput{deadLettersAnswer{Rows: make([]deadLetter, len(rows))}}
	for i, d := range rows {
		out.Body.Rows[i] = withRaw(d, q.Raw)
	}
	if len(rows) == q.Limit {
		out.Body.Next, err = s.mark(who.Tenant, "dead-letters", rows[len(rows)-1].Mark(), true)
	}
	return out, err
}

func withRaw(d report.DeadLetter, raw bool) deadLetter {
	out := deadLetter{DeadLetter: d}
	if !raw {
		return out
	}
	out.Raw = d.Raw
	if utf8.Valid(d.Raw) {
		s := string(d.Raw)
		out.RawText = &s
	}
	return out
}

func (s *server) deadLetter(ctx context.Context, who caller, in *deadLetterInput) (*deadLetterOutput, error) {
	at, err := positionOf(in.Shard, in.Seq, in.Idx)
	if err != nil {
		return nil, err
	}
	rows, err := s.reports.DeadLetters(ctx, report.DeadLettersQuery{Tenant: who.Tenant, To: report.Forever, Limit: 1, At: &at, Raw: true})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, refuse(codeNotFound, "no dead letter at this position")
	}
	return &deadLetterOutput{withRaw(rows[0], true)}, nil
}

// positionOf reads a position from its path segments.
func positionOf(shard, seq, idx string) (report.Position, error) {
	var p report.Position
	var items []problem.Item
	number := func(name, value string, bits int) uint64 {
		n, err := parseUint(value, bits)
		if err != nil {
			items = append(items, problem.Item{Parameter: name, Code: codeParameter, Detail: "want a whole number"})
		}
		return n
	}
	p.Shard, p.Seq, p.Idx = uint16(number("shard", shard, 16)), number("seq", seq, 64), uint32(number("idx", idx, 32))
	if len(items) > 0 {
		return p, refuse(codeParameter, "a position is three whole numbers: shard, seq, idx").With(items...)
	}
	return p, nil
}
