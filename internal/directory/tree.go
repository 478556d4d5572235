package directory

import (
	"slices"
	"strings"
)

// Tree is the account tree at an instant. Deleted accounts stay under their last parent, so that no
// usage ever leaves the sum of its root.
type Tree struct {
	state    *State
	before   int64
	parent   map[string]string
	depth    map[string]int
	children map[string][]string
}

// Tree is the tree as it stands just before the instant: for a month's end, pass the first instant of
// the next month. An edge to an account not created by then is no edge.
func (s *State) Tree(before int64) *Tree {
	t := &Tree{
		state: s, before: before, parent: make(map[string]string, len(s.accounts)), depth: make(map[string]int, len(s.accounts)), children: map[string][]string{},
	}
	for id, a := range s.accounts {
		if !a.created || a.steps[0].at >= before {
			continue
		}
		if up := s.existing(a.step(before - 1).parent); up != nil && up.steps[0].at < before {
			t.parent[id] = up.id
			t.children[up.id] = append(t.children[up.id], id)
		}
	}
	for id := range t.parent {
		t.measure(id)
	}
	return t
}

// measure fills depth for id and all its ancestors, without recursion: trees may be deep.
func (t *Tree) measure(id string) {
	var path []string
	for {
		if _, ok := t.depth[id]; ok {
			break
		}
		path = append(path, id)
		up, ok := t.parent[id]
		if !ok {
			break
		}
		id = up
	}
	for i := len(path) - 1; i >= 0; i-- {
		if up, ok := t.parent[path[i]]; ok {
			t.depth[path[i]] = t.depth[up] + 1
		} else {
			t.depth[path[i]] = 0
		}
	}
}

// Parent is the account above id, "" for a root or an unknown account.
func (t *Tree) Parent(id string) string { return t.parent[id] }

// Depth is the number of accounts above id.
func (t *Tree) Depth(id string) int { return t.depth[id] }

// Children are the accounts directly below id, deleted ones too, by name, then id: the order of reports.
func (t *Tree) Children(id string) []string {
	ids := slices.Clone(t.children[id])
	slices.SortFunc(ids, func(a, b string) int {
		x, _ := t.state.Account(a, t.before-1)
		y, _ := t.state.Account(b, t.before-1)
		if c := strings.Compare(x.Name, y.Name); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return ids
}

// Below are all accounts below id, deleted ones too, each after its parent, siblings by name, then id.
func (t *Tree) Below(id string) []string {
	var below []string
	todo := t.Children(id)
	slices.Reverse(todo)
	for len(todo) > 0 {
		last := len(todo) - 1
		next := todo[last]
		todo = todo[:last]
		below = append(below, next)
		children := t.Children(next)
		slices.Reverse(children)
		todo = append(todo, children...)
	}
	return below
}

// Path are the ids from the root down to id, which is the last.
func (t *Tree) Path(id string) []string {
	path := []string{id}
	for up := t.parent[id]; up != ""; up = t.parent[up] {
		path = append(path, up)
	}
	slices.Reverse(path)
	return path
}
