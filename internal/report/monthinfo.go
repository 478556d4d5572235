package report

import (
	"cmp"
	"context"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// MonthInfo is a month without its rows.
type MonthInfo struct {
	Month    string  `json:"month"`
	State    string  `json:"state" enum:"open,provisional,closed"`
	Version  int     `json:"version" doc:"The newest; 0 until the month is closed"`
	Closed   bool    `json:"closed"`
	Events   int64   `json:"events" doc:"Metered events that count in the month, late ones included"`
	FirstAt  Instant `json:"first_at"`
	LastAt   Instant `json:"last_at"`
	ClosedAt Instant `json:"closed_at" doc:"Of the newest version"`
	AsOf     Instant `json:"as_of" doc:"The newest version holds what was recorded at or before"`
	SHA256   string  `json:"sha256" doc:"Of the newest version's canonical rows"`
}

const monthInfos = `
SELECT formatDateTime(month, '%Y-%m') AS name, sum(events), toUnixTimestamp64Milli(min(first_at)), toUnixTimestamp64Milli(max(last_at))
FROM {{db}}.usage_monthly
WHERE tenant = {tenant:String} AND ({all:Bool} OR month = fromUnixTimestamp64Milli({start:Int64}, 'UTC'))
GROUP BY name
HAVING sum(rows) > 2 * sum(voids)`

// Months lists the months that have usage or were closed, newest first.
func (r *Reports) Months(ctx context.Context, tenant string) ([]MonthInfo, error) {
	return r.monthInfos(ctx, tenant, nil)
}

// Month is one month, with usage or without.
func (r *Reports) Month(ctx context.Context, tenant string, m usage.Month) (MonthInfo, error) {
	rows, err := r.monthInfos(ctx, tenant, &m)
	if err != nil || len(rows) == 0 {
		return MonthInfo{Month: m.String(), State: monthState(m, r.now())}, err
	}
	return rows[0], nil
}

// monthInfos are those of one month, or of all for nil.
func (r *Reports) monthInfos(ctx context.Context, tenant string, only *usage.Month) ([]MonthInfo, error) {
	params := map[string]any{"tenant": tenant, "all": only == nil, "start": int64(0)}
	name := ""
	if only != nil {
		params["start"], name = only.Start().Millis(), only.String()
	}
	versions, err := r.versions(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	rows := []MonthInfo{}
	err = r.query(ctx, "list months", monthInfos, params, func(row warehouse.Rows) error {
		var m MonthInfo
		if err := row.Scan(&m.Month, &m.Events, (*int64)(&m.FirstAt), (*int64)(&m.LastAt)); err != nil {
			return err
		}
		month, err := usage.ParseMonth(m.Month)
		m.State = monthState(month, r.now())
		m.closed(versions[m.Month])
		delete(versions, m.Month)
		rows = append(rows, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	for month, of := range versions { // closed, without usage
		m := MonthInfo{Month: month}
		m.closed(of)
		rows = append(rows, m)
	}
	slices.SortFunc(rows, func(a, b MonthInfo) int { return cmp.Compare(b.Month, a.Month) })
	return rows, nil
}

// closed says what its newest version is.
func (m *MonthInfo) closed(versions []Version) {
	if v, ok := newest(versions); ok {
		m.State, m.Version, m.Closed = StateClosed, v.Version, true
		m.ClosedAt, m.AsOf, m.SHA256 = v.ClosedAt, v.AsOf, v.SHA256
	}
}

// closedMonth is a version of a month as it was stored: the one asked for, or the newest where neither a
// version nor an instant was. nil: the month is not closed, and has to be computed.
func (r *Reports) closedMonth(ctx context.Context, q MonthQuery, all []Version) (*Month, error) {
	if q.Cut != nil || q.Version == 0 && (q.AsOf != directory.Latest || len(all) == 0) {
		return nil, nil
	}
	v, err := pick(all, q.Month, q.Version)
	if err != nil {
		return nil, err
	}
	id := "closed " + q.Tenant + " " + v.CloseID
	if m := r.pages.get(id); m != nil {
		return m, nil
	}
	w, err := r.Watermark(ctx)
	if err != nil {
		return nil, err
	}
	m := &Month{ID: id, Month: q.Month.String(), State: StateClosed, Version: v.Version, AsOf: v.AsOf, Positions: v.Positions, Watermark: w}
	if m.Rows, err = r.StoredRows(ctx, q.Tenant, q.Month, v.CloseID); err != nil {
		return nil, err
	}
	r.pages.put(id, m, len(m.Rows))
	return m, nil
}
