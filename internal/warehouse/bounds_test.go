package warehouse_test

import (
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestThreads: a bound of threads is the statement's own, beside others.
func TestThreads(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	ctx := warehouse.Bounded(warehouse.Bounded(t.Context(), warehouse.Bounds{Threads: 1}), warehouse.Bounds{Time: time.Minute})
	var threads uint64
	err := b.w.Query(ctx, "SELECT toUInt64(getSetting('max_threads'))", nil, func(r warehouse.Rows) error { return r.Scan(&threads) })
	if err != nil || threads != 1 {
		t.Errorf("%d threads, %v; want 1", threads, err)
	}
}

// TestBounds runs a statement into each bound, and the same within it.
func TestBounds(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	for name, tt := range map[string]struct {
		sql           string
		small, enough warehouse.Bounds
		want          warehouse.Bound
	}{
		"time": {"SELECT sum(sipHash64(number)) FROM numbers(20000000)",
			warehouse.Bounds{Time: 50 * time.Millisecond}, warehouse.Bounds{Time: time.Minute}, warehouse.BoundTime},
		"memory": {"SELECT uniqExact(number) FROM numbers(2000000)",
			warehouse.Bounds{Memory: 10 << 20}, warehouse.Bounds{Memory: 1 << 30}, warehouse.BoundMemory},
		"rows": {"SELECT number FROM numbers(2000)",
			warehouse.Bounds{Rows: 1999}, warehouse.Bounds{Rows: 2000}, warehouse.BoundRows},
		"groups": {"SELECT count() FROM (SELECT number % 500000 AS n FROM numbers(1000000) GROUP BY n)",
			warehouse.Bounds{Groups: 1000}, warehouse.Bounds{Groups: 500000, Rows: 1}, warehouse.BoundRows},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read := func(bounds warehouse.Bounds) error {
				ctx := warehouse.Bounded(t.Context(), bounds)
				return b.w.Query(ctx, tt.sql, nil, func(r warehouse.Rows) error {
					var n uint64
					return r.Scan(&n)
				})
			}
			if err := read(tt.small); warehouse.Exceeded(err) != tt.want {
				t.Errorf("%+v: %v", tt.small, err)
			}
			if err := read(tt.enough); err != nil {
				t.Errorf("%+v: %v", tt.enough, err)
			}
		})
	}
}
