// Package proxy is the network between two parts, as a test needs it: TCP connections that come in on
// loopback go on to one address, and in either direction they are delayed, held up, swallowed without a
// word, refused, or cut at one byte. Everything can be switched while it runs.
//
// What a connection has delivered is always a prefix of what was sent, as TCP has it: once bytes of a
// direction were swallowed, that direction of that connection stays silent for ever.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Direction of bytes.
type Direction int

const (
	// ToServer is from whoever dialled the proxy.
	ToServer Direction = iota
	// ToClient is the way back.
	ToClient
	directions
)

// rule is what happens to bytes of one direction.
type rule struct {
	latency time.Duration
	hold    bool
	swallow bool
}

// Proxy forwards connections to one address.
type Proxy struct {
	target  string
	address string

	mu       sync.Mutex
	kept     int          // a socket that has the port and never listens, so that nobody else gets it while it is closed
	listener net.Listener // nil while it refuses
	rules    [directions]rule
	changed  chan struct{} // closed and replaced with every change of a rule
	links    map[*link]struct{}
	cut      *Cut
	tap      func(connection int, d Direction, chunk []byte)
	accepted int
	moved    [directions]int64
	closed   bool

	running sync.WaitGroup
}

// Listen starts a proxy on a free port of loopback.
func Listen(target string) (*Proxy, error) {
	p := &Proxy{target: target, changed: make(chan struct{}), links: map[*link]struct{}{}}
	l, err := listen("127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy before %s: %w", target, err)
	}
	p.address = l.Addr().String()
	if p.kept, err = keep(l.Addr().(*net.TCPAddr).Port); err != nil {
		return nil, errors.Join(fmt.Errorf("proxy before %s: keep port %s: %w", target, p.address, err), l.Close())
	}
	p.serve(l)
	return p, nil
}

// listen opens a port that a socket of ours may have, too.
func listen(address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1) })
		return errors.Join(err, set)
	}}
	return config.Listen(context.Background(), "tcp4", address)
}

// soReusePort is SO_REUSEPORT of Linux, which package syscall does not name.
const soReusePort = 15

// keep takes a port of loopback without listening: whoever dials it while nobody listens is refused.
func keep(port int) (fd int, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soReusePort, 1)
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		return 0, errors.Join(err, syscall.Close(fd))
	}
	return fd, nil
}

// Between starts a proxy when it is told the target, keeps it in p, and ends it with the test: what the
// hooks of a rig's options want.
func Between(t testing.TB, p **Proxy) func(target string) string {
	return func(target string) string {
		t.Helper()
		var err error
		if *p, err = Listen(target); err != nil {
			t.Fatal(err)
		}
		t.Cleanup((*p).Close)
		return (*p).Address()
	}
}

// BetweenEach starts a proxy each time it is told a target: a part of which there are several has one for each.
func BetweenEach(t testing.TB, all *[]*Proxy) func(target string) string {
	return func(target string) string {
		t.Helper()
		var p *Proxy
		address := Between(t, &p)(target)
		*all = append(*all, p)
		return address
	}
}

// Address is what to dial instead of the target.
func (p *Proxy) Address() string { return p.address }

// serve takes connections of a listener until it is closed; p.mu is held or p is new.
func (p *Proxy) serve(l net.Listener) {
	p.listener = l
	p.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed: the only end there is on loopback
			}
			p.running.Go(func() { p.carry(conn) })
		}
	})
}

// Latency delays every byte of a direction; later ones do not wait for earlier ones.
func (p *Proxy) Latency(d Direction, latency time.Duration) {
	p.change(func() { p.rules[d].latency = latency })
}

// Hold stops a direction, or lets it go on: nothing is lost, as in a break that is shorter than TCP's patience.
func (p *Proxy) Hold(d Direction, on bool) {
	p.change(func() { p.rules[d].hold = on })
}

// Swallow lets one direction die without a word: its bytes are read and go nowhere, and so do the ends of
// its connections. Connections that come while it is on are accepted.
func (p *Proxy) Swallow(d Direction, on bool) {
	p.change(func() { p.rules[d].swallow = on })
}

// BlackHole swallows both directions.
func (p *Proxy) BlackHole(on bool) {
	p.change(func() { p.rules[ToServer].swallow, p.rules[ToClient].swallow = on, on })
}

// Refuse closes the port, or opens it again. Connections that exist go on.
func (p *Proxy) Refuse(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on || p.closed {
		if p.listener == nil {
			return nil
		}
		err := p.listener.Close()
		p.listener = nil
		return err
	}
	if p.listener != nil {
		return nil
	}
	l, err := listen(p.address)
	if err != nil {
		return fmt.Errorf("open the proxy's port again: %w", err)
	}
	p.serve(l)
	return nil
}

// Heal takes every rule back. A connection that has lost bytes stays silent; Reset ends it.
func (p *Proxy) Heal() error {
	p.change(func() { p.rules = [directions]rule{} })
	return p.Refuse(false)
}

// Reset ends all connections, with RST to both sides.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.end(Reset)
	}
}

// Arm replaces the cut that waits, if any; nil takes it away.
func (p *Proxy) Arm(c *Cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c != nil {
		c.fired, c.later = make(chan struct{}), make(chan struct{})
		c.proxy = p
	}
	p.cut = c
}

// Tap lets f see each chunk of every connection before it is delivered or lost, and nil when the sender of a
// direction has ended it, at once, even if chunks before that are still on their way. Connections have numbers, from 1. f is called by one goroutine at a time, and
// must not call the proxy. nil ends it.
func (p *Proxy) Tap(f func(connection int, d Direction, chunk []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tap = f
}

// Open is how many connections there are.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Accepted is how many connections there have been.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Moved is how many bytes of a direction were delivered.
func (p *Proxy) Moved(d Direction) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moved[d]
}

// Close ends everything and waits for it.
func (p *Proxy) Close() {
	p.mu.Lock()
	if !p.closed {
		_ = syscall.Close(p.kept) // nothing was ever sent on it
	}
	p.closed = true
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	for l := range p.links {
		l.end(Reset)
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// rule is what is to happen to a direction's bytes now, and a channel that is closed when that changes.
func (p *Proxy) rule(d Direction) (rule, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rules[d], p.changed
}
