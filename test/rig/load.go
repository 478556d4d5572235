package rig

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/test/oracle"
)

// Load is producers that send until they are stopped: over HTTP and to NATS directly, with duplicates,
// conflicts, voids before and after their targets, usage that spans hours, and poison. A request that was
// not acknowledged is sent again, the same bytes with the same ids, for ever; a few are given up after
// one try, and the oracle does not know what became of them.
type Load struct {
	rig    *Rig
	oracle *oracle.Oracle
	number int // of this load among the rig's
	ctx    context.Context
	cancel context.CancelFunc
	http   *http.Client
	nc     *nats.Conn
	js     jetstream.JetStream

	think atomic.Int64 // nanoseconds between two requests of a producer, on average
	tires atomic.Bool

	stopping chan struct{}
	once     sync.Once
	running  sync.WaitGroup
	requests atomic.Int64 // acknowledged
	retries  atomic.Int64
	failed   chan error // the first answer that no retry can change
	tally    tally
	memory   memory
	took     latencies
}

const (
	producersHTTP = 4
	producersNATS = 1
	// Producers is how many one load has.
	Producers   = producersHTTP + producersNATS
	attemptWait = 8 * time.Second // ingest answers within 5
	natsWait    = 2 * time.Second
	retryPause  = 25 * time.Millisecond
	// A pause between requests keeps the load at a level at which recovery, not throughput, is measured.
	thinkTime = 20 * time.Millisecond
	// After so many requests a load that tires thinks twice as long.
	tiring = 200
)

// StartLoad starts producers whose every decision follows from seed. A later load of the same rig goes on
// with the oracle of the first, and with sources of its own.
func (r *Rig) StartLoad(seed uint64) *Load {
	r.t.Helper()
	return r.startLoad(seed, thinkTime, r.opts.Tenants)
}

// StartNoise starts producers of one tenant who take no pause, and come again at once when they are refused.
func (r *Rig) StartNoise(seed uint64, tenant string) *Load {
	r.t.Helper()
	if r.tokens[tenant] == "" {
		r.tokens[tenant] = r.Key(tenant, "events:write")
	}
	return r.startLoad(seed, 0, []string{tenant})
}

func (r *Rig) startLoad(seed uint64, think time.Duration, tenants []string) *Load {
	r.t.Helper()
	if r.oracle == nil {
		r.oracle = oracle.New()
	}
	r.loads++
	l := &Load{rig: r, oracle: r.oracle, number: r.loads, stopping: make(chan struct{}), failed: make(chan error, 1)}
	l.Think(think)
	l.ctx, l.cancel = context.WithCancel(r.ctx)
	l.http = &http.Client{Timeout: attemptWait, Transport: &http.Transport{MaxIdleConnsPerHost: producersHTTP}}
	var err error
	l.nc, err = nats.Connect(r.NATSURL(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		r.t.Fatalf("load: %v", err)
	}
	if l.js, err = jetstream.New(l.nc); err != nil {
		r.t.Fatalf("load: %v", err)
	}
	for i := range Producers {
		p := newProducer(l, i, seed, tenants)
		l.running.Go(func() { p.run(i < producersHTTP) })
	}
	r.t.Cleanup(func() {
		l.cancel()
		_ = l.Stop() // whoever asserts has called it and looked
		l.nc.Close()
	})
	return l
}

// Think changes how long a producer waits between two requests, on average.
func (l *Load) Think(pause time.Duration) { l.think.Store(int64(pause)) }

// Tire lets the pauses grow with what has been acknowledged. Where a test goes through all rows there are, a slow
// machine, on which it lasts longer, has hardly more of them then, and not slower still for it.
func (l *Load) Tire() { l.tires.Store(true) }

// rest is a pause between two requests.
func (l *Load) rest(rnd *rand.Rand) time.Duration {
	think := l.think.Load()
	if l.tires.Load() {
		think += think * l.requests.Load() / tiring
	}
	return time.Duration(rnd.Int64N(1 + 2*think))
}

// Oracle is who was told what.
func (l *Load) Oracle() *oracle.Oracle { return l.oracle }

// Requests is how many requests have been acknowledged.
func (l *Load) Requests() int64 { return l.requests.Load() }

// Retries is how many attempts were not.
func (l *Load) Retries() int64 { return l.retries.Load() }

// Stop ends the producers once each has its last acknowledgement, and answers what no retry could change.
func (l *Load) Stop() error {
	l.once.Do(func() { close(l.stopping) })
	l.running.Wait()
	l.http.CloseIdleConnections()
	select {
	case err := <-l.failed:
		return err
	default:
		return nil
	}
}

func (l *Load) fail(err error) {
	select {
	case l.failed <- err:
	default: // one is enough
	}
}

// pause waits, or answers false when the load ends.
func (l *Load) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-l.ctx.Done():
		return false
	}
}

// request is a body and what is in it.
type request struct {
	tenant string
	items  []oracle.Item
	body   []byte
	give   bool // up after one try
}

func (p *producer) run(viaHTTP bool) {
	l := p.load
	for {
		select {
		case <-l.stopping:
			return
		case <-l.ctx.Done():
			return
		default:
		}
		if !p.deliver(viaHTTP, p.request(viaHTTP)) || !l.pause(l.rest(p.rnd)) {
			return
		}
	}
}

// deliver sends a request until it is acknowledged.
func (p *producer) deliver(viaHTTP bool, q *request) bool {
	l := p.load
	id := uuid.NewString()
	for {
		l.oracle.Sending(q.items)
		var acked bool
		var err error
		if viaHTTP {
			acked, err = p.post(q)
		} else {
			acked, err = p.publish(q, id)
		}
		switch {
		case err != nil:
			l.fail(err)
			return false
		case acked:
			l.oracle.Acked(q.items)
			l.requests.Add(1)
			p.learn(q)
			if l.rig.opts.Remember {
				l.memory.keep(p, viaHTTP, q)
			}
			return true
		case q.give:
			return true
		}
		l.retries.Add(1)
		if !l.pause(retryPause) {
			return false
		}
	}
}

// post sends over HTTP. Not acknowledged is no error: the events may be stored or not.
func (p *producer) post(q *request) (acked bool, err error) {
	l := p.load
	req, err := http.NewRequestWithContext(l.ctx, http.MethodPost, l.rig.URL(), bytes.NewReader(q.body))
	if err != nil {
		return false, err
	}
	req.Header = http.Header{"Content-Type": {"application/cloudevents-batch+json"}, "Authorization": {"Bearer " + p.token}}
	begun := time.Now()
	res, err := l.http.Do(req)
	if err != nil {
		l.tally.answered(begun, 0, nil)
		return false, nil //nolint:nilerr // no answer is what this is about
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	l.tally.answered(begun, res.StatusCode, answer)
	switch {
	case res.StatusCode == http.StatusAccepted:
		l.took.add(time.Since(begun))
		return err == nil, nil
	case res.StatusCode >= 500, res.StatusCode == http.StatusTooManyRequests:
		return false, nil
	}
	return false, fmt.Errorf("ingest answered %s to events that are valid: %s", res.Status, answer)
}

// publish sends to NATS, as a producer without ingest does.
func (p *producer) publish(q *request, id string) (acked bool, err error) {
	ctx, cancel := context.WithTimeout(p.load.ctx, natsWait)
	defer cancel()
	msg := &nats.Msg{Subject: "usage.in." + q.tenant + ".events", Data: q.body, Header: nats.Header{}}
	msg.Header.Set("Content-Type", "application/cloudevents-batch+json")
	msg.Header.Set(jetstream.MsgIDHeader, id)
	_, err = p.load.js.PublishMsg(ctx, msg)
	return err == nil, nil //nolint:nilerr // no PubAck: unknown, sent again
}

// newProducer makes producer i of a load; some share a tenant, none shares ids.
func newProducer(l *Load, i int, seed uint64, tenants []string) *producer {
	return &producer{
		load: l, voids: !l.rig.opts.NoVoids, rnd: rand.New(rand.NewPCG(seed, uint64(l.number<<8|i))), tenant: tenants[i%len(tenants)],
		token:  l.rig.Token(tenants[i%len(tenants)]),
		source: fmt.Sprintf("/rig/%d/%d", l.number, i), hour: time.Now().Add(-l.rig.opts.Ago).UTC().Truncate(time.Hour).UnixMilli(),
	}
}
