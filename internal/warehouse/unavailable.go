package warehouse

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Unavailable reports whether a read failed because the server cannot be reached or is not ready: it is
// down, overloaded, or not migrated yet. The same question may succeed later. Anything else a read
// returns is a defect of the question or of the schema.
func Unavailable(err error) bool {
	var refused *clickhouse.Exception
	if errors.As(err, &refused) {
		return slices.Contains(passing(), refused.Code)
	}
	var network net.Error
	return errors.Is(err, ErrSilent) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, clickhouse.ErrAcquireConnTimeout) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, context.DeadlineExceeded)
}

// passing are the server's own codes for "not now".
func passing() []int32 {
	return []int32{
		60, 81, // unknown table, unknown database: not migrated yet
		159, 160, // timeout exceeded, too slow
		202,      // too many simultaneous queries
		209, 210, // socket timeout, network error
		236, 394, // aborted, query was cancelled: the server stops
		241, // memory limit exceeded
		516, // authentication failed: users are still being loaded, or the operator must act
	}
}
