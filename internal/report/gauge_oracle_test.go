package report_test

import (
	"cmp"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/report"
)

// gauges is what gauges are worth between the first and the last border and before the horizon, the slow way: time is
// cut at every instant at which anything can change, and for each cut every series is asked what it holds.
func gauges(known []occurrence, borders []int64, horizon int64) []counting {
	type series struct{ account, region, platform, asset string }
	all := map[series][]occurrence{}
	points := slices.Clone(borders)
	from, to := borders[0], min(borders[len(borders)-1], horizon)
	for _, o := range known {
		points = append(points, o.at)
		if o.level != nil {
			r := o.rows[0]
			s := series{o.account, r.region, r.platform, r.asset}
			all[s] = append(all[s], o)
			points = append(points, o.trialExpiry)
		}
	}
	points = append(points, to)
	slices.Sort(points)
	points = slices.Compact(points)
	var rows []counting
	for i, at := range points {
		if at < from || at >= to {
			continue
		}
		for _, samples := range all {
			var holds *occurrence
			for j := range samples {
				if o := &samples[j]; o.at <= at && (holds == nil || after(o, holds)) {
					holds = o
				}
			}
			if holds == nil || holds.level.Sign() == 0 {
				continue
			}
			r := holds.rows[0]
			r.at, r.n, r.worth, r.trial = at, 0, true, at < holds.trialExpiry
			r.q = new(big.Int).Mul(holds.level, big.NewInt(points[i+1]-at))
			if r.plan == "" {
				r.plan = plan(known, r.account, "gauge", at)
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func after(a, b *occurrence) bool {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.rows[0].sourceSeq, b.rows[0].sourceSeq), strings.Compare(a.id, b.id)) > 0
}

// borders are the instants at which windows of a question begin, and its end.
func borders(q report.UsageQuery) []int64 {
	all := []int64{q.From}
	for at := time.UnixMilli(q.From).UTC().Truncate(time.Hour); at.UnixMilli() < q.To; at = at.Add(time.Hour) {
		starts := map[string]bool{"hour": true, "day": at.Hour() == 0, "month": at.Hour() == 0 && at.Day() == 1}[q.Window]
		if starts && at.UnixMilli() > q.From {
			all = append(all, at.UnixMilli())
		}
	}
	return append(all, q.To)
}
