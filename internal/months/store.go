package months

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const (
	insertRows = `
INSERT INTO {{db}}.month_rows (tenant, month, close_id, number, account, account_name, plan, meter, unit, region, platform, trial, resolved,
    quantity, events, quantity_tree, events_tree, first_at, last_at, stored_at)`
	insertFigures = `
INSERT INTO {{db}}.month_figures (tenant, month, close_id, number, account, plan, meter, region, platform, trial, measure, value, cost, currency, stored_at)`
	insertAdjustments = `
INSERT INTO {{db}}.month_adjustments (tenant, usage_month, close_id, number, processing_month, type, account, plan, meter, region, platform, trial,
    measure, from_version, to_version, delta, cost_delta, currency, stored_at)`
	insertVersion = `
INSERT INTO {{db}}.month_versions (tenant, month, version, close_id, closed_at, as_of, shards, seqs, rows, figures, adjustments, sha256,
    closed_by, reason, written_at)`
)

// store writes what a version says under its close_id. Nobody reads it before the version is published.
func (k *Keeper) store(ctx context.Context, tenant, month, closeID string, c *content, adjustments []report.Adjustment) error {
	w, err := k.Servers.Home(ctx, tenant)
	if err != nil {
		return err
	}
	now := k.Now().UTC()
	err = w.Store(ctx, insertRows, func(add func(...any) error) error {
		for i := range c.rows {
			r := &c.rows[i]
			if err := add(tenant, month, closeID, uint32(i), r.Account, r.AccountName, r.Plan, r.Meter, r.Unit, r.Region, r.Platform, r.Trial, r.Resolved,
				decimal(r.Quantity), r.Events, decimal(r.QuantityTree), r.EventsTree, instant(r.FirstAt), instant(r.LastAt), now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store the rows of %s of %s: %w", month, tenant, err)
	}
	err = w.Store(ctx, insertFigures, func(add func(...any) error) error {
		for i, f := range c.figures {
			if err := add(tenant, month, closeID, uint32(i), f.Account, f.Plan, f.Meter, f.Region, f.Platform, f.Trial, f.Measure, f.Value, f.Cost, f.Currency, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store the figures of %s of %s: %w", month, tenant, err)
	}
	err = w.Store(ctx, insertAdjustments, func(add func(...any) error) error {
		for i, a := range adjustments {
			if err := add(tenant, month, closeID, uint32(i), a.ProcessingMonth, a.Type, a.Account, a.Plan, a.Meter, a.Region, a.Platform, a.Trial,
				a.Measure, uint32(a.FromVersion), uint32(a.ToVersion), a.Delta, a.CostDelta, a.Currency, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store the adjustments of %s of %s: %w", month, tenant, err)
	}
	return nil
}

// decimal is a nullable decimal of the driver: "" is NULL.
func decimal(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func instant(i report.Instant) any {
	if i == 0 {
		return nil
	}
	return time.UnixMilli(int64(i)).UTC()
}

// publish makes a version known to the warehouse. It may be done by anybody, any number of times.
func (k *Keeper) publish(ctx context.Context, tenant, month string, v control.MonthVersion) error {
	w, err := k.Servers.Home(ctx, tenant)
	if err != nil {
		return err
	}
	shards, seqs := slices.Sorted(maps.Keys(v.Positions)), make([]uint64, 0, len(v.Positions))
	for _, shard := range shards {
		seqs = append(seqs, v.Positions[shard])
	}
	err = w.Store(ctx, insertVersion, func(add func(...any) error) error {
		return add(tenant, month, uint32(v.Version), v.CloseID, v.ClosedAt.UTC(), v.AsOf.UTC(), shards, seqs, uint64(v.Rows), uint64(v.Figures),
			uint64(v.Adjustments), v.SHA256, v.By, v.Reason, k.Now().UTC())
	})
	if err != nil {
		return fmt.Errorf("publish version %d of %s of %s: %w", v.Version, month, tenant, err)
	}
	return nil
}

const (
	deleteRows        = `DELETE FROM {{db}}.month_rows WHERE tenant = @tenant AND month = @month AND close_id = @close`
	deleteFigures     = `DELETE FROM {{db}}.month_figures WHERE tenant = @tenant AND month = @month AND close_id = @close`
	deleteAdjustments = `DELETE FROM {{db}}.month_adjustments WHERE tenant = @tenant AND usage_month = @month AND close_id = @close`
)

// discard removes the rows of a close that did not become a version. What fails is tried again an hour later.
func (k *Keeper) discard(ctx context.Context, tenant, month, closeID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	w, err := k.Servers.Home(ctx, tenant)
	if err == nil {
		err = remove(ctx, w, tenant, month, closeID)
	}
	if err != nil {
		k.log.Warn("rows of a close that did not become a version are still there", zap.Error(err),
			zap.String("tenant", tenant), zap.String("month", month), zap.String("close_id", closeID))
	}
}

func remove(ctx context.Context, w *warehouse.Warehouse, tenant, month, closeID string) error {
	args := []any{warehouse.Named("tenant", tenant), warehouse.Named("month", month), warehouse.Named("close", closeID)}
	return errors.Join(w.Remove(ctx, deleteRows, args...), w.Remove(ctx, deleteFigures, args...), w.Remove(ctx, deleteAdjustments, args...))
}

const losers = `
SELECT DISTINCT tenant_, month_, close_id
FROM
(
    SELECT CAST(tenant, 'String') AS tenant_, CAST(month, 'String') AS month_, close_id FROM {{db}}.month_rows WHERE stored_at < fromUnixTimestamp64Milli(toInt64(@before), 'UTC')
    UNION ALL
    SELECT CAST(tenant, 'String') AS tenant_, CAST(month, 'String') AS month_, close_id FROM {{db}}.month_figures WHERE stored_at < fromUnixTimestamp64Milli(toInt64(@before), 'UTC')
    UNION ALL
    SELECT CAST(tenant, 'String') AS tenant_, CAST(usage_month, 'String') AS month_, close_id FROM {{db}}.month_adjustments WHERE stored_at < fromUnixTimestamp64Milli(toInt64(@before), 'UTC')
)
WHERE close_id NOT IN (SELECT close_id FROM {{db}}.month_versions)`

// sweep removes the rows of closes that ended before they were decided on, an hour ago or earlier.
func (k *Keeper) sweep(ctx context.Context) error {
	type loser struct{ tenant, month, closeID string }
	before := []any{warehouse.Named("before", k.Now().Add(-loserAge).UnixMilli())}
	for _, w := range k.Servers.All() {
		lost, err := warehouse.Collect(ctx, w, losers, before, func(r warehouse.Rows, l *loser) error { return r.Scan(&l.tenant, &l.month, &l.closeID) })
		if err != nil {
			return fmt.Errorf("look for rows without a version: %w", err)
		}
		for _, l := range lost {
			m, err := k.Control.Month(ctx, l.tenant, l.month)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(m.Versions, func(v control.MonthVersion) bool { return v.CloseID == l.closeID }) {
				continue // decided on, and not known yet
			}
			if err := remove(ctx, w, l.tenant, l.month, l.closeID); err != nil {
				return fmt.Errorf("remove rows without a version: %w", err)
			}
			k.log.Info("rows of a close that did not become a version removed", zap.String("tenant", l.tenant), zap.String("month", l.month), zap.String("close_id", l.closeID))
		}
	}
	return nil
}
