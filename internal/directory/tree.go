package directory

// Tree is the account tree at an instant. Deleted accounts stay under their last parent, so that no
// usage ever leaves the sum of its root.
type Tree struct {
	parent map[string]string
	depth  map[string]int
}

// Tree is the tree as it stands just before the instant: for a month's end, pass the first instant of
// the next month. An edge to an account not created by then is no edge.
func (s *State) Tree(before int64) *Tree {
	t := &Tree{parent: map[string]string{}, depth: map[string]int{}}
	for id, a := range s.accounts {
		if !a.created || a.createdAt >= before {
			continue
		}
		parent := a.parents.value(before - 1)
		if p := s.existing(parent); p != nil && p.createdAt < before {
			t.parent[id] = parent
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
