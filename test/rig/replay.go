package rig

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// memory is what a load that remembers has had acknowledged.
type memory struct {
	mu   sync.Mutex
	sent []remembered
}

type remembered struct {
	producer *producer
	viaHTTP  bool
	request  *request
}

func (m *memory) keep(p *producer, viaHTTP bool, q *request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = append(m.sent, remembered{p, viaHTTP, q})
}

// Replay sends everything again that was ever acknowledged, as producers do when the log has lost it. The
// load must have been stopped, and its rig made with Remember.
func (l *Load) Replay() (requests int) {
	for _, m := range l.memory.sent {
		if !m.producer.deliver(m.viaHTTP, m.request) {
			break
		}
		requests++
	}
	l.http.CloseIdleConnections()
	return requests
}

// Audit compares the log with the warehouse, as `countinghouse audit` does.
func (r *Rig) Audit(ctx context.Context) (*audit.Certificate, error) {
	w, err := warehouse.Open(ctx, r.clickHouseConfig(nil), zap.NewNop())
	if err != nil {
		return nil, err
	}
	defer w.Close()
	l, err := eventlog.Dial(eventlog.Config{URL: r.natsURL(nil), Partitions: r.opts.Partitions}, zap.NewNop())
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return audit.New(l, w, zap.NewNop()).Run(ctx, audit.Options{})
}
