package months

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/report"
)

func TestDifference(t *testing.T) {
	t.Parallel()
	figure := func(account, meter, value, cost string) report.Figure {
		return report.Figure{Account: account, Meter: meter, Measure: report.MeasureQuantity, Value: value, Cost: cost}
	}
	for name, tt := range map[string]struct {
		older, newer []report.Figure
		want         string // account meter delta cost_delta, a line each
	}{
		"nothing":              {},
		"the same":             {[]report.Figure{figure("a", "m", "1.5", "")}, []report.Figure{figure("a", "m", "1.50", "")}, ""},
		"more":                 {[]report.Figure{figure("a", "m", "1.25", "")}, []report.Figure{figure("a", "m", "2", "")}, "a m 0.75 \n"},
		"new and gone":         {[]report.Figure{figure("a", "m", "1", "")}, []report.Figure{figure("b", "m", "-2", "")}, "a m -1 \nb m -2 \n"},
		"a cost and quantity":  {[]report.Figure{figure("a", "m", "650.000000", "39.50")}, []report.Figure{figure("a", "m", "660.000000", "40.00")}, "a m 10.000000 0.50\n"},
		"a price alone":        {[]report.Figure{figure("a", "m", "1.000000", "1.00")}, []report.Figure{figure("a", "m", "1.000000", "0.99")}, "a m 0.000000 -0.01\n"},
		"finer than six":       {[]report.Figure{figure("a", "m", "1.000000", "0.00")}, []report.Figure{figure("a", "m", "1.000000001", "0.00")}, "a m 0.000000001 0.00\n"},
		"zero appears":         {nil, []report.Figure{figure("a", "m", "0", "")}, ""},
		"ten to the twentieth": {[]report.Figure{figure("a", "m", "99999999999999999999.999999999", "")}, nil, "a m -99999999999999999999.999999999 \n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes, err := difference(tt.older, tt.newer)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, c := range changes {
				fmt.Fprintf(&got, "%s %s %s %s\n", c.Account, c.Meter, c.Delta, c.CostDelta)
			}
			if got.String() != tt.want {
				t.Errorf("got\n%swant\n%s", got.String(), tt.want)
			}
		})
	}
	if _, err := difference(nil, []report.Figure{figure("a", "m", "one", "")}); err == nil {
		t.Error("a value that is no number was taken")
	}
}

// Adding every change to the older figures gives the newer ones, in any order of either; and changes through
// states in between add up to the change from first to last.
func TestDifferenceAddsUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) map[string]int64 {
			return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.Int64Range(-3, 3), 0, 4).Draw(t, label)
		}
		states := []map[string]int64{draw("first"), draw("second"), draw("third")}
		total := map[string]int64{}
		for i := range 2 {
			changes, err := difference(figures(t, states[i]), figures(t, states[i+1]))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range changes {
				var n int64
				if _, err := fmt.Sscan(c.Delta, &n); err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					t.Fatalf("a change of nothing: %+v", c)
				}
				total[c.Account] += n
			}
		}
		for _, account := range []string{"a", "b", "c", "d"} {
			if want := states[2][account] - states[0][account]; total[account] != want {
				t.Fatalf("%s changed by %d, want %d", account, total[account], want)
			}
		}
	})
}

func figures(t *rapid.T, values map[string]int64) []report.Figure {
	var all []report.Figure
	for account, n := range values {
		all = append(all, report.Figure{Account: account, Measure: report.MeasureQuantity, Value: fmt.Sprint(n)})
	}
	slices.SortFunc(all, compareFigures)
	return rapid.Permutation(all).Draw(t, "order")
}

// The canonical rows are a contract: hashes of closed months stand on them.
func TestCanonical(t *testing.T) {
	t.Parallel()
	c := newContent(
		[]report.MonthRow{{
			Account: `a"<&`, AccountName: "Ä\n", Plan: "p", Meter: "m", Unit: "u", Region: "eu", Platform: "mcp", Trial: true, Resolved: true,
			Quantity: "1.5", Events: 2, QuantityTree: "1.5", EventsTree: 2, FirstAt: 1735689600000, LastAt: 1735689600001,
		}, {Account: "b", Quantity: "", QuantityTree: "-3"}},
		[]report.Figure{{Account: "b", Measure: "token", Value: "1"}, {Account: "a", Meter: "m", Measure: "quantity", Value: "2.000000", Cost: "0.10", Currency: "EUR"}},
	)
	var got strings.Builder
	if err := c.canonical(&got, "t", "2025-01"); err != nil {
		t.Fatal(err)
	}
	want := `["countinghouse month 1","t","2025-01"]
["row","a\"<&","Ä\n","p","m","u","eu","mcp","TRUE","TRUE","1.5","2","1.5","2","2025-01-01T00:00:00Z","2025-01-01T00:00:00.001Z"]
["row","b","","","","","","","FALSE","FALSE","","0","-3","0","",""]
["figure","a","","m","","","FALSE","quantity","2.000000","0.10","EUR"]
["figure","b","","","","","FALSE","token","1","",""]
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
	sum, err := c.sum("t", "2025-01")
	if err != nil {
		t.Fatal(err)
	}
	if want := "5b5503e11b3c87f69b9e425cf476681decde44870bf9d25f7a19d0e056e5899f"; sum != want {
		t.Errorf("SHA-256 %s, want %s: months that were closed have other hashes now", sum, want)
	}
}
