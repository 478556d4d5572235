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
// (I14).
const (
	behindWait = 30 * time.Second
	behindPoll = 500 * time.Millisecond
)

// errMoved says that another aggregator has begun a new incarnation meanwhile: look anew.
var errMoved = errors.New("another aggregator has begun a new incarnation")

// beginning is where a session goes on reading.
type beginning struct {
	shard   uint16
	start   uint64    // the last sequence that need not be read
	hash    [16]byte  // of the message there; zero: not known
	created time.Time // of the stream that this was decided by
}

// takeOver becomes the writer of the partition's newest shard and answers where to read on. Normally that
// is behind progress. When the stream is not the one that was counted, a new incarnation begins behind
// the longest common prefix.
//
// The order is what makes it safe beside another aggregator that sees another log: the old shard is taken
// over first, so that its progress is final; then the new one; and only if the old one is still ours
// after that, it has ended: whoever takes it over from then on finds the new one in the list.
func (p *partition) takeOver(ctx context.Context, floor uint64) (*warehouse.Writer, beginning, error) {
	info, err := p.log.Info(ctx, int(p.id)) // first: without a log there is nothing to own a shard for
	if err != nil {
		return nil, beginning{}, err
	}
	earlier, shard, err := p.shards(ctx)
	if err != nil {
		return nil, beginning{}, err
	}
	writer, err := p.warehouse.TakeOver(ctx, shard, floor, p.cfg.Name)
	if err != nil {
		return nil, beginning{}, err
	}
	at, same, err := p.follow(ctx, shard, earlier, writer.Progress())
	at.created = info.Created
	if err == nil && same {
		return writer, at, nil
	}
	defer writer.Close()
	if err != nil {
		return nil, beginning{}, err
	}
	if Incarnation(shard) == incarnationMost {
		return nil, beginning{}, fmt.Errorf("%w: the stream of partition %d was recreated %d times; there are no more incarnations", errBroken, p.id, incarnationMost)
	}
	counted := writer.Progress().Seq
	at.shard = shard + 1<<incarnationShift
	p.ended[shard] = counted
	p.zap.Error("the log is not the one that was counted: its stream was recreated or lost its end; beginning a new incarnation; see the runbook: log-recreated",
		zap.Uint16("shard", shard), zap.Uint64("counted_to", counted), zap.Uint64("common_to", at.start), zap.Uint16("new_shard", at.shard))
	if counted > at.start {
		p.lose(eventlog.Gap{From: at.start + 1, To: counted})
	}
	next, err := p.warehouse.TakeOver(ctx, at.shard, floor, p.cfg.Name)
	if err != nil {
		return nil, beginning{}, err
	}
	if err := writer.Owns(ctx); err != nil {
		next.Close()
		return nil, beginning{}, err
	}
	if next.Progress().Found {
		next.Close()
		return nil, beginning{}, errMoved
	}
	return next, at, nil
}

// shards lists the incarnations of the partition: those that have ended, oldest first, and the newest.
func (p *partition) shards(ctx context.Context) (earlier []uint16, newest uint16, err error) {
	all, err := p.warehouse.Shards(ctx, p.id)
	if err != nil {
		return nil, 0, fmt.Errorf("read the incarnations of partition %d: %w", p.id, err)
	}
	if len(all) == 0 {
		return nil, Shard(p.id, 0), nil
	}
	return all[:len(all)-1], all[len(all)-1], nil
}

// follow reports whether the log goes on from what was counted of shard, of which the caller is the owner,
// and where to read on; if not, where a new incarnation begins.
func (p *partition) follow(ctx context.Context, shard uint16, earlier []uint16, done warehouse.Progress) (at beginning, same bool, err error) {
	switch _, newest, err := p.shards(ctx); {
	case err != nil:
		return at, false, err
	case newest != shard:
		return at, false, errMoved
	}
	p.ended = endings{}
	before, counted := shard, done.Seq // what the log must agree with
	for _, s := range earlier {
		ended, err := p.warehouse.Progress(ctx, s)
		if err != nil {
			return at, false, err
		}
		p.ended[s] = ended.Seq
		if !done.Found {
			before, counted = s, ended.Seq
		}
	}
	at = beginning{shard: shard, start: done.Seq, hash: done.Hash}
	if done.Found && done.Seq > 0 {
		if same, err = p.continues(ctx, shard, done.Seq); err != nil || same {
			return at, same, err
		}
	}
	at.hash = [16]byte{} // checked here
	at.start, err = p.commonPrefix(ctx, before, counted)
	return at, !done.Found, err
}

// tailMarks is how many counted messages are looked for in the log, newest first, until one is there.
const tailMarks = 64

// continues reports whether the log still holds what was counted up to seq.
func (p *partition) continues(ctx context.Context, shard uint16, seq uint64) (bool, error) {
	deadline := time.Now().Add(behindWait)
	for {
		info, err := p.log.Info(ctx, int(p.id))
		if err != nil {
			return false, err
		}
		if info.Last >= seq {
			break
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		p.zap.Warn("the log ends before what was counted; waiting for it to catch up",
			zap.Uint64("log", info.Last), zap.Uint64("counted_to", seq))
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(behindPoll):
		}
	}
	marks, err := p.warehouse.LedgerTail(ctx, shard, tailMarks)
	if err != nil {
		return false, err
	}
	for _, mark := range marks {
		m, err := p.log.Get(ctx, int(p.id), mark.Seq)
		switch {
		case errors.Is(err, eventlog.ErrNotFound): // a hole then, or since: an older one decides
		case err != nil:
			return false, err
		default:
			return !mark.Missing && m.Hash == mark.Hash, nil
		}
	}
	return true, nil // holes, or damage: audit names them; what follows can still be read
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
	mark, found, err := p.warehouse.LedgerAt(ctx, shard, seq)
	if err != nil || !found {
		return false, err
	}
	m, err := p.log.Get(ctx, int(p.id), seq)
	if errors.Is(err, eventlog.ErrNotFound) {
		return mark.Missing, nil
	}
	if err != nil {
		return false, err
	}
	return !mark.Missing && mark.Hash == m.Hash, nil
}
