package usage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits bound one event (docs/reference/configuration.md). A field left zero takes its default.
type Limits struct {
	EventBytes     int           // longest event, in bytes as sent
	Dimensions     int           // most dimensions of one event
	DimensionBytes int           // longest name and longest value of a dimension
	ExtraTypes     []string      // further types that are taken, stored and not metered, with data of any kind
	MaxSpan        time.Duration // longest end - start
}

// DefaultLimits is what docs/reference/configuration.md promises.
func DefaultLimits() Limits {
	return Limits{EventBytes: 64 << 10, Dimensions: 64, DimensionBytes: 256, MaxSpan: 400 * 24 * time.Hour}
}

// Parser reads CloudEvents. It keeps buffers between calls, so it is reusable but not concurrent; what
// it returns shares no memory with them or with the document. The strings of a batch are slices of one
// copy of its text: clone what must outlive the batch by far.
type Parser struct {
	limits  Limits
	extra   map[string]bool
	tree    tree
	split   jsontext.Decoder // cuts batches into elements
	nothing bytes.Buffer     // what split reads between documents
	fast    scanner
	paths   [maxDepth]path
	depth   int
}

// NewParser returns a parser for events within limits.
func NewParser(limits Limits) *Parser {
	d := DefaultLimits()
	if limits.EventBytes <= 0 {
		limits.EventBytes = d.EventBytes
	}
	if limits.Dimensions <= 0 {
		limits.Dimensions = d.Dimensions
	}
	if limits.DimensionBytes <= 0 {
		limits.DimensionBytes = d.DimensionBytes
	}
	if limits.MaxSpan <= 0 {
		limits.MaxSpan = d.MaxSpan
	}
	p := &Parser{limits: limits, extra: make(map[string]bool, len(limits.ExtraTypes))}
	for _, t := range limits.ExtraTypes {
		p.extra[t] = true
	}
	return p
}

// Lend makes the parser's answers borrowed, for callers that are done with them soon: from now on their
// strings may be slices of the document, and payloads are overwritten after Reclaim. Until then neither
// the document nor an answer may change.
func (p *Parser) Lend() { p.fast.lends = true }

// Reclaim takes back everything lent so far.
func (p *Parser) Reclaim() {
	p.fast.reclaim()
	p.split.Reset(&p.nothing)
}

// view is the text of doc: a copy, or doc itself if it is lent.
func (p *Parser) view(doc []byte) string {
	if p.fast.lends {
		return unsafe.String(unsafe.SliceData(doc), len(doc)) // the caller of Lend keeps doc as it is
	}
	return string(doc)
}

// Event reads one structured-mode CloudEvent. No faults means it is acceptable; with faults the event
// holds what could be read, so that a dead letter can name it.
func (p *Parser) Event(doc []byte) (Event, []Fault) {
	if len(doc) <= p.limits.EventBytes {
		var e Event
		if end, ok := p.fastEvent(&e, doc, p.view(doc), 0); ok && isSpace(doc[end:]) {
			return e, nil
		}
	}
	return p.strictEvent(doc)
}

// strictEvent is the whole of the rules; the fast path must agree with it or stand back.
func (p *Parser) strictEvent(doc []byte) (Event, []Fault) {
	r := reading{p: p}
	if len(doc) > p.limits.EventBytes {
		r.refuse("", CodeTooLarge, fmt.Sprintf("%d bytes, the limit is %d", len(doc), p.limits.EventBytes))
		r.identifyLarge(doc)
		return r.event, r.faults
	}
	p.tree.reset()
	p.depth = 0 // a panic that somebody recovered from may have left it
	root, fault := p.tree.parse(doc)
	if int(root) < len(p.tree.nodes) && p.tree.nodes[root].kind != '{' && fault == nil {
		fault = &Fault{Code: CodeNotObject, Detail: "an event must be a JSON object"}
	}
	if fault != nil {
		r.identify(root)
		r.faults = []Fault{*fault}
		return r.event, r.faults
	}
	for c := p.tree.nodes[root].first; c != 0; c = p.tree.nodes[c].next {
		switch n := &p.tree.nodes[c]; n.name {
		case "data":
			if n.kind != 'n' {
				r.data = c
			}
		case "data_base64":
			if n.kind != 'n' {
				r.base64 = c
			}
		default:
			r.attribute(n.name, value{n.kind, n.text})
		}
	}
	r.finish()
	return r.event, r.faults
}

// identify takes the identity from the members read before a fault, if they are strings.
func (r *reading) identify(root int32) {
	t := &r.p.tree
	if int(root) >= len(t.nodes) || t.nodes[root].kind != '{' {
		return
	}
	for c := t.nodes[root].first; c != 0; c = t.nodes[c].next {
		if to := r.identity(t.nodes[c].name); to != nil && *to == "" && t.nodes[c].kind == '"' {
			*to = t.nodes[c].text
		}
	}
}

// identity is where a member that names the event goes, nil for others.
func (r *reading) identity(name string) *string {
	switch name {
	case "id":
		return &r.event.ID
	case "source":
		return &r.event.Source
	case "type":
		return &r.event.Type
	case "subject":
		return &r.event.Subject
	}
	return nil
}

// identifyLarge does the same for an event beyond the limit without building its tree.
func (r *reading) identifyLarge(doc []byte) {
	d := &r.p.split
	d.Reset(bytes.NewBuffer(doc))
	if d.PeekKind() != '{' {
		return
	}
	_, err := d.ReadToken()
	for err == nil && d.PeekKind() == '"' {
		var name, v jsontext.Token
		if name, err = d.ReadToken(); err != nil {
			return
		}
		to := r.identity(name.String())
		if to == nil || d.PeekKind() != '"' {
			err = d.SkipValue()
			continue
		}
		if v, err = d.ReadToken(); err == nil {
			*to = v.String()
		}
	}
}

// Batch reads a JSON array of events, or a single event, and hands over each with its index and the
// bytes it was read from. One bad event does not harm its neighbours. If the document as a whole is not
// JSON the error is ErrSyntax and what was handed over before is void; an error of each ends the walk
// and comes back as it is.
func (p *Parser) Batch(doc []byte, each func(i int, raw []byte, e Event, faults []Fault) error) error {
	var e Event
	return p.BatchInto(doc, func() *Event {
		e = Event{}
		return &e
	}, func(i int, raw []byte, faults []Fault) error { return each(i, raw, e, faults) })
}

// BatchInto is Batch for callers that say where each event goes: next answers a zero Event.
func (p *Parser) BatchInto(doc []byte, next func() *Event, each func(i int, raw []byte, faults []Fault) error) error {
	pos := skipSpace(doc, 0)
	if pos == len(doc) || doc[pos] != '[' {
		e, faults := p.Event(doc)
		if len(faults) > 0 { // a bad event, or no JSON at all?
			if err := p.grammar(doc); err != nil {
				return err
			}
		}
		*next() = e
		return each(0, doc, faults)
	}
	text := p.view(doc) // the strings of all events are slices of this one
	pos = skipSpace(doc, pos+1)
	if pos < len(doc) && doc[pos] == ']' {
		return atEnd(doc, pos+1)
	}
	for i := 0; ; i++ {
		e := next()
		end, ok := p.fastEvent(e, doc, text, pos)
		var faults []Fault
		if !ok || end-pos > p.limits.EventBytes {
			var err error
			if end, err = p.element(doc, pos); err != nil {
				return err
			}
			*e, faults = p.strictEvent(doc[pos:end])
		}
		for j := range faults {
			faults[j].Index = i
		}
		if err := each(i, doc[pos:end:end], faults); err != nil {
			return err
		}
		pos = skipSpace(doc, end)
		if pos == len(doc) {
			return fmt.Errorf("%w: the array is not closed", ErrSyntax)
		}
		switch doc[pos] {
		case ',':
			pos = skipSpace(doc, pos+1)
		case ']':
			return atEnd(doc, pos+1)
		default:
			return fmt.Errorf("%w: unexpected %q at offset %d", ErrSyntax, doc[pos], pos)
		}
	}
}

// grammar checks that the document is one JSON value, without the rules that make one event bad.
func (p *Parser) grammar(doc []byte) error {
	end, err := p.element(doc, 0)
	if err != nil {
		return err
	}
	return atEnd(doc, end)
}

// element is the end of the JSON value at pos. Duplicate names and bad UTF-8 are let through: they are
// faults of one event, which the strict reader reports with its index.
func (p *Parser) element(doc []byte, pos int) (end int, err error) {
	p.split.Reset(bytes.NewBuffer(doc[pos:]), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err := p.split.SkipValue(); err != nil {
		if end := deepEnd(doc, pos, err); end > 0 {
			return end, nil
		}
		if errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("%w: a value is missing at the end", ErrSyntax)
		}
		return 0, fmt.Errorf("%w: %s, counted from offset %d", ErrSyntax, strings.TrimPrefix(err.Error(), "jsontext: "), pos)
	}
	return pos + int(p.split.InputOffset()), nil
}

// deepEnd is the end of a value that is nested deeper than the library walks; 0 if err is about anything
// else, or it has no end. Brackets are only counted: whoever reads the event refuses it, but its neighbours
// must not be lost with it.
func deepEnd(doc []byte, pos int, err error) int {
	if !strings.Contains(err.Error(), "exceeded max depth") {
		return 0
	}
	depth, text := 0, false
	for i := pos; i < len(doc); i++ {
		switch b := doc[i]; {
		case text && b == '\\':
			i++
		case b == '"':
			text = !text
		case text:
		case b == '[' || b == '{':
			depth++
		case b == ']' || b == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

func atEnd(doc []byte, pos int) error {
	if pos = skipSpace(doc, pos); pos < len(doc) {
		return fmt.Errorf("%w: text after the end of the value at offset %d", ErrSyntax, pos)
	}
	return nil
}

func skipSpace(doc []byte, pos int) int {
	for pos < len(doc) && (doc[pos] == ' ' || doc[pos] == '\n' || doc[pos] == '\r' || doc[pos] == '\t') {
		pos++
	}
	return pos
}

func isSpace(doc []byte) bool { return skipSpace(doc, 0) == len(doc) }

// Binary reads a binary-mode CloudEvent: attributes by lower-case name without "ce-", decoded from
// their header form, the Content-Type and the body.
func (p *Parser) Binary(attrs map[string]string, contentType string, data []byte) (Event, []Fault) {
	r := reading{p: p, body: data, binary: true}
	size := len(data)
	names := make([]string, 0, len(attrs))
	for name, text := range attrs {
		names = append(names, name)
		size += len(name) + len(text)
	}
	slices.Sort(names)
	for _, name := range names {
		text := attrs[name]
		switch {
		case name == "datacontenttype":
			r.refuse("/datacontenttype", CodeBadAttr, "in binary mode the media type is the Content-Type header")
		case !utf8.ValidString(text) || !utf8.ValidString(name):
			r.refuse("", CodeBadUTF8, "a header is not valid UTF-8")
		default:
			r.attribute(name, value{'"', text})
		}
	}
	if contentType != "" {
		r.attribute("datacontenttype", value{'"', contentType})
	}
	if size > p.limits.EventBytes {
		r.faults = []Fault{{Code: CodeTooLarge, Detail: fmt.Sprintf("%d bytes, the limit is %d", size, p.limits.EventBytes)}}
		return r.event, r.faults
	}
	p.tree.reset()
	p.depth = 0 // a panic that somebody recovered from may have left it
	r.finish()
	return r.event, r.faults
}
