package eventlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	id  string // of the message
}

// OnLost is told of sequences that the log confirmed to this program and has given to other messages since:
// their ends are those that it saw. One call for each loss, which is logged already.
func (l *Log) OnLost(call func(partition int, lost Gap)) {
	l.receipts.mu.Lock()
	defer l.receipts.mu.Unlock()
	l.receipts.onLost = call
}

// confirm notes a fresh receipt of a message that was first sent at begun.
func (l *Log) confirm(r Receipt, begun time.Time, id string) {
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
		l.lost(r.Partition, Gap{From: r.Seq, To: had.seq})
	}
	c.highest[r.Partition] = confirmed{seq: r.Seq, at: time.Now(), id: id}
}

// lost tells of a loss. The caller holds the lock of receipts.
func (l *Log) lost(partition int, lost Gap) {
	l.log.Error("the log has lost messages that it had confirmed; have what was sent then sent again; see the runbook: log-gap",
		zap.Int("partition", partition), zap.Uint64("from", lost.From), zap.Uint64("to", lost.To))
	if l.receipts.onLost != nil {
		l.receipts.onLost(partition, lost)
	}
}

// CheckReceipts asks whether the log still holds the last message that it confirmed to this program, in each
// partition. It is for a new connection: the server may have lost the end of its log while it was away, and
// others may have taken those sequences before anything is published here.
func (l *Log) CheckReceipts(ctx context.Context) error {
	l.receipts.mu.Lock()
	highest := maps.Clone(l.receipts.highest)
	l.receipts.mu.Unlock()
	for p, had := range highest {
		info, err := l.Info(ctx, p)
		if err != nil {
			return err
		}
		m, err := l.Get(ctx, p, had.seq)
		gap := Gap{From: had.seq, To: had.seq}
		switch {
		case err == nil && m.MsgID() == had.id:
			continue
		case err == nil: // somebody else's by now; where the loss began is not known here
		case !errors.Is(err, ErrNotFound):
			return err
		case info.Replicas > 1: // perhaps a new leader that is catching up
			continue
		case info.Last < had.seq:
			gap.From = info.Last + 1
		}
		l.receipts.mu.Lock()
		if l.receipts.highest[p] == had {
			delete(l.receipts.highest, p) // told once
			l.lost(p, gap)
		}
		l.receipts.mu.Unlock()
	}
	return nil
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
