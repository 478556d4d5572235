package warehouse

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// handshakeWait is how long a server may take to say hello. clickhouse-go has one time-out for that and for
// waiting until a connection of the pool is free, half a minute: a network that swallows what it is given
// held a takeover up that long after it was whole again.
const handshakeWait = 10 * time.Second

// boundDial opens a connection of the pool as clickhouse-go does, and gives up with ctx: its own handshake
// waits for a server that says nothing as long as its time-out, whoever has gone meanwhile, and a program
// that is to stop would wait with it. A connection without a handshake is closed, not left behind. The password is the one of now.
func (c Config) boundDial(ctx context.Context, id int, o *clickhouse.Options, dial clickhouse.Dial) (clickhouse.DialResult, error) {
	own := *o
	own.DialTimeout = min(own.DialTimeout, handshakeWait)
	var err error
	if own.Auth.Password, err = c.password(o.Auth.Password); err != nil {
		return clickhouse.DialResult{}, err
	}
	var conn net.Conn
	leave := func() bool { return true }
	own.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := dialServer(ctx, o, addr)
		if err != nil {
			return nil, err
		}
		conn, leave = c, context.AfterFunc(ctx, func() { _ = c.Close() })
		return c, nil
	}
	result, err := clickhouse.DefaultDialStrategy(ctx, id, &own, dial)
	leave() // from here on the statement watches ctx
	if err != nil && conn != nil {
		_ = conn.Close() // nobody else has it
	}
	return result, err
}

// dialServer is the connection without the handshake of ClickHouse.
func dialServer(ctx context.Context, o *clickhouse.Options, addr string) (net.Conn, error) {
	if o.DialContext != nil {
		return o.DialContext(ctx, addr)
	}
	d := net.Dialer{Timeout: o.DialTimeout}
	if o.TLS != nil {
		return (&tls.Dialer{NetDialer: &d, Config: o.TLS}).DialContext(ctx, "tcp", addr)
	}
	return d.DialContext(ctx, "tcp", addr)
}
