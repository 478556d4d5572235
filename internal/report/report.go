// Package report answers questions about usage: queries on the warehouse, joined with the directory as
// of an instant.
//
// Guarantee: every answer is a pure function of (log, as_of, parameters). Sums are exact decimals from
// the wire to the answer. An answer counts at least every event at or below the watermark it carries,
// and no event twice. The sum of all accounts' own values equals the sum of the roots' tree values.
//
// Every statement names the tenant of the caller and reads no other tenant's rows; there is no question
// that spans tenants. The package writes nothing.
package report

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Error is a question that cannot be answered as asked. Code is stable.
type Error struct {
	Code      string
	Parameter string // the parameter at fault, "" if none
	Detail    string
}

func (e *Error) Error() string {
	if e.Parameter == "" {
		return e.Code + ": " + e.Detail
	}
	return e.Code + ": " + e.Parameter + ": " + e.Detail
}

// Codes of Error.
const (
	CodeParameter  = "bad-parameter"
	CodeNotSettled = "not-settled"
	CodeNotFound   = "not-found"
	CodeNoVersion  = "no-such-version"
	CodeCursor     = "bad-cursor"
)

// Reports answers. It is safe for concurrent use.
type Reports struct {
	db       *warehouse.Warehouse
	now      func() time.Time
	books    books
	pages    shelf[Month]
	answers  shelf[answer]
	tallies  shelf[[]tally]
	sumCells shelf[cells]
	samples  shelf[[]sample]
	// Of reports: what follows from tallies and the directory.
	staBooks shelf[staBook]
	pins     shelf[string]
	tenants  shelf[[]tenantLine]
	details  shelf[[]sheet.Row]
	assets   shelf[[]assetTotal]
	stocks   shelf[[]stockUse]
}

// New answers from db; now is the clock that decides which months are open.
func New(db *warehouse.Warehouse, now func() time.Time) *Reports {
	return &Reports{
		db: db, now: now, books: books{tenants: map[string]*book{}}, pages: shelf[Month]{max: rowsKept}, answers: shelf[answer]{max: keptRowsTotal},
		sumCells: shelf[cells]{max: sumsKept}, samples: shelf[[]sample]{max: sumsKept}, tallies: shelf[[]tally]{max: talliesKept}, staBooks: shelf[staBook]{max: bookKeptMax}, pins: shelf[string]{max: pinsMax},
		tenants: shelf[[]tenantLine]{max: tenantLinesKept}, details: shelf[[]sheet.Row]{max: detailRowsKept},
		assets: shelf[[]assetTotal]{max: assetTotalsKept}, stocks: shelf[[]stockUse]{max: stockUsesKept},
	}
}

// bind turns parameters into arguments of a statement.
func bind(params map[string]any) []any {
	args := make([]any, 0, len(params))
	for name, value := range params {
		args = append(args, warehouse.Named(name, value))
	}
	return args
}

func (r *Reports) query(ctx context.Context, what, sql string, params map[string]any, scan func(warehouse.Rows) error) error {
	if err := r.db.Query(ctx, sql, bind(params), scan); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// errEnough ends a statement whose rows nobody wants any more.
var errEnough = errors.New("enough rows")

// stream is the rows of a statement as they come from the warehouse: nothing of the answer is kept.
func stream[T any](ctx context.Context, r *Reports, what, sql string, params map[string]any, scan func(warehouse.Rows) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		err := r.query(ctx, what, sql, params, func(rows warehouse.Rows) error {
			one, err := scan(rows)
			if err == nil && !yield(one, nil) {
				cancel() // the server stops as well
				return errEnough
			}
			return err
		})
		if err != nil && !errors.Is(err, errEnough) {
			var none T
			yield(none, err)
		}
	}
}

// Instant is Unix milliseconds that print as RFC 3339 in UTC; the epoch stands for none.
type Instant int64

// String is "2025-03-01T00:00:00Z", with milliseconds where there are any; "" for none.
func (i Instant) String() string {
	if i == 0 {
		return ""
	}
	t := time.UnixMilli(int64(i)).UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.Format("2006-01-02T15:04:05.999Z")
	}
	hour, minute, second := t.Clock()
	buf := make([]byte, 0, len("2006-01-02T15:04:05.000Z"))
	two := func(n int, after byte) { buf = append(buf, '0'+byte(n/10), '0'+byte(n%10), after) }
	buf = append(buf, '0'+byte(year/1000), '0'+byte(year/100%10))
	two(year%100, '-')
	two(int(month), '-')
	two(day, 'T')
	two(hour, ':')
	two(minute, ':')
	if millis := t.Nanosecond() / 1_000_000; millis != 0 {
		two(second, '.')
		buf = append(buf, '0'+byte(millis/100))
		two(millis%100, 'Z')
	} else {
		two(second, 'Z')
	}
	return string(buf)
}

// MarshalJSON is the string, or null for none.
func (i Instant) MarshalJSON() ([]byte, error) {
	if i == 0 {
		return []byte("null"), nil
	}
	return []byte(`"` + i.String() + `"`), nil
}
