package reporter

import (
	"fmt"
	"io"
	"time"

	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// csvType is the media type of tables; they have the same rows as in JSON.
const csvType = "text/csv"

// table is an answer that has rows.
type table interface {
	columns() []string
	// cells calls row for every row, in order; row copies what it is given.
	cells(row func(...cell))
}

// cell is a value as it stands in a CSV, and whether a spreadsheet may run it.
type cell struct {
	value string
	kind  sheet.Kind
}

// text is a cell a spreadsheet must not run: names, ids, anything a producer chose.
func text(s string) cell { return cell{s, sheet.Text} }

// plain is a number, a time or a boolean.
func plain(s string) cell { return cell{s, sheet.Code} }

// moment is a time to the second; zero is none.
func moment(t time.Time) cell {
	if t.IsZero() {
		return plain("")
	}
	return plain(t.UTC().Format(time.RFC3339))
}

func boolean(b bool) cell { return plain(sheet.Boolean(b)) }

func whole[N int | int64 | uint16 | uint32 | uint64](n N) cell { return plain(fmt.Sprint(n)) }

// writeCSV writes an answer that has rows.
func writeCSV(w io.Writer, v any) error {
	t, ok := v.(table)
	if !ok {
		return fmt.Errorf("%T has no rows", v)
	}
	names := t.columns()
	columns, row := make([]sheet.Column, len(names)), make(sheet.Row, len(names))
	for i, name := range names {
		columns[i] = sheet.Column{Name: name, Kind: sheet.Text}
	}
	return sheet.CSV{}.Write(w, sheet.Table{Columns: columns, Rows: func(yield func(sheet.Row, error) bool) {
		more := true
		t.cells(func(cells ...cell) {
			for i, c := range cells {
				columns[i].Kind, row[i] = c.kind, c.value // the same in every row
			}
			more = more && yield(row, nil)
		})
	}})
}
