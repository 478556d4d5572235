package usage

import (
	"errors"
	"strconv"
	"strings"
)

// ErrSyntax marks a document that is not JSON at all, so that no part of it can be trusted. The sender
// must mend it; retrying the same bytes is useless.
var ErrSyntax = errors.New("document is not valid JSON")

// Fault is one reason why an event is refused.
type Fault struct {
	Index   int    // index of the event in its batch
	Pointer string // JSON pointer (RFC 6901) into the event; "" means the whole event
	Code    string // a stable code of Codes
	Detail  string // one sentence for people
}

func (f *Fault) Error() string {
	s := "event " + strconv.Itoa(f.Index)
	if f.Pointer != "" {
		s += " at " + f.Pointer
	}
	return s + ": " + f.Code + ": " + f.Detail
}

// path is a JSON pointer under construction: a chain on the stack, rendered only when a fault needs it.
type path struct {
	parent *path
	name   string
	index  int // used when name is ""; an empty member name renders the same as JSON pointer wants it
	array  bool
}

func (p *path) member(name string) path { return path{parent: p, name: name} }
func (p *path) item(i int) path         { return path{parent: p, index: i, array: true} }

func (p *path) String() string {
	if p == nil || p.parent == nil && p.name == "" && !p.array {
		return ""
	}
	prefix := p.parent.String()
	if p.array {
		return prefix + "/" + strconv.Itoa(p.index)
	}
	return prefix + "/" + pointerEscaper.Replace(p.name)
}

// push and pop keep the paths of the members being judged on a stack of the parser's own: they would
// escape to the heap otherwise, one for each member of each event. maxDepth bounds the stack.
func (p *Parser) push(at path) *path {
	here := &p.paths[p.depth]
	p.depth++
	*here = at
	return here
}

func (p *Parser) pop() { p.depth-- }

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")
