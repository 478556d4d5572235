package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Suspect is where tables disagree with each other: rows of some partition are not there, in one of them.
type Suspect struct {
	Shard     uint16
	Month     string // YYYYMM of the rows; "" where the disagreement is between ledger, events and directory
	Directory bool   // directory_events lack what events have
	N         uint64 // rows apart
}

// Suspects compares the tables with each other without reading the log, as Light does, and says where they differ
// rather than for whom. What it does not see (two tables that lost the same) the audit of the log does. unplaced are
// rows that the ledger counts and events lack, or the other way round, of all months together.
func (a *Auditor) Suspects(ctx context.Context) (found []Suspect, unplaced uint64, err error) {
	r := &run{Auditor: a, Options: Options{Settle: settleWait}, found: newFindings(""), months: newMonths()}
	if r.shards, err = r.readShards(ctx); err != nil {
		return nil, 0, fmt.Errorf("look for what is missing: %w", err)
	}
	off := map[string]uint64{}
	if err := r.lightLedger(ctx, off); err != nil {
		return nil, 0, fmt.Errorf("look for what is missing: ledger: %w", err)
	}
	for _, n := range off {
		unplaced += n
	}
	type place struct {
		shard uint16
		month uint32
	}
	rollups := map[place]uint64{}
	if err := r.lightRollups(ctx, func(k rollupKey, _ string, n uint64) { rollups[place{k.shard, k.month}] += n }); err != nil {
		return nil, 0, fmt.Errorf("look for what is missing: %w", err)
	}
	for p, n := range rollups {
		found = append(found, Suspect{Shard: p.shard, Month: fmt.Sprintf("%06d", p.month), N: n})
	}
	if err := r.directory(ctx); err != nil {
		return nil, 0, fmt.Errorf("look for what is missing: directory: %w", err)
	}
	lacking := map[uint16]uint64{}
	for _, d := range r.found.listed[CheckDirectory] {
		if d.Have == "0" {
			lacking[d.Shard]++
		}
	}
	for shard, n := range lacking {
		found = append(found, Suspect{Shard: shard, Directory: true, N: n})
	}
	slices.SortFunc(found, func(a, b Suspect) int { return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Month, b.Month)) })
	return found, unplaced, nil
}
