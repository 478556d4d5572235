package audit

import (
	"context"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// MonthDifference is a place where the tables disagree about a month.
type MonthDifference struct {
	What string
	N    uint64 // rows apart
}

// Month compares what the tables say about one month of one tenant without reading the log: the ledger's
// identity and its rows with raw rows (of the tenant, for all time, because the ledger knows no months of
// usage), the month's rollups with its raw rows and pieces meter by meter, holes in the log and parts that
// ClickHouse put aside. It is what a close asks for: an audit of everything reads the whole log, and runs
// beside it.
func (a *Auditor) Month(ctx context.Context, tenant string, m usage.Month) ([]MonthDifference, error) {
	r := &run{Auditor: a, Options: Options{Tenant: tenant, From: &m, To: &m, Settle: settleWait}, found: newFindings(tenant), months: newMonths()}
	var err error
	if r.shards, err = r.readShards(ctx); err != nil {
		return nil, fmt.Errorf("audit of a month: %w", err)
	}
	var found []MonthDifference
	add := func(what string, n uint64) {
		if n > 0 {
			found = append(found, MonthDifference{what, n})
		}
	}
	if err := r.monthLedger(ctx, add); err != nil {
		return nil, fmt.Errorf("audit of a month: ledger: %w", err)
	}
	if err := r.lightRollups(ctx, func(k rollupKey, what string, n uint64) { add("meter "+k.meter+": "+what, n) }); err != nil {
		return nil, fmt.Errorf("audit of a month: %w", err)
	}
	detached, err := r.wh.Detached(ctx)
	add("parts that ClickHouse put aside", uint64(len(detached)))
	return found, err
}

func (r *run) monthLedger(ctx context.Context, add func(what string, n uint64)) error {
	tenant := []any{warehouse.Named("tenant", r.Tenant)}
	var stored, voided, wrong uint64
	sums := `
SELECT sum(stored), sum(voided), toUInt64(sum(abs(toInt64(accepted) - toInt64(stored) - toInt64(duplicate) - toInt64(conflict) - toInt64(quarantined))))
FROM {{db}}.ledger WHERE tenant = @tenant AND ` + upTo(r.shards)
	if err := r.query(ctx, sums, tenant, func(row warehouse.Rows) error { return row.Scan(&stored, &voided, &wrong) }); err != nil {
		return err
	}
	holes, err := r.holes(ctx)
	if err != nil {
		return err
	}
	var plus, minus uint64
	raw := `SELECT countIf(sign = 1), countIf(sign = -1) FROM {{db}}.events WHERE tenant = @tenant AND ` + upTo(r.shards)
	if err := r.query(ctx, raw, tenant, func(row warehouse.Rows) error { return row.Scan(&plus, &minus) }); err != nil {
		return err
	}
	add("ledger: accepted is not what became of it", wrong)
	add("ledger and raw rows differ", distance(stored, plus)+distance(voided, minus))
	add("messages of the log are missing", holes)
	return nil
}
