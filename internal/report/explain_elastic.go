package report

import (
	"context"
	"math/big"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Measures of elastic usage: columns of the table.
const (
	measureUsed          = "USED"
	measureMeterQuantity = "METER_QUANTITY"
	measureMeterCost     = "METER_COST"
	measureItemQuantity  = "ITEM_QUANTITY"
	measureMapped        = "MAPPED_ENTITLED_COUNT"
)

// elasticAsked finds the row that is meant: the last that counts, of the line item, or of one operation, or of one item in
// it. What was denied has no line item: an operation names it.
const elasticAsked = elasticFields + `
    AND (` + askedElastic + `) AND (activation_id != '' OR {activation:String} = '') AND ({correlation:String} = '' OR correlation_id = {correlation:String}) AND ({item:String} = '' OR item = {item:String})
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

// elastic explains a number of the Elastic table: of the running total all lines of its line item up to the row, of the
// others what was sent.
func (e *explanation) elastic(ctx context.Context) error {
	activation := e.q.Values["activation"]
	if activation == "" && e.q.Values["correlation"] == "" {
		return wrong("activation", "must be given: the row's ACTIVATION_ID; of what was denied, which has none, its CORRELATION_ID")
	}
	if e.out.Measure == "" {
		e.out.Measure = measureUsed
	}
	e.out.Measure = strings.ToUpper(e.out.Measure)
	if measures := []string{measureUsed, measureMeterQuantity, measureMeterCost, measureItemQuantity, measureMapped}; !slices.Contains(measures, e.out.Measure) {
		return wrong("measure", "want one of "+strings.Join(measures, ", "))
	}
	if e.older != nil {
		return wrong("from_version", "elastic-usage has no versions: ask with from_as_of")
	}
	line, table, err := e.elasticLine(ctx, activation)
	if err != nil {
		return err
	}
	if e.out.Measure == measureUsed && line.activation != "" {
		return e.elasticTotal(ctx, table, line)
	}
	return e.elasticSent(ctx, table, line)
}

// elasticLine finds the line that is meant.
func (e *explanation) elasticLine(ctx context.Context, activation string) (*elasticLine, *elasticReport, error) {
	table := &elasticReport{
		Reports: e.Reports, ask: Ask{Tenant: e.q.Tenant, Cut: e.cut}, state: e.state, activation: activation, to: Forever + 1,
		totals: map[string]amount{}, reported: map[string]string{},
	}
	params := table.params(elasticKey{at: -1})
	params["correlation"], params["item"] = e.q.Values["correlation"], e.q.Values["item"]
	var line *elasticLine
	err := e.query(ctx, "find the row", elasticAsked, params, func(row warehouse.Rows) error {
		l, err := table.scan(row)
		if err == nil && line == nil {
			if _, _, ok := table.resolve(l); ok {
				line = l
			}
		}
		return err
	})
	switch {
	case err != nil:
		return nil, nil, err
	case line == nil && activation == "":
		return nil, nil, &Error{Code: CodeNotFound, Detail: "no line of operation " + e.q.Values["correlation"] + " fits"}
	case line == nil:
		return nil, nil, &Error{Code: CodeNotFound, Detail: "no line of line item " + activation + " fits"}
	}
	table.activation = line.activation
	return line, table, nil
}

// elasticTotal lists the lines of a running total.
func (e *explanation) elasticTotal(ctx context.Context, table *elasticReport, line *elasticLine) error {
	if err := e.elasticNumber(ctx, table, line); err != nil {
		return err
	}
	if err := table.before(ctx, line.key, nil); err != nil {
		return err
	}
	total := table.totals[line.activation]
	if total == nil {
		total = new(big.Int)
	}
	e.out.Evidence = formatAmount(total)
	e.out.How = "the sum of METER_QUANTITY of all lines charged to the line item up to this row, in usage-time order; the newest is first"
	params := table.params(line.key)
	if err := e.query(ctx, "count the evidence", elasticLinesUpTo, params, func(row warehouse.Rows) error { return row.Scan(&e.out.Total) }); err != nil {
		return err
	}
	params["limit"], params["skip"] = e.limit(), e.q.Skip
	return e.query(ctx, "list the evidence", elasticUpTo, params, func(row warehouse.Rows) error {
		l := elasticLine{activation: line.activation}
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

// elasticNumbers are the columns of a row that are numbers.
var elasticNumbers = map[string]int{ //nolint:gochecknoglobals // a table of constants
	measureMapped: 9, measureUsed: 10, measureItemQuantity: 13, measureMeterCost: 20, measureMeterQuantity: 21,
}

// elasticNumber is the row's number as the report has it.
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
		e.out.Number = row[elasticNumbers[e.out.Measure]]
		return nil
	}
	return nil
}
