// Package warehouse is ClickHouse: its tables, its writers and the typed questions asked of it.
//
// Guarantee: a block handed to Writer.Insert is in its table once or not at all, whatever happens to
// the writer, the server or the wire in between. The order that makes it so is fixed (ADR 0002):
// a new owner row, KILL of the previous owner's inserts, then the watermark read; every insert is one
// native block fenced by the owner row, and one block into one partition is one part, which ClickHouse
// commits atomically. An error of an insert never says that the block is absent: drop the Writer, take
// over again, filter the same rows by the new watermarks, send the rest.
//
// The package decides nothing about events: what counts is decided by the aggregator. It is the only
// importer of clickhouse-go (queries) and ch-go (inserts and bulk reads).
package warehouse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"
)

var (
	// ErrFenced says that another owner of the shard exists: step down, ask for the lease again.
	ErrFenced = errors.New("the shard has another owner")
	// ErrUnknown says that an insert's outcome is unknown: its rows may be stored or not. The Writer
	// is spent; TakeOver again and filter by the watermarks it reads.
	ErrUnknown = errors.New("outcome of the insert is unknown")
	// ErrContent says that the server refuses the rows themselves; sending them again cannot help, and
	// nothing may be dropped: stop the shard and raise an alarm. Such rows should not pass decoding.
	ErrContent = errors.New("the warehouse refuses the rows")
)

// Warehouse is a connection pool and the names of the database it works on.
type Warehouse struct {
	log     *zap.Logger
	cfg     Config
	options *clickhouse.Options
	pool    *pool
	readers readers
	db, api string
	remote  string // the servers' database, where db holds Distributed tables over them
}

// identifiers that can stand unquoted in SQL; the database's name is put into statements as text.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// Open prepares the pool. It does not connect: a server that is down is the first statement's error.
func Open(_ context.Context, cfg Config, log *zap.Logger) (*Warehouse, error) {
	if cfg.InsertTimeout == 0 {
		cfg.InsertTimeout = insertTimeout
	}
	if cfg.QueryTimeout == 0 {
		cfg.QueryTimeout = queryTimeout
	}
	options, err := parseDSN(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse DSN: %w", err)
	}
	db, remote := options.Auth.Database, ""
	options.Auth.Database = ""      // statements name the database, which may not exist yet
	options.Addr = options.Addr[:1] // a shard's writer is one server (ADR 0008)
	if host, _, err := net.SplitHostPort(options.Addr[0]); err == nil {
		if t := cfg.tls(host); t != nil {
			options.TLS = t
		}
	}
	if cfg.Dial != nil {
		options.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
			return cfg.Dial(ctx, "tcp", addr)
		}
	}
	options.DialStrategy = cfg.boundDial
	if options.Settings == nil {
		options.Settings = clickhouse.Settings{}
	}
	options.Settings["async_insert"] = 0 // the default since 26.3 is 1
	options.Settings["use_query_cache"] = 0
	if len(cfg.Servers) > 0 {
		readDistributed(options.Settings)
		if server, err := parseDSN(cfg.Servers[0]); err == nil { // OpenServers opens each, and says what is wrong
			remote = server.Auth.Database
		}
	}
	conns, err := newPool(log, func() (driver.Conn, error) { return clickhouse.Open(options) })
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse at %s: %w", options.Addr[0], err)
	}
	return &Warehouse{log: log, cfg: cfg, options: options, pool: conns, readers: newReaders(), db: db, api: apiOf(db), remote: remote}, nil
}

// apiOf is the database of the analysts' views.
func apiOf(db string) string {
	if db == "countinghouse" {
		return "usage_api"
	}
	return db + "_api"
}

// Database is the database of the tables, API that of the analysts' views.
func (w *Warehouse) Database() string { return w.db }

// API is the database of the analysts' views.
func (w *Warehouse) API() string { return w.api }

// Ping asks the server for a sign of life.
func (w *Warehouse) Ping(ctx context.Context) error {
	ctx, cancel := w.limit(ctx)
	defer cancel()
	if err := w.pool.with(func(c driver.Conn) error { return c.Ping(ctx) }); err != nil {
		return fmt.Errorf("ping ClickHouse at %s: %w", w.options.Addr[0], ended(ctx, err))
	}
	return nil
}

// Close ends the pool. Writers have connections of their own and are closed by themselves.
func (w *Warehouse) Close() error {
	w.readers.close()
	if err := w.pool.get().Close(); err != nil {
		return fmt.Errorf("close ClickHouse: %w", err)
	}
	return nil
}

// limit gives a statement a deadline where the caller set none: no call waits for ever.
func (w *Warehouse) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, w.cfg.QueryTimeout)
}

// dial opens a connection of its own, outside the pool, for a writer's inserts and for bulk reads.
func (w *Warehouse) dial(ctx context.Context) (*ch.Client, error) {
	dial := w.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	password, err := w.cfg.password(w.options.Auth.Password)
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse at %s: %w", w.options.Addr[0], err)
	}
	o := ch.Options{
		Address:  w.options.Addr[0],
		Database: w.db,
		User:     w.options.Auth.Username,
		Password: password,
		Dialer:   dialer(dial),
		TLS:      w.options.TLS,
		// A packet has no time limit of its own, because ch-go goes on reading after one and would lose
		// its place inside a packet; the deadline of the context is the limit.
		ReadTimeout:      ch.NoTimeout,
		HandshakeTimeout: handshakeWait,
	}
	if w.cfg.Compress {
		o.Compression = ch.CompressionLZ4
	}
	client, err := ch.Dial(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse at %s: %w", o.Address, ended(ctx, err))
	}
	return client, nil
}

// dialer adapts a dial function to ch-go's interface.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

func (d dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d(ctx, network, addr)
}
