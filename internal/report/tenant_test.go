package report_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
)

// tenantEvent is something said of a tenant's user, a message or a sign-in.
type tenantEvent struct {
	id, kind, account, user, status string
	at, recorded, voided            int64
	thousandths                     int64 // of credits, signed
}

func (e *tenantEvent) doc() string {
	data := fmt.Sprintf(`"user_id":%q`, e.user)
	credits := fmt.Sprintf(`"credits":"%d.%03d"`, max(e.thousandths, -e.thousandths)/1000, max(e.thousandths, -e.thousandths)%1000)
	switch e.kind {
	case "user.status_set":
		data += fmt.Sprintf(`,"status":%q`, e.status)
	case "user.activity":
		data += `,"kind":"login","result":"success"`
	case "message.charged":
		data += fmt.Sprintf(`,"message_id":%q,"channel":"sms",%s`, e.id, credits)
	case "message.credit_returned":
		data = fmt.Sprintf(`"message_id":%q,%s`, e.id, credits)
	}
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"gen","type":%q,"subject":%q,"time":%q,"data":{%s}}`, e.id, e.kind, e.account, rfc(e.at), data)
}

func drawTenants(t *rapid.T) []tenantEvent {
	var all []tenantEvent
	for i := range rapid.IntRange(20, 120).Draw(t, "events") {
		e := tenantEvent{
			id: fmt.Sprint("e-", i), account: rapid.SampledFrom([]string{"t1", "t1", "t2"}).Draw(t, "account"), user: rapid.SampledFrom([]string{"u1", "u2", "u3"}).Draw(t, "user"),
			at:   staInstant(t, "at"),
			kind: rapid.SampledFrom([]string{"user.registered", "user.registered", "user.removed", "user.status_set", "user.status_set", "user.activity", "message.charged", "message.credit_returned"}).Draw(t, "kind"),
		}
		e.status = rapid.SampledFrom([]string{"ACTIVE", "INACTIVE"}).Draw(t, "status")
		e.thousandths = rapid.Int64Range(0, 5000).Draw(t, "credits")
		if e.kind == "message.credit_returned" {
			e.thousandths = -e.thousandths
		}
		e.recorded = e.at + rapid.SampledFrom([]int64{0, 1, 40 * 86_400_000}).Draw(t, "late")
		if rapid.IntRange(0, 6).Draw(t, "voided") == 0 {
			e.voided = e.recorded + 1000
		}
		all = append(all, e)
	}
	return all
}

// activeAt walks a tenant's users to just before the instant.
func activeAt(known []tenantEvent, account string, until int64) int {
	registered, idle := map[string]bool{}, map[string]bool{}
	for _, e := range known {
		if e.account != account || e.at >= until {
			continue
		}
		switch e.kind {
		case "user.registered":
			registered[e.user] = true
		case "user.removed":
			registered[e.user], idle[e.user] = false, false
		case "user.status_set":
			idle[e.user] = e.status == "INACTIVE"
		}
	}
	n := 0
	for user, is := range registered {
		if is && !idle[user] {
			n++
		}
	}
	return n
}

func credits(known []tenantEvent, account string, from, until int64) int64 {
	sum := int64(0)
	for _, e := range known {
		if e.account == account && strings.HasPrefix(e.kind, "message") && e.at >= from && e.at < until {
			sum += e.thousandths
		}
	}
	return sum
}

// thousandths prints a number of thousandths as the reports do.
func thousandths(n int64) string {
	text := new(big.Rat).SetFrac64(n, 1000).FloatString(3)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

func TestTenantsEqualTheOracle(t *testing.T) {
	b := setUp(t)
	generator := rapid.Custom(drawTenants)
	all := make([][]tenantEvent, tenantHistories)
	begin := staStart.AddDate(-1, 0, 0).UnixMilli()
	for i := range all {
		all[i] = generator.Example(i)
		tenant := fmt.Sprint("tenant-", i)
		for n, doc := range []string{
			`"type":"account.created","subject":"s","data":{"name":"S","kind":"service_provider"}`,
			`"type":"account.created","subject":"t1","data":{"name":"T1","kind":"tenant","parent_account_id":"s"}`,
			`"type":"account.created","subject":"t2","data":{"name":"T2","kind":"tenant","parent_account_id":"s"}`,
			`"type":"entitlement.set","subject":"t1","data":{"entitlement_id":"e","kind":"USERS","quantity":2,"sms_voice_credits":"10","start":"2026-01-11T00:00:00Z"}`,
		} {
			if err := b.Add(tenant, begin, fmt.Sprintf(`{"specversion":"1.0","id":"a-%d","source":"gen","time":%q,%s}`, n, rfc(begin+int64(n)), doc)); err != nil {
				t.Fatal(err)
			}
		}
		b.storeTenants(t, tenant, all[i])
	}
	b.settle(t)
	for i, h := range all {
		tenant := fmt.Sprint("tenant-", i)
		t.Run(tenant, func(t *testing.T) {
			known := slices.DeleteFunc(slices.Clone(h), func(e tenantEvent) bool { return e.voided != 0 })
			slices.SortStableFunc(known, func(a, b tenantEvent) int {
				if a.at != b.at {
					return int(a.at - b.at)
				}
				return strings.Compare(a.id, b.id)
			})
			from, to := staStart.AddDate(0, 1, 0), staStart.AddDate(0, 2, 13)
			var want strings.Builder
			for _, account := range []string{"t1", "t2"} {
				users, granted, since := 0, int64(0), from
				if account == "t1" {
					users, granted, since = 2, 10_000, staStart.AddDate(0, 0, 10)
				}
				until := to.AddDate(0, 0, 1).UnixMilli()
				active := activeAt(known, account, until)
				fmt.Fprintf(&want, "%s,%s,s,UNKNOWN,,%s,%s,%d,%d,%d,%s,%s,%s\n", account, strings.ToUpper(account), from.Format(time.DateOnly), to.Format(time.DateOnly),
					users, active, users-active, thousandths(granted), thousandths(credits(known, account, from.UnixMilli(), until)),
					thousandths(granted-credits(known, account, since.UnixMilli(), until)))
			}
			got := b.ask(t, report.Query{Tenant: tenant, Report: "tenant-usage", AsOf: directory.Latest, Values: map[string]string{
				"account": "s", "from": from.Format(time.DateOnly), "to": to.Format(time.DateOnly),
			}})
			if got != want.String() {
				t.Errorf("tenant-usage:\n got\n%s\nwant\n%s", got, want.String())
			}
			b.judgeBuckets(t, tenant, known)
		})
	}
}

// judgeBuckets compares the buckets of three months with sums over each of them.
func (b bench) judgeBuckets(t *testing.T, tenant string, known []tenantEvent) {
	t.Helper()
	for aggregation, step := range map[string]func(time.Time) time.Time{
		"DAILY":   func(t time.Time) time.Time { return t.AddDate(0, 0, 1) },
		"WEEKLY":  func(t time.Time) time.Time { return t.AddDate(0, 0, 7) },
		"MONTHLY": func(t time.Time) time.Time { return t.AddDate(0, 1, 0) },
	} {
		first, end := staStart, staStart.AddDate(0, 3, 0)
		for aggregation == "WEEKLY" && first.Weekday() != time.Monday {
			first = first.AddDate(0, 0, 1)
		}
		want := map[string]string{}
		for at := first; at.Before(end); at = step(at) {
			from, until := at.UnixMilli(), step(at).UnixMilli()
			line := func(kind, count string) {
				want[kind] += fmt.Sprintf("%s %s\n", at.Format(time.DateOnly), count)
			}
			line("USERS", fmt.Sprint(activeAt(known, "t1", until)))
			logins, messages := 0, 0
			for _, e := range known {
				if e.account == "t1" && e.at >= from && e.at < until {
					switch {
					case e.kind == "user.activity":
						logins++
					case strings.HasPrefix(e.kind, "message"):
						messages++
					}
				}
			}
			if logins > 0 {
				line("AUTHENTICATIONS", fmt.Sprint(logins))
			}
			if messages > 0 {
				line("SMS_VOICE", thousandths(credits(known, "t1", from, until)))
			}
		}
		for _, kind := range []string{"USERS", "AUTHENTICATIONS", "SMS_VOICE", "ISSUANCE"} {
			got := ""
			rows := b.ask(t, report.Query{Tenant: tenant, Report: "tenant-usage-api", AsOf: directory.Latest, Values: map[string]string{
				"tenant": "t1", "usage_type": kind, "aggregation": aggregation, "from": "2026-01-01", "to": "2026-03-31",
			}})
			for line := range strings.Lines(rows) {
				cells := strings.Split(line, ",")
				got += cells[4][:10] + " " + cells[6] + "\n"
			}
			if got != want[kind] {
				t.Errorf("%s %s:\n got\n%s\nwant\n%s", kind, aggregation, got, want[kind])
			}
		}
	}
}

// storeTenants writes a history in the order in which it was recorded.
func (b bench) storeTenants(t *testing.T, tenant string, h []tenantEvent) {
	t.Helper()
	type step struct {
		recorded int64
		do       func() error
	}
	var steps []step
	for i := range h {
		e := &h[i]
		steps = append(steps, step{e.recorded, func() error { return b.Add(tenant, e.recorded, e.doc()) }})
		if e.voided != 0 {
			steps = append(steps, step{e.voided, func() error { return b.Void(tenant, e.voided, "gen", e.id) }})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.recorded - b.recorded) })
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}
