package web

import (
	"slices"
	"strings"

	"github.com/a-h/templ"
)

// table is rows under headings, as ledgers have them. It scrolls inside its frame where it is wider than the
// page, keeps its heading in sight, and says what to do where it has no rows.
type table struct {
	name    string // names the table for those who cannot see it; shown as caption where shown is set
	shown   bool
	columns []column
	rows    []row
	foot    []row // totals, under a double rule
	empty   empty
}

// width says how closely a table is set: closer where there are many columns, and broken into lines on a phone where
// there are few.
func (t table) width() string {
	switch n := len(t.columns); {
	case n > 7:
		return "wide"
	case n < 5:
		return "few"
	}
	return ""
}

// without is the table without a column.
func (t table) without(title string) table {
	i := slices.IndexFunc(t.columns, func(c column) bool { return c.title == title })
	if i < 0 {
		return t
	}
	t.columns = slices.Delete(slices.Clone(t.columns), i, i+1)
	rows := make([]row, len(t.rows))
	for n, r := range t.rows {
		rows[n] = slices.Delete(slices.Clone(r), i, i+1)
	}
	t.rows = rows
	return t
}

// column is a heading. The zero kind is text.
type column struct {
	title string
	name  string // of a report's column; "" is the title
	kind  kind
	hint  string // what the column is, on hovering
}

// kind is how cells of a column are set.
type kind int

const (
	asText   kind = iota
	asHead        // names the row (a row heading)
	asNumber      // right-aligned, figures in line, digits grouped
	asCode        // ids, positions: fixed width
	asShort       // dates, badges: not broken
)

func (k kind) class() string {
	switch k {
	case asNumber:
		return "n"
	case asCode:
		return "code"
	case asShort:
		return "nowrap"
	}
	return ""
}

// row is the cells under the columns, in their order.
type row []cell

// cell is what stands in one place: a text, with a link where href is set, or any component.
type cell struct {
	text  string
	href  string
	label string // what the link does, for those who hear it only; "" where the text says it
	body  templ.Component
	hint  string // what else it is called, on hovering
	wide  int    // columns it spans; 0 is one
}

// txt is a cell of text; of a number column the digits are grouped.
func txt(text string) cell { return cell{text: text} }

// linked is a cell that leads somewhere.
func linked(text, href string) cell { return cell{text: text, href: href} }

// explained is a number that leads to where it comes from; href "" leaves it a plain number.
func explained(number, href string) cell {
	return cell{text: number, href: href, label: "explain"}
}

// comp is a cell with anything in it.
func comp(body templ.Component) cell { return cell{body: body} }

// empty is what stands where there would be rows.
type empty struct {
	text string // that there are none, and why that may be
	do   string // what to do, as the label of a link
	href string
}

func (c cell) shown(k kind) string {
	if k == asNumber {
		return grouped(c.text)
	}
	return c.text
}

func (c cell) class(k kind) string {
	if k == asNumber && strings.HasPrefix(c.text, "-") {
		return "n minus"
	}
	return k.class()
}

// grouped sets commas between the thousands of an exact decimal; what is no decimal stays as it is.
func grouped(decimal string) string {
	sign, digits := "", decimal
	if strings.HasPrefix(digits, "-") || strings.HasPrefix(digits, "+") {
		sign, digits = digits[:1], digits[1:]
	}
	whole, fraction, point := strings.Cut(digits, ".")
	if strings.Trim(whole+fraction, "0123456789") != "" || len(whole) < 4 {
		return decimal
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, d := range []byte(whole) {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteByte(d)
	}
	if point {
		b.WriteString("." + fraction)
	}
	return b.String()
}
