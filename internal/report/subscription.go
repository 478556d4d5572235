package report

import (
	"cmp"
	"context"
	"math/big"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// subscriptionReports are the reports of the partner platform.
func subscriptionReports() []Definition {
	partner := Parameter{Name: "partner", Doc: "account id of the distributor or reseller who asks: everything below it, and the customers of its resellers", Example: "trust", Required: true}
	customer := Parameter{Name: "customer", Doc: "account id of one customer; default: all in reach", Example: "sigma"}
	columns := func(all []sheet.Column) Parameter {
		names := make([]string, len(all))
		for i, c := range all {
			names[i] = c.Name
		}
		return Parameter{Name: "columns", Doc: "columns to show, in the order of display, separated by commas: " + strings.Join(names, ", "), Example: strings.Join(names[:2], ",")}
	}
	return []Definition{
		{
			Name: "subscriptions", Title: "Customer Subscriptions",
			Doc: "The active subscriptions of customers: neither cancelled nor, where they do not renew themselves, past their last day. Cost is that of the current term " +
				"and of the inventory changes in it.",
			Parameters: []Parameter{partner, customer, columns(subscriptionColumns())},
			Run:        subscriptionList,
		},
		{
			Name: "transactions", Title: "Customer Transactions",
			Doc: "What was done to subscriptions: a row per transaction, with the certificates involved and what it cost.",
			Parameters: []Parameter{
				partner, customer, {Name: "from", Doc: "first date, YYYY-MM-DD; default: all", Example: "2026-01-01"},
				{Name: "to", Doc: "last date, YYYY-MM-DD; default: all", Example: "2026-03-31"}, columns(transactionColumns()),
			},
			Run: transactionList,
		},
		{
			Name: "certificate-usage", Title: "Customer Usage",
			Doc: "Certificates that customers bought, have left and use: a row per customer; with expand=customer a row per certificate type, with expand=type " +
				"a row per certificate product. In use is what was issued and neither revoked nor expired; a reissue replaces.",
			Parameters: []Parameter{
				partner, customer, {Name: "expand", Doc: "customer: by certificate type; type: by product as well", Example: "customer", Values: []string{"customer", "type"}},
				columns(certificateColumns("type")),
			},
			Run: certificateUsage,
		},
	}
}

func subscriptionColumns() []sheet.Column {
	return []sheet.Column{
		{Name: "Customer", Kind: sheet.Text},
		{Name: "Subscription ID", Kind: sheet.Text},
		{Name: "Reseller", Kind: sheet.Text, Doc: "blank without one"},
		{Name: "Subscription", Kind: sheet.Text},
		{Name: "End", Kind: sheet.Date, Doc: "last day of the term"},
		{Name: "Cost", Kind: sheet.Decimal, Adds: true},
		{Name: "Order Date", Kind: sheet.Date},
		{Name: "Last modified by", Kind: sheet.Text, Doc: "e-mail, where there is one"},
		{Name: "Last modified date", Kind: sheet.Date},
		{Name: "Items Quantity", Kind: sheet.Decimal, Adds: true, Doc: "certificates of the current inventory"},
	}
}

func transactionColumns() []sheet.Column {
	return []sheet.Column{
		{Name: "Customer", Kind: sheet.Text},
		{Name: "Customer ID", Kind: sheet.Text},
		{Name: "Subscription ID", Kind: sheet.Text},
		{Name: "Reseller", Kind: sheet.Text, Doc: "blank without one"},
		{Name: "Product(s)", Kind: sheet.Text, Doc: "separated by ;"},
		{Name: "Transaction ID", Kind: sheet.Text},
		{Name: "Action", Kind: sheet.Code, Doc: "Inventory, Renewal Inventory, Renew or Cancel"},
		{Name: "Date", Kind: sheet.Date},
		{Name: "Total", Kind: sheet.Decimal, Adds: true, Doc: "certificates involved, never negative"},
		{Name: "Cost", Kind: sheet.Decimal, Adds: true},
		{Name: "User", Kind: sheet.Text},
	}
}

// clientele is who a partner's customers are, at an instant.
type clientele struct {
	state    *directory.State
	tree     *directory.Tree
	at       int64
	partner  string
	customer string // "": all
	known    map[string]client
}

// client is a customer as the reports print it.
type client struct {
	name, reseller string
	listed         bool // in reach and asked for
	deleted        bool
}

func (r *Reports) clientele(ctx context.Context, ask Ask) (*clientele, error) {
	state, err := r.directoryAt(ctx, ask.Tenant, ask.Cut)
	if err != nil {
		return nil, err
	}
	at := ask.Cut.AsOf
	c := &clientele{state: state, tree: state.Tree(at + 1), at: at, partner: ask.Text("partner"), known: map[string]client{}}
	if _, ok := state.Account(c.partner, at); !ok {
		return nil, unknownAccount("partner", c.partner)
	}
	if id := ask.Text("customer"); id != "" {
		if _, ok := state.Account(id, at); !ok || !c.of(id).listed {
			return nil, unknownAccount("customer", id) // whether it exists beyond the reach is not told
		}
		c.customer = id
		clear(c.known)
	}
	return c, nil
}

// of is a customer; one that nobody created is not listed.
func (c *clientele) of(id string) client {
	if known, ok := c.known[id]; ok {
		return known
	}
	a, exists := c.state.Account(id, c.at)
	k := client{name: a.Name, deleted: a.Deleted}
	reseller := a.Reseller
	for up := c.tree.Parent(id); reseller == "" && up != ""; up = c.tree.Parent(up) {
		if above, ok := c.state.Account(up, c.at); ok && above.Kind == "reseller" {
			reseller = up
		}
	}
	k.reseller = reseller
	if above, ok := c.state.Account(reseller, c.at); ok {
		k.reseller = above.Name
	}
	k.listed = exists && (c.customer == "" || c.customer == id) && (c.below(id) || c.below(reseller))
	c.known[id] = k
	return k
}

// below reports whether an account is the partner or below it.
func (c *clientele) below(id string) bool {
	for ; id != ""; id = c.tree.Parent(id) {
		if id == c.partner {
			return true
		}
	}
	return false
}

func subscriptionList(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	display, err := displayOf(ask, subscriptionColumns())
	if err != nil {
		return nil, err
	}
	c, err := r.clientele(ctx, ask)
	if err != nil {
		return nil, err
	}
	var rows []sheet.Row
	for _, id := range c.state.Subscriptions() {
		s, ordered := c.state.Subscription(id, c.at)
		of := c.of(s.Account)
		if !ordered || !of.listed || of.deleted || !s.Active(c.at) {
			continue
		}
		quantity := new(big.Int)
		for _, item := range s.Items {
			quantity.Add(quantity, item.Quantity)
		}
		rows = append(rows, sheet.Row{
			of.name, s.ID, of.reseller, s.Name, dateOf(s.LastDay), twoDecimals(s.Cost), dateOf(s.OrderedAt), s.ModifiedBy, dateOf(s.ModifiedAt), formatAmount(quantity),
		})
	}
	slices.SortStableFunc(rows, func(a, b sheet.Row) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) })
	return display.answer("subscriptions_"+c.partner, rows), nil
}

func transactionList(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	display, err := displayOf(ask, transactionColumns())
	if err != nil {
		return nil, err
	}
	from, to, err := dates(ask)
	if err != nil {
		return nil, err
	}
	c, err := r.clientele(ctx, ask)
	if err != nil {
		return nil, err
	}
	var rows []sheet.Row
	for _, t := range c.state.Transactions(c.at) {
		of := c.of(t.Account)
		if !of.listed || t.At < from || t.At >= to {
			continue
		}
		rows = append(rows, sheet.Row{
			of.name, t.Account, t.Subscription, of.reseller, strings.Join(t.Products, ";"), t.ID, t.Action, dateOf(t.At), formatAmount(t.Total), twoDecimals(t.Cost), t.User,
		})
	}
	return display.answer("transactions_"+c.partner, rows), nil
}

// dates are the first instant of the first date and the first after the last; everything where they are not given.
func dates(ask Ask) (from, to int64, err error) {
	from, to = -Forever, Forever
	if ask.Text("from") != "" {
		if from, err = ask.Date("from"); err != nil {
			return 0, 0, err
		}
	}
	if ask.Text("to") != "" {
		if to, err = ask.Date("to"); err != nil {
			return 0, 0, err
		}
		to += dayMillis
	}
	if to <= from {
		return 0, 0, wrong("to", "must not be before from")
	}
	return from, to, nil
}

// display is which columns are shown, in which order.
type display struct {
	columns []sheet.Column
	from    []int // place of each in the row
}

// displayOf reads the parameter columns; without it all are shown.
func displayOf(ask Ask, all []sheet.Column) (*display, error) {
	d := &display{}
	names := ask.List("columns")
	if names == nil {
		for _, c := range all {
			names = append(names, c.Name)
		}
	}
	known := make([]string, len(all))
	for i, c := range all {
		known[i] = c.Name
	}
	for i, name := range names {
		at := slices.Index(known, name)
		if at < 0 || slices.Contains(names[:i], name) {
			return nil, wrong("columns", "want each at most once of "+strings.Join(known, ", ")+"; not "+name)
		}
		d.columns, d.from = append(d.columns, all[at]), append(d.from, at)
	}
	return d, nil
}

func (d *display) answer(name string, rows []sheet.Row) *Answer {
	shown := make([]sheet.Row, len(rows))
	for i, row := range rows {
		shown[i] = make(sheet.Row, len(d.from))
		for j, at := range d.from {
			shown[i][j] = row[at]
		}
	}
	return &Answer{Table: sheet.Table{Columns: d.columns, Rows: sheet.Of(shown)}, FileName: name}
}

// dateOf is the UTC date of Unix milliseconds.
func dateOf(ms int64) string {
	return Instant(ms - mod(ms, dayMillis) + 1).String()[:len("2006-01-02")]
}

func mod(a, n int64) int64 { return (a%n + n) % n }

// twoDecimals is an amount of money, rounded half-even.
func twoDecimals(a amount) string { return money(divide(a, 10_000_000)) }
