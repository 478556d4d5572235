package register_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/register"
	"github.com/countinghouse/countinghouse/internal/report/reporttest"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func TestMain(m *testing.M) { localstack.Main(m) }

type bench struct {
	*testing.T
	*reporttest.World
}

func setUp(t *testing.T) bench {
	t.Helper()
	engine := localstack.SharedClickHouse(t)
	w, err := reporttest.Open(t.Context(), engine.DSN(engine.Database(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return bench{t, w}
}

// add stores events of tenant acme and folds nothing.
func (b bench) add(docs ...string) {
	b.Helper()
	for i, doc := range docs {
		typ, rest, _ := strings.Cut(doc, " ")
		account, data, _ := strings.Cut(rest, " ")
		at := 1_767_225_600_000 + int64(b.Seq())*1000 // 2026-01-01
		doc := fmt.Sprintf(`{"specversion":"1.0","id":"e%d-%d","source":"s","type":%q,"subject":%q,"time":%q,"data":%s}`, b.Seq(), i, typ, account,
			time.UnixMilli(at).UTC().Format(time.RFC3339), data)
		if err := b.Add("acme", at, doc); err != nil {
			b.Fatal(err)
		}
	}
	if err := b.Store(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func (b bench) Context() context.Context { return b.T.Context() }

func (b bench) one(sql string) string {
	b.Helper()
	rows, err := warehouse.Collect(b.Context(), b.W, sql, nil, func(r warehouse.Rows, s *string) error { return r.Scan(s) })
	if err != nil {
		b.Fatal(err)
	}
	return strings.Join(rows, "\n")
}

func (b bench) project(upTo register.Cut) {
	b.Helper()
	if err := register.Project(b.Context(), b.W, []string{"acme"}, upTo); err != nil {
		b.Fatal(err)
	}
}

const accounts = `SELECT concat(account, ' ', name, ' ', path, ' ', plan['sta']) FROM {{api}}.accounts_v1 WHERE tenant = 'acme' ORDER BY account`

func (b bench) want(sql, want string) {
	b.Helper()
	if got := b.one(sql); got != want {
		b.Errorf("%s\n%s\nwant\n%s", sql, got, want)
	}
}

// What is beyond the position counted so far is not in the tables yet; what breaks a rule is in the dead letters.
func TestProject(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.add(`account.created a {"name":"A","kind":"provider"}`, `service.plan_set a {"service":"sta","plan":"STA"}`)
	b.add(`account.created b {"name":"B","kind":"subscriber","parent_account_id":"a"}`, `service.plan_set b {"service":"sta","plan":"STA Premium"}`)
	b.want(accounts, "")
	b.project(register.Cut{0: 2})
	b.want(accounts, "a A /a STA")
	b.project(register.Cut{0: b.Seq()})
	b.want(accounts, "a A /a STA\nb B /a/b ")
	b.want(`SELECT concat(reason, ' ', type) FROM {{api}}.dead_letters_v1 WHERE tenant = 'acme'`, "rule:plan-above-parent service.plan_set")
	b.want(`SELECT concat(ancestor, ' above ', account) FROM {{db}}.ancestors`, "a above b")
	b.want(`SELECT concat(account, ' ', only) FROM {{db}}.plan_spans`, "a STA")
	b.want(`SELECT toString((seq, accounts, rulings)) FROM {{api}}.directory_v1`, "(4,2,1)")
	// Nothing that matters is new: the rows are not written again.
	b.add(`entitlement.set a {"entitlement_id":"x","kind":"USERS","quantity":1,"start":"2026-01-01T00:00:00Z"}`)
	b.project(register.Cut{0: b.Seq()})
	b.want(`SELECT toString((uniqExact(data), count(), max(seq))) FROM {{db}}.directory_generations`, "(2,3,5)")
	b.want(accounts, "a A /a STA\nb B /a/b ")
}

// A writer of the past that comes late changes nothing that is seen, and a part of a fold is never seen.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.add(`account.created a {"name":"A","kind":"provider"}`)
	b.add(`account.renamed a {"name":"B"}`)
	b.project(register.Cut{0: 2})
	b.project(register.Cut{0: 1}) // was the owner, and does not know that it is not
	b.want(accounts, "a B /a ")
	// Died before its generation: rows that nobody names.
	err := b.W.Store(b.Context(), `INSERT INTO {{db}}.directory_plans (tenant, data, account, since, services, plans)`, func(add func(values ...any) error) error {
		return add("acme", uint64(7), "a", time.Now(), []string{"sta"}, []string{"STA"})
	})
	if err != nil {
		t.Fatal(err)
	}
	b.want(`SELECT plans[1] FROM {{db}}.plan_spans`, "")
	b.want(`SELECT toString(count()) FROM {{db}}.directory_plans`, "1")
	if err := register.Clean(b.Context(), b.W, reporttest.Shard+1, time.Now()); err != nil { // has other tenants
		t.Fatal(err)
	}
	b.want(`SELECT toString(count()) FROM {{db}}.directory_plans`, "1")
	if err := register.Clean(b.Context(), b.W, reporttest.Shard, time.Now()); err != nil {
		t.Fatal(err)
	}
	b.want(`SELECT toString(count()) FROM {{db}}.directory_plans`, "0")
	b.want(`SELECT toString(count()) FROM {{db}}.directory_generations`, "2") // young ones stay
	if err := register.Clean(b.Context(), b.W, reporttest.Shard, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.want(`SELECT toString(count()) FROM {{db}}.directory_generations`, "1")
	b.want(`SELECT toString(count()) FROM {{db}}.directory_accounts`, "1")
	b.want(accounts, "a B /a ")
}

// A Register writes what is behind when it begins, and what is touched; lost rows are behind.
func TestRegister(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.add(`account.created a {"name":"A","kind":"provider"}`)
	run := func() (touch func(), stop func()) {
		r := register.New(b.W, reporttest.Shard, func() register.Cut { return register.Cut{reporttest.Shard: b.Seq()} }, zaptest.NewLogger(t))
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		return func() { r.Touch(map[string]bool{"acme": true}) }, func() { cancel(); <-done }
	}
	touch, stop := run()
	b.await(accounts, "a A /a ")
	b.add(`account.renamed a {"name":"B"}`)
	touch()
	b.await(accounts, "a B /a ")
	stop()
	if err := b.W.Remove(b.Context(), `DELETE FROM {{db}}.directory_accounts WHERE tenant = 'acme'`); err != nil {
		t.Fatal(err)
	}
	b.want(accounts, "")
	_, stop = run()
	defer stop()
	b.await(accounts, "a B /a ")
}

func (b bench) await(sql, want string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for b.one(sql) != want {
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.Fatalf("%s is %q, not %q", sql, b.one(sql), want)
		}
	}
}
