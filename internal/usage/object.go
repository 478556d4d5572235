package usage

import (
	"slices"
	"strings"
)

// fieldKind is what a member of data may be. Each kind has one canonical spelling.
type fieldKind uint8

const (
	kindText       fieldKind = iota // string; an optional one may be "", which means absent
	kindDecimal                     // number or decimal string; canonical: string
	kindInteger                     // whole number 0..2^63-1; canonical: number
	kindBool                        // true or false
	kindInstant                     // RFC 3339 with offset; canonical: UTC
	kindCode                        // string of digits or whole number, such as 101; canonical: string
	kindObject                      // object with fields
	kindList                        // array of objects with fields, at least one if required
	kindTexts                       // array of strings
	kindDimensions                  // object of strings
	kindFree                        // any object
	kindFreeList                    // array of any objects
)

// field is one member of data, or of an object within it.
type field struct {
	name        string
	kind        fieldKind
	required    bool
	nonNegative bool
	enum        []string // allowed texts; nil means any
	fields      []field  // of kindObject and kindList
}

// object judges an object by its fields and turns each member into its canonical spelling.
func (r *reading) object(fields []field, n int32, at *path) {
	t := &r.p.tree
	for c := t.nodes[n].first; c != 0; c = t.nodes[c].next {
		name := t.nodes[c].name
		f := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if f < 0 {
			here := at.member(name)
			r.refuse(here.String(), CodeUnknownField, "there is no such member; allowed are "+names(fields))
			continue
		}
		r.member(&fields[f], c, r.p.push(at.member(name)))
		r.p.pop()
	}
	for i := range fields {
		if fields[i].required && !t.has(n, fields[i].name) {
			here := at.member(fields[i].name)
			r.refuse(here.String(), CodeMissingField, fields[i].name+" is required")
		}
	}
}

// has reports whether an object has a member, dropped or not.
func (t *tree) has(object int32, name string) bool {
	for c := t.nodes[object].first; c != 0; c = t.nodes[c].next {
		if t.nodes[c].name == name {
			return true
		}
	}
	return false
}

func names(fields []field) string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.name
	}
	return strings.Join(all, ", ")
}

func (r *reading) member(f *field, c int32, at *path) {
	n := &r.p.tree.nodes[c]
	switch f.kind {
	case kindText:
		r.textMember(f, n, at)
	case kindDecimal:
		r.decimalMember(f, n, at)
	case kindInteger:
		if q, err := parseQuantity(n.text); n.kind != '0' || err != nil || !q.isWhole() || q.Sign() < 0 || q.Cmp(Int(1<<63-1)) > 0 {
			r.refuse(at.String(), CodeBadField, f.name+" must be a whole number, 0 or more")
		}
	case kindBool:
		if n.kind != 't' && n.kind != 'f' {
			r.refuse(at.String(), CodeBadField, f.name+" must be true or false")
		}
	case kindInstant:
		r.instantMember(f, n, at)
	case kindCode:
		q, err := parseQuantity(n.text)
		if n.kind == '"' && !isDigits(n.text) || n.kind != '"' && n.kind != '0' || err != nil || !q.isWhole() || q.Sign() < 0 || q.Cmp(Int(999_999)) > 0 {
			r.refuse(at.String(), CodeBadField, f.name+" must be a code of up to six digits such as 101")
			return
		}
		n.kind, n.text = '"', q.String()
	case kindObject:
		if r.isKind('{', n, f, at) {
			r.object(f.fields, c, at)
		}
	case kindFree:
		r.isKind('{', n, f, at)
	case kindDimensions:
		if r.isKind('{', n, f, at) {
			r.items(f, c, at)
		}
	default:
		if r.isKind('[', n, f, at) {
			r.items(f, c, at)
		}
	}
}

func (r *reading) isKind(want byte, n *node, f *field, at *path) bool {
	if byte(n.kind) == want {
		return true
	}
	what := map[byte]string{'{': "an object", '[': "an array"}[want]
	r.refuse(at.String(), CodeBadField, f.name+" must be "+what)
	return false
}

func (r *reading) textMember(f *field, n *node, at *path) {
	switch {
	case n.kind != '"':
		r.refuse(at.String(), CodeBadField, f.name+" must be a string")
	case n.text == "" && f.required:
		r.refuse(at.String(), CodeBadField, f.name+" must not be empty")
	case n.text == "":
		n.drop = true
	case f.enum != nil && !slices.Contains(f.enum, n.text):
		r.refuse(at.String(), CodeBadField, f.name+" must be one of "+strings.Join(f.enum, ", "))
	}
}

func (r *reading) decimalMember(f *field, n *node, at *path) {
	q, err := parseQuantity(n.text)
	switch {
	case n.kind != '0' && n.kind != '"' || err != nil:
		r.refuse(at.String(), CodeBadQuantity, f.name+" must be "+quantityForm)
	case f.nonNegative && q.Sign() < 0:
		r.refuse(at.String(), CodeNegative, f.name+" must not be negative")
	default:
		n.kind, n.text = '"', q.String()
	}
}

func (r *reading) instantMember(f *field, n *node, at *path) {
	if n.kind != '"' {
		r.refuse(at.String(), CodeBadTime, f.name+": "+ErrTime.Error())
		return
	}
	i, err := ParseInstant(n.text)
	if err != nil {
		r.refuse(at.String(), timeCode(err), f.name+": "+err.Error())
		return
	}
	n.text = i.String()
}

// items judges the elements of an array, or the values of dimensions.
func (r *reading) items(f *field, c int32, at *path) {
	t := &r.p.tree
	first := t.nodes[c].first
	if first == 0 && f.kind == kindList && f.required {
		r.refuse(at.String(), CodeBadField, f.name+" must not be empty")
	}
	i := 0
	for x := first; x != 0; x = t.nodes[x].next {
		n := &t.nodes[x]
		here := r.p.push(at.item(i))
		i++
		switch {
		case f.kind == kindDimensions:
			if *here = at.member(n.name); n.kind != '"' {
				r.refuse(here.String(), CodeBadField, "a dimension must be a string")
			}
		case f.kind == kindTexts && n.kind != '"':
			r.refuse(here.String(), CodeBadField, f.name+" must hold strings")
		case f.kind != kindTexts && n.kind != '{':
			r.refuse(here.String(), CodeBadField, f.name+" must hold objects")
		case f.kind == kindList:
			r.object(f.fields, x, here)
		}
		r.p.pop()
	}
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i]-'0' > 9 {
			return false
		}
	}
	return s != ""
}
