package aggregator_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/aggregator"
)

// hole is a proxy before ClickHouse that can turn into a black hole: connections stay open, new ones are
// taken, and nothing comes back any more.
type hole struct {
	to     string
	mu     sync.Mutex
	open   *sync.Cond
	closed bool // nothing passes
}

func newHole(t *testing.T, to string) (*hole, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{to: to}
	h.open = sync.NewCond(&h.mu)
	t.Cleanup(func() { h.set(false); _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go h.serve(c)
		}
	}()
	return h, l.Addr().String()
}

func (h *hole) set(closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = closed
	h.open.Broadcast()
}

func (h *hole) serve(client net.Conn) {
	server, err := net.Dial("tcp", h.to)
	if err != nil {
		_ = client.Close()
		return
	}
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(&gated{h, to}, from)
		_ = to.Close()
	}
	go pipe(server, client)
	pipe(client, server)
}

type gated struct {
	h *hole
	net.Conn
}

func (g *gated) Write(b []byte) (int, error) {
	g.h.mu.Lock()
	for g.h.closed {
		g.h.open.Wait()
	}
	g.h.mu.Unlock()
	return g.Conn.Write(b)
}

// TestCloseWhileClickHouseHangs: a service is asked to stop while the server it talks to is frozen. It is
// gone within the ten seconds an orchestrator grants, and what it had not stored is stored by the next.
func TestCloseWhileClickHouseHangs(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{"in the middle of its work": false, "while it takes over": true}
	for name, early := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			dsn, err := url.Parse(r.cfg.ClickHouse.DSN)
			if err != nil {
				t.Fatal(err)
			}
			h, addr := newHole(t, dsn.Host)
			dsn.Host = addr
			h.set(early)
			now := time.Now().Add(-time.Hour)
			r.publish("acme", metered("first", "a", "1", now))
			app, err := aggregator.Start(t.Context(), withDSN(r.cfg, dsn.String()), zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			var last uint64
			for i := range 200 {
				last = r.publish("acme", metered(fmt.Sprint(i), "a", "1", now))
				if !early && i == 50 {
					r.await(1)
					h.set(true)
				}
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), awaitMost)
			defer cancel()
			if err := app.Close(ctx); err != nil {
				t.Errorf("Close: %v", err)
			}
			if err := app.Wait(); err != nil {
				t.Errorf("Wait: %v", err)
			}
			h.set(false)
			defer r.start()()
			r.await(last)
			if got, want := r.query("SELECT count(), uniqExact(id) FROM {db}.events"), "201\t201"; got != want {
				t.Errorf("events: have %s, want %s", got, want)
			}
		})
	}
}

func withDSN(c aggregator.Config, dsn string) aggregator.Config {
	c.ClickHouse.DSN = dsn
	return c
}
