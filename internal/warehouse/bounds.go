package warehouse

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Bounds are what one read may take of the server, which ends it with an error that Exceeded knows; with fewer threads it
// only takes longer. A zero is no bound.
type Bounds struct {
	Time    time.Duration
	Memory  int64 // bytes
	Rows    int   // of the answer
	Groups  int   // of any step that groups: ends a statement sooner than Rows, where it has one such step
	Threads int   // at a time
}

// blockRows keeps what is in the client's memory at a time small: a block is that many rows of the answer.
const blockRows = 16 << 10

type boundsKey struct{}

// Bounded makes reads keep bounds; those of b that are zero stay as they were.
func Bounded(ctx context.Context, b Bounds) context.Context {
	had := boundsOf(ctx)
	if b.Time == 0 {
		b.Time = had.Time
	}
	if b.Memory == 0 {
		b.Memory = had.Memory
	}
	if b.Rows == 0 {
		b.Rows = had.Rows
	}
	if b.Groups == 0 {
		b.Groups = had.Groups
	}
	if b.Threads == 0 {
		b.Threads = had.Threads
	}
	return context.WithValue(ctx, boundsKey{}, b)
}

func boundsOf(ctx context.Context) Bounds {
	b, _ := ctx.Value(boundsKey{}).(Bounds)
	return b
}

// bounded turns the bounds of ctx into settings of the statement.
func bounded(ctx context.Context) context.Context {
	b := boundsOf(ctx)
	settings := clickhouse.Settings{}
	if b.Time > 0 {
		settings["max_execution_time"] = b.Time.Seconds()
		settings["timeout_overflow_mode"] = "throw"
		ctx = unhurried{ctx}
	}
	if b.Memory > 0 {
		settings["max_memory_usage"] = b.Memory
		settings["max_block_size"] = blockRows
	}
	if b.Rows > 0 {
		settings["max_result_rows"] = b.Rows
		settings["result_overflow_mode"] = "throw"
	}
	if b.Groups > 0 {
		settings["max_rows_to_group_by"] = b.Groups
		settings["group_by_overflow_mode"] = "throw"
	}
	if b.Threads > 0 {
		settings["max_threads"] = b.Threads
	}
	if len(settings) == 0 {
		return ctx
	}
	return clickhouse.Context(ctx, clickhouse.WithSettings(settings))
}

// unhurried hides the deadline, not the end, of a context: the driver would turn it into a
// max_execution_time of its own.
type unhurried struct{ context.Context }

// Deadline is none.
func (unhurried) Deadline() (time.Time, bool) { return time.Time{}, false }

// Bound is what a read ran into.
type Bound int

// The bounds.
const (
	Unbounded Bound = iota
	BoundTime
	BoundMemory
	BoundRows
)

// Exceeded tells the bound that ended a read. The same question would run into it again.
func Exceeded(err error) Bound {
	var refused *clickhouse.Exception
	switch {
	case !errors.As(err, &refused):
	case refused.Code == 159: // timeout exceeded
		return BoundTime
	case refused.Code == 241 && slices.ContainsFunc([]string{"(for query)", "Query memory limit"}, func(s string) bool {
		return strings.Contains(refused.Message, s) // its own limit, not that of the whole server
	}):
		return BoundMemory
	case refused.Code == 158, refused.Code == 396: // too many rows, or bytes, in the answer
		return BoundRows
	}
	return Unbounded
}
