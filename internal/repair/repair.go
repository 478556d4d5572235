// Package repair makes rows again that ClickHouse has lost (I29): a part whose files are damaged is put
// aside without a word, the watermark does not notice, and no aggregator ever writes below it.
//
// Guarantees:
//
//   - Only partitions that lack something are made again, from the log, beside the tables in use; every other partition
//     is taken as it is. What was made is audited against the log before anybody reads it.
//   - Events go on being counted meanwhile. Nobody writes while the tables change places: the owners of all shards are
//     made to step down, and no shard can be taken over until it is done. That is package rebuild's exchange, and all
//     that it survives this does.
//   - Nothing is repaired that the log does not prove. Where the log and the new tables differ nothing is exchanged.
//
// Closed months are not made again: they are hashed again afterwards, and what differs is said. Rows of a stream that is
// gone cannot be made again; what is left of them is kept.
package repair

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/rebuild"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Damage is a partition that lacks something, and what says so.
type Damage struct {
	warehouse.Section
	Why string `json:"why"`
}

// Options of a run.
type Options struct {
	Partitions []string // TABLE:PARTITION to make again whatever the tables say, on each server that may have it
	Keep       bool     // leave the old tables in a database of their own
	Questions  int      // about each report, as of a rebuild
	Progress   func(rebuild.Progress)
}

// Result is what a run did.
type Result struct {
	Damage []Damage `json:"damage"`
	rebuild.Result
	Left []Damage `json:"left"` // what still lacks something
}

var (
	// ErrUnplaced says that rows are missing and nothing tells of which partition.
	ErrUnplaced = errors.New("rows are missing, and nothing says of which partition: name it with --partition, or make everything again with countinghouse rebuild --accept-differences")
	// ErrPartition says that a partition was named that cannot be.
	ErrPartition = errors.New("no such partition")
	// ErrLeft says that something still lacks rows.
	ErrLeft = errors.New("something is still missing")
)

// Look says what Run would make again, and changes nothing.
func Look(ctx context.Context, cfg rebuild.Config, partitions []string, log *zap.Logger) ([]Damage, error) {
	servers, err := warehouse.OpenServers(ctx, cfg.ClickHouse, log)
	if err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	defer servers.Close()
	found, err := look(ctx, cfg, servers, partitions, log)
	if err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	return found, nil
}

// Run repairs. The Result says how far it got, with an error too.
func Run(ctx context.Context, cfg rebuild.Config, o Options, log *zap.Logger) (*Result, error) {
	r := &Result{Damage: []Damage{}, Left: []Damage{}}
	// First of all what an interrupted run left: while tables are half exchanged they say nothing.
	finished, err := rebuild.Run(ctx, cfg, rebuild.Options{Finish: true, Keep: o.Keep, Progress: o.Progress}, log)
	r.Result = *finished
	if err != nil {
		return r, err
	}
	if r.Damage, err = Look(ctx, cfg, o.Partitions, log); err != nil || len(r.Damage) == 0 {
		return r, err
	}
	resumed := r.Resumed
	made, err := rebuild.Run(ctx, cfg, rebuild.Options{Only: sections(r.Damage), AcceptDifferences: true, Keep: o.Keep, Questions: o.Questions, Progress: o.Progress}, log)
	r.Result = *made
	r.Resumed = r.Resumed || resumed
	if err != nil {
		return r, err
	}
	if r.Left, err = Look(ctx, cfg, nil, log); err == nil && len(r.Left) > 0 {
		err = fmt.Errorf("repair: %w: %s", ErrLeft, r.Left[0])
	}
	return r, err
}

func (d Damage) String() string { return d.Section.String() + ", " + d.Why }

func sections(all []Damage) []warehouse.Section {
	var out []warehouse.Section
	for _, d := range all {
		if !slices.Contains(out, d.Section) {
			out = append(out, d.Section)
		}
	}
	return out
}

// look finds the damage: parts put aside, tables that disagree, and what was named.
func look(ctx context.Context, cfg rebuild.Config, servers *warehouse.Servers, partitions []string, log *zap.Logger) ([]Damage, error) {
	found := []Damage{}
	for _, w := range servers.All() {
		named, err := named(w, partitions)
		if err != nil {
			return nil, err
		}
		aside, err := aside(ctx, w)
		if err != nil {
			return nil, err
		}
		found = append(append(found, named...), aside...)
	}
	auditor := audit.New(cfg.Log, servers.Reader(), log)
	defer auditor.Close()
	suspects, unplaced, err := auditor.Suspects(ctx)
	if err != nil {
		return nil, err
	}
	guessed, err := guess(ctx, servers, suspects, found)
	if err != nil {
		return nil, err
	}
	found = append(found, guessed...)
	if unplaced > 0 && len(found) == 0 {
		return nil, fmt.Errorf("%w (%d rows)", ErrUnplaced, unplaced)
	}
	slices.SortFunc(found, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Table, b.Table), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Why, b.Why))
	})
	return slices.Compact(found), nil
}

// named are the partitions that somebody asks for.
func named(w *warehouse.Warehouse, partitions []string) ([]Damage, error) {
	var found []Damage
	for _, text := range partitions {
		table, partition, ok := strings.Cut(text, ":")
		if _, err := warehouse.ParsePartition(partition); err != nil || !ok || !slices.Contains(warehouse.Projections(), table) {
			return nil, fmt.Errorf("%w: %q; want TABLE:YYYYMM or TABLE:all, where TABLE is one of %s", ErrPartition, text, strings.Join(warehouse.Projections(), ", "))
		}
		found = append(found, Damage{warehouse.Section{Server: w.Address(), Table: table, Partition: partition}, "asked for"})
	}
	return found, nil
}

// aside are the partitions of parts that ClickHouse has put aside. One whose name says no partition is of any.
func aside(ctx context.Context, w *warehouse.Warehouse) ([]Damage, error) {
	parts, err := w.Aside(ctx)
	if err != nil || len(parts) == 0 {
		return nil, err
	}
	all, err := w.Sections(ctx)
	if err != nil {
		return nil, err
	}
	var found []Damage
	for s, names := range parts {
		why := fmt.Sprintf("%d parts were put aside, the first is %s", len(names), names[0])
		if _, err := warehouse.ParsePartition(s.Partition); err == nil {
			found = append(found, Damage{s, why})
			continue
		}
		for other := range all {
			if other.Table == s.Table {
				found = append(found, Damage{other, why})
			}
		}
	}
	return found, nil
}

// guess is which partitions may lack rows where tables disagree: rollups and raw rows of a month say the same unless
// one of them lost something, and which of them it was the log alone can tell. Where a part of one was put aside, it
// was that one.
func guess(ctx context.Context, servers *warehouse.Servers, suspects []audit.Suspect, known []Damage) ([]Damage, error) {
	if len(suspects) == 0 {
		return nil, nil
	}
	of := map[uint16]*warehouse.Warehouse{}
	for _, w := range servers.All() {
		shards, err := w.AllShards(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range shards {
			of[s] = w
		}
	}
	found := map[warehouse.Section]Damage{}
	for _, s := range suspects {
		w := of[s.Shard]
		if w == nil {
			continue // rows of nobody: an audit names them
		}
		tables, partition := []string{"events", "pieces", "usage_hourly", "usage_monthly"}, s.Month
		why := "raw rows and rollups of the month differ"
		if s.Directory {
			tables, partition, why = []string{"directory_events"}, "all", "events have rows that it lacks"
		}
		if slices.ContainsFunc(known, func(d Damage) bool {
			return d.Server == w.Address() && d.Partition == partition && slices.Contains(tables, d.Table)
		}) {
			continue
		}
		for _, table := range tables {
			section := warehouse.Section{Server: w.Address(), Table: table, Partition: partition}
			found[section] = Damage{section, why}
		}
	}
	return slices.Collect(maps.Values(found)), nil
}
