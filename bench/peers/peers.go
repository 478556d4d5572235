// Package peers is what others write to bring events from JetStream into ClickHouse, to stand beside the
// product in the same table.
//
// Usual is the loop of most hand-written consumers: Fetch, encoding/json, clickhouse-go row by row, a batch
// of 10,000, then an ack for each message. It loses nothing, and doubles what it inserted and had not
// acknowledged when it died. Bare is what the machine can do: an ordered consumer, JSON by tokens, ch-go
// columns, blocks of 100,000 rows, and no idea after a crash of what it has inserted.
//
// Neither looks for duplicates, checks an event, keeps a ledger, rolls anything up or waits for a disk. Both
// read CloudEvents JSON, a batch a message, and write a table with the sort key, partitions and codecs of
// `events` that has the columns their events need and nothing else: no projection, no index, no fsync.
package peers

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says what to drain and where to.
type Config struct {
	NATS       string // URL
	Stream     string
	From       uint64 // first sequence
	Messages   int    // to read from there on
	ClickHouse string // host:port of the native protocol
	Table      string // database.table
}

// Names of the loops.
const (
	Usual = "usual"
	Bare  = "bare"
)

// Run is one of the loops. It returns when the last row is inserted.
func Run(ctx context.Context, loop string, c Config) error {
	switch loop {
	case Usual:
		return usual(ctx, c)
	case Bare:
		return bare(ctx, c)
	}
	return fmt.Errorf("no loop %q; there are %s and %s", loop, Usual, Bare)
}

// Schema makes the table, empty.
func Schema(table string) string {
	return `CREATE OR REPLACE TABLE ` + table + `
(
    tenant        LowCardinality(String),
    source        LowCardinality(String),
    id            String,
    type          LowCardinality(String),
    account       LowCardinality(String),
    at            DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    meter         LowCardinality(String),
    quantity      Decimal(38, 9),
    unit          LowCardinality(String),
    region        LowCardinality(String),
    consumer_type LowCardinality(String),
    consumer_id   String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant, meter, account, at)
SETTINGS default_compression_codec = 'ZSTD(1)'`
}

const columns = `tenant, source, id, type, account, at, meter, quantity, unit, region, consumer_type, consumer_id`

// connect opens the stream.
func connect(ctx context.Context, c Config) (*nats.Conn, jetstream.Stream, error) {
	nc, err := nats.Connect(c.NATS)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to nats: %w", err)
	}
	js, err := jetstream.New(nc)
	if err == nil {
		var stream jetstream.Stream
		if stream, err = js.Stream(ctx, c.Stream); err == nil {
			return nc, stream, nil
		}
	}
	nc.Close()
	return nil, nil, fmt.Errorf("stream %s: %w", c.Stream, err)
}

// tenantOf reads usage.log.<partition>.<tenant>.<kind>.
func tenantOf(subject string) string {
	parts := strings.SplitN(subject, ".", 5)
	if len(parts) < 5 {
		return ""
	}
	return parts[3]
}
