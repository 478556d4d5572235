package warehouse

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
	return w.unanswered(w.pool.get().Exec(ctx, w.expand(sql), args...))
}

// one asks for the one row of a statement.
func (w *Warehouse) one(ctx context.Context, sql string, args []any, into ...any) error {
	return w.unanswered(w.pool.get().QueryRow(ctx, w.expand(sql), args...).Scan(into...))
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
func (w *Warehouse) unanswered(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		w.distrust()
	}
	return err
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
	rows, err := w.pool.get().Query(bounded(ctx), w.expand(sql), args...)
	if err != nil {
		return fmt.Errorf("query: %w", w.unanswered(err))
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("scan a row: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read rows: %w", w.unanswered(err))
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
