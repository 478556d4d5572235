package control

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// Config is how to reach NATS, for services that never touch the log.
type Config = eventlog.Config

// DefaultConfig is a NATS server on its usual port.
func DefaultConfig() Config { return eventlog.DefaultConfig() }

// Client is a Store with a connection of its own.
type Client struct {
	*Store
	conn *eventlog.Conn
}

// Dial connects and follows the control state; NATS may be down. The caller ends it with Close.
func Dial(ctx context.Context, cfg Config, log *zap.Logger) (*Client, error) {
	conn, err := eventlog.Connect(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("control state: %w", err)
	}
	store, err := Open(ctx, conn, log)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("control state: %w", err)
	}
	return &Client{Store: store, conn: conn}, nil
}

// Connected reports whether NATS is there right now.
func (c *Client) Connected() bool { return c.conn.Connected() }

// Close stops following and ends the connection.
func (c *Client) Close() {
	c.Store.Close()
	c.conn.Close()
}
