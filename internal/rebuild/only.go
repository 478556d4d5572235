package rebuild

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// A repair is a rebuild of some partitions. The others are linked into the new tables as they are: for the session that
// fills those they look like tables of an aggregator that was killed before it wrote its ledger. It reads the log from
// its beginning, decides about every event as it did before (a row is evidence only for what comes after it), and
// leaves out what a partition's own watermark says is there. So what arrives is what was lost.
//
// Rows that were written after others were lost may be wrong themselves: a producer's duplicate of a lost row was taken
// for the first of its kind. The new ledger says of which message on that is so, because no such mistake leaves the
// numbers of its message as they were; partitions with rows from there on are made again too, in a second round.

// ledger is made again always: it is how far the session has got.
const ledger = "ledger"

// only reports whether a table has a partition that is made again.
func (r *run) only(server, table string) bool {
	return table == ledger || slices.ContainsFunc(r.Only, func(s warehouse.Section) bool { return s.Server == server && s.Table == table })
}

// whole are the partitions of a server's tables that are taken as they are; none, where everything is made again.
func (r *run) whole(ctx context.Context, w *warehouse.Warehouse) (map[string][]string, error) {
	all := map[string][]string{}
	if len(r.Only) == 0 {
		return all, nil
	}
	var sections map[warehouse.Section]warehouse.Table
	if err := r.patiently(ctx, "list the partitions", func(ctx context.Context) (err error) {
		sections, err = w.Sections(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	for s := range sections {
		if s.Table != ledger && !slices.Contains(r.Only, s) {
			all[s.Table] = append(all[s.Table], s.Partition)
		}
	}
	for _, partitions := range all {
		slices.Sort(partitions)
	}
	return all, nil
}

// link puts the partitions that are taken as they are into the new tables. It is not repeated: half of it cannot be
// told from all of it, and the next run begins with new tables. Meanwhile these have a name that nobody else knows: a
// process that was frozen here, and comes back when another run is at work, must not put rows into that one's tables.
func (r *run) link(ctx context.Context, w *warehouse.Warehouse, whole map[string][]string) error {
	if len(whole) == 0 {
		return nil
	}
	twin, found, err := w.Twin(ctx)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s: %w", w.Address(), errGone)
	}
	if err := twin.Take(ctx, false); err != nil {
		return err
	}
	for _, table := range warehouse.Projections() {
		for _, partition := range whole[table] {
			if err := twin.Link(ctx, table, partition); err != nil {
				return err
			}
			r.linked[warehouse.Section{Server: w.Address(), Table: table, Partition: partition}] = true
		}
		faultpoint.Hit("rebuild/linked")
	}
	return twin.Take(ctx, true)
}

// tainted are the partitions that were taken as they are and have rows from the first message on of which the new tables
// tell otherwise.
func (r *run) tainted(ctx context.Context, cut report.Cut) (more []warehouse.Section, err error) {
	if len(r.Only) == 0 {
		return nil, nil
	}
	err = r.patiently(ctx, "look what was counted without the lost rows", func(ctx context.Context) error {
		more = nil
		for _, w := range r.old.All() {
			twin, found, err := w.Twin(ctx)
			if err != nil {
				return err
			}
			if !found {
				return fmt.Errorf("%s: %w", w.Address(), errGone)
			}
			first, err := twin.Parted(ctx, cut.Shards)
			if err != nil {
				return err
			}
			if len(first) == 0 {
				continue
			}
			r.zap.Info("rows were written after others were lost; what they are in is made again too", zap.Any("from", first))
			for _, table := range warehouse.Projections() {
				partitions, err := w.Since(ctx, table, first)
				if err != nil {
					return err
				}
				for _, p := range partitions {
					s := warehouse.Section{Server: w.Address(), Table: table, Partition: p}
					if r.linked[s] {
						more = append(more, s)
					}
				}
			}
		}
		return nil
	})
	return more, err
}

// need is the disk that a server's new tables may take: of partitions, as much as the largest of their table, because
// what was lost no longer says how much it was.
func (r *run) need(ctx context.Context, w *warehouse.Warehouse, all uint64) (uint64, error) {
	if len(r.Only) == 0 {
		return all / 100 * roomShare, nil
	}
	sections, err := w.Sections(ctx)
	if err != nil {
		return 0, err
	}
	largest := map[string]uint64{}
	for s, t := range sections {
		largest[s.Table] = max(largest[s.Table], t.Bytes)
	}
	need := largest[ledger]
	for _, s := range r.Only {
		if s.Server == w.Address() && s.Table != ledger {
			need += largest[s.Table]
		}
	}
	return min(need, all) / 100 * roomShare, nil
}

// verifyMonths hashes the closed versions again, of the tables that are in use now. What differs is said, and stays.
func (r *run) verifyMonths(ctx context.Context) error {
	return r.patiently(ctx, "hash the closed months again", func(ctx context.Context) error {
		proofs, err := months.Verify(ctx, r.Control, report.New(r.old.Reader(), time.Now), func(done, total int) {
			r.Progress(Progress{Phase: PhaseMonths, Done: uint64(done), Total: uint64(total)})
		})
		if err != nil {
			return err
		}
		r.result.Months, r.result.MonthsOK = proofs, true
		for _, p := range proofs {
			if !p.Same() {
				r.result.MonthsOK = false
				r.zap.Warn("a closed version of a month is not what the tables say", zap.String("tenant", p.Tenant), zap.String("month", p.Month),
					zap.Int("version", p.Version), zap.String("trouble", p.Trouble))
			}
		}
		return nil
	})
}
