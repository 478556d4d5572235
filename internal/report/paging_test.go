package report_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/reporttest"
)

// TestPageOfAnotherReporter: a page whose rows are not kept, because another process made the first one, has the
// rows of the same state, whatever came in since.
func TestPageOfAnotherReporter(t *testing.T) {
	stack := localstack.Shared(t)
	w, err := reporttest.Open(t.Context(), stack.ClickHouse.DSN(stack.Database(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	begin := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	n := 0
	add := func(typ, account, data string) {
		t.Helper()
		n++
		doc := fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"s","type":%q,"subject":%q,"time":"2025-01-01T00:00:00Z","data":%s}`, n, typ, account, data)
		if err := w.Add("acme", begin+int64(n), doc); err != nil {
			t.Fatal(err)
		}
	}
	add("account.created", "A", `{"name":"A","kind":"provider"}`)
	for i := range 9 {
		add("account.created", fmt.Sprintf("C%d", i), fmt.Sprintf(`{"name":"C%d","kind":"customer","parent_account_id":"A"}`, i))
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC) }
	one, other := report.New(w.W, now), report.New(w.W, now)
	q := report.Query{
		Tenant: "acme", Report: "sta-usage", AsOf: directory.Latest,
		Values: map[string]string{"account": "A", "month": "2025-01", "scope": "tree", "view": "export"},
	}
	var first *report.Page
	var here, there []string
	for _, r := range []*report.Reports{one, other} {
		rows := []string{}
		var at *report.Place
		if r == other {
			at = first.Next
			rows = append(rows, fmt.Sprint(first.Rows))
		}
		for {
			p, err := r.Page(t.Context(), q, at, 4)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = p
				add("account.created", "C3b", `{"name":"C3b","kind":"customer","parent_account_id":"A"}`)
				add("account.created", "last", `{"name":"last","kind":"other"}`) // the newest is not settled yet
				if err := w.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if !maps.Equal(p.Positions, first.Positions) || p.AsOf != first.AsOf {
				t.Errorf("a page of %v %s, the first of %v %s", p.Positions, p.AsOf, first.Positions, first.AsOf)
			}
			rows = append(rows, fmt.Sprint(p.Rows))
			if at = p.Next; at == nil {
				break
			}
		}
		if r == one {
			here = rows
		} else {
			there = rows
		}
	}
	if len(here) != 3 || fmt.Sprint(here) != fmt.Sprint(there) {
		t.Errorf("pages here:\n%v\nthere:\n%v", here, there)
	}
	if all, err := one.Page(t.Context(), q, nil, 100); err != nil || len(all.Rows) != 11 || all.Next != nil {
		t.Errorf("all: %v %v", all, err)
	}
	loose := *first.Next
	loose.Loose = true
	var refused *report.Error
	if _, err := other.Page(t.Context(), q, &loose, 4); !errors.As(err, &refused) || refused.Code != report.CodeCursor {
		t.Errorf("rows ahead of their cut, and not kept: %v", err)
	}
	q.Values["scope"] = "own"
	if _, err := one.Page(t.Context(), q, first.Next, 4); !errors.As(err, &refused) || refused.Code != report.CodeCursor {
		t.Errorf("another question: %v", err)
	}
}
