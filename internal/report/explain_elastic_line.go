package report

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// elasticSaid is the operation of a line, as it was sent.
const elasticSaid = `
SELECT CAST(source, 'String') AS source_, id, CAST(account, 'String') AS account_, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), data, shard, seq, idx
FROM {{db}}.events
WHERE tenant = {tenant:String} AND type = 'elastic.operation' AND sign = 1 AND at = fromUnixTimestamp64Milli({at:Int64}, 'UTC')
    AND source_ = {source:String} AND id = {id:String} AND ` + inCut + `
LIMIT 1`

// itemSaid is what was said of a line item up to an instant, in the order in which it holds.
const itemSaid = `
SELECT CAST(source, 'String') AS source_, id, CAST(account, 'String'), CAST(type, 'String'), toUnixTimestamp64Milli(at) AS happened, toUnixTimestamp64Milli(recorded_at), data,
    shard, seq, idx
FROM {{db}}.directory_events
WHERE tenant = {tenant:String} AND type IN ('lineitem.mapped', 'lineitem.changed') AND JSONExtractString(data, 'activation_id') = {activation:String} AND sign = 1
    AND at <= fromUnixTimestamp64Milli({at:Int64}, 'UTC') AND ` + inCut + `
    AND (source, id) NOT IN (SELECT source, id FROM {{db}}.directory_events WHERE tenant = {tenant:String} AND type IN ('lineitem.mapped', 'lineitem.changed') AND sign = -1 AND ` + inCut + `)
ORDER BY at, source_, JSONExtractInt(data, 'source_seq'), id
LIMIT 100000`

// elasticSentLine is a line of an operation, as it was sent.
type elasticSentLine struct {
	LineNo        json.RawMessage `json:"line_no"`
	Mapped        json.RawMessage `json:"mapped_entitled_count"`
	ItemQuantity  json.RawMessage `json:"item_quantity"`
	MeterCost     json.RawMessage `json:"meter_cost"`
	MeterQuantity json.RawMessage `json:"meter_quantity"`
}

// elasticSent explains a number that an operation said: it is read again from the event itself. What it did not say of
// its line item is what was said of that last.
func (e *explanation) elasticSent(ctx context.Context, table *elasticReport, line *elasticLine) error {
	if err := e.elasticNumber(ctx, table, line); err != nil {
		return err
	}
	v := Evidence{Type: "elastic.operation", Sign: 1, Status: Stored, About: line.item}
	data := ""
	params := e.cut.params(map[string]any{"tenant": e.q.Tenant, "at": line.key.at, "source": line.key.source, "id": line.key.id, "activation": line.activation})
	err := e.query(ctx, "read the operation", elasticSaid, params, func(row warehouse.Rows) error {
		return row.Scan(&v.Source, &v.ID, &v.Account, (*int64)(&v.At), (*int64)(&v.RecordedAt), &data, &v.Shard, &v.Seq, &v.Idx)
	})
	if err != nil {
		return err
	}
	var sent struct {
		Lines []elasticSentLine `json:"lines"`
	}
	if err := json.Unmarshal([]byte(data), &sent); err != nil {
		return fmt.Errorf("read operation %s of %s: %w", line.key.id, line.key.source, err)
	}
	e.out.How = "what the line of the operation says, as it was sent"
	for _, l := range sent.Lines {
		if no, err := decimalSaid(l.LineNo); err != nil || no != strconv.FormatInt(line.key.line, 10) {
			continue
		}
		said := map[string]json.RawMessage{
			measureMapped: l.Mapped, measureItemQuantity: l.ItemQuantity, measureMeterCost: l.MeterCost, measureMeterQuantity: l.MeterQuantity,
		}[e.out.Measure]
		switch {
		case line.activation == "" && (e.out.Measure == measureMapped || e.out.Measure == measureUsed):
			e.out.How = "blank: what was denied is charged to no line item"
			said = nil
		case e.out.Measure == measureMapped && isBlank(said):
			return e.itemMapped(ctx, line.activation, params)
		}
		if v.Counts, err = decimalSaid(said); err != nil {
			return err
		}
		if v.Counts == "" && e.out.Measure == measureMeterQuantity {
			v.Counts = "0" // nothing was charged
		}
		v.Quantity = v.Counts
	}
	e.out.Evidence = v.Counts
	e.list([]Evidence{v})
	return nil
}

// itemMapped goes through what was said of a line item: its quantity is what was said of that last.
func (e *explanation) itemMapped(ctx context.Context, activation string, params map[string]any) error {
	refused := map[Position]bool{}
	for _, u := range e.state.Rulings() {
		refused[Position(u.Position)] = true
	}
	e.out.How = "the quantity of the line item when it was used: what was said of it last"
	all, last := []Evidence{}, -1
	err := e.query(ctx, "list what was said of the line item", itemSaid, params, func(row warehouse.Rows) error {
		v := Evidence{Sign: 1, Status: Stored, About: activation, Counts: "0"}
		var text string
		if err := row.Scan(&v.Source, &v.ID, &v.Account, &v.Type, (*int64)(&v.At), (*int64)(&v.RecordedAt), &text, &v.Shard, &v.Seq, &v.Idx); err != nil {
			return err
		}
		if refused[v.Position] || len(all) == 0 && v.Type != "lineitem.mapped" {
			return nil // before its first mapping nothing is known of it
		}
		var data struct {
			Quantity json.RawMessage `json:"quantity"`
		}
		if err := json.Unmarshal([]byte(text), &data); err != nil {
			return fmt.Errorf("read what %s of %s says: %w", v.ID, v.Source, err)
		}
		var err error
		if v.Quantity, err = decimalSaid(data.Quantity); v.Quantity != "" {
			last = len(all)
		}
		all = append(all, v)
		return err
	})
	if err != nil {
		return err
	}
	if last >= 0 {
		all[last].Counts = all[last].Quantity
		e.out.Evidence = all[last].Quantity
	}
	e.list(all)
	return nil
}

func isBlank(raw json.RawMessage) bool {
	return cmp.Or(strings.Trim(string(raw), `"`), "null") == "null"
}

// decimalSaid is a decimal of an event in its shortest form; "" where there is none.
func decimalSaid(raw json.RawMessage) (string, error) {
	if isBlank(raw) {
		return "", nil
	}
	text := strings.Trim(string(raw), `"`)
	q, err := usage.ParseQuantity([]byte(text))
	if err != nil {
		return "", fmt.Errorf("read decimal %q: %w", text, err)
	}
	return trimDecimal(q.String()), nil
}
