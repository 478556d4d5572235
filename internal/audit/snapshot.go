package audit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// The low ten bits of a shard number are the partition of the log, the rest is the incarnation of its
// stream (I14).
const (
	incarnationShift = 10
	partitionMask    = 1<<incarnationShift - 1
)

// shard is a shard as the ledger had it when the audit began. Rows above progress do not exist for it.
type shard struct {
	number   uint16
	first    uint64 // first sequence in the ledger
	progress uint64 // last
	ended    bool   // a later incarnation has been counted into
}

func (s *shard) partition() int { return int(s.number & partitionMask) }

// snapshot reads how far each shard got: the one moment that the whole audit is about.
func (r *run) snapshot(ctx context.Context) error {
	var err error
	if r.shards, err = r.readShards(ctx); err != nil {
		return err
	}
	for i := range r.shards {
		s := &r.shards[i]
		if s.partition() >= r.log.Partitions() {
			r.found.add(Difference{Check: CheckLog, Shard: s.number, What: "the log has no such partition",
				Want: "below " + strconv.Itoa(r.log.Partitions()), Have: strconv.Itoa(s.partition())})
		}
	}
	return r.leftovers(ctx)
}

func (a *Auditor) readShards(ctx context.Context) ([]shard, error) {
	const sql = `SELECT shard, min(seq), max(seq) FROM {{db}}.ledger GROUP BY shard`
	shards, err := collect(ctx, a, sql, nil, func(row warehouse.Rows, s *shard) error {
		return row.Scan(&s.number, &s.first, &s.progress)
	})
	if err != nil {
		return nil, fmt.Errorf("read the shards: %w", err)
	}
	slices.SortFunc(shards, func(x, y shard) int {
		return cmp.Or(cmp.Compare(x.partition(), y.partition()), cmp.Compare(x.number, y.number))
	})
	for i := range len(shards) - 1 {
		shards[i].ended = shards[i].partition() == shards[i+1].partition()
	}
	return shards, nil
}

// leftovers finds rows above the progress of an incarnation that ended: nobody will commit them any more,
// and every reader counts them.
func (r *run) leftovers(ctx context.Context) error {
	var ended []shard
	for _, s := range r.shards {
		if s.ended {
			ended = append(ended, s)
		}
	}
	if len(ended) == 0 {
		return nil
	}
	for target := range warehouse.Targets {
		if target == warehouse.Hourly || target == warehouse.Monthly || target == warehouse.Ledger {
			continue // sums are compared with rows (rollup.go); the ledger says itself how far it is
		}
		table := target.String()
		sql := `SELECT shard, CAST(tenant, 'String'), min(seq), max(seq), count() FROM {{db}}.` + table +
			` WHERE NOT (` + upTo(ended) + `) AND shard IN (` + numbers(ended) + `) GROUP BY shard, tenant ORDER BY shard, tenant`
		err := r.query(ctx, sql, nil, func(row warehouse.Rows) error {
			d := Difference{Check: CheckStorage, What: "rows of " + table + " that were never committed, of an incarnation that ended"}
			var n uint64
			if err := row.Scan(&d.Shard, &d.Tenant, &d.Seq, &d.SeqTo, &n); err != nil {
				return err
			}
			d.Want, d.Have = "0", strconv.FormatUint(n, 10)
			r.found.add(d)
			return nil
		})
		if err != nil {
			return fmt.Errorf("look for leftovers: %w", err)
		}
	}
	return nil
}

// upTo is the condition that a row with columns shard and seq is at or below progress.
func upTo(shards []shard) string { return upToColumn("seq", shards) }

func upToColumn(column string, shards []shard) string {
	if len(shards) == 0 {
		return "0"
	}
	return column + " <= " + progressOf(shards)
}

// progressOf is the progress of a row's shard, as an expression; 0 for a shard without a ledger.
func progressOf(shards []shard) string {
	var marks []string
	for _, s := range shards {
		marks = append(marks, strconv.FormatUint(s.progress, 10))
	}
	if len(shards) == 0 {
		return "toUInt64(0)"
	}
	return "transform(shard, [" + numbers(shards) + "], [" + strings.Join(marks, ", ") + "], toUInt64(0))"
}

func numbers(shards []shard) string {
	var n []string
	for _, s := range shards {
		n = append(n, strconv.Itoa(int(s.number)))
	}
	return strings.Join(n, ", ")
}

// scope is the condition on rows of a table with tenant and the given time column; the value of @tenant
// is in args.
func (r *run) scope(column string) string {
	var b strings.Builder
	b.WriteString("1")
	if r.Tenant != "" {
		b.WriteString(" AND tenant = @tenant")
	}
	if r.From != nil {
		b.WriteString(" AND " + column + " >= " + instantOf(r.From.Start()))
	}
	if r.To != nil {
		b.WriteString(" AND " + column + " < " + instantOf(r.To.End()))
	}
	return b.String()
}

func (r *run) args() []any {
	if r.Tenant == "" {
		return nil
	}
	return []any{warehouse.Named("tenant", r.Tenant)}
}

func instantOf(i usage.Instant) string {
	return "fromUnixTimestamp64Milli(toInt64(" + strconv.FormatInt(i.Millis(), 10) + "), 'UTC')"
}

// query runs a read with an audit's patience.
func (a *Auditor) query(ctx context.Context, sql string, args []any, scan func(warehouse.Rows) error) error {
	ctx, cancel := context.WithTimeout(ctx, queryWait)
	defer cancel()
	return a.wh.Query(ctx, sql, args, scan)
}

func collect[T any](ctx context.Context, a *Auditor, sql string, args []any, scan func(warehouse.Rows, *T) error) ([]T, error) {
	var all []T
	err := a.query(ctx, sql, args, func(row warehouse.Rows) error {
		var t T
		if err := scan(row, &t); err != nil {
			return err
		}
		all = append(all, t)
		return nil
	})
	return all, err
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func instantText(ms int64) string { return usage.At(ms * 1e6).String() }
