package warehouse

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// storeRows is how many rows a part of Store has at most: 10 MB of closed months.
const storeRows = 50_000

// Store writes rows to a table that is no target of the log: nothing fences it, and rows of a call that
// failed may be there or not, which the table's readers must not mind. sql is an INSERT that names its columns,
// without values; rows calls add for each row.
func (w *Warehouse) Store(ctx context.Context, sql string, rows func(add func(values ...any) error) error) error {
	ctx, cancel := w.limit(ctx)
	defer cancel()
	var batch driver.Batch
	err := w.pool.with(func(c driver.Conn) (err error) {
		batch, err = c.PrepareBatch(ctx, w.expand(sql))
		return err
	})
	if err != nil {
		return fmt.Errorf("prepare an insert: %w", w.unanswered(ctx, err))
	}
	defer func() { _ = batch.Close() }() // after Send it does nothing
	err = rows(func(values ...any) error {
		if err := batch.Append(values...); err != nil {
			return fmt.Errorf("append a row: %w", err)
		}
		if batch.Rows() < storeRows {
			return nil
		}
		if err := batch.Flush(); err != nil {
			return fmt.Errorf("insert: %w", w.unanswered(ctx, err))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert: %w", w.unanswered(ctx, err))
	}
	return nil
}

// Remove runs a DELETE on a table that is no target of the log.
func (w *Warehouse) Remove(ctx context.Context, sql string, args ...any) error {
	return w.exec(ctx, sql, args...)
}

// Home is the server that has a tenant's rows, where there are several: what is stored about the tenant beside
// the log belongs there too, because a view joins what one server has.
func (s *Servers) Home(ctx context.Context, tenant string) (*Warehouse, error) {
	if !s.Several() {
		return s.reader, nil
	}
	const one = `SELECT toUInt8(1) FROM {{db}}.events WHERE tenant = @tenant LIMIT 1`
	for _, w := range s.all {
		found, err := Collect(ctx, w, one, []any{named("tenant", tenant)}, func(r Rows, n *uint8) error { return r.Scan(n) })
		if err != nil {
			return nil, fmt.Errorf("look for tenant %s at %s: %w", tenant, w.Address(), err)
		}
		if len(found) > 0 {
			return w, nil
		}
	}
	return s.all[0], nil // of whom nothing is known, nothing can be joined
}
