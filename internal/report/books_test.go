package report_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

// The directory at a cut is the fold of the events of the cut, whatever was asked and cached before, and however
// the events came.
func TestBooksAtCuts(t *testing.T) {
	b := setUp(t)
	random := rand.New(rand.NewPCG(7, 11))
	type stored struct {
		directory.Event
		seq uint64
	}
	var all []stored
	now := month.UnixMilli()
	add := func(typ, account, data string) {
		now += random.Int64N(5000)
		at := month.UnixMilli() + random.Int64N(3_600_000)
		id := fmt.Sprint("b", len(all))
		doc := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"s","type":%q,"subject":%q,"time":%q,"data":%s}`, id, typ, account, rfc(at), data)
		if err := b.Add("books", now, doc); err != nil {
			t.Fatal(err)
		}
		all = append(all, stored{directory.Event{Type: typ, Source: "s", ID: id, Account: account, At: at, RecordedAt: now, Data: data}, b.Seq()})
	}
	account := func() string { return fmt.Sprint("a", random.IntN(8)) }
	for range 12 {
		for range random.IntN(12) {
			switch random.IntN(5) {
			case 0, 1:
				add("account.created", account(), fmt.Sprintf(`{"name":"n%d","kind":"customer","parent_account_id":%q}`, random.IntN(30), account()))
			case 2:
				add("account.reparented", account(), fmt.Sprintf(`{"new_parent_account_id":%q}`, account()))
			case 3:
				add("service.plan_set", account(), fmt.Sprintf(`{"service":"sta","plan":%q}`, directory.STAPlans()[random.IntN(3)]))
			case 4:
				if len(all) == 0 {
					continue
				}
				e := all[random.IntN(len(all))]
				if e.Void || slices.ContainsFunc(all, func(o stored) bool { return o.Void && o.ID == e.ID }) {
					continue
				}
				now += 10
				if err := b.Void("books", now, e.Source, e.ID); err != nil {
					t.Fatal(err)
				}
				e.Void, e.RecordedAt, e.seq = true, now, b.Seq()
				all = append(all, e)
			}
		}
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 6 {
			cut := report.Cut{AsOf: directory.Latest}
			if random.IntN(3) > 0 {
				cut.AsOf = month.UnixMilli() + random.Int64N(now-month.UnixMilli()+1)
			}
			if random.IntN(3) > 0 {
				cut.Shards = map[uint16]uint64{0: random.Uint64N(b.Seq() + 2)}
			}
			var events []directory.Event
			for _, e := range all {
				if e.RecordedAt <= cut.AsOf && (cut.Shards == nil || e.seq <= cut.Shards[0]) {
					events = append(events, e.Event)
				}
			}
			state, err := report.DirectoryAt(t.Context(), b.reports, "books", cut)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := spellDirectory(state), spellDirectory(directory.Fold(events, directory.Latest)); got != want {
				t.Fatalf("at %+v\n%s\nwant\n%s", cut, got, want)
			}
		}
	}
}

func spellDirectory(s *directory.State) string {
	out := ""
	for _, id := range s.Accounts(directory.Latest) {
		for _, at := range s.Steps(id) {
			a, _ := s.Account(id, at)
			out += fmt.Sprintln(at, a, s.Plans(id, at))
		}
		out += fmt.Sprintln(s.Standings(id))
	}
	for _, r := range s.Rulings() {
		out += fmt.Sprintln(r.ID, r.Rule)
	}
	return out
}
