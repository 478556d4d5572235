package eventlog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

const (
	// A connection that went dead without a word (a cable, a firewall) is noticed after pingEvery*pingsOut.
	pingEvery     = 2 * time.Second
	pingsOut      = 2
	dialTimeout   = 2 * time.Second
	reconnectWait = 200 * time.Millisecond // NATS back is noticed within this, plus jitter
	apiTimeout    = 5 * time.Second        // one JetStream API call that may have work to do
	// callTimeout bounds one question: an answer that was lost with a connection never comes, and the client
	// would wait for it until the caller's own deadline.
	callTimeout = 2 * time.Second
)

// Conn is a connection to NATS that never gives up: it may be made while NATS is down, reconnects for
// ever, and reads credentials and certificates again each time, so that they can be rotated without a
// restart. While it is down, publishing fails at once instead of being buffered: an append that was
// answered with an error must not be sent minutes later behind its caller's back.
type Conn struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	log *zap.Logger

	replicas int
	mover    mover

	mu    sync.Mutex
	hooks map[int]func()
	next  int
}

// Connect starts connecting and returns at once. Only a configuration that can never work is an error.
func Connect(cfg Config, log *zap.Logger) (*Conn, error) {
	cfg = cfg.withDefaults()
	c := &Conn{log: log, replicas: cfg.Replicas, hooks: map[int]func(){}}
	opts := []nats.Option{
		nats.Name(cfg.Name), nats.Timeout(dialTimeout),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait/2, reconnectWait/2),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsOut),
		nats.IgnoreAuthErrorAbort(), // while credentials are being rotated the old ones fail more than once
		nats.ConnectHandler(c.connected),
		nats.ReconnectHandler(c.connected),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() {
				log.Warn("nats disconnected; reconnecting", zap.Error(err))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("nats reported a fault", zap.Error(err), zap.String("subject", subject))
		}),
	}
	if cfg.Creds != "" {
		opts = append(opts, nats.UserCredentials(cfg.Creds))
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, cfg.Password))
	}
	if cfg.TLSCA != "" || cfg.TLSCert != "" {
		opts = append(opts, tlsFiles(cfg))
	}
	var err error
	if c.nc, err = nats.Connect(cfg.URL, opts...); err != nil {
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	if c.js, err = jetstream.New(c.nc, jetstream.WithDefaultTimeout(apiTimeout)); err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	return c, nil
}

// tlsFiles reads the files at each handshake, not once.
func tlsFiles(cfg Config) nats.Option {
	var cert nats.TLSCertHandler
	var roots nats.RootCAsHandler
	if cfg.TLSCert != "" {
		cert = func() (tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
			if err != nil {
				return pair, fmt.Errorf("nats client certificate: %w", err)
			}
			return pair, nil
		}
	}
	if cfg.TLSCA != "" {
		roots = func() (*x509.CertPool, error) {
			text, err := os.ReadFile(cfg.TLSCA)
			if err != nil {
				return nil, fmt.Errorf("nats certificate authorities: %w", err)
			}
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(text) {
				return nil, fmt.Errorf("nats certificate authorities: no certificate in %s", cfg.TLSCA)
			}
			return pool, nil
		}
	}
	return func(o *nats.Options) error {
		o.Secure, o.TLSCertCB, o.RootCAsCB = true, cert, roots
		return nil
	}
}

// connected may run before Connect has returned, so it uses no field that Connect sets last.
func (c *Conn) connected(nc *nats.Conn) {
	c.log.Info("nats connected", zap.String("server", nc.ConnectedServerName()))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, hook := range c.hooks {
		hook()
	}
}

// OnConnect calls hook after each connect and reconnect, until the answered function is called. A hook
// must not block.
func (c *Conn) OnConnect(hook func()) (remove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.next
	c.next++
	c.hooks[n] = hook
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.hooks, n)
	}
}

// JetStream is the API of the streams, for package control.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// Replicas is how many copies of a stream the configuration wants.
func (c *Conn) Replicas() int { return c.replicas }

// Connected reports whether there is a connection right now.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// Close ends the connection; everything that waits on it fails with ErrClosed or ErrUnavailable.
func (c *Conn) Close() { c.nc.Close() }

// unavailable wraps what the connection or the server's API answered when it could not help.
func (c *Conn) unavailable(err error) error {
	if c.nc.IsClosed() { // not nats.ErrConnectionClosed: a request that a reconnect drops ends with it too
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if errors.Is(err, nats.ErrReconnectBufExceeded) { // we allow no buffer, so this only says that nobody is there
		return fmt.Errorf("%w: not connected to NATS", ErrUnavailable)
	}
	if errors.Is(err, context.DeadlineExceeded) && !c.nc.IsConnected() { // asked while a connection was being tried
		return fmt.Errorf("%w: not connected to NATS: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
