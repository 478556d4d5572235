package sheet

import (
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// Array is JSON: an array of objects, one per row and line. Keys are the columns' names; decimals are strings, so that
// no reader rounds them.
type Array struct{}

// Write writes the array.
func (Array) Write(w io.Writer, t Table) error {
	keys := Keys(t.Columns)
	buf := append(make([]byte, 0, csvFlushBytes+csvRowBytes), '[')
	first := true
	for row, err := range t.Rows {
		if err != nil {
			return err
		}
		if !first {
			buf = append(buf, ',')
		}
		first = false
		buf = append(keys.Append(append(buf, '\n', '{'), row), '}')
		if len(buf) >= csvFlushBytes {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	_, err := w.Write(append(buf, "\n]\n"...))
	return err
}

// Members writes rows as members of JSON objects.
type Members []member

type member struct {
	kind Kind
	key  []byte // quoted, with its colon
}

// Keys prepares the members of a table's rows.
func Keys(columns []Column) Members {
	all := make(Members, len(columns))
	for i, c := range columns {
		all[i] = member{c.Kind, append(Quote(nil, c.Name), ':')}
	}
	return all
}

// Append appends the members of a row, without braces.
func (m Members) Append(b []byte, row Row) []byte {
	for i, cell := range row {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, m[i].key...)
		switch kind := m[i].kind; {
		case cell == "" && kind != Text && kind != Code:
			b = append(b, "null"...)
		case kind == Whole, kind == JSON:
			b = append(b, cell...)
		case kind == Bool && cell == Boolean(true):
			b = append(b, "true"...)
		case kind == Bool:
			b = append(b, "false"...)
		default:
			b = Quote(b, cell)
		}
	}
	return b
}

// Quote appends a JSON string. Bytes that are no UTF-8 become U+FFFD, as JSON has no other way.
func Quote(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // its error is about such bytes
	return b
}
