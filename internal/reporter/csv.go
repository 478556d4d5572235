package reporter

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// csvType is the media type of tables; interfaces.md 3 promises the same rows as in JSON.
const csvType = "text/csv"

// table is an answer that has rows.
type table interface {
	columns() []string
	// cells calls row for every row, in order; row copies what it is given.
	cells(row func(...cell))
}

// cell is a value as it stands in a CSV: text may need a guard, the rest never does.
type cell struct {
	value string
	text  bool
}

// text is a cell a spreadsheet must not run: names, ids, anything a producer chose.
func text(s string) cell { return cell{s, true} }

// plain is a number, a time or a boolean.
func plain(s string) cell { return cell{s, false} }

func boolean(b bool) cell {
	if b {
		return plain("TRUE")
	}
	return plain("FALSE")
}

func whole[N int | int64 | uint16 | uint32 | uint64](n N) cell { return plain(fmt.Sprint(n)) }

// writeCSV writes RFC 4180 with CRLF and a header line (reports.md 2.5).
func writeCSV(w io.Writer, v any) error {
	if r, ok := v.(reportAnswer); ok {
		return r.writeCSV(w)
	}
	t, ok := v.(table)
	if !ok {
		return fmt.Errorf("%T has no rows", v)
	}
	b := bufio.NewWriterSize(w, 64<<10)
	for i, name := range t.columns() {
		writeField(b, i, text(name))
	}
	_, _ = b.WriteString("\r\n") // Flush reports the first error of all writes
	t.cells(func(cells ...cell) {
		for i, c := range cells {
			writeField(b, i, c)
		}
		_, _ = b.WriteString("\r\n")
	})
	return b.Flush()
}

func writeField(b *bufio.Writer, i int, c cell) {
	if i > 0 {
		_ = b.WriteByte(',')
	}
	s := c.value
	if c.text && s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		s = "'" + s
	}
	if strings.ContainsAny(s, ",\"\r\n") || s != strings.TrimSpace(s) {
		s = `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	_, _ = b.WriteString(s)
}
