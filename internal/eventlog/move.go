package eventlog

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// A server of a cluster that has lost the others keeps its clients, and answers none of their writes: for a
// client that stays with it the whole log is down, while two servers out of three take everything. So who
// gets no write acknowledged for some time moves to another server. An election takes 4 to 9 s, in which no
// server can help: who moves earlier may come to the server that is alone, and leaves the one that will be of
// use. After that time one that can help answers at once, and one that does not is left soon.
const (
	moveFirst = 9 * time.Second
	moveNext  = 3 * time.Second
	moveStale = 10 * time.Second // a failure this long ago says nothing about now
)

// mover knows for how long writes have failed.
type mover struct {
	mu    sync.Mutex
	since time.Time // the first failure in a row; zero: the last write was answered
	last  time.Time // failure
	moved bool      // since the last write that was answered
}

// failed reports whether it is time to move.
func (m *mover) failed(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since.IsZero() || now.Sub(m.last) > moveStale {
		m.since = now
	}
	m.last = now
	wait := moveFirst
	if m.moved {
		wait = moveNext
	}
	if now.Sub(m.since) < wait {
		return false
	}
	m.since, m.moved = time.Time{}, true
	return true
}

// attempt is how long a write waits before it is sent again.
func (m *mover) attempt() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moved {
		return attemptMoved
	}
	return attemptMax
}

func (m *mover) worked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since, m.moved = time.Time{}, false
}

// Wrote tells how a write to a stream ended: it needs a majority of the servers, so it tells whether the
// one we are connected to is of any use.
func (c *Conn) Wrote(err error) {
	var api *jetstream.APIError
	switch {
	case err == nil, errors.As(err, &api) && api.Code < 500 && api.ErrorCode != errInProcess:
		c.mover.worked()
	case errors.Is(err, ErrFull), errors.Is(err, context.Canceled), !c.Connected(): // another server cannot help
	case c.mover.failed(time.Now()) && len(c.nc.Servers()) > 1:
		c.log.Warn("no write was acknowledged for a while; trying another nats server",
			zap.String("server", c.nc.ConnectedServerName()), zap.Error(err))
		if err := c.nc.ForceReconnect(); err != nil {
			c.log.Debug("not moved to another server", zap.Error(err))
		}
	}
}
