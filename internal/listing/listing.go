// Package listing prints the answers of the command line: as an aligned table for people, as JSON or CSV
// for programs. The same rows in the same order, whatever the format.
package listing

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Format is how a listing is printed.
type Format string

// The formats every listing has.
const (
	Table Format = "table"
	JSON  Format = "json"
	CSV   Format = "csv"
)

// Parse reads the value of -o.
func Parse(s string) (Format, error) {
	f := Format(s)
	if !slices.Contains([]Format{Table, JSON, CSV}, f) {
		return "", fmt.Errorf("output format %q is not table, json or csv", s)
	}
	return f, nil
}

// Rows are what a listing shows. Column names are snake_case: they are JSON keys and CSV headers, and
// upper case with spaces in the table.
type Rows struct {
	Columns []string
	Cells   [][]string
	// Numbers names columns of counts: unquoted in JSON, right-aligned in the table.
	Numbers []string
}

// Add appends a row.
func (r *Rows) Add(cells ...string) { r.Cells = append(r.Cells, cells) }

// Print writes the rows. In JSON they are an array of objects with string values.
func (r *Rows) Print(w io.Writer, f Format) error {
	switch f {
	case JSON:
		return r.json(w)
	case CSV:
		return r.csv(w)
	}
	return r.table(w)
}

// Document prints a value as indented JSON.
func Document(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

func (r *Rows) json(w io.Writer) error {
	var b strings.Builder
	b.WriteString("[")
	for i, cells := range r.Cells {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n  {")
		for j, name := range r.Columns {
			if j > 0 {
				b.WriteString(", ")
			}
			key, err := json.Marshal(name)
			if err != nil {
				return fmt.Errorf("write JSON: %w", err)
			}
			b.Write(key)
			b.WriteString(": ")
			if slices.Contains(r.Numbers, name) && json.Valid([]byte(cells[j])) {
				b.WriteString(cells[j])
				continue
			}
			value, err := json.Marshal(cells[j])
			if err != nil {
				return fmt.Errorf("write JSON: %w", err)
			}
			b.Write(value)
		}
		b.WriteString("}")
	}
	if len(r.Cells) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("]\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// csv neutralises text that a spreadsheet would run as a formula; numbers never change.
func (r *Rows) csv(w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write(r.Columns) // errors stay in the writer and come back from Error
	row := make([]string, len(r.Columns))
	for _, cells := range r.Cells {
		for j, cell := range cells {
			if !slices.Contains(r.Numbers, r.Columns[j]) && cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) && !number(cell) {
				cell = "'" + cell
			}
			row[j] = cell
		}
		_ = out.Write(row)
	}
	out.Flush()
	return out.Error()
}

func number(s string) bool {
	s = strings.TrimPrefix(s, "-")
	return s != "" && strings.Trim(s, "0123456789.") == "" && strings.Count(s, ".") <= 1
}

func (r *Rows) table(w io.Writer) error {
	if len(r.Cells) == 0 {
		_, err := fmt.Fprintln(w, "nothing to show")
		return err
	}
	width := make([]int, len(r.Columns))
	head := make([]string, len(r.Columns))
	for j, name := range r.Columns {
		head[j] = strings.ToUpper(strings.ReplaceAll(name, "_", " "))
		width[j] = utf8.RuneCountInString(head[j])
	}
	for _, cells := range r.Cells {
		for j, cell := range cells {
			width[j] = max(width[j], utf8.RuneCountInString(clean(cell)))
		}
	}
	var b strings.Builder
	line := func(cells []string) {
		for j, cell := range cells {
			cell = clean(cell)
			pad := strings.Repeat(" ", width[j]-utf8.RuneCountInString(cell))
			switch {
			case slices.Contains(r.Numbers, r.Columns[j]):
				b.WriteString(pad + cell)
			case j == len(cells)-1:
				b.WriteString(cell)
			default:
				b.WriteString(cell + pad)
			}
			if j < len(cells)-1 {
				b.WriteString("  ")
			}
		}
		b.WriteString("\n")
	}
	line(head)
	for _, cells := range r.Cells {
		line(cells)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// clean keeps a cell on its line and the terminal sane.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
}

// Line writes the rows as CSV without a header, for listings without an end.
func (r *Rows) Line(w io.Writer) error {
	out := csv.NewWriter(w)
	for _, cells := range r.Cells {
		_ = out.Write(cells) // errors stay in the writer and come back from Error
	}
	out.Flush()
	return out.Error()
}
