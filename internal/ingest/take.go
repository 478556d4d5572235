package ingest

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// take is the whole road of a request: who, how much, what, and into the log.
func (s *front) take(w http.ResponseWriter, r *http.Request, correlation string) (outcome, *problem.Problem) {
	now, h := s.now(), w.Header()
	who, refusal := s.authenticate(h, r, now)
	if refusal != nil {
		return outcome{}, refusal
	}
	opts, err := optionsOf(r)
	if err != nil {
		return outcome{}, refuse(codeParameter, err.Error())
	}
	if opts.replay != (eventlog.Position{}) && !who.replay {
		return outcome{}, refuse(codeScope, "the key lacks the scope "+scopeReplay)
	}
	t := s.tenants.get(who.tenant)
	asked := time.Now()
	leave, refusal := s.enter(h, t, now)
	if refusal != nil {
		return outcome{}, refusal
	}
	defer leave()
	opts.wait = s.cfg.Commit.Wait - time.Since(asked) // who waited for the log before waits the less for it after

	out := outcome{CorrelationID: correlation}
	ticket, deadline, refusal := s.pack(w, r, t, who, opts, now, &out)
	if refusal != nil || ticket == nil {
		return out, refusal
	}
	if refusal := s.await(h, ticket, deadline, out.Accepted); refusal != nil {
		return outcome{}, refusal
	}
	return out, nil
}

// pack is the part of the road where a request has a body: when it returns, the events that are to be
// stored are bytes of chunks, and body and events are gone. No ticket: there is nothing to store.
func (s *front) pack(w http.ResponseWriter, r *http.Request, t *tenant, who caller, opts options, now time.Time, out *outcome) (*ticket, time.Time, *problem.Problem) {
	none, h := time.Time{}, w.Header()
	sc := s.scratches.get()
	defer s.scratches.put(sc, &t.memory)
	if refusal := s.parse(w, r, sc, t); refusal != nil {
		return nil, none, refusal
	}
	stamp{
		tenant: who.tenant, backfill: who.backfill, correlation: out.CorrelationID, traceparent: traceOf(r.Header),
		window: s.window(who), now: now,
	}.apply(sc)
	out.Accepted = len(sc.events)
	if len(sc.faults) > 0 {
		if refusal := s.sift(sc, opts.partial, out); refusal != nil {
			return nil, none, refusal
		}
	}
	if out.Accepted == 0 {
		return nil, none, nil
	}
	if wait, ok := t.allow(now, out.Accepted); !ok {
		t.rateHeaders(h, now)
		retryAfter(h, wait)
		s.count("throttled", out.Accepted)
		return nil, none, refuse(codeRate, fmt.Sprintf("tenant %s may send %d events a second", who.tenant, s.cfg.Limit.RateEvents))
	}
	t.rateHeaders(h, now)
	deadline := time.Now().Add(opts.wait)
	key := laneKey{tenant: who.tenant, backfill: who.backfill, replay: opts.replay}
	ticket, err := s.commit.submit(r.Context(), key, &t.memory, sc.events, deadline)
	if err != nil {
		return nil, none, s.unstored(h, err, out.Accepted)
	}
	return ticket, deadline, nil
}

func (s *front) count(result string, n int) {
	s.metrics.Events.WithLabelValues(result).Add(float64(n))
}

// options are the query parameters.
type options struct {
	partial bool              // take the good events, list the others
	replay  eventlog.Position // the dead letter that is sent again
	wait    time.Duration     // for the log, at most
}

func optionsOf(r *http.Request) (options, error) {
	var o options
	if r.URL.RawQuery == "" {
		return o, nil
	}
	for name, values := range r.URL.Query() {
		if len(values) != 1 {
			return o, fmt.Errorf("%.40s is given more than once", name)
		}
		var err error
		switch name {
		case "partial":
			o.partial, err = boolOf(values[0])
		case "replay_of":
			o.replay, err = eventlog.ParsePosition(values[0])
		default:
			return o, fmt.Errorf("unknown query parameter %.40q; there are partial and replay_of", name)
		}
		if err != nil {
			return o, fmt.Errorf("%s: %w", name, err)
		}
	}
	return o, nil
}

func boolOf(s string) (bool, error) {
	switch s {
	case "true", "1", "":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, errors.New("want true or false")
}

func traceOf(h http.Header) string {
	if v := h.Get("Traceparent"); isTraceParent(v) {
		return v
	}
	return ""
}

func (s *front) window(who caller) usage.Window {
	w := usage.Window{Past: s.cfg.Limit.Past, Future: s.cfg.Limit.Future}
	if who.backfill {
		w.Past = 0
	}
	return w
}

// enter takes the request in, or turns it away before a byte of its body is read.
func (s *front) enter(h http.Header, t *tenant, now time.Time) (leave func(), refusal *problem.Problem) {
	if err := s.settled(); err != nil {
		retryAfter(h, time.Second)
		if errors.Is(err, errUnsafe) {
			return nil, refuse(codeUnsafe, "the log could lose events in a power cut; its operator must set it up")
		}
		return nil, refuse(codeLog, "the log cannot be reached; nothing was stored, retry")
	}
	if t.limiter != nil && t.limiter.TokensAt(now) < 1 {
		t.rateHeaders(h, now)
		retryAfter(h, time.Second)
		return nil, refuse(codeRate, fmt.Sprintf("the tenant may send %d events a second", s.cfg.Limit.RateEvents))
	}
	all, own := s.requests.Add(1), t.requests.Add(1)
	leave = func() {
		s.requests.Add(-1)
		t.requests.Add(-1)
	}
	if all > int64(s.cfg.Limit.Requests) || own > int64(s.cfg.Limit.TenantRequests) {
		leave()
		retryAfter(h, time.Second)
		return nil, refuse(codeOverloaded, "too many requests are being served; nothing was stored, retry")
	}
	return leave, nil
}

// Credentials that are renewed and a NATS server that is restarted end the connection, which is back within a
// second: requests that come meanwhile wait so long, and those that come later are refused at once.
const reconnectGrace = 2 * time.Second

// settled answers nil when the log can be reached, now or in a moment.
func (s *front) settled() error {
	for {
		err := s.reachable()
		if err == nil {
			if s.unreached.Load() != nil {
				s.unreached.Store(nil)
			}
			return nil
		}
		now := time.Now()
		s.unreached.CompareAndSwap(nil, &now)
		if since := s.unreached.Load(); errors.Is(err, errUnsafe) || since != nil && now.Sub(*since) > reconnectGrace {
			return err
		}
		<-time.After(trustAgain)
	}
}

// parse reads the body and its events into sc.
func (s *front) parse(w http.ResponseWriter, r *http.Request, sc *scratch, t *tenant) *problem.Problem {
	l, h := &s.cfg.Limit, w.Header()
	f, err := formOf(r.Header)
	if err == nil {
		err = sc.read(w, r, l.BodyBytes, &t.memory)
	}
	if err == nil {
		faultpoint.Hit("ingest/body-read")
		s.scratches.sit(sc)
		err = sc.decode(r.Header, f, l.Events)
	}
	switch {
	case err == nil:
		faultpoint.Hit("ingest/decoded")
		return nil
	case errors.Is(err, errMediaType):
		h.Set("Accept-Post", acceptPost)
		return refuse(codeMediaType, err.Error()+"; want one of "+acceptPost+", or ce-* headers")
	case errors.Is(err, errEncoding):
		h.Set("Accept-Encoding", "gzip, zstd, identity")
		return refuse(codeEncoding, err.Error()+"; want gzip, zstd or identity")
	case errors.Is(err, errBodySize):
		return refuse(codeBodySize, fmt.Sprintf("the body is larger than %d bytes, compressed or not", l.BodyBytes))
	case errors.Is(err, errEventCount):
		return refuse(codeEventCount, fmt.Sprintf("more than %d events in one request", l.Events))
	case errors.Is(err, errBadEncoding):
		return refuse(codeBadEncoding, "the body is not what its Content-Encoding says, or it is cut short")
	case errors.Is(err, errOverloaded):
		retryAfter(h, time.Second)
		return refuse(codeOverloaded, "too much waits for the log; nothing was stored, retry")
	case errors.Is(err, errShape):
		return refuse(codeShape, err.Error())
	case errors.Is(err, usage.ErrSyntax): // only decode says so: there is a desk
		n := len(sc.events)
		s.count("refused", max(1, n))
		return refuse(codeBadJSON, err.Error()).With(problem.Item{Index: &n, Code: codeBadJSON, Detail: err.Error()})
	}
	return refuse(codeSlowBody, "the body did not arrive completely")
}

// sift decides what faults mean for the request: none of it is taken, or with partial the rest of it.
func (s *front) sift(sc *scratch, partial bool, out *outcome) *problem.Problem {
	items := make([]problem.Item, len(sc.faults))
	faulty := make(map[int]bool, len(sc.faults))
	foreign := false
	for i, f := range sc.faults {
		items[i] = problem.Item{Index: new(f.Index), Pointer: f.Pointer, Code: f.Code, Detail: f.Detail}
		faulty[f.Index] = true
		foreign = foreign || f.Code == codeTenant
	}
	s.count("refused", len(faulty))
	if partial && len(faulty) < len(sc.events) {
		kept := sc.events[:0]
		for i := range sc.events {
			if !faulty[i] {
				kept = append(kept, sc.events[i])
			}
		}
		clear(sc.events[len(kept):]) // pins no strings in the pool
		sc.events = kept
		out.Accepted, out.Rejected, out.Errors = len(kept), len(faulty), items
		return nil
	}
	if foreign && !partial || foreign && len(faulty) == len(sc.events) && onlyForeign(sc.faults) {
		return refuse(codeTenant, "an event names another tenant than the key belongs to; nothing was stored").With(items...)
	}
	return refuse(codeEvents, fmt.Sprintf("%d of %d events are invalid; nothing was stored", len(faulty), len(sc.events))).With(items...)
}

func onlyForeign(faults []usage.Fault) bool {
	for _, f := range faults {
		if f.Code != codeTenant {
			return false
		}
	}
	return true
}

// trustAgain is how often the check of a new connection is asked whether it has ended.
const trustAgain = 5 * time.Millisecond

// trusted answers nil when receipts are worth something still. Publishing goes on over a reconnect, and
// the server that answered then may not be the one whose settings were read: until it is known to write
// to disk first, its receipt is none.
func (s *front) trusted(deadline time.Time) error {
	for {
		err := s.reachable()
		if err == nil {
			return nil
		}
		if errors.Is(err, errUnsafe) || !time.Now().Before(deadline) {
			return errUnconfirmed
		}
		<-time.After(trustAgain)
	}
}

// await waits until every event is in the log on disk. Only a nil answer allows a 202.
func (s *front) await(h http.Header, ticket *ticket, deadline time.Time, events int) *problem.Problem {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	var err error
	select {
	case <-ticket.done: // not the request's context: a client that hung up does not make the answer known earlier
		err = ticket.err
	case <-timer.C:
		select {
		case <-ticket.done: // both at once, as behind a pause of the whole machine: what is known is told
			err = ticket.err
		default:
			err = errUnconfirmed
		}
	}
	if err == nil {
		err = s.trusted(deadline)
	}
	if err == nil {
		s.count("accepted", events)
		return nil
	}
	return s.unstored(h, err, events)
}

// unstored is the answer for events that are not known to be in the log.
func (s *front) unstored(h http.Header, err error, events int) *problem.Problem {
	s.count("failed", events)
	retryAfter(h, time.Second)
	switch {
	case errors.Is(err, errOverloaded):
		return refuse(codeOverloaded, "too much waits for the log; nothing was stored, retry")
	case errors.Is(err, eventlog.ErrFull):
		at := s.now()
		s.fullAt.Store(&at)
		retryAfter(h, 10*time.Second)
		return refuse(codeFull, "the log's storage is full; nothing of the request is promised, retry later")
	case errors.Is(err, errUnconfirmed), errors.Is(err, eventlog.ErrUnavailable):
		return refuse(codeUnconfirmed, "the log did not confirm in time; the events may be stored or not, retry with the same ids")
	}
	s.logger.Error("events not stored", zap.Error(err))
	h.Del("Retry-After")
	return refuse(codeInternal, "a defect of this program")
}
