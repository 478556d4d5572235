package report_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

// family is root over a and b, b over c; a plan that changes, a meter of people, a gauge, a void.
func family(t *testing.T, b bench) {
	t.Helper()
	n := 0
	add := func(typ, subject, at, data string) {
		t.Helper()
		n++
		doc := fmt.Sprintf(`{"specversion":"1.0","id":"f%d","source":"s","type":%q,"subject":%q,"time":"2026-%sZ","data":%s}`, n, typ, subject, at, data)
		if err := b.Add("fam", next.UnixMilli()+int64(n), doc); err != nil {
			t.Fatal(err)
		}
	}
	add("meter.defined", "meters", "01-01T00:00:00", `{"meter":"people","meter_id":"m","element":"user","unit":"user","aggregation":"unique","scale":0,"kind":"usage"}`)
	add("meter.defined", "meters", "01-01T00:00:00", `{"meter":"deployed","meter_id":"d","element":"asset","unit":"asset","aggregation":"time_weighted","scale":9,"kind":"usage"}`)
	for _, a := range [][2]string{{"root", ""}, {"a", "root"}, {"b", "root"}, {"c", "b"}} {
		parent := ""
		if a[1] != "" {
			parent = fmt.Sprintf(`,"parent_account_id":%q`, a[1])
		}
		add("account.created", a[0], "01-01T00:00:00", fmt.Sprintf(`{"name":"Name %s","kind":"customer"%s}`, a[0], parent))
	}
	add("service.plan_set", "c", "01-01T00:00:00", `{"service":"sta","plan":"STA"}`)
	add("service.plan_set", "c", "03-10T12:20:00", `{"service":"sta","plan":"STA Premium"}`)
	tokens := func(subject, at, quantity, region string) {
		add("usage.metered", subject, at, fmt.Sprintf(`{"meter":"tokens","quantity":%q,"region":%q}`, quantity, region))
	}
	tokens("a", "03-02T00:00:00", "1", "eu")
	tokens("c", "03-10T12:19:59.999", "10", "eu")
	tokens("c", "03-10T12:20:00", "100", "us")
	tokens("c", "03-11T00:00:00", "1000", "us")
	for i, who := range []string{"u1", "u2", "u1"} {
		add("usage.metered", []string{"a", "c", "c"}[i], "03-05T00:00:00", fmt.Sprintf(`{"meter":"people","quantity":"1","consumer":{"type":"user","id":%q}}`, who))
	}
	add("usage.metered", "c", "02-27T00:00:00", `{"meter":"deployed","quantity":"2"}`)
	add("usage.metered", "c", "03-31T23:00:00", `{"meter":"deployed","quantity":"0"}`)
	tokens("c", "03-12T00:00:00", "5", "us")
	if err := b.Void("fam", next.UnixMilli()+100, "s", fmt.Sprint("f", n)); err != nil {
		t.Fatal(err)
	}
	b.settle(t)
}

// TestMonthlyUsage: scopes, filters and groups of the report.
func TestMonthlyUsage(t *testing.T) {
	b := setUp(t)
	family(t, b)
	ask := func(values map[string]string) (string, error) {
		values["month"] = "2026-03"
		result, err := b.reports.Run(t.Context(), report.Query{Tenant: "fam", Report: "monthly-usage", Values: values, AsOf: directory.Latest})
		if err != nil {
			return "", err
		}
		var lines []string
		for row, err := range result.Rows {
			if err != nil {
				t.Fatal(err)
			}
			// account, plan, meter, region; own; tree
			lines = append(lines, strings.Join([]string{row[3], row[5], row[6], row[8], row[12], row[13], row[14], row[15]}, ","))
		}
		return strings.Join(lines, "\n"), nil
	}
	tests := map[string]struct {
		values map[string]string
		want   []string
	}{
		"one account": {map[string]string{"account": "c", "meter": "tokens"}, []string{
			"c,STA,tokens,eu,10,1,10,1", "c,STA Premium,tokens,us,1100,2,1100,2",
		}},
		"one that has nothing of its own": {map[string]string{"account": "b"}, []string{
			"b,STA,deployed,,0,0,456.666666667,0", "b,STA,people,,0,0,2,2", "b,STA,tokens,eu,0,0,10,1",
			"b,STA Premium,deployed,,0,0,1029.333333333,1", "b,STA Premium,tokens,us,0,0,1100,2",
		}},
		"children by account": {map[string]string{"account": "root", "scope": "children", "meter": "tokens", "group_by": "account"}, []string{
			"a,,tokens,,1,1,1,1", "b,,tokens,,0,0,1110,3", "root,,tokens,,0,0,1111,4",
		}},
		"the tree by plan": {map[string]string{"account": "b", "scope": "tree", "group_by": "plan"}, []string{
			",STA,deployed,,456.666666667,0,,", ",STA,people,,2,2,,", ",STA,tokens,,10,1,,", ",STA Premium,deployed,,1029.333333333,1,,", ",STA Premium,tokens,,1100,2,,",
		}},
		"people of everybody": {map[string]string{"meter": "people", "group_by": "region"}, []string{",,people,,2,3,,"}},
		"a plan":              {map[string]string{"plan": "STA", "meter": "tokens", "account": "root", "scope": "tree"}, []string{"b,STA,tokens,eu,0,0,10,1", "c,STA,tokens,eu,10,1,10,1", "root,STA,tokens,eu,0,0,10,1"}},
		"hours of the tree":   {map[string]string{"account": "root", "meter": "deployed", "group_by": "account"}, []string{"root,,deployed,,0,0,1486,1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := ask(tt.values); err != nil || got != strings.Join(tt.want, "\n") {
				t.Errorf("%v, %v\n got %s\nwant %s", tt.values, err, got, strings.Join(tt.want, "\n"))
			}
		})
	}
	for _, values := range []map[string]string{{"scope": "tree"}, {"group_by": "meter"}, {"group_by": "plan,plan"}, {"scope": "all", "account": "a"}, {"colour": "red"}} {
		var refused *report.Error
		if _, err := ask(values); !errors.As(err, &refused) || refused.Code != report.CodeParameter || !slices.Contains([]string{"account", "group_by", "scope", "colour"}, refused.Parameter) {
			t.Errorf("%v: %v, want a refusal that names the parameter", values, err)
		}
	}
}
