package ingest

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// certificate is a key pair that follows its files: a handshake after they changed gets the new one.
type certificate struct {
	cfg    TLSConfig
	logger *zap.Logger

	mu      sync.Mutex
	current *tls.Certificate
	changed [2]time.Time // of cert and key, as loaded
	looked  time.Time
}

// certLook is how often, at most, the files are looked at: handshakes come by the thousand.
const certLook = time.Second

func newCertificate(cfg TLSConfig, logger *zap.Logger) (*certificate, error) {
	c := &certificate{cfg: cfg, logger: logger}
	times, err := c.times()
	if err != nil {
		return nil, err
	}
	if err := c.load(times); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(time.Now()), nil },
	}
}

// get never fails: while new files are unreadable or do not match (one of the two is written first) the
// old pair goes on.
func (c *certificate) get(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) < certLook && !now.Before(c.looked) {
		return c.current
	}
	c.looked = now
	times, err := c.times()
	if err == nil && times != c.changed {
		if err = c.load(times); err == nil {
			c.logger.Info("certificate reloaded", zap.String("file", c.cfg.Cert))
		}
	}
	if err != nil {
		c.logger.Warn("certificate not reloaded; the old one is used", zap.Error(err))
	}
	return c.current
}

func (c *certificate) load(times [2]time.Time) error {
	pair, err := tls.LoadX509KeyPair(c.cfg.Cert, c.cfg.Key)
	if err != nil {
		return fmt.Errorf("load certificate %s: %w", c.cfg.Cert, err)
	}
	c.current, c.changed = &pair, times
	return nil
}

func (c *certificate) times() (t [2]time.Time, err error) {
	for i, name := range []string{c.cfg.Cert, c.cfg.Key} {
		info, err := os.Stat(name)
		if err != nil {
			return t, fmt.Errorf("look at certificate: %w", err)
		}
		t[i] = info.ModTime()
	}
	return t, nil
}
