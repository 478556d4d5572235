package months

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/report"
)

// settled waits, for as long as Config.SettleWait, for the cut of a close. Somebody who asks for one has everything in it
// that was acknowledged to anybody before: it waits until all is counted that the log held then, and until the log's clock
// has passed that and the month's end. As of an instant it is the log's clock alone that must have passed. A close that
// nobody asked for takes what is counted: what comes later makes a version by itself.
//
// The ledger is inserted last: what is counted by it is in every table that a version is computed from. The directory is
// among them as events, and folded when the version is computed.
func (k *Keeper) settled(ctx context.Context, q Request) (report.Cut, error) {
	s := settling{Keeper: k, q: q, deadline: time.Now().Add(k.cfg.SettleWait)}
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for {
		cut, err := s.cut(ctx)
		if err != nil || s.awaits == "" {
			return cut, err
		}
		if time.Now().After(s.deadline) && s.early != nil {
			return cut, s.early
		}
		if time.Now().After(s.deadline) {
			detail := s.awaits + ", after " + k.cfg.SettleWait.String() + "; countinghouse doctor tells whether an aggregator counts; ask again when it has"
			return report.Cut{}, &Refused{q.Month.String(), []Check{{Check: CheckLag, Status: Block, Detail: detail}}}
		}
		select {
		case <-ctx.Done():
			return report.Cut{}, fmt.Errorf("%s: %w", s.awaits, ctx.Err())
		case <-tick.C:
		}
	}
}

// settling is a close that waits.
type settling struct {
	*Keeper
	q        Request
	deadline time.Time
	held     map[uint16]uint64 // by partition: what the log held when it was asked for; nil: not known yet
	awaits   string            // what is waited for; "" nothing
	early    error             // that the instant asked for is not settled, where that is waited for
}

// cut is the cut of this moment. Unless awaits is empty, it is not the one to close with.
func (s *settling) cut(ctx context.Context) (report.Cut, error) {
	s.awaits, s.early = "", nil
	end := s.q.Month.End().Millis()
	if s.q.AsOf != 0 || s.q.By == Automatic {
		return s.passed(ctx, max(s.q.AsOf, end))
	}
	if s.held == nil {
		held, err := s.Audit.Heads(ctx)
		if err != nil {
			s.log.Debug("the log does not say how far it goes", zap.Error(err))
			s.awaits = "the log does not say how far it goes"
			return report.Cut{}, ctx.Err()
		}
		s.held = held
	}
	cut, err := s.Reports.CutNow(ctx)
	if err != nil {
		return cut, err
	}
	shards, counted := cut.Newest()
	if late := behind(counted, s.held); len(late) > 0 {
		s.awaits = "what the log held when the close was asked for is not counted yet: " + strings.Join(late, ", ")
		return cut, nil
	}
	places := map[uint16]uint64{}
	for p, seq := range s.held {
		if seq > 0 {
			places[shards[p]] = seq
		}
	}
	at, err := s.Reports.LoggedAt(ctx, places)
	if err != nil {
		return cut, err
	}
	if cut.AsOf < at {
		s.awaits = "counted for certain: what was recorded up to " + report.Instant(cut.AsOf).String() + ", and the log held what was recorded at " + report.Instant(at).String()
		return cut, nil
	}
	if cut.AsOf < end {
		return s.passed(ctx, end)
	}
	return cut, nil
}

// passed is the cut as of an instant, or the one of this moment where no instant was asked for and the log's clock has
// passed the one that must have passed.
func (s *settling) passed(ctx context.Context, at int64) (report.Cut, error) {
	if s.q.AsOf == 0 {
		if cut, err := s.Reports.CutNow(ctx); err != nil || cut.AsOf >= at {
			return cut, err
		}
	}
	cut, err := s.Reports.CutAt(ctx, at)
	if err == nil || at > s.Now().UnixMilli() && at > time.Now().UnixMilli() {
		return cut, err
	}
	s.early = err
	s.awaits = "the log's clock has not passed " + report.Instant(at).String()
	return cut, nil
}

// behind are the partitions that are not counted up to what the log held.
func behind(counted, held map[uint16]uint64) (late []string) {
	for _, p := range slices.Sorted(maps.Keys(held)) {
		if counted[p] < held[p] {
			late = append(late, fmt.Sprintf("partition %d up to %d of %d", p, counted[p], held[p]))
		}
	}
	return late
}
