package report

import (
	"context"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Numbers of users are counted for all accounts of a tenant at once and kept, so that the next question about the
// same month, of whatever account and measure, need not read a million users again. They are kept by what they were
// counted from: a fingerprint of the rows of the cut. Should a late event change those rows, the fingerprint is
// another and all is counted anew.

// talliesKept bounds what is kept over all tenants: accounts, about 60 bytes each.
const talliesKept = 1_000_000

// singlesMax is up to how many ends of months are counted one by one; more are counted in one statement, which costs
// what three of them do.
const singlesMax = 3

// tally is two numbers of an account, such as its users registered and those with an active token.
type tally struct {
	account string
	n       [2]uint64
}

// tallied names numbers: which, of whom, at what, from which rows.
func tallied(kind, tenant string, at int64, of fingerprint) string {
	return fmt.Sprintf("%s %s %d %d %x", kind, tenant, at, of.rows, of.hash)
}

// counting is numbers that are looked for.
type counting struct {
	r     *Reports
	names []string // "": not to be kept
	have  []*[]tally
}

// lookUp finds what is kept. Rows of a cut without positions may still come, so nothing is kept of it.
func (r *Reports) lookUp(kind, tenant string, cut Cut, at []int64, prints []fingerprint) *counting {
	c := &counting{r: r, names: make([]string, len(at)), have: make([]*[]tally, len(at))}
	for i := range at {
		if cut.Shards == nil {
			continue
		}
		c.names[i] = tallied(kind, tenant, at[i], prints[i])
		c.have[i] = r.tallies.get(c.names[i])
	}
	return c
}

// missing are the places of what is not kept.
func (c *counting) missing() (places []int) {
	for i, have := range c.have {
		if have == nil {
			places = append(places, i)
		}
	}
	return places
}

// set keeps what was counted.
func (c *counting) set(place int, all []tally) {
	c.have[place] = &all
	if c.names[place] != "" {
		c.have[place] = c.r.tallies.put(c.names[place], &all, 1+len(all))
	}
}

// userPrints tells the rows about users apart, up to each of the ends: these are ends of months, or there is one alone.
const userPrints = stretchesHead + `
    FROM {{db}}.directory_events
    WHERE tenant = {tenant:String} AND type IN {types:Array(String)} AND at < fromUnixTimestamp64Milli({last:Int64}, 'UTC') AND ` + inCut + stretchesTail

// activityPrints does so for the activity between the ends.
const activityPrints = stretchesHead + `
    FROM {{db}}.events
    WHERE tenant = {tenant:String} AND meter IN {types:Array(String)}
        AND at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({last:Int64}, 'UTC') AND ` + inCut + stretchesTail

// Of a month, one row says in which stretch they all are.
const (
	stretchesHead = `
SELECT toUInt32(arrayCount(e -> e <= first, {ends:Array(Int64)})) AS stretch, sum(rows), groupBitXor(hash)
FROM
(
    SELECT toUnixTimestamp64Milli(min(at)) AS first, count() AS rows, groupBitXor(cityHash64(shard, seq, idx, sign)) AS hash`
	stretchesTail = `
    GROUP BY toYYYYMM(at)
)
GROUP BY stretch`
)

// prints are the fingerprints of the stretches that end at ends, in ascending order.
func (r *Reports) prints(ctx context.Context, statement, tenant string, cut Cut, types []string, from int64, ends []int64) ([]fingerprint, error) {
	all := make([]fingerprint, len(ends))
	if cut.Shards == nil {
		return all, nil
	}
	params := map[string]any{"tenant": tenant, "types": types, "from": from, "ends": ends, "last": ends[len(ends)-1]}
	err := r.query(ctx, "look for changes of users", statement, cut.params(params), func(row warehouse.Rows) error {
		var stretch uint32
		var of fingerprint
		err := row.Scan(&stretch, &of.rows, &of.hash)
		if err == nil {
			all[stretch] = of
		}
		return err
	})
	return all, err
}

// grown makes fingerprints of everything up to each end out of those of the stretches between them.
func grown(of []fingerprint) []fingerprint {
	for i := 1; i < len(of); i++ {
		of[i].rows += of[i-1].rows
		of[i].hash ^= of[i-1].hash
	}
	return of
}

// populations are the users registered and those with an active token at each of the ends, of all accounts.
func (r *Reports) populations(ctx context.Context, tenant string, cut Cut, ends []int64) (*counting, error) {
	of, err := r.prints(ctx, userPrints, tenant, cut, []string{"user.registered", "user.removed", "token.state_set"}, 0, ends)
	if err != nil {
		return nil, err
	}
	c := r.lookUp("population", tenant, cut, ends, grown(of))
	missing := c.missing()
	if len(missing) <= singlesMax {
		for _, i := range missing {
			all, err := r.population(ctx, tenant, cut, ends[i])
			if err != nil {
				return nil, err
			}
			c.set(i, all)
		}
		return c, nil
	}
	for first := 0; first < len(missing); first += populationMonths {
		places := missing[first:min(first+populationMonths, len(missing))]
		some := make([]int64, len(places))
		for i, place := range places {
			some[i] = ends[place]
		}
		counts, err := r.populationsInOne(ctx, tenant, cut, some, population, populationExact)
		if err != nil {
			return nil, err
		}
		for i, place := range places {
			c.set(place, counts[i])
		}
	}
	return c, nil
}

// population counts the users at one end.
func (r *Reports) population(ctx context.Context, tenant string, cut Cut, end int64) ([]tally, error) {
	var all []tally
	var doubts uint64
	params := cut.params(map[string]any{"tenant": tenant, "accounts": []string{}, "last": end})
	err := r.query(ctx, "count users and tokens", populationAt, params, func(row warehouse.Rows) error {
		var t tally
		var tied uint64
		err := row.Scan(&t.account, &t.n[0], &t.n[1], &tied)
		all, doubts = append(all, t), doubts+tied
		return err
	})
	if err != nil || doubts == 0 {
		return all, err
	}
	counts, err := r.populationsInOne(ctx, tenant, cut, []int64{end}, populationExact)
	if err != nil {
		return nil, err
	}
	return counts[0], nil
}

// populationsInOne counts the users at several ends with the first statement that leaves no doubt.
func (r *Reports) populationsInOne(ctx context.Context, tenant string, cut Cut, ends []int64, statements ...string) ([][]tally, error) {
	var all [][]tally
	for _, sql := range statements {
		all = make([][]tally, len(ends))
		doubts := uint64(0)
		params := cut.params(map[string]any{"tenant": tenant, "accounts": []string{}, "ends": ends, "last": ends[len(ends)-1]})
		err := r.query(ctx, "count users and tokens", sql, params, func(row warehouse.Rows) error {
			var account string
			var registered, token []uint64
			var tied uint64
			if err := row.Scan(&account, &registered, &token, &tied); err != nil {
				return err
			}
			doubts += tied
			for i := range registered {
				if registered[i] > 0 {
					all[i] = append(all[i], tally{account, [2]uint64{registered[i], token[i]}})
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if doubts == 0 {
			break
		}
	}
	return all, nil
}

// activities are the users with activity in each of the months, of all accounts.
func (r *Reports) activities(ctx context.Context, tenant string, cut Cut, months []usage.Month) (*counting, error) {
	ends := make([]int64, len(months))
	for i, m := range months {
		ends[i] = m.End().Millis()
	}
	of, err := r.prints(ctx, activityPrints, tenant, cut, []string{usage.MeterActivity}, months[0].Start().Millis(), ends)
	if err != nil {
		return nil, err
	}
	c := r.lookUp("activity", tenant, cut, ends, of)
	for _, i := range c.missing() {
		var all []tally
		if cut.Shards == nil || of[i].rows > 0 {
			if all, err = r.activity(ctx, tenant, cut, months[i]); err != nil {
				return nil, err
			}
		}
		c.set(i, all)
	}
	return c, nil
}

func (r *Reports) activity(ctx context.Context, tenant string, cut Cut, m usage.Month) ([]tally, error) {
	var all []tally
	params := cut.params(map[string]any{"tenant": tenant, "from": m.Start().Millis(), "to": m.End().Millis()})
	err := r.query(ctx, "count active users", activeInMonth, params, func(row warehouse.Rows) error {
		var t tally
		err := row.Scan(&t.account, &t.n[0])
		all = append(all, t)
		return err
	})
	return all, err
}
