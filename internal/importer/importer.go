// Package importer turns files people already have into usage events and sends them.
//
// Guarantee: the events of a file are a pure function of the file's bytes, its base name and the
// mapping. Ids come from file and line, never from a clock or a counter of the run, so importing a file
// again, or going on after a kill, can only produce duplicates, which the log's identity rule
// (ADR 0003) counts once. Quantities stay decimal text from the file to the wire; no float
// touches them. A line that cannot be mapped is reported with its number and stops nothing else.
//
// It never guesses: a value that is missing, a civil time that a clock change skipped or doubled, a
// counter that went backwards and a misspelled column are faults unless the mapping says what to do.
//
// Memory is bounded by the batches in flight, whatever the size of the file.
package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/countinghouse/countinghouse/internal/client"
)

// Sender delivers one batch: a JSON array of n CloudEvents. It returns only when ingest has answered
// for every event of it, whatever it takes, or with an error that no retry would mend.
type Sender interface {
	SendEvents(ctx context.Context, batch []byte) (client.Receipt, error)
}

// Limits of one batch; ingest refuses more than 1,000 events or 5 MiB (docs/reference/configuration.md).
const (
	batchEventsMax = 1000
	batchBytesMax  = 4 << 20
	faultsKept     = 1000 // line numbers listed in a summary; beyond, only counted
)

// Options of one run.
type Options struct {
	Batch    int    // events a request, 1..1000; 0 means 500
	InFlight int    // requests under way at once; 0 means 4
	From     int    // lines up to and including this one are read but not sent: acknowledged earlier
	Name     string // {file} of the mapping: the base name without compression suffix

	// Progress, when set, is called from one goroutine after every acknowledged batch.
	Progress func(Summary)
}

// Fault is a line that did not become accepted events, and why.
type Fault struct {
	Line   int    `json:"line"`
	ID     string `json:"id,omitempty"` // of the refused event, where there is one
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (f *Fault) Error() string { return fmt.Sprintf("line %d: %s: %s", f.Line, f.Code, f.Detail) }

// Summary is what one run did.
type Summary struct {
	File     string  `json:"file"`
	Read     int     `json:"read"`     // records read
	Skipped  int     `json:"skipped"`  // records before Options.From
	Sent     int     `json:"sent"`     // events sent
	Accepted int     `json:"accepted"` // events that are in the log; duplicates are among them
	Rejected int     `json:"rejected"` // events refused, plus lines that could not be mapped
	Line     int     `json:"line"`     // every line up to here is acknowledged or rejected
	Bytes    int64   `json:"-"`        // of the file as stored, for progress
	Faults   []Fault `json:"faults,omitempty"`
}

func (s *Summary) fault(f Fault) {
	s.Rejected++
	if len(s.Faults) < faultsKept {
		s.Faults = append(s.Faults, f)
	}
}

// batch is one request: events of consecutive records.
type batch struct {
	n      int // position in the file, from 0
	body   []byte
	events []origin // per event: its line and id, to name rejected ones
	faults []Fault  // records of this stretch that could not be mapped
	read   int
	skip   int
	line   int // last line complete with this batch
	bytes  int64
}

type origin struct {
	line int
	id   string
}

// Run reads one file, maps it and sends it. The summary is valid even when the error is not nil: it
// says how far the file is acknowledged.
func Run(ctx context.Context, in *Input, m *Mapping, to Sender, opt Options) (Summary, error) {
	if opt.Batch <= 0 {
		opt.Batch = 500
	}
	opt.Batch = min(opt.Batch, batchEventsMax)
	if opt.InFlight <= 0 {
		opt.InFlight = 4
	}
	if opt.Name == "" {
		opt.Name = in.Name
	}
	sum := Summary{File: in.Name, Line: opt.From}
	src, err := m.open(in.r)
	if err != nil {
		return sum, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	work := make(chan *batch, opt.InFlight)
	done := make(chan answer, opt.InFlight)
	go func() {
		defer close(work)
		if err := cut(ctx, in, src, m, opt, work); err != nil {
			stop(err)
		}
	}()
	var senders sync.WaitGroup
	for range opt.InFlight {
		senders.Go(func() { send(ctx, to, work, done, stop) })
	}
	go func() { senders.Wait(); close(done) }()
	collect(done, &sum, opt.Progress)
	if err := context.Cause(ctx); err != nil {
		return sum, err
	}
	return sum, nil
}

type answer struct {
	b *batch
	r client.Receipt
}

func send(ctx context.Context, to Sender, work <-chan *batch, done chan<- answer, stop context.CancelCauseFunc) {
	for b := range work {
		a := answer{b: b}
		if len(b.events) > 0 {
			r, err := to.SendEvents(ctx, b.body)
			if err != nil {
				stop(err)
				continue // drain: the reader must not block on a full channel
			}
			a.r = r
		}
		b.body = nil
		done <- a
	}
}

// collect folds answers into the summary in file order, so Line never passes an unanswered batch.
func collect(done <-chan answer, sum *Summary, progress func(Summary)) {
	next, early := 0, map[int]answer{}
	for a := range done {
		early[a.b.n] = a
		for {
			a, ok := early[next]
			if !ok {
				break
			}
			delete(early, next)
			next++
			sum.add(a)
			if progress != nil {
				progress(*sum)
			}
		}
	}
}

func (s *Summary) add(a answer) {
	s.Read += a.b.read
	s.Skipped += a.b.skip
	s.Sent += len(a.b.events)
	s.Accepted += a.r.Accepted
	s.Line = max(s.Line, a.b.line)
	s.Bytes = a.b.bytes
	faults := a.b.faults
	refused := map[int]bool{}
	for _, e := range a.r.Errors {
		if e.Index == nil || *e.Index < 0 || *e.Index >= len(a.b.events) || refused[*e.Index] {
			continue
		}
		refused[*e.Index] = true
		o := a.b.events[*e.Index]
		faults = append(faults, Fault{Line: o.line, ID: o.id, Code: e.Code, Detail: strings.TrimSpace(e.Pointer + " " + e.Detail)})
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return a.Line - b.Line })
	for _, f := range faults {
		s.fault(f)
	}
	if unnamed := len(a.b.events) - a.r.Accepted - len(refused); unnamed > 0 {
		s.Rejected += unnamed // ingest lists only so many faults
	}
}

// cut reads records and packs their events into batches. A record's events go into one batch unless
// they alone exceed it.
func cut(ctx context.Context, in *Input, src reader, m *Mapping, opt Options, work chan<- *batch) error {
	mk := m.maker(opt.Name)
	b := &batch{}
	flush := func() error {
		if b.read == 0 && len(b.events) == 0 {
			return nil
		}
		if len(b.body) > 0 {
			b.body = append(b.body, ']')
		}
		b.bytes = in.Offset()
		select {
		case work <- b:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		b = &batch{n: b.n + 1}
		return nil
	}
	var events []made
	for {
		rec, err := src.next()
		if errors.Is(err, io.EOF) {
			return flush()
		}
		var bad *Fault
		if err == nil {
			events, bad = mk.events(events[:0], rec)
		} else if !errors.As(err, &bad) {
			return fmt.Errorf("read %s: %w", in.Name, err)
		}
		line := rec.line
		if bad != nil {
			line = bad.Line
		}
		sending := line > opt.From
		if sending && len(b.events)+len(events) > opt.Batch && len(b.events) > 0 {
			if err := flush(); err != nil {
				return err
			}
		}
		b.read++
		switch {
		case !sending:
			b.skip++
		case bad != nil:
			b.faults = append(b.faults, *bad)
		default:
			for _, e := range events {
				if len(b.events) >= batchEventsMax || len(b.body)+len(e.doc) > batchBytesMax {
					if err := flush(); err != nil {
						return err
					}
				}
				b.append(line, e)
			}
		}
		b.line = line
		if b.read >= 100_000 || len(b.faults) >= batchEventsMax { // long skips and broken files show progress too
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

func (b *batch) append(line int, e made) {
	if len(b.body) == 0 {
		b.body = append(b.body, '[')
	} else {
		b.body = append(b.body, ',')
	}
	b.body = append(b.body, e.doc...)
	b.events = append(b.events, origin{line: line, id: e.id})
}

// Preview returns the first n events of a file, and the faults met on the way.
func Preview(in *Input, m *Mapping, name string, n int) (docs [][]byte, faults []Fault, err error) {
	src, err := m.open(in.r)
	if err != nil {
		return nil, nil, err
	}
	if name == "" {
		name = in.Name
	}
	mk := m.maker(name)
	var events []made
	for len(docs) < n && len(faults) < faultsKept {
		rec, err := src.next()
		if errors.Is(err, io.EOF) {
			break
		}
		var bad *Fault
		if err == nil {
			events, bad = mk.events(events[:0], rec)
		} else if !errors.As(err, &bad) {
			return docs, faults, fmt.Errorf("read %s: %w", in.Name, err)
		}
		if bad != nil {
			faults = append(faults, *bad)
			continue
		}
		for _, e := range events {
			if len(docs) < n {
				docs = append(docs, bytes.Clone(e.doc))
			}
		}
	}
	return docs, faults, nil
}
