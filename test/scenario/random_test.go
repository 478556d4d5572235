package scenario

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/test/reference"
)

var (
	historySeed  = flag.Uint64("history", 1, "first seed of the random histories")      //nolint:gochecknoglobals // a flag
	historyCount = flag.Int("histories", historiesInShort, "how many random histories") //nolint:gochecknoglobals // a flag
)

// Random histories, loaded once in order and once shuffled with every event once to three times: every report there is
// says the same of both, and what the reference says.
func TestReportsOfRandomLogs(t *testing.T) {
	for i := range *historyCount {
		seed := *historySeed + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			h := drawHistory(seed)
			first := newWorld(t)
			second := &world{t: t, tenant: fmt.Sprintf("s%d", tenants.Add(1))}
			second.key = newKey(t, second.tenant, "events:write", "events:backfill", "usage:read", "reports:read", "dlq:read")
			part := h.inOrder()
			half := slices.IndexFunc(part, func(e event) bool { return moment(e.recorded).After(moment(historyMidway)) })
			if half < 0 {
				half = len(part)
			}
			first.send(part[:half]...)
			earlier := map[string]string{} // what is told of an instant stays what it was, and what is told of now does not
			for _, q := range historyQuestions(h.known(first.tenant, historyMidway)) {
				path := "/reports/" + q.path + "&format=csv&as_of="
				switch h.IntN(6) {
				case 0:
					_, earlier[path+historyMidway] = first.get(path + historyMidway)
				case 1:
					first.get(path + historyLast)
				}
			}
			first.send(part[half:]...)
			for all := h.shuffled(); len(all) > 0; {
				n := min(len(all), 1+h.IntN(90))
				if status, answer := second.post(all[:n]...); status != http.StatusAccepted {
					t.Fatalf("POST /events: %d %s", status, answer)
				}
				all = all[n:]
			}
			second.marker()
			rows, proofs := map[string]int{}, 0
			for _, asOf := range []string{historyLast, historyMidway} {
				known := h.known(first.tenant, asOf)
				for _, q := range historyQuestions(known) {
					path := "/reports/" + q.path + "&format=csv&as_of=" + asOf
					_, one := first.get(path)
					_, other := second.get(path)
					if other = strings.ReplaceAll(other, second.tenant, first.tenant); one != other {
						t.Errorf("%s: in order:\n%s\nshuffled and repeated:\n%s", path, one, other)
					}
					if before, asked := earlier[path]; asked && before != one {
						t.Errorf("%s: before more was recorded:\n%s\nnow:\n%s", path, before, one)
					}
					report, _, _ := strings.Cut(q.path, "?")
					rows[report] += strings.Count(one, "\n") - 1
					proofs += first.proveSome(h, q.path+"&as_of="+asOf, one, provedPercent)
					if q.want != nil {
						q.check(t, path, one)
					}
				}
			}
			first.want("what the rules of the tree leave without effect", first.ruled(), strings.Join(h.known(first.tenant, historyLast).Refused(), "\n"))
			first.want("the same, shuffled", second.ruled(), first.ruled())
			t.Logf("%d events, %d numbers proved, rows: %v", len(h.events), proofs, rows)
		})
	}
}

// ruled are the events about accounts and services that have no effect, as "source id rule", sorted.
func (w *world) ruled() string {
	w.t.Helper()
	var page struct {
		Rows []struct{ Source, ID, Type, Reason string }
	}
	_, answer := w.get("/dead-letters?limit=1000")
	if err := json.Unmarshal([]byte(answer), &page); err != nil {
		w.t.Fatalf("%v: %s", err, answer)
	}
	var all []string
	for _, r := range page.Rows {
		if rule, found := strings.CutPrefix(r.Reason, "rule:"); found && (strings.HasPrefix(r.Type, "account.") || strings.HasPrefix(r.Type, "service.")) {
			all = append(all, r.Source+" "+r.ID+" "+rule)
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// historyQuestion is a report to be asked for, and what the reference says; nil where it does not know it.
type historyQuestion struct {
	path string
	want func() []string
	skip []int // columns left out
}

// check compares an answer with the reference, row by row.
func (q *historyQuestion) check(t *testing.T, path, answer string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(answer, "\r\n", "\n"), "\n"), "\n")
	got, want := lines[1:], q.want()
	for i, line := range got {
		if len(q.skip) > 0 {
			got[i] = without(line, q.skip)
		}
	}
	if strings.Join(got, "\n") == strings.Join(want, "\n") {
		return
	}
	for i := range max(len(got), len(want)) {
		g, w := "(nothing)", "(nothing)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%s: row %d of %d, %d wanted:\n got %s\nwant %s", path, i+1, len(got), len(want), g, w)
			return
		}
	}
}

// without leaves columns out of a line of CSV; those that are quoted hold JSON.
func without(line string, skip []int) string {
	var cells []string
	cell, quoted := "", false
	for _, r := range line + "," {
		switch {
		case r == '"':
			quoted = !quoted
		case r == ',' && !quoted:
			cells, cell = append(cells, cell), ""
		default:
			cell += string(r)
		}
	}
	kept := cells[:0]
	for i, c := range cells {
		if !slices.Contains(skip, i) {
			kept = append(kept, c)
		}
	}
	return strings.Join(kept, ",")
}

// historyQuestions are what is asked of a history.
func historyQuestions(h *reference.History) []historyQuestion {
	var all []historyQuestion
	ask := func(want func() []string, report string, pairs ...string) {
		all = append(all, historyQuestion{report + "?" + query(pairs...), want, nil})
	}
	for _, id := range []string{"p", "a1", "a2"} {
		if !h.Exists(id) {
			continue
		}
		for _, scope := range []string{"tree", "children", "own"} {
			ask(func() []string { return h.STAExport(id, scope, historyMonths) }, "sta-usage", "account", id, "scope", scope, "from", "2024-12", "to", "2025-04", "view", "export")
		}
		ask(func() []string { return h.STASummary(id, historyMonths[1:4]) }, "sta-monthly-summary", "account", id, "from", "2025-01", "to", "2025-03")
		for i, month := range historyMonths {
			measure := (i + len(id)) % 3
			ask(func() []string { return h.STAScreen(id, month, measure) }, "sta-usage", "account", id, "month", month, "measure", []string{"registered", "token", "activity"}[measure], "view", "screen")
		}
	}
	for _, period := range [][2]string{{"2025-01-01", "2025-01-31"}, {"2025-02-10", "2025-03-08"}, {"2024-12-01", "2025-04-30"}} {
		from, to := moment(period[0]+"T00:00:00Z").UnixMilli(), moment(period[1]+"T00:00:00Z").AddDate(0, 0, 1).UnixMilli()
		for _, provider := range []string{"p", "o", "a1"} {
			for _, mode := range []string{"", "PRODUCTION", "TRIAL"} {
				pairs := []string{"account", provider, "from", period[0], "to", period[1]}
				if mode != "" {
					pairs = append(pairs, "contract_mode", mode)
				}
				if h.Exists(provider) && (mode == "" || provider == "p") {
					ask(func() []string { return h.TenantUsage(provider, mode, from, to) }, "tenant-usage", pairs...)
				}
			}
		}
		for i, kind := range []string{"USERS", "AUTHENTICATIONS", "SMS_VOICE"} {
			tenant, aggregation := []string{"a1", "a2", "a3"}[i], []string{"MONTHLY", "WEEKLY", "DAILY"}[(i+len(all))%3]
			if h.Exists(tenant) {
				ask(func() []string { return h.TenantBuckets(tenant, kind, aggregation, from, to) }, "tenant-usage-api",
					"tenant", tenant, "usage_type", kind, "aggregation", aggregation, "from", period[0], "to", period[1])
			}
		}
	}
	for _, month := range historyMonths {
		for _, id := range []string{"a1", "a2", "a3"} {
			if h.Exists(id) {
				ask(func() []string { return h.AssetDetail(id, month) }, "asset-usage-detail", "tenant", id, "month", month)
			}
		}
		for _, id := range []string{"p", "o", "a1"} {
			if h.Exists(id) {
				ask(func() []string { return h.AssetCosts(id, month) }, "asset-monthly-costs", "organization", id, "month", month)
			}
		}
		if h.Exists("o") {
			ask(nil, "asset-adjustments", "organization", "o", "processing_month", month)
		}
		ask(nil, "monthly-usage", "month", month)
	}
	ask(h.Elastic, "elastic-usage")
	all[len(all)-1].skip = []int{19, 22}
	for _, partner := range []string{"d", "r1"} {
		if !h.ExistsNow(partner) {
			continue
		}
		ask(func() []string { return h.Subscriptions(partner) }, "subscriptions", "partner", partner)
		ask(func() []string { return h.Transactions(partner) }, "transactions", "partner", partner)
		for _, expand := range []string{"", "customer", "type"} {
			pairs := []string{"partner", partner}
			if expand != "" {
				pairs = append(pairs, "expand", expand)
			}
			ask(func() []string { return h.CertificateUsage(partner, expand) }, "certificate-usage", pairs...)
		}
	}
	return all
}
