package eventlog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// receipts remembers the highest receipt of each partition: a message that is published after one was
// confirmed, and gets a sequence that is not higher, proves that the log has lost what it confirmed. Nobody
// else can know it: what was above the warehouse's progress left no trace anywhere.
type receipts struct {
	mu      sync.Mutex
	highest map[int]confirmed
	onLost  func(partition int, lost Gap)
}

type confirmed struct {
	seq uint64
	at  time.Time
}

// OnLost is told of sequences that the log confirmed to this program and has given to other messages since:
// their ends are those that it saw. One call for each loss, which is logged already.
func (l *Log) OnLost(call func(partition int, lost Gap)) {
	l.receipts.mu.Lock()
	defer l.receipts.mu.Unlock()
	l.receipts.onLost = call
}

// confirm notes a fresh receipt of a message that was first sent at begun.
func (l *Log) confirm(r Receipt, begun time.Time) {
	c := &l.receipts
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.highest == nil {
		c.highest = map[int]confirmed{}
	}
	had := c.highest[r.Partition]
	if r.Seq <= had.seq {
		if !begun.After(had.at) { // sent before the other was confirmed: they overtook each other
			return
		}
		lost := Gap{From: r.Seq, To: had.seq}
		l.log.Error("the log has lost messages that it had confirmed: the same sequences are given again; have what was sent then sent again; see the runbook: log-gap",
			zap.Int("partition", r.Partition), zap.Uint64("from", lost.From), zap.Uint64("to", lost.To))
		if c.onLost != nil {
			c.onLost(r.Partition, lost)
		}
	}
	c.highest[r.Partition] = confirmed{seq: r.Seq, at: time.Now()}
}

// Deleted lists what is missing between the first and the last sequence of a partition, and before the
// first: nothing may be deleted there, so it is damage.
func (l *Log) Deleted(ctx context.Context, partition int) ([]Gap, error) {
	if err := l.valid(partition); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := l.conn.js.Stream(ctx, streamName(partition))
	if err != nil {
		return nil, fmt.Errorf("deleted of partition %d: %w", partition, l.conn.apiError(err))
	}
	info, err := stream.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return nil, fmt.Errorf("deleted of partition %d: %w", partition, l.conn.apiError(err))
	}
	var gaps []Gap
	if first := info.State.FirstSeq; first > 1 {
		gaps = append(gaps, Gap{From: 1, To: first - 1})
	}
	for _, seq := range info.State.Deleted {
		if n := len(gaps); n > 0 && gaps[n-1].To+1 == seq {
			gaps[n-1].To = seq
		} else {
			gaps = append(gaps, Gap{From: seq, To: seq})
		}
	}
	return gaps, nil
}
