package warehouse

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A twin is a second database beside the one of an installation, filled from the log anew by the same code
// (ADR 0014). Its tables can take the places of the first one's, table by table, each in one atomic step.

// twinSuffix makes the name of the twin; a name with more behind it is one that is being exchanged.
const twinSuffix = "_rebuild"

// ErrExchanging says that a rebuild has begun to exchange the tables and has not ended: nobody may write.
var ErrExchanging = errors.New("the tables are being exchanged by a rebuild; if none is at work, one was interrupted: run countinghouse rebuild again")

// Beside is the configuration of the twin of c.
func (c Config) Beside() (Config, error) {
	var err error
	if c.DSN, err = beside(c.DSN); err != nil {
		return c, err
	}
	c.Servers = slices.Clone(c.Servers)
	for i := range c.Servers {
		if c.Servers[i], err = beside(c.Servers[i]); err != nil {
			return c, err
		}
	}
	return c, nil
}

func beside(dsn string) (string, error) {
	options, err := parseDSN(dsn)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", errors.New("the DSN is no URL") // without repeating it: it may hold a password
	}
	name := options.Auth.Database + twinSuffix
	u.Path = "/" + name
	if twin, err := parseDSN(u.String()); err != nil || twin.Auth.Database != name {
		return "", errors.Join(fmt.Errorf("database %s: its twin cannot be named %s", options.Auth.Database, name), err)
	}
	return u.String(), nil
}

// Projections are the tables that a rebuild replaces: what is in them follows from the log. In the order in
// which they are exchanged: the ledger last, as in every batch.
func Projections() []string {
	var names []string
	for t := range Targets {
		names = append(names, t.String())
	}
	return names
}

// Kept are the tables that a rebuild leaves alone: they are not in the log. Of the tables of a database each is
// in one list or the other.
func Kept() []string {
	return append(append(Closed(), Folded()...),
		"migrations",   // what was done to the database
		"owner",        // the fence: a lower epoch would let an earlier owner write
		"rebuilds",     // what rebuilds did
		"shard_status", // what the aggregator last saw: written again every second
	)
}

// Folded are the tables of internal/register: they follow from directory_events, which is exchanged, and are folded
// again where they do not.
func Folded() []string {
	return []string{
		"directory_generations", "directory_accounts", "directory_steps", "directory_plans", "directory_trees", "directory_meters",
		"directory_rulings",
	}
}

// Closed are the tables of closed months, which are never computed again.
func Closed() []string {
	return []string{"month_versions", "month_rows", "month_figures", "month_adjustments"}
}

// Table is a table of a database.
type Table struct {
	Name        string
	UUID        uuid.UUID
	Rows, Bytes uint64
}

const listTables = `
SELECT name, toString(uuid), ifNull(total_rows, 0), ifNull(total_bytes, 0)
FROM system.tables
WHERE database = @db AND engine LIKE '%MergeTree' AND NOT is_temporary AND name NOT LIKE '.%'
ORDER BY name`

// Tables lists the tables with rows of their own; of a database that is not there, none. One that is neither a
// projection nor kept is an error: it was made by a later program, and replacing the others would part them.
func (w *Warehouse) Tables(ctx context.Context) (map[string]Table, error) {
	return w.tablesOf(ctx, w.db)
}

func (w *Warehouse) tablesOf(ctx context.Context, db string) (map[string]Table, error) {
	all := map[string]Table{}
	err := w.Query(ctx, listTables, []any{named("db", db)}, func(r Rows) error {
		var t Table
		var id string
		if err := r.Scan(&t.Name, &id, &t.Rows, &t.Bytes); err != nil {
			return err
		}
		var err error
		t.UUID, err = uuid.Parse(id)
		all[t.Name] = t
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", db, err)
	}
	for name := range all {
		if !slices.Contains(Projections(), name) && !slices.Contains(Kept(), name) {
			return nil, fmt.Errorf("table %s.%s is not known to this program: it cannot be rebuilt by it", db, name)
		}
	}
	return all, nil
}

// EventsID tells the table `events` from one that took its place.
func (w *Warehouse) EventsID(ctx context.Context) (id string, err error) {
	const sql = `SELECT toString(uuid) FROM system.tables WHERE database = @db AND name = 'events'`
	if err := w.Query(ctx, sql, []any{named("db", w.db)}, func(r Rows) error { return r.Scan(&id) }); err != nil {
		return "", fmt.Errorf("identify the table of events: %w", err)
	}
	return id, nil
}

// Disk is how many bytes are free where the server keeps its tables.
func (w *Warehouse) Disk(ctx context.Context) (free uint64, err error) {
	const sql = `SELECT min(free_space) FROM system.disks WHERE type IN ('Local', 'local')`
	if err := w.Query(ctx, sql, nil, func(r Rows) error { return r.Scan(&free) }); err != nil {
		return 0, fmt.Errorf("ask for the free space: %w", err)
	}
	return free, nil
}

// Exchange is the last step of a rebuild.
type Exchange struct {
	N      uint64 // 0: there was none
	Step   string
	Tables map[string]uuid.UUID // of StepExchanging: the new tables
	Holder string
}

// Steps of a rebuild.
const (
	StepExchanging = "exchanging"
	StepExchanged  = "exchanged"
	StepUndone     = "undone"
)

const lastStep = `
SELECT n, CAST(step, 'String'), CAST(mapApply((k, v) -> (k, toString(v)), tables), 'Map(String, String)'), holder
FROM {{db}}.rebuilds
ORDER BY n DESC, at DESC
LIMIT 1`

// LastExchange is how far the last rebuild got in taking the tables' places.
func (w *Warehouse) LastExchange(ctx context.Context) (Exchange, error) {
	var e Exchange
	err := w.Query(ctx, lastStep, nil, func(r Rows) error {
		var tables map[string]string
		if err := r.Scan(&e.N, &e.Step, &tables, &e.Holder); err != nil {
			return err
		}
		e.Tables = make(map[string]uuid.UUID, len(tables))
		for name, id := range tables {
			var err error
			if e.Tables[name], err = uuid.Parse(id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return e, fmt.Errorf("read what rebuilds did: %w", err)
	}
	return e, nil
}

const writeStep = `
INSERT INTO {{db}}.rebuilds (n, step, tables, holder, at)
SETTINGS async_insert = 0, deduplicate_insert = 'disable'
SELECT toUInt64(@n), @step, CAST(mapFromArrays(@names, arrayMap(u -> toUUID(u), @ids)), 'Map(String, UUID)'), @holder, now64(3, 'UTC')`

// SetExchange records the next step. From StepExchanging on no aggregator can take a shard over; who has one must
// still be made to step down.
func (w *Warehouse) SetExchange(ctx context.Context, e Exchange) error {
	names, ids := []string{}, []string{}
	for name, id := range e.Tables {
		names, ids = append(names, name), append(ids, id.String())
	}
	err := w.exec(ctx, writeStep, named("n", e.N), named("step", e.Step), named("names", names), named("ids", ids), named("holder", e.Holder))
	if err != nil {
		return fmt.Errorf("record the step %s of a rebuild: %w", e.Step, err)
	}
	return nil
}

// untouched is ErrExchanging while a rebuild exchanges tables.
func (w *Warehouse) untouched(ctx context.Context) error {
	var step string
	const sql = `SELECT CAST(argMax(step, (n, at)), 'String') FROM {{db}}.rebuilds`
	err := w.Query(ctx, sql, nil, func(r Rows) error { return r.Scan(&step) })
	if err != nil {
		return fmt.Errorf("ask for a rebuild: %w", err)
	}
	if step == StepExchanging {
		return ErrExchanging
	}
	return nil
}

// StepDown makes every owner of a shard step down, and answers how far the last one got: nothing of theirs can
// arrive any more. The Writer writes nothing; its Owns tells whether somebody has taken the shard over since.
func (w *Warehouse) StepDown(ctx context.Context, shard uint16, holder string) (*Writer, error) {
	ctx, cancel := w.limit(ctx)
	defer cancel()
	wr := &Writer{w: w, shard: shard}
	err := wr.own(ctx, 0, holder)
	if err == nil {
		err = wr.killEarlier(ctx)
	}
	if err == nil {
		wr.progress, err = w.Progress(ctx, shard)
	}
	if err != nil {
		return nil, fmt.Errorf("make the owner of shard %d step down: %w", shard, err)
	}
	return wr, nil
}

// AllShards lists every shard that ever had an owner here.
func (w *Warehouse) AllShards(ctx context.Context) ([]uint16, error) {
	const sql = `SELECT DISTINCT shard FROM {{db}}.owner ORDER BY shard`
	shards, err := Collect(ctx, w, sql, nil, func(r Rows, s *uint16) error { return r.Scan(s) })
	if err != nil {
		return nil, fmt.Errorf("list the shards: %w", err)
	}
	return shards, nil
}

// Twin is the database beside w's that a rebuild fills, from the view of w.
type Twin struct {
	w    *Warehouse
	name string // as it is called now
}

// Twin finds the database beside w; false: there is none.
func (w *Warehouse) Twin(ctx context.Context) (*Twin, bool, error) {
	const sql = `SELECT name FROM system.databases WHERE name = @name OR startsWith(name, @exchanging) ORDER BY name`
	names, err := Collect(ctx, w, sql, []any{named("name", w.db+twinSuffix), named("exchanging", w.db+twinSuffix+exchangingMark)},
		func(r Rows, name *string) error { return r.Scan(name) })
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("look for the twin of %s: %w", w.db, err)
	case len(names) == 0:
		return nil, false, nil
	case len(names) > 1:
		return nil, false, fmt.Errorf("databases %s: want one of them at most", strings.Join(names, ", "))
	}
	return &Twin{w: w, name: names[0]}, true, nil
}

// exchangingMark stands between the name of the twin and what is only known to who exchanges its tables.
const exchangingMark = "_x"

// Name is the twin's database.
func (t *Twin) Name() string { return t.name }

// Take renames the twin, so that statements of anybody who knew its name fail from now on: a process that was
// frozen for an hour must not exchange a table that another has exchanged meanwhile. With home it gets the name
// that it is filled under.
func (t *Twin) Take(ctx context.Context, home bool) error {
	name := t.w.db + twinSuffix
	if !home {
		name += exchangingMark + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	}
	if name == t.name {
		return nil
	}
	if err := t.w.exec(ctx, "RENAME DATABASE "+t.name+" TO "+name); err != nil {
		return fmt.Errorf("rename database %s to %s: %w", t.name, name, err)
	}
	t.name = name
	return nil
}

// Home reports whether the twin has the name that it is filled under.
func (t *Twin) Home() bool { return t.name == t.w.db+twinSuffix }

// Retire gives the twin a name to stay under, of the time at, and drops its views.
func (t *Twin) Retire(ctx context.Context, at time.Time) (string, error) {
	name := t.w.db + "_until_" + at.UTC().Format("20060102t150405")
	if err := t.w.exec(ctx, "RENAME DATABASE "+t.name+" TO "+name); err != nil {
		return "", fmt.Errorf("rename database %s to %s: %w", t.name, name, err)
	}
	return name, t.w.dropDatabases(ctx, t.w.db+twinSuffix+"_api")
}

// Tables lists the twin's tables.
func (t *Twin) Tables(ctx context.Context) (map[string]Table, error) {
	return t.w.tablesOf(ctx, t.name)
}

// Exchange lets a table of the twin and the one of the same name change places. Both are there before and
// after, under either name, whatever is killed.
func (t *Twin) Exchange(ctx context.Context, table string) error {
	if err := t.w.exec(ctx, "EXCHANGE TABLES "+t.w.db+"."+table+" AND "+t.name+"."+table); err != nil {
		return fmt.Errorf("exchange %s.%s and %s.%s: %w", t.w.db, table, t.name, table, err)
	}
	return nil
}

// copyTimeout is for copying the rows of a table: some million a second.
const copyTimeout = 6 * time.Hour

// Copy copies the rows of some shards, up to their progress, into the same table of the twin; those of the partitions
// in except are left out.
func (t *Twin) Copy(ctx context.Context, table string, progress map[uint16]uint64, except []string) error {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	columns, err := t.w.stored(ctx, table)
	if err != nil {
		return err
	}
	seq := "seq"
	if slices.Contains(columns, "hi") {
		seq = "hi"
	}
	where := " WHERE shard IN @shards AND " + seq + " <= transform(shard, @shards, @seqs, toUInt64(0))"
	if !slices.Contains(columns, seq) { // owner
		where = " WHERE shard IN @shards"
	}
	shards, seqs := Positions(progress)
	if err := t.fill(ctx, table, columns, where+without(except), named("shards", shards), named("seqs", seqs)); err != nil {
		return fmt.Errorf("copy %s of %d shards: %w", table, len(shards), err)
	}
	return nil
}

// Lend copies all rows of a table that is kept, so that what reads it can read the twin; what was lent before goes.
func (t *Twin) Lend(ctx context.Context, table string) error {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	columns, err := t.w.stored(ctx, table)
	if err != nil {
		return err
	}
	err = t.w.exec(ctx, "TRUNCATE TABLE "+t.name+"."+table+" SETTINGS max_table_size_to_drop = 0")
	if err == nil {
		err = t.fill(ctx, table, columns, "")
	}
	if err != nil {
		return fmt.Errorf("lend %s: %w", table, err)
	}
	return nil
}

// fill copies rows of a table into the same one of the twin.
func (t *Twin) fill(ctx context.Context, table string, columns []string, where string, args ...any) error {
	list := strings.Join(columns, ", ")
	sql := "INSERT INTO " + t.name + "." + table + " (" + list + ") SELECT " + list + " FROM {{db}}." + table + where +
		" SETTINGS max_partitions_per_insert_block = 0, async_insert = 0"
	return t.w.exec(ctx, sql, args...)
}

// stored lists the columns of a table that are stored.
func (w *Warehouse) stored(ctx context.Context, table string) ([]string, error) {
	const sql = `
SELECT name FROM system.columns
WHERE database = @db AND table = @table AND default_kind IN ('', 'DEFAULT')
ORDER BY position`
	columns, err := Collect(ctx, w, sql, []any{named("db", w.db), named("table", table)}, func(r Rows, name *string) error { return r.Scan(name) })
	if err != nil {
		return nil, fmt.Errorf("list the columns of %s: %w", table, err)
	}
	return columns, nil
}

// Fingerprint tells sets of rows apart: their number, and the sum of their hashes, of all rows of a table at or
// below a sequence per shard. When a row was written is not in it. false: the table holds partials, which cannot be
// cut.
func (w *Warehouse) Fingerprint(ctx context.Context, table string, to map[uint16]uint64) (rows uint64, sum string, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	columns, err := w.stored(ctx, table)
	if err != nil || !slices.Contains(columns, "seq") || slices.Contains(columns, "hi") {
		return 0, "", false, err
	}
	columns = slices.DeleteFunc(columns, func(name string) bool { return name == "written_at" })
	shards, seqs := Positions(to)
	sql := "SELECT count(), hex(sum(cityHash64(" + strings.Join(columns, ", ") + "))) FROM {{db}}." + table +
		" WHERE seq <= transform(shard, @shards, @seqs, toUInt64(0))"
	err = w.Query(ctx, sql, []any{named("shards", shards), named("seqs", seqs)}, func(r Rows) error { return r.Scan(&rows, &sum) })
	if err != nil {
		return 0, "", false, fmt.Errorf("fingerprint %s: %w", table, err)
	}
	return rows, sum, true, nil
}

// Drop removes the twin and its views.
func (t *Twin) Drop(ctx context.Context) error {
	return t.w.dropDatabases(ctx, t.name, t.w.db+twinSuffix+"_api")
}

// DropReader removes the Distributed tables of the twin, where there are several servers.
func (s *Servers) DropReader(ctx context.Context) error {
	if !s.Several() {
		return nil
	}
	for _, w := range append([]*Warehouse{s.reader}, s.all...) {
		if err := w.dropDatabases(ctx, s.reader.db+twinSuffix, s.reader.db+twinSuffix+"_api"); err != nil {
			return err
		}
	}
	return nil
}

func (w *Warehouse) dropDatabases(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	for _, name := range names {
		if err := w.exec(ctx, "DROP DATABASE IF EXISTS "+name+" SYNC SETTINGS max_table_size_to_drop = 0"); err != nil {
			return fmt.Errorf("drop database %s: %w", name, err)
		}
	}
	return nil
}
