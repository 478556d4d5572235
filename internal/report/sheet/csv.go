package sheet

import (
	"io"
	"strings"
	"unicode"
)

// CSV is how a table is written as text.
type CSV struct {
	Delimiter byte // ',' or '|'; 0 is a comma
	Raw       bool // names that a spreadsheet would run as formulas are not guarded
}

const (
	csvFlushBytes = 32 << 10 // written as soon as there is that much
	csvRowBytes   = 4 << 10  // room beyond it for a usual row
)

// Write writes RFC 4180 with CRLF and a header line. What was written before an error is there, but for the
// last few rows.
func (c CSV) Write(w io.Writer, t Table) error {
	if c.Delimiter == 0 {
		c.Delimiter = ','
	}
	buf := make([]byte, 0, csvFlushBytes+csvRowBytes)
	for i, column := range t.Columns {
		buf = c.field(buf, i, column.Name, Code)
	}
	buf = append(buf, "\r\n"...)
	for row, err := range t.Rows {
		if err != nil {
			return err
		}
		begin := len(buf)
		for i, cell := range row {
			buf = c.field(buf, i, cell, t.Columns[i].Kind)
		}
		if len(buf) == begin {
			buf = append(buf, `""`...) // an empty line would be no row at all
		}
		buf = append(buf, "\r\n"...)
		if len(buf) >= csvFlushBytes {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	_, err := w.Write(buf)
	return err
}

// field appends a cell. It allocates nothing beyond the buffer.
func (c CSV) field(buf []byte, i int, s string, kind Kind) []byte {
	if i > 0 {
		buf = append(buf, c.Delimiter)
	}
	if s == "" {
		return buf
	}
	guard := (kind == Text || kind == Code && !number(s)) && !c.Raw && formula(s[0])
	if !c.quoted(s, guard) {
		if guard {
			buf = append(buf, '\'')
		}
		return append(buf, s...)
	}
	buf = append(buf, '"')
	if guard {
		buf = append(buf, '\'')
	}
	for {
		quote := strings.IndexByte(s, '"')
		if quote < 0 {
			break
		}
		buf = append(append(buf, s[:quote+1]...), '"')
		s = s[quote+1:]
	}
	return append(append(buf, s...), '"')
}

// formula reports whether a spreadsheet takes a cell that begins so for a formula, or drops what is before one.
func formula(first byte) bool {
	switch first {
	case '=', '+', '-', '@', '\t', '\r':
		return true
	}
	return false
}

// number reports whether a cell is a decimal number, with a sign or without: "-0.25".
func number(s string) bool {
	if s[0] == '-' || s[0] == '+' {
		s = s[1:]
	}
	whole, fraction, _ := strings.Cut(s, ".")
	return strings.Trim(whole, "0123456789") == "" && strings.Trim(fraction, "0123456789") == "" && whole != ""
}

// quoted reports whether a cell needs quotes: for what is in it, and for spaces that a reader may drop.
func (c CSV) quoted(s string, guarded bool) bool {
	plain := true // of the first and the last character: no space, however Unicode defines it
	for i := range len(s) {
		switch b := s[i]; {
		case b == c.Delimiter, b == '"', b == '\r', b == '\n':
			return true
		case b <= ' ', b >= 0x80:
			plain = plain && i != 0 && i != len(s)-1
		}
	}
	if plain {
		return false
	}
	if guarded { // the guard stands before the spaces in front
		return len(strings.TrimRightFunc(s, unicode.IsSpace)) != len(s)
	}
	return len(strings.TrimSpace(s)) != len(s)
}
