package web

import (
	"net/url"
	"strings"

	"github.com/a-h/templ"
)

// form is what was typed, and what is wrong with it: a page whose form was refused is rendered again with
// both, and nothing typed is lost.
type form struct {
	values url.Values
	faults map[string]string // by name of the field
}

// newForm is a form with values, those of a query or of a body.
func newForm(values url.Values) *form {
	if values == nil {
		values = url.Values{}
	}
	return &form{values: values, faults: map[string]string{}}
}

// text is a value without the blanks around it.
func (f *form) text(name string) string { return strings.TrimSpace(f.values.Get(name)) }

// refuse notes a fault at a field; the first one stays.
func (f *form) refuse(name, fault string) {
	if f.faults[name] == "" {
		f.faults[name] = fault
	}
}

func (f *form) ok() bool { return len(f.faults) == 0 }

// field is the field of that name with what was typed and what is wrong; the caller adds the rest.
func (f *form) field(name, label string) field {
	return field{name: name, label: label, value: f.values.Get(name), fault: f.faults[name]}
}

// choice is the same for a list to choose from.
func (f *form) choice(name, label string, options []option) field {
	one := f.field(name, label)
	one.options = options
	return one
}

// field is one thing to fill in. The zero kind is a line of text.
type field struct {
	name, label, value string
	hint               string // under the field
	fault              string // under the field, in red, and read out
	kind               string // of <input>: password, date, month, number, email, search; or "area"
	options            []option
	required           bool
	checked            bool   // of ticks
	complete           string // autocomplete
	placeholder        string
	most               int      // length; 0 is none
	min, max           string   // of dates and numbers
	suggest            []option // offered while typing; anything may be typed
	id                 string   // "" is the name; must differ where a page has two fields of a name
}

// option is a thing to choose.
type option struct{ value, title string }

// optionsOf makes options that are called what they are.
func optionsOf(values ...string) []option {
	all := make([]option, len(values))
	for i, v := range values {
		all[i] = option{v, v}
	}
	return all
}

func (f field) ident() string {
	if f.id != "" {
		return "f-" + f.id
	}
	return "f-" + f.name
}

func (f field) input() string {
	if f.kind == "" {
		return "text"
	}
	return f.kind
}

// about names the elements that describe the field.
func (f field) about() string {
	var ids []string
	if f.fault != "" {
		ids = append(ids, f.ident()+"-fault")
	}
	if f.hint != "" {
		ids = append(ids, f.ident()+"-hint")
	}
	return strings.Join(ids, " ")
}

func (f field) attributes() templ.Attributes {
	a := templ.Attributes{}
	set := func(name, value string) {
		if value != "" {
			a[name] = value
		}
	}
	set("aria-describedby", f.about())
	set("autocomplete", f.complete)
	set("placeholder", f.placeholder)
	set("min", f.min)
	set("max", f.max)
	if len(f.suggest) > 0 {
		a["list"] = f.ident() + "-list"
	}
	if f.most > 0 {
		set("maxlength", whole(f.most))
	}
	if f.fault != "" {
		a["aria-invalid"] = "true"
	}
	a["required"] = f.required
	return a
}
