package directory

import (
	"cmp"
	"slices"
	"time"
)

// LevelsMax bounds the levels that MonthTrees looks up.
const LevelsMax = 128

// node is an account in the tree of MonthTrees.
type node struct {
	account               *account
	up, child, next, prev *node
	since                 int64 // first instant of the month from which it stands where it does
	open                  bool
	touched               int64 // the month in which it was last moved, or somebody above it
}

// edge is who is above an account from a month's end on.
type edge struct {
	month    int64 // its first instant
	node, up *node
}

// MonthTrees tells who is above each account at the end of every month: once for each stretch of months in which
// it stays the same, [since, until) from the first instant of a month to the first of another, or Latest. above is
// the nearest first, at most LevelsMax, and valid during the call. Accounts that stand alone are left out. Deleted
// accounts stay under their last parent, as in Tree.
func (s *State) MonthTrees(emit func(account string, since, until int64, above []string) error) error {
	nodes, edges := s.edges()
	above := make([]string, 0, LevelsMax)
	tell := func(n *node, until int64) error {
		above = above[:0]
		for up := n.up; up != nil && len(above) < LevelsMax; up = up.up {
			above = append(above, up.account.id)
		}
		if len(above) == 0 || n.since >= until {
			return nil
		}
		return emit(n.account.id, n.since, until, above)
	}
	for from := 0; from < len(edges); {
		to := from + 1
		for to < len(edges) && edges[to].month == edges[from].month {
			to++
		}
		for _, e := range edges[from:to] { // as it stood until this month
			if e.node.open && e.node.up != e.up {
				if err := e.node.touch(e.month, tell); err != nil {
					return err
				}
			}
		}
		for _, e := range edges[from:to] {
			e.node.hang(e.up, e.month)
		}
		from = to
	}
	for _, n := range nodes {
		if err := tell(n, Latest); err != nil {
			return err
		}
	}
	return nil
}

// edges are the nodes by account id and what changes about them, by month: an account's last edge of it.
func (s *State) edges() ([]*node, []edge) {
	byID := make(map[string]*node, len(s.accounts))
	nodes := make([]*node, 0, len(s.accounts))
	for id, a := range s.accounts {
		if a.created {
			n := &node{account: a, touched: -1}
			byID[id], nodes = n, append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(a.account.id, b.account.id) })
	var edges []edge
	for _, n := range nodes {
		first := len(edges)
		add := func(at int64, up *node) {
			m := monthOf(at)
			if len(edges) > first && edges[len(edges)-1].month == m {
				edges[len(edges)-1].up = up
				return
			}
			edges = append(edges, edge{m, n, up})
		}
		steps := n.account.steps
		for i := range steps {
			until := int64(Latest)
			if i+1 < len(steps) {
				until = steps[i+1].at
			}
			up := byID[steps[i].parent]
			switch {
			case up == nil:
				add(steps[i].at, nil)
			case up.account.steps[0].at <= steps[i].at:
				add(steps[i].at, up)
			default: // alone until the parent exists
				add(steps[i].at, nil)
				if born := up.account.steps[0].at; born < until {
					add(born, up)
				}
			}
		}
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return cmp.Compare(a.month, b.month) })
	return nodes, edges
}

// touch tells how n and all below it stood until the month, each once.
func (n *node) touch(month int64, tell func(n *node, until int64) error) error {
	for todo := []*node{n}; len(todo) > 0; {
		x := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if x.touched == month {
			continue // and so was everything below it
		}
		if err := tell(x, month); err != nil {
			return err
		}
		x.touched, x.since = month, month
		for c := x.child; c != nil; c = c.next {
			todo = append(todo, c)
		}
	}
	return nil
}

// hang puts n below up from the month on.
func (n *node) hang(up *node, month int64) {
	if !n.open {
		n.open, n.since = true, month
	}
	if n.up == up {
		return
	}
	if n.up != nil {
		if n.prev == nil {
			n.up.child = n.next
		} else {
			n.prev.next = n.next
		}
		if n.next != nil {
			n.next.prev = n.prev
		}
	}
	n.up, n.prev, n.next = up, nil, nil
	if up != nil {
		n.next = up.child
		if n.next != nil {
			n.next.prev = n
		}
		up.child = n
	}
}

// monthOf is the first instant of the month of an instant, UTC.
func monthOf(ms int64) int64 {
	t := time.UnixMilli(ms).UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
}
