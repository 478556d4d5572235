package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/listing"
)

const (
	cellMin  = 8 // what is left of a cell that is cut to fit a terminal
	plainMax = 60
)

// tableOfReport prints a report for people: aligned, and on a terminal no wider than it.
func (t *tool) tableOfReport(ctx context.Context, c *client.Client, path string, query url.Values, limit int) error {
	width := terminalWidth(t.out)
	if limit <= 0 && width > 0 {
		limit = terminalRows
	}
	var columns []string
	var cells [][]string
	var last *reportPage
	err := pagesOfReport(ctx, c, path, query, pageOf(limit), func(p *reportPage) (bool, error) {
		last = p
		columns = p.Columns
		for _, row := range p.Rows {
			var members map[string]json.RawMessage
			if err := json.Unmarshal(row, &members); err != nil {
				return false, fmt.Errorf("read answer of %s: %w", path, err)
			}
			line := make([]string, len(columns))
			for i, name := range columns {
				line[i] = cellText(members[name])
			}
			cells = append(cells, line)
		}
		return limit <= 0 || len(cells) < limit, nil
	})
	if err != nil {
		return err
	}
	if columns == nil { // a document
		return listing.Document(t.out, last.raw)
	}
	if len(cells) == 0 {
		_, err := fmt.Fprintln(t.out, "nothing to show"+stateOf(last))
		return err
	}
	if err := printTable(t.out, columns, cells, width); err != nil {
		return err
	}
	more := ""
	if last.Next != nil {
		more = "; there are more: --limit, or --out FILE for all"
	}
	_, err = fmt.Fprintf(t.err, "%d rows%s%s\n", len(cells), stateOf(last), more)
	return err
}

func pageOf(limit int) int {
	if limit <= 0 {
		return pageRows
	}
	return limit
}

func stateOf(p *reportPage) string {
	text := ""
	if p.AsOf != "" {
		text += ", as of " + p.AsOf
	}
	if p.State != "" {
		text += ", month " + p.State
	}
	if p.Version > 0 {
		text += ", version " + strconv.Itoa(p.Version)
	}
	return text
}

// cellText is a JSON value as a table shows it.
func cellText(raw json.RawMessage) string {
	var text string
	switch {
	case json.Unmarshal(raw, &text) == nil: // null leaves it empty
		return strings.Map(printable, text)
	case string(raw) == "true":
		return "TRUE"
	case string(raw) == "false":
		return "FALSE"
	}
	return string(raw)
}

func printable(c rune) rune {
	if c < ' ' || c == 0x7f {
		return ' '
	}
	return c
}

// printTable aligns columns, numbers to the right. width > 0 makes lines fit as far as that goes: columns that say
// the same in every row go above the table, and texts are cut, the widest first. Numbers and times stay whole.
func printTable(w io.Writer, columns []string, cells [][]string, width int) error {
	t := measure(columns, cells)
	if width > 0 && t.total() > width && len(cells) > 1 {
		var err error
		if columns, cells, err = liftSame(w, columns, cells); err != nil {
			return err
		}
		t = measure(columns, cells)
	}
	limit := width
	if limit == 0 {
		limit = int(^uint(0) >> 1)
	}
	t.shrink(limit, width == 0)
	var b strings.Builder
	for _, row := range append([][]string{columns}, cells...) {
		b.WriteString(t.line(row) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// liftSame prints the columns with one value for all rows and returns the others.
func liftSame(w io.Writer, columns []string, cells [][]string) ([]string, [][]string, error) {
	var kept []int
	for i, name := range columns {
		same := !slices.ContainsFunc(cells, func(row []string) bool { return row[i] != cells[0][i] })
		if !same {
			kept = append(kept, i)
			continue
		}
		if cells[0][i] == "" {
			continue // of a column without any value there is nothing to say
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", name, cells[0][i]); err != nil {
			return nil, nil, err
		}
	}
	if len(kept) == 0 {
		return columns, cells, nil
	}
	pick := func(row []string) []string {
		picked := make([]string, len(kept))
		for j, i := range kept {
			picked[j] = row[i]
		}
		return picked
	}
	rest := make([][]string, len(cells))
	for j, row := range cells {
		rest[j] = pick(row)
	}
	return pick(columns), rest, nil
}

// layout is how wide columns are, and which of them hold numbers.
type layout struct {
	widths         []int
	numbers, fixed []bool // numbers go to the right; what is fixed is not cut
}

func measure(columns []string, cells [][]string) *layout {
	t := &layout{make([]int, len(columns)), make([]bool, len(columns)), make([]bool, len(columns))}
	for i, name := range columns {
		t.widths[i], t.numbers[i], t.fixed[i] = utf8.RuneCountInString(name), true, true
		for _, row := range cells {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(row[i]))
			t.numbers[i] = t.numbers[i] && strings.Trim(strings.TrimPrefix(row[i], "-"), ".0123456789") == ""
			t.fixed[i] = t.fixed[i] && strings.Trim(row[i], "-.0123456789:TZ") == ""
		}
	}
	return t
}

func (t *layout) total() int {
	total := 2 * (len(t.widths) - 1)
	for _, w := range t.widths {
		total += w
	}
	return total
}

// shrink cuts texts until a line has the width; where nobody looks at a terminal, only the very long ones.
func (t *layout) shrink(width int, longOnly bool) {
	for i := range t.widths {
		if longOnly && !t.fixed[i] {
			t.widths[i] = min(t.widths[i], plainMax)
		}
	}
	for t.total() > width {
		widest := -1
		for i := range t.widths {
			if !t.fixed[i] && t.widths[i] > cellMin && (widest < 0 || t.widths[i] > t.widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		t.widths[widest]--
	}
}

func (t *layout) line(cells []string) string {
	var b strings.Builder
	for i, cell := range cells {
		cell = fit(cell, t.widths[i])
		pad := strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell))
		if i > 0 {
			b.WriteString("  ")
		}
		if t.numbers[i] {
			b.WriteString(pad + cell)
		} else {
			b.WriteString(cell + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// fit cuts a cell to a width, with an ellipsis in place of what is lost.
func fit(cell string, width int) string {
	if utf8.RuneCountInString(cell) <= width {
		return cell
	}
	return string([]rune(cell)[:width-1]) + "…"
}

// terminalWidth is 0 where w is no terminal.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !terminal(w) {
		return 0
	}
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		return int(size.Col)
	}
	return 80
}
