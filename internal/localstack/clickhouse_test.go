package localstack_test

import (
	"context"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// query runs sql and returns the answer, or ends the test.
func query(t *testing.T, ch *localstack.ClickHouse, sql string) string {
	t.Helper()
	got, err := ch.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("query %s: %v", sql, err)
	}
	return got
}

func TestEngineKeepsDataWhenKilledAndRestarted(t *testing.T) {
	t.Parallel()
	ch := localstack.Start(t, localstack.Options{NoNATS: true}).ClickHouse
	query(t, ch, "CREATE DATABASE kept")
	query(t, ch, "CREATE TABLE kept.rows (n UInt32) ENGINE = MergeTree ORDER BY n")
	ends := map[string]func(){
		"kill":    ch.Kill,
		"stop":    func() { _ = ch.Stop(localstack.StopGrace) },
		"running": func() {}, // Restart stops it
	}
	want := 0
	for name, end := range ends {
		query(t, ch, "INSERT INTO kept.rows (n) SELECT number FROM numbers(10)")
		want += 10
		addr, pid := ch.Addr(), ch.PID()
		end()
		if err := ch.Restart(t.Context()); err != nil {
			t.Fatalf("restart after %s: %v", name, err)
		}
		if got := query(t, ch, "SELECT toInt32(count()) FROM kept.rows"); got != itoa(want) {
			t.Errorf("after %s: %s rows, want %d", name, got, want)
		}
		if ch.Addr() != addr || ch.PID() == pid {
			t.Errorf("after %s: %s pid %d, want %s and another pid than %d", name, ch.Addr(), ch.PID(), addr, pid)
		}
	}
}

// In this mode the engine forgets its system database when it ends, but not the files.
func TestQueryLogWorksInEveryLife(t *testing.T) {
	t.Parallel()
	ch := localstack.Start(t, localstack.Options{NoNATS: true}).ClickHouse
	for _, life := range []string{"first", "second"} {
		query(t, ch, "SELECT '"+life+" life'")
		query(t, ch, "SYSTEM FLUSH LOGS query_log")
		got := query(t, ch, "SELECT count() > 0 FROM system.query_log WHERE query LIKE 'SELECT ''"+life+" life%'")
		if got != "1" {
			t.Errorf("%s life: query not logged", life)
		}
		ch.Kill()
		if err := ch.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSharedEngineGivesEachTestADatabase(t *testing.T) {
	ch := localstack.SharedClickHouse(t)
	var first, second string
	t.Run("first", func(t *testing.T) { first = ch.Database(t) })
	t.Run("second", func(t *testing.T) { second = ch.Database(t) })
	if first == second {
		t.Errorf("both tests got database %s", first)
	}
	if got := query(t, ch, "SELECT name FROM system.databases WHERE name IN ('"+first+"','"+second+"')"); got != "" {
		t.Errorf("left behind: %s", got)
	}
	if localstack.SharedClickHouse(t) != ch {
		t.Error("a second engine was started")
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	t.Parallel()
	engine, err := localstack.EnsureEngine(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	first := localstack.Start(t, localstack.Options{NoNATS: true}).ClickHouse
	_, err = localstack.StartClickHouse(context.WithoutCancel(t.Context()), localstack.ClickHouseConfig{
		Engine: engine, Dir: t.TempDir(), TCPPort: port(t, first.Addr()), HTTPPort: port(t, first.Addr()),
	})
	wantError(t, err, "start clickhouse", "Address already in use")
}
