package warehouse

import (
	"errors"
	"sync"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"
)

// pool is the connections that statements share, replaced as a whole when they can no longer be believed in.
// A network that swallows what it is given says nothing about the connections it has forgotten: each one taken
// from the pool afterwards would be waited for until the deadline of its statement, one after the other, and
// a takeover takes several. It held recovery up by a minute where a fresh connection answers at once.
type pool struct {
	log  *zap.Logger
	open func() (driver.Conn, error)

	mu   sync.RWMutex
	conn driver.Conn
}

func newPool(log *zap.Logger, open func() (driver.Conn, error)) (*pool, error) {
	conn, err := open()
	return &pool{log: log, open: open, conn: conn}, err
}

func (p *pool) get() driver.Conn {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.conn
}

// with runs do on the connections of now, and again where they were replaced before it had begun: nothing was sent then.
func (p *pool) with(do func(driver.Conn) error) error {
	for {
		conn := p.get()
		err := do(conn)
		if !errors.Is(err, clickhouse.ErrConnectionClosed) || p.get() == conn {
			return err
		}
	}
}

// renew lets the next statement connect anew. Statements under way keep their connections, which end with them.
func (p *pool) renew() {
	conn, err := p.open() // connects to nothing yet
	if err != nil {
		p.log.Warn("connections to ClickHouse not renewed", zap.Error(err))
		return
	}
	p.mu.Lock()
	old := p.conn
	p.conn = conn
	p.mu.Unlock()
	_ = old.Close() // what is idle in it has nothing to say
}

// distrust drops every idle connection: one of them has just failed to answer.
func (w *Warehouse) distrust() {
	w.pool.renew()
	w.readers.close()
}
