package months

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// versionKey names a version of a month.
type versionKey struct {
	tenant, month string
	version       int
}

// kept is a version as the warehouse has it.
type kept struct {
	closeID                    string
	rows, figures, adjustments uint64
}

func (h kept) whole(v control.MonthVersion) bool {
	return h.rows == uint64(v.Rows) && h.figures == uint64(v.Figures) && h.adjustments == uint64(v.Adjustments)
}

const known = `
SELECT CAST(v.tenant, 'String'), CAST(v.month, 'String'), v.version, v.close_id, r.n, f.n, a.n
FROM {{db}}.month_versions AS v
LEFT JOIN (SELECT close_id, count() AS n FROM {{db}}.month_rows GROUP BY close_id) AS r ON v.close_id = r.close_id
LEFT JOIN (SELECT close_id, count() AS n FROM {{db}}.month_figures GROUP BY close_id) AS f ON v.close_id = f.close_id
LEFT JOIN (SELECT close_id, count() AS n FROM {{db}}.month_adjustments GROUP BY close_id) AS a ON v.close_id = a.close_id`

// published are the versions that the warehouse knows.
func (k *Keeper) published(ctx context.Context) (map[versionKey]kept, error) {
	all := map[versionKey]kept{}
	err := k.Servers.Reader().Query(ctx, known, nil, func(r warehouse.Rows) error {
		var key versionKey
		var version uint32
		var h kept
		err := r.Scan(&key.tenant, &key.month, &version, &h.closeID, &h.rows, &h.figures, &h.adjustments)
		key.version = int(version)
		all[key] = h
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the published versions: %w", err)
	}
	return all, nil
}

// mend makes known what was decided on and is not known: a reporter was killed between the two, or the
// warehouse lost it. Who is not on duty leaves the second case to who is.
func (k *Keeper) mend(ctx context.Context, all []control.Month) error {
	have, err := k.published(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range all {
		for _, v := range m.Versions {
			h, ok := have[versionKey{m.Tenant, m.Month, v.Version}]
			switch {
			case ok && h.closeID == v.CloseID && h.whole(v):
			case ok && h.closeID != v.CloseID:
				k.log.Error("a version of a month is another one in CONTROL than in the warehouse: the control state was restored from an older copy, and the month closed again; the warehouse is believed",
					zap.String("tenant", m.Tenant), zap.String("month", m.Month), zap.Int("version", v.Version))
			default:
				if err := k.mendVersion(ctx, m, v); err != nil {
					errs = append(errs, err)
				}
			}
		}
	}
	return errors.Join(errs...)
}

const storedCounts = `
SELECT
    (SELECT count() FROM {{db}}.month_rows WHERE tenant = @tenant AND month = @month AND close_id = @close),
    (SELECT count() FROM {{db}}.month_figures WHERE tenant = @tenant AND month = @month AND close_id = @close),
    (SELECT count() FROM {{db}}.month_adjustments WHERE tenant = @tenant AND usage_month = @month AND close_id = @close)`

// mendVersion publishes a version whose rows are there, and makes them again where they are not.
func (k *Keeper) mendVersion(ctx context.Context, m control.Month, v control.MonthVersion) error {
	w, err := k.Servers.Home(ctx, m.Tenant)
	if err != nil {
		return err
	}
	var h kept
	args := []any{warehouse.Named("tenant", m.Tenant), warehouse.Named("month", m.Month), warehouse.Named("close", v.CloseID)}
	err = w.Query(ctx, storedCounts, args, func(r warehouse.Rows) error { return r.Scan(&h.rows, &h.figures, &h.adjustments) })
	if err != nil {
		return fmt.Errorf("count the rows of version %d of %s of %s: %w", v.Version, m.Month, m.Tenant, err)
	}
	if h.whole(v) {
		return k.publish(ctx, m.Tenant, m.Month, v)
	}
	if !k.duty.Load() {
		return nil
	}
	return k.restore(ctx, w, m, v)
}

// errOther says that a version computed again is not the one that was decided on.
var errOther = errors.New("the log gives other rows than were closed: the log or the program has changed since; restore month_rows from a backup of ClickHouse")

// restore makes a version again from the log, whose cut is known, and believes it only if its hash is the one
// that was decided on. The version before it must be there, because adjustments are against it.
func (k *Keeper) restore(ctx context.Context, w *warehouse.Warehouse, m control.Month, v control.MonthVersion) error {
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	month, err := usage.ParseMonth(m.Month)
	if err != nil {
		return err
	}
	q, cut := Request{Tenant: m.Tenant, Month: month}, cutOf(v)
	w0, err := k.Reports.CutAt(ctx, v.AsOf.UnixMilli())
	if err != nil {
		return err // the log is still being counted: after a restore this takes its time
	}
	for shard, seq := range cut.Shards {
		if w0.Shards[shard] < seq {
			return &report.Error{Code: report.CodeNotSettled, Detail: fmt.Sprintf("shard %d is counted to %d, version %d of %s needs %d", shard, w0.Shards[shard], v.Version, m.Month, seq)}
		}
	}
	now, err := k.compute(ctx, q, cut)
	if err != nil {
		return err
	}
	sum, err := now.sum(m.Tenant, m.Month)
	if err != nil {
		return err
	}
	if sum != v.SHA256 {
		return fmt.Errorf("version %d of %s of %s: %w", v.Version, m.Month, m.Tenant, errOther)
	}
	var adjustments []report.Adjustment
	if v.Version > 1 {
		if adjustments, err = k.adjust(ctx, q, m.Versions[v.Version-2], cut, now); err != nil {
			return err
		}
	}
	if len(adjustments) != v.Adjustments {
		return fmt.Errorf("version %d of %s of %s: %d adjustments, not %d: %w", v.Version, m.Month, m.Tenant, len(adjustments), v.Adjustments, errOther)
	}
	if err := remove(ctx, w, m.Tenant, m.Month, v.CloseID); err != nil {
		return fmt.Errorf("remove what is left of version %d of %s of %s: %w", v.Version, m.Month, m.Tenant, err)
	}
	if err := k.store(ctx, m.Tenant, m.Month, v.CloseID, now, adjustments); err != nil {
		return err
	}
	k.log.Warn("a closed month that the warehouse had lost was made again from the log; its hash is the one that was closed",
		zap.String("tenant", m.Tenant), zap.String("month", m.Month), zap.Int("version", v.Version), zap.String("sha256", sum))
	return k.publish(ctx, m.Tenant, m.Month, v)
}
