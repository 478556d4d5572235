package warehouse_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
	"github.com/countinghouse/countinghouse/schema"
)

// TestMigrationHashes: a landed migration is never edited. -update pins new files; it must not be used
// to change a line of a file that has been released.
func TestMigrationHashes(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(schema.ClickHouse, "clickhouse/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d migrations, %v", len(files), err)
	}
	now := map[string]string{}
	var text strings.Builder
	for _, name := range files {
		b, err := fs.ReadFile(schema.ClickHouse, name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		now[name] = hex.EncodeToString(sum[:])
		text.WriteString(now[name] + "  " + name + "\n")
	}
	if *update {
		if err := os.WriteFile("testdata/migrations.sha256", []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pinned, err := os.Open("testdata/migrations.sha256")
	if err != nil {
		t.Fatal(err)
	}
	defer pinned.Close()
	for s := bufio.NewScanner(pinned); s.Scan(); {
		hash, name, _ := strings.Cut(s.Text(), "  ")
		if now[name] != hash {
			t.Errorf("%s landed with SHA-256 %s and is now %q: add a new file instead", name, hash, now[name])
		}
		delete(now, name)
	}
	for name := range now {
		t.Errorf("%s is not pinned: go test ./internal/warehouse -run MigrationHashes -update", name)
	}
}

// TestMigrateResumes: a migration interrupted before any statement is finished by the next run, which
// repeats what was done; afterwards there is nothing left to do.
func TestMigrateResumes(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	want := b.query(`SELECT groupArray((name, create_table_query)) FROM (SELECT name, replaceAll(create_table_query, database, '') AS create_table_query
		FROM system.tables WHERE database IN ('{{db}}', '{{api}}') ORDER BY database, name)`)
	statements := 0
	for _, m := range mustStatus(b) {
		if !m.Applied() || m.AppliedAt.IsZero() {
			t.Errorf("%s is not applied: %+v", m.Name, m)
		}
	}
	if err := b.w.Migrate(b.ctx, func(warehouse.MigrationProgress) { statements++ }); err != nil || statements != 0 {
		t.Errorf("second Migrate ran %d statements, %v", statements, err)
	}

	again := &bench{TB: t, ctx: t.Context(), engine: b.engine, db: b.engine.Database(t)}
	again.w = again.open(warehouse.Config{})
	t.Cleanup(func() { dropViews(t, again) })
	for stop := 1; ; stop++ {
		ctx, cancel := context.WithCancel(t.Context())
		done := 0
		err := again.w.Migrate(ctx, func(warehouse.MigrationProgress) {
			if done++; done == stop {
				cancel() // the statement is sent on a dead context: it fails as if the process had died here
			}
		})
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Migrate stopped before statement %d: %v", stop, err)
		}
	}
	got := again.query(`SELECT groupArray((name, create_table_query)) FROM (SELECT name, replaceAll(create_table_query, database, '') AS create_table_query
		FROM system.tables WHERE database IN ('{{db}}', '{{api}}') ORDER BY database, name)`)
	if strings.ReplaceAll(got, again.db, "") != strings.ReplaceAll(want, b.db, "") {
		t.Errorf("after interruptions\n%s\nwithout\n%s", got, want)
	}
}

// TestMigrateRefusesEdited: a database with another version of a landed file is left alone.
func TestMigrateRefusesEdited(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.query(`INSERT INTO {{db}}.migrations (name, hash, applied_at) VALUES ('0001_log_tables.sql', 'another', '2100-01-01 00:00:00')`)
	err := b.w.Migrate(b.ctx, nil)
	if err == nil || !strings.Contains(err.Error(), "0001_log_tables.sql") || !strings.Contains(err.Error(), "never edited") {
		t.Errorf("Migrate = %v", err)
	}
}

// TestMigrateFresh: no database, no error: the status is that nothing is applied.
func TestMigrateFresh(t *testing.T) {
	t.Parallel()
	b := &bench{TB: t, ctx: t.Context(), engine: localstack.SharedClickHouse(t), db: "never_created"}
	b.w = b.open(warehouse.Config{})
	for _, m := range mustStatus(b) {
		if m.Applied() || m.Landed != "" {
			t.Errorf("%+v", m)
		}
	}
}

func mustStatus(b *bench) []warehouse.Migration {
	b.Helper()
	status, err := b.w.MigrationStatus(b.ctx)
	if err != nil {
		b.Fatalf("MigrationStatus: %v", err)
	}
	return status
}

func TestStatements(t *testing.T) {
	t.Parallel()
	got := warehouse.Statements("-- a comment; with a semicolon;\nCREATE TABLE a\n(\n    x Int8 -- why; because\n);\n\n  -- another;\nSELECT 1;\nSELECT 2")
	want := []string{"CREATE TABLE a\n(\n    x Int8 -- why; because\n)", "SELECT 1", "SELECT 2\n"}
	if strings.Join(got, "#") != strings.Join(want, "#") {
		t.Errorf("Statements = %q, want %q", got, want)
	}
}
