package importer

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// shape is the compiled form of `data`: JSON with templates in it.
type shape struct {
	kind    int
	literal string   // shapeLiteral: JSON as it stands
	text    template // shapeString, shapeBare
	members []member // shapeObject, shapeArray
}

type member struct {
	name string
	shape
}

const (
	shapeLiteral = iota // a YAML number, boolean or null
	shapeString         // a template that becomes a JSON string
	shapeBare           // a template that becomes a JSON number or boolean
	shapeObject
	shapeArray
)

func (c *compiler) shape(n *yaml.Node, where string) *shape {
	switch n.Kind {
	case yaml.MappingNode:
		s := &shape{kind: shapeObject}
		for i := 0; i+1 < len(n.Content); i += 2 {
			name := n.Content[i].Value
			for _, m := range s.members {
				if m.name == name {
					c.fault("%s.%s: is there twice", where, name)
				}
			}
			if v := c.shape(n.Content[i+1], where+"."+name); v != nil {
				s.members = append(s.members, member{name, *v})
			}
		}
		return s
	case yaml.SequenceNode:
		s := &shape{kind: shapeArray}
		for i, item := range n.Content {
			if v := c.shape(item, fmt.Sprintf("%s[%d]", where, i)); v != nil {
				s.members = append(s.members, member{"", *v})
			}
		}
		return s
	case yaml.ScalarNode:
		switch tag := n.ShortTag(); tag {
		case "!!int", "!!float", "!!bool", "!!null":
			v := jsontext.Value(n.Value)
			if !v.IsValid() {
				c.fault("%s: %q is not JSON; put it in quotes", where, n.Value)
			}
			return &shape{kind: shapeLiteral, literal: n.Value}
		case "!number", "!bool":
			return &shape{kind: shapeBare, text: c.template(where, n.Value)}
		case "!!str", "!!timestamp":
			return &shape{kind: shapeString, text: c.template(where, n.Value)}
		default:
			c.fault("%s: tag %s is not known; !number and !bool are", where, tag)
		}
	case yaml.AliasNode:
		return c.shape(n.Alias, where)
	}
	return nil
}

// append writes the JSON of s. ok is false when an optional value is missing; the member is left out.
func (s *shape) append(dst []byte, sc *scope, buf []byte) (out []byte, ok bool, err error) {
	switch s.kind {
	case shapeLiteral:
		return append(dst, s.literal...), true, nil
	case shapeString, shapeBare:
		text, ok, err := s.text.render(buf[:0], sc)
		if err != nil || !ok {
			return dst, false, err
		}
		if s.kind == shapeString {
			dst, err = jsontext.AppendQuote(dst, text)
			if err != nil {
				return dst, false, fmt.Errorf("%q: %w", s.text.src, err)
			}
			return dst, true, nil
		}
		v := jsontext.Value(text)
		if k := v.Kind(); !v.IsValid() || (k != '0' && k != 't' && k != 'f') {
			return dst, false, fmt.Errorf("%q gives %q, which is no JSON number or boolean", s.text.src, text)
		}
		return append(dst, text...), true, nil
	}
	open, end := byte('{'), byte('}')
	if s.kind == shapeArray {
		open, end = '[', ']'
	}
	dst = append(dst, open)
	first := true
	for i := range s.members {
		m := &s.members[i]
		mark := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		if s.kind == shapeObject {
			if dst, err = jsontext.AppendQuote(dst, m.name); err != nil {
				return dst, false, err
			}
			dst = append(dst, ':')
		}
		dst, ok, err = m.append(dst, sc, buf)
		if err != nil {
			return dst, false, fmt.Errorf("%s: %w", m.name, err)
		}
		if !ok {
			dst = dst[:mark]
			continue
		}
		first = false
	}
	return append(dst, end), true, nil
}

func (s *shape) templates(visit func(*template)) {
	if s == nil {
		return
	}
	visit(&s.text)
	for i := range s.members {
		s.members[i].templates(visit)
	}
}
