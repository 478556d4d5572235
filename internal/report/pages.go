package report

import (
	"fmt"
	"sync"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// rowsKept bounds the rows of months kept for following pages, over all tenants: about 300 MB.
const rowsKept = 1_000_000

// shelf keeps computed answers by name, so that following pages need not compute them again and agree with the
// first. The oldest go first, once there are more rows than max; the newest is kept whatever its size. An answer
// that is gone is computed anew and goes on after the same row.
type shelf[T any] struct {
	max   int
	mu    sync.Mutex
	named map[string]shelved[T]
	order []string // oldest first
	rows  int
}

type shelved[T any] struct {
	answer *T
	rows   int
}

// monthID names a computed month: the same id, the same rows.
func monthID(tenant string, m usage.Month, f MonthFilter, mark string) string {
	return fmt.Sprintf("%s %s %q %s", tenant, m, []any{f.Accounts, f.Plan, f.Meter}, mark)
}

// pageOf are those of all rows that a question will look at.
func pageOf[T any](all []T, ask Ask) []T {
	all = all[min(ask.Skip, len(all)):]
	if ask.Limit > 0 {
		all = all[:min(ask.Limit, len(all))]
	}
	return all
}

// get is the answer of a name; nil if none is kept.
func (s *shelf[T]) get(name string) *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.named[name].answer
}

// put keeps an answer of so many rows and is what is kept: another one, if there was one under that name already.
// That one was given out, and its pages go on.
func (s *shelf[T]) put(name string, answer *T, rows int) *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.named[name]; ok {
		return known.answer
	}
	if s.named == nil {
		s.named = map[string]shelved[T]{}
	}
	s.named[name], s.order, s.rows = shelved[T]{answer, rows}, append(s.order, name), s.rows+rows
	for s.rows > s.max && len(s.order) > 1 {
		s.rows -= s.named[s.order[0]].rows
		delete(s.named, s.order[0])
		s.order = s.order[1:]
	}
	return answer
}
