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
		return refuse(codeBody, "want a JSON object with "+strings.Join(members(into), ", ")+": "+err.Error())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return refuse(codeBody, "want one JSON object and nothing after it")
	}
	return nil
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
