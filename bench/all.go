package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// sustained is how long the load of the table lasts, in seconds.
const sustained = 60

// all runs everything and keeps the figures.
func all(ctx context.Context, o options, out io.Writer) error {
	o.record = true
	began := time.Now()
	type part struct {
		name string
		run  func(context.Context, options, io.Writer) error
	}
	var faults []error
	for _, p := range []part{{"load", load}, {"drain", drain}, {"dedup", dedup}, {"fill", fill}, {"store", store}, {"reports", reports}} {
		own := o
		own.eventsGiven = o.eventsGiven && p.name == "fill"
		if p.name == "load" {
			own.rate = 0
			if !o.timeGiven {
				own.seconds, own.fresh = sustained, sustained/2
			}
		}
		fmt.Fprintf(out, "\n%s %s\n", strings.ToUpper(p.name), strings.Repeat("─", 60))
		if err := p.run(ctx, own, out); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", p.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	fmt.Fprintf(out, "\neverything took %s\n", time.Since(began).Round(time.Second))
	return errors.Join(faults...)
}
