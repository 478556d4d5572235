package report

import (
	"fmt"
	"sync"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// rowsKept bounds the rows kept for following pages, over all tenants: about 300 MB. The newest answer is
// kept whatever its size.
const rowsKept = 1_000_000

// pages keeps computed months, so that following pages need not compute them again and agree with the
// first. A page that is gone is computed anew and goes on after the same row.
type pages struct {
	mu     sync.Mutex
	months map[string]*Month
	order  []string // oldest first
	rows   int
}

// monthID names a computed month: the same id, the same rows.
func monthID(tenant string, m usage.Month, f MonthFilter, mark string) string {
	return fmt.Sprintf("%s %s %q %s", tenant, m, []any{f.Accounts, f.Plan, f.Meter}, mark)
}

func (p *pages) get(id string) *Month {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.months[id]
}

func (p *pages) put(id string, m *Month) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.months[id]; ok {
		p.rows -= len(known.Rows)
	} else {
		p.order = append(p.order, id)
	}
	p.months[id] = m
	p.rows += len(m.Rows)
	for p.rows > rowsKept && len(p.order) > 1 {
		p.rows -= len(p.months[p.order[0]].Rows)
		delete(p.months, p.order[0])
		p.order = p.order[1:]
	}
}
