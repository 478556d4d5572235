package report

import (
	"fmt"
	"sync"
)

// pagesMax bounds the months kept for the next page; one of 10,000 accounts takes about 20 MB.
const pagesMax = 8

// pages keeps computed months, so that following pages need not compute them again and agree with the
// first. A page that is gone is computed anew and goes on after the same row.
type pages struct {
	mu     sync.Mutex
	months map[string]*Month
	order  []string
}

// monthID names a computed month: the same id, the same rows.
func monthID(q MonthQuery, w Watermark) string {
	return fmt.Sprintf("%s %s %d %v", q.Tenant, q.Month, q.AsOf, w.Positions)
}

func (p *pages) get(id string) *Month {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.months[id]
}

func (p *pages) put(id string, m *Month) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.months[id]; !ok {
		if len(p.order) == pagesMax {
			delete(p.months, p.order[0])
			p.order = p.order[1:]
		}
		p.order = append(p.order, id)
	}
	p.months[id] = m
}
