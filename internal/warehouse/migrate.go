package warehouse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/schema"
)

// Migration is one file of schema/clickhouse and what the database knows of it.
type Migration struct {
	Name      string    // file name
	Hash      string    // SHA-256 of the file
	Landed    string    // hash recorded when it was applied, "" if it was not
	AppliedAt time.Time // zero if it was not
}

// Applied reports whether the database has the migration, unchanged.
func (m Migration) Applied() bool { return m.Landed == m.Hash }

// MigrationProgress is told to the observer of Migrate before each statement.
type MigrationProgress struct {
	Name             string // file name
	Statement, Count int    // 1-based number of the statement and how many the file has
}

const createMigrations = `
CREATE TABLE IF NOT EXISTS {{db}}.migrations
(
    name       String,
    hash       String,
    applied_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (name, applied_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`

// Migrate brings the database to the schema of this binary. Every statement can be repeated, and a
// file is recorded after its last statement, so a run killed anywhere is finished by the next one. A
// file that changed after it had been applied is an error: a landed migration is never edited.
func (w *Warehouse) Migrate(ctx context.Context, progress func(MigrationProgress)) error {
	for _, statement := range []string{
		"CREATE DATABASE IF NOT EXISTS {{db}}",
		"CREATE DATABASE IF NOT EXISTS {{api}}",
		createMigrations,
	} {
		if err := w.exec(ctx, statement); err != nil {
			return fmt.Errorf("prepare database %s for migrations: %w", w.db, err)
		}
	}
	migrations, err := w.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	for _, m := range migrations { // all of them before the first change
		if m.Landed != "" && !m.Applied() {
			return fmt.Errorf("migration %s was applied to database %s with SHA-256 %s and is now %s; a landed migration is never edited: add a new file", m.Name, w.db, m.Landed, m.Hash)
		}
	}
	for _, m := range migrations {
		if m.Applied() {
			continue
		}
		if err := w.apply(ctx, m, progress); err != nil {
			return err
		}
	}
	return nil
}

// applyTimeout is for the statements of one migration: some copy a table, at about a million rows a second.
const applyTimeout = 6 * time.Hour

func (w *Warehouse) apply(ctx context.Context, m Migration, progress func(MigrationProgress)) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	text, err := fs.ReadFile(schema.ClickHouse, path.Join("clickhouse", m.Name))
	if err != nil {
		return fmt.Errorf("read migration %s: %w", m.Name, err)
	}
	statements := Statements(string(text))
	for i, statement := range statements {
		if progress != nil {
			progress(MigrationProgress{Name: m.Name, Statement: i + 1, Count: len(statements)})
		}
		if err := w.exec(ctx, statement); err != nil {
			return fmt.Errorf("migration %s, statement %d of %d: %w", m.Name, i+1, len(statements), err)
		}
		faultpoint.Hit("warehouse/migrated")
	}
	const record = `INSERT INTO {{db}}.migrations (name, hash, applied_at) SELECT @name, @hash, now64(3, 'UTC')`
	if err := w.exec(ctx, record, named("name", m.Name), named("hash", m.Hash)); err != nil {
		return fmt.Errorf("record migration %s: %w", m.Name, err)
	}
	return nil
}

// MigrationStatus lists the migrations of this binary, in order, with what the database knows of
// them. A database without the table of migrations has none applied.
func (w *Warehouse) MigrationStatus(ctx context.Context) ([]Migration, error) {
	migrations, err := embedded()
	if err != nil {
		return nil, err
	}
	ctx, cancel := w.limit(ctx)
	defer cancel()
	const exists = `SELECT count(), countIf(engine = 'Distributed') FROM system.tables WHERE database = @db AND name = 'migrations'`
	var n, distributed uint64
	if err := w.one(ctx, exists, []any{named("db", w.db)}, &n, &distributed); err != nil {
		return nil, fmt.Errorf("look for the migrations of database %s: %w", w.db, err)
	}
	if distributed > 0 {
		return nil, fmt.Errorf("database %s is for reading several servers, which are migrated: name them (clickhouse.servers)", w.db)
	}
	if n == 0 {
		return migrations, nil
	}
	const landed = `SELECT name, argMax(hash, applied_at), max(applied_at) FROM {{db}}.migrations GROUP BY name`
	err = w.query(ctx, landed, nil, func(r Rows) error {
		var name, hash string
		var at time.Time
		err := r.Scan(&name, &hash, &at)
		for i := range migrations {
			if migrations[i].Name == name {
				migrations[i].Landed, migrations[i].AppliedAt = hash, at
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the migrations of database %s: %w", w.db, err)
	}
	return migrations, nil
}

// embedded lists the files of schema/clickhouse in order.
func embedded() ([]Migration, error) {
	files, err := fs.ReadDir(schema.ClickHouse, "clickhouse")
	if err != nil {
		return nil, fmt.Errorf("list embedded migrations: %w", err)
	}
	migrations := make([]Migration, 0, len(files))
	for _, f := range files {
		text, err := fs.ReadFile(schema.ClickHouse, path.Join("clickhouse", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", f.Name(), err)
		}
		sum := sha256.Sum256(text)
		migrations = append(migrations, Migration{Name: f.Name(), Hash: hex.EncodeToString(sum[:])})
	}
	return migrations, nil
}

// Statements splits a migration file: a statement ends with a semicolon at the end of a line. Comment
// lines are dropped; the engine would ignore them, and progress and errors read better without.
func Statements(text string) []string {
	var statements []string
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if strings.HasPrefix(strings.TrimLeft(line, " \t"), "--") || line == "" {
			continue
		}
		if end, ok := strings.CutSuffix(line, ";"); ok {
			b.WriteString(end)
			statements = append(statements, b.String())
			b.Reset()
			continue
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	if b.Len() > 0 {
		statements = append(statements, b.String())
	}
	return statements
}
