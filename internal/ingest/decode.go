package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// form is how a body holds its events.
type form int

const (
	formNone   form = iota
	formObject      // application/cloudevents+json
	formArray       // application/cloudevents-batch+json
	formEither      // application/json
	formLines       // application/x-ndjson
	formBinary      // ce-* headers, the body is data
)

// acceptPost lists what POST takes (RFC 9110 12.5.1 for requests: Accept-Post of the LDP note).
const acceptPost = "application/cloudevents+json, application/cloudevents-batch+json, application/json, application/x-ndjson"

var (
	errMediaType  = errors.New("unsupported Content-Type")
	errEventCount = errors.New("too many events")
	errShape      = errors.New("wrong shape")
)

// formOf decides by Content-Type and, for binary mode, by the presence of a CloudEvents header.
func formOf(h http.Header) (form, error) {
	ct := h.Get("Content-Type")
	switch ct { // what nearly all clients send, without parsing
	case "application/cloudevents-batch+json":
		return formArray, nil
	case "application/cloudevents+json":
		return formObject, nil
	}
	media, params := "", map[string]string(nil)
	if ct != "" {
		var err error
		if media, params, err = mime.ParseMediaType(ct); err != nil {
			return formNone, fmt.Errorf("%w: %.80q", errMediaType, ct)
		}
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return formNone, fmt.Errorf("%w: charset %.40q, want utf-8", errMediaType, charset)
	}
	switch media {
	case "application/cloudevents-batch+json":
		return formArray, nil
	case "application/cloudevents+json":
		return formObject, nil
	}
	if isBinary(h) {
		return formBinary, nil
	}
	switch media {
	case "application/json":
		return formEither, nil
	case "application/x-ndjson":
		return formLines, nil
	}
	return formNone, fmt.Errorf("%w: %.80q", errMediaType, ct)
}

func isBinary(h http.Header) bool {
	return h["Ce-Specversion"] != nil || h["Ce-Id"] != nil || h["Ce-Type"] != nil || h["Ce-Source"] != nil
}

// decode parses s.body into s.events and s.faults. A faulty event has its place in s.events too, so
// that faults and events share their index. Only the body as a whole being unreadable is an error.
func (s *scratch) decode(h http.Header, f form, most int) error {
	body := bytes.TrimLeft(s.body, " \t\r\n")
	switch f {
	case formBinary:
		return s.binary(h)
	case formLines:
		return s.lines(body, most)
	case formObject:
		if len(body) > 0 && body[0] == '[' {
			return fmt.Errorf("%w: the Content-Type promises one object", errShape)
		}
	case formArray:
		if len(body) > 0 && body[0] == '{' {
			return fmt.Errorf("%w: the Content-Type promises an array", errShape)
		}
	}
	read := 0
	err := s.parser.BatchInto(s.body, func() *usage.Event {
		s.events = append(s.events, usage.Event{})
		return &s.events[len(s.events)-1]
	}, func(i int, _ []byte, faults []usage.Fault) error {
		if i >= most {
			return errEventCount
		}
		s.fault(i, faults)
		read++
		return nil
	})
	s.events = s.events[:read] // without the one that is no JSON, or one too many
	return err
}

func (s *scratch) fault(event int, faults []usage.Fault) {
	for _, f := range faults {
		f.Index = event
		s.faults = append(s.faults, f)
	}
}

func (s *scratch) add(e usage.Event, faults []usage.Fault) {
	s.fault(len(s.events), faults)
	s.events = append(s.events, e)
}

// lines takes one event a line. A broken line spoils itself only: the next one starts after it.
func (s *scratch) lines(body []byte, most int) error {
	for len(body) > 0 {
		line := body
		if i := bytes.IndexByte(body, '\n'); i >= 0 {
			line, body = body[:i], body[i+1:]
		} else {
			body = nil
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if len(s.events) >= most {
			return errEventCount
		}
		s.add(s.parser.Event(line))
	}
	return nil
}

// binary takes the attributes from the ce-* headers and data from the body.
func (s *scratch) binary(h http.Header) error {
	attrs := make(map[string]string, 8)
	var faults []usage.Fault
	for name, values := range h {
		attr, isAttr := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !isAttr {
			continue
		}
		value, err := attributeText(values)
		if err != nil {
			faults = append(faults, usage.Fault{Pointer: "/" + attr, Code: usage.CodeBadAttr, Detail: err.Error()})
			continue
		}
		attrs[attr] = value
	}
	if len(faults) > 0 {
		s.add(usage.Event{}, faults)
		return nil
	}
	s.add(s.parser.Binary(attrs, h.Get("Content-Type"), s.body))
	return nil
}

// attributeText undoes what the HTTP binding of CloudEvents does to a value: quotes, then percent
// encoding of UTF-8.
func attributeText(values []string) (string, error) {
	if len(values) != 1 {
		return "", errors.New("the header is given more than once")
	}
	v := strings.TrimSpace(values[0])
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		v = unquote(v[1 : len(v)-1])
	}
	if strings.IndexByte(v, '%') >= 0 {
		u, err := url.PathUnescape(v)
		if err != nil {
			return "", errors.New("the header's percent encoding is broken")
		}
		v = u
	}
	if !utf8.ValidString(v) {
		return "", errors.New("the header is not UTF-8 after percent decoding")
	}
	return v, nil
}

func unquote(v string) string {
	if strings.IndexByte(v, '\\') < 0 {
		return v
	}
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		out = append(out, v[i])
	}
	return string(out)
}

// stamp is what ingest adds to a request's events, and judges about them beyond their own form.
type stamp struct {
	tenant      string
	backfill    bool
	correlation string
	traceparent string
	window      usage.Window
	now         time.Time
}

// apply checks and completes every event that has no fault yet; new faults are appended to s.faults.
func (st stamp) apply(s *scratch) {
	now := usage.AtTime(st.now)
	faulty := s.faults
	for i := range s.events {
		for len(faulty) > 0 && faulty[0].Index < i {
			faulty = faulty[1:]
		}
		bad := len(faulty) > 0 && faulty[0].Index == i
		e := &s.events[i]
		if t, named := tenantNamed(e.Extensions); named && t != st.tenant {
			s.faults = append(s.faults, usage.Fault{Index: i, Pointer: "/tenant", Code: codeTenant,
				Detail: "the key belongs to another tenant"})
		}
		if !st.backfill {
			e.RecordedTime = usage.Instant{}
		}
		for _, f := range st.window.Check(e, now) {
			f.Index = i
			s.faults = append(s.faults, f)
		}
		if bad {
			continue
		}
		if eventlog.SizeBound(e) > chunkRoom {
			s.faults = append(s.faults, usage.Fault{Index: i, Code: usage.CodeTooLarge,
				Detail: "the event with its numbers written out does not fit into a chunk of the log (256 KiB)"})
		}
		if e.CorrelationID == "" {
			e.CorrelationID = st.correlation
			e.Filled |= usage.FilledCorrelation
		}
		if e.CausationID == "" {
			e.CausationID = e.CorrelationID
			e.Filled |= usage.FilledCausation
		}
		if e.TraceParent == "" {
			e.TraceParent = st.traceparent
		}
	}
}

// tenantNamed finds the extension attribute tenant. Extensions is a canonical flat JSON object: an
// unescaped quote before and after the word, and a colon, make it a member's name.
func tenantNamed(extensions string) (string, bool) {
	if extensions == "" {
		return "", false
	}
	const name = `"tenant":`
	i := strings.Index(extensions, name)
	if i < 0 {
		return "", false
	}
	v := extensions[i+len(name):]
	if v == "" || v[0] != '"' {
		return "", true // a number or boolean is no tenant
	}
	end := strings.IndexByte(v[1:], '"')
	if end < 0 {
		return "", true
	}
	return v[1 : 1+end], true // a tenant's name has nothing to escape; an escaped one differs from all
}

// isTraceParent accepts the four fields of W3C Trace Context version 00, lower-case hex.
func isTraceParent(v string) bool {
	if len(v) != 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' || v[:2] != "00" {
		return false
	}
	for i := range len(v) {
		c := v[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return v[3:35] != strings.Repeat("0", 32) && v[36:52] != strings.Repeat("0", 16)
}
