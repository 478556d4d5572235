package report

import (
	"cmp"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// monthCell is a row before its numbers are printed.
type monthCell struct {
	own  *measure // nil: only accounts below have this kind
	tree measure
}

// node is an account with its cells by kind. A kind is a key without account, numbered in row order.
type node struct {
	account string
	cells   map[int]*monthCell
}

func (n *node) cell(kind int) *monthCell {
	c := n.cells[kind]
	if c == nil {
		c = &monthCell{}
		n.cells[kind] = c
	}
	return c
}

// forest is the accounts that have usage or are above one that has.
type forest struct {
	tree   *directory.Tree
	nodes  map[string]*node
	levels [][]*node // by depth
}

func (f *forest) at(account string) *node {
	n := f.nodes[account]
	if n == nil {
		n = &node{account, map[int]*monthCell{}}
		f.nodes[account] = n
		depth := f.tree.Depth(account)
		for len(f.levels) <= depth {
			f.levels = append(f.levels, nil)
		}
		f.levels[depth] = append(f.levels[depth], n)
	}
	return n
}

// rise adds every account's values to the account above it, leaves first.
func (f *forest) rise() {
	for depth := len(f.levels) - 1; depth > 0; depth-- {
		for _, n := range f.levels[depth] {
			parent := f.at(f.tree.Parent(n.account))
			for kind, c := range n.cells {
				parent.cell(kind).tree.merge(&c.tree)
			}
		}
	}
}

// shapeMonth makes the rows of a month from the accounts' own values.
func shapeMonth(own *cells, state *directory.State, tree *directory.Tree, end int64, keep func(account string) bool) []MonthRow {
	kinds, rank := kindsOf(own, state)
	f := &forest{tree: tree, nodes: map[string]*node{}}
	for at, m := range own.cells {
		if m.live == 0 { // everything was voided: it never happened
			continue
		}
		c := f.at(at.account).cell(rank[at.kind])
		c.own = m
		c.tree.merge(m)
	}
	f.rise()
	accounts, rows := make([]string, 0, len(f.nodes)), 0
	for account, n := range f.nodes {
		if keep(account) {
			accounts = append(accounts, account)
			rows += len(n.cells)
		}
	}
	slices.Sort(accounts)
	out := make([]MonthRow, 0, rows)
	order := make([]int, 0, len(kinds))
	for _, account := range accounts {
		n := f.nodes[account]
		a, resolved := state.Account(account, end-1)
		order = order[:0]
		for kind := range n.cells {
			order = append(order, kind)
		}
		slices.Sort(order)
		for _, kind := range order {
			out = append(out, kinds[kind].row(account, a.Name, resolved, n.cells[kind]))
		}
	}
	return out
}

// kind is what a row is about, beside the account.
type kind struct {
	key
	meter directory.Meter
}

// kindsOf lists the kinds in row order, and the place of each of the cells' kinds in it.
func kindsOf(own *cells, state *directory.State) (kinds []kind, rank []int) {
	order := make([]int, len(own.kinds))
	named := make([]kind, len(own.kinds))
	for i, k := range own.kinds {
		order[i], named[i] = i, kind{k, state.Meter(k.meter)}
	}
	slices.SortFunc(order, func(a, b int) int {
		return CompareMonthRows(named[a].row("", "", false, &monthCell{}), named[b].row("", "", false, &monthCell{}))
	})
	rank = make([]int, len(order))
	for place, i := range order {
		rank[i] = place
		kinds = append(kinds, named[i])
	}
	return kinds, rank
}

func (k kind) row(account, name string, resolved bool, c *monthCell) MonthRow {
	row := MonthRow{
		Account: account, AccountName: name, Resolved: resolved,
		Plan: k.plan, Meter: k.key.meter, Unit: k.meter.Unit, Region: k.region, Platform: k.platform, Trial: k.trial,
		Quantity: "0", QuantityTree: c.tree.quantity(k.meter.Aggregation), EventsTree: c.tree.events,
	}
	if c.own != nil {
		row.Quantity, row.Events = c.own.quantity(k.meter.Aggregation), c.own.events
		row.FirstAt, row.LastAt = Instant(c.own.first), Instant(c.own.last)
	}
	return row
}

// CompareMonthRows is the order of rows, and so of pages.
func CompareMonthRows(a, b MonthRow) int {
	if a.Account != b.Account {
		return strings.Compare(a.Account, b.Account)
	}
	trial := 0
	switch {
	case a.Trial && !b.Trial:
		trial = 1
	case b.Trial && !a.Trial:
		trial = -1
	}
	return cmp.Or(strings.Compare(a.Plan, b.Plan), strings.Compare(a.Meter, b.Meter), strings.Compare(a.Unit, b.Unit),
		strings.Compare(a.Region, b.Region), strings.Compare(a.Platform, b.Platform), trial)
}
