package reference

import (
	"cmp"
	"math/big"
	"slices"
	"strings"
)

// piece is a part of a record of usage that counts.
type piece struct {
	asset, meter, region, platform, plan, name, kind string
	trial                                            bool
	start, expiry                                    int64
	quantity                                         *big.Rat
}

// meters are the meters of Secure Connect as they are defined.
func (h *History) meters() map[string]*Event {
	all := map[string]*Event{}
	for _, e := range h.of("meter.defined") {
		all[e.text("meter")] = e
	}
	for name, e := range all {
		if e.text("kind") != "secure_connect" {
			delete(all, name)
		}
	}
	return all
}

// asset is the event that speaks last of an asset at an instant, of some types.
func (h *History) asset(account, id string, at int64, types ...string) *Event {
	var last *Event
	for _, e := range h.of(types...) {
		if e.Account == account && e.text("asset_id") == id && e.At <= at {
			last = e
		}
	}
	return last
}

// expiry is the end of the trial that is in force at an instant; 0 where nobody set one.
func (h *History) expiry(account, id string, at int64) int64 {
	if e := h.asset(account, id, at, "asset.trial_set"); e != nil {
		return e.instant("trial_expiry")
	}
	return 0
}

// pieces are those of an account's usage that start in [from, to).
func (h *History) pieces(account string, from, to int64) []piece {
	meters := h.meters()
	ever := h.before(never).accounts[account]
	if ever == nil {
		return nil
	}
	var all []piece
	for _, e := range h.of("usage.metered") {
		if e.Account != account || meters[e.text("meter")] == nil || e.number("quantity").Sign() < 0 {
			continue
		}
		of, _ := e.Data["asset"].(map[string]any)
		id := textOf(of, "id")
		region, platform := e.text("region"), e.text("platform")
		if !slices.Contains([]string{"", "AF", "AP", "EU", "NA"}, region) || !slices.Contains([]string{"", "mcp", "azure"}, platform) {
			continue
		}
		for _, p := range h.cut(e, id) {
			registered := h.asset(account, id, p.start, "asset.registered")
			if registered == nil || p.start < ever.lives[0].from || p.start < from || p.start >= to || platform != "" && registered.text("asset_type") == "USER" {
				continue
			}
			evening := p.start - p.start%day + day - 1
			p.name = h.asset(account, id, evening, "asset.registered", "asset.renamed").text("asset_name")
			p.kind = h.asset(account, id, evening, "asset.registered").text("asset_type")
			p.asset, p.meter, p.region, p.platform, p.plan = id, e.text("meter"), region, platform, e.text("plan")
			all = append(all, p)
		}
	}
	return all
}

// cut is a record at UTC midnights and where its trial ends: shares to six decimals, the last takes the rest.
func (h *History) cut(e *Event, asset string) []piece {
	own, end := e.instant("trial_expiry"), e.instant("end")
	starts := []int64{e.At}
	for at := e.At + 1; at < end; at = at - at%day + day {
		if at%day == 0 {
			starts = append(starts, at)
		}
	}
	if own > e.At && own < end {
		starts = append(starts, own)
	}
	if own == 0 {
		for _, set := range h.of("asset.trial_set") {
			at := set.instant("trial_expiry")
			if set.Account == e.Account && set.text("asset_id") == asset && at > e.At && at < end && set.At < at && h.expiry(e.Account, asset, at) == at {
				starts = append(starts, at)
			}
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	var all []piece
	left := e.number("quantity")
	for i, start := range starts {
		p := piece{start: start, expiry: own, quantity: left}
		if i+1 < len(starts) {
			p.quantity = halfEven(new(big.Rat).Mul(e.number("quantity"), big.NewRat(starts[i+1]-start, end-e.At)), 6)
			left = new(big.Rat).Sub(left, p.quantity)
		}
		if own == 0 {
			p.expiry = h.expiry(e.Account, asset, start)
		}
		p.trial = start < p.expiry
		all = append(all, p)
	}
	return all
}

// AssetDetail is asset-usage-detail.
func (h *History) AssetDetail(tenant, month string) []string {
	from, to := Month(month)
	meters := h.meters()
	organization := ""
	s := h.before(to)
	if a := s.accounts[tenant]; a != nil && s.accounts[a.parent] != nil {
		organization = a.parent
	}
	type key struct {
		asset, meter, region, platform string
		day                            int64
		trial                          bool
	}
	sums := map[key]*piece{}
	for _, p := range h.pieces(tenant, from, to) {
		k := key{p.asset, p.meter, p.region, p.platform, p.start - p.start%day, p.trial}
		if sums[k] == nil {
			sums[k] = &piece{name: p.name, kind: p.kind, quantity: new(big.Rat)}
		}
		sums[k].quantity.Add(sums[k].quantity, p.quantity)
		sums[k].expiry = max(sums[k].expiry, p.expiry)
	}
	var keys []key
	for k := range sums {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(strings.Compare(a.asset, b.asset), strings.Compare(a.meter, b.meter), strings.Compare(a.region, b.region),
			strings.Compare(a.platform, b.platform), cmp.Compare(a.day, b.day), -strings.Compare(boolean(a.trial), boolean(b.trial)))
	})
	var rows []string
	for _, k := range keys {
		p := sums[k]
		rows = append(rows, strings.Join([]string{
			organization, tenant, p.name, k.asset, p.kind, k.meter, meters[k.meter].text("meter_id"), stamp(k.day), stamp(k.day + day), atLeastSix(p.quantity),
			k.region, k.platform, boolean(k.trial), stamp(p.expiry),
		}, ","))
	}
	return rows
}

// costKey is a row of asset-monthly-costs.
type costKey struct {
	tenant, plan, meter, region string
	trial                       bool
}

// AssetCosts is asset-monthly-costs of a month.
func (h *History) AssetCosts(organization, month string) []string {
	from, to := Month(month)
	s, meters := h.before(to), h.meters()
	if s.accounts[organization] == nil {
		return nil
	}
	sums := map[costKey]*big.Rat{}
	for _, tenant := range h.kin(s, organization, true) {
		for _, p := range h.pieces(tenant.id, from, to) {
			m := meters[p.meter]
			k := costKey{tenant.id, cmp.Or(p.plan, h.usagePlan(tenant.id, m.text("service"), p.start), m.text("plan")), p.meter, p.region, p.trial}
			if sums[k] == nil {
				sums[k] = new(big.Rat)
			}
			sums[k].Add(sums[k], p.quantity)
		}
	}
	var keys []costKey
	for k := range sums {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b costKey) int {
		return cmp.Or(strings.Compare(a.tenant, b.tenant), strings.Compare(a.plan, b.plan), strings.Compare(a.meter, b.meter), strings.Compare(a.region, b.region),
			-strings.Compare(boolean(a.trial), boolean(b.trial)))
	})
	var rows []string
	for _, k := range keys {
		currency := cmp.Or(s.accounts[organization].currency, s.accounts[k.tenant].currency, h.onlyCurrency(k.meter))
		cost := "0.00"
		if !k.trial {
			cost = h.cost(k.meter, k.region, currency, from, sums[k])
		}
		rows = append(rows, strings.Join([]string{
			organization, s.accounts[organization].name, k.tenant, s.accounts[k.tenant].name, k.plan, month, meters[k.meter].text("meter_id"), k.meter, k.region,
			boolean(k.trial), atLeastSix(sums[k]), currency, cost,
		}, ","))
	}
	return rows
}

// onlyCurrency is the one in which a meter has prices, "" if there are several.
func (h *History) onlyCurrency(meter string) string {
	only := ""
	for _, e := range h.of("price.set") {
		if currency := e.text("currency"); e.text("meter") == meter {
			if only != "" && only != currency {
				return ""
			}
			only = currency
		}
	}
	return only
}

// cost is what a month's quantity costs by the tiers in force at an instant; "" without a price.
func (h *History) cost(meter, region, currency string, at int64, quantity *big.Rat) string {
	var force *Event
	for _, where := range []string{region, "*"} {
		for _, e := range h.of("price.set") {
			if e.text("meter") == meter && e.text("region") == where && e.text("currency") == currency && e.instant("effective_from") <= at &&
				(force == nil || e.instant("effective_from") >= force.instant("effective_from")) {
				force = e
			}
		}
		if force != nil {
			break
		}
	}
	if force == nil {
		return ""
	}
	tiers := slices.Clone(force.objects("tiers"))
	slices.SortStableFunc(tiers, func(a, b map[string]any) int { return numberOf(a, "from").Cmp(numberOf(b, "from")) })
	sum := new(big.Rat)
	for i, tier := range tiers {
		upper := quantity
		if i+1 < len(tiers) && numberOf(tiers[i+1], "from").Cmp(quantity) < 0 {
			upper = numberOf(tiers[i+1], "from")
		}
		if units := new(big.Rat).Sub(upper, numberOf(tier, "from")); units.Sign() > 0 {
			sum.Add(sum, units.Mul(units, numberOf(tier, "unit_price")))
		}
	}
	return cents(sum)
}
