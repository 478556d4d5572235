package report

import (
	"cmp"
	"context"
	"iter"
	"math/big"
	"strings"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// elasticKey is the place of a line in the canonical order.
type elasticKey struct {
	at        int64 // Unix ms
	source    string
	sourceSeq int64
	id        string
	line      int64
}

func (k elasticKey) compare(o elasticKey) int {
	return cmp.Or(cmp.Compare(k.at, o.at), strings.Compare(k.source, o.source), cmp.Compare(k.sourceSeq, o.sourceSeq),
		strings.Compare(k.id, o.id), cmp.Compare(k.line, o.line))
}

// elasticLine is a line of an operation that is in the cut and not voided.
type elasticLine struct {
	key                                            elasticKey
	recorded                                       int64
	correlation, account, consumerType, consumerID string
	instance, sessionID, sessionState              string
	item, itemVersion, itemQuantity, response      string
	activation, series, version, cost              string
	quantity                                       amount // of the meter
	mapped, used                                   string // as the producer said, "" if it did not
	metaData                                       string
	asked                                          bool // it fits the parameters, but for the account
}

// liveElastic are the lines of a cut. What is voided in it is left out whole.
const liveElastic = `tenant = {tenant:String} AND sign = 1 AND ` + inCut + `
    AND (source, id) NOT IN
    (
        SELECT source, id FROM {{db}}.elastic_lines WHERE tenant = {tenant:String} AND sign = -1 AND ` + inCut + `
    )`

// askedElastic is whether a line fits the parameters. Whose an instance is, the directory says: an account's
// lines are those of its instances, and those that name it.
const askedElastic = `({activation:String} = '' OR activation_id = {activation:String})
        AND ({instance:String} = '' OR instance_id = {instance:String})
        AND (NOT {by_account:Bool} OR instance_id IN {instances:Array(String)} OR account = {account:String})`

const afterElastic = `(at, source, source_seq, id, line_no) > (fromUnixTimestamp64Milli({after_at:Int64}, 'UTC'), {after_source:String},
        {after_seq:Int64}, {after_id:String}, {after_line:Int64})
    AND at >= fromUnixTimestamp64Milli({after_at:Int64}, 'UTC')`

const elasticPeriod = `at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')`

const elasticFields = `
SELECT source, source_seq, id, line_no, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), correlation_id, account, consumer_type,
    consumer_id, instance_id, session_id, session_state, item, item_version, toString(item_quantity), response, activation_id, series, version,
    if(bitAnd(given, 1) > 0, toString(meter_cost), ''), toString(meter_quantity), if(bitAnd(given, 2) > 0, toString(mapped_entitled_count), ''),
    if(bitAnd(given, 4) > 0, toString(used), ''), meta_data, toUInt8(` + askedElastic + `)
FROM {{db}}.elastic_lines
WHERE ` + liveElastic + `
    AND ` + afterElastic + `
    AND ` + elasticPeriod

const elasticOrder = `
ORDER BY at, source, source_seq, id, line_no`

// elasticWhole reads all lines that are asked for, and the others of the same line items, because they move the totals.
const elasticWhole = elasticFields + `
    AND (` + askedElastic + `
        OR activation_id != '' AND activation_id IN
        (
            SELECT activation_id FROM {{db}}.elastic_lines WHERE tenant = {tenant:String} AND ` + elasticPeriod + ` AND ` + askedElastic + `
        ))` + elasticOrder

// elasticPlain reads all lines that are asked for, where no others can move their totals.
const elasticPlain = elasticFields + `
    AND (` + askedElastic + `)` + elasticOrder

// elasticPaged reads only lines that are asked for, some of them.
const elasticPaged = elasticPlain + `
LIMIT {limit:UInt64}`

// elasticGroups are who used what of what is asked for, and since when.
const elasticGroups = `
SELECT activation_id, instance_id, account, toUnixTimestamp64Milli(min(at))
FROM {{db}}.elastic_lines
WHERE ` + liveElastic + `
    AND ` + elasticPeriod + `
    AND (` + askedElastic + `)
GROUP BY activation_id, instance_id, account`

// elasticPlace is the key of a line by its number.
const elasticPlace = `
SELECT toUnixTimestamp64Milli(at), source, source_seq, id, line_no
FROM {{db}}.elastic_lines
WHERE ` + liveElastic + `
    AND ` + elasticPeriod + `
    AND (` + askedElastic + `)` + elasticOrder + `
LIMIT 1 OFFSET {skip:UInt64}`

// elasticBefore sums what line items had used before a place, by who used it: a use that nobody knew of is no use.
const elasticBefore = `
SELECT activation_id, instance_id, account, toString(sum(toDecimal256(meter_quantity, 9))), toUnixTimestamp64Milli(min(at))
FROM {{db}}.elastic_lines
WHERE ` + liveElastic + `
    AND activation_id != '' AND ({any:Bool} OR activation_id IN {activations:Array(String)})
    AND (at < fromUnixTimestamp64Milli({from:Int64}, 'UTC') OR NOT (` + afterElastic + `))
GROUP BY activation_id, instance_id, account`

// elasticEarly reads those of them again that happened before somebody knew of them all, line by line.
const elasticEarly = `
SELECT toUnixTimestamp64Milli(at), toString(sum(toDecimal256(meter_quantity, 9)))
FROM {{db}}.elastic_lines
WHERE ` + liveElastic + `
    AND activation_id = {activation:String} AND instance_id = {instance:String} AND account = {account:String}
    AND (at < fromUnixTimestamp64Milli({from:Int64}, 'UTC') OR NOT (` + afterElastic + `))
GROUP BY at`

// elasticOthers reads what moves the totals of a page's line items between its lines and is not asked for.
const elasticOthers = elasticFields + `
    AND NOT (` + askedElastic + `) AND activation_id IN {activations:Array(String)}
    AND (at, source, source_seq, id, line_no) < (fromUnixTimestamp64Milli({until_at:Int64}, 'UTC'), {until_source:String}, {until_seq:Int64},
        {until_id:String}, {until_line:Int64})
    AND at <= fromUnixTimestamp64Milli({until_at:Int64}, 'UTC')` + elasticOrder

func (e *elasticReport) params(after elasticKey) map[string]any {
	p := e.ask.Cut.params(map[string]any{
		"tenant": e.ask.Tenant, "activation": e.activation, "instance": e.instance, "account": e.account,
		"by_account": e.account != "", "instances": append([]string{}, e.state.Instances(e.account)...), "from": e.from, "to": e.to,
		"after_at": after.at, "after_source": after.source, "after_seq": after.sourceSeq, "after_id": after.id, "after_line": after.line,
	})
	return p
}

func (e *elasticReport) scan(row warehouse.Rows) (*elasticLine, error) {
	l := &elasticLine{}
	var quantity string
	var asked uint8
	err := row.Scan(&l.key.source, &l.key.sourceSeq, &l.key.id, &l.key.line, &l.key.at, &l.recorded, &l.correlation, &l.account, &l.consumerType,
		&l.consumerID, &l.instance, &l.sessionID, &l.sessionState, &l.item, &l.itemVersion, &l.itemQuantity, &l.response, &l.activation, &l.series,
		&l.version, &l.cost, &quantity, &l.mapped, &l.used, &l.metaData, &asked)
	if err != nil {
		return nil, err
	}
	l.asked = asked != 0
	l.quantity, err = parseAmount(quantity)
	return l, err
}

// mixed reports whether lines that are not asked for may move the totals of those that are.
func (e *elasticReport) mixed() bool { return e.instance != "" || e.account != "" }

// stream reads everything after a place, in order, as it comes.
func (e *elasticReport) stream(ctx context.Context, after elasticKey) iter.Seq2[*elasticLine, error] {
	return func(yield func(*elasticLine, error) bool) {
		if err := e.before(ctx, after, nil); err != nil {
			yield(nil, err)
			return
		}
		statement := elasticPlain
		if e.mixed() {
			statement = elasticWhole
		}
		stream(ctx, e.Reports, "read elastic lines", statement, e.params(after), e.scan)(yield)
	}
}

// page reads about limit lines after a place; more says that there are others behind them.
func (e *elasticReport) page(ctx context.Context, after elasticKey, limit int) (lines iter.Seq2[*elasticLine, error], more bool, err error) {
	params := e.params(after)
	params["limit"] = limit + 1
	var asked, others []*elasticLine
	into := func(lines *[]*elasticLine) func(warehouse.Rows) error {
		return func(row warehouse.Rows) error {
			l, err := e.scan(row)
			*lines = append(*lines, l)
			return err
		}
	}
	if err := e.query(ctx, "read elastic lines", elasticPaged, params, into(&asked)); err != nil {
		return nil, false, err
	}
	more = len(asked) > limit
	asked = asked[:min(len(asked), limit)]
	activations := map[string]bool{}
	list := []string{}
	for _, l := range asked {
		if l.activation != "" && !activations[l.activation] {
			activations[l.activation] = true
			list = append(list, l.activation)
		}
	}
	if len(list) > 0 {
		if err := e.before(ctx, after, list); err != nil {
			return nil, false, err
		}
		if e.mixed() {
			last := asked[len(asked)-1].key
			params["activations"], params["until_at"], params["until_source"] = list, last.at, last.source
			params["until_seq"], params["until_id"], params["until_line"] = last.sourceSeq, last.id, last.line
			if err := e.query(ctx, "read elastic lines", elasticOthers, params, into(&others)); err != nil {
				return nil, false, err
			}
		}
	}
	return merged(asked, others), more, nil
}

// merged is two lists in one order.
func merged(a, b []*elasticLine) iter.Seq2[*elasticLine, error] {
	return func(yield func(*elasticLine, error) bool) {
		for len(a) > 0 || len(b) > 0 {
			from := &a
			if len(a) == 0 || len(b) > 0 && b[0].key.compare(a[0].key) < 0 {
				from = &b
			}
			if !yield((*from)[0], nil) {
				return
			}
			*from = (*from)[1:]
		}
	}
}

// before sets the totals of line items, all of them where activations is nil, to what they are at a place.
func (e *elasticReport) before(ctx context.Context, after elasticKey, activations []string) error {
	clear(e.totals)
	if after.at < 0 && e.from == 0 {
		return nil // nothing is before the beginning
	}
	params := e.params(after)
	params["any"], params["activations"] = activations == nil, append([]string{}, activations...)
	if activations == nil && e.activation != "" {
		params["any"], params["activations"] = false, []string{e.activation}
	}
	var early []elasticLine
	err := e.query(ctx, "sum elastic lines", elasticBefore, params, func(row warehouse.Rows) error {
		var l elasticLine
		var sum string
		if err := row.Scan(&l.activation, &l.instance, &l.account, &sum, &l.key.at); err != nil {
			return err
		}
		if _, _, ok := e.resolve(&l); !ok {
			early = append(early, l)
			return nil
		}
		return e.add(l.activation, sum)
	})
	if err != nil {
		return err
	}
	for i := range early {
		l := &early[i]
		params["activation"], params["instance"], params["account"] = l.activation, l.instance, l.account
		err := e.query(ctx, "sum elastic lines", elasticEarly, params, func(row warehouse.Rows) error {
			var sum string
			if err := row.Scan(&l.key.at, &sum); err != nil {
				return err
			}
			if _, _, ok := e.resolve(l); !ok {
				return nil
			}
			return e.add(l.activation, sum)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *elasticReport) add(activation, sum string) error {
	a, err := parseAmount(sum)
	if err != nil {
		return err
	}
	if e.totals[activation] == nil {
		e.totals[activation] = new(big.Int)
	}
	e.totals[activation].Add(e.totals[activation], a)
	return nil
}

// allShown reports whether every line that is asked for is shown: nothing is unknown, nobody else's.
func (e *elasticReport) allShown(ctx context.Context) (bool, error) {
	all := true
	err := e.query(ctx, "group elastic lines", elasticGroups, e.params(elasticKey{}), func(row warehouse.Rows) error {
		var l elasticLine
		if err := row.Scan(&l.activation, &l.instance, &l.account, &l.key.at); err != nil {
			return err
		}
		account, _, ok := e.resolve(&l)
		all = all && ok && (e.account == "" || e.account == account)
		return nil
	})
	return all, err
}

// lineAt is the key of the line with this number, from 0, among those asked for; beyond the last it is after all.
func (e *elasticReport) lineAt(ctx context.Context, number int) (elasticKey, error) {
	k := elasticKey{at: Forever}
	params := e.params(elasticKey{})
	params["skip"] = number
	err := e.query(ctx, "find an elastic line", elasticPlace, params, func(row warehouse.Rows) error {
		return row.Scan(&k.at, &k.source, &k.sourceSeq, &k.id, &k.line)
	})
	return k, err
}
