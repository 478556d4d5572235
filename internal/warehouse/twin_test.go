package warehouse_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/zap/zaptest"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Every table is either made again by a rebuild or left alone; a new one belongs into one of the lists.
func TestEveryTableIsAProjectionOrKept(t *testing.T) {
	b := setUp(t)
	tables, err := b.w.Tables(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	both := slices.Concat(warehouse.Projections(), warehouse.Kept())
	if len(tables) != len(both) {
		t.Errorf("%d tables, %d in the lists", len(tables), len(both))
	}
	for _, name := range both {
		if _, ok := tables[name]; !ok {
			t.Errorf("%s is in a list and is no table", name)
		}
	}
	if p := warehouse.Projections(); p[len(p)-1] != "ledger" {
		t.Errorf("the ledger is not the last one that is exchanged: %v", p)
	}
	b.query("CREATE TABLE {{db}}.stranger (a Int8) ENGINE = MergeTree ORDER BY a")
	if _, err := b.w.Tables(b.ctx); err == nil {
		t.Error("a table nobody knows is no error")
	}
}

// A twin takes the places of the first tables; its name is the right to do so.
func TestTwin(t *testing.T) {
	b := setUp(t)
	cfg, err := warehouse.Config{DSN: b.engine.DSN(b.db)}.Beside()
	if err != nil {
		t.Fatal(err)
	}
	other, err := warehouse.Open(b.ctx, cfg, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, found, err := b.w.Twin(b.ctx); err != nil || found {
		t.Fatalf("a twin before there is one: %v, %v", found, err)
	}
	if err := other.Migrate(b.ctx, nil); err != nil {
		t.Fatal(err)
	}
	b.query("INSERT INTO {{db}}.ledger (shard, seq) VALUES (0, 1), (0, 2), (0, 3), (1024, 1)")
	b.query("INSERT INTO {{db}}.owner (shard, epoch) VALUES (0, 7), (1024, 8)")
	twin, found, err := b.w.Twin(b.ctx)
	if err != nil || !found {
		t.Fatalf("no twin: %v", err)
	}
	defer func() {
		if err := twin.Drop(b.ctx); err != nil {
			t.Error(err)
		}
	}()
	for _, table := range []string{"ledger", "owner"} {
		if err := twin.Copy(b.ctx, table, map[uint16]uint64{0: 2}, nil); err != nil {
			t.Fatal(err)
		}
	}
	b.want("0\t1\n0\t2", "SELECT shard, seq FROM %s.ledger ORDER BY seq", twin.Name())
	b.want("0\t7", "SELECT shard, epoch FROM %s.owner", twin.Name())

	frozen, _, err := b.w.Twin(b.ctx) // knows the name it has now
	if err != nil {
		t.Fatal(err)
	}
	if err := twin.Take(b.ctx, false); err != nil {
		t.Fatal(err)
	}
	if err := frozen.Exchange(b.ctx, "ledger"); err == nil {
		t.Fatal("a twin that was taken from somebody was exchanged by them")
	}
	if err := frozen.Link(b.ctx, "ledger", "all"); err == nil {
		t.Fatal("a twin that was taken from somebody got partitions from them")
	}
	if err := twin.Link(b.ctx, "events", "202601"); err != nil { // of no rows
		t.Fatal(err)
	}
	before, err := twin.Tables(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := twin.Exchange(b.ctx, "ledger"); err != nil {
		t.Fatal(err)
	}
	after, err := b.w.Tables(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if before["ledger"].UUID != after["ledger"].UUID || before["owner"].UUID == after["owner"].UUID {
		t.Errorf("tables after the exchange: %v", after)
	}
	b.want("2", "SELECT count() FROM {{db}}.ledger")
	b.want("4", "SELECT count() FROM %s.ledger", twin.Name())
}

// While tables are being exchanged nobody takes a shard over, and who had one steps down.
func TestNobodyWritesWhileTablesAreExchanged(t *testing.T) {
	b := setUp(t)
	wr := b.takeOver(0)
	want := warehouse.Exchange{N: 1, Step: warehouse.StepExchanging, Tables: map[string]uuid.UUID{"ledger": uuid.New()}, Holder: "me"}
	if err := b.w.SetExchange(b.ctx, want); err != nil {
		t.Fatal(err)
	}
	if got, err := b.w.LastExchange(b.ctx); err != nil || got.N != 1 || got.Step != want.Step || got.Tables["ledger"] != want.Tables["ledger"] {
		t.Fatalf("LastExchange: %v, %v", got, err)
	}
	down, err := b.w.StepDown(b.ctx, 0, "rebuild")
	if err != nil {
		t.Fatal(err)
	}
	block := warehouse.NewLedgerBlock()
	block.Append(&warehouse.LedgerRow{Seq: 1, Tenant: "t", LoggedAt: day("2026-01-01")})
	if err := wr.Insert(b.ctx, block); !errors.Is(err, warehouse.ErrFenced) {
		t.Fatalf("the owner that was to step down inserts: %v", err)
	}
	if _, err := b.w.TakeOver(b.ctx, 0, 0, "other"); !errors.Is(err, warehouse.ErrExchanging) {
		t.Fatalf("TakeOver during an exchange: %v", err)
	}
	if err := down.Owns(b.ctx); err != nil {
		t.Errorf("somebody who was refused has become the owner: %v", err)
	}
	if err := b.w.SetExchange(b.ctx, warehouse.Exchange{N: 2, Step: warehouse.StepExchanged}); err != nil {
		t.Fatal(err)
	}
	b.insert(b.takeOver(0), block)
	if err := down.Owns(b.ctx); !errors.Is(err, warehouse.ErrFenced) {
		t.Errorf("Owns behind a takeover: %v", err)
	}
}
