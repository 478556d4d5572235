package audit

import (
	"context"
	"fmt"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// sliceRows is how many identities one statement groups: a count by half a hash is about 32 bytes each.
const sliceRows = 8_000_000

// identities finds identities with more than one row of sign 1. Rows are first counted by id_key, half a
// hash, which touches one narrow column; only keys that occur twice are compared by the identity itself.
// The hash space is cut into slices, so that memory does not grow with the table.
func (r *run) identities(ctx context.Context) error {
	var rows uint64
	where := "sign = 1 AND " + upTo(r.shards)
	if r.Tenant != "" {
		where += " AND tenant = @tenant"
	}
	err := r.query(ctx, "SELECT count() FROM {{db}}.events WHERE "+where, r.args(), func(row warehouse.Rows) error { return row.Scan(&rows) })
	if err != nil {
		return err
	}
	slices := rows/sliceRows + 1
	for i := range slices {
		from, to := i*(1<<32)/slices, (i+1)*(1<<32)/slices-1
		slice := where + " AND id_key >= " + strconv.FormatUint(from, 10) + " AND id_key <= " + strconv.FormatUint(to, 10)
		sql := `
SELECT CAST(tenant, 'String'), CAST(source, 'String'), id, count(),
    tupleElement(max((shard, seq, idx)) AS b, 1), tupleElement(b, 2), tupleElement(b, 3),
    tupleElement(min((shard, seq, idx)) AS a, 1), tupleElement(a, 2), tupleElement(a, 3)
FROM {{db}}.events
WHERE ` + slice + ` AND id_key IN (SELECT id_key FROM {{db}}.events WHERE ` + slice + ` GROUP BY id_key HAVING count() > 1)
GROUP BY tenant, source, id HAVING count() > 1
ORDER BY tenant, source, id`
		err := r.query(ctx, sql, r.args(), func(row warehouse.Rows) error {
			d := Difference{Check: CheckIdentity, What: "identity with more than one row of sign 1", Want: "1"}
			var n uint64
			var first warehouse.Position
			if err := row.Scan(&d.Tenant, &d.Source, &d.ID, &n, &d.Shard, &d.Seq, &d.Idx, &first.Shard, &first.Seq, &first.Idx); err != nil {
				return err
			}
			d.Have = fmt.Sprintf("%d, the first at shard %d, seq %d, idx %d", n, first.Shard, first.Seq, first.Idx)
			r.found.add(d)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
