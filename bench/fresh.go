package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// A probe is an event of a tenant of its own, sent in a request of its own. The log keeps a tenant's
// order, so when n probes are counted they are the first n.
const (
	probeTenant = "bench-probe"
	probeEvery  = 100 * time.Millisecond
	// The question costs the view's planning, 40 ms of CPU. Asked without a pause it takes a quarter of the
	// two cores, and what it measures waits for it; a pause of 100 ms makes each answer late by half of that.
	probePoll = 100 * time.Millisecond
)

// freshPhases measure freshness at half of the rate that is asked for, and at half of the one just measured.
func freshPhases(ctx context.Context, s *system, o options, bodies []*body, res *result) error {
	fresh, _, err := freshPhase(ctx, s, o, bodies, min(res.EventsPerSecond, askedRate)/2)
	if err != nil {
		return err
	}
	res.FreshnessAskedMS = fresh
	res.FreshnessMS, res.HalfLoadAckMS, err = freshPhase(ctx, s, o, bodies, res.EventsPerSecond/2)
	return err
}

// freshPhase loads at a rate, and asks the view that analysts read when each probe has become visible. It begins when
// the merges of what was before it are done, as those of full load are after half a minute.
func freshPhase(ctx context.Context, s *system, o options, bodies []*body, rate int) (fresh, acks quantiles, err error) {
	if err := s.quiet(ctx, quietWait); err != nil {
		return fresh, acks, err
	}
	before, err := s.probesSeen(ctx)
	if err != nil {
		return fresh, acks, err
	}
	p := &probes{system: s, acked: make(chan time.Time, 1024), seen: before}
	g, gctx := errgroup.WithContext(ctx)
	done := make(chan struct{})
	var sent tally
	g.Go(func() error {
		defer close(done)
		var err error
		sent, err = send(gctx, s, o, bodies, time.Duration(o.fresh)*time.Second, max(rate, batchEvents))
		return err
	})
	g.Go(func() error { return p.send(gctx, done) })
	g.Go(func() error { return p.watch(gctx) })
	if err := g.Wait(); err != nil {
		return fresh, acks, err
	}
	sent.accepted += int64(len(p.waits))
	slices.Sort(p.waits)
	s.sent.add(sent)
	_, err = s.awaitCounted(ctx)
	return spread(p.waits), spread(sent.acks), err
}

type probes struct {
	*system
	acked chan time.Time // when each probe was answered 202, in order
	seen  int64          // counted so far
	waits []time.Duration
}

// send sends probes until done is closed.
func (p *probes) send(ctx context.Context, done <-chan struct{}) error {
	defer close(p.acked)
	conn := &producer{addr: p.host}
	defer conn.hangUp()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return nil
		case <-tick.C:
		}
		status, answer, err := conn.post(ctx, probe(p.host, p.probeKey))
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		if status != http.StatusAccepted {
			return fmt.Errorf("probe: ingest answered %d: %s", status, answer)
		}
		p.acked <- time.Now()
	}
}

func probe(host, token string) []byte {
	text := fmt.Sprintf(`{"specversion":"1.0","id":"%s","source":"/bench","type":"usage.metered","subject":"probe","time":"%s","data":{"meter":"bench_probe","quantity":"1"}}`,
		uuid.NewString(), time.Now().UTC().Format(timeLayout))
	return fmt.Appendf(nil, "POST /api/v1/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/cloudevents+json\r\nContent-Length: %d\r\n\r\n%s", host, token, len(text), text)
}

// watch notes how long after its 202 each probe is in the view.
func (p *probes) watch(ctx context.Context) error {
	visible := p.seen
	for at := range p.acked {
		p.seen++
		for visible < p.seen {
			var err error
			if visible, err = p.probesSeen(ctx); err != nil {
				return err
			}
			if visible < p.seen && !pause(ctx, probePoll) {
				return ctx.Err()
			}
		}
		p.waits = append(p.waits, time.Since(at))
	}
	return nil
}

func (s *system) probesSeen(ctx context.Context) (int64, error) {
	return s.number(ctx, `SELECT sum(events) FROM usage_api.usage_hourly_v1 WHERE tenant = '`+probeTenant+`' AND meter = 'bench_probe'`)
}
