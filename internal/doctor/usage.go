package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// freshness is how far the warehouse is behind the log, by the log's own numbers.
func (e *examination) freshness(ctx context.Context) result {
	w, l := e.target.Warehouse, e.target.Log
	if w == nil || l == nil {
		return absent
	}
	behind := uint64(0)
	for p := range l.Partitions() {
		info, err := l.Info(ctx, p)
		if err != nil {
			return fail("see the check of nats", "%v", err)
		}
		const progress = `SELECT max(seq) FROM {{db}}.ledger WHERE shard = (SELECT max(shard) FROM {{db}}.ledger WHERE bitAnd(shard, 1023) = @partition)`
		var seq uint64
		err = w.Query(ctx, progress, []any{warehouse.Named("partition", uint16(p))}, func(r warehouse.Rows) error { return r.Scan(&seq) })
		if err != nil {
			return fail("see the check of clickhouse", "%v", err)
		}
		if info.Last > seq {
			behind += info.Last - seq
		}
	}
	if behind == 0 {
		return ok("the warehouse has every message of the log")
	}
	const oldest = `SELECT max(dateDiff('second', oldest_pending_at, now64(3, 'UTC'))) FROM {{db}}.shard_status FINAL WHERE lag_events > 0`
	var seconds int64
	if err := w.Query(ctx, oldest, nil, func(r warehouse.Rows) error { return r.Scan(&seconds) }); err != nil {
		return fail("see the check of clickhouse", "%v", err)
	}
	if time.Duration(seconds)*time.Second > lagWarn {
		return warn("is the aggregator running? see its log", "%d messages of the log are not in the warehouse, the oldest for %d s", behind, seconds)
	}
	return ok("%d messages on their way", behind)
}

func (e *examination) deadLetters(ctx context.Context) result {
	w := e.target.Warehouse
	if w == nil {
		return absent
	}
	var n uint64
	const recent = `SELECT count() FROM {{db}}.dead_letters WHERE recorded_at > now64(3, 'UTC') - INTERVAL 1 DAY`
	if err := w.Query(ctx, recent, nil, func(r warehouse.Rows) error { return r.Scan(&n) }); err != nil {
		return fail("see the check of clickhouse", "%v", err)
	}
	if n > 0 {
		return warn("countinghouse dlq ls", "%d in the last day", n)
	}
	return ok("none in the last day")
}

// analyst logs in as the SQL user and looks for rows of anybody else.
func (e *examination) analyst(ctx context.Context) result {
	t := e.target
	if t.AnalystDSN == "" || t.OpenAnalyst == nil {
		return absent
	}
	w, err := t.OpenAnalyst(ctx, t.AnalystDSN)
	if err != nil {
		return fail("check the analyst's user in ClickHouse", "%v", err)
	}
	defer func() { _ = w.Close() }() // nothing is pending
	var foreign uint64
	const others = `SELECT count() FROM {{api}}.ledger_v1 WHERE tenant != @tenant`
	err = w.Query(ctx, others, []any{warehouse.Named("tenant", t.Tenant)}, func(r warehouse.Rows) error { return r.Scan(&foreign) })
	if err != nil {
		return fail("check the analyst's grants in ClickHouse", "%v", err)
	}
	if foreign > 0 {
		return fail("check the row policies of users.xml (deploy/clickhouse)", "the analyst of %s sees %d rows of other tenants", t.Tenant, foreign)
	}
	if err := w.Query(ctx, `SELECT count() FROM {{db}}.owner`, nil, func(warehouse.Rows) error { return nil }); err == nil {
		return fail("check the grants of users.xml (deploy/clickhouse)", "the analyst reads internal tables")
	}
	return ok("%s", fmt.Sprintf("the analyst of %s sees its own tenant only", t.Tenant))
}
