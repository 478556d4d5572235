package report

import (
	"context"
	"math/big"
	"strings"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Measures of elastic usage: columns of the table.
const (
	measureUsed          = "USED"
	measureMeterQuantity = "METER_QUANTITY"
)

// elasticAsked finds the row that is meant: the last that counts, of the line item, or of one operation, or of one item in it.
const elasticAsked = elasticFields + `
    AND (` + askedElastic + `) AND activation_id != '' AND ({correlation:String} = '' OR correlation_id = {correlation:String}) AND ({item:String} = '' OR item = {item:String})
ORDER BY at DESC, source DESC, source_seq DESC, id DESC, line_no DESC
LIMIT 1000`

// elasticUpTo lists the lines of a line item up to a place, the newest first.
const elasticUpTo = `
SELECT CAST(source, 'String'), id, account, instance_id, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), toString(meter_quantity), item, shard, seq, idx
FROM {{db}}.elastic_lines
WHERE ` + liveElastic + `
    AND activation_id = {activation:String} AND NOT (` + afterElastic + `)
ORDER BY at DESC, source DESC, source_seq DESC, id DESC, line_no DESC
LIMIT {limit:UInt64} OFFSET {skip:UInt64}`

const elasticLinesUpTo = `
SELECT toInt64(count())
FROM {{db}}.elastic_lines
WHERE ` + liveElastic + `
    AND activation_id = {activation:String} AND NOT (` + afterElastic + `)`

// elastic explains a running total of the Elastic table: all lines of its line item up to the row.
func (e *explanation) elastic(ctx context.Context) error {
	activation, err := e.need("activation", "the row's ACTIVATION_ID")
	if err != nil {
		return err
	}
	if e.out.Measure == "" {
		e.out.Measure = measureUsed
	}
	if e.out.Measure = strings.ToUpper(e.out.Measure); e.out.Measure != measureUsed && e.out.Measure != measureMeterQuantity {
		return wrong("measure", "want one of "+measureUsed+", "+measureMeterQuantity)
	}
	if e.older != nil {
		return wrong("from_version", "elastic-usage has no versions: ask with as_of")
	}
	table := &elasticReport{
		Reports: e.Reports, ask: Ask{Tenant: e.q.Tenant, Cut: e.cut}, state: e.state, activation: activation, to: Forever + 1,
		totals: map[string]amount{}, reported: map[string]string{},
	}
	params := table.params(elasticKey{at: -1})
	params["correlation"], params["item"] = e.q.Values["correlation"], e.q.Values["item"]
	var line *elasticLine
	err = e.query(ctx, "find the row", elasticAsked, params, func(row warehouse.Rows) error {
		l, err := table.scan(row)
		if err == nil && line == nil {
			if _, _, ok := table.resolve(l); ok {
				line = l
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if line == nil {
		return &Error{Code: CodeNotFound, Detail: "no line of line item " + activation + " fits"}
	}
	if err := e.elasticNumber(ctx, table, line); err != nil {
		return err
	}
	e.out.How = "the sum of METER_QUANTITY of all lines charged to the line item up to this row, in usage-time order; the newest is first"
	params = table.params(line.key)
	if err := e.query(ctx, "count the evidence", elasticLinesUpTo, params, func(row warehouse.Rows) error { return row.Scan(&e.out.Total) }); err != nil {
		return err
	}
	params["limit"], params["skip"] = e.limit(), e.q.Skip
	if e.out.Measure == measureMeterQuantity {
		e.out.How = "what the line was charged, as it was sent: METER_COST × ITEM_QUANTITY within a millionth"
		e.out.Total, params["limit"], params["skip"] = 1, 1, 0
	}
	return e.query(ctx, "list the evidence", elasticUpTo, params, func(row warehouse.Rows) error {
		l := elasticLine{activation: activation}
		v := Evidence{Type: "elastic.operation", Sign: 1, Status: Stored}
		err := row.Scan(&v.Source, &v.ID, &l.account, &l.instance, &l.key.at, (*int64)(&v.RecordedAt), &v.Quantity, &v.About, &v.Shard, &v.Seq, &v.Idx)
		v.Account, v.At, v.Counts = l.account, Instant(l.key.at), v.Quantity
		if _, _, ok := table.resolve(&l); !ok {
			v.Counts = "0" // its line item, instance or account was not known yet
		}
		e.out.Events = append(e.out.Events, v)
		return err
	})
}

// elasticNumber is the row's number as the report has it, and again from all lines up to it.
func (e *explanation) elasticNumber(ctx context.Context, table *elasticReport, line *elasticLine) error {
	report := *table
	report.totals, report.from = map[string]amount{}, line.key.at
	for l, err := range report.stream(ctx, elasticKey{at: -1}) {
		if err != nil {
			return err
		}
		row := report.row(l)
		if l.key.compare(line.key) < 0 {
			continue
		}
		if row == nil {
			return &Error{Code: CodeNotFound, Detail: "the line is in no report: its account, instance or line item was not known when it happened"}
		}
		e.out.Number = row[10]
		if e.out.Measure == measureMeterQuantity {
			e.out.Number = row[21]
		}
		break
	}
	if e.out.Measure == measureMeterQuantity {
		e.out.Evidence = formatAmount(line.quantity)
		return nil
	}
	if err := table.before(ctx, line.key, nil); err != nil {
		return err
	}
	total := table.totals[line.activation]
	if total == nil {
		total = new(big.Int)
	}
	e.out.Evidence = formatAmount(total)
	return nil
}
