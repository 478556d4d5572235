package ingest

import (
	"crypto/sha256"
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/countinghouse/countinghouse/internal/problem"
)

// budget is an amount of memory that may be in use.
type budget struct {
	used atomic.Int64
	most int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// account charges a tenant's budget and everybody's.
type account struct {
	own budget
	all *budget
}

func (a *account) take(n int64) bool {
	if !a.own.take(n) {
		return false
	}
	if !a.all.take(n) {
		a.own.give(n)
		return false
	}
	return true
}

func (a *account) give(n int64) {
	a.own.give(n)
	a.all.give(n)
}

// tenant is what one tenant may use and uses. There are no more of them than tenants with a key.
type tenant struct {
	memory   account
	requests atomic.Int64
	limiter  *rate.Limiter // nil: no limit

	mu     sync.Mutex
	latest time.Time // the limiter was asked for
}

// tenants holds the state of every tenant seen so far.
type tenants struct {
	cfg  LimitConfig
	all  *budget
	mu   sync.Mutex
	byID map[string]*tenant
}

func (t *tenants) get(name string) *tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.byID[name]
	if x == nil {
		x = &tenant{memory: account{own: budget{most: t.cfg.TenantWaitingBytes}, all: t.all}}
		if t.cfg.RateEvents > 0 {
			x.limiter = rate.NewLimiter(rate.Limit(t.cfg.RateEvents), t.cfg.burst())
		}
		t.byID[name] = x
	}
	return x
}

// rateHeaders tells the client its limit and what is left of it (draft-ietf-httpapi-ratelimit-headers).
func (t *tenant) rateHeaders(h http.Header, now time.Time) {
	if t.limiter == nil {
		return
	}
	limit, burst := float64(t.limiter.Limit()), t.limiter.Burst()
	left := t.limiter.TokensAt(now)
	reset := math.Ceil((float64(burst) - left) / limit)
	window := max(1, math.Ceil(float64(burst)/limit))
	h["RateLimit-Policy"] = []string{`"events";q=` + strconv.Itoa(burst) + `;w=` + strconv.Itoa(int(window))}
	h["RateLimit"] = []string{`"events";r=` + strconv.Itoa(int(max(0, left))) + `;t=` + strconv.Itoa(int(max(0, reset)))}
}

// allow takes n events from the tenant's rate; wait is how long a refused client should pause.
func (t *tenant) allow(now time.Time, n int) (wait time.Duration, ok bool) {
	if t.limiter == nil {
		return 0, true
	}
	// Requests that ran side by side come here in any order. A limiter told an earlier time than before turns
	// its clock back, and grants the span between the two once more.
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.latest) {
		now = t.latest
	}
	t.latest = now
	r := t.limiter.ReserveN(now, n)
	if !r.OK() { // more than the burst: never; the configuration keeps burst above the largest request
		return time.Minute, false
	}
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait, false
	}
	return 0, true
}

// guesses slows down who tries keys. A remote address that failed too often is not looked up again
// until its allowance has grown back; keys that this process has seen to be good pass all the same,
// because many producers may share one address behind a load balancer.
type guesses struct {
	perMinute int
	most      int // addresses remembered
	mu        sync.Mutex
	byAddr    map[string]*rate.Limiter
	good      map[[sha256.Size]byte]struct{} // digests of keys seen to be good; no more than there are keys
}

func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// blocked reports whether addr has used up its guesses, and for how long.
func (g *guesses) blocked(addr string, digest [sha256.Size]byte, now time.Time) (time.Duration, bool) {
	if g.perMinute <= 0 {
		return 0, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.byAddr[addr]
	if l == nil || l.TokensAt(now) >= 1 {
		return 0, false
	}
	if _, known := g.good[digest]; known {
		return 0, false
	}
	missing := 1 - l.TokensAt(now)
	return time.Duration(missing / float64(l.Limit()) * float64(time.Second)), true
}

func (g *guesses) failed(addr string, now time.Time) {
	if g.perMinute <= 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.byAddr[addr]
	if l == nil {
		if len(g.byAddr) >= g.most {
			g.forget(now)
		}
		l = rate.NewLimiter(rate.Limit(float64(g.perMinute)/60), g.perMinute)
		g.byAddr[addr] = l
	}
	l.AllowN(now, 1)
}

// forget makes room: first who has its whole allowance back, then anybody.
func (g *guesses) forget(now time.Time) {
	for addr, l := range g.byAddr {
		if l.TokensAt(now) >= float64(g.perMinute) {
			delete(g.byAddr, addr)
		}
	}
	for addr := range g.byAddr {
		if len(g.byAddr) < g.most {
			return
		}
		delete(g.byAddr, addr)
	}
}

// passed remembers a good key.
func (g *guesses) passed(digest [sha256.Size]byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.good[digest] = struct{}{}
}

// limitListener holds back connections over a limit: they wait in the kernel's queue.
type limitListener struct {
	*net.TCPListener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newLimitListener(l *net.TCPListener, most int) *limitListener {
	return &limitListener{TCPListener: l, slots: make(chan struct{}, most), closed: make(chan struct{})}
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.AcceptTCP()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitConn{TCPConn: conn, slots: l.slots}, nil
}

func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.TCPListener.Close()
}

// limitConn keeps the methods of a TCP connection: without CloseWrite the server resets connections
// whose request it does not read to the end, and the client never sees why.
type limitConn struct {
	*net.TCPConn
	slots chan struct{}
	once  sync.Once
}

// Write makes the refusals that net/http writes itself problems; under TLS it sees none.
func (c *limitConn) Write(b []byte) (int, error) {
	if refusal := problem.Rewrite(b); refusal != nil {
		_, err := c.TCPConn.Write(refusal)
		return len(b), err
	}
	return c.TCPConn.Write(b)
}

func (c *limitConn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() { <-c.slots })
	return err
}
