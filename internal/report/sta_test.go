package report_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

// storeSTA writes the history for the tenant, in the order in which it was recorded.
func (b bench) storeSTA(t testing.TB, tenant string, h *staHistory) {
	t.Helper()
	type step struct {
		recorded int64
		do       func() error
	}
	var steps []step
	for i := range h.all {
		s := &h.all[i]
		steps = append(steps, step{s.recorded, func() error { return b.Add(tenant, s.recorded, s.doc()) }})
		if s.voided != 0 {
			steps = append(steps, step{s.voided, func() error { return b.Void(tenant, s.voided, "gen", s.id) }})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.recorded - b.recorded) })
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ask is the rows of a report, with tree_complete where it has one.
func (b bench) ask(t testing.TB, q report.Query) string {
	t.Helper()
	result, err := b.reports.Run(t.Context(), q)
	if err != nil {
		t.Fatalf("%s %v: %v", q.Report, q.Values, err)
	}
	var out strings.Builder
	for row, err := range result.Rows {
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(strings.Join(row, ","))
		if result.Extra != nil {
			fmt.Fprintf(&out, " %v", result.Extra(row)["tree_complete"])
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func TestSTAEqualsTheOracle(t *testing.T) {
	b := setUp(t)
	generator := rapid.Custom(drawSTA)
	all := make([]*staHistory, staHistories)
	for i := range all {
		all[i] = generator.Example(i)
		b.storeSTA(t, fmt.Sprint("tenant-", i), all[i])
	}
	b.settle(t)
	month := func(i int) string { return staStart.AddDate(0, i, 0).Format("2006-01") }
	for i, h := range all {
		tenant := fmt.Sprint("tenant-", i)
		t.Run(tenant, func(t *testing.T) {
			for _, asOf := range []int64{directory.Latest, staStart.AddDate(0, 1, 20).UnixMilli()} {
				for _, c := range []struct {
					root, scope   string
					first, months int
				}{{"a", "tree", 0, 3}, {"a", "children", 0, 3}, {"a", "tree", 1, 1}, {"c", "tree", -1, 4}, {"b", "children", 1, 2}, {"b", "own", 0, 2}} {
					got := b.ask(t, report.Query{Tenant: tenant, Report: "sta-usage", AsOf: asOf, Export: true, Values: map[string]string{
						"account": c.root, "scope": c.scope, "from": month(c.first), "to": month(c.first + c.months - 1),
					}})
					if want := h.export(asOf, c.root, c.scope, c.first, c.months); got != want {
						t.Fatalf("%v as of %s:\n got\n%s\nwant\n%s", c, rfc(min(asOf, 4_000_000_000_000)), got, want)
					}
				}
			}
			b.staSums(t, tenant)
		})
	}
}

// staSums holds what must be true of any month: own numbers add up to the root's, and the screen says what the export says.
func (b bench) staSums(t *testing.T, tenant string) {
	t.Helper()
	export := b.ask(t, report.Query{
		Tenant: tenant, Report: "sta-usage", AsOf: directory.Latest, Export: true, Values: map[string]string{"account": "a", "month": "2026-02", "scope": "tree"},
	})
	var own, tree [3]int
	for i, line := range strings.Split(strings.TrimSpace(export), "\n") {
		line, _, _ = strings.Cut(line, " true")
		cells := strings.Split(strings.TrimSuffix(line, " false"), ",")
		number := func(i int) int { n, _ := strconv.Atoi(cells[i]); return n }
		for m := range own {
			if cells[7] != "" {
				own[m] += number(8 + m)
			}
			if i == 0 && cells[6] == "Available" {
				tree[m] = number(11+m) + number(14+m) + number(17+m)
			}
		}
		if i == 0 && cells[6] != "Available" {
			return
		}
	}
	if own != tree {
		t.Errorf("own numbers add up to %v, the root's tree has %v:\n%s", own, tree, export)
	}
}

// A million users of ten thousand accounts, each with a token that was assigned and activated: the cost of a month.
func BenchmarkSTA(b *testing.B) {
	d := setUp(b)
	d.fillUsers(b, 1_000_000, 10_000)
	d.settle(b)
	clock := time.Date(2026, 4, 2, 0, 0, 0, 0, time.UTC)
	reports := report.New(d.W, func() time.Time { return clock })
	for name, values := range map[string]map[string]string{
		"screen tokens":   {"account": "account-0", "month": "2026-03", "measure": "token", "view": "screen"},
		"screen activity": {"account": "account-0", "month": "2026-03", "measure": "activity", "view": "screen"},
		"export tree":     {"account": "account-0", "month": "2026-03", "scope": "tree", "view": "export"},
		"export year":     {"account": "account-0", "from": "2025-04", "to": "2026-03", "scope": "tree", "view": "export"},
		"one account":     {"account": "account-9999", "month": "2026-03", "view": "export"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				result, err := reports.Run(b.Context(), report.Query{Tenant: "big", Report: "sta-usage", AsOf: directory.Latest, Values: values})
				if err != nil {
					b.Fatal(err)
				}
				for _, err := range result.Rows {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// fillUsers writes accounts as fillMany does, and their users, tokens and activity.
func (b bench) fillUsers(t testing.TB, users, accounts int) {
	t.Helper()
	b.fillMany(t, accounts, 1, 1000)
	exec := func(sql string, args ...any) {
		t.Helper()
		sql = strings.ReplaceAll(fmt.Sprintf(sql, args...), "{{db}}", b.W.Database())
		if _, err := b.engine.Query(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO {{db}}.directory_events (shard, seq, idx, sign, tenant, source, id, type, account, at, recorded_at, correlation_id, data)
SELECT 0, 1, number, 1, 'big', 'https://crm.example.com/users', concat(toString(generateUUIDv4(number)), toString(kind)),
    ['user.registered', 'token.state_set', 'token.state_set'][kind], concat('account-', toString(number %% %d)),
    toDateTime64('2026-01-02 00:00:00', 3, 'UTC') + toIntervalSecond(kind * 100000 + number %% 86400), toDateTime64('2026-04-01 00:00:00', 3, 'UTC'), '',
    [format('{{"login":"user{0}@example.com","user_id":"user-{0}"}}', toString(number)),
     format('{{"state":"assigned","token_id":"token-{0}","token_type":"mobile","user_id":"user-{0}"}}', toString(number)),
     format('{{"state":"active","token_id":"token-{0}","token_type":"mobile","user_id":"user-{0}"}}', toString(number))][kind]
FROM numbers(%d) ARRAY JOIN [1, 2, 3] AS kind`, accounts, users)
	exec(`INSERT INTO {{db}}.events (shard, seq, idx, sign, tenant, source, id, id_key, content_hash, type, account, at, recorded_at, meter, quantity, data)
SELECT 0, 1, number, 1, 'big', 'idp', toString(number), 0, 0, 'user.activity', concat('account-', toString(cityHash64(number, 1) %% %d %% %d)),
    toDateTime64('2026-03-01 00:00:00', 3, 'UTC') + toIntervalMillisecond(cityHash64(number, 2) %% (31 * 86400000)), toDateTime64('2026-04-01 00:00:00', 3, 'UTC'),
    'activity', 1, format('{{"application":"portal","kind":"login","result":"success","user_id":"user-{0}"}}', toString(cityHash64(number, 1) %% %d))
FROM numbers(%d)`, users, accounts, users, 10*users)
}
