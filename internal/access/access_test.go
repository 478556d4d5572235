package access_test

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/access"
)

// tree is a small tree of accounts: the accounts above each.
func tree() map[string][]string {
	return map[string][]string{"A": nil, "B": {"A"}, "C": {"A"}, "D": {"A", "B"}, "E": {"A", "B", "D"}}
}

// judge is Judge written again, slowly: every right has a grant of its own for every account.
func judge(v *access.Viewer, rights []access.Right, accounts []string) error {
	holds := func(r access.Right, account string) bool {
		for _, h := range v.Held {
			above := append([]string{account}, tree()[account]...)
			if slices.Contains(h.Rights[r.Entity], r.Verb) && (h.Account == "" || !r.Entity.Whole() && account != "" && slices.Contains(above, h.Account)) {
				return true
			}
		}
		return false
	}
	reach := func(account string) bool {
		_, known := tree()[account]
		return known && slices.ContainsFunc(v.Held, func(h access.Held) bool {
			return h.Account == "" || h.Account == account || slices.Contains(tree()[account], h.Account)
		})
	}
	for _, r := range rights {
		may := false
		for _, h := range v.Held { // of an account that is no more as well: it is a right without reach
			may = may || holds(r, h.Account)
		}
		if !may {
			return access.ErrForbidden
		}
	}
	whole := true
	for _, r := range rights {
		whole = whole && holds(r, "")
	}
	if whole {
		return nil
	}
	if len(accounts) == 0 {
		return access.ErrForbidden
	}
	for _, account := range accounts {
		if !reach(account) {
			return access.ErrOutside
		}
		for _, r := range rights {
			if !holds(r, account) {
				return access.ErrForbidden
			}
		}
	}
	return nil
}

func TestJudge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		entities := []access.Entity{access.Usage, access.PartnerReports, access.Months, "nothing"}
		right := rapid.Custom(func(t *rapid.T) access.Right {
			return access.Right{Entity: rapid.SampledFrom(entities).Draw(t, "entity"), Verb: rapid.SampledFrom(access.Verbs()).Draw(t, "verb")}
		})
		v := &access.Viewer{Held: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) access.Held {
			h := access.Held{Rights: access.Rights{}}
			for _, r := range rapid.SliceOfN(right, 0, 5).Draw(t, "rights") {
				h.Rights[r.Entity] = append(h.Rights[r.Entity], r.Verb)
			}
			h.Account = rapid.SampledFrom([]string{"", "A", "B", "D", "X"}).Draw(t, "account")
			return h
		}), 0, 4).Draw(t, "held")}
		rights := rapid.SliceOfN(right, 1, 2).Draw(t, "asked")
		accounts := rapid.SliceOfN(rapid.SampledFrom([]string{"A", "B", "C", "D", "E", "unknown"}), 0, 2).Draw(t, "accounts")
		got := v.Judge(rights, accounts, func(account string) ([]string, bool, error) {
			above, known := tree()[account]
			return append([]string{account}, above...), known, nil
		})
		if want := judge(v, rights, accounts); !errors.Is(got, want) {
			t.Fatalf("Judge(%v, %v) of %+v = %v, want %v", rights, accounts, v.Held, got, want)
		}
	})
}

// Who may export reports and schedule tasks may generate reports: nothing else is asked for that.
func TestExportAndScheduleGenerate(t *testing.T) {
	t.Parallel()
	add := []access.Verb{access.Add}
	for name, tt := range map[string]struct {
		rights access.Rights
		may    bool
	}{
		"both":          {access.Rights{access.ExportReports: add, access.Schedules: add}, true},
		"export only":   {access.Rights{access.ExportReports: add}, false},
		"schedule only": {access.Rights{access.Schedules: add}, false},
		"may see both":  {access.Rights{access.ExportReports: {access.View}, access.Schedules: {access.View}}, false},
	} {
		v := &access.Viewer{Held: []access.Held{{Rights: tt.rights}}}
		if v.May(access.Archive, access.Add) != tt.may || v.May(access.Archive, access.View) != tt.may || v.May(access.Archive, access.Remove) {
			t.Errorf("%s: adds to the archive: %t, sees it: %t", name, v.May(access.Archive, access.Add), v.May(access.Archive, access.View))
		}
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	var nobody *access.Viewer
	for _, v := range []*access.Viewer{nobody, {}} {
		for _, e := range access.Entities() {
			if v.May(e, access.View) || v.ReachesAll(e, access.View) || v.Allows(e, access.View, "A") || v.Reaches("A") || v.Manages("Auditor") {
				t.Errorf("somebody without a role may see %s", e)
			}
		}
	}
}

// The table names rights that exist, and nothing without either a scope or a right but what is anybody's.
func TestOperations(t *testing.T) {
	t.Parallel()
	for id, n := range access.Operations() {
		if n.Scopes == nil || n.Rights == nil {
			t.Errorf("%s says nothing of keys or of operators", id)
		}
		for _, r := range n.All(true) {
			if !slices.Contains(access.Entities(), r.Entity) || !slices.Contains(access.Verbs(), r.Verb) {
				t.Errorf("%s asks for %s", id, r)
			}
			if r.Entity.Whole() && (n.Root != "" || n.Own) {
				t.Errorf("%s: %s is of the whole tenant", id, r)
			}
		}
	}
	for _, role := range access.SystemRoles() {
		if role.Name != access.AccountManager && len(role.Rights[access.UsageReport]) > 0 {
			t.Errorf("%s sees the Usage Report (A-12)", role.Name)
		}
		if _, err := (access.Role{Name: role.Name}).Checked(); err == nil {
			t.Errorf("a custom role may be named %s", role.Name)
		}
	}
	technician, _ := access.SystemRole("technician")
	if technician.Rights.Has(access.PartnerReports, access.Add) || !technician.Rights.Has(access.PartnerReports, access.View) {
		t.Error("a technician sees the partner reports and does not export them (E-9)")
	}
}

func TestChecked(t *testing.T) {
	t.Parallel()
	good := access.Role{Name: " Finance ", Rights: access.Rights{access.Months: {"add", "view", "view"}, access.Keys: {"all"}, access.Roles: {}}, Manages: []string{"b", "a", "b"}}
	got, err := good.Checked()
	if err != nil || got.Name != "Finance" || !slices.Equal(got.Rights[access.Months], []access.Verb{access.View, access.Add}) ||
		!slices.Equal(got.Rights[access.Keys], access.Verbs()) || len(got.Rights) != 2 || !slices.Equal(got.Manages, []string{"a", "b"}) {
		t.Errorf("Checked = %+v, %v", got, err)
	}
	for what, r := range map[string]access.Role{
		"no name": {}, "control character": {Name: "a\nb"}, "entity": {Name: "a", Rights: access.Rights{"x": {"view"}}}, "verb": {Name: "a", Rights: access.Rights{access.Keys: {"own"}}},
		"STA": {Name: "a", Rights: access.Rights{access.UsageReport: {"view"}}}, "both": {Name: "a", ManageAll: true, Manages: []string{"b"}},
	} {
		var bad *access.RoleError
		if _, err := r.Checked(); !errors.As(err, &bad) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
