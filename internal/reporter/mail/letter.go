package mail

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
)

// Letter is a report as its reader gets it. One that goes to several is rendered once, and once more for those whom an
// earlier try may have reached; it is not for concurrent use.
type Letter struct {
	ID      string // Message-ID
	To      string
	Subject string

	Title       string
	Description string
	Facts       []Fact // what it is, in order
	Totals      []Fact // sums of its columns
	Chart       *Chart // nil: none
	Link        string // where the file is; ""
	Note        string // about the file: attached, or why not
	Repeated    bool   // an earlier try may have arrived
	File        *File  // attached; nil: not

	picture  []byte            // drawn already
	rendered map[bool]rendered // by Repeated
}

// rendered is what all recipients get.
type rendered struct{ text, html string }

// Fact is a label and its value.
type Fact struct{ Label, Value string }

// File is an attachment.
type File struct {
	Name, MediaType string
	Content         []byte
}

//go:embed letter.html
var letterHTML string

const pictureName = "chart.png"

// letterPage is what the template sees.
type letterPage struct {
	*Letter
	Bars    []Bar
	Picture bool
}

// render is the letter as text, as HTML, and its picture, which the HTML shows.
func (l *Letter) render() (text, html string, picture []byte, err error) {
	if have, made := l.rendered[l.Repeated]; made {
		return have.text, have.html, l.picture, nil
	}
	page := letterPage{Letter: l}
	if l.Chart != nil && len(l.Chart.Bars) > 0 {
		if l.picture == nil {
			if l.picture, err = l.Chart.PNG(); err != nil {
				return "", "", nil, fmt.Errorf("chart: %w", err)
			}
		}
		page.Bars, page.Picture = l.Chart.Bars, true
	}
	parsed, err := template.New("letter").Parse(letterHTML)
	if err != nil {
		return "", "", nil, fmt.Errorf("letter: %w", err)
	}
	var b bytes.Buffer
	if err := parsed.Execute(&b, page); err != nil {
		return "", "", nil, fmt.Errorf("letter: %w", err)
	}
	if l.rendered == nil {
		l.rendered = map[bool]rendered{}
	}
	l.rendered[l.Repeated] = rendered{l.plain(), b.String()}
	return l.rendered[l.Repeated].text, l.rendered[l.Repeated].html, l.picture, nil
}

// plain is the letter without markup.
func (l *Letter) plain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", l.Title)
	if l.Description != "" {
		fmt.Fprintf(&b, "%s\n", l.Description)
	}
	width := 0
	for _, f := range append(append([]Fact{}, l.Facts...), l.Totals...) {
		width = max(width, len([]rune(f.Label)))
	}
	list := func(heading string, facts []Fact) {
		if len(facts) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s", heading)
		for _, f := range facts {
			fmt.Fprintf(&b, "%s  %s\n", f.Label+strings.Repeat(" ", width-len([]rune(f.Label))), f.Value)
		}
	}
	list("", l.Facts)
	list("Sums of the columns\n", l.Totals)
	if l.Chart != nil && len(l.Chart.Bars) > 0 {
		fmt.Fprintf(&b, "\n%s\n", l.Chart.Title)
		for i, bar := range l.Chart.Bars {
			fmt.Fprintf(&b, "%2d  %s: %s\n", i+1, bar.Label, bar.Value)
		}
	}
	fmt.Fprintf(&b, "\n%s\n", l.Note)
	if l.Link != "" {
		fmt.Fprintf(&b, "%s\n", l.Link)
	}
	if l.Repeated {
		b.WriteString("\nThis mail may have reached you before: it is the same report.\n")
	}
	return b.String()
}
