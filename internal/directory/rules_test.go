package directory_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// The reference: after each event the whole directory is looked at, and an event that made it illegal is taken
// back. It shares no code with the package under test.

type refAccount struct {
	name, kind, parent, mode string
	deleted                  bool
	plans                    map[string]string
}

type refEvent struct {
	directory.Event
	d    struct{ Name, Kind, Mode, To, Service, Plan, Parent, NewParent string }
	seq  int
	rank int
}

type reference struct {
	accounts map[string]*refAccount
	early    map[string][]refEvent // service events before the account exists
	broken   []string              // "id rule"
}

func refRank(typ string) int {
	switch {
	case typ == "account.created":
		return 1
	case strings.HasPrefix(typ, "account."):
		return 2
	}
	return 3
}

func read(e directory.Event) refEvent {
	var raw map[string]any
	if err := json.Unmarshal([]byte(e.Data), &raw); err != nil {
		panic(err)
	}
	text := func(key string) string { s, _ := raw[key].(string); return s }
	r := refEvent{Event: e, rank: refRank(e.Type)}
	r.d.Name, r.d.Kind, r.d.Mode, r.d.To = text("name"), text("kind"), text("contract_mode"), text("to")
	r.d.Service, r.d.Plan, r.d.Parent, r.d.NewParent = text("service"), text("plan"), text("parent_account_id"), text("new_parent_account_id")
	if n, ok := raw["source_seq"].(float64); ok { //arch:float whole numbers of a test
		r.seq = int(n)
	}
	return r
}

// refFold folds in canonical order, said slowly: of what is left of an instant and a rank, the first that
// is not below another one that is left.
func refFold(events []directory.Event) *reference {
	s := &reference{accounts: map[string]*refAccount{}, early: map[string][]refEvent{}}
	voided, seen := map[string]bool{}, map[string]bool{}
	var left []refEvent
	for _, e := range events {
		voided[e.ID] = voided[e.ID] || e.Void
	}
	for _, e := range events {
		if !voided[e.ID] && !seen[e.ID] && e.Type != "meter.defined" {
			seen[e.ID] = true
			left = append(left, read(e))
		}
	}
	slices.SortFunc(left, func(a, b refEvent) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.rank, b.rank), cmp.Compare(a.Source, b.Source), cmp.Compare(a.seq, b.seq), cmp.Compare(a.ID, b.ID))
	})
	for len(left) > 0 {
		group := 0
		for group < len(left) && left[group].At == left[0].At && left[group].rank == left[0].rank {
			group++
		}
		for _, i := range s.turns(left[:group]) {
			s.judge(left[i])
		}
		left = left[group:]
	}
	return s
}

// turns is the order of a group: creations and services by depth.
func (s *reference) turns(group []refEvent) []int {
	depth := make([]int, len(group))
	created := map[string]string{}
	for _, e := range group {
		if _, ok := created[e.Account]; !ok && e.rank == 1 {
			created[e.Account] = e.d.Parent
		}
	}
	for i, e := range group {
		switch e.rank {
		case 1:
			onCycle := false
			for up, n := e.Account, 0; ; n++ {
				next, ok := created[up]
				if _, known := created[next]; !ok || !known {
					depth[i] = n
					break
				}
				if up = next; up == e.Account {
					onCycle = true
					break
				}
				if n > len(group) { // leads into a cycle: counted from its members
					depth[i] = s.fromCycle(created, e.Account)
					break
				}
			}
			if onCycle {
				depth[i] = 0
			}
		case 3:
			for up := s.up(e.Account); up != ""; up = s.up(up) {
				depth[i]++
			}
		}
	}
	order := make([]int, len(group))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(depth[a], depth[b]) })
	return order
}

func (s *reference) fromCycle(created map[string]string, id string) int {
	for n := 0; ; n++ {
		for up, steps := created[id], 0; steps < len(created); up, steps = created[up], steps+1 {
			if up == id {
				return n
			}
		}
		id = created[id]
	}
}

// up is the living parent.
func (s *reference) up(id string) string {
	a := s.accounts[id]
	if a == nil || a.deleted {
		return ""
	}
	if p := s.accounts[a.parent]; p == nil || p.deleted {
		return ""
	}
	return a.parent
}

func (s *reference) root(id string) string {
	for n := 0; s.up(id) != "" && n < 100; n++ {
		id = s.up(id)
	}
	return id
}

func (s *reference) copy() map[string]*refAccount {
	c := map[string]*refAccount{}
	for id, a := range s.accounts {
		b := *a
		b.plans = maps.Clone(a.plans)
		c[id] = &b
	}
	return c
}

// judge applies an event, and takes it back if it broke a rule.
func (s *reference) judge(e refEvent) {
	a := s.accounts[e.Account]
	switch {
	case e.Type == "account.created":
		if a != nil && !a.deleted {
			s.broken = append(s.broken, e.ID+" account-exists")
			return
		}
	case a == nil && e.rank == 3:
		s.early[e.Account] = append(s.early[e.Account], e)
		return
	case a == nil:
		return
	case a.deleted:
		s.broken = append(s.broken, e.ID+" account-deleted")
		return
	}
	before := s.copy()
	rule := s.transition(e, a)
	if rule == "" {
		rule = s.invariants(e)
	}
	if rule != "" {
		s.accounts = before
		s.broken = append(s.broken, e.ID+" "+rule)
		return
	}
	if e.Type == "account.created" {
		early := s.early[e.Account]
		delete(s.early, e.Account)
		for _, w := range early {
			s.judge(w)
		}
	}
}

var refLeaders = []string{"provider", "service_provider", "partner", "distributor"}

// transition does it, and says what only the change itself can break.
func (s *reference) transition(e refEvent, a *refAccount) string {
	joins := func(parent, mode string) string {
		p := s.accounts[parent]
		switch {
		case parent == "" || p == nil && parent != e.Account:
			return ""
		case parent == e.Account || s.leadsTo(parent, e.Account):
			return "cycle"
		case p.deleted:
			return "parent-deleted"
		case p.mode == "TRIAL" && mode != "TRIAL":
			return "trial-provider"
		}
		return ""
	}
	switch e.Type {
	case "account.created":
		if rule := joins(e.d.Parent, e.d.Mode); rule != "" {
			return rule
		}
		s.accounts[e.Account] = &refAccount{name: e.d.Name, kind: e.d.Kind, parent: e.d.Parent, mode: e.d.Mode, plans: map[string]string{}}
		for id, c := range s.accounts {
			if id != e.Account && !c.deleted && c.parent == e.Account && e.d.Mode == "TRIAL" && c.mode != "TRIAL" {
				return "trial-provider"
			}
		}
	case "account.renamed":
		a.name = e.d.Name
	case "account.deleted":
		for id := range s.accounts {
			if s.up(id) == e.Account {
				return "living-children"
			}
		}
		a.deleted = true
	case "account.converted":
		a.mode = e.d.To
	case "account.reparented":
		if e.d.NewParent == a.parent {
			return ""
		}
		if rule := joins(e.d.NewParent, a.mode); rule != "" {
			return rule
		}
		root := s.root(e.Account)
		if p := s.accounts[e.d.NewParent]; p != nil && s.root(e.d.NewParent) != root && slices.Contains(refLeaders, s.accounts[root].kind) {
			return "cross-provider"
		}
		a.parent = e.d.NewParent
	case "service.plan_set":
		if e.d.Service == "sta" && !slices.Contains(directory.STAPlans(), e.d.Plan) {
			return "unknown-plan"
		}
		a.plans[e.d.Service] = e.d.Plan
	}
	return ""
}

// leadsTo walks up from an account by the parents as named, existing or not.
func (s *reference) leadsTo(from, to string) bool {
	for n := 0; from != "" && n < 100; n++ {
		if from == to {
			return true
		}
		a := s.accounts[from]
		if a == nil || a.deleted {
			return false
		}
		from = a.parent
	}
	return false
}

// invariants of the whole directory.
func (s *reference) invariants(e refEvent) string {
	names := map[string]bool{}
	for id, a := range s.accounts {
		if a.deleted {
			continue
		}
		key := s.root(id) + "\x00" + a.name
		if names[key] {
			return "duplicate-name"
		}
		names[key] = true
	}
	for id, a := range s.accounts {
		if p := s.accounts[s.up(id)]; p != nil && !a.deleted {
			mine, theirs := slices.Index(directory.STAPlans(), a.plans["sta"]), slices.Index(directory.STAPlans(), p.plans["sta"])
			if theirs >= 0 && mine > theirs {
				return "plan-above-parent"
			}
		}
	}
	return ""
}

// now spells out the accounts as they are at the end.
func (s *reference) now() string {
	out := ""
	for _, id := range slices.Sorted(maps.Keys(s.accounts)) {
		a := s.accounts[id]
		out += fmt.Sprintln(id, a.name, a.kind, a.parent, a.mode, a.deleted, a.plans["sta"], a.plans["spp"], s.root(id))
	}
	slices.Sort(s.broken)
	return out + strings.Join(s.broken, "\n")
}

func now(s *directory.State) string {
	out := ""
	for _, id := range s.Accounts(directory.Latest) {
		a, _ := s.Account(id, directory.Latest)
		root := id
		for !a.Deleted {
			x, _ := s.Account(root, directory.Latest)
			if up, ok := s.Account(x.Parent, directory.Latest); !ok || up.Deleted {
				break
			}
			root = x.Parent
		}
		out += fmt.Sprintln(id, a.Name, a.Kind, a.Parent, a.ContractMode, a.Deleted, s.PlanAt(id, "sta", directory.Latest), s.PlanAt(id, "spp", directory.Latest), root)
	}
	var broken []string
	for _, r := range s.Rulings() {
		broken = append(broken, r.ID+" "+strings.TrimPrefix(r.Rule, "rule:"))
	}
	slices.Sort(broken)
	return out + strings.Join(broken, "\n")
}

// drawTree draws a history in which every rule of the tree is broken now and then.
func drawTree(t *rapid.T) []directory.Event {
	ids := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
	names := rapid.SampledFrom([]string{"one", "two", "three", "four", "five", "six", "seven"})
	kinds := rapid.SampledFrom([]string{"provider", "customer", "organization", "subscriber"})
	modes := rapid.SampledFrom([]string{"", "", "", "TRIAL", "PRODUCTION"})
	plans := rapid.SampledFrom([]string{"STA Basic", "STA", "STA Premium", "STA Gold"})
	var all []directory.Event
	for i := range rapid.IntRange(1, 60).Draw(t, "n") {
		at, id := rapid.Int64Range(1, 15).Draw(t, "at"), ids.Draw(t, "id")
		seq := rapid.IntRange(0, 2).Draw(t, "source_seq")
		var e directory.Event
		switch rapid.IntRange(0, 9).Draw(t, "type") {
		case 0, 1, 2:
			e = event(i, at, "account.created", id, fmt.Sprintf(`{"contract_mode":%q,"kind":%q,"name":%q,"parent_account_id":%q,"source_seq":%d}`,
				modes.Draw(t, "mode"), kinds.Draw(t, "kind"), names.Draw(t, "name"), rapid.SampledFrom([]string{"", "", "a", "b", "c", "d", "e", "x"}).Draw(t, "parent"), seq))
		case 3, 4:
			e = event(i, at, "account.reparented", id, fmt.Sprintf(`{"new_parent_account_id":%q,"source_seq":%d}`, rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "x"}).Draw(t, "to"), seq))
		case 5:
			e = event(i, at, "account.renamed", id, fmt.Sprintf(`{"name":%q,"source_seq":%d}`, names.Draw(t, "name"), seq))
		case 6:
			e = event(i, at, "account.deleted", id, `{"reason":"x"}`)
		case 7:
			e = event(i, at, "account.converted", id, fmt.Sprintf(`{"from":"TRIAL","to":%q}`, rapid.SampledFrom([]string{"TRIAL", "PRODUCTION"}).Draw(t, "to")))
		default:
			e = event(i, at, "service.plan_set", id, fmt.Sprintf(`{"service":%q,"plan":%q,"source_seq":%d}`, rapid.SampledFrom([]string{"sta", "sta", "spp"}).Draw(t, "service"), plans.Draw(t, "plan"), seq))
		}
		all = append(all, e)
		switch rapid.IntRange(0, 11).Draw(t, "again") {
		case 0:
			e.Void = true
			all = append(all, e)
		case 1:
			all = append(all, e)
		}
	}
	return all
}

func TestRulesEqualTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawTree(t)
		got, want := now(directory.Fold(all, directory.Latest)), refFold(all).now()
		if got != want {
			t.Fatalf("fold\n%s\nreference\n%s", got, want)
		}
		shuffled := rapid.Permutation(all).Draw(t, "shuffled")
		if again := now(directory.Fold(shuffled, directory.Latest)); again != got {
			t.Fatalf("shuffled\n%s\nin order\n%s", again, got)
		}
	})
}

// TestMonthTreesEqualTrees: who is above whom at each month's end is what Tree says of it.
func TestMonthTreesEqualTrees(t *testing.T) {
	const day = 86_400_000
	rapid.Check(t, func(t *rapid.T) {
		all := drawTree(t)
		for i := range all {
			all[i].At *= rapid.SampledFrom([]int64{5 * day, 17 * day}).Draw(t, "scale")
		}
		s := directory.Fold(all, directory.Latest)
		type span struct {
			since, until int64
			above        string
		}
		spans := map[string][]span{}
		err := s.MonthTrees(func(account string, since, until int64, above []string) error {
			spans[account] = append(spans[account], span{since, until, strings.Join(above, " ")})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for m := 1; m < 12; m++ {
			end := monthStart(m + 1)
			tree := s.Tree(end)
			for _, id := range s.Accounts(end - 1) {
				path := tree.Path(id)
				slices.Reverse(path)
				want, got := strings.Join(path[1:], " "), ""
				for _, sp := range spans[id] {
					if sp.since < end && sp.until >= end {
						got += sp.above
					}
				}
				if got != want {
					t.Fatalf("above %s at the end of month %d: %q, Tree says %q; %+v", id, m, got, want, spans[id])
				}
			}
		}
	})
}

// TestRulesAreListed: every rule that the package names is in Rules, and nothing else is.
func TestRulesAreListed(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	used, constants := map[string]bool{}, map[string]string{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if lit, ok := firstOf(n.Values).(*ast.BasicLit); ok && strings.HasPrefix(n.Names[0].Name, "rule") {
					constants[n.Names[0].Name], _ = strconv.Unquote(lit.Value)
					used[constants[n.Names[0].Name]] = true
				}
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "refuse" && len(n.Args) == 3 {
					if lit, ok := n.Args[1].(*ast.BasicLit); ok {
						name, _ := strconv.Unquote(lit.Value)
						used[name] = true
					}
				}
			}
			return true
		})
	}
	listed := map[string]bool{}
	for _, r := range directory.Rules() {
		listed[r.Name] = true
		if r.Doc == "" || r.Types == "" {
			t.Errorf("rule %s says nothing", r.Name)
		}
	}
	for name := range used {
		if !listed[name] {
			t.Errorf("rule %s is not in Rules", name)
		}
	}
	t.Logf("%d rules", len(listed))
}

func firstOf(values []ast.Expr) ast.Expr {
	if len(values) == 0 {
		return nil
	}
	return values[0]
}

// monthStart is the first instant of the nth month of 1970.
func monthStart(n int) int64 {
	return time.Date(1970, time.Month(n), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
}
