// Package sheet is a table as finance sees it: named, typed columns, rows of text, and the formats they are
// written in.
//
// Guarantee: every format holds the same rows with the same values, to the last digit. A cell's text is
// canonical for its column's kind and is never rounded here; "" is blank (null), whatever the kind. Rows are
// written as they come: memory does not grow with their number.
//
// The package is pure: it knows neither the warehouse nor HTTP.
package sheet

import "iter"

// Kind is what a column holds, and so the form of its cells.
type Kind int

// Kinds of column.
const (
	Text    Kind = iota // anything a producer or an operator chose: guarded against spreadsheets in CSV
	Code                // a word, an id or a number, which a producer may have chosen as well: guarded unless it is a number
	Whole               // an integer: "-12"
	Decimal             // an exact decimal: "12.500000"
	Instant             // "2025-03-01T00:00:00Z"
	Date                // "2025-03-01"
	Month               // "2025-03"
	Bool                // "TRUE" or "FALSE"
	JSON                // a JSON document
)

// String is the kind's name in lists of columns.
func (k Kind) String() string {
	return [...]string{"text", "code", "whole", "decimal", "instant", "date", "month", "boolean", "json"}[k]
}

// Column is a column's name, as in the CSV header and as key in JSON.
type Column struct {
	Name string
	Kind Kind
	Adds bool // numbers of different rows are of different things, and may be added up: there is a control total
	Doc  string
}

// Row is one cell per column.
type Row []string

// Table is columns and rows. Rows end with the first error, which is the last thing they give.
type Table struct {
	Columns []Column
	Rows    iter.Seq2[Row, error]
}

// Of is the rows of a slice, for tables that are computed as a whole.
func Of(rows []Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// Boolean is the cell of a truth.
func Boolean(b bool) string {
	if b {
		return "TRUE"
	}
	return "FALSE"
}
