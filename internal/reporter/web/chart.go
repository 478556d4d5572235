package web

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/report"
)

// chart is a series of exact decimals over labels, drawn on the server. Heights are worked out in integers:
// a quantity never becomes a float, and the chart says the numbers that the table below it says.
type chart struct {
	title  string
	unit   string
	labels []string // under the points, in order
	values []string // exact decimals; "" is no value
	past   []string // the same of an earlier time, dashed; may be empty or shorter
	now    string   // what values are called, where there is a past
	before string   // what past is called
	hrefs  []string // where a bar leads; may be empty
	line   bool     // drawn as a line: zeros are points of it

	// For the drawing that scripts make of it.
	names  []string         // of the points, in full; empty: the labels
	starts []report.Instant // of the points, and the end of the last; empty: the period cannot be narrowed
	narrow string           // the address that from and to are added to
}

// Sizes of the drawing in its own units, which the browser scales.
const (
	chartWide   = 760
	chartHigh   = 220
	chartLeft   = 68 // room for the numbers of the axis
	chartBottom = 26
	chartTop    = 10
	chartRight  = 8
)

// mark is a point or bar of a chart, placed.
type mark struct {
	x, y, w, h int64
	title      string // what it is, on hovering and for those who cannot see it
	href       string
}

// line of the grid, with its number.
type gridLine struct {
	y    int64
	text string
}

// label under the axis.
type axisLabel struct {
	x    int64
	text string
}

// drawing is a chart with everything placed.
type drawing struct {
	marks     []mark
	grid      []gridLine
	labels    []axisLabel
	past, now string // paths of lines
	base      int64  // y of zero
}

// scaled is decimals over one power of ten, and that power.
func scaled(lists ...[]string) (all [][]*big.Int, scale int) {
	for _, list := range lists {
		for _, s := range list {
			_, fraction, _ := strings.Cut(s, ".")
			scale = max(scale, len(fraction))
		}
	}
	for _, list := range lists {
		numbers := make([]*big.Int, len(list))
		for i, s := range list {
			left, fraction, _ := strings.Cut(s, ".")
			if n, ok := new(big.Int).SetString(left+fraction+strings.Repeat("0", scale-len(fraction)), 10); ok {
				numbers[i] = n
			}
		}
		all = append(all, numbers)
	}
	return all, scale
}

// step is the distance of grid lines: 1, 2 or 5 times a power of ten, at most five of them up to most.
func step(most *big.Int) *big.Int {
	unit, five := big.NewInt(1), big.NewInt(5)
	for {
		for _, m := range []int64{1, 2, 5} {
			s := new(big.Int).Mul(unit, big.NewInt(m))
			if new(big.Int).Mul(s, five).Cmp(most) >= 0 {
				return s
			}
		}
		unit.Mul(unit, big.NewInt(10))
	}
}

// short prints n / 10^scale for an axis: 1,500 is 1.5 k.
func short(n *big.Int, scale int) string {
	sign, left, fraction := digits(n, scale)
	for _, u := range []struct {
		digits int
		name   string
	}{{15, " P"}, {12, " T"}, {9, " G"}, {6, " M"}, {3, " k"}} {
		if len(left) > u.digits {
			left, fraction = left[:len(left)-u.digits], strings.TrimRight(left[len(left)-u.digits:]+fraction, "0")
			return sign + decimal(left, fraction[:min(2, len(fraction))]) + u.name
		}
	}
	return sign + decimal(left, fraction)
}

// draw places the chart: bars, or lines where there are lines to compare.
func (c chart) draw() drawing {
	numbers, scale := scaled(c.values, c.past)
	now, past := numbers[0], numbers[1]
	for i, text := range c.values {
		if text == "" {
			now[i] = nil
		}
	}
	most, least := new(big.Int), new(big.Int)
	for _, list := range numbers {
		for _, n := range list {
			if n != nil && n.Cmp(most) > 0 {
				most = n
			}
			if n != nil && n.Cmp(least) < 0 {
				least = n
			}
		}
	}
	reach := new(big.Int).Sub(most, least)
	if reach.Sign() == 0 {
		reach.SetInt64(1)
		most = reach
	}
	high := int64(chartHigh - chartTop - chartBottom)
	at := func(n *big.Int) int64 { // the y of a number
		d := new(big.Int).Sub(most, n)
		return chartTop + d.Mul(d, big.NewInt(high)).Quo(d, reach).Int64()
	}
	d := drawing{base: at(new(big.Int))}
	s := step(reach)
	for n := new(big.Int).Mul(new(big.Int).Quo(least, s), s); n.Cmp(most) <= 0; n = new(big.Int).Add(n, s) {
		d.grid = append(d.grid, gridLine{at(n), short(n, scale)})
	}
	count := int64(max(len(c.labels), 1))
	left := func(i int) int64 { return chartLeft + int64(i)*(chartWide-chartLeft-chartRight)/count }
	every := (count*52)/(chartWide-chartLeft-chartRight) + 1
	for i, text := range c.labels {
		x, w := left(i), left(i+1)-left(i)
		if int64(i)%every == 0 {
			d.labels = append(d.labels, axisLabel{x + w/2, text})
		}
		if i >= len(now) || now[i] == nil {
			continue
		}
		y := at(now[i])
		if now[i].Sign() == 0 && !c.line {
			continue
		}
		m := mark{x: x + w/8, y: min(y, d.base), w: max(w-w/4, 1), h: max(y-d.base, d.base-y, 1), title: text + ": " + grouped(c.values[i])}
		if c.unit != "" {
			m.title += " " + c.unit
		}
		if i < len(c.hrefs) {
			m.href = c.hrefs[i]
		}
		d.marks = append(d.marks, m)
	}
	middle := func(i int) int64 { return (left(i) + left(i+1)) / 2 }
	d.now, d.past = path(now, middle, at), path(past, middle, at)
	return d
}

// path joins the points of a line; where a value is missing it has a hole.
func path(numbers []*big.Int, x func(i int) int64, y func(n *big.Int) int64) string {
	var b strings.Builder
	command := "M"
	for i, n := range numbers {
		if n == nil {
			command = "M"
			continue
		}
		b.WriteString(command + strconv.FormatInt(x(i), 10) + " " + strconv.FormatInt(y(n), 10))
		command = "L"
	}
	return b.String()
}

// says is the chart in words, for those who cannot see it.
func (c chart) says() string {
	if len(c.values) == 0 {
		return c.title + ": no values."
	}
	text := c.title + ": " + plural(len(c.values), "value")
	if len(c.labels) > 0 {
		text += " from " + c.labels[0] + " to " + c.labels[len(c.labels)-1]
	}
	return text + ". The same numbers are in the table."
}

// attributes of the picture: an image with a description, or, where bars are links, hidden from those who
// read aloud, because the table beside it has the same links.
func (c chart) attributes() templ.Attributes {
	if len(c.hrefs) > 0 {
		return templ.Attributes{"aria-hidden": "true"}
	}
	return templ.Attributes{"role": "img", "aria-label": c.says()}
}

// script is the chart for the script that draws it anew: the same texts, so that it says the same numbers.
func (c chart) script() string {
	one := struct {
		Title  string   `json:"title"`
		Unit   string   `json:"unit"`
		Line   bool     `json:"line"`
		Labels []string `json:"labels"`
		Names  []string `json:"names"`
		Values []string `json:"values"`
		Past   []string `json:"past,omitempty"`
		Now    string   `json:"now,omitempty"`
		Before string   `json:"before,omitempty"`
		Starts []int64  `json:"starts,omitempty"` // Unix seconds
		Narrow string   `json:"narrow,omitempty"`
	}{Title: c.title, Unit: c.unit, Line: c.line, Labels: c.labels, Names: c.names, Values: c.values, Past: c.past, Now: c.now, Before: c.before}
	if len(c.names) == 0 {
		one.Names = c.labels
	}
	if len(c.starts) == len(c.labels)+1 {
		one.Narrow = c.narrow
		for _, at := range c.starts {
			one.Starts = append(one.Starts, int64(at)/1000)
		}
	}
	b, _ := json.Marshal(one) // texts and numbers: never fails
	return string(b)
}

func asLine(c chart) chart { c.line = true; return c }
