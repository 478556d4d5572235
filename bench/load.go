package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// tally is what became of the events that were sent.
type tally struct {
	accepted   int64           // answered 202, each request once
	duplicates int64           // of them, repeats of an event sent before
	ambiguous  int64           // sent without an answer, and then again: at most so many more duplicates
	refused    int64           // requests answered 429 or 503, and sent again
	acks       []time.Duration // first byte sent to 202, of every request
}

func (t *tally) add(u tally) {
	t.accepted += u.accepted
	t.duplicates += u.duplicates
	t.ambiguous += u.ambiguous
	t.refused += u.refused
	t.acks = append(t.acks, u.acks...)
}

// stored is how many events must be in the warehouse.
func (t *tally) stored() int64 { return t.accepted - t.duplicates }

// send posts for d over all connections, at most rate events a second if rate is not 0, and returns
// when every request that was begun is acknowledged.
func send(ctx context.Context, s *system, o options, bodies []*body, d time.Duration, rate int) (tally, error) {
	n := min(o.connections, len(bodies))
	tallies := make([]tally, n)
	g, ctx := errgroup.WithContext(ctx)
	until := time.Now().Add(d)
	for i := range n {
		var own []*body
		for j := i; j < len(bodies); j += n {
			own = append(own, bodies[j])
		}
		p := &producer{addr: s.host, bodies: own, until: until, rnd: chacha()}
		if rate > 0 {
			p.every = time.Duration(int64(time.Second) * batchEvents * int64(n) / int64(rate))
			p.next = time.Now().Add(p.every * time.Duration(i) / time.Duration(n))
		}
		g.Go(func() error {
			err := p.run(ctx)
			tallies[i] = p.tally
			return err
		})
	}
	err := g.Wait()
	var all tally
	for _, t := range tallies {
		all.add(t)
	}
	slices.Sort(all.acks)
	return all, err
}

func chacha() *rand.ChaCha8 {
	var key [32]byte
	for i := range 4 {
		binary.LittleEndian.PutUint64(key[8*i:], rand.Uint64())
	}
	return rand.NewChaCha8(key)
}

// producer is one connection. It speaks HTTP/1.1 by hand: net/http would cost the machine, which is also
// the one measured, ten times as much.
type producer struct {
	addr   string
	bodies []*body
	until  time.Time
	rnd    *rand.ChaCha8
	every  time.Duration // between requests; 0: at once
	next   time.Time
	tally  tally

	conn net.Conn
	in   *bufio.Reader
}

const (
	answerWait = 15 * time.Second
	retryPause = 50 * time.Millisecond
	retryMost  = 400
)

func (p *producer) run(ctx context.Context) error {
	defer p.hangUp()
	for i := 0; ; i++ {
		if p.every > 0 {
			if !pause(ctx, time.Until(p.next)) {
				return ctx.Err()
			}
			p.next = p.next.Add(p.every)
		}
		if ctx.Err() != nil || !time.Now().Before(p.until) {
			return ctx.Err()
		}
		b := p.bodies[i%len(p.bodies)]
		duplicates := b.renew(p.rnd, time.Now())
		if err := p.deliver(ctx, b.request); err != nil {
			return err
		}
		p.tally.accepted += batchEvents
		p.tally.duplicates += duplicates
	}
}

// deliver sends a request until it is acknowledged.
func (p *producer) deliver(ctx context.Context, request []byte) error {
	for range retryMost {
		began := time.Now()
		status, answer, err := p.post(ctx, request)
		switch {
		case err != nil:
			if errors.Is(err, errSent) {
				p.tally.ambiguous += batchEvents
			}
			p.hangUp()
		case status == http.StatusAccepted:
			p.tally.acks = append(p.tally.acks, time.Since(began))
			return nil
		case status == http.StatusServiceUnavailable:
			p.tally.ambiguous += batchEvents // "not confirmed" may have been stored
			p.tally.refused++
		case status == http.StatusTooManyRequests:
			p.tally.refused++
		default:
			return fmt.Errorf("ingest answered %d: %s", status, answer)
		}
		if !pause(ctx, retryPause) {
			return ctx.Err()
		}
	}
	return fmt.Errorf("ingest did not take a request in %d tries", retryMost)
}

// errSent marks a request that was on the wire when the connection broke.
var errSent = errors.New("no answer")

func (p *producer) post(ctx context.Context, request []byte) (status int, answer []byte, err error) {
	if p.conn == nil {
		if p.conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", p.addr); err != nil {
			p.conn = nil
			return 0, nil, err
		}
		p.in = bufio.NewReader(p.conn)
	}
	if err := p.conn.SetDeadline(time.Now().Add(answerWait)); err != nil {
		return 0, nil, err
	}
	if _, err := p.conn.Write(request); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errSent, err)
	}
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errSent, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errSent, err)
	}
	if resp.Close {
		p.hangUp()
	}
	return resp.StatusCode, answer, nil
}

func (p *producer) hangUp() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// quantile of a sorted list.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
