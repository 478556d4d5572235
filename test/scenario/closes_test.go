package scenario

import (
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// lived is a random history while it is recorded: what was given, and must never change.
type lived struct {
	*world
	*history
	given  map[string]string // answers by path
	again  map[string]bool   // those that were compared since everything was recorded
	closed map[string]int    // newest version of a month that was seen
}

// Random histories with late events, voids and closes at random moments: whatever was given of a version or of an
// instant stays what it was; a closed version and the adjustments since are what is known now; details add up to
// their months, of every version; and every adjustment is explained by events.
func TestClosesOfRandomLogs(t *testing.T) {
	for i := range *historyCount {
		seed := *historySeed + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			l := &lived{newWorld(t), drawHistory(seed), map[string]string{}, map[string]bool{}, map[string]int{}}
			rest := l.inOrder()
			for range closesInShort {
				at := l.border()
				n := slices.IndexFunc(rest, func(e event) bool { return moment(e.recorded).After(at) })
				if n < 0 {
					n = len(rest)
				}
				l.send(rest[:n]...)
				rest = rest[n:]
				l.closeSome(at)
			}
			l.send(rest...)
			clear(l.again)
			for _, month := range slices.Sorted(maps.Keys(l.closed)) { // what is drawn must not depend on the order of a map
				l.closeAgain(month, historyLast)
			}
			adjustments := 0
			for _, month := range slices.Sorted(maps.Keys(l.closed)) {
				adjustments += l.judge(month)
			}
			l.unchanged()
			t.Logf("%d events, %d answers kept, months %v, %d adjustments", len(l.events), len(l.given), l.closed, adjustments)
		})
	}
}

// border is an instant at which somebody closes months: the middle of what happens, and after it.
func (l *lived) border() time.Time {
	return time.Date(2025, 2, 5, 0, 0, 0, 0, time.UTC).AddDate(0, l.IntN(3), l.IntN(25)).Add(time.Duration(l.IntN(1000)) * time.Hour / 100)
}

// closeSome closes months that are over at an instant, as of then, and keeps what is told of them.
func (l *lived) closeSome(at time.Time) {
	l.t.Helper()
	for _, month := range historyMonths {
		if end := moment(month+"-01T00:00:00Z").AddDate(0, 1, 3); !at.After(end) || !l.chance(60) {
			continue
		}
		l.closeAgain(month, text(at))
	}
	known := l.known(l.tenant, text(at))
	for _, q := range historyQuestions(known) {
		if l.chance(15) {
			l.keep("/reports/" + q.path + "&format=csv&as_of=" + url.QueryEscape(text(at)))
		}
	}
}

// closeAgain closes a month, and keeps what the version says.
func (l *lived) closeAgain(month, asOf string) {
	l.t.Helper()
	status, c := l.close(month, fmt.Sprintf(`{"as_of":%q,"accept_gaps":true,"reason":"a random log"}`, asOf))
	if status == http.StatusConflict && (c.Code == "close-refused" || c.Code == "older-than-version") {
		return
	}
	if status != http.StatusOK {
		l.t.Fatalf("close %s as of %s: %d %+v", month, asOf, status, c)
	}
	l.closed[month] = c.Version
	version := fmt.Sprint("&version=", c.Version)
	l.keep("/months/" + month + "/usage?format=csv" + version)
	for _, id := range historyAll {
		l.keep("/reports/asset-monthly-costs?format=csv&month=" + month + "&organization=" + id + version)
		l.keep("/reports/sta-usage?format=csv&view=export&scope=own&month=" + month + "&account=" + id + version)
	}
}

// keep asks for something that must never change.
func (l *lived) keep(path string) string {
	l.t.Helper()
	if answer, asked := l.given[path]; asked && l.again[path] {
		return answer
	}
	status, answer := l.get(path)
	if status != http.StatusOK && status != http.StatusNotFound {
		l.t.Fatalf("%s: %d %s", path, status, answer)
	}
	if status == http.StatusNotFound {
		answer = ""
	}
	if before, asked := l.given[path]; asked && before != answer {
		l.t.Errorf("%s: was\n%s\nand is\n%s", path, before, answer)
	}
	l.given[path], l.again[path] = answer, true
	return answer
}

// unchanged asks for everything again that was given.
func (l *lived) unchanged() {
	l.t.Helper()
	for path := range l.given {
		if !l.again[path] {
			l.keep(path)
		}
	}
}

// figures are the numbers of a version that adjustments are about: users of STA, and quantities and costs of assets
// that have a price.
func (l *lived) figures(month string, version int) map[string]*big.Rat {
	l.t.Helper()
	all := map[string]*big.Rat{}
	of := fmt.Sprint("&version=", version)
	for _, id := range historyAll {
		if answer := l.keep("/reports/asset-monthly-costs?format=csv&month=" + month + "&organization=" + id + of); answer != "" {
			for _, row := range table(l.t, answer) {
				key := strings.Join([]string{row["tenantId"], row["plan"], row["meterName"], row["billingRegion"], row["trial"]}, "|")
				if row["cost"] != "" {
					all["quantity|"+key], all["cost|"+key] = decimal(l.t, row["quantity"]), decimal(l.t, row["cost"])
				}
			}
		}
		if answer := l.keep("/reports/sta-usage?format=csv&view=export&scope=own&month=" + month + "&account=" + id + of); answer != "" {
			for _, row := range table(l.t, answer) {
				for _, plan := range []string{"STA Basic", "STA", "STA Premium"} {
					for measure, column := range map[string]string{"registered": "Registered", "token": "Token", "activity": "Activity"} {
						if value := row["Tree "+plan+" "+column]; value != "" {
							all[strings.Join([]string{measure, row["Account ID"], plan, "", "", "FALSE"}, "|")] = decimal(l.t, value)
						}
					}
				}
			}
		}
	}
	for _, row := range table(l.t, l.keep("/months/"+month+"/usage?format=csv"+of)) {
		if !slices.Contains([]string{"hours", "gib", "activity"}, row["meter"]) {
			key := strings.Join([]string{row["account"], row["plan"], row["meter"], row["region"], row["platform"], row["trial"]}, "|")
			all["usage|"+key] = decimal(l.t, row["quantity"])
		}
	}
	return all
}

// judge compares a closed month's first version, with all adjustments, with its newest, and that with what is known
// now; it proves adjustments, and returns how many there are.
func (l *lived) judge(month string) int {
	l.t.Helper()
	newest := l.version(month, 1).Version
	now, first := l.figures(month, newest), l.figures(month, 1)
	l.want(month+": the newest version, and now", l.monthCSV(month+"/usage", "version", fmt.Sprint(newest)), l.monthCSV(month+"/usage", "as_of", historyLast))
	rows := table(l.t, l.monthCSV(month+"/adjustments"))
	unpriced := map[string]bool{}
	for _, row := range rows {
		key := strings.Join([]string{row["account"], row["plan"], row["meter"], row["region"], row["trial"]}, "|")
		add := func(name, delta string) {
			if first[name] == nil {
				first[name] = new(big.Rat)
			}
			first[name].Add(first[name], decimal(l.t, delta))
		}
		switch {
		case row["measure"] != "quantity":
			add(row["measure"]+"|"+key, row["delta"])
		case row["cost_delta"] != "":
			add("quantity|"+key, row["delta"])
			add("cost|"+key, row["cost_delta"])
		case row["meter"] == "hours" || row["meter"] == "gib":
			unpriced[key] = true
		default:
			add("usage|"+strings.Join([]string{row["account"], row["plan"], row["meter"], row["region"], row["platform"], row["trial"]}, "|"), row["delta"])
		}
		if l.chance(4 * provedPercent) {
			l.proveAdjustment(row)
		}
	}
	for name := range first {
		_, key, _ := strings.Cut(name, "|")
		if n := now[name]; !unpriced[key] && first[name].Cmp(orZero(n)) != 0 {
			l.t.Errorf("%s: %s of version 1 and %d adjustments is %s, version %d has %s", month, name, len(rows), first[name].RatString(), newest, orZero(n).RatString())
		}
	}
	for name, n := range now {
		_, key, _ := strings.Cut(name, "|")
		if first[name] == nil && n.Sign() != 0 && !unpriced[key] {
			l.t.Errorf("%s: version %d has %s of %s, and neither version 1 nor an adjustment", month, newest, n.RatString(), name)
		}
	}
	for version := 1; version <= newest; version++ {
		l.reconcile(month, fmt.Sprint("&version=", version))
	}
	return len(rows)
}

func orZero(n *big.Rat) *big.Rat {
	if n == nil {
		return new(big.Rat)
	}
	return n
}

// proveAdjustment explains a row of the adjustments.
func (l *lived) proveAdjustment(row map[string]string) {
	l.t.Helper()
	values := url.Values{"report": {"month-adjustments"}, "month": {row["usage_month"]}, "figure": {row["measure"]}}
	for _, name := range []string{"processing_month", "account", "plan", "meter", "region", "platform", "trial", "from_version", "to_version"} {
		values.Set(name, row[name])
	}
	l.proof(values, row["delta"])
	if row["cost_delta"] != "" {
		values.Set("measure", "cost_delta")
		l.proof(values, row["cost_delta"])
	}
}

// reconcile adds up the details of tenants: they are their monthly costs, exactly.
func (l *lived) reconcile(month, of string) {
	l.t.Helper()
	for _, organization := range []string{"p", "o", "a1"} {
		costs := l.keep("/reports/asset-monthly-costs?format=csv&month=" + month + "&organization=" + organization + of)
		if costs == "" {
			continue
		}
		sums, tenants := map[string]*big.Rat{}, []string{}
		add := func(row map[string]string, sign int64) {
			key := strings.Join([]string{row["tenantId"], row["meterName"], row["billingRegion"], row["trial"]}, "|")
			sums[key] = orZero(sums[key])
			sums[key].Add(sums[key], new(big.Rat).Mul(decimal(l.t, row["quantity"]), big.NewRat(sign, 1)))
		}
		for _, row := range table(l.t, costs) {
			add(row, 1)
			if !slices.Contains(tenants, row["tenantId"]) {
				tenants = append(tenants, row["tenantId"])
			}
		}
		for _, tenant := range tenants {
			for _, row := range table(l.t, l.keep("/reports/asset-usage-detail?format=csv&month="+month+"&tenant="+tenant+of)) {
				add(row, -1)
			}
		}
		for key, rest := range sums {
			if rest.Sign() != 0 {
				l.t.Errorf("%s%s: %s of the costs is not in the detail: %s", month, of, key, rest.FloatString(9))
			}
		}
	}
}
