package report

import (
	"context"
	"fmt"
	"sort"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Activity is how far the rows of a tenant's month go in a shard of the log.
type Activity struct {
	Tenant  string
	Month   usage.Month // in which they happened; the first of all for what is about any month
	Metered bool        // they count something; what does not is about accounts, users and prices
	Carried bool        // later months may change with them
	Live    bool        // not all of them are voided
	Shard   uint16
	Seq     uint64
}

const activity = `
SELECT CAST(tenant, 'String') AS tenant_, toYYYYMM(month) AS happened, true AS metered,
    (tenant, meter) IN (SELECT tenant, meter FROM {{db}}.meters WHERE aggregation = 'time_weighted') AS carried,
    sum(rows) > 2 * sum(voids) AS live, shard, max(hi) AS seq
FROM {{db}}.usage_monthly
GROUP BY tenant_, happened, carried, shard
UNION ALL
SELECT CAST(tenant, 'String') AS tenant_, if(type IN (` + timeless + `), 197001, toYYYYMM(at)) AS happened, false AS metered, true AS carried, true AS live, shard, max(seq) AS seq
FROM {{db}}.events
WHERE meter = '' AND type NOT IN ('event.voided', 'user.activity')
GROUP BY tenant_, happened, shard`

// Activity is that of all tenants: what tells which months may have changed, with Resolutions. They are the only
// questions that span tenants, and answer nobody but the house itself.
func (r *Reports) Activity(ctx context.Context) ([]Activity, error) {
	var all []Activity
	err := r.query(ctx, "look for changed months", activity, nil, func(row warehouse.Rows) error {
		var a Activity
		var month uint32
		if err := row.Scan(&a.Tenant, &month, &a.Metered, &a.Carried, &a.Live, &a.Shard, &a.Seq); err != nil {
			return err
		}
		var err error
		a.Month, err = monthNumbered(month)
		all = append(all, a)
		return err
	})
	return all, err
}

const resolutions = `
SELECT CAST(c.tenant, 'String') AS tenant_, r.happened AS happened_, c.shard AS shard_, max(c.seq) AS seq_
FROM
(
    SELECT tenant, JSONExtractString(data, 'message_id') AS message_id, shard, seq
    FROM {{db}}.events
    WHERE meter IN (` + chargedMeters + `) AND type = 'message.charged'
    AND seq > transform(shard, {since_shards:Array(UInt16)}, {since_seqs:Array(UInt64)}, toUInt64(0))
    AND tenant IN (SELECT tenant FROM {{db}}.events WHERE meter = 'credits_returned')
) AS c
INNER JOIN
(
    SELECT DISTINCT tenant, JSONExtractString(data, 'message_id') AS message_id, toYYYYMM(at) AS happened
    FROM {{db}}.events
    WHERE meter = 'credits_returned'
) AS r ON c.tenant = r.tenant AND c.message_id = r.message_id
GROUP BY tenant_, happened_, shard_`

// Resolutions are how far the charges go that lie beyond a position and say under which meter a month's returned
// credits count: Month is the one of the return, whenever the charge happened.
func (r *Reports) Resolutions(ctx context.Context, since map[uint16]uint64) ([]Activity, error) {
	var all []Activity
	shards, seqs := warehouse.Positions(since)
	params := map[string]any{"since_shards": shards, "since_seqs": seqs}
	err := r.query(ctx, "look for charges of returned credits", resolutions, params, func(row warehouse.Rows) error {
		a := Activity{Metered: true, Live: true}
		var month uint32
		if err := row.Scan(&a.Tenant, &month, &a.Shard, &a.Seq); err != nil {
			return err
		}
		var err error
		a.Month, err = monthNumbered(month)
		all = append(all, a)
		return err
	})
	return all, err
}

// monthNumbered is the month of toYYYYMM.
func monthNumbered(n uint32) (usage.Month, error) {
	return usage.ParseMonth(fmt.Sprintf("%04d-%02d", n/100, n%100))
}

// CutAt is the cut as of an instant, which must be settled; without one (directory.Latest) that of the
// watermark. Rollups do not answer for it.
func (r *Reports) CutAt(ctx context.Context, asOf int64) (Cut, error) {
	cut, err := r.cut(ctx, Query{AsOf: asOf})
	cut.Now = false
	return cut, err
}

// loggedHour is how far a shard went by the end of an hour of the log's clock.
type loggedHour struct {
	end int64 // Unix ms
	seq uint64
}

// ahead is more than a row may have been recorded after the log's clock.
const ahead = 3600_000

// Clock is how far the log went hour by hour, per shard.
type Clock map[uint16][]loggedHour

const loggedHours = `
SELECT shard, toUnixTimestamp(toStartOfHour(logged_at)) AS hour, max(seq)
FROM {{db}}.ledger
GROUP BY shard, hour
ORDER BY shard, hour`

// Clock reads it.
func (r *Reports) Clock(ctx context.Context) (Clock, error) {
	clock := Clock{}
	err := r.query(ctx, "read the clock of the log", loggedHours, nil, func(row warehouse.Rows) error {
		var shard uint16
		var hour uint32
		var seq uint64
		err := row.Scan(&shard, &hour, &seq)
		clock[shard] = append(clock[shard], loggedHour{(int64(hour)+3600)*1000 + ahead, seq})
		return err
	})
	return clock, err
}

// Whole are positions up to which every row is in the cut: the log's clock never goes back, and no row says of itself
// that it was recorded later than the window for future times allows, which is minutes (ahead). They may be some hours
// behind the cut.
func (c Clock) Whole(of Cut) map[uint16]uint64 {
	whole := map[uint16]uint64{}
	for shard, bound := range of.Shards {
		hours := c[shard]
		n := sort.Search(len(hours), func(i int) bool { return hours[i].end > of.AsOf })
		if n > 0 {
			whole[shard] = min(bound, hours[n-1].seq)
		}
	}
	return whole
}
