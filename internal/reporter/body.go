package reporter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/countinghouse/countinghouse/internal/problem"
)

const bodyMax = 64 << 10

// readBody reads one JSON object. A member that is none of the object's is 422 and named: nothing is set by a name that
// nobody meant to be settable.
func readBody(raw []byte, into any) error {
	if len(raw) > bodyMax {
		return refuse(codeBodySize, fmt.Sprintf("the body has %d bytes; at most 64 KiB are read", len(raw)))
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		if name, found := strings.CutPrefix(err.Error(), "json: unknown field "); found {
			name = strings.Trim(name, `"`)
			return refuse(codeField, "the body has a member "+name+", which cannot be set; there are "+strings.Join(members(into), ", ")).
				With(problem.Item{Pointer: "/" + name, Parameter: name, Code: codeField, Detail: "no such member"})
		}
		if kind := (*json.UnmarshalTypeError)(nil); errors.As(err, &kind) && kind.Field != "" {
			return member(codeBody, kind.Field, "is "+kind.Value+"; want "+jsonKind(kind.Type))
		}
		return refuse(codeBody, "want a JSON object with "+strings.Join(members(into), ", ")+howBad(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return refuse(codeBody, "want one JSON object and nothing after it")
	}
	return nil
}

// howBad is where a text stops being JSON, if that is what is wrong with it.
func howBad(err error) string {
	if bad := (*json.SyntaxError)(nil); errors.As(err, &bad) {
		return fmt.Sprintf("; at byte %d: %s", bad.Offset, bad.Error())
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "; it ends too early"
	}
	return ""
}

// jsonKind is what JSON calls the values of a Go type.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return jsonKind(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number"
	case reflect.Slice:
		return "an array"
	case reflect.Map, reflect.Struct:
		return "an object"
	default:
		return "a string"
	}
}

// members are the names that an object may have.
func members(into any) []string {
	var names []string
	t := reflect.TypeOf(into).Elem()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			names = append(names, members(reflect.New(f.Type).Interface())...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
