package report_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"sort"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// The oracle: the same answers from Go structs, the slow and obvious way. It shares no code with the
// package under test.

var (
	month = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	next  = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
)

// occurrence is an event of the generated history.
type occurrence struct {
	id       string
	doc      string
	at       int64
	recorded int64
	voided   int64 // recorded instant of its void, 0 if none

	rows []counting // what it counts

	level       *big.Int // of a sample of a gauge: what it holds from at on; nil for all else
	trialExpiry int64

	kind, account, name, parent, service, plan string // directory
}

// counting is a row that counts.
type counting struct {
	at                                               int64
	account, meter, plan, region, platform, consumer string
	dimension                                        string
	trial                                            bool
	q                                                *big.Int // billionths
	n                                                int64
	id                                               string
	sourceSeq                                        int64
	asset                                            string
	worth                                            bool // what a gauge was worth from at on: q is billionths times milliseconds
}

type history struct {
	all []occurrence
}

// definitions of the meters used; "calls" is not defined at all.
var definitions = []string{
	`{"meter":"tokens","meter_id":"m1","element":"token","unit":"token","aggregation":"sum","scale":9,"kind":"usage","service":"idaas"}`,
	`{"meter":"gib","meter_id":"m2","element":"bandwidth","unit":"GiB","aggregation":"sum","scale":9,"kind":"usage","service":"spp"}`,
	`{"meter":"peak","meter_id":"m3","element":"session","unit":"session","aggregation":"max","scale":9,"kind":"usage"}`,
	`{"meter":"people","meter_id":"m4","element":"user","unit":"user","aggregation":"unique","scale":0,"kind":"usage"}`,
	`{"meter":"level","meter_id":"m5","element":"level","unit":"%","aggregation":"latest","scale":9,"kind":"usage"}`,
	`{"meter":"mean","meter_id":"m6","element":"load","unit":"%","aggregation":"avg","scale":9,"kind":"usage"}`,
	`{"meter":"gauge","meter_id":"m8","element":"asset","unit":"asset","aggregation":"time_weighted","scale":9,"kind":"usage","service":"sta"}`,
	`{"meter":"floor","meter_id":"m9","element":"session","unit":"session","aggregation":"min","scale":9,"kind":"usage"}`,
	`{"meter":"hits","meter_id":"m7","element":"hit","unit":"hit","aggregation":"count","scale":0,"kind":"usage"}`,
}

var aggregations = map[string]string{"peak": "max", "floor": "min", "people": "unique", "level": "latest", "mean": "avg", "hits": "count", "gauge": "time_weighted"}
var units = map[string]string{"tokens": "token", "gib": "GiB", "peak": "session", "floor": "session", "people": "user", "level": "%", "mean": "%", "hits": "hit", "gauge": "asset"}
var services = map[string]string{"tokens": "idaas", "gib": "spp", "gauge": "sta"}

// instants cluster around plan changes, hours, days and both ends of the month.
func instant(t *rapid.T, label string) int64 {
	base := rapid.SampledFrom([]time.Time{
		month.Add(-time.Minute), month, month.Add(12 * time.Hour),
		month.Add(12*time.Hour + 20*time.Minute), month.Add(12*time.Hour + 20*time.Minute), month.Add(12*time.Hour + 20*time.Minute),
		month.AddDate(0, 0, 9), month.AddDate(0, 0, 20).Add(5 * time.Hour), next.Add(-time.Hour), next,
	}).Draw(t, label)
	offset := rapid.SampledFrom([]time.Duration{
		0, -time.Millisecond, time.Millisecond, 10 * time.Minute, -10 * time.Minute, 40 * time.Minute, -2 * time.Hour,
	}).Draw(t, label+" offset")
	return base.Add(offset).UnixMilli()
}

func rfc(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

func draw(t *rapid.T) *history {
	h := &history{}
	recorded := month.Add(-time.Hour).UnixMilli()
	add := func(o occurrence) {
		recorded += rapid.Int64Range(1, 6*3_600_000).Draw(t, "pause")
		o.id, o.recorded = fmt.Sprintf("e-%d", len(h.all)), recorded
		h.all = append(h.all, o)
	}
	for _, d := range definitions {
		add(occurrence{kind: "meter.defined", at: month.UnixMilli(), doc: d})
	}
	account := rapid.SampledFrom([]string{"a", "a", "b", "b", "c", "d", "ghost"})
	for _, id := range []string{"a", "b", "c", "d"} {
		parent := map[string]string{"b": "a", "c": "b", "d": "nobody"}[id]
		at := rapid.SampledFrom([]int64{month.AddDate(0, -1, 0).UnixMilli(), month.Add(12 * time.Hour).UnixMilli(), next.UnixMilli()}).Draw(t, "created")
		if id == "a" || id == "b" {
			at = month.AddDate(0, -1, 0).UnixMilli()
		}
		add(occurrence{kind: "account.created", account: id, name: "=Name of " + id, parent: parent, at: at})
	}
	for range rapid.IntRange(5, 80).Draw(t, "events") {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			add(occurrence{
				kind: "service.plan_set", account: account.Draw(t, "account"), at: instant(t, "plan at"),
				service: rapid.SampledFrom([]string{"idaas", "spp", "idaas"}).Draw(t, "service"),
				plan:    rapid.SampledFrom([]string{"Basic", "Premium", "STA"}).Draw(t, "plan"),
			})
		case 1:
			add(occurrence{
				kind: "account.reparented", account: rapid.SampledFrom([]string{"b", "c", "d"}).Draw(t, "moved"), at: instant(t, "moved at"),
				parent: rapid.SampledFrom([]string{"a", "d"}).Draw(t, "to"),
			})
		case 2:
			add(occurrence{kind: "message", account: account.Draw(t, "account"), at: instant(t, "at"),
				name: rapid.SampledFrom([]string{"sms", "voice"}).Draw(t, "channel"), plan: fmt.Sprint("msg-", rapid.IntRange(0, 3).Draw(t, "message"))})
		case 3:
			add(occurrence{kind: "returned", account: account.Draw(t, "account"), at: instant(t, "at"),
				plan: fmt.Sprint("msg-", rapid.IntRange(0, 3).Draw(t, "message"))})
		case 4:
			add(span(t, account.Draw(t, "account")))
		case 5, 6:
			add(gauge(t, account.Draw(t, "account")))
		default:
			add(metered(t, account.Draw(t, "account")))
		}
		if rapid.IntRange(0, 7).Draw(t, "void") == 0 {
			i := rapid.IntRange(len(definitions), len(h.all)-1).Draw(t, "voided")
			if h.all[i].voided == 0 {
				recorded += 5
				h.all[i].voided = recorded
			}
		}
	}
	for i := range h.all {
		h.all[i].finish(i)
	}
	return h
}

func quantity(t *rapid.T) string {
	return rapid.SampledFrom([]string{"1", "0", "0.000000001", "-2.5", "99999999999999999999.999999999", "3.25", "7", "12.340000000"}).Draw(t, "quantity")
}

func metered(t *rapid.T, account string) occurrence {
	return occurrence{
		kind: "usage.metered", account: account, at: instant(t, "at"),
		name: rapid.SampledFrom([]string{"tokens", "gib", "calls", "peak", "floor", "people", "level", "mean", "hits"}).Draw(t, "meter"),
		doc: fmt.Sprintf(`"quantity":"%s","region":%q,"platform":%q,"plan":%q,"consumer":{"type":"user","id":%q},"dimensions":{"model":%q}`,
			quantity(t), rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "region"), rapid.SampledFrom([]string{"", "aws"}).Draw(t, "platform"),
			rapid.SampledFrom([]string{"", "", "Own"}).Draw(t, "own plan"), rapid.SampledFrom([]string{"u1", "u2", "u3"}).Draw(t, "consumer"),
			rapid.SampledFrom([]string{"x", "y\x00z", ""}).Draw(t, "dimension")),
	}
}

// span is usage with start and end, across midnights and perhaps the end of a trial.
func span(t *rapid.T, account string) occurrence {
	at := instant(t, "start")
	end := at + rapid.SampledFrom([]int64{1, 3_600_000, 86_400_000, 200_000_000}).Draw(t, "length")
	doc := fmt.Sprintf(`"quantity":"%s","start":%q,"end":%q`, quantity(t), rfc(at), rfc(end))
	if rapid.Bool().Draw(t, "has trial") {
		doc += fmt.Sprintf(`,"trial_expiry":%q`, rfc(at+rapid.SampledFrom([]int64{-1, 0, 60_000, 90_000_000}).Draw(t, "trial")))
	}
	return occurrence{kind: "usage.metered", account: account, at: at, doc: doc,
		name: rapid.SampledFrom([]string{"tokens", "gib", "calls", "peak", "floor"}).Draw(t, "meter")}
}

// gauge is a sample of what is there, perhaps of months ago.
func gauge(t *rapid.T, account string) occurrence {
	at := instant(t, "at")
	if rapid.IntRange(0, 3).Draw(t, "long ago") == 0 {
		at -= 60 * 86_400_000
	}
	doc := fmt.Sprintf(`"quantity":"%s","region":%q,"platform":%q,"plan":%q,"consumer":{"type":"user","id":%q},"source_seq":%d`,
		quantity(t), rapid.SampledFrom([]string{"eu", "eu", "us"}).Draw(t, "region"), rapid.SampledFrom([]string{"", "", "aws"}).Draw(t, "platform"),
		rapid.SampledFrom([]string{"", "", "Own"}).Draw(t, "own plan"), rapid.SampledFrom([]string{"u1", "u2"}).Draw(t, "consumer"), rapid.IntRange(0, 2).Draw(t, "source seq"))
	if rapid.IntRange(0, 2).Draw(t, "asset") == 0 {
		doc += `,"asset":{"id":"asset-1"}`
	}
	if rapid.IntRange(0, 2).Draw(t, "trial") == 0 {
		doc += fmt.Sprintf(`,"trial_expiry":%q`, rfc(at+rapid.SampledFrom([]int64{-1, 0, 60_000, 90_000_000, 86_400_000 * 70}).Draw(t, "expiry")))
	}
	if rapid.IntRange(0, 4).Draw(t, "spans") == 0 {
		doc += fmt.Sprintf(`,"start":%q,"end":%q`, rfc(at), rfc(at+200_000_000))
	}
	return occurrence{kind: "usage.metered", account: account, at: at, name: "gauge", doc: doc}
}

// finish writes the CloudEvent and works out what it counts.
func (o *occurrence) finish(i int) {
	data := ""
	switch o.kind {
	case "meter.defined":
		data = o.doc
	case "account.created":
		data = fmt.Sprintf(`{"name":%q,"kind":"customer","parent_account_id":%q}`, o.name, o.parent)
		if o.parent == "" {
			data = fmt.Sprintf(`{"name":%q,"kind":"customer"}`, o.name)
		}
	case "account.reparented":
		data = fmt.Sprintf(`{"new_parent_account_id":%q}`, o.parent)
	case "service.plan_set":
		data = fmt.Sprintf(`{"service":%q,"plan":%q}`, o.service, o.plan)
	case "message":
		o.kind = "message.charged"
		data = fmt.Sprintf(`{"message_id":%q,"user_id":"u","channel":%q,"credits":2}`, o.plan, o.name)
		o.rows = []counting{{at: o.at, meter: o.name + "_credits", q: big.NewInt(2e9), n: 1}}
	case "returned":
		o.kind = "message.credit_returned"
		data = fmt.Sprintf(`{"message_id":%q,"credits":1}`, o.plan)
		o.rows = []counting{{at: o.at, meter: "credits_returned", q: big.NewInt(-1e9), n: 1}}
	case "usage.metered":
		data = fmt.Sprintf(`{"meter":%q,%s}`, o.name, o.doc)
		data = strings.ReplaceAll(data, "\\x00", "\\u0000")
	}
	subject := fmt.Sprintf(`"subject":%q,`, o.account)
	if o.account == "" {
		subject = ""
	}
	o.doc = fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"gen","type":%q,%s"time":%q,"data":%s}`, o.id, o.kind, subject, rfc(o.at), data)
	if o.kind == "usage.metered" {
		o.countMetered(data)
	}
	for j := range o.rows {
		o.rows[j].account, o.rows[j].id = o.account, o.id
	}
}

func (o *occurrence) countMetered(data string) {
	var d struct {
		Meter, Region, Platform, Plan string
		Quantity                      string
		Consumer                      struct{ ID string }
		Dimensions                    map[string]string
		Start                         string
		SourceSeq                     int64  `json:"source_seq"`
		TrialExpiry                   string `json:"trial_expiry"`
		Asset                         struct{ ID string }
	}
	if err := json.Unmarshal([]byte(data), &d); err != nil {
		panic(err)
	}
	row := counting{at: o.at, meter: d.Meter, region: d.Region, platform: d.Platform, plan: d.Plan,
		consumer: d.Consumer.ID, dimension: d.Dimensions["model"], n: 1, q: billionths(d.Quantity), sourceSeq: d.SourceSeq, asset: d.Asset.ID}
	if d.Meter == "gauge" {
		o.level, row.q = row.q, new(big.Int)
		if at, err := time.Parse(time.RFC3339, d.TrialExpiry); err == nil {
			o.trialExpiry = at.UnixMilli()
		}
		row.trial = row.at < o.trialExpiry
		o.rows = []counting{row}
		return
	}
	if d.Start == "" {
		o.rows = []counting{row}
		return
	}
	// Cutting has its own property test in package usage.
	e, faults := usage.NewParser(usage.DefaultLimits()).Event([]byte(o.doc))
	if len(faults) > 0 {
		panic(faults[0].Error() + o.doc)
	}
	for i, p := range e.Metered.Cut() {
		piece := row
		piece.at, piece.trial, piece.q = p.Start.Millis(), p.Trial, p.Quantity.Big()
		if i > 0 {
			piece.n = 0
		}
		o.rows = append(o.rows, piece)
	}
}

func billionths(s string) *big.Int {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic(s)
	}
	r.Mul(r, big.NewRat(1e9, 1))
	return new(big.Int).Set(r.Num())
}

func spell(billionths *big.Int) string {
	s := new(big.Rat).SetFrac(billionths, big.NewInt(1e9)).FloatString(9)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// known is what had been recorded, and not voided, at asOf.
func (h *history) known(asOf int64) []occurrence {
	var known []occurrence
	for _, o := range h.all {
		if o.recorded <= asOf && (o.voided == 0 || o.voided > asOf) {
			known = append(known, o)
		}
	}
	return known
}

// plan of usage of the meter at the instant.
func plan(known []occurrence, account, meter string, at int64) string {
	exists := false
	plans := map[string]occurrence{}
	for _, o := range known {
		if o.account != account || o.at > at {
			continue
		}
		switch o.kind {
		case "account.created":
			exists = true
		case "service.plan_set":
			if last, ok := plans[o.service]; !ok || last.at < o.at || last.at == o.at && last.id < o.id {
				plans[o.service] = o
			}
		}
	}
	if !exists {
		return ""
	}
	if p, ok := plans[services[meter]]; ok && services[meter] != "" {
		return p.plan
	}
	if len(plans) == 1 {
		for _, p := range plans {
			return p.plan
		}
	}
	return ""
}

// parentAt is the parent at the month's end.
func parents(known []occurrence) map[string]string {
	sorted := slices.Clone(known)
	sort.SliceStable(sorted, func(i, j int) bool {
		a, b := sorted[i], sorted[j]
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind), strings.Compare(a.id, b.id)) < 0
	})
	created, up := map[string]bool{}, map[string]string{}
	for _, o := range sorted {
		switch {
		case o.at >= next.UnixMilli():
		case o.kind == "account.created":
			created[o.account] = true
			if !reaches(up, o.parent, o.account) {
				up[o.account] = o.parent
			}
		case o.kind == "account.reparented" && created[o.account]:
			if !reaches(up, o.parent, o.account) {
				up[o.account] = o.parent
			}
		}
	}
	for a, p := range up {
		if !created[p] {
			delete(up, a)
		}
	}
	return up
}

func reaches(up map[string]string, from, to string) bool {
	for ; from != ""; from = up[from] {
		if from == to {
			return true
		}
	}
	return false
}

// resolve gives every counting row its plan and returned credits their meter.
func resolve(known []occurrence) []counting {
	charges := map[string]occurrence{}
	for _, o := range known {
		if o.kind != "message.charged" {
			continue
		}
		if first, ok := charges[o.plan]; !ok || o.at < first.at || o.at == first.at && o.id < first.id {
			charges[o.plan] = o
		}
	}
	var rows []counting
	for _, o := range known {
		for _, r := range o.rows {
			if c, ok := charges[o.plan]; ok && o.kind == "message.credit_returned" {
				r.meter = c.name + "_credits"
			}
			if r.plan == "" {
				r.plan = plan(known, r.account, r.meter, r.at)
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func inMonth(r counting) bool { return r.at >= month.UnixMilli() && r.at < next.UnixMilli() }

// value is the meter's aggregate of rows.
func value(meter string, rows []counting) (string, int64) {
	sum, n := new(big.Int), int64(0)
	for _, r := range rows {
		sum.Add(sum, r.q)
		n += r.n
	}
	last := slices.MaxFunc(append([]counting{{q: new(big.Int)}}, rows...), func(a, b counting) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.sourceSeq, b.sourceSeq), strings.Compare(a.id, b.id))
	})
	switch aggregations[meter] {
	case "count":
		return fmt.Sprint(n), n
	case "max":
		return spell(slices.MaxFunc(rows, func(a, b counting) int { return a.q.Cmp(b.q) }).q), n
	case "min":
		return spell(slices.MinFunc(rows, func(a, b counting) int { return a.q.Cmp(b.q) }).q), n
	case "latest":
		return spell(last.q), n
	case "unique":
		ids := map[string]bool{}
		for _, r := range rows {
			if r.consumer != "" {
				ids[r.consumer] = true
			}
		}
		return fmt.Sprint(len(ids)), n
	case "time_weighted":
		return halfEven(new(big.Rat).SetFrac(sum, big.NewInt(3_600_000))), n
	case "avg":
		return halfEven(new(big.Rat).SetFrac(sum, big.NewInt(n))), n
	}
	return spell(sum), n
}

// halfEven rounds billionths to a whole number of them.
func halfEven(r *big.Rat) string {
	floor := new(big.Int).Div(r.Num(), r.Denom())
	rest := new(big.Rat).Sub(r, new(big.Rat).SetInt(floor))
	if c := rest.Cmp(big.NewRat(1, 2)); c > 0 || c == 0 && floor.Bit(0) == 1 {
		floor.Add(floor, big.NewInt(1))
	}
	return spell(floor)
}

// month is what MonthUsage must answer.
func (h *history) month(asOf int64) []report.MonthRow { return h.monthUntil(asOf, asOf) }

func (h *history) monthUntil(asOf, horizon int64) []report.MonthRow {
	known := h.known(asOf)
	up := parents(known)
	names := map[string]string{}
	for _, o := range known {
		if o.kind == "account.created" && o.at < next.UnixMilli() {
			names[o.account] = o.name
		}
	}
	type key struct {
		account, plan, meter, region, platform string
		trial                                  bool
	}
	own, tree := map[key][]counting{}, map[key][]counting{}
	for _, r := range append(resolve(known), gauges(known, []int64{month.UnixMilli(), next.UnixMilli()}, horizon)...) {
		if !inMonth(r) {
			continue
		}
		k := key{r.account, r.plan, r.meter, r.region, r.platform, r.trial}
		own[k] = append(own[k], r)
		tree[k] = append(tree[k], r)
		for a := up[r.account]; a != ""; a = up[a] {
			k.account = a
			tree[k] = append(tree[k], r)
		}
	}
	rows := []report.MonthRow{}
	for k, below := range tree {
		name, resolved := names[k.account]
		row := report.MonthRow{
			Account: k.account, AccountName: name, Resolved: resolved, Plan: k.plan, Meter: k.meter, Unit: units[k.meter],
			Region: k.region, Platform: k.platform, Trial: k.trial, Quantity: "0",
		}
		row.QuantityTree, row.EventsTree = value(k.meter, below)
		if mine := own[k]; mine != nil {
			row.Quantity, row.Events = value(k.meter, mine)
			for _, r := range mine {
				if at := report.Instant(r.at); !r.worth {
					row.LastAt = max(row.LastAt, at)
					if row.FirstAt == 0 || at < row.FirstAt {
						row.FirstAt = at
					}
				}
			}
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b report.MonthRow) int { return strings.Compare(orderOf(a), orderOf(b)) })
	return rows
}

func orderOf(r report.MonthRow) string {
	return strings.Join([]string{r.Account, r.Plan, r.Meter, r.Unit, r.Region, r.Platform, fmt.Sprint(r.Trial)}, "\x00")
}

// usage is what MeterUsage must answer.
func (h *history) usage(q report.UsageQuery) []string {
	groups := map[string][]counting{}
	known := h.known(q.AsOf)
	for _, r := range append(resolve(known), gauges(known, borders(q), q.AsOf)...) {
		if r.meter != q.Meter || r.at < q.From || r.at >= q.To || len(q.Accounts) > 0 && !slices.Contains(q.Accounts, r.account) {
			continue
		}
		at := time.UnixMilli(r.at).UTC()
		var start, end time.Time
		switch q.Window {
		case "hour":
			start = at.Truncate(time.Hour)
			end = start.Add(time.Hour)
		case "day":
			start = time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
			end = start.AddDate(0, 0, 1)
		case "month":
			start = time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
			end = start.AddDate(0, 1, 0)
		case "total":
			start, end = time.UnixMilli(q.From), time.UnixMilli(q.To)
		}
		k := rfc(max(start.UnixMilli(), q.From)) + " " + rfc(min(end.UnixMilli(), q.To))
		for _, g := range q.GroupBy {
			k += " " + fmt.Sprintf("%q", map[string]string{"account": r.account, "plan": r.plan, "region": r.region, "platform": r.platform,
				"trial": fmt.Sprint(r.trial), "consumer_id": r.consumer, "item": "", "dimensions.model": r.dimension, "dimensions.none": ""}[g])
		}
		groups[k] = append(groups[k], r)
	}
	lines := []string{}
	for k, rows := range groups {
		v, n := value(q.Meter, rows)
		lines = append(lines, fmt.Sprintf("%s = %s (%d)", k, v, n))
	}
	slices.Sort(lines)
	return lines
}
