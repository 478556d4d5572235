package usage

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// The rules of this file go beyond the shape of data: they relate members to each other.

// metered fills Event.Metered and leaves in the tree only what it does not hold.
func (r *reading) metered(data int32, at *path) {
	t := &r.p.tree
	m := &Metered{}
	for c := t.nodes[data].first; c != 0; c = t.nodes[c].next {
		n := &t.nodes[c]
		held := true
		switch n.name {
		case "meter":
			m.Meter = n.text
		case "quantity":
			m.Quantity, _ = parseQuantity(n.text)
		case "unit":
			m.Unit = n.text
		case "asset":
			m.AssetID, m.AssetName, m.AssetType = t.textOf(c, "id"), t.textOf(c, "name"), t.textOf(c, "type")
		case "start":
			m.Start, _ = ParseInstant(n.text)
		case "end":
			m.End, _ = ParseInstant(n.text)
		case "trial_expiry":
			m.TrialExpiry, _ = ParseInstant(n.text)
		case "region":
			m.Region = n.text
		case "platform":
			m.Platform = n.text
		case "consumer":
			m.ConsumerType, m.ConsumerID = t.textOf(c, "type"), t.textOf(c, "id")
		case "item":
			m.Item = n.text
		case "item_version":
			m.ItemVersion = n.text
		case "plan":
			m.Plan = n.text
		case "dimensions":
			for d := n.first; d != 0; d = t.nodes[d].next {
				m.Dimensions = append(m.Dimensions, Dimension{t.nodes[d].name, t.nodes[d].text})
			}
		default:
			held = false
		}
		n.drop = n.drop || held
	}
	slices.SortFunc(m.Dimensions, func(a, b Dimension) int { return strings.Compare(a.Key, b.Key) })
	r.event.Metered = m
	r.p.limits.checkMetered(m, func(name, code, detail string) {
		here := at.member(name)
		if owner, member, ok := strings.Cut(name, "/"); ok {
			above := at.member(owner)
			here = above.member(member)
		}
		r.refuse(here.String(), code, detail)
	})
}

// checkMetered holds the rules of usage.metered. The fast path calls it without refuse.
//
// Ingest knows no meters, so it cannot know that one is of kind secure_connect.
// A record whose asset has a type says so itself: then region, platform and sign are checked.
func (l *Limits) checkMetered(m *Metered, refuse func(name, code, detail string)) (ok bool) {
	ok = true
	fail := func(name, code, detail string) {
		ok = false
		if refuse != nil {
			refuse(name, code, detail)
		}
	}
	switch {
	case m.Start.Known() != m.End.Known():
		fail("end", CodeBadSpan, "start and end must be given both or neither")
	case m.Start.Known() && m.End.ns <= m.Start.ns:
		fail("end", CodeBadSpan, "end must be after start")
	case m.Start.Known() && m.End.ns-m.Start.ns > int64(l.MaxSpan):
		fail("end", CodeSpanTooLong, "end is more than "+days(l.MaxSpan)+" after start")
	}
	if len(m.Dimensions) > l.Dimensions {
		fail("dimensions", CodeManyDimensions, fmt.Sprintf("%d dimensions, the limit is %d", len(m.Dimensions), l.Dimensions))
	}
	for i := range m.Dimensions {
		d := &m.Dimensions[i]
		if d.Key == "" || len(d.Key) > l.DimensionBytes || len(d.Value) > l.DimensionBytes {
			fail("dimensions/"+d.Key, CodeLongDimension, fmt.Sprintf("name and value must have 1 to %d and 0 to %d bytes", l.DimensionBytes, l.DimensionBytes))
		}
	}
	if m.AssetType == "" {
		return ok
	}
	switch m.Region {
	case "", "AF", "AP", "EU", "NA":
	default:
		fail("region", CodeBadField, "region of an asset with a type must be one of AF, AP, EU, NA")
	}
	switch {
	case m.Platform == "":
	case m.AssetType == "USER":
		fail("platform", CodeBadField, "platform is for bandwidth only, not for USER assets")
	case m.Platform != "mcp" && m.Platform != "azure":
		fail("platform", CodeBadField, "platform of an asset with a type must be mcp or azure")
	}
	if m.Quantity.Sign() < 0 {
		fail("quantity", CodeNegative, "quantity of an asset with a type must not be negative; void the wrong event instead")
	}
	return ok
}

func (r *reading) credits(data int32, _ *path) {
	r.event.Credits, _ = parseQuantity(r.p.tree.textOf(data, "credits"))
}

func (r *reading) voided(data int32, at *path) {
	t := &r.p.tree
	target := t.child(data, "target")
	r.event.Target = Identity{Source: t.textOf(target, "source"), ID: t.textOf(target, "id")}
	if r.event.Target == (Identity{r.event.Source, r.event.ID}) {
		here := at.member("target")
		r.refuse(here.String(), CodeVoidOfVoid, "an event cannot void itself")
	}
}

// elastic checks each line's arithmetic and sums what was granted.
func (r *reading) elastic(data int32, at *path) {
	t := &r.p.tree
	lines := at.member("lines")
	seen := map[string]bool{}
	i := 0
	for c := t.nodes[t.child(data, "lines")].first; c != 0; c = t.nodes[c].next {
		here := lines.item(i)
		i++
		r.elasticLine(c, &here, seen)
	}
}

func (r *reading) elasticLine(line int32, at *path, seen map[string]bool) {
	t := &r.p.tree
	if n, err := parseQuantity(t.textOf(line, "line_no")); err == nil {
		if seen[n.String()] {
			here := at.member("line_no")
			r.refuse(here.String(), CodeBadField, "line_no must be unique within the event")
		}
		seen[n.String()] = true
	}
	quantity, _ := parseQuantity(t.textOf(line, "meter_quantity"))
	here := at.member("meter_quantity")
	if t.textOf(line, "response") != ResponseGranted {
		if !quantity.IsZero() {
			r.refuse(here.String(), CodeBadArithmetic, "a line that was not granted must have meter_quantity 0")
		}
		return
	}
	for _, name := range neededOfGranted() {
		if t.child(line, name) == 0 {
			missing := at.member(name)
			r.refuse(missing.String(), CodeMissingField, name+" is required of a granted line")
		}
	}
	cost, err := parseQuantity(t.textOf(line, "meter_cost"))
	if err != nil {
		return
	}
	count, _ := parseQuantity(t.textOf(line, "item_quantity"))
	if !chargeAgrees(cost, count, quantity) {
		r.refuse(here.String(), CodeBadArithmetic,
			fmt.Sprintf("meter_quantity is %s, but meter_cost %s × item_quantity %s is another amount", quantity, cost, count))
	}
	r.event.Credits = r.event.Credits.Add(quantity)
}

// chargeAgrees reports |cost × count − quantity| <= 1e-6 + |cost| × 5e-10 (quantities have
// six decimals, counts nine). Everything is doubled and in units of 1e-18, so there is no fraction.
func chargeAgrees(cost, count, quantity Quantity) bool {
	c := cost.Big()
	difference := new(big.Int).Mul(c, count.Big())
	difference.Sub(difference, new(big.Int).Mul(quantity.Big(), big.NewInt(1_000_000_000)))
	difference.Abs(difference).Lsh(difference, 1)
	tolerance := new(big.Int).Abs(c)
	tolerance.Add(tolerance, big.NewInt(2_000_000_000_000))
	return difference.Cmp(tolerance) <= 0
}

func (r *reading) meterDefined(data int32, at *path) {
	t := &r.p.tree
	if scale, err := parseQuantity(t.textOf(data, "scale")); err == nil && scale.Cmp(Int(Scale)) > 0 {
		here := at.member("scale")
		r.refuse(here.String(), CodeBadField, "scale must be 0 to 9")
	}
	if t.textOf(data, "kind") != "secure_connect" {
		return
	}
	for _, name := range neededOfAssets() {
		if t.child(data, name) == 0 {
			here := at.member(name)
			r.refuse(here.String(), CodeMissingField, name+" is required of kind secure_connect")
		}
	}
}

func (r *reading) priceSet(data int32, at *path) {
	t := &r.p.tree
	tiers := at.member("tiers")
	last := Int(-1)
	i := 0
	for c := t.nodes[t.child(data, "tiers")].first; c != 0; c = t.nodes[c].next {
		from, _ := parseQuantity(t.textOf(c, "from"))
		if from.Cmp(last) <= 0 {
			tier := tiers.item(i)
			here := tier.member("from")
			r.refuse(here.String(), CodeBadField, "tiers must be in ascending order of from")
		}
		last = from
		i++
	}
}

func (r *reading) period(data int32, at *path) { r.ascending(data, at, "start", "end") }
func (r *reading) gap(data int32, at *path)    { r.ascending(data, at, "from", "to") }

func (r *reading) ascending(data int32, at *path, from, to string) {
	t := &r.p.tree
	a, err1 := ParseInstant(t.textOf(data, from))
	b, err2 := ParseInstant(t.textOf(data, to))
	if err1 == nil && err2 == nil && b.ns <= a.ns {
		here := at.member(to)
		r.refuse(here.String(), CodeBadSpan, to+" must be after "+from)
	}
}
