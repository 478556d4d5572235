package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// load is the quick bench: load, freshness at half load, direct inserts, sizes.
func load(ctx context.Context, o options, out io.Writer) (err error) {
	res, rec := result{}, newRecord(ctx, "load")
	s, err := openStack(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	bodies, err := prepare(ctx, s, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "load: %d connections, %d tenants, batches of %d, %d s …\n", o.connections, o.tenants, batchEvents, o.seconds)
	if err := loadPhase(ctx, s, o, bodies, &res, out); err != nil {
		return err
	}
	if o.fresh > 0 {
		fmt.Fprintf(out, "freshness: %d s at half of the rate asked for, %d s at half of this one …\n", o.fresh, o.fresh)
		if err := freshPhases(ctx, s, o, bodies, &res); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "direct inserts of the same rows …")
	if res.DirectRowsPerSecond, err = direct(ctx, s, bodies); err != nil {
		return err
	}
	res.OfDirect = round(float64(res.EventsPerSecond)/float64(res.DirectRowsPerSecond), 2)
	fmt.Fprintln(out, "merging, to weigh the tables …")
	if err := s.weigh(ctx, &res, o.verbose, out); err != nil {
		return err
	}
	if err := s.verify(ctx, out); err != nil {
		return err
	}
	return rec.finish(o, res.figures(), out)
}

// loadPhase sends for o.seconds, waits until the ledger has counted everything, and takes the bill.
func loadPhase(ctx context.Context, s *system, o options, bodies []*body, res *result, out io.Writer) error {
	profiled := make(chan error, 1)
	go func() { profiled <- s.profile(ctx, o.profile, o.seconds, out) }()
	s.forgetPeaks()
	before, err := s.bill()
	if err != nil {
		return err
	}
	logBefore, err := s.logBytes(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	sent, err := send(ctx, s, o, bodies, time.Duration(o.seconds)*time.Second, o.rate)
	if err != nil {
		return err
	}
	res.SendSeconds = round(time.Since(began).Seconds(), 2)
	s.sent.add(sent)
	counted, err := s.awaitCounted(ctx)
	if err != nil {
		return err
	}
	after, err := s.bill()
	if err != nil {
		return err
	}
	logAfter, err := s.logBytes(ctx)
	if err != nil {
		return err
	}
	res.load(sent, counted.Sub(began), before, after)
	res.Identities = s.sent.stored() + s.baseline.stored
	res.LogBytesPerEvent = round(float64(logAfter-logBefore)/float64(sent.accepted), 1)
	fmt.Fprintf(out, "  %d events in %.1f s; the last ones were counted %.1f s later\n", sent.accepted, res.SendSeconds, res.Seconds-res.SendSeconds)
	return <-profiled
}
