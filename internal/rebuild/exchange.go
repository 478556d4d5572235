package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/aggregator"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// The order is what makes an exchange safe, and no step may move:
//
//  1. each server notes that an exchange has begun, with the UUIDs of the new tables: from now on nobody takes a
//     shard over;
//  2. the owners of all shards step down: from now on nobody writes;
//  3. the replay counts what they had counted, and ends;
//  4. the new database gets a name that nobody else knows: from now on nobody else can exchange anything;
//  5. whoever has made us step down since has done so before 4: we look, and stop;
//  6. the tables change places, the ledger last; one that has the new UUID has done so;
//  7. each server notes that the exchange is over, in the same order as in 1.
//
// A run that finds an exchange begun goes through 2, 4, 5, 6 and 7 if any table has changed its place, because
// then 3 was over; and else it takes the note of 1 back.

// held are the shards of the old tables, of whose owners we are the last.
type held []*warehouse.Writer

// owned is ErrFenced if somebody has come after us.
func (h held) owned(ctx context.Context) error {
	for _, w := range h {
		if err := w.Owns(ctx); err != nil {
			return err
		}
	}
	return nil
}

// exchange lets the new tables take the old ones' places.
func (r *run) exchange(ctx context.Context, replay *aggregator.Replay) error {
	begun := time.Now()
	r.Progress(Progress{Phase: PhaseExchange, Total: uint64(len(warehouse.Projections()) * len(r.old.All()))})
	owners, err := r.standStill(ctx, replay)
	if err != nil {
		// Nothing was exchanged: the aggregators may go on.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return errors.Join(err, r.undo(after))
	}
	// From here on there is one way, and it is short.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := r.finish(ctx, owners); err != nil {
		return fmt.Errorf("%w; run countinghouse rebuild again: until it has ended nothing is counted", err)
	}
	r.result.PausedFor = duration(time.Since(begun))
	return nil
}

// standStill goes through steps 1 to 3.
func (r *run) standStill(ctx context.Context, replay *aggregator.Replay) (held, error) {
	r.steps = make([]warehouse.Exchange, len(r.old.All()))
	for i, w := range r.old.All() {
		if err := r.announce(ctx, i, w, r.twins.All()[i]); err != nil {
			return nil, err
		}
		faultpoint.Hit("rebuild/announced")
	}
	owners, err := r.stepDown(ctx)
	if err != nil {
		return nil, err
	}
	faultpoint.Hit("rebuild/stepped-down")
	to := map[uint16]uint64{}
	for _, o := range owners {
		if p := o.Progress(); p.Found {
			to[o.Shard()] = p.Seq
		}
	}
	if err := r.await(ctx, replay, r.twins.Reader(), to); err != nil {
		return nil, err
	}
	if err := replay.Close(); err != nil {
		return nil, err
	}
	faultpoint.Hit("rebuild/replay-ended")
	return owners, nil
}

// announce is step 1 on one server. An answer that was lost is asked for again: it may be there.
func (r *run) announce(ctx context.Context, server int, w, twin *warehouse.Warehouse) error {
	return r.patiently(ctx, "announce the exchange", func(ctx context.Context) error {
		last, err := w.LastExchange(ctx)
		if err != nil {
			return err
		}
		if last.Step == warehouse.StepExchanging && last.Holder == r.Holder {
			r.steps[server] = last
			return nil
		}
		tables, err := twin.Tables(ctx)
		if err != nil {
			return err
		}
		next := warehouse.Exchange{N: last.N + 1, Step: warehouse.StepExchanging, Tables: map[string]uuid.UUID{}, Holder: r.Holder}
		for _, name := range warehouse.Projections() {
			next.Tables[name] = tables[name].UUID
		}
		r.steps[server] = next // before: it may be there although the answer is lost
		return w.SetExchange(ctx, next)
	})
}

// stepDown is step 2: of every partition the newest shard; the others have nobody.
func (r *run) stepDown(ctx context.Context) (held, error) {
	var owners held
	for _, w := range r.old.All() {
		var last map[uint16]uint16
		if err := r.patiently(ctx, "list the shards", func(ctx context.Context) error {
			shards, err := w.AllShards(ctx)
			last = newest(shards)
			return err
		}); err != nil {
			return nil, err
		}
		for _, p := range slices.Sorted(maps.Keys(last)) {
			if err := r.patiently(ctx, "make the owners step down", func(ctx context.Context) error {
				wr, err := w.StepDown(ctx, last[p], r.Holder)
				if err == nil {
					owners = append(owners, wr)
				}
				return err
			}); err != nil {
				return nil, err
			}
		}
	}
	return owners, nil
}

// finish goes through steps 4 to 7 on every server that has not ended.
func (r *run) finish(ctx context.Context, owners held) error {
	twins := make([]*warehouse.Twin, len(r.old.All()))
	for i, w := range r.old.All() {
		if err := r.patiently(ctx, "take the new tables", func(ctx context.Context) error {
			twin, found, err := w.Twin(ctx)
			if err != nil {
				return err
			}
			if !found {
				return fmt.Errorf("%s: %w", w.Address(), errGone)
			}
			twins[i] = twin
			return twin.Take(ctx, false)
		}); err != nil {
			return err
		}
		faultpoint.Hit("rebuild/taken")
	}
	for i, w := range r.old.All() {
		if err := r.exchangeOn(ctx, w, twins[i], r.steps[i], owners); err != nil {
			return err
		}
	}
	for i, w := range r.old.All() {
		if err := r.conclude(ctx, w, r.steps[i], warehouse.StepExchanged); err != nil {
			return err
		}
		faultpoint.Hit("rebuild/concluded")
	}
	r.result.Exchanged = true
	return nil
}

// exchangeOn is steps 5 and 6 on one server.
func (r *run) exchangeOn(ctx context.Context, w *warehouse.Warehouse, twin *warehouse.Twin, last warehouse.Exchange, owners held) error {
	if last.Step != warehouse.StepExchanging {
		return nil // an earlier run has concluded here
	}
	for n, name := range warehouse.Projections() {
		if err := r.patiently(ctx, "exchange "+name, func(ctx context.Context) error {
			if err := owners.owned(ctx); err != nil {
				return err
			}
			tables, err := w.Tables(ctx)
			if err != nil || tables[name].UUID == last.Tables[name] {
				return err // an answer was lost, or an earlier run did it
			}
			return twin.Exchange(ctx, name)
		}); err != nil {
			return err
		}
		faultpoint.Hit("rebuild/exchanged")
		r.Progress(Progress{Phase: PhaseExchange, Done: uint64(n + 1), Total: uint64(len(warehouse.Projections()))})
	}
	return nil
}

// conclude notes the end of an exchange on one server, under the number that follows its beginning: whoever says so
// late, of an exchange that is long over, changes nothing.
func (r *run) conclude(ctx context.Context, w *warehouse.Warehouse, begun warehouse.Exchange, step string) error {
	if begun.Step != warehouse.StepExchanging {
		return nil
	}
	return r.patiently(ctx, "conclude the exchange", func(ctx context.Context) error {
		return w.SetExchange(ctx, warehouse.Exchange{N: begun.N + 1, Step: step, Holder: r.Holder})
	})
}

// undo takes the note of step 1 back. Nothing has been exchanged.
func (r *run) undo(ctx context.Context) error {
	for i, w := range r.old.All() {
		if err := r.conclude(ctx, w, r.steps[i], warehouse.StepUndone); err != nil {
			return err
		}
	}
	return nil
}

// resume finishes or undoes what an interrupted run has begun to exchange, and drops what it has left over.
// True: the tables are the new ones, and there is nothing more to do.
func (r *run) resume(ctx context.Context) (finished bool, err error) {
	steps := make([]warehouse.Exchange, len(r.old.All()))
	r.steps = steps
	begun := false
	for i, w := range r.old.All() {
		if err := r.patiently(ctx, "read the exchange", func(ctx context.Context) (err error) {
			steps[i], err = w.LastExchange(ctx)
			return err
		}); err != nil {
			return false, err
		}
		begun = begun || steps[i].Step == warehouse.StepExchanging
	}
	if !begun {
		return false, r.leftOver(ctx)
	}
	owners, err := r.stepDown(ctx) // step 2
	if err != nil {
		return false, err
	}
	exchanged := steps[0].Step == warehouse.StepExchanged
	for i, w := range r.old.All() {
		if steps[i].Step != warehouse.StepExchanging {
			continue
		}
		some, err := r.anyExchanged(ctx, w, steps[i])
		if err != nil {
			return false, err
		}
		exchanged = exchanged || some
	}
	if !exchanged {
		r.zap.Info("an interrupted run had not exchanged anything; going on before that")
		return false, r.undo(ctx)
	}
	r.zap.Info("finishing the exchange of an interrupted run", zap.String("of", steps[0].Holder))
	r.result.Resumed = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := r.finish(ctx, owners); err != nil {
		return false, fmt.Errorf("%w; run countinghouse rebuild again: until it has ended nothing is counted", err)
	}
	return true, r.clean(ctx)
}

// anyExchanged takes the new tables of a server and looks whether any of them is in use: behind step 4 nobody but
// we can change that. If none is, the database gets its first name back.
func (r *run) anyExchanged(ctx context.Context, w *warehouse.Warehouse, last warehouse.Exchange) (some bool, err error) {
	err = r.patiently(ctx, "look what was exchanged", func(ctx context.Context) error {
		twin, found, err := w.Twin(ctx)
		if err == nil && found {
			err = twin.Take(ctx, false)
		}
		if err != nil {
			return err
		}
		tables, err := w.Tables(ctx)
		if err != nil {
			return err
		}
		for name, id := range last.Tables {
			some = some || tables[name].UUID == id
		}
		if !found || some {
			return nil
		}
		return twin.Take(ctx, true)
	})
	return some, err
}

// leftOver drops the old tables of a run that was killed before it did.
func (r *run) leftOver(ctx context.Context) error {
	return r.patiently(ctx, "drop the old tables of an interrupted run", func(ctx context.Context) error {
		for _, w := range r.old.All() {
			twin, found, err := w.Twin(ctx)
			if err != nil {
				return err
			}
			if !found || twin.Home() {
				continue
			}
			if err := twin.Drop(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// clean drops the old tables, or gives their database a name to stay under.
func (r *run) clean(ctx context.Context) error {
	r.Progress(Progress{Phase: PhaseDrop})
	if !r.Keep {
		if err := r.leftOver(ctx); err != nil {
			return err
		}
		faultpoint.Hit("rebuild/dropped")
		return r.patiently(ctx, "drop the reader of the new tables", r.old.DropReader)
	}
	return r.patiently(ctx, "keep the old tables", func(ctx context.Context) error {
		for _, w := range r.old.All() {
			twin, found, err := w.Twin(ctx)
			if err != nil {
				return err
			}
			if !found || twin.Home() {
				continue
			}
			name, err := twin.Retire(ctx, time.Now())
			if err != nil {
				return err
			}
			r.result.KeptIn = append(r.result.KeptIn, name)
		}
		return r.old.DropReader(ctx)
	})
}
