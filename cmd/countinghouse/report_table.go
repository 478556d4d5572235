package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/countinghouse/countinghouse/internal/client"
)

const (
	cellMin  = 6 // what is left of a cell that is cut to fit a terminal
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
			line := make([]string, len(columns))
			for i, name := range columns {
				line[i] = cellText(row[name])
			}
			cells = append(cells, line)
		}
		return limit <= 0 || len(cells) < limit, nil
	})
	if err != nil {
		return err
	}
	if columns == nil { // a document
		return indent(t.out, last.raw)
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

func indent(w io.Writer, raw json.RawMessage) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(raw)
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

// printTable aligns columns, numbers to the right. width > 0 cuts the widest cells until a line fits, as far as
// that goes.
func printTable(w io.Writer, columns []string, cells [][]string, width int) error {
	widths, numbers := make([]int, len(columns)), make([]bool, len(columns))
	total := 2 * (len(columns) - 1)
	for i, name := range columns {
		widths[i], numbers[i] = utf8.RuneCountInString(name), true
		for _, line := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
			numbers[i] = numbers[i] && strings.Trim(strings.TrimPrefix(line[i], "-"), ".0123456789") == ""
		}
		if width == 0 {
			widths[i] = min(widths[i], plainMax)
		}
		total += widths[i]
	}
	for width > 0 && total > width {
		widest := 0
		for i := range widths {
			if widths[i] > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= cellMin {
			break
		}
		widths[widest]--
		total--
	}
	var b strings.Builder
	line := func(cells []string) {
		var l strings.Builder
		for i, cell := range cells {
			cell = fit(cell, widths[i])
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if numbers[i] {
				cell = pad + cell
			} else {
				cell += pad
			}
			if i > 0 {
				l.WriteString("  ")
			}
			l.WriteString(cell)
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	line(columns)
	for _, row := range cells {
		line(row)
	}
	_, err := io.WriteString(w, b.String())
	return err
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
