package warehouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/countinghouse/countinghouse/internal/telemetry"
)

// expand puts the names of the two databases in place of {{db}} and {{api}}. Names are checked by Open;
// everything else in a statement is text of this repository, and values are bound.
func (w *Warehouse) expand(sql string) string {
	return strings.NewReplacer("{{db}}", w.db, "{{api}}", w.api).Replace(sql)
}

// exec runs a statement that returns nothing.
func (w *Warehouse) exec(ctx context.Context, sql string, args ...any) error {
	ctx, cancel := w.limit(ctx)
	defer cancel()
	return w.unanswered(ctx, w.pool.with(func(c driver.Conn) error { return c.Exec(ctx, w.expand(sql), args...) }))
}

// one asks for the one row of a statement.
func (w *Warehouse) one(ctx context.Context, sql string, args []any, into ...any) error {
	return w.unanswered(ctx, w.pool.with(func(c driver.Conn) error { return c.QueryRow(ctx, w.expand(sql), args...).Scan(into...) }))
}

// Positions turns what was counted of each shard into two parameters of a statement: seq <= transform(shard, shards, seqs, toUInt64(0)).
func Positions(to map[uint16]uint64) (shards []uint16, seqs []uint64) {
	shards, seqs = []uint16{}, []uint64{} // not nil: an empty array, and no NULL
	for shard, seq := range to {
		shards, seqs = append(shards, shard), append(seqs, seq)
	}
	return shards, seqs
}

// unanswered looks whether a statement ended because its time was over, and returns its error.
func (w *Warehouse) unanswered(ctx context.Context, err error) error {
	err = ended(ctx, err)
	if errors.Is(err, context.DeadlineExceeded) {
		w.distrust()
	}
	return err
}

// ended is the error of a statement, which is that of its context where that has ended: the deadline of the connection
// passes at the same moment, and a connection is closed when its statement is cancelled, so that a statement may notice
// either before it looks at the context.
func ended(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	cause := ctx.Err()
	if deadline, ok := ctx.Deadline(); cause == nil && ok && !time.Now().Before(deadline) {
		cause = context.DeadlineExceeded
	}
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// Named binds a value to @name in a statement.
func Named(name string, value any) any { return clickhouse.Named(name, value) }

func named(name string, value any) driver.NamedValue { return clickhouse.Named(name, value) }

// Rows is the part of a result that a scan function sees.
type Rows interface {
	Scan(dest ...any) error
}

// Query runs a read and calls scan for each row; {{db}} and {{api}} in sql stand for the two databases,
// @name for the value bound with Named. It keeps the Bounds of ctx, and ends with its Silence.
func (w *Warehouse) Query(ctx context.Context, sql string, args []any, scan func(Rows) error) error {
	if silence := Silence(ctx); silence.Err() != nil {
		return fmt.Errorf("query: %w", context.Cause(silence))
	}
	ctx, cancel := w.limit(ctx)
	defer cancel()
	ctx, leave := attend(ctx)
	defer leave()
	ctx, span := telemetry.Child(ctx, "query")
	span.Text("db.query.text", sql)
	err := w.silent(ctx, w.query(ctx, sql, args, scan))
	span.End(err)
	return err
}

func (w *Warehouse) query(ctx context.Context, sql string, args []any, scan func(Rows) error) error {
	var rows driver.Rows
	err := w.pool.with(func(c driver.Conn) (err error) {
		rows, err = c.Query(bounded(ctx), w.expand(sql), args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("query: %w", w.unanswered(ctx, err))
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("scan a row: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read rows: %w", w.unanswered(ctx, err))
	}
	return nil
}

// Collect runs a read and returns one T per row, filled by scan.
func Collect[T any](ctx context.Context, w *Warehouse, sql string, args []any, scan func(Rows, *T) error) ([]T, error) {
	var all []T
	err := w.Query(ctx, sql, args, func(r Rows) error {
		var t T
		if err := scan(r, &t); err != nil {
			return err
		}
		all = append(all, t)
		return nil
	})
	return all, err
}
