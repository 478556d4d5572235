package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
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

// analyst logs in as the SQL user and looks for rows of anybody else. It asks over HTTP, as an analyst's
// tools do, because a read-only user may not set the time limits that our own client sends along.
func (e *examination) analyst(ctx context.Context) result {
	t := e.target
	if t.AnalystURL == "" {
		return absent
	}
	const others = `SELECT countIf(tenant != {tenant:String}) FROM usage_api.ledger_v1`
	answer, err := ask(ctx, t.AnalystURL+"&param_tenant="+url.QueryEscape(t.Tenant), others)
	switch {
	case err != nil:
		return fail("check the analyst's user and grants in ClickHouse (deploy/clickhouse)", "%v", err)
	case answer != "0":
		return fail("check the row policies of users.xml (deploy/clickhouse)", "the analyst of %s sees %s rows of other tenants", t.Tenant, answer)
	}
	for _, statement := range []string{
		`SELECT count() FROM countinghouse.owner`,
		`CREATE TABLE usage_api.doctor (x UInt8) ENGINE = Memory`,
	} {
		if _, err := ask(ctx, t.AnalystURL, statement); err == nil {
			return fail("check the grants of users.xml (deploy/clickhouse)", "the analyst may run: %s", statement)
		}
	}
	if n, err := ask(ctx, t.AnalystURL+"&param_tenant="+url.QueryEscape(t.Tenant), othersInIndex); err == nil && n != "0" {
		return warn("upgrade ClickHouse to 26.3.22.6, 26.5.8.18, 26.6.4.10, 26.7.6.5 or later (docs/how-to/run-in-production.md)",
			"the analyst of %s may read the index of a table, with names of other tenants", t.Tenant)
	}
	return ok("the analyst of %s sees its own tenant only, and cannot write", t.Tenant)
}

// othersInIndex is answered by releases of ClickHouse whose mergeTreeIndex knows no row policies: it gives the values of
// the primary key, which are tenants and accounts. Releases that know them refuse it. The events of every tenant are in it.
const othersInIndex = `SELECT countIf(tenant != {tenant:String}) FROM mergeTreeIndex('countinghouse', 'events')`

func ask(ctx context.Context, address, statement string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(statement))
	if err != nil {
		return "", errors.New("the analyst's address is no URL") // it holds the password: say no more
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", errors.New("ClickHouse does not answer over HTTP")
	}
	defer func() { _ = resp.Body.Close() }() // read below
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if err != nil {
		return "", fmt.Errorf("read the answer of ClickHouse: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(oneLine(string(body)))
	}
	return strings.TrimSpace(string(body)), nil
}
