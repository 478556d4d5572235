package upgrade_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer is what stands before services in production: it asks each how it is, sends requests to those that are
// ready, in turn, and lets a request wait while none is.
type balancer struct {
	*httptest.Server

	mu     sync.Mutex
	ready  []belief
	turn   int
	broken atomic.Int64 // requests that a service took and did not answer
	late   atomic.Int64 // requests that came to a service too late
	reason atomic.Value // of the last of them
}

// belief is a service that was ready when it was asked, at some time.
type belief struct {
	url   *url.URL
	since time.Time
}

const (
	// probeEvery is how often a service is asked; its drain delay must be a multiple.
	probeEvery = 20 * time.Millisecond
	// staleAfter is when a balancer has not kept its part: on a machine that stands still, a request can reach a
	// service when its drain delay is over. What a service does then says nothing about draining.
	staleAfter = drainDelay / 2
)

// route is where a request was sent, and when it was there.
type route struct {
	belief
	connected time.Time
}

func (r *route) stale() bool {
	if r.connected.IsZero() { // nobody took it
		return time.Since(r.since) > staleAfter
	}
	return r.connected.Sub(r.since) > staleAfter
}

func balance(t *testing.T, services ...*service) *balancer {
	t.Helper()
	b := &balancer{}
	proxy := &httputil.ReverseProxy{
		// A connection of its own for each request: one that is kept may be closed by an idle server at the moment
		// it is used again, which says nothing about draining.
		Transport: &http.Transport{DisableKeepAlives: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(chosenFor(r.In).url)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			switch {
			case r.Context().Err() != nil: // the producer has gone
			case chosenFor(r).stale():
				b.late.Add(1)
			default:
				b.broken.Add(1)
				b.reason.Store(err.Error())
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, ok := b.choose(r.Context())
		if !ok {
			return
		}
		way := &route{belief: to}
		ctx := httptrace.WithClientTrace(context.WithValue(r.Context(), chosen{}, way), &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { way.connected = time.Now() },
		})
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var probing sync.WaitGroup
	probing.Go(func() { b.probe(ctx, services) })
	t.Cleanup(func() {
		cancel()
		probing.Wait()
		b.CloseClientConnections()
		b.Close()
	})
	return b
}

// chosen is the key of a request's route.
type chosen struct{}

func chosenFor(r *http.Request) *route { return r.Context().Value(chosen{}).(*route) }

func (b *balancer) probe(ctx context.Context, services []*service) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		var ready []belief
		for _, s := range services {
			asked := time.Now()
			if s.part.Ready(ctx) {
				ready = append(ready, belief{s.url, asked})
			}
		}
		b.mu.Lock()
		b.ready = ready
		b.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// choose waits for a service that is ready; false once nobody waits for the answer any more.
func (b *balancer) choose(ctx context.Context) (to belief, ok bool) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		b.mu.Lock()
		if n := len(b.ready); n > 0 {
			b.turn++
			to = b.ready[b.turn%n]
			b.mu.Unlock()
			return to, true
		}
		b.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return to, false
		}
	}
}
