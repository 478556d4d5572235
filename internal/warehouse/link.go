package warehouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Section is a partition of a table: what a rebuild may make again alone, where the rest of the table is believed.
type Section struct {
	Server    string `json:"server"` // as Address names it
	Table     string `json:"table"`
	Partition string `json:"partition"` // ClickHouse's own id: YYYYMM, or all
}

func (s Section) String() string { return s.Server + " " + s.Table + ":" + s.Partition }

// Sections lists the partitions of the projections that have rows.
func (w *Warehouse) Sections(ctx context.Context) (map[Section]Table, error) {
	const sql = `
SELECT table, partition_id, sum(rows), sum(bytes_on_disk)
FROM system.parts
WHERE database = @db AND active AND table IN (@tables)
GROUP BY table, partition_id`
	all := map[Section]Table{}
	err := w.Query(ctx, sql, []any{named("db", w.db), named("tables", Projections())}, func(r Rows) error {
		s, t := Section{Server: w.Address()}, Table{}
		err := r.Scan(&s.Table, &s.Partition, &t.Rows, &t.Bytes)
		t.Name = s.Table
		all[s] = t
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the partitions of %s: %w", w.db, err)
	}
	return all, nil
}

// Aside lists the partitions of the projections of which ClickHouse has put parts aside, with the parts' names. A part
// whose name says no partition is of every one of its table.
func (w *Warehouse) Aside(ctx context.Context) (map[Section][]string, error) {
	const sql = `
SELECT table, ifNull(partition_id, ''), name
FROM system.detached_parts
WHERE database = @db AND table IN (@tables)
ORDER BY table, name`
	all := map[Section][]string{}
	err := w.Query(ctx, sql, []any{named("db", w.db), named("tables", Projections())}, func(r Rows) error {
		s := Section{Server: w.Address()}
		var name string
		err := r.Scan(&s.Table, &s.Partition, &name)
		all[s] = append(all[s], name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the parts put aside of %s: %w", w.db, err)
	}
	return all, nil
}

// Link gives the twin a partition as it is: the files of both are the same (hard links), so that it costs neither time
// nor disk. What was counted into it is a beginning of the log for each shard, as always (one insert at a time), and
// the partition's own watermarks say where the twin has to go on.
//
// It must not be repeated: rows would be there twice. Whoever does not know whether it was done drops the twin.
func (t *Twin) Link(ctx context.Context, table, partition string) error {
	if _, err := ParsePartition(partition); err != nil || !slices.Contains(Projections(), table) {
		return fmt.Errorf("link %s:%s: no such partition of a projection", table, partition)
	}
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	err := t.w.exec(ctx, "ALTER TABLE "+t.name+"."+table+" ATTACH PARTITION ID '"+partition+"' FROM "+t.w.db+"."+table)
	if err != nil {
		return fmt.Errorf("link partition %s of %s: %w", partition, table, err)
	}
	return nil
}

// without is a condition that leaves partitions out.
func without(partitions []string) string {
	if len(partitions) == 0 {
		return ""
	}
	return " AND _partition_id NOT IN ('" + strings.Join(partitions, "', '") + "')"
}

const parted = `
SELECT shard, min(seq)
FROM
(
    SELECT shard, seq, accepted, stored, duplicate, conflict, quarantined, voided FROM {{db}}.ledger
    WHERE seq <= transform(shard, @shards, @seqs, toUInt64(0))
) AS old
INNER JOIN
(
    SELECT shard, seq, accepted, stored, duplicate, conflict, quarantined, voided FROM {{twin}}.ledger
    WHERE seq <= transform(shard, @shards, @seqs, toUInt64(0))
) AS new USING (shard, seq)
WHERE (old.accepted, old.stored, old.duplicate, old.conflict, old.quarantined, old.voided)
    != (new.accepted, new.stored, new.duplicate, new.conflict, new.quarantined, new.voided)
GROUP BY shard`

// Parted is the first message of each shard of which the twin's ledger tells otherwise than the old one, up to a
// position; a shard of which they tell the same is not in it. Without the rows that were lost a duplicate of one was
// taken for the first of its kind, and a void found nothing: from there on rows of any table may be wrong.
func (t *Twin) Parted(ctx context.Context, to map[uint16]uint64) (map[uint16]uint64, error) {
	first := map[uint16]uint64{}
	shards, seqs := Positions(to)
	sql := strings.ReplaceAll(parted, "{{twin}}", t.name)
	err := t.w.Query(ctx, sql, []any{named("shards", shards), named("seqs", seqs)}, func(r Rows) error {
		var shard uint16
		var seq uint64
		err := r.Scan(&shard, &seq)
		first[shard] = seq
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("compare the ledgers: %w", err)
	}
	return first, nil
}

// Since lists the partitions of a projection that have rows of some shards from a sequence on.
func (w *Warehouse) Since(ctx context.Context, table string, first map[uint16]uint64) ([]string, error) {
	i := slices.Index(Projections(), table)
	if i < 0 {
		return nil, fmt.Errorf("%s is no projection", table)
	}
	shards, seqs := Positions(first)
	sql := "SELECT DISTINCT _partition_id FROM {{db}}." + table + " WHERE shard IN @shards AND " + Target(i).seqColumn() +
		" >= transform(shard, @shards, @seqs, toUInt64(0)) ORDER BY _partition_id"
	partitions, err := Collect(ctx, w, sql, []any{named("shards", shards), named("seqs", seqs)}, func(r Rows, p *string) error { return r.Scan(p) })
	if err != nil {
		return nil, fmt.Errorf("list the partitions of %s with later rows: %w", table, err)
	}
	return partitions, nil
}
