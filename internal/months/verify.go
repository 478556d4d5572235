package months

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// VersionProof is a closed version, hashed again: as it is stored, and as the tables give it at its cut now.
type VersionProof struct {
	Tenant   string `json:"tenant"`
	Month    string `json:"month"`
	Version  int    `json:"version"`
	SHA256   string `json:"sha256"`   // that was decided on
	Stored   string `json:"stored"`   // of the rows that are served
	Computed string `json:"computed"` // of the rows that the tables give now
	Trouble  string `json:"trouble,omitempty"`
}

// Same reports whether the version is what was closed, and what would be closed.
func (p VersionProof) Same() bool {
	return p.Trouble == "" && p.Stored == p.SHA256 && p.Computed == p.SHA256
}

// verifyWait is how long to wait for the versions to be known.
const verifyWait = 30 * time.Second

// Verify hashes every closed version again, twice: the rows that are served, and the rows that the tables give at the
// version's cut. Where the second differs the tables were damaged when the month was closed, or the log or the program
// has changed since; the version stays what it is.
func Verify(ctx context.Context, store *control.Store, reports *report.Reports, each func(done, total int)) ([]VersionProof, error) {
	follower := store.Months(ctx)
	defer follower.Close()
	known, cancel := context.WithTimeout(ctx, verifyWait)
	defer cancel()
	all, ready := follower.All()
	for !ready {
		select {
		case <-follower.Changed():
		case <-time.After(settlePoll):
		case <-known.Done():
			return nil, fmt.Errorf("verify the closed months: their list does not come: %w", known.Err())
		}
		all, ready = follower.All()
	}
	total, proofs := 0, []VersionProof{}
	for _, m := range all {
		total += len(m.Versions)
	}
	k := &Keeper{Parts: Parts{Reports: reports}}
	for _, m := range all {
		for _, v := range m.Versions {
			p, err := k.verify(ctx, m, v)
			if err != nil {
				return proofs, fmt.Errorf("verify version %d of %s of %s: %w", v.Version, m.Month, m.Tenant, err)
			}
			proofs = append(proofs, p)
			each(len(proofs), total)
		}
	}
	return proofs, nil
}

func (k *Keeper) verify(ctx context.Context, m control.Month, v control.MonthVersion) (VersionProof, error) {
	p := VersionProof{Tenant: m.Tenant, Month: m.Month, Version: v.Version, SHA256: v.SHA256}
	month, err := usage.ParseMonth(m.Month)
	if err != nil {
		return p, err
	}
	have, err := k.stored(ctx, m.Tenant, month, v.CloseID)
	if err != nil {
		return p, err
	}
	if p.Stored, err = have.sum(m.Tenant, m.Month); err != nil {
		return p, err
	}
	now, err := k.compute(ctx, Request{Tenant: m.Tenant, Month: month}, cutOf(v))
	var refused *report.Error
	if errors.As(err, &refused) { // the tables no longer go as far as the cut, for instance
		p.Trouble = refused.Error()
		return p, nil
	}
	if err != nil {
		return p, err
	}
	p.Computed, err = now.sum(m.Tenant, m.Month)
	return p, err
}
