package usage

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// Split takes a JSON array of events apart without reading them, and answers any other document as its
// only one. The error is ErrSyntax.
func Split(doc []byte) ([][]byte, error) {
	d := jsontext.NewDecoder(bytes.NewReader(doc), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if d.PeekKind() != '[' {
		return [][]byte{doc}, nil
	}
	var all [][]byte
	_, err := d.ReadToken()
	for err == nil && d.PeekKind() != ']' {
		var v jsontext.Value
		if v, err = d.ReadValue(); err == nil {
			all = append(all, slices.Clone([]byte(v)))
		}
	}
	if err == nil {
		_, err = d.ReadToken()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return all, atEnd(doc, int(d.InputOffset()))
}
