package usage

import (
	"strings"
	"unicode/utf8"
)

// AppendJSON appends the event as canonical CloudEvents JSON: Parser.Event of it is the same event,
// save for Filled, whose attributes look sent. For dead letters, replay and tail.
func AppendJSON(dst []byte, e *Event) []byte {
	w := objectWriter{dst: append(dst, '{'), first: true}
	w.text("specversion", "1.0")
	w.text("id", e.ID)
	w.text("source", e.Source)
	w.text("type", e.Type)
	w.optional("subject", e.Subject)
	w.instant("time", e.Time)
	w.optional("correlationid", e.CorrelationID)
	w.optional("causationid", e.CausationID)
	w.optional("traceparent", e.TraceParent)
	w.instant("recordedtime", e.RecordedTime)
	isBinary := hasBinaryData(e)
	if e.Extensions != "" {
		w.members(e.Extensions)
	}
	switch {
	case e.Metered != nil:
		w.name("data")
		w.dst = appendMetered(w.dst, e.Metered, e.Data)
	case isBinary:
		w.raw("data_base64", e.Data)
	case e.Data != "":
		w.raw("data", e.Data)
	}
	return append(w.dst, '}')
}

func appendMetered(dst []byte, m *Metered, rest string) []byte {
	w := objectWriter{dst: append(dst, '{'), first: true}
	w.text("meter", m.Meter)
	w.quantity("quantity", m.Quantity)
	w.optional("unit", m.Unit)
	if m.AssetID != "" {
		w.open("asset")
		w.text("id", m.AssetID)
		w.optional("name", m.AssetName)
		w.optional("type", m.AssetType)
		w.close()
	}
	w.instant("start", m.Start)
	w.instant("end", m.End)
	w.optional("region", m.Region)
	w.optional("platform", m.Platform)
	w.instant("trial_expiry", m.TrialExpiry)
	if m.ConsumerID != "" {
		w.open("consumer")
		w.optional("type", m.ConsumerType)
		w.text("id", m.ConsumerID)
		w.close()
	}
	w.optional("item", m.Item)
	w.optional("item_version", m.ItemVersion)
	w.optional("plan", m.Plan)
	if len(m.Dimensions) > 0 {
		w.open("dimensions")
		for _, d := range m.Dimensions {
			w.text(d.Key, d.Value)
		}
		w.close()
	}
	if rest != "" {
		w.members(rest)
	}
	return append(w.dst, '}')
}

// objectWriter appends the members of one JSON object, without white space.
type objectWriter struct {
	dst   []byte
	first bool
}

func (w *objectWriter) name(name string) {
	if !w.first {
		w.dst = append(w.dst, ',')
	}
	w.first = false
	w.dst = append(appendString(w.dst, name), ':')
}

func (w *objectWriter) open(name string) {
	w.name(name)
	w.dst = append(w.dst, '{')
	w.first = true
}

func (w *objectWriter) close() {
	w.dst = append(w.dst, '}')
	w.first = false
}

func (w *objectWriter) raw(name, value string) {
	w.name(name)
	w.dst = append(w.dst, value...)
}

func (w *objectWriter) text(name, value string) {
	w.name(name)
	w.dst = appendString(w.dst, value)
}

func (w *objectWriter) optional(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

func (w *objectWriter) instant(name string, i Instant) {
	if i.Known() {
		w.name(name)
		w.dst = append(i.Append(append(w.dst, '"')), '"')
	}
}

// quantity writes a string, so that no reader on the way makes a float of it.
func (w *objectWriter) quantity(name string, q Quantity) {
	w.name(name)
	w.dst = append(q.Append(append(w.dst, '"')), '"')
}

// members splices the members of a canonical, non-empty JSON object. The marker of binary data is no
// attribute and is left out.
func (w *objectWriter) members(object string) {
	inner := object[1 : len(object)-1]
	if i := strings.Index(inner, binaryData); i >= 0 {
		inner = cutMember(inner, i, len(binaryData))
	}
	if inner == "" {
		return
	}
	if !w.first {
		w.dst = append(w.dst, ',')
	}
	w.first = false
	w.dst = append(w.dst, inner...)
}

func cutMember(inner string, at, length int) string {
	before, after := inner[:at], inner[at+length:]
	switch {
	case before != "":
		return before[:len(before)-1] + after
	case after != "":
		return after[1:]
	}
	return ""
}

// appendString appends s as a JSON string: quotes, backslashes and control characters escaped in one
// way, everything else as it is. s is valid UTF-8: the parser lets nothing else in.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf || c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[from:]...), '"')
}
