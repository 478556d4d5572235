package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	chunkBytes = 32 << 10
	// Chunks on their way in one direction: what latency does not hold back is bounded.
	chunksMax = 256
	dialWait  = 10 * time.Second
)

// link is one connection through the proxy.
type link struct {
	number int
	client *net.TCPConn
	server *net.TCPConn
	ctx    context.Context // of its life
	cancel context.CancelFunc
	silent [directions]atomic.Bool // bytes were lost: nothing of this direction is delivered any more
}

// chunk is bytes on their way; the last of a direction says how it ended.
type chunk struct {
	bytes []byte
	due   time.Time
	err   error
}

// carry forwards one connection until both directions have ended.
func (p *Proxy) carry(conn net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := &link{client: conn.(*net.TCPConn), ctx: ctx, cancel: cancel} //nolint:forcetypeassert // of a TCP listener
	dialer := net.Dialer{Timeout: dialWait}
	server, err := dialer.DialContext(ctx, "tcp4", p.target)
	if err != nil {
		l.end(Reset)
		return
	}
	l.server = server.(*net.TCPConn) //nolint:forcetypeassert // dialled as TCP
	p.mu.Lock()
	p.accepted++
	l.number = p.accepted
	p.links[l] = struct{}{}
	if p.closed {
		l.end(Reset)
	}
	p.mu.Unlock()
	back := make(chan struct{})
	p.running.Go(func() { defer close(back); p.pump(l, ToClient) })
	p.pump(l, ToServer)
	<-back
	l.end(Close)
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// ends are where bytes of a direction come from and go to.
func (l *link) ends(d Direction) (from, to *net.TCPConn) {
	if d == ToServer {
		return l.client, l.server
	}
	return l.server, l.client
}

// end closes both sides at once. Errors are of sides that are closed already.
func (l *link) end(how End) {
	l.cancel()
	for _, c := range []*net.TCPConn{l.client, l.server} {
		if c == nil {
			continue
		}
		if how == Reset {
			_ = c.SetLinger(0) // closing then sends RST
		}
		_ = c.Close()
	}
}

// pump forwards one direction until its sender ends it or the link ends.
func (p *Proxy) pump(l *link, d Direction) {
	from, to := l.ends(d)
	chunks := make(chan chunk, chunksMax)
	p.running.Go(func() { p.read(l, d, from, chunks) })
	for c := range chunks {
		if !p.wait(l, d, c.due) {
			return
		}
		if p.lost(l, d, c) {
			l.silent[d].Store(true)
		}
		if l.silent[d].Load() {
			continue // the end of the connection is lost as well
		}
		if c.err != nil {
			if errors.Is(c.err, io.EOF) {
				_ = to.CloseWrite() // closed already is as good
			} else {
				l.end(Reset)
			}
			return
		}
		if !p.deliver(l, d, to, c.bytes) {
			return
		}
	}
}

// read takes what comes in. It stops while the direction is held, so that the sender's buffers fill.
func (p *Proxy) read(l *link, d Direction, from *net.TCPConn, chunks chan<- chunk) {
	defer close(chunks)
	for p.wait(l, d, time.Time{}) {
		c := chunk{bytes: make([]byte, chunkBytes)}
		n, err := from.Read(c.bytes)
		c.bytes = c.bytes[:n]
		r, _ := p.rule(d)
		c.due = time.Now().Add(r.latency)
		if n > 0 && !l.put(chunks, c) {
			return
		}
		if err != nil {
			p.show(l, d, nil)
			l.put(chunks, chunk{due: c.due, err: err})
			return
		}
	}
}

func (l *link) put(chunks chan<- chunk, c chunk) bool {
	select {
	case chunks <- c:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// wait returns when a direction is not held and the time has come; false if the link ends before.
func (p *Proxy) wait(l *link, d Direction, due time.Time) bool {
	for {
		r, changed := p.rule(d)
		var come <-chan time.Time
		if left := time.Until(due); !r.hold && left <= 0 {
			return l.ctx.Err() == nil
		} else if !r.hold {
			come = time.After(left)
		}
		select {
		case <-changed:
		case <-come:
		case <-l.ctx.Done():
			return false
		}
	}
}

// lost answers whether a chunk is to be; the tap sees it first.
func (p *Proxy) lost(l *link, d Direction, c chunk) bool {
	if c.err == nil {
		p.show(l, d, c.bytes)
	}
	r, _ := p.rule(d)
	return r.swallow
}

func (p *Proxy) show(l *link, d Direction, bytes []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tap != nil {
		p.tap(l.number, d, bytes)
	}
}

// deliver writes bytes, up to the cut if that is here; false ends the direction.
func (p *Proxy) deliver(l *link, d Direction, to *net.TCPConn, bytes []byte) bool {
	p.mu.Lock()
	cut := p.cut
	n, now := cut.take(l, d, bytes)
	p.moved[d] += int64(n)
	p.mu.Unlock()
	_, err := to.Write(bytes[:n])
	if now {
		if !cut.strike(l, d) {
			return !l.ended()
		}
		p.mu.Lock()
		p.moved[d] += int64(len(bytes) - n)
		p.mu.Unlock()
		_, err = to.Write(bytes[n:])
	}
	if err == nil {
		return true
	}
	if l.silent[1-d].Load() {
		l.silent[d].Store(true) // who went away could not say so: the sender goes on not knowing
		return true
	}
	l.end(Reset)
	return false
}

func (l *link) ended() bool { return l.ctx.Err() != nil }
