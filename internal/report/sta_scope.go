package report

import (
	"maps"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// staScope is the accounts an export is about: those in scope at some instant of its range.
type staScope struct {
	in    []bool
	under []int32 // the parent under which an account was last in scope; -1: none
}

// staScopeOf finds who was in scope: "own", "children" or "tree" of root, at some instant of [from, to).
func staScopeOf(b *staBook, state *directory.State, root int32, scope string, from, to int64) *staScope {
	s := &staScope{in: make([]bool, len(b.ids)), under: make([]int32, len(b.ids))}
	for x := range s.under {
		s.under[x] = -1
	}
	s.in[root] = true
	if scope == "own" {
		return s
	}
	w := newStaWalk(b, state, from)
	reach := -1
	if scope == "children" {
		reach = 1
	}
	w.enter(s, root, root, reach)
	for _, c := range w.changes(from, to) {
		// Everything of one instant first: what lies between two changes of an instant was never so.
		for _, x := range c.accounts {
			w.turn(x, c.at)
		}
		for _, x := range c.accounts {
			switch {
			case !w.living[x]:
			case scope == "tree" && w.below(x, root), x == root:
				w.enter(s, x, root, reach)
			case scope == "children" && w.parent[x] == root && w.living[root]:
				w.enter(s, x, root, 0)
			}
		}
	}
	return s
}

// staWalk is the tree of accounts as it changes.
type staWalk struct {
	b        *staBook
	state    *directory.State
	living   []bool
	parent   []int32 // -1: none; may be dead or not born yet
	children []map[int32]bool
}

func newStaWalk(b *staBook, state *directory.State, at int64) *staWalk {
	n := len(b.ids)
	w := &staWalk{b, state, make([]bool, n), make([]int32, n), make([]map[int32]bool, n)}
	for x := range b.ids {
		w.parent[x] = -1
		w.turn(int32(x), at)
	}
	return w
}

// turn brings an account to the instant.
func (w *staWalk) turn(x int32, at int64) {
	a, ok := w.state.Account(w.b.ids[x], at)
	if p := w.parent[x]; p >= 0 {
		delete(w.children[p], x)
	}
	w.living[x], w.parent[x] = ok && !a.Deleted, -1
	if p, known := w.b.index[a.Parent]; known && w.living[x] {
		w.parent[x] = p
		if w.children[p] == nil {
			w.children[p] = map[int32]bool{}
		}
		w.children[p][x] = true
	}
}

// below reports whether x is root or under it, by way of living accounts.
func (w *staWalk) below(x, root int32) bool {
	for ; x >= 0 && w.living[x]; x = w.parent[x] {
		if x == root {
			return true
		}
	}
	return false
}

// enter puts x and, down to the given depth (-1: all), what is below it in scope.
func (w *staWalk) enter(s *staScope, x, root int32, depth int) {
	type place struct {
		x     int32
		depth int
	}
	for todo := []place{{x, depth}}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !w.living[at.x] {
			continue
		}
		s.in[at.x] = true
		if at.x != root {
			s.under[at.x] = w.parent[at.x]
		}
		if at.depth == 0 {
			continue
		}
		for c := range w.children[at.x] {
			todo = append(todo, place{c, at.depth - 1})
		}
	}
}

// staChange is accounts that are born, moved or deleted in an instant.
type staChange struct {
	at       int64
	accounts []int32
}

// changes are those strictly inside [from, to), in order.
func (w *staWalk) changes(from, to int64) []staChange {
	at := map[int64][]int32{}
	for x, id := range w.b.ids {
		var before directory.Account
		for i, step := range w.state.Steps(id) {
			now, _ := w.state.Account(id, step)
			if step > from && step < to && (i == 0 || now.Parent != before.Parent || now.Deleted != before.Deleted) {
				at[step] = append(at[step], int32(x))
			}
			before = now
		}
	}
	all := make([]staChange, 0, len(at))
	for _, instant := range slices.Sorted(maps.Keys(at)) {
		all = append(all, staChange{instant, at[instant]})
	}
	return all
}

// inOrder are the accounts in scope, depth first and siblings by name.
func (s *staScope) inOrder(b *staBook, state *directory.State, root int32, at int64) []int32 {
	children := map[int32][]int32{}
	for x, in := range s.in {
		if in && int32(x) != root {
			children[s.under[x]] = append(children[s.under[x]], int32(x))
		}
	}
	for _, siblings := range children {
		b.byName(siblings, state, at)
	}
	var order []int32
	for todo := []int32{root}; len(todo) > 0; {
		x := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		order = append(order, x)
		todo = slices.AppendSeq(todo, func(yield func(int32) bool) {
			for _, c := range slices.Backward(children[x]) {
				if !yield(c) {
					return
				}
			}
		})
	}
	return order
}
