package warehouse_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// valve is a network whose connections can be made to stop sending, as a stopped process does, or to
// lose what the server says, as a cut network does.
type valve struct {
	allow atomic.Int64 // bytes that may still be sent; negative: no limit
	deaf  atomic.Bool  // answers are lost from now on
}

func newValve() *valve {
	v := &valve{}
	v.allow.Store(-1)
	return v
}

func (v *valve) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &valveConn{Conn: c, v: v, closed: make(chan struct{})}, nil
}

type valveConn struct {
	net.Conn
	v      *valve
	once   sync.Once
	closed chan struct{}
}

func (c *valveConn) Write(b []byte) (int, error) {
	sent := 0
	for len(b) > 0 {
		n := len(b)
		if allow := c.v.allow.Load(); allow >= 0 {
			if n = int(min(allow, int64(n))); n == 0 {
				<-c.closed // stopped: what is not sent by now never is
				return sent, net.ErrClosed
			}
			c.v.allow.Add(-int64(n))
		}
		k, err := c.Conn.Write(b[:n])
		sent += k
		b = b[k:]
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

func (c *valveConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.v.deaf.Load() {
			return n, err
		}
	}
}

func (c *valveConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func rowsOf(shard uint16, from, to int) *warehouse.EventBlock {
	block := warehouse.NewEventBlock()
	for i := from; i < to; i++ {
		r := event(i, usage.AtTime(time.Date(2026, time.Month(1+i%2), 1, 0, 0, i%60, 0, time.UTC)))
		r.Shard, r.Seq = shard, uint64(1+i)
		block.Append(r)
	}
	return block
}

// TestTakeOverWhileStuck: a writer that stopped in the middle of an insert is killed by the next owner
// within receive_timeout, and nothing of its block appears afterwards.
func TestTakeOverWhileStuck(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	v := newValve()
	stuck := b.open(warehouse.Config{Dial: v.dial, InsertTimeout: 20 * time.Second})
	wr, err := stuck.TakeOver(b.ctx, 0, 0, "stuck")
	if err != nil {
		t.Fatalf("TakeOver: %v", err)
	}
	defer wr.Close()
	b.want("0", "SELECT count() FROM {{db}}.events")
	v.allow.Store(300_000) // the statement and a part of the block
	failed := make(chan error, 1)
	go func() { failed <- wr.Insert(b.ctx, rowsOf(0, 0, 50_000)) }()
	b.awaitStart("agg-0-events-" + b.db)

	next := b.takeOver(0)
	b.want("0", "SELECT count() FROM system.processes WHERE query_id = 'agg-0-events-{{db}}'")
	b.insert(next, rowsOf(0, 0, 10))
	wr.Close()
	if err := <-failed; !errors.Is(err, warehouse.ErrUnknown) {
		t.Errorf("Insert of the stuck writer = %v, want ErrUnknown", err)
	}
	b.want("10", "SELECT count() FROM {{db}}.events")
}

// awaitStart waits until a query has begun. The server ends by itself what gets nothing more for five seconds, and this
// machine may look too late.
func (b *bench) awaitStart(id string) {
	b.Helper()
	deadline := time.Now().Add(awaitMost)
	for b.query("SELECT count() FROM system.processes WHERE query_id = '%s'", id) == "0" {
		b.query("SYSTEM FLUSH LOGS query_log")
		if b.query("SELECT count() FROM system.query_log WHERE query_id = '%s'", id) != "0" {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("query %s has not begun within %s", id, awaitMost)
		}
	}
}

// TestRetryAfterUnknown: when the answer of a stored insert is lost, the next owner's watermarks say
// that it is stored, and sending what they let through adds nothing.
func TestRetryAfterUnknown(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	v := newValve()
	deaf := b.open(warehouse.Config{Dial: v.dial})
	wr, err := deaf.TakeOver(b.ctx, 0, 0, "deaf")
	if err != nil {
		t.Fatalf("TakeOver: %v", err)
	}
	defer wr.Close()
	block := rowsOf(0, 0, 1_000)
	failed := make(chan error, 1)
	ctx, giveUp := context.WithCancel(b.ctx)
	defer giveUp()
	go func() { failed <- wr.Insert(ctx, block) }()
	// The answer to an insert starts with the columns; lose what comes after the rows are there.
	b.await("the rows are stored", "1000", "SELECT count() FROM {{db}}.events")
	v.deaf.Store(true)
	giveUp()
	err = <-failed
	if err != nil && !errors.Is(err, warehouse.ErrUnknown) {
		t.Fatalf("Insert = %v, want success or ErrUnknown", err)
	}
	if err == nil { // the answer was faster: have the next one lost for certain
		ctx, giveUp := context.WithTimeout(b.ctx, 500*time.Millisecond)
		defer giveUp()
		if err := wr.Insert(ctx, rowsOf(0, 1_000, 2_000)); !errors.Is(err, warehouse.ErrUnknown) {
			t.Fatalf("Insert on a deaf connection = %v, want ErrUnknown", err)
		}
	}
	if err := wr.Insert(b.ctx, rowsOf(0, 5_000, 5_001)); !errors.Is(err, warehouse.ErrUnknown) {
		t.Errorf("Insert after an unknown outcome = %v, want ErrUnknown", err)
	}

	next := b.takeOver(0)
	again := warehouse.NewEventBlock()
	for i := range 2_000 {
		r := event(i, usage.AtTime(time.Date(2026, time.Month(1+i%2), 1, 0, 0, i%60, 0, time.UTC)))
		r.Seq = uint64(1 + i)
		if r.Seq > next.Watermarks()[warehouse.Events][warehouse.PartitionOf(warehouse.Events, r.At)] {
			again.Append(r)
		}
	}
	b.insert(next, again)
	b.want("2000\t2000", "SELECT count(), uniqExact(seq) FROM {{db}}.events")
}

// TestInsertTimeout: a server that never answers costs the deadline and no more.
func TestInsertTimeout(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	v := newValve()
	w := b.open(warehouse.Config{Dial: v.dial, InsertTimeout: 500 * time.Millisecond})
	wr, err := w.TakeOver(b.ctx, 0, 0, "x")
	if err != nil {
		t.Fatalf("TakeOver: %v", err)
	}
	defer wr.Close()
	v.deaf.Store(true)
	if err := wr.Insert(b.ctx, rowsOf(0, 0, 10)); !errors.Is(err, warehouse.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Insert = %v, want ErrUnknown for a deadline", err)
	}
}

// TestTakeOverRace: of owners that take over at once, the one with the highest row is left.
func TestTakeOverRace(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	const n = 8
	writers := make([]*warehouse.Writer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			wr, err := b.w.TakeOver(b.ctx, 0, 5, fmt.Sprint(i))
			if err != nil && !errors.Is(err, warehouse.ErrFenced) {
				t.Errorf("TakeOver: %v", err)
			}
			writers[i] = wr
		})
	}
	wg.Wait()
	stored := 0
	for i, wr := range writers {
		if wr == nil {
			continue
		}
		defer wr.Close()
		if wr.Epoch() < 6 {
			t.Errorf("epoch %d is not above the floor 5", wr.Epoch())
		}
		err := wr.Insert(b.ctx, rowsOf(0, i, i+1))
		if err == nil {
			stored++
		} else if !errors.Is(err, warehouse.ErrFenced) {
			t.Errorf("Insert: %v", err)
		}
	}
	if stored != 1 {
		t.Errorf("%d of %d owners could insert, want 1", stored, n)
	}
	b.want("1", "SELECT count() FROM {{db}}.events")
}

// TestServerRestart: after the server died, the old Writer fails, the next one finds every row.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	s := localstack.Start(t, localstack.Options{NoNATS: true})
	b := migrated(t, s.ClickHouse, "countinghouse")
	wr := b.takeOver(0)
	b.insert(wr, rowsOf(0, 0, 100))
	s.ClickHouse.Kill()
	if err := s.ClickHouse.Restart(b.ctx); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	if err := wr.Insert(b.ctx, rowsOf(0, 100, 200)); !errors.Is(err, warehouse.ErrUnknown) {
		t.Errorf("Insert on the old connection = %v, want ErrUnknown", err)
	}
	next := b.takeOver(0)
	marks := next.Watermarks()[warehouse.Events]
	if marks[202601] != 99 || marks[202602] != 100 {
		t.Errorf("watermarks after a crash = %v, want 99 and 100", marks)
	}
	b.insert(next, rowsOf(0, 100, 200))
	b.want("200", "SELECT count() FROM {{db}}.events")
}
