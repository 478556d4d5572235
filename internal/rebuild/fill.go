package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/aggregator"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// prepare makes the new tables, empty but for what nothing can replay. Those of an interrupted run are filled
// on, if they are of the same shape.
func (r *run) prepare(ctx context.Context) error {
	if r.Fresh || len(r.Only) > 0 { // what was linked before may have been damaged since
		if err := r.drop(ctx); err != nil {
			return err
		}
	}
	if err := r.room(ctx); err != nil {
		return err
	}
	err := r.patiently(ctx, "make the new tables", func(ctx context.Context) error { return r.twins.Migrate(ctx, nil) })
	if err != nil && !passing(err) && ctx.Err() == nil {
		r.zap.Info("the tables of an interrupted run are of another shape; beginning again", zap.Error(err))
		if err := r.drop(ctx); err != nil {
			return err
		}
		err = r.patiently(ctx, "make the new tables", func(ctx context.Context) error { return r.twins.Migrate(ctx, nil) })
	}
	if err != nil {
		return err
	}
	faultpoint.Hit("rebuild/made")
	r.linked, r.result.Carried = map[warehouse.Section]bool{}, []Carried{} // of this round
	for i, w := range r.old.All() {
		whole, err := r.whole(ctx, w)
		if err != nil {
			return err
		}
		if err := r.carry(ctx, i, whole); err != nil {
			return err
		}
		if err := r.link(ctx, w, whole); err != nil {
			return err
		}
	}
	r.result.Linked = len(r.linked)
	return nil
}

// drop removes what an interrupted run has filled.
func (r *run) drop(ctx context.Context) error {
	return r.patiently(ctx, "drop the tables of an interrupted run", func(ctx context.Context) error {
		for _, w := range r.old.All() {
			twin, found, err := w.Twin(ctx)
			if err != nil {
				return err
			}
			if !found {
				continue
			}
			if err := twin.Drop(ctx); err != nil {
				return err
			}
		}
		return r.old.DropReader(ctx)
	})
}

// roomShare is what the new tables may take: they are merged less at first, and the old ones grow meanwhile.
const roomShare = 130 // percent of the old ones

// room refuses a disk that cannot hold both.
func (r *run) room(ctx context.Context) error {
	plan, err := r.plan(ctx)
	if err != nil {
		return err
	}
	for _, s := range plan.Servers {
		if s.Need > s.Free+s.Twin {
			return fmt.Errorf("%w: %s has %d bytes free and wants about %d more for the new tables", ErrNoRoom, s.Server, s.Free, s.Need-s.Twin)
		}
	}
	return nil
}

// carry copies the rows of incarnations that have ended: their streams are gone. Their owner rows come last: a
// run that finds none has been interrupted and copies into new tables.
// Partitions that are taken as they are have them already.
func (r *run) carry(ctx context.Context, server int, whole map[string][]string) error {
	old, twin := r.old.All()[server], r.twins.All()[server]
	ended, err := r.ended(ctx, old)
	if err != nil || len(ended) == 0 {
		return err
	}
	for shard, seq := range ended {
		r.result.Carried = append(r.result.Carried, Carried{shard, seq})
	}
	slices.SortFunc(r.result.Carried, func(a, b Carried) int { return int(a.Shard) - int(b.Shard) })
	var known []uint16
	if err := r.patiently(ctx, "list the shards of the new tables", func(ctx context.Context) (err error) {
		known, err = twin.AllShards(ctx)
		return err
	}); err != nil {
		return err
	}
	missing := 0
	for shard := range ended {
		if !slices.Contains(known, shard) {
			missing++
		}
	}
	switch {
	case missing == 0:
		return nil
	case missing < len(ended):
		return fmt.Errorf("%w: partitions ended while an earlier run was at work", ErrRecreated)
	}
	if err := r.remake(ctx, server); err != nil {
		return err
	}
	t, found, err := old.Twin(ctx)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s: %w", old.Address(), errGone)
	}
	for _, table := range append(warehouse.Projections(), "owner") {
		// Not repeated: half of a copy cannot be told from a whole one. The next run begins with new tables.
		if err := t.Copy(ctx, table, ended, whole[table]); err != nil {
			return err
		}
		faultpoint.Hit("rebuild/carried")
	}
	return nil
}

// remake makes the new tables of a server anew if there is anything in them.
func (r *run) remake(ctx context.Context, server int) error {
	return r.patiently(ctx, "make the new tables again", func(ctx context.Context) error {
		tables, err := r.twins.All()[server].Tables(ctx)
		if err != nil {
			return err
		}
		empty := true
		for _, name := range warehouse.Projections() {
			empty = empty && tables[name].Rows == 0
		}
		if empty {
			return nil
		}
		twin, found, err := r.old.All()[server].Twin(ctx)
		if err == nil && found {
			err = twin.Drop(ctx)
		}
		if err != nil {
			return err
		}
		return r.twins.Migrate(ctx, nil)
	})
}

// ended are the incarnations of a server's partitions that have a successor, and how far each was counted.
func (r *run) ended(ctx context.Context, w *warehouse.Warehouse) (map[uint16]uint64, error) {
	ended := map[uint16]uint64{}
	err := r.patiently(ctx, "list the shards", func(ctx context.Context) error {
		clear(ended)
		shards, err := w.AllShards(ctx)
		if err != nil {
			return err
		}
		newest := newest(shards)
		for _, s := range shards {
			if s == newest[aggregator.Partition(s)] {
				continue
			}
			p, err := w.Progress(ctx, s)
			if err != nil {
				return err
			}
			ended[s] = p.Seq
		}
		return nil
	})
	return ended, err
}

// newest is the last incarnation of each partition among shards.
func newest(shards []uint16) map[uint16]uint16 {
	last := map[uint16]uint16{}
	for _, s := range shards {
		last[aggregator.Partition(s)] = max(last[aggregator.Partition(s)], s)
	}
	return last
}

func (r *run) replayConfig() aggregator.Config {
	cfg := aggregator.DefaultConfig()
	cfg.Name, cfg.Dir = r.Holder, filepath.Join(r.Dir, "filters")
	return cfg
}

// place puts a partition of the new tables on the server that has the old ones.
func (r *run) place(ctx context.Context, partition int, _ string) (string, error) {
	w, err := r.old.Of(ctx, uint16(partition), r.leases.Place)
	if err != nil {
		return "", err
	}
	i := slices.Index(r.old.All(), w)
	return r.twins.All()[max(i, 0)].Address(), nil
}

const (
	catchUpTick = 500 * time.Millisecond
	// catchUpTicks: a replay that is so little behind counts the rest while the owners stand still. On a machine at
	// its limit it is never closer.
	catchUpTicks = 10
	settleWait   = time.Minute
)

// catchUp waits until the replay is where the log was a moment ago: catchUpTicks at most.
func (r *run) catchUp(ctx context.Context, replay *aggregator.Replay) error {
	tick := time.NewTicker(catchUpTick)
	defer tick.Stop()
	var before [][]uint64 // the ends of the log at the last ticks, oldest first
	for {
		last := make([]uint64, r.Log.Partitions())
		var total uint64
		known := true
		for p := range last {
			info, err := r.Log.Info(ctx, p)
			if err != nil && !passing(err) {
				return err
			}
			known = known && err == nil
			last[p] = info.Last
			total += info.Last
		}
		counted := replay.Counted()
		caughtUp, done := len(before) > 0, uint64(0)
		for p := range counted {
			caughtUp = caughtUp && counted[p] >= before[0][p]
		}
		for _, seq := range counted {
			done += seq
		}
		r.result.Messages = done
		r.Progress(Progress{Phase: PhaseReplay, Done: done, Total: max(total, done), Note: replay.Trouble()})
		if caughtUp && known {
			return nil
		}
		if known {
			before = append(before, last)
			before = before[max(0, len(before)-catchUpTicks):]
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-replay.Ended():
			return replay.Close()
		case <-tick.C:
		}
	}
}

// settle takes the old tables' watermark as the cut of the proof, and waits until the new ones have it.
func (r *run) settle(ctx context.Context, replay *aggregator.Replay, before *report.Reports) (cut report.Cut, err error) {
	if err := r.patiently(ctx, "read the watermark", func(ctx context.Context) (err error) {
		cut, err = before.CutNow(ctx)
		return err
	}); err != nil {
		return cut, err
	}
	err = r.await(ctx, replay, r.twins.Reader(), cut.Shards)
	return cut, err
}

// await waits until the new tables have counted some shards so far.
func (r *run) await(ctx context.Context, replay *aggregator.Replay, w *warehouse.Warehouse, to map[uint16]uint64) error {
	deadline := time.Now().Add(settleWait)
	tick := time.NewTicker(retry / 10)
	defer tick.Stop()
	for {
		behind, err := r.behind(ctx, w, to)
		if err != nil || behind == "" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the new tables are behind: %s", behind)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-replay.Ended():
			return errors.Join(replay.Close(), fmt.Errorf("the new tables are behind: %s", behind))
		case <-tick.C:
		}
	}
}

// behind names a shard of which the new tables have less; "" if there is none.
func (r *run) behind(ctx context.Context, w *warehouse.Warehouse, to map[uint16]uint64) (text string, err error) {
	err = r.patiently(ctx, "read the progress of the new tables", func(ctx context.Context) error {
		text = ""
		shards, err := w.AllShards(ctx)
		if err != nil {
			return err
		}
		for _, s := range slices.Sorted(maps.Keys(to)) {
			p, err := w.Progress(ctx, s)
			if err != nil {
				return err
			}
			if p.Seq >= to[s] {
				continue
			}
			text = fmt.Sprintf("shard %d is at %d and not at %d", s, p.Seq, to[s])
			for _, later := range shards {
				if later > s && aggregator.Partition(later) == aggregator.Partition(s) {
					return fmt.Errorf("%w: %s", ErrRecreated, text)
				}
			}
		}
		return nil
	})
	return text, err
}
