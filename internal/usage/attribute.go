package usage

import (
	"errors"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// value is what an attribute was given: a JSON scalar, or the text of a header in binary mode.
type value struct {
	kind jsontext.Kind
	text string
}

// attribute takes one CloudEvents context attribute. null means absent, as CloudEvents 1.0 has it.
func (r *reading) attribute(name string, v value) {
	if v.kind == 'n' {
		return
	}
	e := &r.event
	switch name {
	case "specversion":
		r.spec = true
		if v.kind != '"' || v.text != "1.0" {
			r.refuse("/specversion", CodeBadAttr, `specversion must be the string "1.0"`)
		}
	case "id":
		r.name(name, v, &e.ID)
	case "source":
		r.name(name, v, &e.Source)
		if e.Source != "" && !isURIReference(e.Source) {
			r.refuse("/source", CodeBadAttr, "source must be a URI reference (RFC 3986); percent-encode what it does not allow")
		}
	case "type":
		r.name(name, v, &e.Type)
	case "subject":
		r.name(name, v, &e.Subject)
	case "time":
		e.Time = r.timestamp(name, v)
	case "recordedtime":
		e.RecordedTime = r.timestamp(name, v)
	case "correlationid":
		r.name(name, v, &e.CorrelationID)
	case "causationid":
		r.name(name, v, &e.CausationID)
	case "traceparent":
		r.name(name, v, &e.TraceParent)
	case "datacontenttype":
		r.contentType(v)
	case "dataschema":
		if v.kind != '"' || !isURI(v.text) {
			r.refuse("/dataschema", CodeBadAttr, "dataschema must be an absolute URI")
			return
		}
		r.extend(name, appendString(nil, v.text))
	default:
		r.extension(name, v)
	}
}

// name takes an attribute that must be a non-empty string when present.
func (r *reading) name(name string, v value, to *string) {
	switch {
	case v.kind != '"' || v.text == "":
		r.refuse("/"+name, CodeBadAttr, name+" must be a non-empty string")
		r.given(name)
	case !isPrintable(v.text):
		r.refuse("/"+name, CodeBadAttr, name+" must not contain control characters")
		r.given(name)
	default:
		*to = v.text
	}
}

func (r *reading) timestamp(name string, v value) Instant {
	if v.kind != '"' {
		r.refuse("/"+name, CodeBadTime, ErrTime.Error())
		return Instant{}
	}
	i, err := ParseInstant(v.text)
	if err != nil {
		r.refuse("/"+name, timeCode(err), err.Error())
	}
	return i
}

func timeCode(err error) string {
	switch {
	case errors.Is(err, ErrNaiveTime):
		return CodeNaiveTime
	case errors.Is(err, ErrTimeRange):
		return CodeTimeWindow
	}
	return CodeBadTime
}

func (r *reading) contentType(v value) {
	if v.kind == '"' {
		media, params, err := mime.ParseMediaType(v.text)
		if slash := strings.IndexByte(media, '/'); err == nil && slash > 0 {
			r.media = mediaOther
			if media[slash+1:] == "json" || strings.HasSuffix(media, "+json") {
				r.media = mediaJSON
			}
			plain := len(params) == 0 || len(params) == 1 && strings.EqualFold(params["charset"], "utf-8")
			if media != "application/json" || !plain { // the default need not be kept
				r.extend("datacontenttype", appendString(nil, v.text))
			}
			return
		}
	}
	r.refuse("/datacontenttype", CodeBadAttr, "datacontenttype must be a media type such as application/json")
}

// extension takes any further attribute: name a-z and 0-9, value a string, a boolean or an int32.
func (r *reading) extension(name string, v value) {
	at := path{}
	here := at.member(name)
	if !isExtensionName(name) || name == "data" {
		r.refuse(here.String(), CodeBadAttr, "no such attribute; names of extensions consist of a-z and 0-9")
		return
	}
	switch v.kind {
	case '"':
		if isPrintable(v.text) {
			r.extend(name, appendString(nil, v.text))
			return
		}
	case 't', 'f':
		r.extend(name, []byte(v.text))
		return
	case '0':
		if n, err := parseQuantity(v.text); err == nil && n.isInt32() {
			r.extend(name, n.Append(nil))
			return
		}
	}
	r.refuse(here.String(), CodeBadAttr, "an extension must be a string without control characters, a boolean or a 32-bit integer")
}

func (q Quantity) isInt32() bool {
	return q.Cmp(Int(-1<<31)) >= 0 && q.Cmp(Int(1<<31-1)) <= 0 && q.isWhole()
}

// isWhole is for |q| < 2^63 billionths of 1e9, that is any int64.
func (q Quantity) isWhole() bool {
	if q.Hi < 0 {
		q = q.Neg()
	}
	// 2^64 mod 1e9 = 709_551_616: reduce both words.
	return (uint64(q.Hi)%1_000_000_000*709_551_616+q.Lo%1_000_000_000)%1_000_000_000 == 0
}

func isExtensionName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// isPrintable reports whether a string is a CloudEvents String: no control characters, no
// noncharacters. It is valid UTF-8 already.
func isPrintable(s string) bool {
	ascii := true
	for i := range len(s) {
		c := s[i]
		if c < 0x20 || c == 0x7f {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		return true
	}
	for _, c := range s {
		if c >= 0x80 && c < 0xa0 || c&0xfffe == 0xfffe || c >= 0xfdd0 && c <= 0xfdef {
			return false
		}
	}
	return true
}

// isURIReference checks the characters and the scheme of RFC 3986; a relative reference such as
// "#fragment" or "/gateways/3" is one.
func isURIReference(s string) bool {
	colonIsScheme := true // a colon before any / ? # ends a scheme
	for i := 0; i < len(s); i++ {
		switch class := uriClass[s[i]]; {
		case class == uriPlain:
		case class == uriEnd:
			colonIsScheme = false
		case class == uriColon:
			if colonIsScheme && !isScheme(s[:i]) {
				return false
			}
			colonIsScheme = false
		case class == uriPercent:
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return false
			}
		default:
			return false
		}
	}
	return s != "" && strings.Count(s, "#") <= 1
}

func isURI(s string) bool {
	colon := strings.IndexAny(s, ":/?#")
	return colon > 0 && s[colon] == ':' && isURIReference(s)
}

const (
	uriBad = iota
	uriPlain
	uriEnd
	uriColon
	uriPercent
)

// uriClass says what each byte may be in a URI reference.
var uriClass = func() (class [256]uint8) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=@[]") {
		class[c] = uriPlain
	}
	class['/'], class['?'], class['#'] = uriEnd, uriEnd, uriEnd
	class[':'], class['%'] = uriColon, uriPercent
	return class
}()

func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || s[i]-'0' > 9 && s[i] != '+' && s[i] != '-' && s[i] != '.') {
			return false
		}
	}
	return s != ""
}

func isHex(c byte) bool {
	return c-'0' <= 9 || c|0x20 >= 'a' && c|0x20 <= 'f'
}
