package audit

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// digest is the fingerprint of a table's rows at one sequence.
type digest struct {
	seq     uint64
	rows    uint64 // of sign 1, where the table has signs
	minus   uint64 // of sign -1
	strange uint64 // of any other sign
	sum     uint64 // of the fingerprints of rows, modulo 2^64
}

func (p *digest) add(fingerprint uint64) {
	p.rows++
	p.sum += fingerprint
}

// same compares what an event decides; negations are compared by voids.go.
func (p *digest) same(o digest) bool { return p.rows == o.rows && p.sum == o.sum && o.strange == 0 }

// digests are fingerprints in order of sequence.
type digests struct {
	rows []digest
	next int
}

func (p *digests) take(seq uint64) digest {
	if p.next < len(p.rows) && p.rows[p.next].seq == seq {
		p.next++
		return p.rows[p.next-1]
	}
	return digest{}
}

// ledgerRow is a row of the ledger.
type ledgerRow struct {
	seq                                                        uint64
	tenant                                                     string
	logged                                                     int64
	hash                                                       [16]byte
	missing                                                    bool
	accepted, stored, duplicate, conflict, quarantined, voided uint32
}

// tables is the tables' side of a range of sequences.
type tables struct {
	ledger                        []ledgerRow
	raw, pieces, dead, duplicates digests
	poison                        map[uint64][]uint32 // indexes of events, by sequence
}

// found is what the tables have at one sequence.
type found struct {
	ledger                        []ledgerRow
	raw, pieces, dead, duplicates digest
}

// take answers what there is at seq; sequences must be taken in order, without holes.
func (t *tables) take(seq uint64) found {
	n := 0
	for n < len(t.ledger) && t.ledger[n].seq == seq {
		n++
	}
	f := found{
		ledger: t.ledger[:n:n], raw: t.raw.take(seq), pieces: t.pieces.take(seq),
		dead: t.dead.take(seq), duplicates: t.duplicates.take(seq),
	}
	t.ledger = t.ledger[n:]
	return f
}

func (w *walk) readLedger(ctx context.Context, from, to uint64) ([]ledgerRow, error) {
	const sql = `
SELECT seq, CAST(tenant, 'String'), toUnixTimestamp64Milli(logged_at), toUInt64(bitShiftRight(hash, 64)),
    toUInt64(bitAnd(hash, toUInt128(18446744073709551615))), missing, accepted, stored, duplicate, conflict, quarantined, voided
FROM {{db}}.ledger
WHERE shard = @shard AND seq >= @from AND seq <= @to
ORDER BY seq`
	args := []any{warehouse.Named("shard", w.number), warehouse.Named("from", from), warehouse.Named("to", to)}
	names := map[string]string{}
	rows := make([]ledgerRow, 0, to-from+1)
	err := w.query(ctx, sql, args, func(row warehouse.Rows) error {
		var l ledgerRow
		var hi, lo uint64
		var missing uint8
		if err := row.Scan(&l.seq, &l.tenant, &l.logged, &hi, &lo, &missing, &l.accepted, &l.stored, &l.duplicate,
			&l.conflict, &l.quarantined, &l.voided); err != nil {
			return err
		}
		if name, ok := names[l.tenant]; ok {
			l.tenant = name // one string per tenant, not per row
		} else {
			names[l.tenant] = l.tenant
		}
		l.missing = missing != 0
		binary.BigEndian.PutUint64(l.hash[:8], hi)
		binary.BigEndian.PutUint64(l.hash[8:], lo)
		rows = append(rows, l)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the ledger of shard %d from %d to %d: %w", w.number, from, to, err)
	}
	return rows, nil
}

// Fingerprints of the tables, by sequence. {{columns}}, {{range}} and {{scope}} are put in by readPrints.
const (
	rawPrints = `
WITH ` + dimensionsText + ` AS dimensions_text
SELECT seq, countIf(sign = 1), countIf(sign = -1), countIf(sign NOT IN (1, -1)), sumIf(print, sign = 1)
FROM (SELECT seq, sign, xxh3(concat(` + eventColumns + `)) AS print FROM {{db}}.events WHERE {{range}} AND {{scope}})
GROUP BY seq ORDER BY seq`

	piecePrints = `
WITH ` + dimensionsText + ` AS dimensions_text
SELECT seq, countIf(sign = 1), countIf(sign = -1), countIf(sign NOT IN (1, -1)), sumIf(print, sign = 1)
FROM (SELECT seq, sign, xxh3(concat(` + pieceColumns + `)) AS print FROM {{db}}.pieces WHERE {{range}} AND {{scope}})
GROUP BY seq ORDER BY seq`

	deadPrints = `
SELECT seq, count(), toUInt64(0), toUInt64(0), sum(xxh3(concat(reinterpretAsFixedString(idx), reinterpretAsFixedString(reason = 'conflict'))))
FROM {{db}}.dead_letters WHERE {{range}} AND {{scope}}
GROUP BY seq ORDER BY seq`

	duplicatePrints = `
SELECT seq, count(), toUInt64(0), toUInt64(0), sum(xxh3(concat(reinterpretAsFixedString(idx), reinterpretAsFixedString(n),
    reinterpretAsFixedString(original_shard), reinterpretAsFixedString(original_seq), reinterpretAsFixedString(original_idx),
    tenant, '\0', source, '\0', id, '\0')))
FROM {{db}}.duplicates WHERE {{range}} AND {{scope}}
GROUP BY seq ORDER BY seq`
)

// readPrints reads fingerprints of a range; column is the table's time if months limit it.
func (w *walk) readPrints(ctx context.Context, sql, column string, from, to uint64) ([]digest, error) {
	rows, err := collect(ctx, w.Auditor, w.ranged(sql, column, from, to), w.args(), func(row warehouse.Rows, p *digest) error {
		return row.Scan(&p.seq, &p.rows, &p.minus, &p.strange, &p.sum)
	})
	if err != nil {
		return nil, fmt.Errorf("read fingerprints of shard %d from %d to %d: %w", w.number, from, to, err)
	}
	return rows, nil
}

// ranged completes a statement over a range of the shard.
func (w *walk) ranged(sql, column string, from, to uint64) string {
	scope := "1"
	if column != "" {
		scope = w.scope(column)
	} else if w.Tenant != "" {
		scope = "tenant = @tenant"
	}
	return strings.NewReplacer(
		"{{range}}", "shard = "+strconv.Itoa(int(w.number))+" AND seq >= "+strconv.FormatUint(from, 10)+" AND seq <= "+strconv.FormatUint(to, 10),
		"{{scope}}", scope,
	).Replace(sql)
}
