package report

import (
	"cmp"
	"context"
	"math/big"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// certificateColumns depend on how far the rows are expanded.
func certificateColumns(expand string) []sheet.Column {
	columns := []sheet.Column{
		{Name: "Customer", Kind: sheet.Text}, {Name: "Customer ID", Kind: sheet.Text}, {Name: "Reseller", Kind: sheet.Text, Doc: "blank without one"},
	}
	if expand != "" {
		columns = append(columns, sheet.Column{Name: "Certificate Type", Kind: sheet.Text})
	}
	if expand == "type" {
		columns = append(columns, sheet.Column{Name: "Product", Kind: sheet.Text})
	}
	return append(columns,
		sheet.Column{Name: "Current Inventory", Kind: sheet.Decimal, Adds: true, Doc: "purchased, of active subscriptions"},
		sheet.Column{Name: "Available", Kind: sheet.Decimal, Adds: true, Doc: "what is left of it, never negative"},
		sheet.Column{Name: "Used", Kind: sheet.Decimal, Adds: true, Doc: "issued and neither revoked nor expired"},
	)
}

// certificates are all of them as their events left them. An event counts if its subscription was ordered by then;
// the last one about a certificate says whether it is in use, and a reissue is also the last one about what it
// replaces. A reissue that does not say its kind has the kind of what it replaces, which may be a reissue as well.
const certificates = `
WITH certificates AS
(
    SELECT certificate, argMax(alive, place) AS in_use, argMaxIf(subscription, place, alive) AS subscription_of,
        argMaxIf(cert_type, place, alive AND cert_type != '') AS type_of, argMaxIf(product, place, alive AND product != '') AS product_of,
        argMaxIf(replaces, place, alive AND replaces NOT IN ('', certificate)) AS replaced,
        replaced != '' AND (type_of = '' OR product_of = '') AS inherits
    FROM
    (
        SELECT tupleElement(fact, 1) AS certificate, tupleElement(fact, 2) AS alive, (happened, source, source_seq, id) AS place,
            subscription, cert_type, product, replaces,
            arrayJoin(if(kind = 'certificate.reissued' AND replaces NOT IN ('', certificate_id), [(certificate_id, true), (replaces, false)],
                [(certificate_id, kind IN ('certificate.issued', 'certificate.reissued'))])) AS fact
        FROM
        (
            SELECT source, id, CAST(any(type), 'String') AS kind, toUnixTimestamp64Milli(any(at)) AS happened, any(data) AS d,
                JSONExtractInt(d, 'source_seq') AS source_seq, JSONExtractString(d, 'certificate_id') AS certificate_id,
                JSONExtractString(d, 'subscription_id') AS subscription, JSONExtractString(d, 'cert_type') AS cert_type,
                JSONExtractString(d, 'product') AS product, JSONExtractString(d, 'replaces') AS replaces
            FROM {{db}}.directory_events
            WHERE tenant = {tenant:String} AND type IN {types:Array(String)} AND at <= fromUnixTimestamp64Milli({at:Int64}, 'UTC') AND ` + inCut + `
            GROUP BY source, id
            HAVING sum(sign) > 0
        )
        WHERE transform(subscription, {subscriptions:Array(String)}, {ordered:Array(Int64)}, toInt64(9223372036854775807)) <= happened
    )
    GROUP BY certificate
)`

// certificatesUsed are those in use per subscription and kind; inherits says that the kind is not the whole of it.
// kindsInherited are those of them, one by one, and every one up to where they have their kind from.
const (
	certificatesUsed = certificates + `
SELECT subscription_of, type_of, product_of, inherits, toInt64(count())
FROM certificates
WHERE in_use
GROUP BY subscription_of, type_of, product_of, inherits`
	kindsInherited = certificates + `
SELECT certificate, CAST(in_use, 'Bool'), subscription_of, type_of, product_of, replaced
FROM certificates
WHERE inherits OR certificate IN (SELECT replaced FROM certificates WHERE inherits)`
)

// stockRow is a row of certificate-usage.
type stockRow struct {
	customer string
	kind     directory.StockKey
}

type stockCount struct{ current, used amount }

func certificateUsage(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	expand := ask.Text("expand")
	display, err := displayOf(ask, certificateColumns(expand))
	if err != nil {
		return nil, err
	}
	c, err := r.clientele(ctx, ask)
	if err != nil {
		return nil, err
	}
	counts, err := r.stockCounts(ctx, ask, c)
	if err != nil {
		return nil, err
	}
	sums := map[stockRow]stockCount{}
	for row, n := range counts {
		if expand == "" {
			row.kind.CertType = ""
		}
		if expand != "type" {
			row.kind.Product = ""
		}
		if sums[row].current == nil {
			sums[row] = stockCount{new(big.Int), new(big.Int)}
		}
		sums[row].current.Add(sums[row].current, n.current)
		sums[row].used.Add(sums[row].used, n.used)
	}
	var rows []sheet.Row
	for row, n := range sums {
		of := c.of(row.customer)
		cells := sheet.Row{of.name, row.customer, of.reseller}
		if expand != "" {
			cells = append(cells, row.kind.CertType)
		}
		if expand == "type" {
			cells = append(cells, row.kind.Product)
		}
		available := new(big.Int).Sub(n.current, n.used)
		if available.Sign() < 0 {
			available = new(big.Int)
		}
		rows = append(rows, append(cells, formatAmount(n.current), formatAmount(available), formatAmount(n.used)))
	}
	kinds := len(certificateColumns(expand)) - 3
	slices.SortFunc(rows, func(a, b sheet.Row) int {
		return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1]), slices.Compare(a[3:kinds], b[3:kinds]))
	})
	return display.answer("certificate-usage_"+c.partner, rows), nil
}

// stockCounts are inventory and certificates in use of the customers listed, by kind. Inventory is that of active
// subscriptions; a certificate in use counts whatever became of its subscription.
func (r *Reports) stockCounts(ctx context.Context, ask Ask, c *clientele) (map[stockRow]stockCount, error) {
	counts := map[stockRow]stockCount{}
	of := func(row stockRow) stockCount {
		if counts[row].current == nil {
			counts[row] = stockCount{new(big.Int), new(big.Int)}
		}
		return counts[row]
	}
	subscriptions, ordered := []string{}, []int64{}
	for _, id := range c.state.Subscriptions() {
		s, ok := c.state.Subscription(id, c.at)
		if !ok {
			continue
		}
		subscriptions, ordered = append(subscriptions, id), append(ordered, c.state.FirstOrder(id))
		if client := c.of(s.Account); !client.listed || client.deleted || !s.Active(c.at) {
			continue
		}
		for _, item := range s.Items {
			n := of(stockRow{s.Account, item.StockKey})
			n.current.Add(n.current, item.Quantity)
		}
	}
	uses, err := r.certificateUses(ctx, ask, c.at, subscriptions, ordered)
	if err != nil {
		return nil, err
	}
	for _, use := range uses {
		s, ok := c.state.Subscription(use.subscription, c.at)
		if client := c.of(s.Account); ok && client.listed && !client.deleted {
			used := of(stockRow{s.Account, directory.KindOf(use.kind, s.Items)}).used
			used.Add(used, new(big.Int).Mul(big.NewInt(use.n), unit()))
		}
	}
	return counts, nil
}

// certificateCounts tells use of the certificates in use, each once.
func (r *Reports) certificateCounts(ctx context.Context, params map[string]any, use func(subscription string, kind directory.StockKey, n int64)) error {
	some := false
	err := r.query(ctx, "count the certificates in use", certificatesUsed, params, func(row warehouse.Rows) error {
		var subscription string
		var kind directory.StockKey
		var inherits uint8
		var n int64
		err := row.Scan(&subscription, &kind.CertType, &kind.Product, &inherits, &n)
		if inherits != 0 {
			some = true
		} else {
			use(subscription, kind, n)
		}
		return err
	})
	if err != nil || !some {
		return err
	}
	type issued struct {
		inUse                  bool
		subscription, replaced string
		kind                   directory.StockKey
	}
	all := map[string]issued{}
	err = r.query(ctx, "read the kinds of reissued certificates", kindsInherited, params, func(row warehouse.Rows) error {
		var id string
		var one issued
		err := row.Scan(&id, &one.inUse, &one.subscription, &one.kind.CertType, &one.kind.Product, &one.replaced)
		all[id] = one
		return err
	})
	for id, one := range all {
		if !one.inUse || one.replaced == "" || one.kind.CertType != "" && one.kind.Product != "" {
			continue // not in use, or counted already
		}
		kind, seen := one.kind, map[string]bool{id: true}
		for next := one.replaced; !seen[next]; next = all[next].replaced { // a ring of replacements ends, too
			seen[next] = true
			kind = directory.Inherit(kind, all[next].kind)
		}
		use(one.subscription, kind, 1)
	}
	return err
}

const certificateEvents = `
SELECT type, source, id, account, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), sign, data, shard, seq, idx
FROM {{db}}.directory_events
WHERE tenant = {tenant:String} AND type IN {types:Array(String)} AND ` + inCut + `
    AND JSONExtractString(data, 'subscription_id') IN (SELECT arrayJoin({subscriptions:Array(String)}))`

// certificatesOf are the events about certificates of some subscriptions: what the fold needs of that population.
func (r *Reports) certificatesOf(ctx context.Context, tenant string, cut Cut, subscriptions []string) ([]directory.Event, error) {
	var events []directory.Event
	params := cut.params(map[string]any{"tenant": tenant, "types": directory.CertificateTypes(), "subscriptions": subscriptions})
	err := r.query(ctx, "read the certificates of subscriptions", certificateEvents, params, func(row warehouse.Rows) error {
		var e directory.Event
		var sign int8
		err := row.Scan(&e.Type, &e.Source, &e.ID, &e.Account, &e.At, &e.RecordedAt, &sign, &e.Data, &e.Shard, &e.Seq, &e.Idx)
		e.Void = sign < 0
		events = append(events, e)
		return err
	})
	return events, err
}
