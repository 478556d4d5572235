package warehouse_test

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func TestMain(m *testing.M) { localstack.Main(m) }

// bench is a migrated database of the test's own on the shared engine.
type bench struct {
	testing.TB
	ctx    context.Context
	engine *localstack.ClickHouse
	db     string
	w      *warehouse.Warehouse
}

func setUp(t testing.TB) *bench {
	t.Helper()
	engine := localstack.SharedClickHouse(t)
	return migrated(t, engine, engine.Database(t))
}

func migrated(t testing.TB, engine *localstack.ClickHouse, db string) *bench {
	t.Helper()
	b := &bench{TB: t, ctx: t.Context(), engine: engine, db: db}
	b.w = b.open(warehouse.Config{})
	if err := b.w.Migrate(b.ctx, nil); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	t.Cleanup(func() { dropViews(t, b) })
	return b
}

func dropViews(t testing.TB, b *bench) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 2*time.Minute)
	defer cancel()
	if _, err := b.engine.Query(ctx, "DROP DATABASE IF EXISTS "+b.w.API()); err != nil {
		t.Errorf("drop the views: %v", err)
	}
}

// open is another Warehouse on the same database.
func (b *bench) open(cfg warehouse.Config) *warehouse.Warehouse {
	b.Helper()
	cfg.DSN = b.engine.DSN(b.db)
	// A machine that is busy elsewhere is no fault of a statement: only what a test is about runs out of time.
	cfg.InsertTimeout, cfg.QueryTimeout = cmp.Or(cfg.InsertTimeout, awaitMost), cmp.Or(cfg.QueryTimeout, awaitMost)
	w, err := warehouse.Open(b.ctx, cfg, zaptest.NewLogger(b))
	if err != nil {
		b.Fatalf("Open: %v", err)
	}
	b.Cleanup(func() {
		if err := w.Close(); err != nil {
			b.Errorf("Close: %v", err)
		}
	})
	return w
}

func (b *bench) takeOver(shard uint16) *warehouse.Writer {
	b.Helper()
	wr, err := b.w.TakeOver(b.ctx, shard, 0, b.Name())
	if err != nil {
		b.Fatalf("TakeOver: %v", err)
	}
	b.Cleanup(wr.Close)
	return wr
}

func (b *bench) insert(wr *warehouse.Writer, block warehouse.Block) {
	b.Helper()
	if err := wr.Insert(b.ctx, block); err != nil {
		b.Fatalf("Insert: %v", err)
	}
}

// query is the tab-separated answer of the server; {{db}} and {{api}} stand for the databases.
func (b *bench) query(sql string, args ...any) string {
	b.Helper()
	sql = strings.NewReplacer("{{db}}", b.db, "{{api}}", b.w.API()).Replace(fmt.Sprintf(sql, args...))
	out, err := b.engine.Query(b.ctx, sql)
	if err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
	return strings.TrimSuffix(out, "\n")
}

func (b *bench) want(want, sql string, args ...any) {
	b.Helper()
	if got := b.query(sql, args...); got != want {
		b.Errorf("%s\n got %q\nwant %q", fmt.Sprintf(sql, args...), got, want)
	}
}

func day(s string) usage.Instant {
	at, err := time.Parse("2006-01-02", s)
	if err != nil {
		panic(err)
	}
	return usage.AtTime(at)
}

// event is row i of a plausible stream: 200 tenants, 5 meters, 20 accounts a tenant.
func event(i int, at usage.Instant) *warehouse.EventRow {
	tenant := fmt.Sprintf("tenant-%03d", i%200)
	id := usage.Identity{Source: "/gateway/" + string(rune('a'+i%4)), ID: fmt.Sprintf("event-%09d", i)}
	return &warehouse.EventRow{
		Position: warehouse.Position{Shard: 0, Seq: uint64(1 + i/500), Idx: uint32(i % 500)}, Sign: 1,
		Tenant: tenant, Source: id.Source, ID: id.ID, IDHash: usage.IdentityHash(tenant, id), ContentHash: uint64(i) * 0x9E3779B97F4A7C15,
		Type: usage.TypeMetered, Account: fmt.Sprintf("account-%02d", i/200%20), At: at, ReportedAt: at, RecordedAt: at, AcceptedAt: at, WrittenAt: at,
		CorrelationID: fmt.Sprintf("correlation-%d", i/100), CausationID: fmt.Sprintf("correlation-%d", i/100),
		Meter: fmt.Sprintf("meter-%d", i%5), Quantity: usage.Int(int64(i)), Unit: "unit", Region: "eu", Platform: "aws",
		Dimensions: []usage.Dimension{{Key: "a", Value: "b"}, {Key: "c", Value: fmt.Sprint(i % 3)}}, Data: `{"x":1}`,
	}
}

const awaitMost = 3 * time.Minute

// await polls until the server answers want: a condition, not a duration.
func (b *bench) await(what, want, sql string) {
	b.Helper()
	deadline := time.Now().Add(awaitMost)
	for b.query("%s", sql) != want {
		if time.Now().After(deadline) {
			b.Fatalf("%s: not within %s", what, awaitMost)
		}
	}
}
