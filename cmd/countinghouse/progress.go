package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/importer"
)

// progress shows how far an import is: a bar on a terminal, else a line every few seconds.
type progress struct {
	w     io.Writer
	in    *importer.Input
	tty   bool
	begun time.Time
	last  time.Time
	drawn bool
}

const (
	barEvery  = 100 * time.Millisecond
	lineEvery = 5 * time.Second
	barWidth  = 24
)

func newProgress(w io.Writer, in *importer.Input) *progress {
	now := time.Now()
	return &progress{w: w, in: in, tty: terminal(w), begun: now, last: now}
}

func (p *progress) show(s importer.Summary) {
	every := lineEvery
	if p.tty {
		every = barEvery
	}
	now := time.Now()
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	rate := int64(float64(s.Accepted) / now.Sub(p.begun).Seconds())
	if !p.tty {
		fmt.Fprintf(p.w, "%s: line %d, %d events accepted, %d rejected, %d/s%s\n", s.File, s.Line, s.Accepted, s.Rejected, rate, p.percent(s))
		return
	}
	p.drawn = true
	bar := ""
	if p.in.Size > 0 {
		full := int(min(int64(barWidth), s.Bytes*barWidth/p.in.Size))
		bar = "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
	}
	fmt.Fprintf(p.w, "\r\033[K%s %s%s %d events, %d rejected, %d/s", s.File, bar, p.percent(s), s.Accepted, s.Rejected, rate)
}

func (p *progress) percent(s importer.Summary) string {
	if p.in.Size <= 0 {
		return ""
	}
	return fmt.Sprintf(" %d%%", min(100, s.Bytes*100/p.in.Size))
}

func (p *progress) say(format string, args ...any) {
	p.done()
	fmt.Fprintf(p.w, "countinghouse: "+format+"\n", args...)
}

// done leaves the line of the bar.
func (p *progress) done() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\033[K")
		p.drawn = false
	}
}
