package report

import (
	"context"
	"errors"
	"math/big"
	"slices"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// timeWeighted is the aggregation of a gauge: value times hours.
const timeWeighted = "time_weighted"

// A series is what one gauge says: the samples of a meter with the same account, region, platform and asset. A
// sample's value holds from its instant until the next one of its series, whatever month or year that is, and the
// last one until the instant up to which the answer knows everything. Of several samples of one instant the last in
// the canonical order holds. What a sample holds falls under trial until the sample's trial_expiry, and
// under the sample's own plan, else the account's at each instant.

type series struct{ meter, account, region, platform, asset string }

type sample struct {
	series
	at                               int64 // Unix ms
	value                            amount
	trialExpiry                      int64 // 0: none
	plan, consumer, item, dimensions string
}

// errFull ends a read whose answer is larger than it may be.
var errFull = errors.New("more rows than may be answered")

// held answers a question about time-weighted meters: sums of billionths times milliseconds. What lies beyond
// horizon is not known yet.
func (r *Reports) held(ctx context.Context, q question, horizon int64) (*cells, error) {
	c := newCells(q)
	end := min(q.to, max(horizon, q.from))
	var last *sample
	err := r.eachSample(ctx, c, func(s *sample) error {
		if s.at >= q.from {
			c.put(c.keyOf(s, s.at), &measure{events: 1, live: 1, first: s.at, last: s.at})
		}
		if last != nil {
			until := end
			if last.series == s.series {
				until = min(end, s.at)
			}
			c.hold(last, until)
		}
		last = s
		if q.rowsMax > 0 && len(c.cells) > q.rowsMax {
			return errFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFull) {
		return nil, err
	}
	if last != nil {
		c.hold(last, end)
	}
	return c, nil
}

// eachSample reads the samples of a question. They are kept as sums are, and not what follows from them: that goes on with
// the clock.
func (r *Reports) eachSample(ctx context.Context, c *cells, each func(*sample) error) error {
	name, keep := "", c.q.keeps()
	if keep {
		name = c.q.name("held")
		if known := r.samples.get(name); known != nil {
			for i := range *known {
				if err := each(&(*known)[i]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	read := []sample{}
	err := r.query(ctx, "read samples", held, c.params(c.q.from, c.q.to), func(row warehouse.Rows) error {
		s := &sample{}
		var value string
		err := row.Scan(&s.meter, &s.account, &s.region, &s.platform, &s.asset, &s.at, &value, &s.trialExpiry, &s.plan, &s.consumer, &s.item, &s.dimensions)
		if err != nil {
			return err
		}
		if s.value, err = parseAmount(value); err != nil {
			return err
		}
		if keep = keep && len(read) < sumsEach; keep {
			read = append(read, *s)
		}
		return each(s)
	})
	if err == nil && keep {
		r.samples.put(name, &read, 1+len(read))
	}
	return err
}

// hold adds what a sample's value is worth until an instant, cut wherever the key changes.
func (c *cells) hold(s *sample, until int64) {
	from := max(s.at, c.q.from)
	if from >= until || s.value.Sign() == 0 {
		return
	}
	cuts := []int64{until}
	cut := func(at int64) {
		if at > from && at < until {
			cuts = append(cuts, at)
		}
	}
	cut(s.trialExpiry)
	if s.plan == "" {
		for _, at := range c.at[s.account] {
			cut(at)
		}
	}
	slices.Sort(cuts)
	for _, end := range cuts {
		for from < end {
			next := min(end, c.windowEnd(from))
			worth := new(big.Int).Mul(s.value, big.NewInt(next-from))
			c.put(c.keyOf(s, from), &measure{sum: worth, live: 1})
			if c.q.rowsMax > 0 && len(c.cells) > c.q.rowsMax {
				return
			}
			from = next
		}
	}
}

// windowEnd is the end of the window of an instant.
func (c *cells) windowEnd(at int64) int64 {
	switch c.q.window {
	case "hour":
		return at/hourMillis*hourMillis + hourMillis
	case "day":
		return at/(24*hourMillis)*(24*hourMillis) + 24*hourMillis
	case "month":
		return usage.MonthOf(usage.At(at * 1_000_000)).End().Millis()
	}
	return c.q.to
}

// keyOf is the key of what a sample says of an instant.
func (c *cells) keyOf(s *sample, at int64) key {
	k := key{meter: s.meter}
	by := c.q.by
	switch c.q.window {
	case "hour":
		k.window = at / hourMillis * hourMillis / 1000
	case "day":
		k.window = at / (24 * hourMillis) * (24 * hourMillis) / 1000
	case "month":
		k.window = usage.MonthOf(usage.At(at*1_000_000)).Start().Millis() / 1000
	}
	if by.account {
		k.account = s.account
	}
	if by.plan {
		if k.plan = s.plan; k.plan == "" {
			k.plan = c.q.state.UsagePlan(s.account, s.meter, at)
		}
	}
	if by.region {
		k.region = s.region
	}
	if by.platform {
		k.platform = s.platform
	}
	k.trial = by.trial && at < s.trialExpiry
	k.consumer, k.item, k.dimensions = s.consumer, s.item, s.dimensions
	return k
}
