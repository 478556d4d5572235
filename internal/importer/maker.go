package importer

import (
	"bytes"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// made is one event, ready for the wire.
type made struct {
	id  string
	doc []byte
}

// maker turns the records of one file into events, in order. It keeps the last reading of every counter.
type maker struct {
	m    *Mapping
	file string
	last map[string]usage.Quantity // by entry and counter key
	now  map[string]usage.Quantity // readings of the record at hand; they count only if all of it does
	buf  []byte
}

// countersMax bounds the memory of a mapping whose counter key is not what its writer thought.
const countersMax = 1_000_000

func (m *Mapping) maker(file string) *maker {
	return &maker{m: m, file: file, last: map[string]usage.Quantity{}, now: map[string]usage.Quantity{}}
}

// events appends the events of one record. A fault means the record gives none of its events.
func (k *maker) events(dst []made, rec record) ([]made, *Fault) {
	if k.m.Format == "events" {
		return k.verbatim(dst, rec)
	}
	start := len(dst)
	bad := func(code string, err error) ([]made, *Fault) {
		return dst[:start], &Fault{Line: rec.line, Code: code, Detail: err.Error()}
	}
	sc := &scope{file: k.file, line: strconv.Itoa(rec.line), rec: rec, missing: k.m.Missing}
	text, ok, err := k.m.from.text(sc)
	if err != nil || !ok {
		return bad("time", fmt.Errorf("the record has no time: %s", k.m.Time.From))
	}
	at, err := k.m.instant(text)
	if err != nil {
		return bad("time", err)
	}
	source, _, err := k.m.source.text(sc)
	if err != nil {
		return bad("source", err)
	}
	clear(k.now)
	for i := range k.m.Events {
		e := &k.m.Events[i]
		if dst, err = k.rule(dst, e, i, sc, source, at); err != nil {
			return bad("mapping", fmt.Errorf("events[%d]: %w", i, err))
		}
	}
	maps.Copy(k.last, k.now)
	return dst, nil
}

func (k *maker) rule(dst []made, e *EventRule, i int, sc *scope, source string, at time.Time) ([]made, error) {
	if e.each == nil {
		return k.one(dst, e, i, sc, source, at)
	}
	n := sc.rec.doc.at(e.each)
	if n == nil {
		return dst, nil // the member is not in this document: nothing to count
	}
	if n.members == nil {
		return dst, fmt.Errorf("each: %s is no object or array", e.Each)
	}
	inner := *sc
	inner.inEach = true
	for _, key := range n.keys {
		inner.key, inner.value = key, n.members[key]
		var err error
		if dst, err = k.one(dst, e, i, &inner, source, at); err != nil {
			return dst, fmt.Errorf("%s: %w", key, err)
		}
	}
	return dst, nil
}

func (k *maker) one(dst []made, e *EventRule, i int, sc *scope, source string, at time.Time) ([]made, error) {
	var quantity *usage.Quantity
	if e.Counter != nil {
		q, first, err := k.difference(e.Counter, i, sc)
		if err != nil || first {
			return dst, err
		}
		quantity = &q
	}
	id, _, err := e.id.text(sc)
	if err != nil {
		return dst, fmt.Errorf("id: %w", err)
	}
	typ, _, err := e.typ.text(sc)
	if err != nil {
		return dst, fmt.Errorf("type: %w", err)
	}
	subject, _, err := e.subject.text(sc)
	if err != nil {
		return dst, fmt.Errorf("subject: %w", err)
	}
	doc := make([]byte, 0, 384)
	doc = append(doc, `{"specversion":"1.0"`...)
	for _, a := range [...]struct{ name, value string }{
		{"id", id}, {"source", source}, {"type", typ}, {"subject", subject}, {"time", at.Format(time.RFC3339Nano)},
	} {
		if a.name == "subject" && a.value == "" {
			continue
		}
		doc = append(append(append(doc, `,"`...), a.name...), `":`...)
		if doc, err = jsontext.AppendQuote(doc, a.value); err != nil {
			return dst, fmt.Errorf("%s: %w", a.name, err)
		}
	}
	doc = append(doc, `,"data":`...)
	if doc, _, err = e.data.append(doc, sc, k.buf); err != nil {
		return dst, fmt.Errorf("data: %w", err)
	}
	if quantity != nil {
		doc = doc[:len(doc)-1] // reopen the object
		if doc[len(doc)-1] != '{' {
			doc = append(doc, ',')
		}
		doc = append(doc, `"quantity":"`...)
		doc = append(quantity.Append(doc), `"}`...)
	}
	return append(dst, made{id: id, doc: append(doc, '}')}), nil
}

// difference is the reading minus the previous one of the same counter; first is true where there is none.
func (k *maker) difference(c *CounterRule, i int, sc *scope) (q usage.Quantity, first bool, err error) {
	text, ok, err := c.reading.text(sc)
	if err != nil {
		return q, false, fmt.Errorf("counter: %w", err)
	}
	if !ok {
		return q, true, nil // no reading here; the next one counts from the last there was
	}
	now, err := usage.ParseQuantity([]byte(text))
	if err != nil {
		return q, false, fmt.Errorf("counter reading %q: %w", text, err)
	}
	name, _, err := c.key.text(sc)
	if err != nil {
		return q, false, fmt.Errorf("counter key: %w", err)
	}
	key := strconv.Itoa(i) + "\x00" + name
	before, known := k.last[key]
	if !known && len(k.last) >= countersMax {
		return q, false, fmt.Errorf("more than %d counters; is counter.key right?", countersMax)
	}
	if known && now.Cmp(before) < 0 && !c.zeroReset {
		return q, false, fmt.Errorf("counter %q went back from %s to %s; set counter.reset: restart if it began again at 0", name, before, now)
	}
	k.now[key] = now
	if !known {
		return q, true, nil
	}
	if now.Cmp(before) < 0 {
		return now, false, nil
	}
	return now.Sub(before), false, nil
}

func (k *maker) verbatim(dst []made, rec record) ([]made, *Fault) {
	id, _ := rec.doc.text([]string{"id"})
	if id == "" {
		return dst, &Fault{Line: rec.line, Code: "json", Detail: "the line is no CloudEvent: it has no id"}
	}
	return append(dst, made{id: id, doc: bytes.Clone(rec.doc.raw)}), nil
}
