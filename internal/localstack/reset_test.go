package localstack_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// A client that is killed with unread bytes in its socket resets its connections, in whatever state they
// are. The engine must not mind.
func TestEngineSurvivesResets(t *testing.T) {
	t.Parallel()
	ch := localstack.Start(t, localstack.Options{NoNATS: true}).ClickHouse
	pid := ch.PID()
	// Hello as user default, revision 54058: see helloNative.
	hello := append([]byte("\x00\x05reset\x01\x00\xaa\xa6\x03\x07default\x07default"), 0)
	for name, send := range map[string][]byte{
		"native, before hello":   nil,
		"native, half a hello":   hello[:9],
		"native, idle":           hello,
		"native, no packet":      append(hello[:len(hello):len(hello)], "\xff\xff\xff\xff not a packet"...),
		"native, a ping, unread": append(hello[:len(hello):len(hello)], 4),
		"native, another client": []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		for range 3 {
			if err := reset(t, ch.Addr(), send); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if got := query(t, ch, "SELECT 1"); got != "1" || ch.PID() != pid {
			t.Fatalf("%s: the engine answers %q", name, got)
		}
	}
	select {
	case <-ch.Process().Done():
		t.Fatalf("the engine has ended: %v", ch.Process().Err())
	// It used to answer for 4 s while it was dying.
	case <-eventuallyIdle(t, ch):
	}
}

// reset connects, sends, waits for an answer if there is one, and ends the connection with a reset.
func reset(t *testing.T, addr string, send []byte) error {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(send); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return err
	}
	// The engine may end the connection first, in either way.
	if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	return conn.(*net.TCPConn).SetLinger(0)
}

// eventuallyIdle is closed once the engine has no connection but the one that asks.
func eventuallyIdle(t *testing.T, ch *localstack.ClickHouse) <-chan struct{} {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if n, err := ch.Query(ctx, "SELECT value FROM system.metrics WHERE metric = 'TCPConnection'"); err == nil && n == "0" {
				return
			}
			<-tick.C
		}
	}()
	return done
}
