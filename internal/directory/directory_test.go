package directory_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// event is shorthand: ids count up, all of one source.
func event(id int, at int64, typ, account, data string) directory.Event {
	return directory.Event{
		Type: typ, Source: "crm", ID: fmt.Sprint(id), Account: account, At: at, RecordedAt: at, Data: data,
	}
}

func created(id int, at int64, account, parent string) directory.Event {
	return event(id, at, "account.created", account,
		fmt.Sprintf(`{"name":"n-%s","kind":"customer","parent_account_id":%q}`, account, parent))
}

func planSet(id int, at int64, account, service, plan string) directory.Event {
	return event(id, at, "service.plan_set", account, fmt.Sprintf(`{"service":%q,"plan":%q}`, service, plan))
}

func TestPlanAtInstant(t *testing.T) {
	s := directory.Fold([]directory.Event{
		planSet(3, 100, "a", "sta", "STA Premium"), // late: arrives before the creation
		created(1, 10, "a", ""),
		planSet(2, 10, "a", "sta", "STA Basic"),
		planSet(4, 50, "b", "sta", "STA Basic"), // never created
		event(5, 1, "meter.defined", "", `{"meter":"tokens","service":"sta","unit":"token","aggregation":"sum","scale":3}`),
		event(6, 1, "meter.defined", "", `{"meter":"calls","service":"spp"}`),
		planSet(7, 200, "a", "idaas", "Gold"),
	}, directory.Latest)
	tests := map[string]struct {
		account, meter string
		at             int64
		want           string
	}{
		"before creation":                   {"a", "tokens", 9, ""},
		"at creation, service before usage": {"a", "tokens", 10, "STA Basic"},
		"just before the change":            {"a", "tokens", 99, "STA Basic"},
		"at the change":                     {"a", "tokens", 100, "STA Premium"},
		"never created":                     {"b", "tokens", 60, ""},
		"meter of a service without a plan": {"a", "calls", 100, "STA Premium"},
		"two plans, meter's service":        {"a", "tokens", 200, "STA Premium"},
		"two plans, none the meter's":       {"a", "calls", 200, ""},
		"two plans, meter undefined":        {"a", "other", 200, ""},
		"one plan, meter undefined":         {"a", "other", 199, "STA Premium"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := s.UsagePlan(tt.account, tt.meter, tt.at); got != tt.want {
				t.Errorf("UsagePlan(%s, %s, %d) = %q, want %q", tt.account, tt.meter, tt.at, got, tt.want)
			}
		})
	}
	if got := s.PlanChanges(10, 300); !slices.Equal(got["a"], []int64{100, 200}) || len(got) != 1 {
		t.Errorf("PlanChanges = %v, want a: [100 200]", got)
	}
	if m := s.Meter("tokens"); m.Unit != "token" || m.Scale != 3 || m.Aggregation != "sum" || m.Service != "sta" {
		t.Errorf("Meter(tokens) = %+v", m)
	}
}

func TestAsOfAndVoids(t *testing.T) {
	change := planSet(2, 100, "a", "sta", "STA Premium")
	change.RecordedAt = 500 // late
	void := change
	void.Void, void.RecordedAt = true, 700
	events := []directory.Event{void, created(1, 10, "a", ""), planSet(3, 10, "a", "sta", "STA Basic"), change}
	for asOf, want := range map[int64]string{499: "STA Basic", 500: "STA Premium", 699: "STA Premium", 700: "STA Basic"} {
		if got := directory.Fold(events, asOf).PlanAt("a", "sta", 150); got != want {
			t.Errorf("plan as of %d = %q, want %q", asOf, got, want)
		}
	}
}

func TestTree(t *testing.T) {
	s := directory.Fold([]directory.Event{
		created(9, 10, "root", ""), // same instant as its children, and a later id
		created(1, 10, "a", "root"),
		created(2, 10, "b", "a"),
		created(3, 10, "orphan", "nobody"),
		event(4, 100, "account.reparented", "b", `{"new_parent_account_id":"root"}`),
		event(5, 150, "account.reparented", "root", `{"new_parent_account_id":"b"}`), // would close a cycle
		event(6, 160, "account.renamed", "b", `{"name":"Beta"}`),
		event(7, 170, "account.deleted", "b", `{"reason":"left"}`),
	}, directory.Latest)
	for at, want := range map[int64]string{100: "a", 101: "root", 1000: "root"} {
		if got := s.Tree(at).Parent("b"); got != want {
			t.Errorf("parent of b before %d = %q, want %q", at, got, want)
		}
	}
	tree := s.Tree(1000)
	if tree.Parent("root") != "" || tree.Parent("orphan") != "" || tree.Depth("a") != 1 {
		t.Errorf("root under %q, orphan under %q, depth of a %d", tree.Parent("root"), tree.Parent("orphan"), tree.Depth("a"))
	}
	if a, ok := s.Account("b", 165); !ok || a.Name != "Beta" || a.Deleted {
		t.Errorf("b at 165 = %+v, %v", a, ok)
	}
	if a, _ := s.Account("b", 170); !a.Deleted {
		t.Errorf("b at 170 = %+v, want deleted", a)
	}
	if _, ok := s.Account("b", 9); ok {
		t.Error("b exists before its creation")
	}
}

// events draws a history with everything that can go wrong: cycles, repeated creations, unknown parents,
// several events of one instant, voids, repeated deliveries.
func events(t *rapid.T) []directory.Event {
	n := rapid.IntRange(0, 60).Draw(t, "n")
	account := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
	parent := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f", "x"})
	var all []directory.Event
	for i := range n {
		at := rapid.Int64Range(1, 12).Draw(t, "at")
		id := account.Draw(t, "account")
		var e directory.Event
		switch rapid.IntRange(0, 6).Draw(t, "type") {
		case 0, 1:
			e = created(i, at, id, parent.Draw(t, "parent"))
		case 2, 3:
			e = event(i, at, "account.reparented", id, fmt.Sprintf(`{"new_parent_account_id":%q,"source_seq":%d}`,
				parent.Draw(t, "parent"), rapid.IntRange(0, 3).Draw(t, "source_seq")))
		case 4:
			e = planSet(i, at, id, rapid.SampledFrom([]string{"sta", "spp"}).Draw(t, "service"),
				rapid.SampledFrom([]string{"", "STA Basic", "STA Premium"}).Draw(t, "plan"))
		case 5:
			e = event(i, at, "account.deleted", id, `{}`)
		case 6:
			e = event(i, at, "meter.defined", "", fmt.Sprintf(`{"meter":"m","service":%q}`,
				rapid.SampledFrom([]string{"sta", "spp", ""}).Draw(t, "service")))
		}
		e.RecordedAt = at + rapid.Int64Range(0, 5).Draw(t, "delay")
		all = append(all, e)
		switch rapid.IntRange(0, 9).Draw(t, "again") {
		case 0:
			e.Void, e.RecordedAt = true, e.RecordedAt+2
			all = append(all, e)
		case 1:
			all = append(all, e)
		}
	}
	return all
}

// describe spells out everything the state says at every instant.
func describe(s *directory.State) string {
	out := fmt.Sprint(s.PlanChanges(0, 20), s.Meters(), "\n")
	for at := int64(0); at < 20; at++ {
		tree := s.Tree(at)
		for _, id := range s.Accounts(at) {
			a, _ := s.Account(id, at)
			out += fmt.Sprintln(at, a, s.Plans(id, at), s.UsagePlan(id, "m", at), tree.Parent(id), tree.Depth(id))
		}
	}
	return out
}

func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := events(t)
		asOf := rapid.Int64Range(0, 20).Draw(t, "as_of")
		want := describe(directory.Fold(all, asOf))
		shuffled := rapid.Permutation(all).Draw(t, "shuffled")
		if got := describe(directory.Fold(shuffled, asOf)); got != want {
			t.Fatalf("shuffled input:\n%s\nin order:\n%s", got, want)
		}
		// What is not recorded by asOf, or voided by then, might as well not exist.
		known := slices.DeleteFunc(slices.Clone(all), func(e directory.Event) bool { return e.RecordedAt > asOf })
		if got := describe(directory.Fold(known, directory.Latest)); got != want {
			t.Fatalf("only what was known:\n%s\nas of:\n%s", got, want)
		}
	})
}

func TestTreeHasNoCycle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := directory.Fold(events(t), directory.Latest)
		for at := int64(0); at < 20; at++ {
			tree := s.Tree(at)
			for _, id := range s.Accounts(at) {
				steps := 0
				for up := id; up != ""; up = tree.Parent(up) {
					if steps++; steps > 10 {
						t.Fatalf("walking up from %s at %d does not end", id, at)
					}
				}
				if tree.Depth(id) != steps-1 {
					t.Fatalf("depth of %s at %d = %d, want %d", id, at, tree.Depth(id), steps-1)
				}
			}
		}
	})
}

func BenchmarkFold(b *testing.B) {
	var all []directory.Event
	for i := range 100_000 {
		id, parent := fmt.Sprint("acc-", i), fmt.Sprint("acc-", (i-1)/20)
		if i == 0 {
			parent = ""
		}
		all = append(all,
			created(i, int64(i), id, parent), planSet(200_000+i, int64(i), id, "sta", "STA Basic"),
			event(400_000+i, 200_000+int64(i%10), "service.status_set", id, `{"service":"sta","status":"Active","actor":{"id":"u","email":"u@example.com"}}`))
	}
	var state *directory.State
	for b.Loop() {
		state = directory.Fold(all, directory.Latest)
	}
	if n := len(state.Rulings()); n > 0 {
		b.Fatalf("%d rulings, such as %+v", n, state.Rulings()[0])
	}
	b.ReportMetric(float64(b.N)*float64(len(all))/b.Elapsed().Seconds(), "events/s")
}
