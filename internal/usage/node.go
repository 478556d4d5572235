package usage

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds the nesting of a document. The deepest documented event has 5 levels; meta_data and
// extra types get room, recursion stays bounded.
const maxDepth = 32

// node is one JSON value of a tree. Children are a linked list in document order; index 0 means none,
// because node 0 is never anybody's child.
type node struct {
	kind  jsontext.Kind // { [ " 0 t f n
	drop  bool          // left out by the canonical writer
	name  string        // member name, if its parent is an object
	text  string        // value of a string, literal of a number
	first int32
	next  int32
}

// tree holds the values of one document in a flat slice that is reused from event to event. jsontext
// does the grammar: it refuses duplicate names, invalid UTF-8 and lone surrogates.
type tree struct {
	nodes []node
	order []int32 // stack of member indices being sorted
	dec   jsontext.Decoder
	buf   bytes.Buffer
}

func (t *tree) reset() {
	t.nodes = append(t.nodes[:0], node{})
	t.order = t.order[:0]
}

// level is one open object or array while parsing.
type level struct {
	self, last int32
	object     bool
	named      bool // a member name was read, its value comes next
	name       string
}

// parse adds a document to the tree and returns its root, or the fault that makes it unreadable. What
// was read before the fault stays in the tree.
func (t *tree) parse(doc []byte) (root int32, fault *Fault) {
	text := string(doc) // strings without escapes are slices of this one copy
	t.buf = *bytes.NewBuffer(doc)
	t.dec.Reset(&t.buf)
	root = int32(len(t.nodes))
	var stack [maxDepth]level
	depth := 0
	for {
		kind := t.dec.PeekKind()
		switch kind {
		case '}', ']':
			if _, err := t.dec.ReadToken(); err != nil {
				return root, syntaxFault(err)
			}
			depth--
		case '{', '[':
			if depth == maxDepth {
				return root, &Fault{Pointer: string(t.dec.StackPointer()), Code: CodeTooDeep, Detail: "more than " + strconv.Itoa(maxDepth) + " levels of nesting"}
			}
			if _, err := t.dec.ReadToken(); err != nil {
				return root, syntaxFault(err)
			}
			self := t.add(stack[:depth], node{kind: kind})
			stack[depth] = level{self: self, object: kind == '{'}
			depth++
		default:
			raw, err := t.dec.ReadValue()
			if err != nil {
				return root, syntaxFault(err)
			}
			value := scalar(raw, text, int(t.dec.InputOffset()))
			if depth > 0 && stack[depth-1].object && !stack[depth-1].named {
				stack[depth-1].name, stack[depth-1].named = value, true
				continue
			}
			t.add(stack[:depth], node{kind: kind, text: value})
		}
		if depth == 0 {
			break
		}
	}
	if _, err := t.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return root, &Fault{Code: CodeBadJSON, Detail: "text after the end of the value at offset " + strconv.FormatInt(t.dec.InputOffset(), 10)}
	}
	return root, nil
}

// add appends a value as the next child of the innermost open level.
func (t *tree) add(stack []level, n node) int32 {
	self := int32(len(t.nodes))
	if len(stack) > 0 {
		up := &stack[len(stack)-1]
		n.name, up.named = up.name, false
		if up.last == 0 {
			t.nodes[up.self].first = self
		} else {
			t.nodes[up.last].next = self
		}
		up.last = self
	}
	t.nodes = append(t.nodes, n)
	return self
}

// scalar is the value of a string or the literal of anything else. end is the offset after raw.
func scalar(raw jsontext.Value, text string, end int) string {
	start := end - len(raw)
	if raw[0] != '"' {
		return text[start:end]
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return text[start+1 : end-1]
	}
	unquoted, _ := jsontext.AppendUnquote(nil, raw) // the decoder has validated it
	return string(unquoted)
}

func syntaxFault(err error) *Fault {
	f := &Fault{Code: CodeBadJSON, Detail: strings.TrimPrefix(err.Error(), "jsontext: ")}
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		f.Detail = "the text ends early"
		return f
	}
	switch {
	case errors.Is(syntax.Err, jsontext.ErrDuplicateName):
		f.Code, f.Pointer = CodeDuplicateKey, string(syntax.JSONPointer)
	case strings.Contains(f.Detail, "UTF-8") || strings.Contains(f.Detail, "surrogate"):
		f.Code, f.Pointer = CodeBadUTF8, string(syntax.JSONPointer)
	}
	return f
}

// child is the member of an object with that name, 0 if there is none.
func (t *tree) child(object int32, name string) int32 {
	for c := t.nodes[object].first; c != 0; c = t.nodes[c].next {
		if t.nodes[c].name == name && !t.nodes[c].drop {
			return c
		}
	}
	return 0
}

// textOf is the text of a member, "" if there is none.
func (t *tree) textOf(object int32, name string) string {
	return t.nodes[t.child(object, name)].text
}

// canonical appends the one spelling of a value: members sorted by name, numbers normalised, no white
// space, dropped members left out. false if a number is beyond maxExponent.
func (t *tree) canonical(dst []byte, n int32) (_ []byte, ok bool) {
	switch at := &t.nodes[n]; at.kind {
	case '{':
		return t.canonicalObject(dst, n)
	case '[':
		dst = append(dst, '[')
		for c := at.first; c != 0; c = t.nodes[c].next {
			if c != at.first {
				dst = append(dst, ',')
			}
			if dst, ok = t.canonical(dst, c); !ok {
				return dst, false
			}
		}
		return append(dst, ']'), true
	case '"':
		return appendString(dst, at.text), true
	case '0':
		return appendNumber(dst, at.text)
	default:
		return append(dst, at.text...), true
	}
}

func (t *tree) canonicalObject(dst []byte, n int32) (_ []byte, ok bool) {
	base := len(t.order)
	for c := t.nodes[n].first; c != 0; c = t.nodes[c].next {
		if !t.nodes[c].drop {
			t.order = append(t.order, c)
		}
	}
	end := len(t.order)
	slices.SortFunc(t.order[base:end], func(a, b int32) int {
		return strings.Compare(t.nodes[a].name, t.nodes[b].name)
	})
	dst = append(dst, '{')
	for i := base; i < end; i++ {
		if i > base {
			dst = append(dst, ',')
		}
		c := t.order[i]
		dst = append(appendString(dst, t.nodes[c].name), ':')
		if dst, ok = t.canonical(dst, c); !ok {
			return dst, false
		}
	}
	t.order = t.order[:base]
	return append(dst, '}'), true
}
