package usage

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"
)

// reading is one event on its way from attributes and data to Event.
type reading struct {
	p      *Parser
	event  Event
	faults []Fault

	spec       bool     // specversion was given
	bad        []string // required attributes that were given but refused
	media      media
	extensions []extension
	data       int32  // node of data, 0 if absent or null
	base64     int32  // node of data_base64
	binary     bool   // body holds the data
	body       []byte // binary mode
}

// media is what datacontenttype says about the data.
type media uint8

const (
	mediaAbsent media = iota
	mediaJSON
	mediaOther
)

// extension is an attribute kept in Event.Extensions; raw is its canonical JSON value.
type extension struct {
	name string
	raw  []byte
}

func (r *reading) refuse(pointer, code, detail string) {
	r.faults = append(r.faults, Fault{Pointer: pointer, Code: code, Detail: detail})
}

func (r *reading) given(name string) { r.bad = append(r.bad, name) }

func (r *reading) extend(name string, raw []byte) {
	r.extensions = append(r.extensions, extension{name, raw})
}

// finish judges the event once all attributes are known, whatever order they came in.
func (r *reading) finish() {
	if !r.spec {
		r.missing("specversion")
	}
	for _, a := range [...]struct{ name, text string }{{"id", r.event.ID}, {"source", r.event.Source}, {"type", r.event.Type}} {
		if a.text == "" && !slices.Contains(r.bad, a.name) {
			r.missing(a.name)
		}
	}
	if r.data != 0 && r.base64 != 0 {
		r.refuse("/data_base64", CodeBadAttr, "data and data_base64 exclude each other")
		return
	}
	if r.event.Type != "" {
		r.payload()
	}
	r.event.Extensions = r.canonicalExtensions()
}

func (r *reading) missing(name string) {
	r.refuse("/"+name, CodeMissingAttr, "the attribute "+name+" is required")
}

// payload reads data by the rules of the event's type.
func (r *reading) payload() {
	e := &r.event
	if base, ok := strings.CutSuffix(e.Type, versionOne); ok && KnownType(base) {
		e.Type = base
	}
	s := shapeOf(e.Type)
	switch {
	case s != nil:
		r.shaped(s)
	case r.p.extra[e.Type]:
		r.freeform()
	default:
		r.refuse("/type", CodeUnknownType, "no event type has this name")
	}
}

// versionOne is the suffix that a type may carry: without a version a type means version 1.
const versionOne = ".v1"

// shaped reads data of a known type: a JSON object with the members of its table, nothing else.
func (r *reading) shaped(s *shape) {
	if s.account && r.event.Subject == "" && !slices.Contains(r.bad, "subject") {
		r.refuse("/subject", CodeMissingAttr, "subject must name the account that "+s.name+" is about")
	}
	if r.media == mediaOther {
		r.refuse("/datacontenttype", CodeBadAttr, "data of "+s.name+" is JSON")
		return
	}
	if raw, ok := r.rawData(); !ok {
		return
	} else if len(raw) > 0 && !r.parseData(raw) {
		return
	}
	top := path{}
	at := top.member("data")
	t := &r.p.tree
	switch {
	case r.data == 0:
		r.data = t.add(nil, node{kind: '{'}) // judged like an empty object: every required member is missing
	case t.nodes[r.data].kind != '{':
		r.refuse(at.String(), CodeBadField, "data must be an object")
		return
	}
	before := len(r.faults)
	r.object(s.fields, r.data, &at)
	if len(r.faults) > before {
		return
	}
	if s.check != nil {
		s.check(r, r.data, &at)
	}
	r.event.Data = r.canonicalData()
	if r.event.Data == "{}" {
		r.event.Data = ""
	}
}

// freeform keeps data of an extra type as it is: JSON where it is JSON, text or base64 where not.
func (r *reading) freeform() {
	if r.data != 0 {
		r.event.Data = r.canonicalData()
		return
	}
	raw, ok := r.rawData()
	switch {
	case !ok || raw == nil:
	case r.media == mediaJSON:
		if r.parseData(raw) {
			r.event.Data = r.canonicalData()
		}
	case r.media == mediaOther && utf8.Valid(raw):
		r.event.Data = string(appendString(nil, string(raw)))
	default:
		r.extend("data_base64", []byte("true"))
		r.event.Data = `"` + base64.StdEncoding.EncodeToString(raw) + `"`
	}
}

// rawData is the data as bytes, where it came as bytes.
func (r *reading) rawData() (raw []byte, ok bool) {
	if r.binary {
		if len(r.body) == 0 {
			return nil, true
		}
		return r.body, true
	}
	if r.base64 == 0 {
		return nil, true
	}
	n := r.p.tree.nodes[r.base64]
	raw, err := base64.StdEncoding.Strict().DecodeString(n.text)
	if n.kind != '"' || err != nil || strings.ContainsAny(n.text, "\r\n") {
		r.refuse("/data_base64", CodeBadAttr, "data_base64 must be a string of base64 (RFC 4648, with padding)")
		return nil, false
	}
	return raw, true
}

// parseData reads JSON that came as bytes into the tree; its faults point below /data.
func (r *reading) parseData(raw []byte) bool {
	if string(bytes.Trim(raw, " \t\r\n")) == "null" {
		return true // the same as no data
	}
	root, fault := r.p.tree.parse(raw)
	if fault != nil {
		fault.Pointer = "/data" + fault.Pointer
		r.faults = append(r.faults, *fault)
		return false
	}
	r.data = root
	return true
}

func (r *reading) canonicalData() string {
	if r.data == 0 {
		return ""
	}
	out, ok := r.p.tree.canonical(nil, r.data)
	if !ok {
		r.refuse("/data", CodeBadField, "a number has an exponent beyond ±9999")
	}
	return string(out)
}

func (r *reading) canonicalExtensions() string {
	if len(r.extensions) == 0 {
		return ""
	}
	slices.SortFunc(r.extensions, func(a, b extension) int { return strings.Compare(a.name, b.name) })
	w := objectWriter{dst: []byte{'{'}, first: true}
	for _, x := range r.extensions {
		w.raw(x.name, string(x.raw))
	}
	return string(append(w.dst, '}'))
}
