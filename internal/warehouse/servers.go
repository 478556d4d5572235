package warehouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/zap"
)

// Servers are the ClickHouse servers of an installation (ADR 0008). Where there is one,
// it is read and written, and nothing stands in between. Where there are several, each holds the rows of
// some partitions of the log, in tables and views of its own; a partition's inserts, fence, KILL, watermarks
// and look-ups go to its server, and readers ask the reader, whose tables of the same names are
// Distributed over the servers.
type Servers struct {
	reader *Warehouse
	all    []*Warehouse
}

// ErrMisplaced says that a partition of the log cannot be given to a server: two have rows of it, or the
// one that has is not configured. Writing anywhere could count its events twice.
var ErrMisplaced = errors.New("the partition has no server that is known for sure")

// placeWait bounds the question which server has a partition: one that says nothing must not stop the
// partitions of the others.
const placeWait = 5 * time.Second

// OpenServers prepares the pools of all servers. Like Open it does not connect.
func OpenServers(ctx context.Context, cfg Config, log *zap.Logger) (*Servers, error) {
	reader, err := Open(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	s := &Servers{reader: reader, all: []*Warehouse{reader}}
	if len(cfg.Servers) == 0 {
		return s, nil
	}
	s.all = nil
	for i, dsn := range cfg.Servers {
		one := cfg
		one.DSN, one.Servers, one.Cluster = dsn, nil, ""
		w, err := Open(ctx, one, log)
		if err != nil {
			_ = s.Close() // nothing has been sent yet
			return nil, fmt.Errorf("server %d of %d: %w", i+1, len(cfg.Servers), err)
		}
		s.all = append(s.all, w)
	}
	return s, nil
}

// Reader is where everything can be read. Nothing of the log is ever written through it where there are several.
func (s *Servers) Reader() *Warehouse { return s.reader }

// All are the servers that hold rows.
func (s *Servers) All() []*Warehouse { return s.all }

// Several reports whether the reader is not itself the server.
func (s *Servers) Several() bool { return s.all[0] != s.reader }

// Close ends all pools.
func (s *Servers) Close() error {
	err := s.reader.Close()
	if len(s.all) > 0 && s.Several() {
		for _, w := range s.all {
			err = errors.Join(err, w.Close())
		}
	}
	return err
}

// Address names the server and its database, without user or password.
func (w *Warehouse) Address() string { return w.options.Addr[0] + "/" + w.db }

// Of is the server of a partition of the log: the one that has owner rows of it, because an owner row comes
// before any other row and stays for ever. A partition that nobody ever owned gets number partition % n of
// the list, by way of place, which remembers the first server it was told and answers that one: so two
// aggregators with different lists cannot begin a partition on two servers. ErrMisplaced is for people.
func (s *Servers) Of(ctx context.Context, partition uint16, place func(ctx context.Context, partition int, server string) (string, error)) (*Warehouse, error) {
	if !s.Several() {
		return s.reader, nil
	}
	found, silent := s.find(ctx, partition)
	switch {
	case len(found) > 1:
		return nil, fmt.Errorf("partition %d has owner rows on %s and on %s: %w", partition, found[0].Address(), found[1].Address(), ErrMisplaced)
	case len(found) == 1:
		return found[0], nil
	case silent != nil:
		return nil, fmt.Errorf("partition %d may have its rows on a server that does not answer: %w", partition, silent)
	}
	first := s.all[int(partition)%len(s.all)]
	name, err := place(ctx, int(partition), first.Address())
	if err != nil {
		return nil, fmt.Errorf("place partition %d: %w", partition, err)
	}
	for _, w := range s.all {
		if w.Address() == name {
			return w, nil
		}
	}
	return nil, fmt.Errorf("partition %d was given to %s, which is not among clickhouse.servers: %w", partition, name, ErrMisplaced)
}

// find asks all servers at once for owner rows of a partition. silent is why some did not answer.
func (s *Servers) find(ctx context.Context, partition uint16) (found []*Warehouse, silent error) {
	ctx, cancel := context.WithTimeout(ctx, placeWait)
	defer cancel()
	type answer struct {
		w     *Warehouse
		owned bool
		err   error
	}
	answers := make(chan answer, len(s.all))
	for _, w := range s.all {
		go func() {
			shards, err := w.Shards(ctx, partition)
			answers <- answer{w, len(shards) > 0, err}
		}()
	}
	for range s.all {
		switch a := <-answers; {
		case a.err != nil:
			silent = errors.Join(silent, fmt.Errorf("%s: %w", a.w.Address(), a.err))
		case a.owned:
			found = append(found, a.w)
		}
	}
	return found, silent
}

// Migrate brings every server to the schema of this binary, and then the Distributed tables over them. It
// can be repeated, as Warehouse.Migrate can.
func (s *Servers) Migrate(ctx context.Context, progress func(MigrationProgress)) error {
	for _, w := range s.all {
		if err := w.Migrate(ctx, progress); err != nil {
			return fmt.Errorf("%s: %w", w.Address(), err)
		}
	}
	if !s.Several() {
		return nil
	}
	if err := s.Agree(ctx); err != nil {
		return err
	}
	for _, w := range append([]*Warehouse{s.reader}, s.all...) {
		if err := s.distribute(ctx, w); err != nil {
			return fmt.Errorf("distributed tables at %s: %w", w.options.Addr[0], err)
		}
	}
	return nil
}

// MigrationStatus is that of the server that is furthest behind, migration by migration.
func (s *Servers) MigrationStatus(ctx context.Context) ([]Migration, error) {
	var all []Migration
	for _, w := range s.all {
		status, err := w.MigrationStatus(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.Address(), err)
		}
		if all == nil {
			all = status
			continue
		}
		for i := range all {
			if all[i].Applied() {
				all[i] = status[i]
			}
		}
	}
	return all, nil
}

// distribute makes, for each table and each view of the servers, a table of the same name that asks all
// of them. Views too: everything a view joins is of one tenant, a tenant is in one partition of the log,
// and a partition on one server, so that each server computes its tenants' rows and the reader puts them
// together. Columns are taken from the servers as they are now.
//
// Every server gets them, not the reader alone: a server that answers its part of a query resolves the
// query's subqueries by the same names (seen with two: "Database countinghouse does not exist"). So any of
// them can be the reader.
func (s *Servers) distribute(ctx context.Context, at *Warehouse) error {
	r, from := s.reader, s.all[0]
	for local, remote := range map[string]string{r.db: from.db, r.api: from.api} {
		if err := at.exec(ctx, "CREATE DATABASE IF NOT EXISTS "+local); err != nil {
			return fmt.Errorf("create database %s: %w", local, err)
		}
		const tables = `SELECT name FROM system.tables WHERE database = @db AND NOT is_temporary AND name NOT LIKE '.%' ORDER BY name`
		names, err := Collect(ctx, from, tables, []any{named("db", remote)}, func(r Rows, name *string) error { return r.Scan(name) })
		if err != nil {
			return fmt.Errorf("list the tables of %s: %w", from.Address(), err)
		}
		for _, name := range names {
			if !plainName.MatchString(name) {
				return fmt.Errorf("table %q of %s: want a lower-case identifier", name, from.Address())
			}
			create := "CREATE OR REPLACE TABLE " + local + "." + name + " ENGINE = Distributed('" + r.cfg.Cluster + "', '" + remote + "', '" + name + "')"
			if err := at.exec(ctx, create); err != nil {
				return fmt.Errorf("create %s.%s: %w", local, name, err)
			}
		}
	}
	return nil
}

// Agree checks that every server's own list of servers, in its remote_servers, is ours: one that asks
// fewer, or one of them twice, would answer wrong totals without an error. A server is known by the UUID of
// its table of owners.
func (s *Servers) Agree(ctx context.Context) error {
	if !s.Several() {
		return nil
	}
	scan := func(r Rows, id *string) error { return r.Scan(id) }
	const one = `SELECT toString(uuid) FROM system.tables WHERE database = '{{db}}' AND name = 'owner'`
	var want []string
	for _, w := range s.all {
		ids, err := Collect(ctx, w, one, nil, scan)
		if err != nil || len(ids) != 1 {
			return errors.Join(fmt.Errorf("%s: %d tables named owner, want one", w.Address(), len(ids)), err)
		}
		want = append(want, ids[0])
	}
	all := `SELECT toString(uuid) FROM cluster('` + s.reader.cfg.Cluster + `', system.tables) WHERE database = '` + s.reader.remote + `' AND name = 'owner'`
	slices.Sort(want)
	if len(slices.Compact(slices.Clone(want))) != len(want) {
		return errors.New("clickhouse.servers names a server twice, under two addresses")
	}
	for _, w := range append([]*Warehouse{s.reader}, s.all...) {
		have, err := Collect(ctx, w, all, nil, scan)
		if err != nil {
			return fmt.Errorf("ask the servers by way of %s: %w", w.options.Addr[0], err)
		}
		slices.Sort(have)
		if !slices.Equal(want, have) {
			return fmt.Errorf("remote_servers of %s asks %d servers as cluster %q, which are not the %d of clickhouse.servers: want each of them as one shard",
				w.options.Addr[0], len(have), s.reader.cfg.Cluster, len(want))
		}
	}
	return nil
}

// readDistributed are the settings of a reader of several servers: a subquery sees the rows of all of them,
// and one that does not answer is an error, never a smaller total.
func readDistributed(s clickhouse.Settings) {
	s["distributed_product_mode"] = "global"
	s["skip_unavailable_shards"] = 0
}

// DetachedPart is a part that ClickHouse has put aside: rows that were stored and are no longer read.
type DetachedPart struct{ Table, Name, Reason string }

// Detached lists them, on all servers.
func (w *Warehouse) Detached(ctx context.Context) ([]DetachedPart, error) {
	from, db := "system.detached_parts", w.db
	if w.remote != "" {
		from, db = "cluster('"+w.cfg.Cluster+"', system.detached_parts)", w.remote
	}
	sql := `SELECT table, name, ifNull(reason, '') FROM ` + from + ` WHERE database = @db ORDER BY table, name`
	parts, err := Collect(ctx, w, sql, []any{named("db", db)}, func(r Rows, p *DetachedPart) error { return r.Scan(&p.Table, &p.Name, &p.Reason) })
	if err != nil {
		return nil, fmt.Errorf("list detached parts: %w", err)
	}
	return parts, nil
}
