package months

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Close closes a month, or states a closed one anew if its canonical rows are others by now, and answers the
// newest version. Asked again it answers the same version, as long as nothing became known in between.
// *Refused says why a month may not be closed, *report.Error what is wrong with the question.
func (k *Keeper) Close(ctx context.Context, q Request) (report.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	if q.AcceptGaps && q.Reason == "" {
		return report.Version{}, &report.Error{Code: report.CodeParameter, Parameter: "reason", Detail: "accept_gaps needs a reason: it is kept with the version"}
	}
	if q.AsOf != 0 && q.AsOf < q.Month.End().Millis() {
		return report.Version{}, &report.Error{Code: report.CodeParameter, Parameter: "as_of", Detail: "as_of must not be before the month's end, " + q.Month.End().String()}
	}
	have, err := k.Control.Month(ctx, q.Tenant, q.Month.String())
	if err != nil {
		return report.Version{}, err
	}
	if _, closed := have.Newest(); !closed {
		if ended := k.ended(q); ended.Status == Block {
			return report.Version{}, &Refused{q.Month.String(), []Check{ended}}
		}
	}
	asked, err := k.settled(ctx, q)
	if err != nil {
		return report.Version{}, err
	}
	cut := asked
	for range closeTries {
		v, err := k.attempt(ctx, q, asked, cut)
		if !errors.Is(err, control.ErrConflict) {
			return v, err
		}
		if q.AsOf == 0 {
			if cut, err = k.Reports.CutNow(ctx); err != nil {
				return report.Version{}, err
			}
		}
	}
	return report.Version{}, fmt.Errorf("close %s of %s: %w", q.Month, q.Tenant, control.ErrConflict)
}

// attempt is one try, to close with a cut. control.ErrConflict: another one came first. A version that somebody else made
// meanwhile is the answer if it has all of the cut that was asked for: where late events do not end, others may always be
// faster.
func (k *Keeper) attempt(ctx context.Context, q Request, asked, cut report.Cut) (report.Version, error) {
	have, err := k.Control.Month(ctx, q.Tenant, q.Month.String())
	if err != nil {
		return report.Version{}, err
	}
	last, closed := have.Newest()
	if closed && (q.AsOf != 0 && q.AsOf <= last.AsOf.UnixMilli() || covers(last, asked)) {
		return k.known(ctx, have, last)
	}
	release, err := k.acquire(ctx)
	if err != nil {
		return report.Version{}, err
	}
	defer release()
	if closed {
		late, err := k.Reports.LateMonths(ctx, q.Tenant, q.Month, cutOf(last), cut)
		if err != nil {
			return report.Version{}, err
		}
		if len(late) == 0 {
			return k.known(ctx, have, last)
		}
	}
	if err := k.allowed(ctx, q, cut, closed); err != nil {
		return report.Version{}, err
	}
	now, err := k.compute(ctx, q, cut)
	if err != nil {
		return report.Version{}, err
	}
	sum, err := now.sum(q.Tenant, q.Month.String())
	if err != nil {
		return report.Version{}, err
	}
	if closed && sum == last.SHA256 {
		return k.known(ctx, have, last)
	}
	v := control.MonthVersion{
		Version: last.Version + 1, CloseID: uuid.Must(uuid.NewV7()).String(), ClosedAt: k.Now().UTC().Truncate(time.Millisecond),
		AsOf: time.UnixMilli(cut.AsOf).UTC(), Positions: cut.Shards, Rows: len(now.rows), Figures: len(now.figures), SHA256: sum, By: q.By, Reason: q.Reason,
	}
	var adjustments []report.Adjustment
	if closed {
		if adjustments, err = k.adjust(ctx, q, last, cut, now); err != nil {
			return report.Version{}, err
		}
		v.Adjustments = len(adjustments)
	}
	return k.decide(ctx, have, v, now, adjustments)
}

// allowed makes the checks. A month that is closed already is not asked again whether it may be, but for what
// says that the tables are damaged.
func (k *Keeper) allowed(ctx context.Context, q Request, cut report.Cut, closed bool) error {
	var checks []Check
	var err error
	if closed {
		checks = make([]Check, 1)
		checks[0], err = k.audited(ctx, q, cut)
	} else {
		checks, err = k.checks(ctx, q, cut)
	}
	if err != nil {
		return err
	}
	for _, c := range checks {
		if c.Status == Block {
			return &Refused{q.Month.String(), checks}
		}
	}
	return nil
}

// decide stores a version, has it named in CONTROL, and makes it known.
func (k *Keeper) decide(ctx context.Context, have control.Month, v control.MonthVersion, now *content, adjustments []report.Adjustment) (report.Version, error) {
	if err := k.store(ctx, have.Tenant, have.Month, v.CloseID, now, adjustments); err != nil {
		return report.Version{}, err
	}
	faultpoint.Hit("months/stored")
	named, err := k.Control.AddVersion(ctx, have, v)
	if errors.Is(err, control.ErrConflict) || errors.Is(err, control.ErrInvalid) {
		k.discard(ctx, have.Tenant, have.Month, v.CloseID)
	}
	if err != nil { // where it is not known who won, the rows stay until it is
		return report.Version{}, err
	}
	faultpoint.Hit("months/named")
	// Decided: a caller that has gone away does not keep it from being known.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := k.publish(ctx, named.Tenant, named.Month, v); err != nil {
		return report.Version{}, err
	}
	faultpoint.Hit("months/published")
	k.log.Info("month closed", zap.String("tenant", have.Tenant), zap.String("month", have.Month), zap.Int("version", v.Version),
		zap.Int("rows", v.Rows), zap.Int("adjustments", v.Adjustments), zap.String("sha256", v.SHA256), zap.String("by", v.By))
	return k.answer(ctx, have.Tenant, have.Month, v.Version)
}

// known answers a version that was decided on, and sees to it that the warehouse knows it.
func (k *Keeper) known(ctx context.Context, m control.Month, v control.MonthVersion) (report.Version, error) {
	found, err := k.answer(ctx, m.Tenant, m.Month, v.Version)
	var missing *report.Error
	if errors.As(err, &missing) && missing.Code == report.CodeNoVersion {
		if err = k.mend(ctx, []control.Month{m}); err == nil {
			found, err = k.answer(ctx, m.Tenant, m.Month, v.Version)
		}
	}
	return found, err
}

// answer is a version as everybody reads it.
func (k *Keeper) answer(ctx context.Context, tenant, month string, version int) (report.Version, error) {
	m, err := usage.ParseMonth(month)
	if err != nil {
		return report.Version{}, err
	}
	return k.Reports.Version(ctx, tenant, m, version)
}

// compute makes what a month says at a cut.
func (k *Keeper) compute(ctx context.Context, q Request, cut report.Cut) (*content, error) {
	rows, err := k.Reports.MonthRows(ctx, q.Tenant, q.Month, cut)
	if err != nil {
		return nil, err
	}
	figures, err := k.Reports.Figures(ctx, q.Tenant, q.Month, cut)
	if err != nil {
		return nil, err
	}
	return newContent(rows, figures), nil
}

// covers reports whether a version was made from all of a cut, and perhaps more.
func covers(v control.MonthVersion, cut report.Cut) bool {
	for shard, seq := range cut.Shards {
		if v.Positions[shard] < seq {
			return false
		}
	}
	return v.AsOf.UnixMilli() >= cut.AsOf
}

// cutOf is the cut of a version.
func cutOf(v control.MonthVersion) report.Cut {
	return report.Cut{AsOf: v.AsOf.UnixMilli(), Shards: v.Positions}
}
