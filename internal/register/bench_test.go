package register_test

import (
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/register"
	"github.com/countinghouse/countinghouse/internal/report/reporttest"
)

// BenchmarkProject: 100,000 accounts five levels deep, with a plan and a status each.
func BenchmarkProject(b *testing.B) {
	engine := localstack.SharedClickHouse(b)
	w, err := reporttest.Open(b.Context(), engine.DSN(engine.Database(b)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Close)
	const fill = `INSERT INTO {{db}}.directory_events (shard, seq, idx, sign, tenant, source, id, type, account, at, recorded_at, correlation_id, data)
SELECT 0, 1, number, 1, 'big', 'crm', concat(['c', 'p', 'q'][kind], toString(number)), ['account.created', 'service.plan_set', 'service.status_set'][kind],
    concat('account-', toString(number)), toDateTime64('2026-01-01 00:00:00', 3, 'UTC'), toDateTime64('2026-04-01 00:00:00', 3, 'UTC'), '',
    [format('{{"name":"Account {0}","kind":"customer","parent_account_id":"{1}"}}', toString(number), if(number = 0, '', concat('account-', toString(intDiv(number - 1, 20))))),
     '{"service":"sta","plan":"STA Basic"}', '{"service":"sta","status":"Active"}'][kind]
FROM numbers(100000) ARRAY JOIN [1, 2, 3] AS kind`
	if _, err := engine.Query(b.Context(), strings.ReplaceAll(fill, "{{db}}", w.W.Database())); err != nil {
		b.Fatal(err)
	}
	seq := uint64(1)
	for b.Loop() {
		// A generation that says less than the last is written all the same.
		if err := w.W.Remove(b.Context(), "TRUNCATE TABLE {{db}}.directory_generations"); err != nil {
			b.Fatal(err)
		}
		if err := register.Project(b.Context(), w.W, []string{"big"}, register.Cut{0: seq}); err != nil {
			b.Fatal(err)
		}
	}
}
