package report

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Columns of tenant-usage.
const (
	measureUsersEntitled   = "Users Entitled"
	measureUsersUsed       = "Users Used"
	measureUsersLeft       = "Users Remaining"
	measureCreditsEntitled = "SMS/Voice Credits Entitled"  //nolint:gosec // no credentials
	measureCreditsUsed     = "SMS/Voice Credits Used"      //nolint:gosec // no credentials
	measureCreditsLeft     = "SMS/Voice Credits Remaining" //nolint:gosec // no credentials
)

// explainedEntitlementsMax bounds what was said of one account's entitlements.
const explainedEntitlementsMax = 10_000

// entitlementsSet are an account's entitlements as they were set before an instant, in the order in which they hold.
const entitlementsSet = `
SELECT CAST(source, 'String') AS source_, id, CAST(type, 'String'), CAST(account, 'String'), toUnixTimestamp64Milli(at) AS happened, toUnixTimestamp64Milli(recorded_at), data,
    shard, seq, idx
FROM {{db}}.directory_events
WHERE tenant = {tenant:String} AND account = {account:String} AND type = 'entitlement.set' AND sign = 1
    AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ` + inCut + `
    AND (source, id) NOT IN (SELECT source, id FROM {{db}}.directory_events WHERE tenant = {tenant:String} AND type = 'entitlement.set' AND sign = -1 AND ` + inCut + `)
ORDER BY at, source_, JSONExtractInt(data, 'source_seq'), id
LIMIT {limit:UInt64}`

// entitlementData are the data of an event that count here; ingest has checked them.
type entitlementData struct {
	ID       string          `json:"entitlement_id"`
	Kind     string          `json:"kind"`
	Quantity json.RawMessage `json:"quantity"`
	Credits  json.RawMessage `json:"sms_voice_credits"`
	Start    string          `json:"start"`
	End      string          `json:"end"`
	Status   string          `json:"status"`
}

// entitlementSaid is what an event says of an entitlement.
type entitlementSaid struct {
	Evidence
	users, credits amount
	active         bool
	start, end     int64 // Unix ms, [start, end)
}

func (s *entitlementSaid) read(text string) error {
	var data entitlementData
	if err := json.Unmarshal([]byte(text), &data); err != nil {
		return fmt.Errorf("read entitlement %s of %s: %w", s.ID, s.Source, err)
	}
	s.About, s.active, s.end = data.ID, data.Status == "" || data.Status == "ACTIVE", directory.Latest
	allowed, err := amountSaid(data.Quantity)
	if err != nil {
		return err
	}
	if s.users = new(big.Int); data.Kind == "USERS" {
		s.users = allowed
	}
	if s.credits, err = amountSaid(data.Credits); err != nil {
		return err
	}
	start, err := usage.ParseInstant(data.Start)
	if s.start = start.Millis(); err != nil || data.End == "" {
		return err
	}
	end, err := usage.ParseInstant(data.End)
	s.end = end.Millis()
	return err
}

// amountSaid is a decimal of an event, 0 where there is none.
func amountSaid(raw json.RawMessage) (amount, error) {
	text, err := decimalSaid(raw)
	if err != nil || text == "" {
		return new(big.Int), err
	}
	return parseAmount(text)
}

// entitled is what a tenant may use at the end of a row's period, gone through event by event.
type entitled struct {
	account        string
	from, until    int64
	users, credits amount
	since          int64 // credits are used up since then
	said           []*entitlementSaid
	counting       map[*entitlementSaid]bool // in force at the end
}

func (e *explanation) entitledAt(ctx context.Context, rows *fitting) (*entitled, error) {
	from, until, err := e.livedDays(rows)
	if err != nil {
		return nil, err
	}
	t := &entitled{
		account: rows.cell("Tenant ID"), from: from, until: until, users: new(big.Int), credits: new(big.Int), since: directory.Latest, counting: map[*entitlementSaid]bool{},
	}
	params := e.cut.params(map[string]any{"tenant": e.q.Tenant, "account": t.account, "to": until, "limit": uint64(explainedEntitlementsMax + 1)})
	last := map[string]*entitlementSaid{}
	err = e.query(ctx, "list the entitlements", entitlementsSet, params, func(row warehouse.Rows) error {
		s := &entitlementSaid{Evidence: Evidence{Sign: 1, Status: Stored, Counts: "0"}}
		var data string
		err := row.Scan(&s.Source, &s.ID, &s.Type, &s.Account, (*int64)(&s.At), (*int64)(&s.RecordedAt), &data, &s.Shard, &s.Seq, &s.Idx)
		if err == nil {
			err = s.read(data)
		}
		last[s.About] = s
		t.said = append(t.said, s)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case len(t.said) > explainedEntitlementsMax:
		return nil, wrong("tenant", "too much was said of its entitlements to go through it")
	}
	for _, s := range last {
		if t.counting[s] = s.active && s.start < until && until <= s.end; !t.counting[s] {
			continue
		}
		t.users.Add(t.users, s.users)
		t.credits.Add(t.credits, s.credits)
		if s.credits.Sign() > 0 {
			t.since = min(t.since, s.start)
		}
	}
	if t.since == directory.Latest {
		t.since = from
	}
	return t, nil
}

// livedDays is the period of a row of tenant-usage, which ends with the tenant.
func (e *explanation) livedDays(rows *fitting) (from, until int64, err error) {
	if from, until, err = daysOf(rows); err != nil {
		return 0, 0, err
	}
	if a, ok := e.state.Account(rows.cell("Tenant ID"), until-1); ok && a.Deleted {
		until = a.DeletedAt
	}
	return from, until, nil
}

// evidence are the events, each with what it counts.
func (t *entitled) evidence(of func(*entitlementSaid) amount) []Evidence {
	all := []Evidence{}
	for _, s := range t.said {
		v := s.Evidence
		if v.Quantity = formatAmount(of(s)); t.counting[s] {
			v.Counts = v.Quantity
		}
		all = append(all, v)
	}
	return all
}

const howEntitled = "the sum of the entitlements in force at the period's end, each as it was set last: of one that was set anew or is not in force the event counts 0"

func usersSaid(s *entitlementSaid) amount   { return s.users }
func creditsSaid(s *entitlementSaid) amount { return s.credits }

// wholeUsers are entitled users: there is no part of one.
func (t *entitled) wholeUsers() amount { return new(big.Int).Quo(t.users, unit()) }

// ofUsersEntitled lists the entitlements behind the users of a row of tenant-usage.
func (e *explanation) ofUsersEntitled(ctx context.Context, rows *fitting) error {
	t, err := e.entitledAt(ctx, rows)
	if err != nil {
		return err
	}
	e.out.How = howEntitled
	e.list(t.evidence(usersSaid))
	e.out.Evidence = t.wholeUsers().String()
	return nil
}

// ofCreditsEntitled lists the entitlements behind the credits of a row of tenant-usage.
func (e *explanation) ofCreditsEntitled(ctx context.Context, rows *fitting) error {
	t, err := e.entitledAt(ctx, rows)
	if err != nil {
		return err
	}
	e.out.How = howEntitled
	e.list(t.evidence(creditsSaid))
	e.out.Evidence = formatAmount(t.credits)
	return nil
}

// ofUsersLeft lists the entitlements, and the users who use them up.
func (e *explanation) ofUsersLeft(ctx context.Context, rows *fitting) error {
	t, err := e.entitledAt(ctx, rows)
	if err != nil {
		return err
	}
	return e.lessUsed(t.evidence(usersSaid), new(big.Int).Mul(t.wholeUsers(), unit()), "active users at the period's end, each with its registration", func() error {
		return e.listActive(ctx, t.account, t.until)
	})
}

// ofCreditsLeft lists the entitlements, and the messages since they began.
func (e *explanation) ofCreditsLeft(ctx context.Context, rows *fitting) error {
	t, err := e.entitledAt(ctx, rows)
	if err != nil {
		return err
	}
	used := "credits charged less returned since " + Instant(t.since).String() + ", when the first of the entitlements that grant any began"
	if t.credits.Sign() == 0 {
		used = "credits charged less returned in the period, because no entitlement grants any"
	}
	return e.lessUsed(t.evidence(creditsSaid), t.credits, used, func() error {
		return e.listMessages(ctx, t.account, t.since, t.until, creditNames(), []string{usage.TypeCharged, usage.TypeCreditReturned}, nil)
	})
}

// lessUsed is what is entitled less what is used: the entitlements are listed first, then what list finds.
func (e *explanation) lessUsed(granted []Evidence, allowed amount, used string, list func() error) error {
	asked := e.q
	e.q.Skip, e.q.Limit = max(0, asked.Skip-len(granted)), e.limit()
	shown := granted[min(asked.Skip, len(granted)):]
	shown = shown[:min(len(shown), e.limit())]
	err := list()
	e.q = asked
	if err != nil {
		return err
	}
	spent, err := parseAmount(e.out.Evidence)
	if err != nil {
		return err
	}
	for i := range e.out.Events {
		if e.out.Events[i].Counts, err = minus("0", e.out.Events[i].Counts); err != nil {
			return err
		}
	}
	all := slices.Concat(shown, e.out.Events)
	e.out.Events, e.out.Total = all[:min(len(all), e.limit())], e.out.Total+int64(len(granted))
	e.out.Evidence = formatAmount(new(big.Int).Sub(allowed, spent))
	e.out.How = howEntitled + "; less " + used
	return nil
}

// tenantMeasures are the columns of tenant-usage that are explained.
func tenantMeasures() map[string]behind {
	return map[string]behind{
		measureUsersEntitled: (*explanation).ofUsersEntitled, measureUsersUsed: (*explanation).ofActiveUsers, measureUsersLeft: (*explanation).ofUsersLeft,
		measureCreditsEntitled: (*explanation).ofCreditsEntitled, measureCreditsUsed: (*explanation).ofCredits, measureCreditsLeft: (*explanation).ofCreditsLeft,
	}
}
