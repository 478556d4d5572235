package aggregator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// A log that ends before what was counted has lost data (a power cut under lazy sync, a restored backup)
// or is still catching up after a leader election: it gets this long before it is believed
// (architecture 3, point 7).
const (
	behindWait = 30 * time.Second
	behindPoll = 500 * time.Millisecond
)

// incarnation answers the shard to write and the last sequence that need not be read. Normally that is
// the newest shard of the partition and nothing at all, because the ledger knows progress. When the
// stream is not the one that was counted, a new incarnation begins behind the longest common prefix.
func (p *partition) incarnation(ctx context.Context) (shard uint16, start uint64, err error) {
	shards, err := p.warehouse.Shards(ctx, p.id)
	if err != nil {
		return 0, 0, fmt.Errorf("read the incarnations of partition %d: %w", p.id, err)
	}
	p.ended = endings{}
	shard = Shard(p.id, 0)
	var before *warehouse.Progress
	for i, s := range shards { // oldest first
		if i == len(shards)-1 {
			shard = s
			break
		}
		done, err := p.warehouse.Progress(ctx, s)
		if err != nil {
			return 0, 0, err
		}
		p.ended[s] = done.Seq
		before = &done
	}
	done, err := p.warehouse.Progress(ctx, shard)
	if err != nil {
		return 0, 0, err
	}
	if !done.Found && before != nil {
		// The incarnation was begun, but nothing of it was counted yet.
		start, err = p.commonPrefix(ctx, shard-1<<incarnationShift, before.Seq)
		return shard, start, err
	}
	if !done.Found || done.Seq == 0 {
		return shard, 0, nil
	}
	same, err := p.continues(ctx, done)
	if err != nil || same {
		return shard, done.Seq, err
	}
	if start, err = p.commonPrefix(ctx, shard, done.Seq); err != nil {
		return 0, 0, err
	}
	p.ended[shard] = done.Seq
	next := shard + 1<<incarnationShift
	p.zap.Error("the log is not the one that was counted: its stream was recreated or lost its end; beginning a new incarnation; see the runbook: log-recreated",
		zap.Uint16("shard", shard), zap.Uint64("counted_to", done.Seq), zap.Uint64("common_to", start), zap.Uint16("new_shard", next))
	return next, start, nil
}

// continues reports whether the log still holds, at progress, the message that was counted there.
func (p *partition) continues(ctx context.Context, done warehouse.Progress) (bool, error) {
	deadline := time.Now().Add(behindWait)
	for {
		info, err := p.log.Info(ctx, int(p.id))
		if err != nil {
			return false, err
		}
		if info.Last >= done.Seq {
			break
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		p.zap.Warn("the log ends before what was counted; waiting for it to catch up",
			zap.Uint64("log", info.Last), zap.Uint64("counted_to", done.Seq))
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(behindPoll):
		}
	}
	m, err := p.log.Get(ctx, int(p.id), done.Seq)
	if errors.Is(err, eventlog.ErrNotFound) {
		return true, nil // a hole, or damage: audit names it; what follows can still be read
	}
	if err != nil {
		return false, err
	}
	return m.Hash == done.Hash || done.Hash == [16]byte{}, nil // a zero hash is the row of a missing sequence
}

// commonPrefix is the highest sequence up to which log and ledger hold the same messages.
func (p *partition) commonPrefix(ctx context.Context, shard uint16, counted uint64) (uint64, error) {
	info, err := p.log.Info(ctx, int(p.id))
	if err != nil {
		return 0, err
	}
	low, high := uint64(0), min(counted, info.Last) // low is common, above high nothing is
	for low < high {
		mid := high - (high-low)/2
		same, err := p.sameAt(ctx, shard, mid)
		if err != nil {
			return 0, err
		}
		if same {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low, nil
}

func (p *partition) sameAt(ctx context.Context, shard uint16, seq uint64) (bool, error) {
	m, err := p.log.Get(ctx, int(p.id), seq)
	if errors.Is(err, eventlog.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	hash, found, err := p.warehouse.LedgerHash(ctx, shard, seq)
	if err != nil {
		return false, err
	}
	return found && hash == m.Hash, nil
}
