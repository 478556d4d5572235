package warehouse_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// squat runs a query under the name that the inserts into events have, until stop is called.
func (b *bench) squat() (stop func()) {
	b.Helper()
	name := "agg-0-events-" + b.db
	query := url.Values{"query_id": {name}, "query": {"SELECT count() FROM numbers(6000) WHERE sleepEachRow(0.05) = 0 SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0"}}
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.engine.URL()+"/?"+query.Encode(), nil)
		if err != nil {
			b.Error(err)
			return
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close() // killed: what it answers is of no interest
		}
	}()
	b.await("the name is taken", "1", "SELECT count() FROM system.processes WHERE query_id = '"+name+"'")
	return func() {
		b.query("SELECT 1") // the engine is reachable
		// Not SYNC: that goes on killing whatever has the name, which may be the insert that waits for it.
		if _, err := b.engine.Query(b.ctx, "KILL QUERY WHERE query_id = '"+name+"' ASYNC"); err != nil {
			b.Error(err)
		}
		<-done
		cancel()
	}
}

// TestInsertWaitsForItsName: a fenced insert of an earlier owner can still be in the process list. The new
// owner's insert waits until it has ended, instead of ending its session (error 216).
func TestInsertWaitsForItsName(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	wr := b.takeOver(0)
	stop := b.squat()
	block := warehouse.NewEventBlock()
	block.Append(event(1, day("2026-01-01")))
	inserted := make(chan error, 1)
	go func() { inserted <- wr.Insert(b.ctx, block) }()
	b.await("the insert was refused for its name", "1",
		"SELECT count() > 0 FROM system.errors WHERE name = 'QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING'")
	stop()
	if err := <-inserted; err != nil {
		t.Errorf("Insert after the name was free = %v", err)
	}
	b.want("1", "SELECT count() FROM {{db}}.events")
}

// TestDialFailsWhileWaiting: the connection for the next try cannot be made, as when the lease is lost and
// everything is cancelled. Insert says so; it once dereferenced the client that was not there.
func TestDialFailsWhileWaiting(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	errDown := errors.New("no route")
	var down atomic.Bool
	w := b.open(warehouse.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if down.Load() {
			return nil, errDown
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}})
	wr, err := w.TakeOver(b.ctx, 0, 0, t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wr.Close)
	stop := b.squat()
	defer stop()
	down.Store(true)
	block := warehouse.NewEventBlock()
	block.Append(event(1, day("2026-01-01")))
	for range 2 {
		if err := wr.Insert(b.ctx, block); !errors.Is(err, warehouse.ErrUnknown) || !errors.Is(err, errDown) {
			t.Fatalf("Insert = %v, want ErrUnknown because of the dial", err)
		}
	}
	b.want("0", "SELECT count() FROM {{db}}.events")
}
