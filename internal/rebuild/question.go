package rebuild

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Questions about one report: so many of all tenants together, and of each tenant so many at least. Where there are
// more, every n-th is asked. Every row of every table is compared besides.
const (
	QuestionsUsual = 24
	questionsEach  = 2
)

// Tenant is what questions about a tenant are made of.
type Tenant struct {
	Name     string
	Months   []usage.Month // in which anything happened
	Roots    []string
	Parents  []string // accounts that have others below them, and roots
	Accounts []string // all of them
}

const listTenants = `
SELECT DISTINCT CAST(tenant, 'String') AS name
FROM {{db}}.ledger
WHERE tenant != '' AND seq <= transform(shard, @shards, @seqs, toUInt64(0))
ORDER BY name`

const listMonths = `
SELECT CAST(tenant, 'String'), toYYYYMM(at) AS month
FROM {{db}}.events
WHERE seq <= transform(shard, @shards, @seqs, toUInt64(0))
GROUP BY tenant, month
ORDER BY tenant, month`

const listAccounts = `
SELECT CAST(tenant, 'String'), account, argMax(JSONExtractString(data, 'parent_account_id'), (at, source, id))
FROM {{db}}.directory_events
WHERE type = 'account.created' AND seq <= transform(shard, @shards, @seqs, toUInt64(0))
GROUP BY tenant, account
ORDER BY tenant, account`

// tenants reads what to ask about.
func tenants(ctx context.Context, w *warehouse.Warehouse, cut report.Cut) ([]*Tenant, error) {
	shards, seqs := warehouse.Positions(cut.Shards)
	args := []any{warehouse.Named("shards", shards), warehouse.Named("seqs", seqs)}
	var all []*Tenant
	by := map[string]*Tenant{}
	err := w.Query(ctx, listTenants, args, func(r warehouse.Rows) error {
		t := &Tenant{}
		err := r.Scan(&t.Name)
		all, by[t.Name] = append(all, t), t
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the tenants: %w", err)
	}
	err = w.Query(ctx, listMonths, args, func(r warehouse.Rows) error {
		var name string
		var month uint32
		if err := r.Scan(&name, &month); err != nil {
			return err
		}
		m, err := usage.ParseMonth(fmt.Sprintf("%04d-%02d", month/100, month%100))
		if t := by[name]; t != nil {
			t.Months = append(t.Months, m)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the months: %w", err)
	}
	err = w.Query(ctx, listAccounts, args, func(r warehouse.Rows) error {
		var name, account, parent string
		if err := r.Scan(&name, &account, &parent); err != nil {
			return err
		}
		t := by[name]
		if t == nil {
			return nil
		}
		t.Accounts = append(t.Accounts, account)
		if parent == "" {
			t.Roots = append(t.Roots, account)
		}
		t.Parents = append(t.Parents, cmp.Or(parent, account))
		return nil
	})
	for _, t := range all {
		slices.Sort(t.Parents)
		t.Parents = slices.Compact(t.Parents)
	}
	if err != nil {
		return nil, fmt.Errorf("list the accounts: %w", err)
	}
	return all, nil
}

// Questions are those about one report: every combination of what its parameters may be, where each matters; of more
// than most, every n-th.
func (t *Tenant) Questions(d report.Definition, most int) (asked []report.Query, leftOut int) {
	all := []map[string]string{{}}
	for _, p := range d.Parameters {
		if p.Name == "from" {
			all = t.ranges(all, d, p)
			continue
		}
		if values := t.values(p); len(values) > 0 {
			all = product(all, p.Name, values)
		} else if p.Required && p.Name != "to" {
			return nil, 0 // nothing to ask about
		}
	}
	for _, values := range all {
		if values["account"] == "" {
			delete(values, "scope") // of an account
		}
	}
	step := (len(all) + most - 1) / most
	for i, values := range all {
		if step > 1 && i%step != 0 {
			leftOut++
			continue
		}
		// Where months are ranged over, a file is what people take.
		asked = append(asked, report.Query{Tenant: t.Name, Report: d.Name, Values: values, Export: values["from"] != ""})
	}
	return asked, leftOut
}

// values of a parameter; none: it is left out.
func (t *Tenant) values(p report.Parameter) []string {
	switch p.Name {
	case "month", "processing_month":
		var months []string
		for _, m := range t.Months {
			months = append(months, m.String())
		}
		return months
	case "account":
		if p.Required {
			return t.Roots
		}
		return nil
	case "partner":
		return t.Roots
	case "organization":
		return t.Parents
	case "tenant":
		return t.Accounts
	case "tenants":
		return []string{"all"}
	case "scope":
		if slices.Contains(p.Values, "tree") {
			return []string{"tree"}
		}
	case "measure", "usage_type", "aggregation", "expand":
		values := slices.Clone(p.Values)
		if !p.Required {
			values = append(values, "")
		}
		return values
	}
	if p.Required && len(p.Values) > 0 {
		return p.Values
	}
	return nil
}

// ranges adds from and to: the whole history, and each month where dates or instants are wanted. A report that
// takes a month or a range is asked for the range besides.
func (t *Tenant) ranges(all []map[string]string, d report.Definition, from report.Parameter) []map[string]string {
	if len(t.Months) == 0 {
		return all
	}
	first, last := t.Months[0], t.Months[len(t.Months)-1]
	print := func(i usage.Instant, end bool) string {
		at := i.Time().UTC()
		switch {
		case len(from.Example) == len("2006-01"):
			if end {
				at = at.Add(-time.Millisecond)
			}
			return at.Format("2006-01")
		case len(from.Example) == len(time.DateOnly):
			if end {
				at = at.Add(-time.Millisecond)
			}
			return at.Format(time.DateOnly)
		}
		return at.Format(time.RFC3339)
	}
	pairs := [][2]string{{print(first.Start(), false), print(last.End(), true)}}
	if len(from.Example) != len("2006-01") {
		for _, m := range t.Months {
			pairs = append(pairs, [2]string{print(m.Start(), false), print(m.End(), true)})
		}
	}
	var out []map[string]string
	if slices.ContainsFunc(d.Parameters, func(p report.Parameter) bool { return p.Name == "month" }) {
		out = append(out, all...)
	}
	seen := map[string]bool{}
	for _, values := range all {
		for _, pair := range pairs {
			next := maps.Clone(values)
			delete(next, "month")
			next["from"], next["to"] = pair[0], pair[1]
			if key := text(next); !seen[key] {
				seen[key] = true
				out = append(out, next)
			}
		}
	}
	return out
}

// product is every one of all with every value; "" leaves the parameter out.
func product(all []map[string]string, name string, values []string) []map[string]string {
	var out []map[string]string
	for _, values0 := range all {
		for _, value := range values {
			next := maps.Clone(values0)
			if value != "" {
				next[name] = value
			}
			out = append(out, next)
		}
	}
	return out
}

// text is parameters as they stand in a URL, in order of their names.
func text(values map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, name+"="+values[name])
	}
	return strings.Join(parts, "&")
}
