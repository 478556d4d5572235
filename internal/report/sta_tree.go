package report

import (
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// staPlans is the number of plans of the service.
const staPlans = 3

// staCounts are the users registered, those with a token and those with activity.
type staCounts [len(staMeasures)]uint32

// staBook is the accounts of a tenant at the ends of months, with their users. An account is known by its
// index; what is kept of one in a month is small, because there may be a hundred thousand of them.
type staBook struct {
	ids    []string
	index  map[string]int32
	months []staMonth
	places []staPlace // rows of an export, in order, where they were asked for
}

// staMonth is the accounts at the end of a month, by index. Users of an account of which usage is missing are
// in no number, neither its own nor those above it.
type staMonth struct {
	exists, missing []bool
	parent          []int32 // -1: none
	plan            []int8  // -1: none of the three
	below           []bool  // the account asked about, or below it
	own             []staCounts
	tree            [][staPlans]staCounts // with all accounts below, by plan
	plans           []uint8               // bit of each plan that the account or one below has
	complete        []bool                // nothing of the account or below is missing
	order           []int32               // accounts that exist, children before parents
}

// fold reads the accounts of the months, whose users are not counted yet.
func (q *staAsk) fold() *staBook {
	end := q.months[len(q.months)-1].End().Millis()
	b := &staBook{ids: q.state.Accounts(end - 1), index: map[string]int32{}, months: make([]staMonth, len(q.months))}
	for i, id := range b.ids {
		b.index[id] = int32(i)
	}
	for i, m := range q.months {
		b.months[i].fold(b, q.state, q.account, m.Start().Millis(), m.End().Millis())
	}
	return b
}

// planned reports whether any account has a plan.
func (b *staBook) planned() bool {
	for i := range b.months {
		if slices.ContainsFunc(b.months[i].plan, func(p int8) bool { return p >= 0 }) {
			return true
		}
	}
	return false
}

// count puts the numbers of users in.
func (b *staBook) count(users staUsers) {
	users.each(func(account string, month, measure int, n uint64) {
		if x, ok := b.index[account]; ok && b.months[month].exists[x] && !b.months[month].missing[x] {
			b.months[month].own[x][measure] = uint32(min(n, 1<<32-1))
		}
	})
	for i := range b.months {
		b.months[i].rise()
	}
}

// fold reads the accounts as they were at the end of the month.
func (m *staMonth) fold(b *staBook, state *directory.State, root string, start, end int64) {
	n := len(b.ids)
	m.exists, m.missing, m.complete, m.below = make([]bool, n), make([]bool, n), make([]bool, n), make([]bool, n)
	m.parent, m.plan, m.plans = make([]int32, n), make([]int8, n), make([]uint8, n)
	m.own, m.tree = make([]staCounts, n), make([][staPlans]staCounts, n)
	parents := make([]string, n)
	for x, id := range b.ids {
		m.parent[x], m.plan[x] = -1, -1
		a, ok := state.Account(id, end-1)
		if m.exists[x] = ok && !a.Deleted; !m.exists[x] {
			continue
		}
		parents[x] = a.Parent
		m.missing[x] = state.MissingIn(id, start, end)
		m.complete[x] = !m.missing[x]
		m.plan[x] = int8(slices.Index(directory.STAPlans(), state.PlanAt(id, staService, end-1)))
		if m.plan[x] >= 0 {
			m.plans[x] = 1 << m.plan[x]
		}
	}
	children := make([]int32, n)
	for x, parent := range parents {
		if p, ok := b.index[parent]; ok && m.exists[x] && m.exists[p] {
			m.parent[x] = p
			children[p]++
		}
	}
	for x := range b.ids {
		if m.exists[x] && children[x] == 0 {
			m.order = append(m.order, int32(x))
		}
	}
	for i := 0; i < len(m.order); i++ {
		if p := m.parent[m.order[i]]; p >= 0 {
			if children[p]--; children[p] == 0 {
				m.order = append(m.order, p)
			}
		}
	}
	for _, x := range slices.Backward(m.order) {
		m.below[x] = root == "" || b.ids[x] == root || m.parent[x] >= 0 && m.below[m.parent[x]]
	}
}

// rise adds every account's numbers to those above it.
func (m *staMonth) rise() {
	for _, x := range m.order {
		if plan := m.plan[x]; plan >= 0 && !m.missing[x] {
			for i, n := range m.own[x] {
				m.tree[x][plan][i] += n
			}
		}
		p := m.parent[x]
		if p < 0 {
			continue
		}
		for plan := range m.tree[x] {
			for i, n := range m.tree[x][plan] {
				m.tree[p][plan][i] += n
			}
		}
		m.plans[p] |= m.plans[x]
		m.complete[p] = m.complete[p] && m.complete[x]
	}
}

// children are the direct children of an account at the month's end, by name.
func (m *staMonth) children(b *staBook, state *directory.State, of int32, at int64) []int32 {
	var all []int32
	for x, p := range m.parent {
		if p == of {
			all = append(all, int32(x))
		}
	}
	b.byName(all, state, at)
	return all
}

// byName sorts accounts by their name at the instant.
func (b *staBook) byName(accounts []int32, state *directory.State, at int64) {
	names := make(map[int32]string, len(accounts))
	for _, x := range accounts {
		a, _ := state.Account(b.ids[x], at)
		names[x] = a.Name
	}
	slices.SortFunc(accounts, func(x, y int32) int {
		switch nx, ny := names[x], names[y]; {
		case nx < ny:
			return -1
		case nx > ny:
			return 1
		}
		return int(x - y)
	})
}

// staStatus is the service's status as it was set; Active where only a plan was set.
func staStatus(state *directory.State, account string, at int64) string {
	p := state.Service(account, staService, at)
	if p.Status == "" && p.Plan != "" {
		return "Active"
	}
	return p.Status
}
