package warehouse_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// old is a database as migrations before 0005 left it, with events of two months in several parts.
func old(t *testing.T) (b *bench, checksum func() string) {
	t.Helper()
	b = &bench{TB: t, ctx: t.Context()}
	whole := setUp(t)
	b.engine, b.db = whole.engine, whole.engine.Database(t)
	b.w = b.open(warehouse.Config{})
	t.Cleanup(func() { dropViews(t, b) })
	if err := b.migrateUntil(func(p warehouse.MigrationProgress) bool { return strings.HasPrefix(p.Name, "0005_") }); !errors.Is(err, context.Canceled) {
		t.Fatalf("Migrate up to 0005: %v", err)
	}
	// A writer of this version needs every target. It writes into a database of its own, from where each block is copied.
	wr := whole.takeOver(0)
	events := warehouse.NewEventBlock()
	columns := b.query("SELECT arrayStringConcat(groupArray(name), ', ') FROM system.columns WHERE database = '{{db}}' AND table = 'events' AND default_kind = ''")
	for i := range 4 {
		events.Reset()
		for n := range 500 {
			events.Append(event(500*i+n, day([]string{"2025-12-31", "2026-01-01"}[n%2])))
		}
		whole.insert(wr, events)
		b.query("INSERT INTO {{db}}.events (" + columns + ") SELECT " + columns + " FROM " + whole.db + ".events WHERE seq = " + strconv.Itoa(i+1))
	}
	return b, func() string {
		return b.query("SELECT count(), groupBitXor(cityHash64(*)), uniqExact(id), sum(quantity), max(seq) FROM {{db}}.events")
	}
}

// migrateUntil runs Migrate and stops it before the statement that last names, as a death there would.
func (b *bench) migrateUntil(last func(warehouse.MigrationProgress) bool) error {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	return b.w.Migrate(ctx, func(p warehouse.MigrationProgress) {
		if last(p) {
			cancel()
		}
	})
}

// TestOrderKeepsRows: the events of a database that is brought to the new order are the same rows, also
// when the migration dies before each of its statements in turn; lookups find them as before.
func TestOrderKeepsRows(t *testing.T) {
	t.Parallel()
	b, checksum := old(t)
	want := checksum()
	for stop := 1; ; stop++ {
		err := b.migrateUntil(func(p warehouse.MigrationProgress) bool {
			return p.Statement == stop && strings.HasPrefix(p.Name, "0005_")
		})
		if got := checksum(); got != want {
			t.Fatalf("stopped before statement %d of 0005: events are %s, were %s", stop, got, want)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Migrate stopped before statement %d: %v", stop, err)
		}
	}
	b.want("tenant, meter, at", "SELECT sorting_key FROM system.tables WHERE database = '{{db}}' AND name = 'events'")
	b.want("0", "SELECT count() FROM system.tables WHERE database = '{{db}}' AND name = 'events_next'")
	var keys []warehouse.Key
	for i := range 2000 {
		e := event(i, day("2026-01-01"))
		keys = append(keys, warehouse.Key{Tenant: e.Tenant, Source: e.Source, ID: e.ID, Hash: e.IDHash})
	}
	found, err := b.w.Lookup(b.ctx, 0, keys)
	if err != nil || len(found) != len(keys) {
		t.Errorf("Lookup of %d stored identities found %d, %v", len(keys), len(found), err)
	}
	// The next owner reads its watermarks from the copy.
	marks := b.takeOver(0).Watermarks()[warehouse.Events]
	if marks[202512] != 4 || marks[202601] != 4 {
		t.Errorf("watermarks of events after the migration: %v, want 4 and 4", marks)
	}
}

// TestOrderWaitsForWriters: a database that an aggregator works on is left alone.
func TestOrderWaitsForWriters(t *testing.T) {
	t.Parallel()
	b, checksum := old(t)
	want := checksum()
	b.query("INSERT INTO {{db}}.shard_status (shard, at) SELECT 0, now64(3, 'UTC')")
	if err := b.w.Migrate(b.ctx, nil); err == nil || !strings.Contains(err.Error(), "an aggregator is at work: stop it") {
		t.Errorf("Migrate beside an aggregator: %v", err)
	}
	b.want("tenant, meter, account, at", "SELECT sorting_key FROM system.tables WHERE database = '{{db}}' AND name = 'events'")
	if got := checksum(); got != want {
		t.Errorf("events are %s, were %s", got, want)
	}
	b.query("TRUNCATE TABLE {{db}}.shard_status")
	if err := b.w.Migrate(b.ctx, nil); err != nil {
		t.Errorf("Migrate after the aggregator: %v", err)
	}
	if got := checksum(); got != want {
		t.Errorf("migrated events are %s, were %s", got, want)
	}
}
