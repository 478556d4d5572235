package sheet

import (
	"bufio"
	"io"
	"strings"
)

// CSV is how a table is written as text (reports.md 2.5).
type CSV struct {
	Delimiter byte // ',' or '|'; 0 is a comma
	Raw       bool // names that a spreadsheet would run as formulas are not guarded
}

// Write writes RFC 4180 with CRLF and a header line. It returns the error of the rows, or of w; what was
// written before it is there.
func (c CSV) Write(w io.Writer, t Table) error {
	if c.Delimiter == 0 {
		c.Delimiter = ','
	}
	b := bufio.NewWriterSize(w, 64<<10)
	for i, column := range t.Columns {
		c.field(b, i, column.Name, Code)
	}
	_, _ = b.WriteString("\r\n") // Flush reports the first error of all writes
	for row, err := range t.Rows {
		if err != nil {
			_ = b.Flush()
			return err
		}
		for i, cell := range row {
			c.field(b, i, cell, t.Columns[i].Kind)
		}
		if _, err := b.WriteString("\r\n"); err != nil {
			return err
		}
	}
	return b.Flush()
}

func (c CSV) field(b *bufio.Writer, i int, s string, kind Kind) {
	if i > 0 {
		_ = b.WriteByte(c.Delimiter)
	}
	if kind == Text && !c.Raw && s != "" && strings.IndexByte("=+-@\t\r", s[0]) >= 0 {
		s = "'" + s
	}
	if strings.IndexByte(s, c.Delimiter) >= 0 || strings.ContainsAny(s, "\"\r\n") || s != strings.TrimSpace(s) {
		s = `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	_, _ = b.WriteString(s)
}
