package importer

import (
	"fmt"
	"strings"
)

// template is text with {name} placeholders:
//
//	{name}          the value; a record without it is a fault
//	{name|default}  the value, or default where it is missing
//	{name?}         the value; where it is missing the whole member is left out
//	{{ and }}       a brace
//
// A name is a column, a path into JSON (a.b."c.d".0), or one of file, line, key, value, value.path.
type template struct {
	src   string
	parts []part
}

type part struct {
	text     string // literal, when name is ""
	name     string
	path     []string // name cut at its dots
	fallback *string
	optional bool
}

func parseTemplate(src string) (template, error) {
	t := template{src: src}
	var lit strings.Builder
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case (c == '{' || c == '}') && i+1 < len(src) && src[i+1] == c:
			lit.WriteByte(c)
			i++
		case c == '}':
			return t, fmt.Errorf("template %q: a closing brace without an opening one; write }} for the character", src)
		case c == '{':
			end := strings.IndexByte(src[i:], '}')
			if end < 0 {
				return t, fmt.Errorf("template %q: an opening brace is not closed; write {{ for the character", src)
			}
			if lit.Len() > 0 {
				t.parts = append(t.parts, part{text: lit.String()})
				lit.Reset()
			}
			p, err := parsePlaceholder(src[i+1 : i+end])
			if err != nil {
				return t, fmt.Errorf("template %q: %w", src, err)
			}
			t.parts = append(t.parts, p)
			i += end
		default:
			lit.WriteByte(c)
		}
	}
	if lit.Len() > 0 {
		t.parts = append(t.parts, part{text: lit.String()})
	}
	return t, nil
}

func parsePlaceholder(s string) (part, error) {
	p := part{}
	if name, def, ok := strings.Cut(s, "|"); ok {
		s, p.fallback = name, &def
	} else if strings.HasSuffix(s, "?") {
		s, p.optional = s[:len(s)-1], true
	}
	p.name = s
	if s == "" {
		return p, fmt.Errorf("a placeholder has no name")
	}
	path, err := parsePath(s)
	p.path = path
	return p, err
}

// parsePath cuts a.b."c.d" into a, b, c.d.
func parsePath(s string) ([]string, error) {
	var out []string
	for {
		if strings.HasPrefix(s, `"`) {
			end := strings.IndexByte(s[1:], '"')
			if end < 0 {
				return nil, fmt.Errorf("path %q: a quote is not closed", s)
			}
			out = append(out, s[1:1+end])
			s = s[end+2:]
			if s == "" {
				return out, nil
			}
			if s[0] != '.' {
				return nil, fmt.Errorf("path: a dot must follow the quoted name %q", out[len(out)-1])
			}
			s = s[1:]
			continue
		}
		head, rest, more := strings.Cut(s, ".")
		out = append(out, head)
		if !more {
			return out, nil
		}
		s = rest
	}
}

// scope is where a template finds its values: one record, and within it one member of `each`.
type scope struct {
	file    string
	line    string
	rec     record
	missing []string
	inEach  bool
	key     string
	value   *node
}

func (s *scope) lookup(p *part) (string, bool) {
	text, ok := s.raw(p)
	if !ok {
		return "", false
	}
	for _, m := range s.missing {
		if text == m {
			return "", false
		}
	}
	return text, true
}

func (s *scope) raw(p *part) (string, bool) {
	switch p.path[0] {
	case "file":
		if len(p.path) == 1 {
			return s.file, true
		}
	case "line":
		if len(p.path) == 1 {
			return s.line, true
		}
	case "key":
		if s.inEach && len(p.path) == 1 {
			return s.key, true
		}
	case "value":
		if s.inEach {
			return s.value.text(p.path[1:])
		}
	}
	return s.rec.value(p)
}

// render appends the text. ok is false when an optional value is missing: leave the member out.
func (t *template) render(dst []byte, s *scope) (out []byte, ok bool, err error) {
	for i := range t.parts {
		p := &t.parts[i]
		if p.name == "" {
			dst = append(dst, p.text...)
			continue
		}
		v, found := s.lookup(p)
		switch {
		case found:
			dst = append(dst, v...)
		case p.fallback != nil:
			dst = append(dst, *p.fallback...)
		case p.optional:
			return dst, false, nil
		default:
			return dst, false, fmt.Errorf("%q has no value; give one with {%s|default} or leave it out with {%s?}", p.name, p.name, p.name)
		}
	}
	return dst, true, nil
}

func (t *template) text(s *scope) (string, bool, error) {
	b, ok, err := t.render(nil, s)
	return string(b), ok, err
}
