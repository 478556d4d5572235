package report_test

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// The oracle of assets: detail and costs from Go structs, record by record, with fractions. It shares no code with
// the package under test.

// step is an event about an asset.
type step struct {
	lived
	account, asset, typ string
	at                  int64
	source              string
	seq                 int
	value               string // name
	assetType           string
	expiry              int64
}

// lived is when an event was known: from recorded on, until voided if that is not 0.
type lived struct {
	id               string
	recorded, voided int64
}

func (l lived) at(asOf int64) bool { return l.recorded <= asOf && (l.voided == 0 || l.voided > asOf) }

// record is a usage event.
type record struct {
	lived
	account, asset, meter, region, platform string
	start, end                              int64 // end 0: an instant
	own                                     int64
	quantity                                *big.Rat
}

// pricing is a price.set.
type pricing struct {
	lived
	meter, region string
	at, from      int64
	source        string
	tiers         [][2]*big.Rat
}

// estate is a generated history of assets.
type estate struct {
	docs    []stored
	steps   []step
	records []record
	prices  []pricing
}

// stored is what goes into the tables, in order of recording.
type stored struct {
	lived
	doc string
}

var assetInstants = []time.Time{
	month.Add(-2 * time.Hour), month, month.AddDate(0, 0, 4).Add(22 * time.Hour), month.AddDate(0, 0, 5), month.AddDate(0, 0, 5).Add(90 * time.Minute),
	month.AddDate(0, 0, 5).Add(90 * time.Minute), month.AddDate(0, 0, 6), next.Add(-time.Hour), next,
}

func assetInstant(t *rapid.T, label string) int64 {
	at := rapid.SampledFrom(assetInstants).Draw(t, label)
	return at.Add(rapid.SampledFrom([]time.Duration{0, 0, -time.Millisecond, 20 * time.Minute, -30 * time.Minute}).Draw(t, label+" offset")).UnixMilli()
}

// drawEstate makes accounts, meters, and a history with everything that can come at the same time, late, or twice.
func drawEstate(t *rapid.T) *estate {
	e := &estate{}
	recorded := month.AddDate(0, -2, 0).UnixMilli()
	n := 0
	add := func(typ, subject, source string, at int64, data string) lived {
		n++
		recorded += rapid.Int64Range(1, 1000).Draw(t, "pause")
		l := lived{id: fmt.Sprintf("a-%d", n), recorded: recorded}
		if n > 12 && rapid.IntRange(0, 9).Draw(t, "void") == 0 {
			recorded += 5
			l.voided = recorded
		}
		if subject != "" {
			subject = fmt.Sprintf(`"subject":%q,`, subject)
		}
		e.docs = append(e.docs, stored{l, fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":%q,%s"time":%q,"data":%s}`, l.id, source, typ, subject, rfc(at), data)})
		return l
	}
	early := month.AddDate(0, -2, 0).UnixMilli()
	add("account.created", "org", "gen", early, `{"name":"Org","kind":"organization","currency":"EUR"}`)
	add("account.created", "t1", "gen", early, `{"name":"One","kind":"tenant","parent_account_id":"org"}`)
	add("account.created", "t2", "gen", assetInstants[4].UnixMilli(), `{"name":"Two","kind":"tenant","parent_account_id":"org"}`)
	for i, m := range []string{"hours", "gib"} {
		add("meter.defined", "", "gen", early, fmt.Sprintf(`{"meter":%q,"meter_id":"id-%d","element":"e","unit":"u","plan":"basic","aggregation":"sum","kind":"secure_connect"}`, m, i))
	}
	add("meter.defined", "", "gen", early, `{"meter":"other","unit":"u","aggregation":"sum","kind":"usage"}`)
	for n < 12 {
		add("user.activity", "t1", "gen", early, `{"user_id":"u","kind":"login","result":"failure"}`)
	}
	account, asset := rapid.SampledFrom([]string{"t1", "t1", "t2"}), rapid.SampledFrom([]string{"x", "y", "z"})
	for range rapid.IntRange(5, 60).Draw(t, "events") {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0, 1:
			e.steps = append(e.steps, drawStep(t, account.Draw(t, "account"), asset.Draw(t, "asset"), add))
		case 2:
			e.prices = append(e.prices, drawPrice(t, add))
		default:
			e.records = append(e.records, drawRecord(t, account.Draw(t, "account"), asset.Draw(t, "asset"), add))
		}
	}
	return e
}

type adder func(typ, subject, source string, at int64, data string) lived

func drawStep(t *rapid.T, account, asset string, add adder) step {
	s := step{account: account, asset: asset, at: assetInstant(t, "step at"), source: rapid.SampledFrom([]string{"gen", "crm"}).Draw(t, "source"), seq: rapid.IntRange(0, 2).Draw(t, "seq")}
	if rapid.Bool().Draw(t, "early") {
		s.at = month.AddDate(0, 0, -20).UnixMilli()
	}
	s.typ = rapid.SampledFrom([]string{"asset.registered", "asset.registered", "asset.renamed", "asset.trial_set", "asset.trial_set", "asset.removed"}).Draw(t, "type")
	data := fmt.Sprintf(`"asset_id":%q,"source_seq":%d`, asset, s.seq)
	switch s.typ {
	case "asset.registered":
		s.value, s.assetType = rapid.SampledFrom([]string{"N1", "N2"}).Draw(t, "name"), rapid.SampledFrom([]string{"USER", "TRANSPORT", "GATEWAY"}).Draw(t, "asset type")
		data += fmt.Sprintf(`,"asset_name":%q,"asset_type":%q`, s.value, s.assetType)
	case "asset.renamed":
		s.value = rapid.SampledFrom([]string{"R1", "R2"}).Draw(t, "name")
		data += fmt.Sprintf(`,"asset_name":%q`, s.value)
	case "asset.trial_set":
		s.expiry = assetInstant(t, "expiry")
		zone := time.FixedZone("", rapid.SampledFrom([]int{0, 3600, -5 * 3600}).Draw(t, "zone"))
		data += fmt.Sprintf(`,"trial_expiry":%q`, time.UnixMilli(s.expiry).In(zone).Format("2006-01-02T15:04:05.000Z07:00"))
	}
	s.lived = add(s.typ, account, s.source, s.at, "{"+data+"}")
	return s
}

func drawRecord(t *rapid.T, account, asset string, add adder) record {
	r := record{
		account: account, asset: asset, meter: rapid.SampledFrom([]string{"hours", "gib", "gib", "other"}).Draw(t, "meter"),
		region:   rapid.SampledFrom([]string{"EU", "EU", "NA", "US", ""}).Draw(t, "region"),
		platform: rapid.SampledFrom([]string{"", "", "mcp", "azure", "moon"}).Draw(t, "platform"), start: assetInstant(t, "start"),
	}
	text := rapid.SampledFrom([]string{"1", "0", "0.000001", "1.000001", "1.000005", "650", "0.123456789", "99999.999999999", "-1"}).Draw(t, "quantity")
	r.quantity, _ = new(big.Rat).SetString(text)
	data := fmt.Sprintf(`"meter":%q,"quantity":%q,"region":%q,"platform":%q,"asset":{"id":%q}`, r.meter, text, r.region, r.platform, asset)
	if rapid.Bool().Draw(t, "span") {
		r.end = r.start + rapid.SampledFrom([]time.Duration{time.Millisecond, time.Hour, 3 * time.Hour, 7 * time.Hour, 50 * time.Hour, 40 * 24 * time.Hour}).Draw(t, "length").Milliseconds()
		data += fmt.Sprintf(`,"start":%q,"end":%q`, rfc(r.start), rfc(r.end))
	}
	if rapid.IntRange(0, 3).Draw(t, "has own") == 0 {
		r.own = assetInstant(t, "own expiry")
		data += fmt.Sprintf(`,"trial_expiry":%q`, rfc(r.own))
	}
	r.lived = add("usage.metered", account, "gen", r.start, "{"+data+"}")
	return r
}

func drawPrice(t *rapid.T, add adder) pricing {
	p := pricing{
		meter: rapid.SampledFrom([]string{"hours", "gib"}).Draw(t, "meter"), region: rapid.SampledFrom([]string{"*", "EU", ""}).Draw(t, "region"),
		at: assetInstant(t, "said"), from: assetInstant(t, "from"), source: rapid.SampledFrom([]string{"gen", "crm"}).Draw(t, "source"),
	}
	if p.region == "" {
		p.region = "NA"
	}
	tiers := []string{}
	for i, from := range []string{"0", "0.5", "100"}[:rapid.IntRange(1, 3).Draw(t, "tiers")] {
		unit := rapid.SampledFrom([]string{"0", "0.01", "0.015", "0.333333333"}).Draw(t, "unit price")
		if i == 0 && rapid.Bool().Draw(t, "no first tier") {
			from = "0.25"
		}
		a, _ := new(big.Rat).SetString(from)
		b, _ := new(big.Rat).SetString(unit)
		p.tiers = append(p.tiers, [2]*big.Rat{a, b})
		tiers = append(tiers, fmt.Sprintf(`{"from":%q,"unit_price":%s}`, from, unit))
	}
	p.lived = add("price.set", "", p.source, p.at, fmt.Sprintf(`{"meter":%q,"region":%q,"currency":"EUR","effective_from":%q,"tiers":[%s]}`,
		p.meter, p.region, rfc(p.from), strings.Join(tiers, ",")))
	return p
}

// piece is what counts.
type piece struct {
	record
	begin    int64
	quantity *big.Rat
	expiry   int64
	trial    bool
}

// of are the steps about an asset at or before an instant, in fold order.
func (e *estate) of(r *record, asOf, until int64, types ...string) []step {
	var all []step
	for _, s := range e.steps {
		if s.lived.at(asOf) && s.account == r.account && s.asset == r.asset && s.at <= until && slices.Contains(types, s.typ) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.source, b.source), cmp.Compare(a.seq, b.seq), cmp.Compare(a.id, b.id))
	})
	return all
}

func (e *estate) expiryAt(r *record, asOf, at int64) (expiry, since int64) {
	if r.own != 0 {
		return r.own, 0
	}
	trials := e.of(r, asOf, at, "asset.trial_set")
	if len(trials) == 0 {
		return 0, 0
	}
	last := trials[len(trials)-1]
	return last.expiry, last.at
}

// pieces cuts a record where a day or the trial in force ends, and leaves out what does not count.
func (e *estate) pieces(r *record, asOf int64) []piece {
	const day = 86_400_000
	borders := []int64{}
	candidates := []int64{r.own}
	for _, s := range e.steps {
		candidates = append(candidates, s.expiry)
	}
	for at := r.start/day*day + day; at < r.end; at += day {
		borders = append(borders, at)
	}
	for _, x := range candidates {
		if x > r.start && x < r.end {
			if expiry, since := e.expiryAt(r, asOf, x); expiry == x && since < x {
				borders = append(borders, x)
			}
		}
	}
	slices.Sort(borders)
	borders = slices.Compact(borders)
	starts := append([]int64{r.start}, borders...)
	rest := new(big.Rat).Set(r.quantity)
	var all []piece
	for i, begin := range starts {
		p := piece{record: *r, begin: begin, quantity: rest}
		if i+1 < len(starts) {
			part := new(big.Rat).Mul(r.quantity, big.NewRat(starts[i+1]-begin, r.end-r.start))
			p.quantity = roundEven(part, 6)
			rest = new(big.Rat).Sub(rest, p.quantity)
		}
		p.expiry, _ = e.expiryAt(r, asOf, begin)
		p.trial = p.expiry != 0 && begin < p.expiry
		registered := e.of(r, asOf, begin, "asset.registered")
		created := month.AddDate(0, -2, 0).UnixMilli()
		if r.account == "t2" {
			created = assetInstants[4].UnixMilli()
		}
		if len(registered) == 0 || begin < created || r.meter == "other" || r.quantity.Sign() < 0 || r.region == "US" || r.platform == "moon" {
			continue
		}
		if r.platform != "" && registered[len(registered)-1].assetType == "USER" {
			continue
		}
		all = append(all, p)
	}
	return all
}

func roundEven(x *big.Rat, digits int) *big.Rat {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
	scaled := new(big.Rat).Mul(x, new(big.Rat).SetInt(scale))
	floor := new(big.Int).Div(scaled.Num(), scaled.Denom())
	rest := new(big.Rat).Sub(scaled, new(big.Rat).SetInt(floor))
	if c := rest.Cmp(big.NewRat(1, 2)); c > 0 || c == 0 && floor.Bit(0) == 1 {
		floor.Add(floor, big.NewInt(1))
	}
	return new(big.Rat).SetFrac(floor, scale)
}

// digits prints a fraction of billionths with at least n decimals.
func digits(x *big.Rat, n int) string {
	text := x.FloatString(9)
	for strings.HasSuffix(text, "0") && len(text)-strings.Index(text, ".")-1 > n {
		text = text[:len(text)-1]
	}
	return text
}

// inMonth are the pieces that count in the month of an instant.
func (e *estate) inMonth(m time.Time, asOf int64) []piece {
	var all []piece
	for i := range e.records {
		if r := &e.records[i]; r.lived.at(asOf) {
			for _, p := range e.pieces(r, asOf) {
				if p.begin >= m.UnixMilli() && p.begin < m.AddDate(0, 1, 0).UnixMilli() {
					all = append(all, p)
				}
			}
		}
	}
	return all
}

// detail are the lines of asset-usage-detail, sorted.
func (e *estate) detail(account string, m time.Time, asOf int64) []string {
	const day = 86_400_000
	type key struct {
		asset, meter, region, platform string
		trial                          bool
		day                            int64
	}
	quantities, expiries := map[key]*big.Rat{}, map[key]int64{}
	for _, p := range e.inMonth(m, asOf) {
		if p.account != account {
			continue
		}
		k := key{p.asset, p.meter, p.region, p.platform, p.trial, p.begin / day * day}
		if quantities[k] == nil {
			quantities[k] = new(big.Rat)
		}
		quantities[k].Add(quantities[k], p.quantity)
		expiries[k] = max(expiries[k], p.expiry)
	}
	lines := []string{}
	for k, quantity := range quantities {
		names := e.of(&record{account: account, asset: k.asset}, asOf, k.day+day-1, "asset.registered", "asset.renamed")
		types := e.of(&record{account: account, asset: k.asset}, asOf, k.day+day-1, "asset.registered")
		expiry := ""
		if expiries[k] != 0 {
			expiry = strings.Replace(rfc(expiries[k]), ".000Z", "Z", 1)
		}
		second := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
		lines = append(lines, strings.Join([]string{
			"org", account, names[len(names)-1].value, k.asset, types[len(types)-1].assetType, k.meter, map[string]string{"hours": "id-0", "gib": "id-1"}[k.meter],
			second(k.day), second(k.day + day), digits(quantity, 6), k.region, k.platform, strings.ToUpper(fmt.Sprint(k.trial)), expiry,
		}, ","))
	}
	slices.Sort(lines)
	return lines
}

// costs are the lines of asset-monthly-costs, sorted.
func (e *estate) costs(m time.Time, asOf int64) []string {
	type key struct {
		account, meter, region string
		trial                  bool
	}
	quantities := map[key]*big.Rat{}
	for _, p := range e.inMonth(m, asOf) {
		k := key{p.account, p.meter, p.region, p.trial}
		if quantities[k] == nil {
			quantities[k] = new(big.Rat)
		}
		quantities[k].Add(quantities[k], p.quantity)
	}
	lines := []string{}
	for k, quantity := range quantities {
		cost := "0.00"
		if !k.trial {
			cost = e.cost(k.meter, k.region, m.UnixMilli(), quantity, asOf)
		}
		lines = append(lines, strings.Join([]string{
			"org", "Org", k.account, map[string]string{"t1": "One", "t2": "Two"}[k.account], "basic", m.Format("2006-01"),
			map[string]string{"hours": "id-0", "gib": "id-1"}[k.meter], k.meter, k.region, strings.ToUpper(fmt.Sprint(k.trial)), digits(quantity, 6), "EUR", cost,
		}, ","))
	}
	slices.Sort(lines)
	return lines
}

// cost adds up unit prices of slices that are thin enough to lie in one tier each: the borders of all tiers.
func (e *estate) cost(meter, region string, at int64, quantity *big.Rat, asOf int64) string {
	for _, where := range []string{region, "*"} {
		var found []pricing
		for _, p := range e.prices {
			if p.lived.at(asOf) && p.meter == meter && p.region == where && p.from <= at {
				found = append(found, p)
			}
		}
		if len(found) == 0 {
			continue
		}
		slices.SortFunc(found, func(a, b pricing) int {
			return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.at, b.at), cmp.Compare(a.source, b.source), cmp.Compare(a.id, b.id))
		})
		total := new(big.Rat)
		tiers := found[len(found)-1].tiers
		for i, t := range tiers {
			high := quantity
			if i+1 < len(tiers) && tiers[i+1][0].Cmp(high) < 0 {
				high = tiers[i+1][0]
			}
			if high.Cmp(t[0]) > 0 {
				total.Add(total, new(big.Rat).Mul(new(big.Rat).Sub(high, t[0]), t[1]))
			}
		}
		return roundEven(total, 2).FloatString(2)
	}
	return ""
}
