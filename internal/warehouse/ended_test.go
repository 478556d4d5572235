package warehouse

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"
)

// TestEnded: whoever notices first that the time of a statement is over, the statement or its connection, the error is
// the same.
func TestEnded(t *testing.T) {
	t.Parallel()
	late, leave := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer leave()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	broken := &net.OpError{Op: "read", Err: net.ErrClosed}
	slow := &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	for name, tt := range map[string]struct {
		ctx  context.Context
		err  error
		want error
		not  error
	}{
		"closed at the deadline":   {late, broken, context.DeadlineExceeded, context.Canceled},
		"its own time-out":         {late, slow, context.DeadlineExceeded, context.Canceled},
		"the deadline, in between": {hurried{t.Context()}, slow, context.DeadlineExceeded, context.Canceled},
		"cancelled":                {gone, broken, context.Canceled, context.DeadlineExceeded},
		"a fault of the network":   {t.Context(), broken, net.ErrClosed, context.DeadlineExceeded},
	} {
		got := ended(tt.ctx, tt.err)
		if !errors.Is(got, tt.want) || !errors.Is(got, tt.err) || errors.Is(got, tt.not) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if err := ended(late, nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}

// hurried is past its deadline, and does not know it yet.
type hurried struct{ context.Context }

func (hurried) Deadline() (time.Time, bool) { return time.Now(), true }

// TestPoolIsReplacedUnderAStatement: connections that are no longer believed in are replaced as a whole. A statement that
// was just about to take one of them takes one of the new, and no defect of the program is told to whoever asked.
func TestPoolIsReplacedUnderAStatement(t *testing.T) {
	t.Parallel()
	p, err := newPool(zap.NewNop(), func() (driver.Conn, error) {
		return clickhouse.Open(&clickhouse.Options{Addr: []string{"127.0.0.1:1"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	err = p.with(func(c driver.Conn) error {
		if tries++; tries == 1 {
			p.renew()
		}
		return c.Ping(t.Context())
	})
	if tries != 2 || errors.Is(err, clickhouse.ErrConnectionClosed) {
		t.Errorf("after %d tries: %v", tries, err)
	}
	_ = p.get().Close()
	if err := p.with(func(c driver.Conn) error { return c.Ping(t.Context()) }); !errors.Is(err, clickhouse.ErrConnectionClosed) {
		t.Errorf("closed for good: %v", err)
	}
}
