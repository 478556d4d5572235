package report_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// The oracle of the STA reports: a history is a list of things that were said, and every number is found by
// walking all of it again.

// saying is an event of the generated history.
type saying struct {
	id, kind, account    string
	at, recorded, voided int64
	seq                  int
	name, parent, value  string // of accounts: value is a plan, a status
	user, token          string
	success, close       bool
	from, to             int64 // of gaps
}

type staHistory struct{ all []saying }

var staStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func staInstant(t *rapid.T, label string) int64 {
	base := rapid.SampledFrom([]time.Time{
		staStart.AddDate(0, 0, -3), staStart, staStart.AddDate(0, 0, 10), staStart.AddDate(0, 1, 0), staStart.AddDate(0, 1, 0), staStart.AddDate(0, 1, 13),
		staStart.AddDate(0, 2, 0), staStart.AddDate(0, 2, 20), staStart.AddDate(0, 3, 0).Add(-time.Hour),
	}).Draw(t, label)
	return base.Add(rapid.SampledFrom([]time.Duration{0, 0, -time.Millisecond, time.Millisecond, time.Hour, 50 * time.Hour}).Draw(t, label+" offset")).UnixMilli()
}

// drawSTA makes a history of a tree that is always legal: a over b and c, and leaves that come, move and go
// between them. What is said of accounts is recorded as it happens; users, tokens and gaps come late, are
// voided, and share instants.
func drawSTA(t *rapid.T) *staHistory {
	h := &staHistory{}
	add := func(s saying) {
		s.id = fmt.Sprintf("e-%d", len(h.all))
		if s.recorded == 0 {
			s.recorded = s.at
		}
		h.all = append(h.all, s)
	}
	first := staStart.AddDate(0, -1, 0).UnixMilli()
	create := func(at int64, id, parent string) {
		add(saying{kind: "account.created", account: id, at: at, name: "N" + id, parent: parent})
	}
	create(first, "a", "")
	create(first+1, "b", "a")
	create(first+1, "c", "a")
	for _, id := range []string{"a", "b", "c"} {
		add(saying{kind: "service.plan_set", account: id, at: first + 2, value: "STA Premium"})
	}
	accountMoves(t, add, create)
	leaf := rapid.SampledFrom([]string{"a", "b", "c", "d", "d", "e", "e", "f"})
	ownInstants := rapid.Bool().Draw(t, "own instants") // no two sayings share one, and a token stays with its user
	user := rapid.SampledFrom([]string{"u1", "u2", "u3"})
	for range rapid.IntRange(10, 90).Draw(t, "sayings") {
		s := saying{account: leaf.Draw(t, "account"), at: staInstant(t, "at"), user: user.Draw(t, "user"), seq: rapid.IntRange(0, 1).Draw(t, "seq")}
		if ownInstants {
			s.at += int64(len(h.all))
		}
		s.recorded = s.at + rapid.SampledFrom([]int64{0, 0, 1, 40 * 86_400_000}).Draw(t, "late")
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0, 1, 2:
			s.kind = "user.registered"
		case 3:
			s.kind = "user.removed"
		case 4, 5, 6:
			s.kind, s.token = "token.state_set", rapid.SampledFrom([]string{"t1", "t2", "t3"}).Draw(t, "token")
			s.value = rapid.SampledFrom([]string{"active", "active", "suspended", "assigned"}).Draw(t, "state")
			if ownInstants {
				s.token += s.user
			}
		case 7, 8:
			s.kind, s.success = "user.activity", rapid.IntRange(0, 3).Draw(t, "result") > 0
		case 9:
			s.kind, s.from, s.close = "gap", staInstant(t, "from"), rapid.Bool().Draw(t, "close")
			s.to = s.from + rapid.SampledFrom([]int64{1, 86_400_000, 40 * 86_400_000}).Draw(t, "length")
			if rapid.IntRange(0, 4).Draw(t, "whole source") == 0 {
				s.account = ""
			}
		}
		if rapid.IntRange(0, 6).Draw(t, "voided") == 0 {
			s.voided = s.recorded + rapid.SampledFrom([]int64{1, 30 * 86_400_000}).Draw(t, "void later")
		}
		add(s)
	}
	return h
}

// accountMoves lets leaves come, be renamed, move, change plan and go, and b move between a and c.
func accountMoves(t *rapid.T, add func(saying), create func(at int64, id, parent string)) {
	at := staStart.AddDate(0, -1, 5).UnixMilli()
	living := map[string]bool{}
	for i := range rapid.IntRange(3, 20).Draw(t, "moves") {
		at += rapid.SampledFrom([]int64{1, 86_400_000, 5 * 86_400_000, 14 * 86_400_000}).Draw(t, "pause")
		id := rapid.SampledFrom([]string{"d", "e", "f"}).Draw(t, "leaf")
		parent := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "parent")
		switch what := rapid.IntRange(0, 6).Draw(t, "move"); {
		case !living[id]:
			create(at, id, parent)
			living[id] = true
		case what == 0:
			add(saying{kind: "account.deleted", account: id, at: at})
			living[id] = false
		case what == 1:
			add(saying{kind: "account.renamed", account: id, at: at, name: fmt.Sprintf("R%d%s", 9-i%10, id)})
		case what == 2:
			add(saying{kind: "service.status_set", account: id, at: at, value: rapid.SampledFrom([]string{"Active", "Disabled"}).Draw(t, "status")})
		case what == 3:
			add(saying{kind: "account.reparented", account: id, at: at, parent: parent})
		case what == 4:
			add(saying{kind: "account.reparented", account: "b", at: at, parent: rapid.SampledFrom([]string{"a", "c"}).Draw(t, "of b")})
		default:
			add(saying{kind: "service.plan_set", account: id, at: at, value: rapid.SampledFrom([]string{"STA Basic", "STA", "STA Premium"}).Draw(t, "plan")})
		}
	}
}

// doc is the event as it is sent.
func (s *saying) doc() string {
	typ, data := s.kind, ""
	switch s.kind {
	case "account.created":
		data = fmt.Sprintf(`"name":%q,"kind":"provider","parent_account_id":%q`, s.name, s.parent)
	case "account.renamed":
		data = fmt.Sprintf(`"name":%q`, s.name)
	case "account.reparented":
		data = fmt.Sprintf(`"new_parent_account_id":%q`, s.parent)
	case "account.deleted":
	case "service.plan_set":
		data = fmt.Sprintf(`"service":"sta","plan":%q`, s.value)
	case "service.status_set":
		data = fmt.Sprintf(`"service":"sta","status":%q`, s.value)
	case "token.state_set":
		data = fmt.Sprintf(`"user_id":%q,"token_id":%q,"state":%q,"source_seq":%d`, s.user, s.token, s.value, s.seq)
	case "user.activity":
		data = fmt.Sprintf(`"user_id":%q,"kind":"login","result":%q`, s.user, map[bool]string{true: "success", false: "failure"}[s.success])
	case "gap":
		typ, data = "ingest.gap_declared", fmt.Sprintf(`"from":%q,"to":%q`, rfc(s.from), rfc(s.to))
		if s.close {
			typ = "ingest.gap_closed"
		} else {
			data += `,"reason":"x"`
		}
	default:
		data = fmt.Sprintf(`"user_id":%q,"source_seq":%d`, s.user, s.seq)
	}
	subject := ""
	if s.account != "" {
		subject = fmt.Sprintf(`"subject":%q,`, s.account)
	}
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"gen","type":%q,%s"time":%q,"data":{%s}}`, s.id, typ, subject, rfc(s.at), data)
}

// known are the sayings that count as of asOf, in the order of the fold.
func (h *staHistory) known(asOf int64) []saying {
	var known []saying
	for _, s := range h.all {
		if s.recorded <= asOf && (s.voided == 0 || s.voided > asOf) {
			known = append(known, s)
		}
	}
	class := func(s saying) int {
		switch {
		case s.kind == "account.created":
			return 0
		case strings.HasPrefix(s.kind, "account"):
			return 1
		case strings.HasPrefix(s.kind, "service"):
			return 2
		case s.kind == "gap" && s.close:
			return 4
		}
		return 3
	}
	slices.SortStableFunc(known, func(a, b saying) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(class(a), class(b)), cmp.Compare(a.seq, b.seq), cmp.Compare(a.id, b.id))
	})
	return known
}

// staAccount is an account as the walk finds it.
type staAccount struct {
	born, exists               bool
	name, parent, plan, status string
}

// accounts walks to the instant, inclusive.
func accountsAt(known []saying, at int64) map[string]staAccount {
	all := map[string]staAccount{}
	for _, s := range known {
		if s.at > at || s.kind == "gap" {
			continue
		}
		a := all[s.account]
		switch s.kind {
		case "account.created":
			a = staAccount{born: true, exists: true, name: s.name, parent: s.parent}
		case "account.renamed":
			a.name = s.name
		case "account.reparented":
			a.parent = s.parent
		case "account.deleted":
			a.exists = false
		case "service.plan_set":
			a.plan = s.value
		case "service.status_set":
			a.status = s.value
		default:
			continue
		}
		all[s.account] = a
	}
	return all
}

func under(all map[string]staAccount, id, root string) bool {
	for all[id].exists {
		if id == root {
			return true
		}
		id = all[id].parent
	}
	return false
}

// missing reports whether any instant of [from, to) lies in a gap of the account.
func missing(known []saying, account string, from, to int64) bool {
	points := []int64{from}
	for _, s := range known {
		if s.kind == "gap" {
			points = append(points, s.from, s.to)
		}
	}
	for _, p := range points {
		if p < from || p >= to {
			continue
		}
		open := false
		for _, s := range known {
			if s.kind == "gap" && (s.account == account || s.account == "") && s.from <= p && p < s.to {
				open = !s.close
			}
		}
		if open {
			return true
		}
	}
	return false
}

// counts of an account at a month's end: registered, token, activity.
func counts(known []saying, account string, from, to int64) [3]int {
	registered, active, holder, on := map[string]bool{}, map[string]bool{}, map[string]string{}, map[string]bool{}
	for _, s := range known {
		if s.account != account || s.at >= to {
			continue
		}
		switch s.kind {
		case "user.registered":
			registered[s.user] = true
		case "user.removed":
			delete(registered, s.user)
		case "token.state_set":
			holder[s.token], on[s.token] = s.user, s.value == "active"
		case "user.activity":
			if s.success && s.at >= from {
				active[s.user] = true
			}
		}
	}
	with := map[string]bool{}
	for token, user := range holder {
		if on[token] && registered[user] {
			with[user] = true
		}
	}
	return [3]int{len(registered), len(with), len(active)}
}

// export is what a scope of a says of the given months, a line each, with tree_complete at the end.
func (h *staHistory) export(asOf int64, root, scope string, first, months int) string {
	known := h.known(asOf)
	from, to := staStart.AddDate(0, first, 0), staStart.AddDate(0, first+months, 0)
	within := func(all map[string]staAccount, id string) bool {
		switch scope {
		case "own":
			return id == root
		case "children":
			return all[id].exists && (id == root || all[id].parent == root && all[root].exists)
		}
		return under(all, id, root)
	}
	parent := map[string]string{} // where it was last in scope
	instants := []int64{from.UnixMilli()}
	for _, s := range known {
		if s.at > from.UnixMilli() && s.at < to.UnixMilli() {
			instants = append(instants, s.at)
		}
	}
	for _, at := range instants {
		all := accountsAt(known, at)
		for id := range all {
			if id != root && within(all, id) {
				parent[id] = all[id].parent
			}
		}
	}
	last := accountsAt(known, to.UnixMilli()-1)
	var out strings.Builder
	var visit func(id string)
	visit = func(id string) {
		for m := range months {
			h.line(&out, known, id, first+m, func(all map[string]staAccount) bool { return id == root || within(all, id) })
		}
		var children []string
		for child, p := range parent {
			if p == id {
				children = append(children, child)
			}
		}
		slices.SortFunc(children, func(a, b string) int {
			return cmp.Or(cmp.Compare(last[a].name, last[b].name), cmp.Compare(a, b))
		})
		for _, child := range children {
			visit(child)
		}
	}
	visit(root)
	return out.String()
}

// line writes an account's month, unless it exists outside the scope.
func (h *staHistory) line(out *strings.Builder, known []saying, id string, month int, within func(map[string]staAccount) bool) {
	start, end := staStart.AddDate(0, month, 0).UnixMilli(), staStart.AddDate(0, month+1, 0).UnixMilli()
	all := accountsAt(known, end-1)
	a := all[id]
	head := func(a staAccount, parent staAccount, parentID, status, data, plan string) {
		fmt.Fprintf(out, "%s,%s,%s,%s,%s,%s,%s,%s", a.name, id, parent.name, parentID, staStart.AddDate(0, month, 0).Format("2006-01"), status, data, plan)
	}
	switch {
	case !a.exists:
		if !a.born {
			for _, s := range known {
				if s.kind == "account.created" && s.account == id {
					a.name, a.parent = s.name, s.parent
					break
				}
			}
		}
		head(a, all[a.parent], a.parent, "", "Non existent", "")
		out.WriteString(",,,,,,,,,,,, true\n")
	case !within(all):
	default:
		if a.status == "" && a.plan != "" {
			a.status = "Active"
		}
		if missing(known, id, start, end) {
			head(a, all[a.parent], a.parent, a.status, "Not available", a.plan)
			out.WriteString(",,,,,,,,,,,, false\n")
			return
		}
		head(a, all[a.parent], a.parent, a.status, "Available", a.plan)
		numbers := counts(known, id, start, end)
		fmt.Fprintf(out, ",%d,%d,%d", numbers[0], numbers[1], numbers[2])
		complete := true
		for _, plan := range []string{"STA Basic", "STA", "STA Premium"} {
			var sum [3]int
			for x, other := range all {
				if !under(all, x, id) {
					continue
				}
				if missing(known, x, start, end) {
					complete = false
				} else if other.plan == plan {
					for i, n := range counts(known, x, start, end) {
						sum[i] += n
					}
				}
			}
			fmt.Fprintf(out, ",%d,%d,%d", sum[0], sum[1], sum[2])
		}
		fmt.Fprintf(out, " %t\n", complete)
	}
}
