package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Looking for duplicates is the aggregator's work and ClickHouse's, so it is measured where nothing else
// is: draining backlogs that are alike but for their duplicates, by turns, because the machine and the
// tables change in the course of a run.
const (
	dedupEvents = 2_000_000 // of a backlog
	dedupTurns  = 3         // of each kind
)

// kinds of backlogs, in the order of their turns.
const (
	noRepeats = iota
	someRepeats
	oneEvent
	dedupKinds
)

func dedup(ctx context.Context, o options, out io.Writer) (err error) {
	rec := newRecord(ctx, "dedup")
	n := int64(dedupEvents)
	if o.eventsGiven {
		n = o.events
	}
	chunks := n / chunkEvents
	l, err := openLine(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	names := [dedupKinds]string{"no duplicates", "1 % duplicates", "one event a tenant"}
	var found [dedupKinds][]drained
	for turn := range dedupTurns {
		for kind := range dedupKinds {
			s := backlog(o, uint64(10+turn*dedupKinds+kind), 0)
			switch kind {
			case someRepeats:
				s.repeats = onePercent
			case oneEvent:
				s.flood = true
			}
			if err := l.publish(ctx, s, chunks, false); err != nil {
				return err
			}
			// What the turn before left to be merged would be merged in this one, and paid by it.
			if err := l.merge(ctx); err != nil {
				return err
			}
			d, err := l.drain(ctx, chunks*chunkEvents, s.repeated(chunks))
			if err != nil {
				return fmt.Errorf("%s: %w", names[kind], err)
			}
			tellDrained(out, names[kind], d)
			found[kind] = append(found[kind], d)
		}
	}
	return rec.finish(o, dedupFigures(found), out)
}

func dedupFigures(found [dedupKinds][]drained) []figure {
	var rates, cpus [dedupKinds]float64
	for kind := range dedupKinds {
		rates[kind] = median(found[kind], func(d drained) float64 { return d.steady })
		cpus[kind] = median(found[kind], func(d drained) float64 { return d.perMillion() })
	}
	return []figure{
		{"clean_per_second", "no duplicates, events/s", round(rates[noRepeats], 0), "%.0f", target{}},
		{"clean_cpu", "… CPU-s per million in all", round(cpus[noRepeats], 3), "%.2f", target{}},
		{"one_percent_per_second", "1 % duplicates, events/s", round(rates[someRepeats], 0), "%.0f", target{}},
		{"one_percent_cost", "… throughput it costs, %", round((1-rates[someRepeats]/rates[noRepeats])*100, 1), "%.1f", atMost(10)},
		{"one_percent_cpu_cost", "… CPU it costs, %", round((cpus[someRepeats]/cpus[noRepeats]-1)*100, 1), "%.1f", target{}},
		{"flood_per_second", "flood of one id a tenant, events/s", round(rates[oneEvent], 0), "%.0f", target{}},
		{"flood_share", "… of the normal rate, %", round(rates[oneEvent]/rates[someRepeats]*100, 0), "%.0f", atLeast(50)},
		{"flood_cpu", "… CPU-s per million in all", round(cpus[oneEvent], 3), "%.2f", target{}},
	}
}

func median(list []drained, of func(drained) float64) float64 {
	values := make([]float64, len(list))
	for i, d := range list {
		values[i] = of(d)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
