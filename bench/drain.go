package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/countinghouse/countinghouse/bench/peers"
)

const (
	backlogEvents = 10_000_000
	// Peers read JSON, ten times the bytes, and the usual loop is slow: so many are enough for a rate.
	backlogJSON = 3_000_000
	killEvents  = 3_000_000
	kills       = 3
	onePercent  = chunkEvents / 100
)

// backlog is a sample of the time now: what a pipeline finds that was down for a while.
func backlog(o options, number uint64, repeats int) *sample {
	now := time.Now().UnixMilli()
	return &sample{
		tenants: o.tenants, accounts: o.accounts, seed: seed + number, repeats: repeats,
		at: func(chunk int64) int64 { return now - 600_000 + chunk*chunkEvents/200 }, // as if 200,000 a second had come
	}
}

// drain empties a backlog by the product, and by the loops that others write, in one run.
func drain(ctx context.Context, o options, out io.Writer) (err error) {
	rec := newRecord(ctx, "drain")
	n := int64(backlogEvents)
	if o.eventsGiven {
		n = o.events
	}
	l, err := openLine(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	p := passes{line: l, o: o, out: out}
	small := min(n, backlogJSON) / chunkEvents * chunkEvents
	if err := p.json(ctx, small); err != nil {
		return err
	}
	if err := p.chunks(ctx, n/chunkEvents*chunkEvents); err != nil {
		return err
	}
	if err := p.kills(ctx, min(n, killEvents)/chunkEvents*chunkEvents); err != nil {
		return err
	}
	return rec.finish(o, p.figures(), out)
}

// passes are the ways a backlog was emptied.
type passes struct {
	*line
	o   options
	out io.Writer

	bare, usual, ofJSON, ofChunks drained
	killed                        time.Duration // from a kill to the first insert, at most
	firstInsert                   time.Duration
}

// json drains the same messages three times: the log keeps them.
func (p *passes) json(ctx context.Context, events int64) (err error) {
	s := backlog(p.o, 1, onePercent)
	chunks := events / chunkEvents
	fmt.Fprintf(p.out, "backlog: %d events as JSON, %d a message …\n", events, requestEvents)
	if err := p.publish(ctx, s, chunks, true); err != nil {
		return err
	}
	messages := int(events / requestEvents)
	if p.bare, err = p.peer(ctx, peers.Bare, messages, events); err != nil {
		return err
	}
	p.tell("bare loop, JSON", p.bare)
	if p.usual, err = p.peer(ctx, peers.Usual, messages, events); err != nil {
		return err
	}
	p.tell("usual loop, JSON", p.usual)
	if p.ofJSON, err = p.drain(ctx, events, s.repeated(chunks)); err != nil {
		return err
	}
	p.tell("aggregator, JSON", p.ofJSON)
	return nil
}

func (p *passes) chunks(ctx context.Context, events int64) (err error) {
	s := backlog(p.o, 2, onePercent)
	fmt.Fprintf(p.out, "backlog: %d events as chunks …\n", events)
	if err := p.publish(ctx, s, events/chunkEvents, false); err != nil {
		return err
	}
	p.profiles = p.o.profile
	defer func() { p.profiles = "" }()
	if p.ofChunks, err = p.drain(ctx, events, s.repeated(events/chunkEvents)); err != nil {
		return err
	}
	p.firstInsert = p.ofChunks.first
	p.tell("aggregator, chunks", p.ofChunks)
	if p.o.verbose {
		return p.statements(ctx, p.out)
	}
	return nil
}

// kills drains while the aggregator is killed now and then, and started again at once.
func (p *passes) kills(ctx context.Context, events int64) (err error) {
	s := backlog(p.o, 3, onePercent)
	fmt.Fprintf(p.out, "backlog: %d events, and %d times kill -9 …\n", events, kills)
	base, err := p.counted(ctx)
	if err != nil {
		return err
	}
	if err := p.publish(ctx, s, events/chunkEvents, false); err != nil {
		return err
	}
	if err := p.startAggregator(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stopAggregator()) }()
	for i := range kills {
		if err := p.awaitAccepted(ctx, base.accepted+events*int64(i+1)/(kills+2)); err != nil {
			return err
		}
		took, err := p.kill(ctx)
		if err != nil {
			return err
		}
		p.killed = max(p.killed, took)
		fmt.Fprintf(p.out, "  first insert %.2f s after kill -9\n", took.Seconds())
	}
	if err := p.awaitAccepted(ctx, base.accepted+events); err != nil {
		return err
	}
	now, err := p.counted(ctx)
	if err != nil {
		return err
	}
	repeats := s.repeated(events / chunkEvents)
	if now.stored-base.stored != events-repeats || now.duplicate-base.duplicate != repeats {
		return fmt.Errorf("NOT EXACT after %d kills: %d events with %d duplicates; stored %d, duplicate %d",
			kills, events, repeats, now.stored-base.stored, now.duplicate-base.duplicate)
	}
	rows, err := p.number(ctx, `SELECT toInt64(count()) FROM countinghouse.events`)
	if err == nil && rows != now.stored {
		err = fmt.Errorf("NOT EXACT after %d kills: %d rows in events, %d stored", kills, rows, now.stored)
	}
	return err
}

// kill ends the aggregator by SIGKILL, starts it again, and waits for its first insert.
func (l *line) kill(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	l.aggregator.Kill()
	base, err := l.idle(ctx)
	if err != nil {
		return 0, err
	}
	if err := l.startAggregator(ctx); err != nil {
		return 0, err
	}
	if _, err := l.awaitMore(ctx, base); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// idle waits until no insert runs and answers what is counted: what a killed aggregator had sent may still
// be stored, and is not the next one's.
func (s *system) idle(ctx context.Context) (ledger, error) {
	for {
		n, err := s.number(ctx, `SELECT toInt64(count()) FROM system.processes WHERE query_id LIKE 'agg-%'`)
		if err != nil {
			return ledger{}, err
		}
		if n == 0 {
			return s.counted(ctx)
		}
		if !pause(ctx, firstPoll) {
			return ledger{}, ctx.Err()
		}
	}
}

func (l *line) awaitAccepted(ctx context.Context, accepted int64) error {
	ctx, cancel := context.WithTimeout(ctx, drainWait)
	defer cancel()
	for {
		now, err := l.counted(ctx)
		if err != nil {
			return err
		}
		if now.accepted >= accepted {
			return nil
		}
		if !pause(ctx, firstPoll) {
			return fmt.Errorf("%d of %d events counted in %s", now.accepted, accepted, drainWait)
		}
	}
}

func (p *passes) tell(name string, d drained) {
	tellDrained(p.out, name, d)
}

func tellDrained(out io.Writer, name string, d drained) {
	fmt.Fprintf(out, "  %-20s %7.0f events/s, %5.2f CPU-s per million (NATS %.2f, ClickHouse %.2f), peak %d MiB\n",
		name, d.rate(), d.perMillion(), d.perMillion("nats"), d.perMillion("clickhouse"), d.peak>>20)
}

func (p *passes) figures() []figure {
	list := []figure{
		{"chunks_per_second", "aggregator, own chunks, events/s", p.ofChunks.rate(), "%.0f", atLeast(350_000)},
		{"chunks_of_bare", "… of the bare loop's rate", round(p.ofChunks.rate()/p.bare.rate(), 3), "%.2f", atLeast(0.65)},
		{"chunks_of_usual", "… of the usual loop's rate", round(p.ofChunks.rate()/p.usual.rate(), 3), "%.2f", atLeast(2.8)},
		{"chunks_cpu", "… CPU-s per million in all", p.ofChunks.perMillion(), "%.2f", atMost(3.0)},
		{"chunks_cpu_of_bare", "… CPU of the bare loop's", round(p.ofChunks.perMillion()/p.bare.perMillion(), 3), "%.2f", target{}},
		{"chunks_first_s", "… first insert after a start, s", round(p.firstInsert.Seconds(), 2), "%.2f", target{}},
		{"kill_first_s", "… first insert after kill -9, s, at most", round(p.killed.Seconds(), 2), "%.2f", atMost(3)},
		{"json_per_second", "aggregator, JSON, events/s", p.ofJSON.rate(), "%.0f", target{}},
		{"json_of_bare", "… of the bare loop's rate", round(p.ofJSON.rate()/p.bare.rate(), 3), "%.2f", target{}},
		{"json_of_usual", "… of the usual loop's rate", round(p.ofJSON.rate()/p.usual.rate(), 3), "%.2f", target{}},
		{"json_cpu", "… CPU-s per million in all", p.ofJSON.perMillion(), "%.2f", target{}},
		{"bare_per_second", "bare loop (ceiling), JSON, events/s", p.bare.rate(), "%.0f", target{}},
		{"bare_cpu", "… CPU-s per million in all", p.bare.perMillion(), "%.2f", target{}},
		{"usual_per_second", "usual loop (floor), JSON, events/s", p.usual.rate(), "%.0f", target{}},
		{"usual_cpu", "… CPU-s per million in all", p.usual.perMillion(), "%.2f", target{}},
		{"rss_mib_aggregator", "peak resident MiB, aggregator, chunks", float64(p.ofChunks.peak >> 20), "%.0f", memoryTarget(p.ofChunks.events + p.ofJSON.events)},
	}
	for _, part := range []string{"aggregator", "clickhouse", "nats"} {
		list = append(list, figure{"chunks_cpu_" + part, "CPU-s per million, own chunks, " + part, p.ofChunks.perMillion(part), "%.2f", target{}})
	}
	for i := range list {
		list[i].value = round(list[i].value, 3)
	}
	return list
}
