package warehouse_test

import (
	"slices"
	"testing"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// storeClosed stores 2026-01 of acme in two versions, with the rows of a close that lost, and of t in one;
// those of the tenants that are named.
func storeClosed(b *bench, tenants ...any) {
	b.Helper()
	insert := func(sql string, rows ...[]any) {
		b.Helper()
		err := b.w.Store(b.ctx, sql, func(add func(...any) error) error {
			for _, r := range rows {
				if !slices.Contains(tenants, r[0]) {
					continue
				}
				if err := add(r...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	insert(`INSERT INTO {{db}}.month_rows (tenant, month, close_id, number, account, plan, meter, trial, resolved, quantity, events, quantity_tree, events_tree)`,
		[]any{"acme", "2026-01", "one", uint32(0), "a", "p", "tokens", false, true, "1.5", int64(2), "1.5", int64(2)},
		[]any{"acme", "2026-01", "lost", uint32(0), "a", "p", "tokens", false, true, "99", int64(2), "99", int64(2)},
		[]any{"acme", "2026-01", "two", uint32(0), "a", "p", "tokens", false, true, "2.500000001", int64(3), "2.500000001", int64(3)},
		[]any{"acme", "2026-01", "two", uint32(1), "b", "p", "peak", false, true, nil, int64(0), "7", int64(1)},
		[]any{"t", "2026-01", "three", uint32(0), "a", "p", "tokens", false, true, "5", int64(1), "5", int64(1)})
	const version = `INSERT INTO {{db}}.month_versions (tenant, month, version, close_id, shards, seqs, rows, sha256)`
	for range 2 { // a version may be published again
		insert(version,
			[]any{"acme", "2026-01", uint32(1), "one", []uint16{0, 1024}, []uint64{7, 9}, uint64(1), "x"},
			[]any{"acme", "2026-01", uint32(2), "two", []uint16{0, 1024}, []uint64{7, 10}, uint64(2), "y"},
			[]any{"t", "2026-01", uint32(1), "three", []uint16{0}, []uint64{1}, uint64(1), "z"})
	}
	insert(`INSERT INTO {{db}}.month_adjustments (tenant, usage_month, close_id, number, processing_month, type, account, meter, measure, from_version, to_version, delta, cost_delta)`,
		[]any{"acme", "2026-01", "two", uint32(0), "2026-02", "SYSTEM", "a", "tokens", "quantity", uint32(1), uint32(2), "1.000000001", ""},
		[]any{"acme", "2026-01", "lost", uint32(0), "2026-02", "SYSTEM", "a", "tokens", "quantity", uint32(1), uint32(2), "97.5", ""},
		[]any{"t", "2026-01", "three", uint32(0), "2026-02", "SYSTEM", "a", "tokens", "quantity", uint32(1), uint32(2), "1", "0.10"})
}

// A closed month is in usage_monthly_v1 once, as its newest version was stored; every version is in
// usage_monthly_versions_v1; rows of a close that lost are nowhere; open months are computed as before.
func TestClosedMonths(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.store(shop())
	open := b.query(`SELECT groupArray(tuple(*)) FROM (SELECT month, account, plan, meter, quantity, events FROM {{api}}.usage_monthly_v1 WHERE tenant = 'acme' AND month = '2026-02' ORDER BY ALL)`)
	storeClosed(b, "acme", "t")
	b.want("a\ttokens\t2.500000001\t3\t2\ttrue\t1024\t10\nb\tpeak\t0\t0\t2\ttrue\t1024\t10",
		`SELECT account, meter, quantity, events, version, closed, log_shard, log_seq FROM {{api}}.usage_monthly_v1 WHERE tenant = 'acme' AND month = '2026-01' ORDER BY account`)
	b.want("1\t1.5\n2\t2.500000001", `SELECT version, sum(quantity) FROM {{api}}.usage_monthly_versions_v1 WHERE tenant = 'acme' GROUP BY version ORDER BY version`)
	b.want("2026-01\t1\tx\n2026-01\t2\ty", `SELECT month, version, sha256 FROM {{api}}.months_v1 WHERE tenant = 'acme' ORDER BY version`)
	b.want("2026-02\ta\t1.000000001\t\\N", `SELECT processing_month, account, delta, cost_delta FROM {{api}}.month_adjustments_v1 WHERE tenant = 'acme'`)
	b.want(open, "%s", `SELECT groupArray(tuple(*)) FROM (SELECT month, account, plan, meter, quantity, events FROM {{api}}.usage_monthly_v1 WHERE tenant = 'acme' AND month = '2026-02' ORDER BY ALL)`)
	for _, view := range []string{"{{api}}.usage_monthly_v1", "{{api}}.usage_monthly_versions_v1"} {
		b.want("Decimal(76, 9)", `SELECT DISTINCT toTypeName(quantity) FROM %s`, view)
	}
}

// What was stored half is there or not, and the next Store of the same rows is another one: readers go by
// the version. A row that does not fit is an error.
func TestStoreRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	err := b.w.Store(b.ctx, `INSERT INTO {{db}}.month_rows (tenant, quantity)`, func(add func(...any) error) error { return add("acme", "not a number") })
	if err == nil {
		t.Error("a quantity that is no number was stored")
	}
	if err := b.w.Remove(b.ctx, `DELETE FROM {{db}}.month_rows WHERE tenant = @tenant`, warehouse.Named("tenant", "acme")); err != nil {
		t.Errorf("Remove: %v", err)
	}
}
