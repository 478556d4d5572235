package warehouse

import (
	"context"
	"fmt"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// readersMax is how many idle connections for bulk reads are kept; more may be open at once.
const readersMax = 4

// readers keeps connections for reads of many rows, column by column.
type readers struct{ idle chan *ch.Client }

func newReaders() readers { return readers{idle: make(chan *ch.Client, readersMax)} }

func (r readers) close() {
	for {
		select {
		case c := <-r.idle:
			_ = c.Close() // idle: nothing can be lost
		default:
			return
		}
	}
}

// bulk is one read of many rows. wanted, if any, is sent along and readable as a table of that name.
type bulk struct {
	sql    string
	wanted proto.Input
	result proto.Results
	each   func(rows int) error // called with result filled, once per block
}

// read runs b. Every value in b.sql is a number of ours or comes in b.wanted; {{db}} is expanded.
func (w *Warehouse) read(ctx context.Context, b bulk) error {
	ctx, cancel := w.limit(ctx)
	defer cancel()
	client, err := w.reader(ctx)
	if err != nil {
		return err
	}
	q := ch.Query{
		Body:   w.expand(b.sql),
		Result: b.result,
		OnResult: func(_ context.Context, block proto.Block) error {
			if block.Rows == 0 {
				return nil
			}
			return b.each(block.Rows)
		},
		Settings: []ch.Setting{
			{Key: "use_query_cache", Value: "0", Important: true},
			// The index of a projection is used whatever the size of the table and of the answer.
			{Key: "min_table_rows_to_use_projection_index", Value: "0"},
			{Key: "max_projection_rows_to_use_projection_index", Value: "1000000000000"},
		},
	}
	if len(b.wanted) > 0 {
		q.ExternalTable, q.ExternalData = "wanted", b.wanted
	}
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer stop()
	if err := client.Do(ctx, q); err != nil {
		_ = client.Close() // its stream may be anywhere
		return ended(ctx, err)
	}
	if !stop() {
		return nil // closed already: the answer was complete
	}
	select {
	case w.readers.idle <- client:
	default:
		_ = client.Close()
	}
	return nil
}

func (w *Warehouse) reader(ctx context.Context) (*ch.Client, error) {
	for {
		select {
		case c := <-w.readers.idle:
			if alive(ctx, c) {
				return c, nil
			}
			_ = c.Close()
		default:
			c, err := w.dial(ctx)
			if err != nil {
				return nil, fmt.Errorf("open a connection for reading: %w", err)
			}
			return c, nil
		}
	}
}

// alive asks an idle connection: the server may have been restarted meanwhile, or the network may swallow all.
func alive(ctx context.Context, c *ch.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // a ping looks at ctx before it waits, not while
	return c.Ping(ctx) == nil && stop()
}

// column names a result column.
func column(name string, data proto.ColResult) proto.ResultColumn {
	return proto.ResultColumn{Name: name, Data: data}
}
