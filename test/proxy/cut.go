package proxy

// End is how a connection ends at a cut.
type End int

const (
	// Reset sends RST to both sides.
	Reset End = iota
	// Close sends FIN to both sides.
	Close
	// Silence lets the direction of the cut die and the connection stand.
	Silence
	// Stall keeps what follows, in the direction of the cut, until Release: a packet that comes late.
	Stall
)

// Cut ends one connection when it has delivered so many bytes of a direction. It strikes once.
type Cut struct {
	Direction Direction
	After     int64 // bytes that are still delivered; 0: the first byte is not
	End       End

	// When sees each chunk of every connection, before it is delivered, until it answers true: that connection
	// is the one to cut, and the bytes of Direction that follow are counted, those of this chunk included. It
	// may set After then. It is called by one goroutine at a time. nil: the next chunk of Direction, of any
	// connection.
	When func(connection int, d Direction, chunk []byte) bool

	proxy *Proxy
	fired chan struct{}
	later chan struct{} // closed by Release
	// The rest is the proxy's, under its lock.
	link   *link
	seen   int64
	struck bool
}

// Fired is closed when the connection has been cut.
func (c *Cut) Fired() <-chan struct{} { return c.fired }

// Release lets a stalled connection go on. It is called once.
func (c *Cut) Release() { close(c.later) }

// Seen is how many bytes of Direction have passed since When said so.
func (c *Cut) Seen() int64 {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	return c.seen
}

// take is how many bytes of a chunk are delivered, and whether the cut follows. The proxy's lock is held.
func (c *Cut) take(l *link, d Direction, bytes []byte) (n int, now bool) {
	if c == nil || c.struck {
		return len(bytes), false
	}
	if c.link == nil {
		if c.When == nil && d != c.Direction || c.When != nil && !c.When(l.number, d, bytes) {
			return len(bytes), false
		}
		c.link = l
	}
	if c.link != l || d != c.Direction {
		return len(bytes), false
	}
	if left := c.After - c.seen; int64(len(bytes)) >= left {
		c.seen, c.struck = c.After, true
		return int(left), true
	}
	c.seen += int64(len(bytes))
	return len(bytes), false
}

// strike does it, and reports whether what follows is delivered.
func (c *Cut) strike(l *link, d Direction) bool {
	switch c.End {
	case Stall:
		close(c.fired)
		select {
		case <-c.later:
			return true
		case <-l.ctx.Done():
			return false
		}
	case Silence:
		l.silent[d].Store(true)
	default:
		l.end(c.End)
	}
	close(c.fired)
	return false
}
