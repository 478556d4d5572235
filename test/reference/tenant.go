package reference

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// inForce are the entitlements of an account that may be used at an instant, by start and id.
func (h *History) inForce(id string, at int64) []*Event {
	last := map[string]*Event{}
	for _, e := range h.of("entitlement.set") {
		if e.Account == id && e.At <= at {
			last[e.text("entitlement_id")] = e
		}
	}
	var all []*Event
	for _, e := range last {
		status, end := e.text("status"), e.instant("end")
		if e.instant("start") <= at && (end == 0 || at < end) && (status == "" || status == "ACTIVE") {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *Event) int {
		return cmp.Or(cmp.Compare(a.instant("start"), b.instant("start")), strings.Compare(a.text("entitlement_id"), b.text("entitlement_id")))
	})
	return all
}

func (h *History) bundles(id string, at int64) string {
	var names []string
	for _, e := range h.inForce(id, at) {
		list, _ := e.Data["bundles"].([]string)
		for _, name := range list {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ";")
}

// activeUsers are users registered and not inactive just before an instant. Who is removed has no status.
func (h *History) activeUsers(id string, until int64) int {
	registered, inactive := map[string]bool{}, map[string]bool{}
	for _, e := range h.of("user.registered", "user.removed", "user.status_set") {
		if user := e.text("user_id"); e.Account == id && e.At < until {
			switch e.Type {
			case "user.registered":
				registered[user] = true
			case "user.removed":
				delete(registered, user)
				delete(inactive, user)
			case "user.status_set":
				inactive[user] = e.text("status") == "INACTIVE"
			}
		}
	}
	n := 0
	for user := range registered {
		if !inactive[user] {
			n++
		}
	}
	return n
}

// credits are charged less returned in a stretch.
func (h *History) credits(id string, from, to int64) *big.Rat {
	sum := new(big.Rat)
	for _, e := range h.of("message.charged", "message.credit_returned") {
		if e.Account == id && e.At >= from && e.At < to {
			if e.Type == "message.charged" {
				sum.Add(sum, e.number("credits"))
			} else {
				sum.Sub(sum, e.number("credits"))
			}
		}
	}
	return sum
}

// TenantUsage is tenant-usage of all tenants in a contract mode, "" for any, from the first instant of a day to the
// first after the last.
func (h *History) TenantUsage(provider, mode string, from, to int64) []string {
	type line struct{ name, id, text string }
	var lines []line
	s := h.before(to)
	for _, a := range h.kin(s, provider, false) {
		if !slices.ContainsFunc(a.lives, func(l span) bool { return l.from < to && from < l.to }) {
			continue
		}
		until := to
		if !a.living {
			until = a.lives[len(a.lives)-1].to
		}
		as := h.nearest(a.id, until-1)
		kind := cmp.Or(as.mode, "UNKNOWN")
		if mode != "" && kind != mode && (mode != "PRODUCTION" || kind != "UNKNOWN") {
			continue
		}
		users, credits, since := new(big.Rat), new(big.Rat), never
		for _, e := range h.inForce(a.id, until-1) {
			if e.text("kind") == "USERS" {
				users.Add(users, e.number("quantity"))
			}
			if n := e.number("sms_voice_credits"); n.Sign() > 0 {
				credits.Add(credits, n)
				since = min(since, e.instant("start"))
			}
		}
		if since == never {
			since = from
		}
		entitled, used := int(new(big.Int).Quo(users.Num(), users.Denom()).Int64()), h.activeUsers(a.id, until)
		lines = append(lines, line{as.name, a.id, strings.Join([]string{
			a.id, as.name, as.parent, kind, h.bundles(a.id, until-1), dateOf(from), dateOf(to - 1), fmt.Sprint(entitled), fmt.Sprint(used), fmt.Sprint(entitled - used),
			shortest(credits), shortest(h.credits(a.id, from, until)), shortest(new(big.Rat).Sub(credits, h.credits(a.id, since, until))),
		}, ",")})
	}
	slices.SortFunc(lines, func(a, b line) int { return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.id, b.id)) })
	var rows []string
	for _, l := range lines {
		rows = append(rows, l.text)
	}
	return rows
}

// TenantBuckets is tenant-usage-api: buckets that begin in [from, to).
func (h *History) TenantBuckets(id, usageType, aggregation string, from, to int64) []string {
	var rows []string
	for start := time.UnixMilli(from).UTC().AddDate(0, -2, 0); start.UnixMilli() < to && start.UnixMilli() <= h.AsOf; start = start.AddDate(0, 0, 1) {
		end := start.AddDate(0, 0, 1)
		switch {
		case start.UnixMilli() < from, aggregation == "WEEKLY" && start.Weekday() != time.Monday, aggregation == "MONTHLY" && start.Day() != 1:
			continue
		case aggregation == "WEEKLY":
			end = start.AddDate(0, 0, 7)
		case aggregation == "MONTHLY":
			end = start.AddDate(0, 1, 0)
		}
		rows = append(rows, h.bucket(id, usageType, aggregation, start.UnixMilli(), end.UnixMilli())...)
	}
	return rows
}

func (h *History) bucket(id, usageType, aggregation string, from, to int64) []string {
	counts, some := map[bool]*big.Rat{true: {}, false: {}}, map[bool]bool{}
	if usageType == "USERS" {
		if a := h.before(to).living(id); a != nil {
			counts[a.mode == "TRIAL"].SetInt64(int64(h.activeUsers(id, to)))
			some[a.mode == "TRIAL"] = true
		}
	}
	for _, e := range h.events {
		if e.Account != id || e.At < from || e.At >= to {
			continue
		}
		n := new(big.Rat)
		switch {
		case usageType == "AUTHENTICATIONS" && e.Type == "user.activity" && e.text("result") == "success":
			n.SetInt64(1)
		case usageType == "SMS_VOICE" && e.Type == "message.charged":
			n = e.number("credits")
		case usageType == "SMS_VOICE" && e.Type == "message.credit_returned":
			n.Neg(e.number("credits"))
		default:
			continue
		}
		a := h.before(e.At + 1).accounts[id]
		trial := a != nil && a.mode == "TRIAL"
		counts[trial].Add(counts[trial], n)
		some[trial] = true
	}
	var rows []string
	for _, trial := range []bool{true, false} {
		if some[trial] {
			rows = append(rows, strings.Join([]string{
				strings.Join([]string{id, usageType, aggregation, dateOf(from), boolean(trial)}, ":"), id, usageType, aggregation, stamp(from), stamp(to),
				shortest(counts[trial]), boolean(trial), h.bundles(id, to-1),
			}, ","))
		}
	}
	return rows
}
