package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/proxy"
)

const patience = time.Minute

// pair is a proxy before a server, one connection through it, and the server's side of that.
func pair(t *testing.T) (p *proxy.Proxy, client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if p, err = proxy.Listen(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	client = dial(t, p)
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	if err := server.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return p, client, server
}

func dial(t *testing.T, p *proxy.Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("received %q, %v; want %q", got, err, want)
	}
}

// silent shows that nothing comes and nothing ends.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes and %v where silence was expected", n, err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

func TestForwardsBothWaysAndEnds(t *testing.T) {
	p, client, server := pair(t)
	send(t, client, "hello")
	receive(t, server, "hello")
	send(t, server, "welcome")
	receive(t, client, "welcome")
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("the end came as %v", err)
	}
	send(t, server, "still heard")
	receive(t, client, "still heard")
	if p.Moved(proxy.ToServer) != 5 || p.Accepted() != 1 || p.Open() != 1 {
		t.Errorf("moved %d, accepted %d, open %d", p.Moved(proxy.ToServer), p.Accepted(), p.Open())
	}
}

func TestLatencyDelaysOneWay(t *testing.T) {
	p, client, server := pair(t)
	const latency = 120 * time.Millisecond
	p.Latency(proxy.ToServer, latency)
	begun := time.Now()
	send(t, client, "a")
	receive(t, server, "a")
	if took := time.Since(begun); took < latency {
		t.Errorf("delivered after %s", took)
	}
	p.Latency(proxy.ToServer, time.Hour)
	send(t, server, "b")
	receive(t, client, "b")
}

func TestHeldBytesArriveLater(t *testing.T) {
	p, client, server := pair(t)
	p.Hold(proxy.ToServer, true)
	send(t, client, "late")
	silent(t, server)
	send(t, server, "the other way")
	receive(t, client, "the other way")
	p.Hold(proxy.ToServer, false)
	receive(t, server, "late")
}

func TestSwallowedDirectionStaysSilent(t *testing.T) {
	p, client, server := pair(t)
	p.Swallow(proxy.ToServer, true)
	send(t, client, "lost")
	silent(t, server)
	send(t, server, "heard")
	receive(t, client, "heard")
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
	send(t, client, "lost too, or there would be a hole")
	silent(t, server)
	_ = client.Close()
	silent(t, server) // nobody told it
	p.Reset()
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the reset came as %v", err)
	}
}

func TestBlackHoleAcceptsAndNeverAnswers(t *testing.T) {
	p, _, _ := pair(t)
	p.BlackHole(true)
	c := dial(t, p)
	send(t, c, "anybody?")
	silent(t, c)
}

func TestRefuseClosesThePort(t *testing.T) {
	p, client, server := pair(t)
	if err := p.Refuse(true); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp4", p.Address()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dialled %v, %v", c, err)
	}
	send(t, client, "goes on")
	receive(t, server, "goes on")
	if err := p.Refuse(false); err != nil {
		t.Fatal(err)
	}
	dial(t, p)
}

func TestCutAtEveryOffset(t *testing.T) {
	const text = "0123456789"
	for after := range int64(len(text) + 1) {
		for _, end := range []proxy.End{proxy.Reset, proxy.Close, proxy.Silence} {
			p, client, server := pair(t)
			send(t, server, "before ")
			receive(t, client, "before ")
			cut := &proxy.Cut{Direction: proxy.ToClient, After: after, End: end, When: func(_ int, d proxy.Direction, chunk []byte) bool {
				return d == proxy.ToServer && bytes.Contains(chunk, []byte("now"))
			}}
			p.Arm(cut)
			send(t, client, "now")
			receive(t, server, "now")
			send(t, server, text)
			<-cut.Fired()
			if end == proxy.Reset { // and RST may overtake what was delivered
				if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Fatalf("the server saw %v", err)
				}
			} else {
				receive(t, client, text[:after])
			}
			if end == proxy.Silence {
				silent(t, client)
				send(t, client, "the other way")
				receive(t, server, "the other way")
			} else if _, err := client.Read(make([]byte, len(text)+1)); end == proxy.Close && !errors.Is(err, io.EOF) {
				t.Fatalf("the client saw %v", err)
			}
			if cut.Seen() != after {
				t.Errorf("seen %d of %d", cut.Seen(), after)
			}
		}
	}
}

func TestStalledBytesComeLate(t *testing.T) {
	p, client, server := pair(t)
	cut := &proxy.Cut{Direction: proxy.ToServer, After: 2, End: proxy.Stall}
	p.Arm(cut)
	send(t, client, "abcd")
	<-cut.Fired()
	receive(t, server, "ab")
	send(t, client, "e")
	silent(t, server)
	cut.Release()
	receive(t, server, "cde")
}

func TestCloseEndsAll(t *testing.T) {
	p, client, _ := pair(t)
	p.Hold(proxy.ToServer, true)
	send(t, client, "held")
	p.Close()
	if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the client saw %v", err)
	}
}
