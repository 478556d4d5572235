package report

import (
	"context"
	"iter"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
)

func elasticReports() []Definition {
	return []Definition{{
		Name:  "elastic-usage",
		Title: "Elastic Access usage: one row per line of an operation",
		Doc: "Every line that was granted, charged, refunded or denied, in usage-time order. USED is the running total of the row's ACTIVATION_ID, " +
			"net of refunds, computed when read: a late line changes the rows after it, as_of keeps them. A producer's own running total is in used_reported " +
			"of a JSON row where it is another one, and used_differs says so.",
		Parameters: []Parameter{
			{Name: "account", Doc: "Only instances of this account", Example: "acme"},
			{Name: "instance", Doc: "Only this instance", Example: "inst-acme"},
			{Name: "activation", Doc: "Only lines charged to this line item", Example: "ACT-acme-1"},
			{Name: "from", Doc: "Used at or after this instant, RFC 3339", Example: "2026-03-01T00:00:00Z"},
			{Name: "to", Doc: "Used before this instant, RFC 3339", Example: "2026-04-01T00:00:00Z"},
			{Name: "differs", Doc: "true: only lines whose producer reported another running total", Values: []string{"true", "false"}},
		},
		Columns: elasticColumns(),
		Run:     (*elasticReport)(nil).run,
	}}
}

func elasticColumns() []sheet.Column {
	return []sheet.Column{
		{Name: "CORRELATION_ID", Kind: sheet.Code, Doc: "Ties the row to one operation"},
		{Name: "TENANT_ID", Kind: sheet.Code, Doc: "The producer's tenant"},
		{Name: "USAGE_TIME", Kind: sheet.Instant, Doc: "When it was used"},
		{Name: "WRITE_TIME", Kind: sheet.Instant, Doc: "When the log had it; never before USAGE_TIME"},
		{Name: "CONSUMER_ID", Kind: sheet.Code, Doc: "Who asked"},
		{Name: "CONSUMER_TYPE", Kind: sheet.Code, Doc: "Kind of consumer"},
		{Name: "ACCOUNT_ID", Kind: sheet.Code, Doc: "Account of the instance"},
		{Name: "INSTANCE_ID", Kind: sheet.Code, Doc: "Instance the request went to"},
		{Name: "ACTIVATION_ID", Kind: sheet.Code, Doc: "Line item charged or refunded; blank if denied"},
		{Name: "MAPPED_ENTITLED_COUNT", Kind: sheet.Decimal, Doc: "Quantity of the line item at that moment"},
		{Name: "USED", Kind: sheet.Decimal, Doc: "Tokens used of the line item, after this row"},
		{Name: "ITEM", Kind: sheet.Text, Doc: "Item of a rate table"},
		{Name: "ITEM_VERSION", Kind: sheet.Text, Doc: "Its version"},
		{Name: "ITEM_QUANTITY", Kind: sheet.Decimal, Adds: true, Doc: "Count asked for; negative for a refund"},
		{Name: "SESSION_ID", Kind: sheet.Code, Doc: "Blank for a one-off request"},
		{Name: "SESSION_STATE", Kind: sheet.Code, Doc: "State after the operation"},
		{Name: "REQUEST_RESPONSE", Kind: sheet.Code, Doc: "101: granted; anything else: denied"},
		{Name: "METER_TYPE", Kind: sheet.Code, Doc: "Always elastic"},
		{Name: "METER", Kind: sheet.Code, Doc: "Always elastic token"},
		{Name: "METER_COST_LIST", Kind: sheet.JSON, Doc: "Series and version of the rate table"},
		{Name: "METER_COST", Kind: sheet.Decimal, Doc: "Charge of one item in that table"},
		{Name: "METER_QUANTITY", Kind: sheet.Decimal, Adds: true, Doc: "Amount charged: METER_COST × ITEM_QUANTITY; 0 if denied"},
		{Name: "META_DATA", Kind: sheet.JSON, Doc: "What the client sent along"},
	}
}

// elasticReport is one answer in the making.
type elasticReport struct {
	*Reports
	ask        Ask
	state      *directory.State
	account    string
	instance   string
	activation string
	differs    bool
	from, to   int64 // Unix ms, [from, to)
	// Running totals by activation, of lines before the next one.
	totals map[string]amount
	memo   elasticMemo
	// What producers said about USED where it is another number, by the row's cells: of pages only.
	reported map[string]string
}

func (*elasticReport) run(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	e := &elasticReport{
		Reports: r, ask: ask, account: ask.Text("account"), instance: ask.Text("instance"), activation: ask.Text("activation"),
		differs: ask.Text("differs") == "true", totals: map[string]amount{}, reported: map[string]string{},
	}
	var err error
	if e.from, err = ask.Instant("from", 0); err != nil {
		return nil, err
	}
	if e.to, err = ask.Instant("to", Forever+1); err != nil {
		return nil, err
	}
	if e.from > e.to {
		return nil, wrong("to", "must not be before from")
	}
	if e.state, err = r.directoryAt(ctx, ask.Tenant, ask.Cut); err != nil {
		return nil, err
	}
	return &Answer{
		Table: sheet.Table{Columns: elasticColumns(), Rows: e.rows(ctx)}, FileName: "elastic-usage", Extra: e.extra, Seeks: true,
	}, nil
}

// extra flags a row whose producer reported another running total: it is shown and never trusted.
func (e *elasticReport) extra(row sheet.Row) map[string]any {
	reported, differs := e.reported[strings.Join(row, "\x00")]
	if !differs {
		return map[string]any{"used_differs": false}
	}
	return map[string]any{"used_differs": true, "used_reported": reported}
}

// rows are the lines that count, with their running totals: those the question wants to see.
func (e *elasticReport) rows(ctx context.Context) iter.Seq2[sheet.Row, error] {
	return func(yield func(sheet.Row, error) bool) {
		after, skip, err := e.start(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for given, more := 0, true; more; {
			var lines iter.Seq2[*elasticLine, error]
			if lines, more, err = e.read(ctx, after, skip); err != nil {
				yield(nil, err)
				return
			}
			for line, err := range lines {
				if err != nil {
					yield(nil, err)
					return
				}
				after = line.key
				row := e.row(line)
				if row == nil {
					continue
				}
				if skip > 0 {
					skip--
					continue
				}
				if given++; !yield(row, nil) || given == e.ask.Limit {
					return
				}
			}
		}
	}
}

// start is the line after which the rows begin, and how many rows are still to be skipped then.
func (e *elasticReport) start(ctx context.Context) (after elasticKey, skip int, err error) {
	after = elasticKey{at: -1}
	if e.ask.Skip == 0 || e.differs {
		return after, e.ask.Skip, nil
	}
	// Where every line that is asked for counts, the place is found by counting lines.
	all, err := e.allShown(ctx)
	if err != nil || !all {
		return after, e.ask.Skip, err
	}
	after, err = e.lineAt(ctx, e.ask.Skip-1)
	return after, 0, err
}

// read is a page where few rows are wanted, else everything.
func (e *elasticReport) read(ctx context.Context, after elasticKey, skip int) (lines iter.Seq2[*elasticLine, error], more bool, err error) {
	if e.ask.Limit > 0 && skip == 0 {
		return e.page(ctx, after, e.ask.Limit)
	}
	return e.stream(ctx, after), false, nil
}

// resolve says whether everything the line is about was known when it happened, and whose it is.
func (e *elasticReport) resolve(l *elasticLine) (account string, item directory.LineItem, ok bool) {
	known := e.memo.look(e.state, l)
	if !known.ever || known.since > l.key.at {
		return "", item, false
	}
	if l.activation != "" {
		item, ok = known.item(e.state, l.activation, l.key.at)
		return known.account, item, ok
	}
	return known.account, item, true
}

// row counts a line and makes its row; nil where it is not shown.
func (e *elasticReport) row(l *elasticLine) sheet.Row {
	account, item, ok := e.resolve(l)
	if !ok {
		return nil
	}
	used, mapped := "", ""
	if l.activation != "" {
		total := e.totals[l.activation]
		if total == nil {
			total = unit().SetInt64(0)
			e.totals[l.activation] = total
		}
		used, mapped = formatAmount(total.Add(total, l.quantity)), item.Quantity
		if l.mapped != "" {
			mapped = l.mapped
		}
	}
	differs := l.used != "" && l.used != used
	if !l.asked || e.account != "" && e.account != account || e.differs && !differs {
		return nil
	}
	row := sheet.Row{
		l.correlation, e.ask.Tenant, Instant(l.key.at).String(), Instant(max(l.recorded, l.key.at)).String(), l.consumerID, l.consumerType, account,
		l.instance, l.activation, e.memo.look(e.state, l).print(mapped), used, l.item, l.itemVersion, l.itemQuantity, l.sessionID, l.sessionState, l.response,
		"elastic", usage.MeterElastic, e.memo.costList(l.series, l.version), l.cost, formatAmount(l.quantity), l.metaData,
	}
	if differs && e.ask.Limit > 0 {
		e.reported[strings.Join(row, "\x00")] = l.used
	}
	return row
}

// trimDecimal is the shortest form of an exact decimal; what is no decimal stays.
func trimDecimal(text string) string {
	if text == "" {
		return ""
	}
	a, err := parseAmount(text)
	if err != nil {
		return text
	}
	return formatAmount(a)
}
