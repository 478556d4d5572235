package warehouse_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestServerOfAPartition: owner rows decide; where there are none, whoever was recorded first; and where it
// cannot be known for sure, nobody.
func TestServerOfAPartition(t *testing.T) {
	t.Parallel()
	engine := localstack.SharedClickHouse(t)
	// Two databases of one engine stand for two servers: nothing here is read by way of Distributed tables.
	reader, one, two := engine.Database(t), engine.Database(t), engine.Database(t)
	open := func(dsns ...string) *warehouse.Servers {
		s, err := warehouse.OpenServers(t.Context(), warehouse.Config{DSN: engine.DSN(reader), Servers: dsns, Cluster: "none"}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() }) // read and closed
		return s
	}
	both := open(engine.DSN(one), engine.DSN(two))
	for _, w := range both.All() {
		if err := w.Migrate(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dropViews(t, &bench{TB: t, ctx: t.Context(), engine: engine, w: w}) })
	}
	owned := func(s *warehouse.Servers, server int, partition uint16) {
		t.Helper()
		wr, err := s.All()[server].TakeOver(t.Context(), partition, 1, "test")
		if err != nil {
			t.Fatal(err)
		}
		wr.Close()
	}
	owned(both, 1, 4) // where 4 % 2 would not put it
	owned(both, 1, 5+1<<10)
	owned(both, 0, 6)
	owned(both, 1, 6)
	silent := open(engine.DSN(one), "clickhouse://127.0.0.1:1/"+two)
	first := func(_ context.Context, _ int, server string) (string, error) { return server, nil }
	recorded := func(server string) func(context.Context, int, string) (string, error) {
		return func(context.Context, int, string) (string, error) { return server, nil }
	}
	tests := map[string]struct {
		servers   *warehouse.Servers
		partition uint16
		place     func(context.Context, int, string) (string, error)
		want      string // the end of the address, or of the error
		misplaced bool
	}{
		"new, even":                {both, 0, first, one, false},
		"new, odd":                 {both, 1, first, two, false},
		"new, recorded elsewhere":  {both, 0, recorded(both.All()[1].Address()), two, false},
		"recorded where nobody is": {both, 0, recorded("gone:9000/db"), "gone:9000/db", true},
		"owned":                    {both, 4, recorded("never asked"), two, false},
		"owned by an incarnation":  {both, 5, recorded("never asked"), two, false},
		"owned twice":              {both, 6, first, "owner rows", true},
		"owned, other silent":      {silent, 6, first, one, false},
		"new, other silent":        {silent, 0, first, "does not answer", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, err := tt.servers.Of(t.Context(), tt.partition, tt.place)
			switch {
			case err == nil && !strings.HasSuffix(w.Address(), tt.want):
				t.Errorf("Of = %s, want %s", w.Address(), tt.want)
			case err != nil && !strings.Contains(err.Error(), tt.want), errors.Is(err, warehouse.ErrMisplaced) != tt.misplaced:
				t.Errorf("Of = %v, want %q", err, tt.want)
			}
		})
	}
	if err := both.Agree(t.Context()); err == nil {
		t.Error("a reader that knows of no cluster agrees")
	}
}

// TestServersConfig: what can be known to be wrong before anything is asked.
func TestServersConfig(t *testing.T) {
	t.Parallel()
	const a, b = "clickhouse://w:secret@a:9000/rows", "clickhouse://w:secret@b:9000/rows"
	tests := map[string]struct {
		dsn     string
		servers []string
		cluster string
		want    string
	}{
		"right":             {"clickhouse://a:9000/countinghouse", []string{a, b}, "c", ""},
		"cluster alone":     {"clickhouse://a:9000/countinghouse", nil, "c", "without servers"},
		"no cluster":        {"clickhouse://a:9000/countinghouse", []string{a, b}, "", "cluster"},
		"cluster with text": {"clickhouse://a:9000/countinghouse", []string{a, b}, "c', 'x", "cluster"},
		"twice":             {"clickhouse://a:9000/countinghouse", []string{a, a}, "c", "twice"},
		"other databases":   {"clickhouse://a:9000/countinghouse", []string{a, "clickhouse://b:9000/lines"}, "c", "one name"},
		"reader's database": {"clickhouse://a:9000/rows", []string{a, b}, "c", "another name"},
		"no DSN":            {"clickhouse://a:9000/countinghouse", []string{a, "w:secret@b"}, "c", "number 2"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := errors.Join(warehouse.Config{DSN: tt.dsn, Servers: tt.servers, Cluster: tt.cluster}.Validate()...)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Validate = %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("a password is told: %v", err)
			}
		})
	}
}
