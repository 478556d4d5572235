package report_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

// put writes a generated history of assets.
func (b bench) put(t testing.TB, tenant string, e *estate) {
	t.Helper()
	type action struct {
		at int64
		do func() error
	}
	var actions []action
	for _, d := range e.docs {
		actions = append(actions, action{d.recorded, func() error { return b.Add(tenant, d.recorded, d.doc) }})
		if d.voided != 0 {
			source := "gen"
			if strings.Contains(d.doc, `"source":"crm"`) {
				source = "crm"
			}
			actions = append(actions, action{d.voided, func() error { return b.Void(tenant, d.voided, source, d.id) }})
		}
	}
	slices.SortStableFunc(actions, func(a, b action) int { return int(a.at - b.at) })
	for _, a := range actions {
		if err := a.do(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// lines are the rows of a report, cells joined by commas, sorted.
func (b bench) lines(t testing.TB, tenant, name string, asOf int64, values map[string]string) []string {
	t.Helper()
	result, err := b.reports.Run(t.Context(), report.Query{Tenant: tenant, Report: name, Values: values, AsOf: asOf})
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for row, err := range result.Rows {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Join([]string(slices.Clone(row)), ","))
	}
	slices.Sort(lines)
	return lines
}

// Detail and costs are those of the oracle for any history, month and as_of, and the sums of the one are the
// quantities of the other. The view says what the report says.
func TestAssetsEqualTheOracle(t *testing.T) {
	b := setUp(t)
	generator := rapid.Custom(drawEstate)
	all := make([]*estate, histories/4)
	for i := range all {
		all[i] = generator.Example(i)
		b.put(t, fmt.Sprint("assets-", i), all[i])
	}
	b.settle(t)
	for i, e := range all {
		tenant := fmt.Sprint("assets-", i)
		cuts := []int64{directory.Latest, e.docs[len(e.docs)*(1+i%3)/4].recorded}
		for _, asOf := range cuts {
			for _, m := range []time.Time{month.AddDate(0, -1, 0), month, next} {
				name := fmt.Sprintf("%s %s as of %d", tenant, m.Format("2006-01"), asOf)
				values := map[string]string{"month": m.Format("2006-01"), "organization": "org"}
				costs := b.lines(t, tenant, "asset-monthly-costs", asOf, values)
				compareLines(t, name+" costs", costs, e.costs(m, asOf))
				sums := map[string]*big.Rat{}
				for _, account := range []string{"t1", "t2"} {
					detail := b.lines(t, tenant, "asset-usage-detail", asOf, map[string]string{"month": m.Format("2006-01"), "tenant": account})
					compareLines(t, name+" detail of "+account, detail, e.detail(account, m, asOf))
					addTo(t, sums, detail, 1, 5, 10, 12, 9)
				}
				reconcile(t, name, sums, costs)
			}
		}
	}
}

func compareLines(t *testing.T, name string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// addTo adds the column quantity of lines by the others.
func addTo(t *testing.T, sums map[string]*big.Rat, lines []string, columns ...int) {
	t.Helper()
	for _, line := range lines {
		cells := strings.Split(line, ",")
		key := ""
		for _, c := range columns[:len(columns)-1] {
			key += cells[c] + ","
		}
		quantity, ok := new(big.Rat).SetString(cells[columns[len(columns)-1]])
		if !ok {
			t.Fatalf("quantity of %s", line)
		}
		if sums[key] == nil {
			sums[key] = new(big.Rat)
		}
		sums[key].Add(sums[key], quantity)
	}
}

// reconcile compares the sums of detail with monthly costs, exactly.
func reconcile(t *testing.T, name string, detail map[string]*big.Rat, costs []string) {
	t.Helper()
	monthly := map[string]*big.Rat{}
	addTo(t, monthly, costs, 2, 7, 8, 9, 10)
	if len(monthly) != len(detail) {
		t.Errorf("%s: %d sums of detail, %d monthly rows", name, len(detail), len(monthly))
	}
	for key, sum := range detail {
		if monthly[key] == nil || monthly[key].Cmp(sum) != 0 {
			t.Errorf("%s: detail of %s is %s, monthly %v", name, key, sum, monthly[key])
		}
	}
}
