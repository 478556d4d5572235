package upgrade_test

import (
	"context"
	"net/http"
	"net/http/httptest"
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
	ready  []*url.URL
	turn   int
	broken atomic.Int64 // requests that a service took and did not answer
	reason atomic.Value // of the last of them
}

// probeEvery is how often a service is asked; its drain delay must be a multiple.
const probeEvery = 20 * time.Millisecond

func balance(t *testing.T, services ...*service) *balancer {
	t.Helper()
	b := &balancer{}
	proxy := &httputil.ReverseProxy{
		// A connection of its own for each request: one that is kept may be closed by an idle server at the moment
		// it is used again, which says nothing about draining.
		Transport: &http.Transport{DisableKeepAlives: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(r.In.Context().Value(chosen{}).(*url.URL))
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // otherwise the producer has gone
				b.broken.Add(1)
				b.reason.Store(err.Error())
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := b.choose(r.Context())
		if to == nil {
			return
		}
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), chosen{}, to)))
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

// chosen is the key of a request's service.
type chosen struct{}

func (b *balancer) probe(ctx context.Context, services []*service) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		var ready []*url.URL
		for _, s := range services {
			if s.part.Ready(ctx) {
				ready = append(ready, s.url)
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

// choose waits for a service that is ready; nil once nobody waits for the answer any more.
func (b *balancer) choose(ctx context.Context) *url.URL {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		b.mu.Lock()
		if n := len(b.ready); n > 0 {
			b.turn++
			to := b.ready[b.turn%n]
			b.mu.Unlock()
			return to
		}
		b.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
